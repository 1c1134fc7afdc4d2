//! Samples that are not yet part of a committed window: kept here until they are, so that the
//! agents are the replicas of what an aggregator could lose.
//!
//! ```text
//!  append ─> [ e.1 e.2 e.3 ... ] ─> after(cursor) ─> link ─> received ─> sealed ─> forgotten
//!                 └─ too many: the oldest go, and a gap says so
//! ```
//!
//! It lies on sled, which is neither durable by itself nor gentle when damaged: what it lost with
//! the last power cut becomes a gap, and a damaged spool is set aside, never a reason not to
//! start. The epoch is kept in a file of its own, and goes up with every start whatever became of
//! the samples.

mod form;
mod state;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::{
    clock::Timestamp,
    sample::{Gap, SampleId},
    task::Chain,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tracing::warn;

use self::state::State;
pub use self::store::StoreFault;
use crate::file::{self, FileError};

/// sled takes several times what is in it; the rest of the spool's room is left to it. An hour of
/// an ordinary guest is some hundred kilobytes when packed.
const OF_ROOM: u64 = 8;
/// Samples that one call gives out, so that a long spool is not read into memory.
const READ_AT_ONCE: usize = 32;

/// Why the spool did not do it.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The epoch could not be kept. Without it samples would be taken for older ones.
    #[error("could not keep the epoch")]
    Epoch(#[source] FileError),
    /// A sample could not be kept.
    #[error("could not keep the sample")]
    Store(#[source] StoreFault),
    /// A damaged spool could not be set aside.
    #[error("could not set the damaged spool {} aside", .0.display())]
    SetAside(PathBuf, #[source] std::io::Error),
}

/// What must be said and done with the next sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Its id.
    pub id: SampleId,
    /// Stretches that are lost, to be said with it.
    pub gaps: Vec<Gap>,
    /// It must be a full one: what it would amend is lost.
    pub must_be_full: bool,
    drops: Vec<SampleId>,
}

/// One sample to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// It is a full one.
    pub full: bool,
    /// As it goes up.
    pub bytes: &'a [u8],
}

/// What a look at a spool found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Examined {
    /// Samples that can be read.
    pub whole: u64,
    /// Samples that cannot.
    pub damaged: u64,
}

/// The spool. Cheap to clone; its calls block for as long as the disk does.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    most: u64,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Epoch {
    epoch: u64,
}

impl Spool {
    /// Opens the spool in `folder` and begins a new epoch. It takes `most` bytes of the disk.
    ///
    /// # Errors
    ///
    /// If the epoch cannot be kept, or the disk refuses. Damage is no error.
    pub fn open(folder: &Path, most: u64, now: Timestamp) -> Result<Self, SpoolError> {
        file::make_folder(folder).map_err(SpoolError::Epoch)?;
        let mut state = State {
            store: None,
            heads: BTreeMap::new(),
            bytes: 0,
            last: SampleId::default(),
            received: None,
            gaps: Vec::new(),
            chain_is_broken: true,
        };
        let last = state.open(folder, most, now)?;
        let path = folder.join("epoch");
        let kept = match file::read_sealed::<Epoch>(&path, "epoch") {
            Ok(kept) => kept.map_or(0, |kept| kept.epoch),
            Err(FileError::Damaged { .. }) => {
                warn!("epoch not readable; it goes on from the last sample");
                0
            }
            Err(cause) => return Err(SpoolError::Epoch(cause)),
        };
        let epoch = 1 + kept.max(last.map_or(0, |(id, _)| id.epoch));
        file::write_sealed(&path, "epoch", &Epoch { epoch }).map_err(SpoolError::Epoch)?;
        state.last = SampleId { epoch, sequence: 0 };
        if let Some((_, from)) = last {
            state.lose(from, now.max(from), 0, "the agent was not running");
        }
        let (folder, state) = (folder.to_owned(), Mutex::new(state));
        Ok(Self(Arc::new(Inner { folder, most, state, changes: watch::Sender::default() })))
    }

    /// Forgets everything in `folder`: samples, and the epoch with them. They belong to an
    /// identity that is no more.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn wipe(folder: &Path) -> Result<(), SpoolError> {
        match std::fs::remove_dir_all(folder) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(SpoolError::SetAside(folder.to_owned(), cause))
            }
            _ => Ok(()),
        }
    }

    /// Looks at every sample in `folder` and changes none of them. `None` if there is no spool. Nobody else
    /// may use the folder meanwhile.
    ///
    /// # Errors
    ///
    /// If the disk refuses, or the spool is damaged.
    pub fn examine(folder: &Path) -> Result<Option<Examined>, SpoolError> {
        let path = folder.join("samples");
        if !path.is_dir() {
            return Ok(None);
        }
        store::Store::examine(&path).map(Some).map_err(SpoolError::Store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of the samples to come.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().last.epoch
    }

    /// Samples that wait to be sealed.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lock().heads.len() as u64
    }

    /// Goes up whenever a sample is kept.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What the next sample is to be. Nothing is dropped before it is kept.
    #[must_use]
    pub fn room(&self) -> Room {
        let state = self.lock();
        let (drops, lost) = state.to_drop(self.0.most / OF_ROOM);
        let mut gaps = state.gaps.clone();
        gaps.extend(lost);
        let SampleId { epoch, sequence } = state.last;
        let drops_all = !drops.is_empty() && drops.len() == state.heads.len();
        let must_be_full = sequence == 0 || state.chain_is_broken || drops_all;
        Room { id: SampleId { epoch, sequence: sequence + 1 }, gaps, must_be_full, drops }
    }

    /// Keeps a sample that was made for `room`.
    ///
    /// # Errors
    ///
    /// If the disk refuses. The sample is not kept then, and its number is the next one's.
    pub fn append(&self, room: &Room, sample: Kept<'_>) -> Result<(), SpoolError> {
        let mut state = self.lock();
        let appended = state.append((&self.0.folder, self.0.most), room, sample);
        if let Err(StoreFault::Damage(what)) = &appended {
            warn!(what, "spool damaged");
        }
        appended.map_err(|cause| {
            // Whatever is left of it is found when it is opened again.
            state.store = None;
            SpoolError::Store(cause)
        })?;
        drop(state);
        self.0.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// The next samples after `cursor`, oldest first, as they go up; empty if there are none.
    #[must_use]
    pub fn after(&self, cursor: Option<SampleId>) -> Vec<(SampleId, Vec<u8>)> {
        let mut state = self.lock();
        let is_next = |id: &&SampleId| cursor.is_none_or(|cursor| **id > cursor);
        let ids: Vec<SampleId> =
            state.heads.keys().filter(is_next).take(READ_AT_ONCE).copied().collect();
        let mut samples = Vec::new();
        for id in ids {
            let Some(store) = &state.store else { break };
            match store.read(id) {
                Ok(bytes) => samples.push((id, bytes)),
                Err(cause) => {
                    warn!(?id, cause = %Chain(&cause), "spooled sample not readable");
                    state.give_up(id);
                }
            }
        }
        samples
    }

    /// The aggregator has this sample and all before it.
    pub fn note_received(&self, id: SampleId) {
        let mut state = self.lock();
        state.received = state.received.max(Some(id));
    }

    /// This sample and all before it are part of a committed window: they are forgotten.
    pub fn note_sealed(&self, id: SampleId) {
        let mut state = self.lock();
        state.received = state.received.max(Some(id));
        let sealed: Vec<SampleId> = state.heads.range(..=id).map(|(id, _)| *id).collect();
        if let Err(cause) = state.forget(&sealed) {
            warn!(cause = %Chain(&cause), "sealed samples not forgotten");
        }
    }

    /// The aggregator knows samples of an epoch up to `epoch`, which we do not: this guest was set
    /// back. Goes on beyond it; what is spooled would be taken for known and is given up.
    ///
    /// # Errors
    ///
    /// If the epoch cannot be kept.
    pub fn go_beyond(&self, epoch: u64, now: Timestamp) -> Result<(), SpoolError> {
        let mut state = self.lock();
        let path = self.0.folder.join("epoch");
        let beyond = Epoch { epoch: epoch + 1 };
        file::write_sealed(&path, "epoch", &beyond).map_err(SpoolError::Epoch)?;
        state.last = SampleId { epoch: beyond.epoch, sequence: 0 };
        let all: Vec<SampleId> = state.heads.keys().copied().collect();
        if let Some((_, oldest)) = state.heads.first_key_value() {
            let (from, count) = (oldest.taken_at, all.len() as u64);
            state.lose(from, now.max(from), count, "the guest was set back to an earlier state");
        }
        if let Err(cause) = state.forget(&all) {
            warn!(cause = %Chain(&cause), "samples of an earlier state not forgotten");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
