//! How high and how evenly an application's use was between two samples.
//!
//! A rate over a moment says nothing, for counters come in steps of a tick; what was used in too short a
//! time waits for the next look.

use std::time::Duration;

use common::{
    sketch::Sketch,
    units::{Bytes, Millicores},
};

/// Least time that makes a rate.
const LEAST: Duration = Duration::from_millis(250);

/// CPU time used and not yet made a rate of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    noted_at: Option<Duration>,
    used_us: u64,
    /// The rate of what was used at some time since the last whole look.
    lump: u64,
}

impl Pace {
    /// Adds what was used since the look before.
    pub(super) const fn add(&mut self, us: u64) {
        self.used_us = self.used_us.saturating_add(us);
    }

    /// Adds what was used at some time in so long a time.
    pub(super) fn add_lump(&mut self, us: u64, over: Duration) {
        self.lump = self.lump.saturating_add(rate(us, over));
    }

    /// The rate since the last one, if there was time enough. `from` is when the look before was, where
    /// this one is the first that sees the application.
    pub(super) fn take(&mut self, at: Duration, from: Option<Duration>) -> Option<Millicores> {
        let Some(from) = self.noted_at.or(from) else {
            // What was used before the first look is history.
            *self = Self { noted_at: Some(at), ..Self::default() };
            return None;
        };
        let over = at.saturating_sub(from);
        if over < LEAST {
            return None;
        }
        let all = rate(self.used_us, over).saturating_add(self.lump);
        *self = Self { noted_at: Some(at), ..Self::default() };
        Some(Millicores(all))
    }
}

/// Thousandths of a core.
fn rate(us: u64, over: Duration) -> u64 {
    let over = over.as_micros();
    if over == 0 {
        return 0;
    }
    u64::try_from(u128::from(us) * 1000 / over).unwrap_or(u64::MAX)
}

/// The time since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) peak_cpu: Millicores,
    pub(super) peak_resident: Bytes,
    pub(super) cpu: Sketch,
    pub(super) memory: Sketch,
}

impl Span {
    /// Takes another in.
    pub(super) fn merge(&mut self, other: &Self) {
        self.peak_cpu = self.peak_cpu.max(other.peak_cpu);
        self.peak_resident = self.peak_resident.max(other.peak_resident);
        self.cpu.merge(&other.cpu);
        self.memory.merge(&other.memory);
    }
}
