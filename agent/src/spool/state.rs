//! What the spool knows of its samples, and which of them go when there are too many.

use std::{collections::BTreeMap, path::Path};

use common::{
    clock::Timestamp,
    sample::{Gap, SampleId},
    task::Chain,
};
use tracing::{error, warn};

use super::{
    Kept, Room, SpoolError,
    form::Head,
    store::{Store, StoreFault},
};

/// Part of its room that is made free at once, so that not every sample drops one.
const FREED: u64 = 8;

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Option<Store>,
    pub(super) heads: BTreeMap<SampleId, Head>,
    pub(super) bytes: u64,
    pub(super) last: SampleId,
    pub(super) received: Option<SampleId>,
    pub(super) gaps: Vec<Gap>,
    pub(super) chain_is_broken: bool,
}

impl State {
    /// Opens the store, or sets a damaged one aside and opens another. Gives the last sample that
    /// was ever kept, and when it was taken.
    pub(super) fn open(
        &mut self,
        folder: &Path,
        most: u64,
        now: Timestamp,
    ) -> Result<Option<(SampleId, Timestamp)>, SpoolError> {
        let path = folder.join("samples");
        let opened = match Store::open(&path, most) {
            Err(StoreFault::Damage(what)) => {
                error!(what, "spool damaged and set aside; its samples are lost");
                let aside = folder.join("samples.damaged");
                Self::set_aside(&path, &aside)?;
                self.lose(now, now, 0, "the spool was damaged");
                Store::open(&path, most)
            }
            other => other,
        };
        let found = opened.map_err(SpoolError::Store)?;
        self.bytes = found.heads.values().map(|head| u64::from(head.bytes)).sum();
        for (id, taken_at) in &found.lost {
            warn!(?id, "spooled sample not readable");
            self.lose(*taken_at, *taken_at, 1, "a spooled sample was damaged");
        }
        self.heads = found.heads;
        self.store = Some(found.store);
        Ok(found.last)
    }

    /// One damaged spool is kept for whoever wants to look; an elder one goes.
    fn set_aside(path: &Path, aside: &Path) -> Result<(), SpoolError> {
        let failed = |cause| SpoolError::SetAside(path.to_owned(), cause);
        match std::fs::remove_dir_all(aside) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(cause));
            }
            _ => {}
        }
        std::fs::rename(path, aside).map_err(failed)
    }

    pub(super) fn append(
        &mut self,
        (folder, most): (&Path, u64),
        room: &Room,
        sample: Kept<'_>,
    ) -> Result<(), StoreFault> {
        if self.store.is_none() {
            let opened = self.open(folder, most, sample.taken_at);
            if let Err(SpoolError::Store(cause)) = opened {
                return Err(cause);
            }
            // Whether what was there is whole again is not known: begin anew.
            self.chain_is_broken = true;
        }
        if self.chain_is_broken && !sample.full {
            return Err(StoreFault::Damage("what the sample amends is lost".into()));
        }
        let Some(store) = &mut self.store else {
            return Err(StoreFault::Damage("it could not be opened".into()));
        };
        let head = store.append(room.id, sample, &room.drops)?;
        for id in &room.drops {
            self.bytes -= self.heads.remove(id).map_or(0, |head| u64::from(head.bytes));
        }
        self.bytes += u64::from(head.bytes);
        self.heads.insert(room.id, head);
        self.last = room.id;
        self.gaps.clear();
        self.chain_is_broken = false;
        Ok(())
    }

    /// The oldest, if there is no room; and what is lost with them. What the aggregator has already
    /// is not lost. Once something is, the deltas up to the next full sample are worth nothing.
    pub(super) fn to_drop(&self, most: u64) -> (Vec<SampleId>, Option<Gap>) {
        let mut bytes = self.bytes;
        let mut drops = Vec::new();
        let mut lost: Option<Gap> = None;
        if bytes <= most {
            return (drops, lost);
        }
        for (id, head) in &self.heads {
            let has_room = bytes <= most - most / FREED;
            if has_room && (lost.is_none() || head.full) {
                break;
            }
            bytes -= u64::from(head.bytes);
            drops.push(*id);
            if Some(*id) > self.received {
                let gap = lost.get_or_insert_with(|| Gap {
                    from: head.taken_at,
                    to: head.taken_at,
                    samples: 0,
                    reason: "the spool was full while the aggregator was away".into(),
                });
                gap.to = head.taken_at.max(gap.from);
                gap.samples += 1;
            }
        }
        (drops, lost)
    }

    pub(super) fn lose(&mut self, from: Timestamp, to: Timestamp, samples: u64, reason: &str) {
        self.gaps.push(Gap { from, to, samples, reason: reason.into() });
        self.chain_is_broken = true;
    }

    pub(super) fn give_up(&mut self, id: SampleId) {
        if let Some(head) = self.heads.get(&id) {
            self.lose(head.taken_at, head.taken_at, 1, "a spooled sample was damaged");
        }
        if let Err(cause) = self.forget(&[id]) {
            warn!(cause = %Chain(&cause), "damaged sample not forgotten");
        }
    }

    pub(super) fn forget(&mut self, ids: &[SampleId]) -> Result<(), StoreFault> {
        for id in ids {
            self.bytes -= self.heads.remove(id).map_or(0, |head| u64::from(head.bytes));
        }
        self.store.as_ref().map_or(Ok(()), |store| store.remove(ids))
    }
}
