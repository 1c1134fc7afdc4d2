//! The values of a Berkeley DB hash file, read page by page: rpm's database before SQLite.
//!
//! The pages are read in the order of the file, not of the hash: all values are wanted. A value larger than a
//! page stands on a chain of pages of its own. Every number is checked; a file that lies ends with an error.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::{super::found::DatabaseError, LARGEST_HEADER};

const MAGIC: u32 = 0x0006_1561;
/// Bytes before the items of a page.
const PAGE_HEADER: usize = 26;

/// Types of pages.
const UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const SORTED: u8 = 13;

/// Types of items.
const HERE: u8 = 1;
const ELSEWHERE: u8 = 3;

/// rpm keeps its counter under this key.
const COUNTER: [u8; 4] = [0; 4];

/// The values of the file.
#[derive(Debug)]
pub(super) struct HashFile {
    file: File,
    big_endian: bool,
    size: usize,
    last: u32,
    at: u32,
    page: Vec<u8>,
    item: usize,
}

impl HashFile {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(path)?;
        let mut header = [0; 72];
        file.read_exact_at(&mut header, 0)?;
        let magic: [u8; 4] = [header[12], header[13], header[14], header[15]];
        let big_endian = u32::from_be_bytes(magic) == MAGIC;
        if !big_endian && u32::from_le_bytes(magic) != MAGIC {
            return Err(DatabaseError::Damaged("it is no Berkeley DB hash file"));
        }
        let number = |at| number(&header, at, big_endian).unwrap_or(0);
        let (size, last) = (number(20) as usize, number(32));
        let (cipher, flags) = (header[24], header[26]);
        if !(512..=65_536).contains(&size) || !size.is_power_of_two() {
            return Err(DatabaseError::Damaged("its pages have no size"));
        }
        if cipher != 0 || flags & 1 != 0 {
            return Err(DatabaseError::Damaged("its pages are enciphered or have checksums"));
        }
        Ok(Self { file, big_endian, size, last, at: 0, page: Vec::new(), item: 0 })
    }

    /// The next value; `Some(None)` is one that is too large, `None` the end.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn next(&mut self) -> Result<Option<Option<Vec<u8>>>, DatabaseError> {
        loop {
            let items = self.items();
            if self.item + 1 >= items {
                if self.at >= self.last {
                    return Ok(None);
                }
                self.at += 1;
                self.page = self.read(self.at)?;
                self.item = 0;
                continue;
            }
            let index = self.item;
            // A key and its value follow each other.
            self.item += 2;
            let (Some(key), Some(value)) = (self.item_at(index), self.item_at(index + 1)) else {
                return Err(DatabaseError::Damaged("an item is outside its page"));
            };
            if key.get(1..) == Some(COUNTER.as_slice()) {
                continue;
            }
            return match value.first() {
                Some(&HERE) => Ok(Some(Some(value[1..].to_vec()))),
                Some(&ELSEWHERE) => {
                    let (first, length) = (self.number(value, 4), self.number(value, 8));
                    let (Some(first), Some(length)) = (first, length) else {
                        return Err(DatabaseError::Damaged("a large value says not where it is"));
                    };
                    Ok(Some(self.chain(first, length as usize)?))
                }
                _ => Err(DatabaseError::Damaged("an item is of a kind that rpm does not write")),
            };
        }
    }

    /// How many items the present page has; none if it is a page of another kind.
    fn items(&self) -> usize {
        let is_hash = self.page.get(25).is_some_and(|kind| [UNSORTED, SORTED].contains(kind));
        if is_hash { self.short(20).unwrap_or(0) } else { 0 }
    }

    /// Items stand from the end of the page towards its beginning.
    fn item_at(&self, index: usize) -> Option<&[u8]> {
        let begin = self.short(PAGE_HEADER + 2 * index)?;
        let end = match index.checked_sub(1) {
            Some(before) => self.short(PAGE_HEADER + 2 * before)?,
            None => self.size,
        };
        self.page.get(begin..end)
    }

    fn chain(&self, first: u32, length: usize) -> Result<Option<Vec<u8>>, DatabaseError> {
        if length > LARGEST_HEADER {
            return Ok(None);
        }
        let (mut value, mut next) = (Vec::with_capacity(length), first);
        while value.len() < length {
            let page = self.read(next)?;
            let used = short(&page, 22, self.big_endian).unwrap_or(0);
            let part = page.get(PAGE_HEADER..PAGE_HEADER + used);
            let part = part.filter(|part| page[25] == OVERFLOW && !part.is_empty());
            let part = part.ok_or(DatabaseError::Damaged("a large value is cut off"))?;
            // Only the last page of a chain has room left: a circle of nearly empty ones would hold us up.
            let is_last = value.len() + part.len() >= length;
            if !is_last && part.len() < self.size - PAGE_HEADER {
                return Err(DatabaseError::Damaged("a large value has a hole"));
            }
            value.extend_from_slice(&part[..part.len().min(length - value.len())]);
            next = self.number(&page, 16).unwrap_or(0);
        }
        Ok(Some(value))
    }

    fn read(&self, number: u32) -> Result<Vec<u8>, DatabaseError> {
        let mut page = vec![0; self.size];
        self.file.read_exact_at(&mut page, u64::from(number) * self.size as u64)?;
        Ok(page)
    }

    fn short(&self, at: usize) -> Option<usize> {
        short(&self.page, at, self.big_endian)
    }

    fn number(&self, bytes: &[u8], at: usize) -> Option<u32> {
        number(bytes, at, self.big_endian)
    }
}

fn short(bytes: &[u8], at: usize, big_endian: bool) -> Option<usize> {
    let bytes = *bytes.get(at..)?.first_chunk()?;
    let value = if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    Some(usize::from(value))
}

fn number(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let bytes = *bytes.get(at..)?.first_chunk()?;
    Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}
