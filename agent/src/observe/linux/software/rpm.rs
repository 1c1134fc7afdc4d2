//! rpm's database, in whichever of its forms it stands.
//!
//! An own reader and not SQLite itself: that would add 2 MiB to the agent, take locks and write a file
//! beside the database; one table is walked here. No form is ever opened for writing.

use std::path::{Path, PathBuf};

use super::found::{DatabaseError, Found};

mod hash;
mod header;
mod log;
mod ndb;
mod sqlite;

use hash::HashFile;
use ndb::Ndb;
use sqlite::Sqlite;

/// Largest header taken: that of a package with fifty thousand files.
const LARGEST_HEADER: usize = 4 << 20;

/// Folders below the root that a database may stand in.
const FOLDERS: [&str; 3] = ["usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"];

/// The forms of a database by its file.
const FORMS: [(&str, Form); 3] =
    [("rpmdb.sqlite", Form::Sqlite), ("Packages.db", Form::Ndb), ("Packages", Form::Hash)];

/// The form of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sqlite,
    Ndb,
    Hash,
}

/// Reads one package after another.
#[derive(Debug)]
pub(super) struct Rpm {
    store: Store,
}

#[derive(Debug)]
enum Store {
    Sqlite(Sqlite),
    Ndb(Ndb),
    Hash(HashFile),
}

/// What one row of the database was.
#[derive(Debug)]
pub(super) enum Row {
    /// A package.
    Package(Found),
    /// A key, or something else that is installed nowhere.
    Other,
    /// A header that is too large or does not check.
    Unreadable,
}

/// The database below `root`, if there is one.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    let files =
        FOLDERS.iter().flat_map(|folder| FORMS.map(|(file, _)| root.join(folder).join(file)));
    files.into_iter().find(|path| path.is_file())
}

impl Rpm {
    /// Opens the database that [`find`] found.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let form = FORMS.iter().find(|(file, _)| path.file_name() == Some(file.as_ref()));
        let store = match form {
            Some((_, Form::Sqlite)) => Store::Sqlite(Sqlite::open(path)?),
            Some((_, Form::Hash)) => Store::Hash(HashFile::open(path)?),
            Some((_, Form::Ndb)) => Store::Ndb(Ndb::open(path)?),
            None => return Err(DatabaseError::Damaged("its form is not known")),
        };
        Ok(Self { store })
    }

    /// The next row and how many bytes it has; `None` at the end.
    ///
    /// # Errors
    ///
    /// See [`DatabaseError`].
    pub(super) fn next(&mut self) -> Result<Option<(Row, usize)>, DatabaseError> {
        let blob = match &mut self.store {
            Store::Sqlite(sqlite) => sqlite.next()?,
            Store::Ndb(ndb) => ndb.next()?,
            Store::Hash(hash) => hash.next()?,
        };
        let Some(blob) = blob else { return Ok(None) };
        let Some(blob) = blob else { return Ok(Some((Row::Unreadable, 0))) };
        Ok(Some((header::row(&blob), blob.len())))
    }
}

#[cfg(test)]
mod tests;
