//! The relational view: windows as rows in typed tables with keys, to and from a folder of CSV or
//! Parquet files, one record a line, without loss.
//!
//! ```text
//!            ┌─ windows       window
//!            ├─ machines      window, vm
//!  folder ───┼─ applications  window, vm, application
//!            ├─ edges         window, client_vm, client_application, client_address,
//!            │                server_vm, server_application, server_address, port
//!            └─ records       key
//! ```
//!
//! Each table is one file, `edges.csv` or `edges.parquet`; the columns are those of [`Table::columns`],
//! in CSV told by a first line of names. Rows lie in the order of the windows they belong to, so that a
//! folder of any size is read window by window. In CSV what is not known is an empty field, times are
//! RFC 3339 in UTC, and a line break within a text is written `\n`, `\` itself `\\`.
//!
//! What is read is not trusted: a bad line is named with its column and value, and what it takes to
//! mend it; no file makes us panic or fill the memory.

mod cell;
mod delimited;
mod from_rows;
mod parquet;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod to_rows;
mod writer;

use std::{fmt, io, path::PathBuf, sync::Arc};

use thiserror::Error;

pub use self::{
    cell::{BadCell, Column, Kind},
    delimited::{header, lines},
    reader::{Limits, Reader},
    writer::{Counts, Writer},
};
use crate::join::Joined;

/// A table of the relational view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The windows themselves.
    Windows,
    /// The machines of each window.
    Machines,
    /// What each application used.
    Applications,
    /// Who talked to whom.
    Edges,
    /// The records that all figures name.
    Records,
}

impl Table {
    /// Every table, those first that others refer to.
    pub const ALL: [Self; 5] =
        [Self::Windows, Self::Machines, Self::Applications, Self::Edges, Self::Records];

    /// Its name, which is that of its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Windows => "windows",
            Self::Machines => "machines",
            Self::Applications => "applications",
            Self::Edges => "edges",
            Self::Records => "records",
        }
    }

    /// The table of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its columns, in order.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Windows => schema::WINDOWS,
            Self::Machines => schema::MACHINES,
            Self::Applications => schema::APPLICATIONS,
            Self::Edges => schema::EDGES,
            Self::Records => schema::RECORDS,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a table lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Delimited by commas, one record a line.
    Csv,
    /// By columns, compressed.
    Parquet,
}

impl Format {
    /// What names of files end in.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// A line that is none of its table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}, line {line}: {what}", file.display())]
pub struct BadLine {
    /// In which file.
    pub file: PathBuf,
    /// Which line, from 1; in Parquet which row, from 1.
    pub line: u64,
    /// What is wrong with it, and how to mend it.
    pub what: String,
}

/// Why tables were not written or read.
#[derive(Debug, Clone, Error)]
pub enum TableError {
    /// The disk did not take or give it.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// A folder holds no table of that name.
    #[error("{} has no {table}.csv nor {table}.parquet; name a folder of exported tables", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The table.
        table: Table,
    },
    /// A folder holds a table twice.
    #[error("{} has {table}.csv and {table}.parquet; remove one of them", folder.display())]
    Twice {
        /// The folder.
        folder: PathBuf,
        /// The table.
        table: Table,
    },
    /// A file does not hold the columns of its table.
    #[error("{}: {what}", file.display())]
    Columns {
        /// The file.
        file: PathBuf,
        /// What is missing, or too much.
        what: String,
    },
    /// A line is bad.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// A file is no Parquet, or a damaged one.
    #[error("{} cannot be read as Parquet: {what}; export it again", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is more than is read.
    #[error("{}: {what}", file.display())]
    TooMuch {
        /// The file.
        file: PathBuf,
        /// What there is too much of, and how much is read.
        what: String,
    },
}

/// What was read of a folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    /// The windows, in their order.
    pub windows: Vec<Joined>,
    /// Rows read.
    pub counts: Counts,
    /// Lines that were left out, the first ones; empty unless asked to go on after a bad one.
    pub bad: Vec<BadLine>,
    /// How many lines were left out.
    pub bad_lines: u64,
}

/// Writes windows to a folder, which may be there if it holds no tables.
///
/// # Errors
///
/// If a file is there already or cannot be written.
pub fn write<'a>(
    folder: &std::path::Path,
    format: Format,
    windows: impl IntoIterator<Item = &'a Joined>,
) -> Result<Counts, TableError> {
    let mut writer = Writer::create(folder, format)?;
    for joined in windows {
        writer.take(joined)?;
    }
    writer.close()
}

/// Reads all windows of a folder into memory; see [`Reader`] for one after the other.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn read(folder: &std::path::Path, limits: Limits) -> Result<Tables, TableError> {
    let mut reader = Reader::open(folder, limits)?;
    let mut windows = Vec::new();
    while let Some(joined) = reader.next_window()? {
        windows.push(joined);
    }
    let (counts, bad, bad_lines) = reader.close();
    Ok(Tables { windows, counts, bad, bad_lines })
}
