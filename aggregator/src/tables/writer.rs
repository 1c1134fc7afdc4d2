//! Writes windows to the files of a folder, one after the other.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Format, Table, TableError,
    delimited::{self, io_error},
    parquet::ColumnarWriter,
    to_rows,
};
use crate::join::Joined;

/// Rows by table.
pub type Counts = BTreeMap<Table, u64>;

/// The files of a folder while they are written.
#[derive(Debug)]
pub struct Writer {
    files: BTreeMap<Table, Output>,
    counts: Counts,
}

#[derive(Debug)]
enum Output {
    Csv(PathBuf, BufWriter<File>),
    Parquet(ColumnarWriter),
}

impl Writer {
    /// Makes the files in `folder`, and the folder if it is not there.
    ///
    /// # Errors
    ///
    /// If one is there already, or cannot be made.
    pub fn create(folder: &Path, format: Format) -> Result<Self, TableError> {
        fs::create_dir_all(folder).map_err(|cause| io_error("make", folder, cause))?;
        let mut files = BTreeMap::new();
        for table in Table::ALL {
            let path = folder.join(format!("{table}.{}", format.extension()));
            let file = File::create_new(&path).map_err(|cause| io_error("make", &path, cause))?;
            let output = match format {
                Format::Csv => {
                    let mut file = BufWriter::new(file);
                    let written = file.write_all(delimited::header(table).as_bytes());
                    written.map_err(|cause| io_error("write", &path, cause))?;
                    Output::Csv(path, file)
                }
                Format::Parquet => Output::Parquet(ColumnarWriter::create(path, file, table)?),
            };
            files.insert(table, output);
        }
        Ok(Self { files, counts: Table::ALL.map(|table| (table, 0)).into() })
    }

    /// Writes a window.
    ///
    /// # Errors
    ///
    /// If the disk does not take it.
    pub fn take(&mut self, joined: &Joined) -> Result<(), TableError> {
        for (table, output) in &mut self.files {
            let rows = to_rows::rows(*table, joined);
            *self.counts.entry(*table).or_default() += rows.len() as u64;
            for row in rows {
                match output {
                    Output::Csv(path, file) => file
                        .write_all(delimited::line(&row).as_bytes())
                        .map_err(|cause| io_error("write", path, cause))?,
                    Output::Parquet(writer) => writer.take(row)?,
                }
            }
        }
        Ok(())
    }

    /// Ends the files; says how many rows were written.
    ///
    /// # Errors
    ///
    /// If the disk does not take it.
    pub fn close(self) -> Result<Counts, TableError> {
        for output in self.files.into_values() {
            match output {
                Output::Csv(path, mut file) => {
                    file.flush().map_err(|cause| io_error("write", &path, cause))?;
                }
                Output::Parquet(writer) => writer.close()?,
            }
        }
        Ok(self.counts)
    }
}
