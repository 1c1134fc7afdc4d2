//! What each process read and wrote, asked for no more often than it can have changed.
//!
//! A process that used no CPU did nothing; that is known only to a tick of the kernel's clock, so the figures
//! of a quiet one may be late, by [`ROUND`] looks at most.

use std::collections::{BTreeSet, HashMap};

use common::sample::ProcessKey;

use crate::observe::{linux::processes, seen::Moved};

/// Looks after which every process is asked again.
const ROUND: u64 = 8;

/// A process as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mover {
    pub(super) key: ProcessKey,
    /// CPU time of it and of what it waited for.
    pub(super) cpu_ms: u64,
    /// It is to be asked in any case.
    pub(super) is_exact: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: HashMap<ProcessKey, (u64, Option<Moved>)>,
    looks: u64,
}

impl Files {
    /// Asks those that may have moved something.
    pub(super) fn look(&mut self, living: &[Mover], heirs: &BTreeSet<u32>) {
        self.look_by(living, heirs, processes::moved);
    }

    fn look_by(
        &mut self,
        living: &[Mover],
        heirs: &BTreeSet<u32>,
        ask: impl Fn(u32) -> Option<Moved>,
    ) {
        self.looks += 1;
        let mut former = std::mem::take(&mut self.known);
        for mover in living {
            let pid = mover.key.pid;
            let is_due = (self.looks + u64::from(pid)).is_multiple_of(ROUND);
            let known = former.remove(&mover.key);
            let rests = known.filter(|(cpu_ms, _)| {
                *cpu_ms == mover.cpu_ms && !mover.is_exact && !is_due && !heirs.contains(&pid)
            });
            let now = rests.unwrap_or_else(|| (mover.cpu_ms, ask(pid)));
            self.known.insert(mover.key, now);
        }
    }

    /// What each living process moved; `None` of one that may not be asked.
    pub(super) fn all(&self) -> impl Iterator<Item = (ProcessKey, Option<Moved>)> {
        self.known.iter().map(|(key, (_, moved))| (*key, *moved))
    }

    /// What one process moved.
    pub(super) fn of(&self, key: ProcessKey) -> Option<Moved> {
        self.known.get(&key).and_then(|(_, moved)| *moved)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use common::clock::Timestamp;

    use super::*;

    fn mover(pid: u32, cpu_ms: u64) -> Mover {
        let key = ProcessKey { pid, started_at: Timestamp::from_millis(u64::from(pid)) };
        Mover { key, cpu_ms, is_exact: false }
    }

    /// Who is asked at a look.
    fn asked(files: &mut Files, living: &[Mover], heirs: &[u32]) -> Vec<u32> {
        let asked = RefCell::new(Vec::new());
        files.look_by(living, &heirs.iter().copied().collect(), |pid| {
            asked.borrow_mut().push(pid);
            None
        });
        asked.into_inner()
    }

    #[test]
    fn only_who_moved_is_asked_and_everybody_once_in_a_round() {
        let mut files = Files::default();
        assert_eq!(asked(&mut files, &[mover(8, 0), mover(16, 0)], &[]), [8, 16]);
        assert_eq!(asked(&mut files, &[mover(8, 0), mover(16, 10)], &[]), [16]);
        assert_eq!(asked(&mut files, &[mover(8, 0), mover(16, 10)], &[8]), [8]);
        let exact = Mover { is_exact: true, ..mover(8, 0) };
        assert_eq!(asked(&mut files, &[exact, mover(16, 10)], &[]), [8]);
        for _ in 4..7 {
            assert_eq!(asked(&mut files, &[mover(8, 0), mover(16, 10)], &[]), [0; 0]);
        }
        assert_eq!(asked(&mut files, &[mover(8, 0), mover(16, 10)], &[]), [8, 16]);
    }
}
