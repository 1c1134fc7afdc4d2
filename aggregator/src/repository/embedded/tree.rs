//! sled's one tree, with every call turned into a value, an I/O error or a named damage.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;

use super::{
    super::{
        Pair, Table,
        frame::{Account, Framed, INLINE_AT_MOST, checksum},
    },
    folder::Folder,
};

/// Key of the account. No table has the number 0.
const ACCOUNT: &[u8] = b"\0account";
/// First byte of the keys of parts. No table has this number.
const PART: u8 = 0xFF;
/// Memory for pages that were read or written lately.
const CACHE_BYTES: u64 = 64 << 20;
/// How often sled rewrites sparse segments so that they can be used again.
const CLEAN_EVERY_MS: u64 = 500;

/// Why the tree did not answer.
#[derive(Debug)]
pub(in super::super) enum Fault {
    /// The system said no.
    Io(io::Error),
    /// What is there is not what was written.
    Damage {
        /// The file within the folder; the data file if nothing is said.
        file: Option<String>,
        what: String,
    },
}

impl Fault {
    /// Somebody has its file locked.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Io(cause) if cause.kind() == io::ErrorKind::WouldBlock)
    }

    fn damage(what: impl Into<String>) -> Self {
        Self::Damage { file: None, what: what.into() }
    }
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(cause) if cause.to_string().contains("could not acquire lock") => {
                Self::Io(io::ErrorKind::WouldBlock.into())
            }
            sled::Error::Io(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::InvalidData
                        | io::ErrorKind::NotFound
                ) =>
            {
                Self::damage(format!("a page cannot be read: {cause}"))
            }
            sled::Error::Io(cause) => Self::Io(cause),
            sled::Error::Corruption { at, .. } => match at {
                Some(at) => Self::damage(format!("a page does not check at {at:?}")),
                None => Self::damage("a page does not check"),
            },
            sled::Error::Unsupported(what) => {
                Self::Damage { file: Some("conf".to_owned()), what: what.to_lowercase() }
            }
            other => Self::damage(other.to_string()),
        }
    }
}

/// sled panics on damage; here that ends in a [`Fault`].
pub(in super::super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        let first_line = said.lines().next().unwrap_or_default();
        Err(Fault::damage(format!("a page makes no sense ({first_line})")))
    })
}

#[derive(Debug)]
pub(in super::super) struct Tree {
    db: sled::Db,
    data: File,
}

impl Tree {
    pub(in super::super) fn open(folder: &Folder) -> Result<Self, Fault> {
        let config = sled::Config::new()
            .path(folder.path())
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(Some(CLEAN_EVERY_MS));
        let db = config.open()?;
        let data = File::open(folder.data_file()).map_err(Fault::Io)?;
        Ok(Self { db, data })
    }

    /// The value under a stored key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.db.get(key)?.map(|bytes| self.value(key, &bytes)).transpose()
    }

    /// The stored keys of a range.
    pub(super) fn keys(&self, range: RangeInclusive<Vec<u8>>) -> Result<Vec<Vec<u8>>, Fault> {
        self.db.range(range).keys().map(|key| Ok(key?.to_vec())).collect()
    }

    /// Keys without their table, with their values.
    pub(super) fn scan(
        &self,
        from: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, Fault> {
        let mut pairs = Vec::new();
        for pair in self.db.range(from..).take(limit) {
            let (key, bytes) = pair?;
            if !key.starts_with(prefix) {
                break;
            }
            pairs.push((key[1..].to_vec(), self.value(&key, &bytes)?));
        }
        Ok(pairs)
    }

    /// The value in a frame, put together and checked.
    fn value(&self, key: &[u8], bytes: &[u8]) -> Result<Bytes, Fault> {
        let unchecked = |what: &str| {
            let table = key.first().and_then(|byte| Table::of_byte(*byte));
            let table = table.map_or_else(|| "account".to_owned(), |table| table.to_string());
            Fault::damage(format!("a value of {table} {what}"))
        };
        let frame = Framed::read(bytes).ok_or_else(|| unchecked("has no frame"))?;
        let value = match frame {
            Framed::Inline { value, .. } => Bytes::copy_from_slice(value),
            Framed::Spilled { id, length, .. } => {
                let mut whole = Vec::new();
                for pair in self.db.scan_prefix(part_prefix(id)) {
                    whole.extend_from_slice(&pair?.1);
                }
                if whole.len() as u64 != u64::from(length) {
                    return Err(unchecked("lacks a part"));
                }
                Bytes::from(whole)
            }
        };
        if checksum(key, &value) != frame.crc() {
            return Err(unchecked("does not match its checksum"));
        }
        Ok(value)
    }

    /// Reads every value and holds them all against the account.
    pub(super) fn check(&self) -> Result<Account, Fault> {
        let written = match self.get(ACCOUNT)? {
            Some(bytes) => {
                Account::read(&bytes).ok_or_else(|| Fault::damage("the account makes no sense"))?
            }
            None => Account::default(),
        };
        let (mut found, mut parts, mut named) = (Account::default(), 0, 0);
        for pair in self.db.iter() {
            let (key, bytes) = pair?;
            match key.first() {
                Some(0) if *key == *ACCOUNT => {}
                Some(&PART) => parts += 1,
                Some(byte) => {
                    let value = self.value(&key, &bytes)?;
                    let frame = Framed::read(&bytes);
                    if let Some(Framed::Spilled { .. }) = frame {
                        named += value.len().div_ceil(INLINE_AT_MOST);
                    }
                    found.tally(*byte).add(frame.map_or(0, Framed::crc));
                }
                None => return Err(Fault::damage("there is an empty key")),
            }
        }
        if let Some((table, written, there)) = written.differs(&found) {
            let table = Table::of_byte(table).map_or_else(|| table.to_string(), |t| t.to_string());
            let what = format!(
                "{table} has not the values that were written: {written} were, {there} are there"
            );
            return Err(Fault::damage(what));
        }
        if parts != named {
            return Err(Fault::damage("there are parts that belong to no value"));
        }
        Ok(written)
    }

    /// The changes as one batch, and the account after it.
    pub(super) fn batch(
        &self,
        account: &Account,
        changes: &BTreeMap<Vec<u8>, Option<Bytes>>,
    ) -> Result<(sled::Batch, Account), Fault> {
        let mut batch = sled::Batch::default();
        let mut account = account.clone();
        account.commits += 1;
        for (index, (key, value)) in (0_u64..).zip(changes) {
            let table = key.first().copied().unwrap_or_default();
            if let Some(former) = self.db.get(key)? {
                let frame = Framed::read(&former)
                    .ok_or_else(|| Fault::damage("a value to be replaced has no frame"))?;
                account.tally(table).remove(frame.crc());
                if let Framed::Spilled { id, .. } = frame {
                    for part in self.db.scan_prefix(part_prefix(id)).keys() {
                        batch.remove(part?);
                    }
                }
            }
            let Some(value) = value else {
                batch.remove(key.as_slice());
                continue;
            };
            let crc = checksum(key, value);
            account.tally(table).add(crc);
            let frame = if value.len() <= INLINE_AT_MOST {
                Framed::Inline { crc, value }
            } else {
                let id = account.commits << 24 | index;
                for (part, bytes) in (0_u32..).zip(value.chunks(INLINE_AT_MOST)) {
                    let mut key = part_prefix(id);
                    key.extend(part.to_be_bytes());
                    batch.insert(key, bytes);
                }
                let length = u32::try_from(value.len()).map_err(|_| {
                    Fault::Io(io::Error::new(io::ErrorKind::InvalidInput, "a value is over 4 GiB"))
                })?;
                Framed::Spilled { crc, id, length }
            };
            batch.insert(key.as_slice(), frame.write());
        }
        let written = account.write();
        let crc = checksum(ACCOUNT, &written);
        batch.insert(ACCOUNT, Framed::Inline { crc, value: &written }.write());
        Ok((batch, account))
    }

    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), Fault> {
        Ok(self.db.apply_batch(batch)?)
    }

    /// sled's flush hands its buffers to the system; only the sync brings them to the disk.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.db.flush()?;
        self.data.sync_data().map_err(Fault::Io)
    }
}

fn part_prefix(id: u64) -> Vec<u8> {
    let mut key = vec![PART];
    key.extend(id.to_be_bytes());
    key
}
