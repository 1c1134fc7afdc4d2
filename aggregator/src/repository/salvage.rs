//! Copies what is readable of a damaged store into a fresh one.
//!
//! The damaged store is read without sled, which panics on damage or gives an older state of
//! everything; see `log` and `pages`. Nothing is changed in its folder. A value is copied if its
//! checksum, which covers its key, is right. A value that was lost may have been replaced by an
//! older one of the same key: whether a table is as it was written is told by the account.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    Change, EmbeddedStore, StoreError, Table,
    embedded::Folder,
    frame::{Account, Framed, checksum},
};

mod log;
mod pages;

use pages::Values;

/// Key of the account, and first byte of the keys of parts, as the tree has them.
const ACCOUNT: &[u8] = b"\0account";
const PART: u8 = 0xFF;
/// Values written to the fresh store at once.
const AT_ONCE: usize = 512;

/// What was copied of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SalvagedTable {
    /// Values copied.
    pub copied: u64,
    /// Values that are there but are not what was written.
    pub unreadable: u64,
    /// Values that were written, by the account; `None` if that is not readable or old.
    pub written: Option<u64>,
    /// What was copied is all that was written, to the last value.
    pub is_whole: bool,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// By table.
    pub tables: BTreeMap<Table, SalvagedTable>,
}

impl Salvaged {
    /// Nothing was lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tables.values().all(|table| table.is_whole)
    }
}

/// Copies every readable value whose checksum is right from the store in `damaged` to a fresh store
/// in `fresh`. Blocks; not to be called from asynchronous code.
///
/// # Errors
///
/// If `damaged` is in use or is no store, or `fresh` is there already or cannot be written.
pub fn salvage(damaged: &Path, fresh: &Path) -> Result<Salvaged, StoreError> {
    let io = |action, folder: &Path, cause| StoreError::Io {
        action,
        folder: folder.to_owned(),
        cause: Arc::new(cause),
    };
    let data = damaged.join("db");
    let log = fs::metadata(&data).map_err(|cause| io("find", damaged, cause))?;
    if fresh.exists() {
        let cause = io::Error::new(io::ErrorKind::AlreadyExists, "name a folder that is not there");
        return Err(io("make the fresh", fresh, cause));
    }
    let folder = Folder::lock(damaged)?;
    let log = if log.is_file() { fs::read(&data) } else { Err(io::ErrorKind::InvalidInput.into()) };
    let log = log.map_err(|cause| io("read", damaged, cause))?;
    let values = pages::values(&log::messages(&log, &damaged.join("blobs")));
    let (changes, mut salvaged, found) = checked(&values);
    let account = value(&values, ACCOUNT).and_then(|bytes| Account::read(&bytes));
    // An account that knows less than was acknowledged is itself an older one.
    let account = account.filter(|account| folder.claims_at_most(account.commits));
    for (table, told) in &mut salvaged.tables {
        let Some(account) = &account else { continue };
        let of = |account: &Account| account.tables.get(&table.byte()).copied().unwrap_or_default();
        told.written = Some(of(account).count);
        told.is_whole = of(account) == of(&found);
    }
    let store = EmbeddedStore::open(fresh)?;
    let mut changes = changes.into_iter().peekable();
    while changes.peek().is_some() {
        store.commit_blocking(changes.by_ref().take(AT_ONCE).collect())?;
    }
    Ok(salvaged)
}

/// Every value that checks, what is told of the tables, and their account.
fn checked(values: &Values) -> (Vec<Change>, Salvaged, Account) {
    let mut changes = Vec::new();
    let mut salvaged = Salvaged::default();
    for table in Table::ALL {
        salvaged.tables.insert(table, SalvagedTable::default());
    }
    let mut found = Account::default();
    for (key, framed) in values {
        let Some((first, rest)) = key.split_first() else { continue };
        let Some(table) = Table::of_byte(*first) else { continue };
        let told = salvaged.tables.entry(table).or_default();
        match (value(values, key), Framed::read(framed)) {
            (Some(value), Some(frame)) => {
                told.copied += 1;
                found.tally(*first).add(frame.crc());
                changes.push(Change::Put { table, key: rest.to_vec(), value });
            }
            _ => told.unreadable += 1,
        }
    }
    (changes, salvaged, found)
}

/// The value under a stored key, put together and checked; `None` if it is not what was written.
fn value(values: &Values, key: &[u8]) -> Option<Bytes> {
    let frame = Framed::read(values.get(key)?)?;
    let value = match frame {
        Framed::Inline { value, .. } => Bytes::copy_from_slice(value),
        Framed::Spilled { id, length, .. } => {
            let mut prefix = vec![PART];
            prefix.extend(id.to_be_bytes());
            let parts =
                values.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let whole: Vec<u8> = parts.flat_map(|(_, part)| part).copied().collect();
            if whole.len() as u64 != u64::from(length) {
                return None;
            }
            Bytes::from(whole)
        }
    };
    (checksum(key, &value) == frame.crc()).then_some(value)
}
