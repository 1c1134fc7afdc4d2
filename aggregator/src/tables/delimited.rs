//! Tables as CSV: one record a line, after a line of names.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::clock::Timestamp;
use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::{
    BadLine, Table, TableError,
    cell::{BadCell, Cell, Column, Kind, Row, is_real},
    reader::{Fault, Numbered},
    to_rows,
};
use crate::join::Joined;

/// Bytes of one line at most: the records of the busiest edge are far fewer.
const LINE_AT_MOST: u64 = 8 << 20;

/// The first line of a table: the names of its columns.
#[must_use]
pub fn header(table: Table) -> String {
    let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
    names.join(",") + "\n"
}

/// The lines of a window in one table.
#[must_use]
pub fn lines(table: Table, joined: &Joined) -> String {
    to_rows::rows(table, joined).iter().fold(String::new(), |text, row| text + &line(row))
}

/// A row as a line.
pub(super) fn line(row: &Row) -> String {
    let cells: Vec<String> = row.0.iter().map(written).collect();
    cells.join(",") + "\n"
}

fn written(cell: &Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => quoted(text),
        Cell::Count(count) => count.to_string(),
        Cell::Real(real) => real.to_string(),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Time(at) => time(*at),
    }
}

/// Backslashes keep one record on one line; quotes keep commas within a cell.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    if escaped.contains([',', '"']) || escaped.trim() != escaped {
        format!("\"{}\"", escaped.replace('"', "\"\""))
    } else {
        escaped
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut all = text.chars();
    while let Some(letter) = all.next() {
        plain.push(match letter {
            '\\' => match all.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(plain)
}

/// A time no calendar has is written as its milliseconds.
fn time(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_millis()).ok();
    let moment = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| at.as_millis().to_string(), |moment| format!("{moment:.3}"))
}

fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(ms) = text.parse() {
        return Some(Timestamp::from_millis(ms));
    }
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// A CSV file that is read.
#[derive(Debug)]
pub(super) struct Delimited {
    file: PathBuf,
    reader: csv::Reader<Measured>,
    columns: &'static [Column],
    /// Where each column stands in a line; `None` for an optional one that is not there.
    places: Vec<Option<usize>>,
    left: Arc<AtomicU64>,
    record: StringRecord,
}

impl Delimited {
    pub(super) fn open(file: PathBuf, table: Table) -> Result<Self, TableError> {
        let opened = File::open(&file).map_err(|cause| io_error("open", &file, cause))?;
        let left = Arc::new(AtomicU64::new(LINE_AT_MOST));
        let measured = Measured { file: opened, left: Arc::clone(&left) };
        let mut reader = ReaderBuilder::new().has_headers(true).from_reader(measured);
        let names = reader.headers().map_err(|cause| match cause.into_kind() {
            ErrorKind::Io(cause) => io_error("read", &file, cause),
            _ => columns_error(&file, "its first line is no line of names in UTF-8".to_owned()),
        })?;
        let places = places(&file, names, table.columns())?;
        Ok(Self {
            file,
            reader,
            columns: table.columns(),
            places,
            left,
            record: StringRecord::new(),
        })
    }

    pub(super) fn next_row(&mut self) -> Option<Result<Numbered, Fault>> {
        self.left.store(LINE_AT_MOST, Ordering::Relaxed);
        match self.reader.read_record(&mut self.record) {
            Ok(true) => Some(self.cells()),
            Ok(false) => None,
            Err(cause) => Some(Err(self.fault(cause))),
        }
    }

    fn cells(&self) -> Result<Numbered, Fault> {
        let line = self.record.position().map_or(0, csv::Position::line);
        let first = self.record.get(0).unwrap_or_default().to_owned();
        let mut cells = Vec::with_capacity(self.columns.len());
        for (column, place) in self.columns.iter().zip(&self.places) {
            let text = place.and_then(|place| self.record.get(place)).unwrap_or_default();
            match read(column, text) {
                Ok(cell) => cells.push(cell),
                Err(cause) => return Err(self.bad(line, cause.to_string(), first)),
            }
        }
        Ok(Numbered { line, cells })
    }

    fn fault(&self, cause: csv::Error) -> Fault {
        let line = cause.position().map_or(0, csv::Position::line);
        let what = match cause.into_kind() {
            ErrorKind::Io(cause) => return Fault::Fatal(io_error("read", &self.file, cause)),
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("it has {len} fields; write {expected_len}, as the first line has")
            }
            ErrorKind::Utf8 { .. } => "it is not UTF-8; write it in UTF-8".to_owned(),
            other => format!("it does not read: {other:?}; write one record per line"),
        };
        self.bad(line, what, String::new())
    }

    fn bad(&self, line: u64, what: String, window: String) -> Fault {
        Fault::Line { bad: BadLine { file: self.file.clone(), line, what }, window }
    }
}

fn places(
    file: &Path,
    names: &StringRecord,
    columns: &'static [Column],
) -> Result<Vec<Option<usize>>, TableError> {
    for (number, name) in names.iter().enumerate() {
        if !columns.iter().any(|column| column.name == name) {
            return Err(columns_error(file, format!("there is no column {name:?}; leave it out")));
        }
        if names.iter().skip(number + 1).any(|other| other == name) {
            return Err(columns_error(file, format!("it has {name} twice; leave one of them out")));
        }
    }
    let place = |column: &Column| {
        let place = names.iter().position(|name| name == column.name);
        let missing = || columns_error(file, format!("it has no column {}; add it", column.name));
        if place.is_none() && !column.optional { Err(missing()) } else { Ok(place) }
    };
    columns.iter().map(place).collect()
}

fn read(column: &Column, text: &str) -> Result<Cell, BadCell> {
    if text.is_empty() && (column.optional || column.kind != Kind::Text) {
        let bad = || BadCell::new(column.name, text, column.kind.remedy());
        return if column.optional { Ok(Cell::Empty) } else { Err(bad()) };
    }
    let cell = match column.kind {
        Kind::Text | Kind::Json => unescaped(text).map(Cell::Text),
        Kind::Count => text.parse().ok().map(Cell::Count),
        Kind::Real => text.parse().ok().filter(is_real).map(Cell::Real),
        Kind::Flag => text.parse().ok().map(Cell::Flag),
        Kind::Time => moment(text).map(Cell::Time),
    };
    let remedy = match column.kind {
        Kind::Text | Kind::Json => "write a backslash as two, or \\n or \\r",
        other => other.remedy(),
    };
    cell.ok_or_else(|| BadCell::new(column.name, text, remedy))
}

/// A file of which no line may be longer than what is left.
#[derive(Debug)]
struct Measured {
    file: File,
    left: Arc<AtomicU64>,
}

impl Read for Measured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            let what = format!("a line has more than {LINE_AT_MOST} bytes; is a quote not closed?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        self.left.store(left.saturating_sub(count as u64), Ordering::Relaxed);
        Ok(count)
    }
}

pub(super) fn io_error(action: &'static str, path: &Path, cause: io::Error) -> TableError {
    TableError::Io { action, path: path.to_owned(), cause: Arc::new(cause) }
}

pub(super) fn columns_error(file: &Path, what: String) -> TableError {
    TableError::Columns { file: file.to_owned(), what }
}
