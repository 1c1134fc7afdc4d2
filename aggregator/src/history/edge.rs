//! One edge over windows, hours and days, in 2 KiB at most.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use algorithms::{
    packed::{self, Pair},
    ring::Ring,
};
use common::{clock::Timestamp, id::VmId};
use serde::{Deserialize, Serialize};

use super::{
    machine::{MachineHistory, watched_by_either},
    moments::Moments,
    slots::{DAYS, HOURS, Resolution, Span, WINDOWS, begin},
};
use crate::{
    join::{EdgeKey, Party, Traffic},
    regularity::{Day, Estimate, Peak, Regularity, Watch},
};

/// What an edge carried in one slot that was watched.
///
/// Counts of a window are exact up to 255, those of the hour and the day under way always; all
/// others are right to 0.4 % of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// When the slot begins.
    pub from: Timestamp,
    /// Connections that came to be.
    pub connections: u64,
    /// Requests and answers; `None` where nobody counted.
    pub exchanges: Option<u64>,
    /// Time over which it was watched, or would have been seen.
    pub watched: Duration,
}

/// What is remembered of one edge.
#[derive(Debug, Clone, Copy)]
pub struct EdgeHistory<'a> {
    rings: &'a EdgeRings,
    key: &'a EdgeKey,
    machines: &'a BTreeMap<VmId, MachineHistory>,
    window: Duration,
}

impl<'a> EdgeHistory<'a> {
    pub(super) const fn new(
        rings: &'a EdgeRings,
        key: &'a EdgeKey,
        machines: &'a BTreeMap<VmId, MachineHistory>,
        window: Duration,
    ) -> Self {
        Self { rings, key, machines, window }
    }

    /// The slots of that length, oldest first, up to the newest in which an end was watched: `None`
    /// for a slot that nobody watched, noughts for one in which it was quiet.
    ///
    /// There are as many as the ring holds ([`WINDOWS`], [`HOURS`] or [`DAYS`]), or fewer if its ends
    /// are not known so long.
    pub fn slots(&self, resolution: Resolution) -> impl Iterator<Item = Option<Counts>> + 'a {
        self.last_slots(resolution, resolution.held())
    }

    /// The newest of [`Self::slots`], as many as that.
    pub fn last_slots(
        &self,
        resolution: Resolution,
        most: usize,
    ) -> impl Iterator<Item = Option<Counts>> + 'a {
        let (rings, length) = (self.rings, resolution.length(self.window));
        let machines = self.machines;
        let end = |party: &Party| party.vm().and_then(|vm| machines.get(vm));
        let ends = [end(&self.key.client), end(&self.key.server)];
        watched_by_either(ends, resolution, most).map(move |(slot, watched)| {
            let (connections, exchanges) = rings.get(resolution, slot);
            let watched = Duration::from_secs_f32(watched);
            let counts = Counts { from: begin(slot, length), connections, exchanges, watched };
            (!watched.is_zero()).then_some(counts)
        })
    }

    /// When connections came to be, in order, to a quarter of a second: the last 128 moments that are
    /// known.
    pub fn starts(&self) -> impl Iterator<Item = Timestamp> + 'a {
        self.rings.starts.iter()
    }

    /// The period it is used in; `None` if there is none, or that is not known.
    #[must_use]
    pub fn period(&self) -> Option<Regularity> {
        self.rings.watch.period()
    }

    /// The cycle of the calendar that it is busy in; `None` likewise.
    #[must_use]
    pub fn calendar(&self) -> Option<Regularity> {
        self.rings.watch.calendar()
    }

    /// Whether its events come in bursts; `None` until enough windows are remembered.
    #[must_use]
    pub fn burstiness(&self) -> Option<Estimate> {
        self.rings.watch.burstiness()
    }

    /// Its busiest windows; `None` until enough are remembered.
    #[must_use]
    pub fn peak(&self) -> Option<Peak> {
        self.rings.watch.peak()
    }

    /// When the first window opened that showed it.
    #[must_use]
    pub const fn first_seen(&self) -> Timestamp {
        self.rings.first_seen
    }

    /// When the last window closed that showed it.
    #[must_use]
    pub const fn last_seen(&self) -> Timestamp {
        self.rings.last_seen
    }

    /// Bytes it takes, its key left out.
    #[must_use]
    pub fn room(&self) -> usize {
        size_of::<EdgeRings>()
            + self.rings.windows.room()
            + self.rings.hours.ring.room()
            + self.rings.days.ring.room()
            + self.rings.starts.room()
            + self.rings.watch.room()
    }
}

/// The rings of one edge, as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeRings {
    windows: Ring<Pair, WINDOWS>,
    hours: Summed<HOURS>,
    days: Summed<DAYS>,
    starts: Moments,
    /// How regularly it is used.
    #[serde(default)]
    pub(super) watch: Watch,
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// Somebody counted its exchanges once, so where it was quiet there were none.
    counts_exchanges: bool,
}

/// The second code of a slot: nothing was seen.
const QUIET: u16 = 0;
/// The second code of a slot: it was seen, and nobody counted exchanges.
const UNCOUNTED: u16 = 1;
/// What is added to the code of a count, for the two above.
const COUNTED: u16 = 2;

impl EdgeRings {
    pub(super) fn take(&mut self, traffic: &Traffic, span: &Span) {
        let is_new = self.last_seen == Timestamp::default();
        self.first_seen = if is_new { span.from } else { self.first_seen.min(span.from) };
        self.watch.begin(span.slots.window);
        self.last_seen = self.last_seen.max(span.to);
        self.counts_exchanges |= traffic.exchanges.is_some();
        let seen = Sum { connections: traffic.opened, exchanges: traffic.exchanges };
        if let Some(slot) = self.windows.at(span.slots.window) {
            // Two windows share a slot where the length was changed amid one.
            *slot = pair(added(sum(*slot), seen));
        }
        self.hours.add(span.slots.hour, seen);
        self.days.add(span.slots.day, seen);
        self.starts.take(&traffic.starts);
        let day =
            Day { number: span.slots.day, came: seen.connections.max(seen.exchanges.unwrap_or(0)) };
        self.watch.take(traffic.starts.len(), day);
    }

    /// Looks into the moments of its connections.
    pub(super) fn look_at_train(&mut self, sampled_every: Duration) {
        self.watch.look(|| self.starts.iter(), sampled_every);
    }

    pub(super) const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) fn forget_windows(&mut self) {
        self.windows = Ring::default();
    }

    /// Lets go of what is past once nothing was seen of it for a cycle.
    pub(super) fn sleep(&mut self) {
        self.windows = Ring::default();
        self.hours = Summed::default();
    }

    fn get(&self, resolution: Resolution, slot: u32) -> (u64, Option<u64>) {
        let seen = match resolution {
            Resolution::Window => self.windows.get(slot).and_then(sum),
            Resolution::Hour => self.hours.get(slot),
            Resolution::Day => self.days.get(slot),
        };
        seen.map_or((0, self.counts_exchanges.then_some(0)), |sum| (sum.connections, sum.exchanges))
    }
}

/// What was seen in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    connections: u64,
    exchanges: Option<u64>,
}

/// A ring whose newest slot is summed up exactly: adding to a packed count again and again would
/// lose what is small beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Summed<const N: usize> {
    ring: Ring<Pair, N>,
    /// Connections of the newest slot.
    connections: u64,
    /// One more than the exchanges of the newest slot, so that not knowing them takes no room.
    exchanges: Option<NonZeroU64>,
}

impl<const N: usize> Summed<N> {
    fn add(&mut self, number: u32, seen: Sum) {
        let newest = self.ring.newest();
        let Some(slot) = self.ring.at(number) else { return };
        if newest.is_some_and(|newest| number < newest) {
            *slot = pair(added(sum(*slot), seen));
            return;
        }
        let known = if newest == Some(number) { self.newest() } else { None };
        let known = added(known, seen);
        self.connections = known.connections;
        self.exchanges = known.exchanges.and_then(|count| NonZeroU64::new(count.saturating_add(1)));
        if let Some(slot) = self.ring.at(number) {
            *slot = pair(known);
        }
    }

    fn newest(&self) -> Option<Sum> {
        self.ring.newest()?;
        let exchanges = self.exchanges.map(|count| count.get() - 1);
        Some(Sum { connections: self.connections, exchanges })
    }

    fn get(&self, number: u32) -> Option<Sum> {
        if self.ring.newest() == Some(number) {
            self.newest()
        } else {
            sum(self.ring.get(number)?)
        }
    }
}

/// What is known of either is known of both.
fn added(known: Option<Sum>, seen: Sum) -> Sum {
    let Some(known) = known else { return seen };
    Sum {
        connections: known.connections.saturating_add(seen.connections),
        exchanges: match (known.exchanges, seen.exchanges) {
            (Some(known), Some(seen)) => Some(known.saturating_add(seen)),
            (known, seen) => known.or(seen),
        },
    }
}

fn pair(sum: Sum) -> Pair {
    let exchanges = sum.exchanges.map_or(UNCOUNTED, |count| packed::pack(count) + COUNTED);
    Pair::new(packed::pack(sum.connections), exchanges)
}

fn sum(slot: Pair) -> Option<Sum> {
    let (connections, exchanges) = slot.codes();
    if exchanges == QUIET {
        return None;
    }
    let exchanges = exchanges.checked_sub(COUNTED).map(packed::unpack);
    Some(Sum { connections: packed::unpack(connections), exchanges })
}
