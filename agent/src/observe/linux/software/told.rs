//! What one reading of a file tells: digests, and where the guest allows it the content.

use std::{
    fs::File,
    io::{self, Read as _},
};

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::{files::Wanted, found::Digest};

/// Most of a file whose content is told.
const LARGEST_CONTENT: u64 = 64 << 10;
/// How much is read at once.
const PART: usize = 16 << 10;

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How much was read.
    pub(super) bytes: u64,
    /// SHA-256.
    pub(super) hash: Option<[u8; 32]>,
    /// Whether it is as its package brought it.
    pub(super) unchanged: Option<bool>,
    /// What is in it, if that may be told and is text.
    pub(super) content: Option<String>,
}

impl Told {
    /// Reads a file as far as it is allowed. One that grew beyond that meanwhile has no hash.
    pub(super) fn read(file: File, size: u64, wanted: &Wanted, largest: u64) -> Self {
        if size > largest {
            return Self::default();
        }
        let (mut sha, mut md5) = (Sha256::new(), Md5::new());
        let wants_md5 = matches!(wanted.digest, Some(Digest::Md5(_)));
        let wants_content = wanted.content && size <= LARGEST_CONTENT;
        let (mut text, mut bytes) = (Vec::new(), 0_u64);
        let done = in_parts(file.take(largest + 1), |part| {
            bytes += part.len() as u64;
            sha.update(part);
            if wants_md5 {
                md5.update(part);
            }
            if wants_content && bytes <= LARGEST_CONTENT {
                text.extend_from_slice(part);
            }
        });
        if done.is_err() || bytes > largest {
            return Self { bytes, ..Self::default() };
        }
        let hash: [u8; 32] = sha.finalize().into();
        let unchanged = wanted.digest.map(|digest| match digest {
            Digest::Sha256(digest) => digest == hash,
            Digest::Md5(digest) => md5.finalize().as_slice() == digest,
        });
        let is_whole = wants_content && text.len() as u64 == bytes;
        let content = if is_whole { String::from_utf8(text).ok() } else { None };
        Self { bytes, hash: Some(hash), unchanged, content }
    }
}

fn in_parts(mut file: impl io::Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&part[..length]),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}
