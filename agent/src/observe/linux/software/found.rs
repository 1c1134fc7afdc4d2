//! What a database of packages tells, whichever manager keeps it, and why one is not read.

use std::io;

use common::sample::{Package, PackageKey};
use thiserror::Error;

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Which package.
    pub(super) key: PackageKey,
    /// What is known of it.
    pub(super) package: Package,
    /// Its configuration files, with the digest they came with.
    pub(super) files: Vec<(String, Option<Digest>)>,
}

/// The digest a package keeps of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    /// MD5; broken for keeping secrets, good enough to tell an edited file.
    Md5([u8; 16]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl Digest {
    /// From hexadecimal digits; `None` if they are none.
    pub(super) fn md5(text: &[u8]) -> Option<Self> {
        let mut digest = [0; 16];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self::Md5(digest))
    }

    /// From hexadecimal digits; `None` if they are none.
    pub(super) fn sha256(text: &[u8]) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self::Sha256(digest))
    }
}

/// Why a database of packages was not read.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
    /// The system refused.
    #[error("could not be read")]
    Read(#[from] io::Error),
    /// It is not what its name says, or damaged.
    #[error("{0}")]
    Damaged(&'static str),
    /// It was written to meanwhile.
    #[error("it changed while it was read")]
    Changed,
}
