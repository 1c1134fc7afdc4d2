//! The headers of rpm's own form of database, as SUSE has it.
//!
//! ```text
//!  pages of slots: │ "RpmP" … │ "Slot", number, block, blocks │ …     a header each:  "BlbS", number, generation,
//!                                                                      length, bytes …      little endian
//! ```

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::{super::found::DatabaseError, LARGEST_HEADER};

const SLOT: usize = 16;
const BLOCK: u64 = 16;
const PAGE: u32 = 4096;
/// Most pages of slots: half a million packages.
const MOST_PAGES: u32 = 2048;

/// The headers of the file.
#[derive(Debug)]
pub(super) struct Ndb {
    file: File,
    pages: u32,
    at: u32,
    slots: Vec<u8>,
    next: usize,
}

impl Ndb {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(path)?;
        let mut header = [0; 2 * SLOT];
        file.read_exact_at(&mut header, 0)?;
        if !header.starts_with(b"RpmP\0\0\0\0") {
            return Err(DatabaseError::Damaged("it is no ndb file of version 0"));
        }
        let pages = number(&header, 12).unwrap_or(0);
        if pages > MOST_PAGES {
            return Err(DatabaseError::Damaged("it has too many pages of slots"));
        }
        Ok(Self { file, pages, at: 0, slots: Vec::new(), next: 0 })
    }

    /// The next header; `Some(None)` is one that is too large, `None` the end.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn next(&mut self) -> Result<Option<Option<Vec<u8>>>, DatabaseError> {
        loop {
            let Some(slot) = self.slots.get(self.next..self.next + SLOT) else {
                if self.at >= self.pages {
                    return Ok(None);
                }
                self.slots.resize(PAGE as usize, 0);
                self.file.read_exact_at(&mut self.slots, u64::from(self.at) * u64::from(PAGE))?;
                // The header of the file takes the place of the first two slots.
                self.next = if self.at == 0 { 2 * SLOT } else { 0 };
                self.at += 1;
                continue;
            };
            self.next += SLOT;
            let (package, block) = (number(slot, 4).unwrap_or(0), number(slot, 8).unwrap_or(0));
            if !slot.starts_with(b"Slot") {
                return Err(DatabaseError::Damaged("a slot is none"));
            }
            if block != 0 {
                return Ok(Some(self.blob(package, u64::from(block) * BLOCK)?));
            }
        }
    }

    fn blob(&self, package: u32, at: u64) -> Result<Option<Vec<u8>>, DatabaseError> {
        let mut head = [0; 16];
        self.file.read_exact_at(&mut head, at)?;
        if !head.starts_with(b"BlbS") || number(&head, 4) != Some(package) {
            return Err(DatabaseError::Damaged("a slot leads to another package"));
        }
        let length = number(&head, 12).unwrap_or(0) as usize;
        if length > LARGEST_HEADER {
            return Ok(None);
        }
        let mut blob = vec![0; length];
        self.file.read_exact_at(&mut blob, at + 16)?;
        Ok(Some(blob))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
