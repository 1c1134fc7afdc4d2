//! The table of packages in an SQLite file, read row by row, and nothing else of SQLite.
//!
//! The file is never opened for writing, no lock is taken and no index is looked at: the pages of one b-tree
//! are walked from its root, with what a write-ahead log beside the file has newer than it. Every number is
//! checked; a file that lies ends with an error and not with an endless walk.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::{super::found::DatabaseError, LARGEST_HEADER, log::Log};

/// Deepest tree: four would hold more packages than there are.
const DEEPEST: usize = 16;

const INNER: u8 = 5;
const LEAF: u8 = 13;

/// The rows of the table `Packages`.
#[derive(Debug)]
pub(super) struct Sqlite {
    rows: Rows,
}

/// The pages, and the log that may have newer ones.
#[derive(Debug)]
struct Pages {
    file: File,
    log: Option<Log>,
    size: usize,
    usable: usize,
    /// How many there are at most: a table has each of them once.
    count: u64,
}

/// A walk over the rows of one table.
#[derive(Debug)]
struct Rows {
    pages: Pages,
    stack: Vec<Page>,
    seen: u64,
}

/// A page of the tree and the next cell of it.
#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    header: usize,
    cells: usize,
    next: usize,
}

impl Sqlite {
    /// Opens the database and finds its table.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let mut schema = Rows { pages: Pages::open(path)?, stack: Vec::new(), seen: 0 };
        schema.enter(1)?;
        while let Some(row) = schema.next()? {
            let Some(columns) = row.as_deref().and_then(columns) else { continue };
            let [kind, name, _, root, ..] = columns[..] else { continue };
            if kind == b"table" && name == b"Packages" {
                let root = root.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
                let mut rows = Rows { pages: schema.pages, stack: Vec::new(), seen: 0 };
                rows.enter(root)?;
                return Ok(Self { rows });
            }
        }
        Err(DatabaseError::Damaged("it has no table of packages"))
    }

    /// The next header; `Some(None)` is one that is too large, `None` the end.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn next(&mut self) -> Result<Option<Option<Vec<u8>>>, DatabaseError> {
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let blob = row.as_deref().and_then(columns).and_then(|columns| columns.get(1).copied());
        Ok(Some(blob.map(<[u8]>::to_vec)))
    }
}

impl Pages {
    fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(path)?;
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0)?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err(DatabaseError::Damaged("it is no SQLite file"));
        }
        let size = match usize::from(u16::from_be_bytes([header[16], header[17]])) {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => size,
            _ => return Err(DatabaseError::Damaged("its pages have no size")),
        };
        let usable = size.saturating_sub(usize::from(header[20]));
        if usable < 480 {
            return Err(DatabaseError::Damaged("its pages have no room"));
        }
        let log = Log::beside(path, size)?;
        let in_log = log.as_ref().map_or(0, Log::pages) as u64;
        let count = file.metadata()?.len() / size as u64 + in_log;
        Ok(Self { file, log, size, usable, count })
    }

    fn read(&self, number: u32) -> Result<Vec<u8>, DatabaseError> {
        let mut bytes = vec![0; self.size];
        let is_read = match &self.log {
            Some(log) => log.read(number, &mut bytes)?,
            None => false,
        };
        if !is_read {
            let before =
                number.checked_sub(1).ok_or(DatabaseError::Damaged("it has a page zero"))?;
            self.file.read_exact_at(&mut bytes, u64::from(before) * self.size as u64)?;
        }
        Ok(bytes)
    }
}

impl Rows {
    fn enter(&mut self, number: u32) -> Result<(), DatabaseError> {
        self.seen += 1;
        if self.stack.len() >= DEEPEST || self.seen > self.pages.count {
            return Err(DatabaseError::Damaged("its table goes round in circles"));
        }
        let page = Page::new(self.pages.read(number)?, number)?;
        self.stack.push(page);
        Ok(())
    }

    /// The next row's record; `Some(None)` is one that is too large, `None` the end.
    fn next(&mut self) -> Result<Option<Option<Vec<u8>>>, DatabaseError> {
        loop {
            let Some(page) = self.stack.last_mut() else { return Ok(None) };
            if page.is_leaf() {
                let Some(cell) = page.next_cell() else {
                    self.stack.pop();
                    continue;
                };
                let cell =
                    cell.ok_or(DatabaseError::Damaged("a row is outside its page"))?.to_vec();
                return Ok(Some(self.record(&cell)?));
            }
            match page.next_child() {
                Some(child) => {
                    let child = child.ok_or(DatabaseError::Damaged("a page has a wrong child"))?;
                    self.enter(child)?;
                }
                None => {
                    self.stack.pop();
                }
            }
        }
    }

    fn record(&self, cell: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        const WRONG: DatabaseError = DatabaseError::Damaged("a row is cut off");
        let (length, rest) = varint(cell).ok_or(WRONG)?;
        let (_, rest) = varint(rest).ok_or(WRONG)?;
        let length = usize::try_from(length).map_err(|_| WRONG)?;
        if length > LARGEST_HEADER {
            return Ok(None);
        }
        let here = local(length, self.pages.usable);
        let mut record = rest.get(..here).ok_or(WRONG)?.to_vec();
        let mut next = number(rest, here).unwrap_or(0);
        record.reserve_exact(length - here);
        while record.len() < length {
            let page = self.pages.read(next)?;
            next = number(&page, 0).ok_or(WRONG)?;
            let part = page.get(4..self.pages.usable).ok_or(WRONG)?;
            record.extend_from_slice(&part[..part.len().min(length - record.len())]);
        }
        Ok(Some(record))
    }
}

impl Page {
    fn new(bytes: Vec<u8>, number: u32) -> Result<Self, DatabaseError> {
        // The first page begins with the header of the file.
        let header = if number == 1 { 100 } else { 0 };
        let cells = usize::from(u16::from_be_bytes([bytes[header + 3], bytes[header + 4]]));
        if ![INNER, LEAF].contains(&bytes[header]) {
            return Err(DatabaseError::Damaged("a page of its table is of another kind"));
        }
        Ok(Self { bytes, header, cells, next: 0 })
    }

    fn is_leaf(&self) -> bool {
        self.bytes[self.header] == LEAF
    }

    fn cell(&self, index: usize) -> Option<&[u8]> {
        let pointers = self.header + if self.is_leaf() { 8 } else { 12 };
        let at = self.bytes.get(pointers + 2 * index..)?.first_chunk()?;
        self.bytes.get(usize::from(u16::from_be_bytes(*at))..)
    }

    /// The next cell; `Some(None)` if it is outside the page.
    fn next_cell(&mut self) -> Option<Option<&[u8]>> {
        let index = self.next;
        self.next += 1;
        (index < self.cells).then(|| self.cell(index))
    }

    /// The next child, the right-most last; `Some(None)` if it is outside the page.
    fn next_child(&mut self) -> Option<Option<u32>> {
        let index = self.next;
        self.next += 1;
        match index.cmp(&self.cells) {
            std::cmp::Ordering::Less => Some(self.cell(index).and_then(|cell| number(cell, 0))),
            std::cmp::Ordering::Equal => Some(number(&self.bytes, self.header + 8)),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// How much of a record of that length stands in its cell.
fn local(length: usize, usable: usize) -> usize {
    let most = usable - 35;
    if length <= most {
        return length;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let wanted = least + (length - least) % (usable - 4);
    if wanted <= most { wanted } else { least }
}

/// The columns of a record.
fn columns(record: &[u8]) -> Option<Vec<&[u8]>> {
    let (size, _) = varint(record)?;
    let size = usize::try_from(size).ok()?;
    let (_, mut kinds) = varint(record.get(..size)?)?;
    let mut body = record.get(size..)?;
    let mut columns = Vec::new();
    while !kinds.is_empty() {
        let (kind, rest) = varint(kinds)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let (column, after) = body.split_at_checked(usize::try_from(length).ok()?)?;
        columns.push(column);
        (kinds, body) = (rest, after);
    }
    Some(columns)
}

/// A number of one to nine bytes, and what stands behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        if index == 8 {
            return Some((value << 8 | u64::from(*byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
