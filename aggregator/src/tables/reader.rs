//! Reads the files of a folder window by window, in step with each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    BadLine, Counts, Table, TableError,
    cell::{Cell, Fields},
    delimited::Delimited,
    from_rows::{self, Building},
    parquet::Columnar,
};
use crate::join::Joined;

/// How much is read, and what becomes of bad lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Windows that are read at most.
    pub windows: usize,
    /// Rows that one window may have in one table.
    pub rows_of_window: usize,
    /// Bad lines are left out and told of, instead of ending the reading.
    pub keep_good: bool,
}

impl Default for Limits {
    /// A year of windows of five minutes, each with as many edges as a hundred thousand machines have.
    fn default() -> Self {
        Self { windows: 110_000, rows_of_window: 8_000_000, keep_good: false }
    }
}

/// Bad lines that are told one by one.
const BAD_LINES_TOLD: usize = 100;

/// A row, and where it stood.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) line: u64,
    pub(super) cells: Vec<Cell>,
}

/// Why a row was not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The row is bad, the next one may be good. `window` is what stands first in it.
    Line { bad: BadLine, window: String },
    /// Nothing more can be read.
    Fatal(TableError),
}

#[derive(Debug)]
enum Source {
    Csv(Delimited),
    Parquet(Columnar),
}

/// One file, one row ahead.
#[derive(Debug)]
struct Ahead {
    file: PathBuf,
    source: Source,
    next: Option<Numbered>,
}

/// The tables of a folder while they are read.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    windows: Ahead,
    others: BTreeMap<Table, Ahead>,
    /// Windows read or left out so far: what comes of them later comes too late.
    past: BTreeSet<String>,
    counts: Counts,
    bad: Vec<BadLine>,
    bad_lines: u64,
}

impl Reader {
    /// Opens the tables of a folder.
    ///
    /// # Errors
    ///
    /// If one is missing, there twice, or has not the columns it should have.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, TableError> {
        let mut others = BTreeMap::new();
        for table in Table::ALL {
            others.insert(table, Ahead::open(folder, table)?);
        }
        let missing = || TableError::Missing { folder: folder.to_owned(), table: Table::Windows };
        let windows = others.remove(&Table::Windows).ok_or_else(missing)?;
        let counts = Table::ALL.map(|table| (table, 0)).into();
        let (past, bad) = (BTreeSet::new(), Vec::new());
        Ok(Self { limits, windows, others, past, counts, bad, bad_lines: 0 })
    }

    /// The next window; `None` after the last.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; with [`Limits::keep_good`] only what keeps all else from being
    /// read.
    pub fn next_window(&mut self) -> Result<Option<Joined>, TableError> {
        while let Some(row) = self.advance(Table::Windows)? {
            let file = self.windows.file.clone();
            let window = id_of(&row).to_owned();
            let is_new = !window.is_empty() && self.past.insert(window.clone());
            let mut fields = Fields::new(Table::Windows.columns(), row.cells);
            let building = match from_rows::window(&mut fields) {
                Ok(building) if is_new => building,
                Ok(_) => {
                    let what = format!("window is {window:?}; write each window once");
                    self.leave_out(BadLine { file, line: row.line, what })?;
                    continue;
                }
                Err(cause) => {
                    self.leave_out(BadLine { file, line: row.line, what: cause.to_string() })?;
                    continue;
                }
            };
            if self.past.len() > self.limits.windows {
                let what = format!("it has more than {} windows; split it", self.limits.windows);
                return Err(TableError::TooMuch { file, what });
            }
            *self.counts.entry(Table::Windows).or_default() += 1;
            return self.fill(building).map(Some);
        }
        self.nothing_is_left()?;
        Ok(None)
    }

    /// What was read, and what was left out.
    #[must_use]
    pub fn close(self) -> (Counts, Vec<BadLine>, u64) {
        (self.counts, self.bad, self.bad_lines)
    }

    /// Takes the rows of a window out of all tables.
    fn fill(&mut self, building: Building) -> Result<Joined, TableError> {
        let Building { mut joined, due } = building;
        let window = joined.window.to_string();
        for (table, due) in due {
            let (mut taken, bad_before) = (0, self.bad_lines);
            while let Some(row) = self.of_window(table, &window)? {
                taken += 1;
                let file = self.file(table);
                if taken > self.limits.rows_of_window as u64 {
                    let most = self.limits.rows_of_window;
                    let what = format!("window {window} has more than {most} rows; split it");
                    return Err(TableError::TooMuch { file, what });
                }
                let mut fields = Fields::new(table.columns(), row.cells);
                // Its window is known.
                let read = fields.text();
                match read.and_then(|_| from_rows::take(table, &mut fields, &mut joined)) {
                    Ok(()) => *self.counts.entry(table).or_default() += 1,
                    Err(cause) => {
                        self.leave_out(BadLine { file, line: row.line, what: cause.to_string() })?;
                    }
                }
            }
            if taken != due && self.bad_lines == bad_before {
                let line = self.others.get(&table).and_then(|ahead| ahead.next.as_ref());
                let line = line.map_or(0, |row| row.line);
                let what = format!(
                    "window {window} has {taken} rows here, {due} by the table of windows; export it \
                     again, in the order of its windows"
                );
                self.leave_out(BadLine { file: self.file(table), line, what })?;
            }
        }
        Ok(joined)
    }

    /// The next row of a table if it belongs to that window. Rows of windows that are past are left
    /// out.
    fn of_window(&mut self, table: Table, window: &str) -> Result<Option<Numbered>, TableError> {
        loop {
            let Some(row) = self.advance(table)? else { return Ok(None) };
            let id = id_of(&row);
            if id == window {
                return Ok(Some(row));
            }
            if !self.past.contains(id) {
                if let Some(ahead) = self.others.get_mut(&table) {
                    ahead.next = Some(row);
                }
                return Ok(None);
            }
            let what = format!("window is {id:?}; write rows in the order of the table of windows");
            let bad = BadLine { file: self.file(table), line: row.line, what };
            self.leave_out(bad)?;
        }
    }

    fn nothing_is_left(&mut self) -> Result<(), TableError> {
        for table in Table::ALL {
            while let Some(row) = self.advance(table)? {
                let what =
                    format!("window is {:?}, which windows has not; add it there", id_of(&row));
                self.leave_out(BadLine { file: self.file(table), line: row.line, what })?;
            }
        }
        Ok(())
    }

    /// The next row that reads at all.
    fn advance(&mut self, table: Table) -> Result<Option<Numbered>, TableError> {
        loop {
            let ahead = match self.others.get_mut(&table) {
                Some(ahead) => ahead,
                None => &mut self.windows,
            };
            if let Some(row) = ahead.next.take() {
                return Ok(Some(row));
            }
            match ahead.source.next_row() {
                None => return Ok(None),
                Some(Ok(row)) => return Ok(Some(row)),
                Some(Err(Fault::Fatal(cause))) => return Err(cause),
                Some(Err(Fault::Line { bad, window })) => {
                    self.leave_out(bad)?;
                    if table == Table::Windows {
                        self.past.insert(window);
                    }
                }
            }
        }
    }

    fn leave_out(&mut self, bad: BadLine) -> Result<(), TableError> {
        if !self.limits.keep_good {
            return Err(bad.into());
        }
        self.bad_lines += 1;
        if self.bad.len() < BAD_LINES_TOLD {
            self.bad.push(bad);
        }
        Ok(())
    }

    fn file(&self, table: Table) -> PathBuf {
        self.others.get(&table).unwrap_or(&self.windows).file.clone()
    }
}

impl Ahead {
    fn open(folder: &Path, table: Table) -> Result<Self, TableError> {
        let csv = folder.join(format!("{table}.csv"));
        let parquet = folder.join(format!("{table}.parquet"));
        let (file, source) = match (csv.is_file(), parquet.is_file()) {
            (true, false) => (csv.clone(), Source::Csv(Delimited::open(csv, table)?)),
            (false, true) => (parquet.clone(), Source::Parquet(Columnar::open(parquet, table)?)),
            (true, true) => return Err(TableError::Twice { folder: folder.to_owned(), table }),
            (false, false) => return Err(TableError::Missing { folder: folder.to_owned(), table }),
        };
        Ok(Self { file, source, next: None })
    }
}

impl Source {
    fn next_row(&mut self) -> Option<Result<Numbered, Fault>> {
        match self {
            Self::Csv(source) => source.next_row(),
            Self::Parquet(source) => source.next_row(),
        }
    }
}

/// The window a row belongs to: it stands first in every table.
fn id_of(row: &Numbered) -> &str {
    match row.cells.first() {
        Some(Cell::Text(window)) => window,
        _ => "",
    }
}
