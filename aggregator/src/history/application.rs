//! One application on one machine: demand by hour of the day, use per window, operations per day.

use std::{collections::BTreeMap, time::Duration};

use algorithms::ring::Ring;
use common::{
    clock::Timestamp,
    sketch::Sketch,
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use super::{
    demand::DayDemand,
    slots::{Resolution, Slots, Span, WINDOWS, begin},
};
use crate::join::{Outcome, Record, Used};

/// Days over which operations are counted.
const OPERATION_DAYS: usize = 7;

/// Kinds of operations remembered at most: eight operations in every size that occurs stay far
/// below it.
const KINDS_AT_MOST: usize = 256;

/// What names operations of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperationKey {
    /// What was done, as [`Record::operation`] says.
    pub operation: Box<str>,
    /// `floor(log2(bytes per operation))`; `None` if sizes are not known.
    pub size_class: Option<u32>,
    /// How it went.
    pub outcome: Outcome,
}

/// How often operations of one kind were seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCounts {
    /// How often; for `compute`, milliseconds.
    pub count: u64,
    /// How many bytes, as far as they are known.
    pub bytes: u64,
}

impl OperationCounts {
    fn add(&mut self, record: &Record) {
        self.count = self.count.saturating_add(record.count);
        self.bytes = self.bytes.saturating_add(record.bytes.unwrap_or(0));
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    total: OperationCounts,
    days: Ring<OperationCounts, OPERATION_DAYS>,
}

/// What an application used in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseSlot {
    /// When the slot begins.
    pub from: Timestamp,
    /// CPU on average; `None` if it was not watched twice.
    pub cpu_mean: Option<Millicores>,
    /// CPU at its peak.
    pub cpu_peak: Millicores,
    /// Resident memory at its peak, to a KiB.
    pub memory_peak: Bytes,
}

/// [`UseSlot`] as it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    /// One more than the mean; 0 if it is not known.
    cpu_mean: u32,
    /// One more than the peak; 0 if the application was not seen.
    cpu_peak: u32,
    memory_kib: u32,
}

/// What is remembered of an application on a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplicationHistory {
    demand: DayDemand,
    windows: Ring<Slot, WINDOWS>,
    operations: BTreeMap<OperationKey, Counted>,
    /// Records of a kind that found no room.
    kinds_left_out: u64,
    /// Number of the week in which its demand was last aged.
    week: u64,
    last_seen: Timestamp,
    /// 1970 if that is not known.
    #[serde(default)]
    first_seen: Timestamp,
}

/// What an application did over the last seven days, today among them.
#[derive(Debug, Clone, PartialEq)]
pub struct WeekOfOperations<'a> {
    /// How much of that time it is known.
    pub over: Duration,
    /// Operations by kind.
    pub kinds: Vec<(&'a OperationKey, OperationCounts)>,
}

impl ApplicationHistory {
    pub(super) fn take(&mut self, used: &Used, span: &Span) {
        if self.last_seen == Timestamp::default() || span.from < self.first_seen {
            self.first_seen = span.from;
        }
        self.last_seen = self.last_seen.max(span.to);
        self.turn_the_week(span.to);
        if used.seen == 0 {
            return;
        }
        let cpu = or_peak(&used.cpu_quantiles, used.cpu_peak.0);
        let memory = or_peak(&used.memory_quantiles, used.memory_peak.0);
        let day = span.slots.day;
        for hour in span.hours_of_day() {
            self.demand.take((day, hour), &cpu, &memory);
        }
        if let Some(slot) = self.windows.at(span.slots.window) {
            let seen = Slot {
                cpu_mean: used.cpu_mean.map_or(0, |cpu| one_more(cpu.0)),
                cpu_peak: one_more(used.cpu_peak.0),
                memory_kib: u32::try_from(used.memory_peak.0.div_ceil(1_024)).unwrap_or(u32::MAX),
            };
            *slot = Slot {
                cpu_mean: slot.cpu_mean.max(seen.cpu_mean),
                cpu_peak: slot.cpu_peak.max(seen.cpu_peak),
                memory_kib: slot.memory_kib.max(seen.memory_kib),
            };
        }
    }

    pub(super) fn count(&mut self, record: &Record, span: &Span) {
        let key = OperationKey {
            operation: record.operation.as_str().into(),
            size_class: record.size_class,
            outcome: record.outcome,
        };
        if !self.operations.contains_key(&key) && self.operations.len() >= KINDS_AT_MOST {
            self.kinds_left_out += 1;
            return;
        }
        let counted = self.operations.entry(key).or_default();
        counted.total.add(record);
        if let Some(day) = counted.days.at(span.slots.day) {
            day.add(record);
        }
    }

    /// Demand by hour of the day: what its agent told of its quantiles, or its peaks where the agent
    /// tells no more. What is more than a week old counts half, and so on.
    #[must_use]
    pub const fn demand(&self) -> &DayDemand {
        &self.demand
    }

    /// What it used by window, oldest first; `None` for a window that did not show it.
    pub fn windows(&self, window: Duration) -> impl Iterator<Item = Option<UseSlot>> + '_ {
        self.windows.iter().map(move |(number, slot)| {
            Some(UseSlot {
                from: begin(number, window),
                cpu_mean: slot.cpu_mean.checked_sub(1).map(|cpu| Millicores(cpu.into())),
                cpu_peak: Millicores(slot.cpu_peak.checked_sub(1)?.into()),
                memory_peak: Bytes(u64::from(slot.memory_kib) * 1_024),
            })
        })
    }

    /// Operations since it was first seen, by kind.
    pub fn operations(&self) -> impl Iterator<Item = (&OperationKey, OperationCounts)> {
        self.operations.iter().map(|(key, counted)| (key, counted.total))
    }

    /// Operations of the seven days that end with that of the newest window, which is open from the one
    /// moment to the other: all kinds over the same days.
    #[must_use]
    pub fn week(&self, (from, to): (Timestamp, Timestamp)) -> WeekOfOperations<'_> {
        let last = Slots::of(from, Duration::from_secs(1)).day;
        let first = (last + 1).saturating_sub(u32::try_from(OPERATION_DAYS).unwrap_or(u32::MAX));
        let kinds = self.operations.iter().map(|(key, counted)| {
            let mut sum = OperationCounts::default();
            let days = counted.days.iter().filter(|(day, _)| (first..=last).contains(day));
            for (_, day) in days {
                sum.count = sum.count.saturating_add(day.count);
                sum.bytes = sum.bytes.saturating_add(day.bytes);
            }
            (key, sum)
        });
        let begin = begin(first, Resolution::Day.length(Duration::ZERO));
        WeekOfOperations { over: to.since(begin.max(self.first_seen)), kinds: kinds.collect() }
    }

    /// Records of kinds that found no room; anything above nought is a person's business.
    #[must_use]
    pub const fn kinds_left_out(&self) -> u64 {
        self.kinds_left_out
    }

    /// When the last window closed that showed it.
    #[must_use]
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) fn forget_windows(&mut self) {
        self.windows = Ring::default();
    }

    fn turn_the_week(&mut self, now: Timestamp) {
        let week = now.as_millis() / (7 * 24 * 3_600_000);
        // After four weeks nothing of before is left to speak of.
        let turns = week.saturating_sub(self.week).min(32);
        for _ in 0..if self.week == 0 { 0 } else { turns } {
            self.demand.age();
        }
        self.week = self.week.max(week);
    }
}

/// A sketch, or that of the peak where there is none.
fn or_peak(sketch: &Sketch, peak: u64) -> Sketch {
    if !sketch.is_empty() {
        return sketch.clone();
    }
    let mut only = Sketch::default();
    only.insert(peak);
    only
}

fn one_more(value: u64) -> u32 {
    u32::try_from(value.saturating_add(1)).unwrap_or(u32::MAX)
}
