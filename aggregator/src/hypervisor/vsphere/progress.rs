//! How far the first look of a session is: at ten thousand machines it takes longer than anybody
//! waits for an answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::hypervisor::FirstLook;

/// Read by others while a look is under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    read: AtomicU64,
    /// Zero while none is under way.
    all: AtomicU64,
}

impl Progress {
    pub(super) fn begin(&self, all: u64) {
        self.read.store(0, Relaxed);
        self.all.store(all, Relaxed);
    }

    pub(super) fn one_more(&self) {
        self.read.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.all.store(0, Relaxed);
    }

    pub(super) fn now(&self) -> Option<FirstLook> {
        let all = self.all.load(Relaxed);
        // What came while it was read makes it no more than all.
        (all > 0).then(|| FirstLook { read: self.read.load(Relaxed).min(all), all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_while_a_look_is_under_way_and_only_then() {
        let progress = Progress::default();
        progress.one_more();
        assert_eq!(progress.now(), None);

        progress.begin(2);
        progress.one_more();
        assert_eq!(progress.now(), Some(FirstLook { read: 1, all: 2 }));
        (0..3).for_each(|_| progress.one_more());
        assert_eq!(progress.now(), Some(FirstLook { read: 2, all: 2 }));

        progress.end();
        assert_eq!(progress.now(), None);
    }
}
