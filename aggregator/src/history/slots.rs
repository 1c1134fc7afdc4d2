//! The slots of time that rings are made of.

use std::time::Duration;

use common::clock::Timestamp;

/// Windows held one by one: a day of them at 300 s each.
pub const WINDOWS: usize = 288;
/// Hours held: a week.
pub const HOURS: usize = 168;
/// Days held: six weeks, which tell what recurs by the week, and the day under way.
pub const DAYS: usize = 43;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long the slots of a ring are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// As long as a window.
    Window,
    /// An hour.
    Hour,
    /// A day, from midnight UTC.
    Day,
}

impl Resolution {
    /// Length of a slot, where windows are that long.
    #[must_use]
    pub const fn length(self, window: Duration) -> Duration {
        match self {
            Self::Window => window,
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// How many slots are held at most.
    #[must_use]
    pub const fn held(self) -> usize {
        match self {
            Self::Window => WINDOWS,
            Self::Hour => HOURS,
            Self::Day => DAYS,
        }
    }
}

/// The slots that a window falls into, one of each length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) window: u32,
    pub(super) hour: u32,
    pub(super) day: u32,
}

impl Slots {
    pub(super) fn of(from: Timestamp, window: Duration) -> Self {
        Self { window: number(from, window), hour: number(from, HOUR), day: number(from, DAY) }
    }
}

/// A window's time, and the slots it falls into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Time between two samples.
    pub(super) sampled_every: Duration,
    pub(super) slots: Slots,
}

impl Span {
    /// The hours of the day that it touches, each once, the first one first.
    pub(super) fn hours_of_day(&self) -> impl Iterator<Item = usize> {
        let first = self.from.as_millis() / 3_600_000;
        let last = (self.to.as_millis().max(1) - 1) / 3_600_000;
        (first..=last.max(first)).take(24).map(|hour| usize::try_from(hour % 24).unwrap_or(0))
    }
}

/// When a slot begins.
pub(super) fn begin(slot: u32, length: Duration) -> Timestamp {
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(u64::from(slot).saturating_mul(length))
}

fn number(at: Timestamp, length: Duration) -> u32 {
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
    u32::try_from(at.as_millis() / length).unwrap_or(u32::MAX)
}
