//! One machine: when it was watched, what it used by hour of the day as either side says, and by how
//! much the two differ.

use std::time::Duration;

use algorithms::ring::Ring;
use common::{
    clock::Timestamp,
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use super::slots::{DAYS, HOURS, Resolution, Span, WINDOWS};
use crate::join::{JoinedMachine, Use};

/// What one side says of a machine at one hour of the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HourUse {
    /// Windows it rests on.
    pub windows: u32,
    /// CPU at its peak; `None` if unknown.
    pub cpu_peak: Option<Millicores>,
    /// Memory at its peak; `None` if unknown.
    pub memory_peak: Option<Bytes>,
}

impl HourUse {
    fn take(&mut self, side: &Use) {
        let cpu = side.cpu_peak.max(side.cpu_mean);
        if cpu.is_none() && side.memory_peak.is_none() {
            return;
        }
        self.windows = self.windows.saturating_add(1);
        self.cpu_peak = self.cpu_peak.max(cpu);
        self.memory_peak = self.memory_peak.max(side.memory_peak);
    }
}

/// Both sides at one hour of the day, over the present cycle and the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sides {
    /// As the guest says.
    pub guest: HourUse,
    /// As the hypervisor says.
    pub outside: HourUse,
}

/// By how much the guest differs from the hypervisor in one window, as a share of the larger of the
/// two, to one in a hundred: above nought if the guest says more, `None` where one side is silent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Differences {
    /// CPU on average.
    pub cpu: Option<f64>,
    /// Memory at its peak.
    pub memory: Option<f64>,
    /// Bytes received per second.
    pub received: Option<f64>,
    /// Bytes sent per second.
    pub sent: Option<f64>,
    /// Bytes written to disk per second.
    pub written: Option<f64>,
}

/// What is remembered of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineHistory {
    windows: Ring<f32, WINDOWS>,
    hours: Ring<f32, HOURS>,
    days: Ring<f32, DAYS>,
    /// Seconds of the window under way that are in the rings already.
    counted: (Timestamp, f32),
    differences: Ring<[Hundredths; 5], WINDOWS>,
    present: [Sides; 24],
    former: [Sides; 24],
    /// Number of the cycle that `present` is of.
    week: u64,
    last_seen: Timestamp,
}

/// A share in hundredths, one more than it is so that the default is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Hundredths(u8);

impl Hundredths {
    fn of(guest: Option<f64>, outside: Option<f64>) -> Self {
        let (Some(guest), Some(outside)) = (guest, outside) else { return Self(0) };
        let larger = guest.max(outside);
        let share = if larger > 0.0 { (guest - outside) / larger } else { 0.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 1 and 201"
        )]
        Self((share.clamp(-1.0, 1.0) * 100.0).round().mul_add(1.0, 101.0) as u8)
    }

    fn share(self) -> Option<f64> {
        (self.0 > 0).then(|| (f64::from(self.0) - 101.0) / 100.0)
    }
}

impl MachineHistory {
    pub(super) fn take(&mut self, machine: &JoinedMachine, span: &Span) {
        self.last_seen = self.last_seen.max(span.to);
        self.counted = (span.from, 0.0);
        self.watch(machine.guest.watched, span);
        if let Some(slot) = self.differences.at(span.slots.window) {
            *slot = differences(&machine.guest, &machine.outside);
        }
        self.turn_the_week(span.to);
        for hour in span.hours_of_day() {
            if let Some(sides) = self.present.get_mut(hour) {
                sides.guest.take(&machine.guest);
                sides.outside.take(&machine.outside);
            }
        }
    }

    /// An edge may have been watched for longer than its machine's agent: by one sample, or by the
    /// other end.
    pub(super) fn was_watched_by_edge(&mut self, watched: Duration, span: &Span) {
        if self.counted.0 == span.from {
            self.watch(watched, span);
        }
    }

    fn watch(&mut self, watched: Duration, span: &Span) {
        let more = watched.as_secs_f32() - self.counted.1;
        if more <= 0.0 {
            return;
        }
        self.counted.1 = watched.as_secs_f32();
        let slots = span.slots;
        let rings =
            [self.windows.at(slots.window), self.hours.at(slots.hour), self.days.at(slots.day)];
        rings.into_iter().flatten().for_each(|slot| *slot += more);
    }

    /// The slots of that length, oldest first: seconds watched in each; `None` if nobody did.
    pub fn watched(&self, resolution: Resolution) -> impl Iterator<Item = Option<Duration>> + '_ {
        self.seconds(resolution)
            .map(|(_, seconds)| (seconds > 0.0).then(|| Duration::from_secs_f32(seconds)))
    }

    /// By how much guest and hypervisor differ, by window, oldest first.
    pub fn differences(&self) -> impl Iterator<Item = Differences> + '_ {
        self.differences.iter().map(|(_, [cpu, memory, received, sent, written])| Differences {
            cpu: cpu.share(),
            memory: memory.share(),
            received: received.share(),
            sent: sent.share(),
            written: written.share(),
        })
    }

    /// What both sides say of an hour of the day (0 to 23, UTC), over this week and the last.
    #[must_use]
    pub fn hour(&self, hour: usize) -> Sides {
        let part = |sides: &[Sides; 24]| sides.get(hour).copied().unwrap_or_default();
        let (present, former) = (part(&self.present), part(&self.former));
        Sides {
            guest: larger(present.guest, former.guest),
            outside: larger(present.outside, former.outside),
        }
    }

    /// When the last window closed that showed it.
    #[must_use]
    pub const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) fn forget_windows(&mut self) {
        self.windows = Ring::default();
        self.differences = Ring::default();
    }

    fn seconds(&self, resolution: Resolution) -> Box<dyn Iterator<Item = (u32, f32)> + '_> {
        match resolution {
            Resolution::Window => Box::new(self.windows.iter()),
            Resolution::Hour => Box::new(self.hours.iter()),
            Resolution::Day => Box::new(self.days.iter()),
        }
    }

    fn second(&self, resolution: Resolution, slot: u32) -> Option<f32> {
        match resolution {
            Resolution::Window => self.windows.get(slot),
            Resolution::Hour => self.hours.get(slot),
            Resolution::Day => self.days.get(slot),
        }
    }

    fn reach(&self, resolution: Resolution) -> Option<(u32, u32)> {
        let (oldest, newest) = match resolution {
            Resolution::Window => (self.windows.oldest(), self.windows.newest()),
            Resolution::Hour => (self.hours.oldest(), self.hours.newest()),
            Resolution::Day => (self.days.oldest(), self.days.newest()),
        };
        Some((oldest?, newest?))
    }

    fn turn_the_week(&mut self, now: Timestamp) {
        let week = now.as_millis() / (7 * 24 * 3_600_000);
        if week > self.week {
            let is_next = week == self.week + 1;
            let present = std::mem::take(&mut self.present);
            self.former = if is_next { present } else { Default::default() };
            self.week = week;
        }
    }
}

/// Slots in which either end was watched, oldest first and `most` at most, with the seconds of the end
/// that was watched for longer; those in between that nobody watched have nought.
pub(super) fn watched_by_either<'a>(
    ends: [Option<&'a MachineHistory>; 2],
    resolution: Resolution,
    most: usize,
) -> impl Iterator<Item = (u32, f32)> + 'a {
    let reaches = || ends.into_iter().flatten().filter_map(move |end| end.reach(resolution));
    let oldest = reaches().map(|(oldest, _)| oldest).min().unwrap_or(1);
    let newest = reaches().map(|(_, newest)| newest).max().unwrap_or(0);
    let held = u32::try_from(resolution.held().min(most)).unwrap_or(u32::MAX);
    let first = oldest.max((newest + 1).saturating_sub(held));
    (first..=newest).map(move |slot| {
        let seconds = ends.into_iter().flatten().filter_map(|end| end.second(resolution, slot));
        (slot, seconds.fold(0.0, f32::max))
    })
}

fn larger(one: HourUse, other: HourUse) -> HourUse {
    HourUse {
        windows: one.windows.saturating_add(other.windows),
        cpu_peak: one.cpu_peak.max(other.cpu_peak),
        memory_peak: one.memory_peak.max(other.memory_peak),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share to one in a hundred")]
fn differences(guest: &Use, outside: &Use) -> [Hundredths; 5] {
    let cpu = |side: &Use| side.cpu_mean.map(|cpu| cpu.0 as f64);
    let memory = |side: &Use| side.memory_peak.map(|memory| memory.0 as f64);
    [
        Hundredths::of(cpu(guest), cpu(outside)),
        Hundredths::of(memory(guest), memory(outside)),
        Hundredths::of(guest.received_per_second, outside.received_per_second),
        Hundredths::of(guest.sent_per_second, outside.sent_per_second),
        Hundredths::of(guest.written_per_second, outside.written_per_second),
    ]
}
