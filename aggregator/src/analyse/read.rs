//! Which reader a recording needs, and what may be wrong with it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use common::units::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::{Recording, Wanted, bitbrains, computing_hosts, exported, planetlab};
use crate::{join::Joined, tables::TableError};

/// How a recording is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The tables of `sinterctl records export`, in a folder.
    Exported,
    /// A line for each machine: its name, and whole percents of its CPU, one for each five minutes.
    /// A folder of such files is one day after another.
    Planetlab,
    /// Lines of network, client, server, and `PORTpPROTOCOL-PACKETS` with commas; one file for each
    /// hour, in the order of their names.
    ComputingHosts,
    /// A folder of `trace.parquet` and `meta.parquet`, or a text for each machine whose head begins with
    /// `Timestamp [ms];`.
    Bitbrains,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exported => "exported",
            Self::Planetlab => "planetlab",
            Self::ComputingHosts => "computing-hosts",
            Self::Bitbrains => "bitbrains",
        })
    }
}

/// The memory that machines are taken to have where a recording tells none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAssumed {
    /// Given to each.
    pub given: Bytes,
    /// Used by each.
    pub used: Bytes,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it, and what should be there.
    pub why: String,
}

/// Bad lines that are named; the others are counted.
const BAD_LINES_NAMED: usize = 100;
/// Files of one recording.
const MOST_FILES: usize = 100_000;

/// Why a recording cannot be analysed.
#[derive(Debug, Error)]
pub enum AnalyseError {
    /// A file or folder that cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Nothing in it looks like a format that is known.
    #[error("{} looks like no format that is known; name one with --format", path.display())]
    Unknown {
        /// Which.
        path: PathBuf,
    },
    /// Tables that cannot be read.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// It holds no window.
    #[error("{} holds nothing to analyse as {format}{}", path.display(), first(bad))]
    Empty {
        /// Which.
        path: PathBuf,
        /// What it was read as.
        format: Format,
        /// The first lines that could not be read.
        bad: Vec<BadLine>,
    },
    /// More than is taken from one recording.
    #[error("{} has more than {what}; analyse it in parts", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Of what.
        what: &'static str,
    },
}

fn first(bad: &[BadLine]) -> String {
    bad.first()
        .map_or_else(String::new, |bad| format!(": line {} of {} {}", bad.line, bad.file, bad.why))
}

/// Lines that could not be read, the first of them by name.
#[derive(Debug, Default)]
pub(super) struct Bad {
    pub(super) named: Vec<BadLine>,
    pub(super) count: u64,
}

impl Bad {
    pub(super) fn note(&mut self, path: &Path, line: u64, why: impl Into<String>) {
        self.count += 1;
        if self.named.len() < BAD_LINES_NAMED {
            let file = path.display().to_string();
            self.named.push(BadLine { file, line, why: why.into() });
        }
    }
}

/// Reads a recording and gives each of its windows, oldest first.
///
/// # Errors
///
/// See [`AnalyseError`].
pub(super) fn read(
    path: &Path,
    wanted: &Wanted,
    take: &mut dyn FnMut(Joined),
) -> Result<Recording, AnalyseError> {
    let files = files(path)?;
    let format = match wanted.format {
        Some(format) => format,
        None if exported::looks(path) => Format::Exported,
        None if bitbrains::is_folder(path) => Format::Bitbrains,
        None => detected(path, &files)?,
    };
    match format {
        Format::Exported => exported::read(path, take),
        Format::Planetlab => planetlab::read(&files, wanted, take),
        Format::ComputingHosts => computing_hosts::read(&files, take),
        Format::Bitbrains => bitbrains::read(path, &files, wanted, take),
    }
}

/// The file itself, or the files of the folder by name: of a recording that lies beside other things
/// those that are text.
fn files(path: &Path) -> Result<Vec<PathBuf>, AnalyseError> {
    let unread = |cause| AnalyseError::Read { path: path.to_owned(), cause };
    if fs::metadata(path).map_err(unread)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_text = [".csv", ".csv.gz", ".txt.gz"].iter().any(|end| name.ends_with(end));
        if is_text && file.is_file() {
            files.push(file);
        }
        if files.len() > MOST_FILES {
            return Err(AnalyseError::TooLarge { path: path.to_owned(), what: "100,000 files" });
        }
    }
    files.sort();
    Ok(files)
}

/// By the first line of the first file: tabs part the one format, commas the other.
fn detected(path: &Path, files: &[PathBuf]) -> Result<Format, AnalyseError> {
    let unknown = || AnalyseError::Unknown { path: path.to_owned() };
    let first = files.first().ok_or_else(unknown)?;
    let mut found = None;
    super::lines::each(first, &mut |number, line| {
        if number == 1 {
            found = line.ok().and_then(looks);
        }
        Ok(())
    })?;
    found.ok_or_else(unknown)
}

fn looks(line: &str) -> Option<Format> {
    if bitbrains::looks(line) {
        return Some(Format::Bitbrains);
    }
    if computing_hosts::looks(line) {
        return Some(Format::ComputingHosts);
    }
    planetlab::looks(line).then_some(Format::Planetlab)
}

/// The id of the window that opened then.
#[expect(clippy::expect_used, reason = "a letter, a hyphen and digits are an id")]
pub(super) fn window_id(from: common::clock::Timestamp) -> common::id::WindowId {
    format!("w-{}", from.as_millis() / 1000).parse().expect("digits are an id")
}
