//! The samples on disk, in sled, with every call turned into a value or a named fault.
//!
//! A sample lies in parts of a few kilobytes: sled rewrites a leaf as a whole. The first part
//! begins with the sample's head, which carries the checksum of all of it.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use common::{clock::Timestamp, sample::SampleId};
use thiserror::Error;

use super::{
    Examined, Kept,
    form::{self, HEAD, Head, read_head, read_key, read_last, write_key},
};

/// Bytes that are copied at once when the store is written anew.
const COPIED_AT_ONCE: usize = 256 << 10;
/// Bytes sled writes at once; what it has open at the end of a small store is mostly empty.
const SEGMENT: usize = 128 << 10;
/// Memory for pages that were read or written lately.
const CACHE_BYTES: u64 = 2 << 20;
/// Largest sample, unpacked: what a message may have, and some.
const LARGEST: usize = 8 << 20;
/// Key of the note of the last sample. Other keys are 18 bytes long.
const LAST: &[u8] = b"last";

/// Why the disk did not do it.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// The system refused.
    #[error("the disk refused")]
    Io(#[from] io::Error),
    /// What is there is not what was written.
    #[error("it is damaged: {0}")]
    Damage(String),
}

impl From<sled::Error> for StoreFault {
    fn from(error: sled::Error) -> Self {
        use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        match error {
            sled::Error::Io(cause)
                if !matches!(cause.kind(), InvalidData | NotFound | UnexpectedEof) =>
            {
                Self::Io(cause)
            }
            other => Self::Damage(other.to_string()),
        }
    }
}

/// The store, and what is in it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) store: Store,
    pub(super) heads: BTreeMap<SampleId, Head>,
    /// What cannot be read, and is gone now.
    pub(super) lost: Vec<(SampleId, Timestamp)>,
    pub(super) last: Option<(SampleId, Timestamp)>,
}

#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    most: u64,
    db: sled::Db,
}

/// sled panics on damage; here that ends in a fault.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        let first = said.and_then(|said| said.lines().next()).unwrap_or("no reason given");
        Err(StoreFault::Damage(first.to_owned()))
    })
}

fn open(path: &Path) -> Result<sled::Db, StoreFault> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT)
        .mode(sled::Mode::HighThroughput)
        // Nobody but us flushes: a thread of sled's own could panic where nobody listens.
        .flush_every_ms(None);
    guarded(|| Ok(config.open()?))
}

impl Store {
    /// Opens it and looks at every sample. A rewrite that was broken off is thrown away.
    pub(super) fn open(path: &Path, most: u64) -> Result<Found, StoreFault> {
        discard(&beside(path))?;
        let store = Self { path: path.to_owned(), most, db: open(path)? };
        let (heads, lost, last) = guarded(|| store.look())?;
        let ids: Vec<SampleId> = lost.iter().map(|(id, _)| *id).collect();
        store.remove(&ids)?;
        Ok(Found { store, heads, lost, last })
    }

    /// Opens it, looks at every sample, and closes it again.
    pub(super) fn examine(path: &Path) -> Result<Examined, StoreFault> {
        // What no sample was ever put in needs no room beyond what it has.
        let store = Self { path: path.to_owned(), most: 0, db: open(path)? };
        let (heads, lost, _) = guarded(|| store.look())?;
        Ok(Examined { whole: heads.len() as u64, damaged: lost.len() as u64 })
    }

    #[expect(clippy::type_complexity, reason = "taken apart at once by the one caller")]
    fn look(
        &self,
    ) -> Result<
        (BTreeMap<SampleId, Head>, Vec<(SampleId, Timestamp)>, Option<(SampleId, Timestamp)>),
        StoreFault,
    > {
        let (mut heads, mut lost) = (BTreeMap::new(), Vec::new());
        for pair in self.db.iter() {
            let (key, value) = pair?;
            let Some((id, 0)) = read_key(&key) else { continue };
            let Some(head) = read_head(&value) else {
                lost.push((id, Timestamp::default()));
                continue;
            };
            match self.read_checked(id) {
                Ok(_) => drop(heads.insert(id, head)),
                Err(StoreFault::Damage(_)) => lost.push((id, head.taken_at)),
                Err(io) => return Err(io),
            }
        }
        let last = self.db.get(LAST)?.and_then(|note| read_last(&note));
        Ok((heads, lost, last))
    }

    /// Keeps a sample and drops others, both or neither.
    pub(super) fn append(
        &mut self,
        id: SampleId,
        sample: Kept<'_>,
        drops: &[SampleId],
    ) -> Result<Head, StoreFault> {
        let packed = zstd::bulk::compress(sample.bytes, 1)?;
        let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
        let head = Head {
            bytes: length,
            taken_at: sample.taken_at,
            full: sample.full,
            crc: crc32fast::hash(&packed),
        };
        guarded(|| {
            let mut batch = sled::Batch::default();
            for id in drops {
                self.remove_from(&mut batch, *id)?;
            }
            form::insert_into(&mut batch, id, head, &packed);
            let mut note = write_key(id, 0);
            note.extend(sample.taken_at.as_millis().to_be_bytes());
            batch.insert(LAST, note);
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            Ok(())
        })?;
        self.keep_small()?;
        Ok(head)
    }

    /// A sample as it was kept.
    pub(super) fn read(&self, id: SampleId) -> Result<Vec<u8>, StoreFault> {
        let packed = guarded(|| self.read_checked(id))?;
        zstd::bulk::decompress(&packed, LARGEST)
            .map_err(|cause| StoreFault::Damage(cause.to_string()))
    }

    fn read_checked(&self, id: SampleId) -> Result<Vec<u8>, StoreFault> {
        let damaged = |what: &str| StoreFault::Damage(format!("a sample {what}"));
        let first = self.db.get(write_key(id, 0))?.ok_or_else(|| damaged("is gone"))?;
        let head = read_head(&first).ok_or_else(|| damaged("has no head"))?;
        let mut packed = first[HEAD..].to_vec();
        let mut part = 1;
        while packed.len() < head.bytes as usize {
            let next = self.db.get(write_key(id, part))?.ok_or_else(|| damaged("lacks a part"))?;
            packed.extend_from_slice(&next);
            part += 1;
        }
        if crc32fast::hash(&packed) != head.crc {
            return Err(damaged("does not match its checksum"));
        }
        Ok(packed)
    }

    pub(super) fn remove(&self, ids: &[SampleId]) -> Result<(), StoreFault> {
        guarded(|| {
            for some in ids.chunks(256) {
                let mut batch = sled::Batch::default();
                for id in some {
                    self.remove_from(&mut batch, *id)?;
                }
                self.db.apply_batch(batch)?;
            }
            self.db.flush()?;
            Ok(())
        })
    }

    fn remove_from(&self, batch: &mut sled::Batch, id: SampleId) -> Result<(), StoreFault> {
        for key in self.db.scan_prefix(&write_key(id, 0)[..16]).keys() {
            batch.remove(key?);
        }
        Ok(())
    }

    /// sled gives room back late or never. Where it takes too much it is written anew.
    fn keep_small(&mut self) -> Result<(), StoreFault> {
        if guarded(|| Ok(self.db.size_on_disk()?))? < self.most / 2 {
            return Ok(());
        }
        let new_path = beside(&self.path);
        guarded(|| {
            let new = open(&new_path)?;
            let (mut batch, mut waiting) = (sled::Batch::default(), 0);
            for pair in self.db.iter() {
                let (key, value) = pair?;
                waiting += value.len();
                batch.insert(key, value);
                if waiting >= COPIED_AT_ONCE {
                    new.apply_batch(std::mem::take(&mut batch))?;
                    waiting = 0;
                }
            }
            new.apply_batch(batch)?;
            new.flush()?;
            Ok(())
        })?;
        // From here to the end a crash costs the spool: it is found without its folder, and empty.
        // What was not sealed is on the aggregator, or becomes a gap.
        let placeholder = open_temporary()?;
        drop(std::mem::replace(&mut self.db, placeholder));
        discard(&self.path)?;
        fs::rename(&new_path, &self.path)?;
        self.db = open(&self.path)?;
        Ok(())
    }
}

fn open_temporary() -> Result<sled::Db, StoreFault> {
    guarded(|| Ok(sled::Config::new().temporary(true).flush_every_ms(None).open()?))
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn discard(path: &Path) -> Result<(), StoreFault> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause.into()),
        _ => Ok(()),
    }
}
