//! The write-ahead log beside an SQLite file: which pages are newer in it.
//!
//! A frame counts if its sum checks and a commit follows it, as SQLite itself has it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{super::found::DatabaseError, sqlite::number};

/// Largest log taken in: rpm folds it into the file long before.
const LARGEST_LOG: u64 = 64 << 20;

/// The log beside a database.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Where in it the newest committed state of each page stands.
    newer: BTreeMap<u32, u64>,
}

impl Log {
    /// Opens the log of the database at `path`, whose pages have so many bytes; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Changed`] while a transaction is under way that would have to be undone.
    pub(super) fn beside(path: &Path, size: usize) -> Result<Option<Self>, DatabaseError> {
        let file_with = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        if file_with("-journal").metadata().is_ok_and(|journal| journal.len() > 0) {
            return Err(DatabaseError::Changed);
        }
        let file = match File::open(file_with("-wal")) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause.into()),
        };
        let length = file.metadata()?.len();
        if length > LARGEST_LOG {
            return Err(DatabaseError::Damaged("its write-ahead log is larger than 64 MiB"));
        }
        let newer = frames(&file, length, size)?;
        Ok(Some(Self { file, newer }))
    }

    /// How many pages are newer here.
    pub(super) fn pages(&self) -> usize {
        self.newer.len()
    }

    /// Reads a page if it is newer here; whether it is.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(super) fn read(&self, page: u32, bytes: &mut [u8]) -> Result<bool, DatabaseError> {
        let Some(at) = self.newer.get(&page) else { return Ok(false) };
        self.file.read_exact_at(bytes, *at)?;
        Ok(true)
    }
}

/// Walks the frames as far as they check; what no commit follows is not taken.
fn frames(log: &File, length: u64, size: usize) -> Result<BTreeMap<u32, u64>, DatabaseError> {
    let (mut committed, mut pending) = (BTreeMap::new(), BTreeMap::new());
    let mut header = [0; 32];
    if length < 32 {
        return Ok(committed);
    }
    log.read_exact_at(&mut header, 0)?;
    let is_log = number(&header, 0).is_some_and(|magic| magic & !1 == 0x377f_0682);
    if !is_log || number(&header, 8).map(|size| size as usize) != Some(size) {
        return Ok(committed);
    }
    let big_endian = header[3] & 1 == 1;
    let mut sum = checksum([0, 0], &header[..24], big_endian);
    let mut frame = vec![0; 24 + size];
    let mut at = 32;
    while at + frame.len() as u64 <= length {
        log.read_exact_at(&mut frame, at)?;
        sum = checksum(checksum(sum, &frame[..8], big_endian), &frame[24..], big_endian);
        let is_ours = frame[8..16] == header[16..24];
        let checks = number(&frame, 16) == Some(sum[0]) && number(&frame, 20) == Some(sum[1]);
        if !is_ours || !checks {
            break;
        }
        pending.extend(number(&frame, 0).map(|page| (page, at + 24)));
        if number(&frame, 4).is_some_and(|pages| pages != 0) {
            committed.append(&mut pending);
        }
        at += frame.len() as u64;
    }
    Ok(committed)
}

fn checksum(sum: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    let [mut first, mut second] = sum;
    let read = |bytes: [u8; 4]| {
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        let [a, b, c, d, e, f, g, h] = *pair else { break };
        first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
    }
    [first, second]
}
