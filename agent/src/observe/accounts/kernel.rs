//! What the kernel counted in an application's groups, put together to totals that never go down.
//!
//! Groups come and go and their counters begin anew; what was counted stays. Where one group of several
//! does not tell something, the application's figure is not known: a part would pass for the whole.

use std::collections::{BTreeMap, BTreeSet};

use common::sample::{DeviceUse, Stalls};

use super::groups::Origin;
use crate::observe::seen::{Counter, Group, GroupMemory, GroupUse, Storage, Tree};

/// Every counter there is.
const COUNTERS: [Counter; 6] = [
    Counter::Cpu,
    Counter::Throttled,
    Counter::Killed,
    Counter::WaitedForCpu,
    Counter::WaitedForMemory,
    Counter::WaitedForStorage,
];

/// One group of an application as it was just read.
#[derive(Debug, Clone)]
pub(in crate::observe) struct Reading {
    pub(in crate::observe) group: Group,
    pub(in crate::observe) origin: Origin,
    pub(in crate::observe) seen: GroupUse,
}

/// How much of a group was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::observe) enum Depth {
    /// CPU and memory.
    Brief,
    /// All of it.
    Whole,
}

/// What was counted since the reading before; `None` if it was not told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) cpu_us: Option<u64>,
    /// All the CPU that the groups counted in their life, if all of it is the application's.
    pub(super) cpu_in_all_us: Option<u64>,
    pub(super) storage: Option<Storage>,
}

/// The groups of one application.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    last: BTreeMap<Group, GroupUse>,
    totals: BTreeMap<Counter, u64>,
    told: BTreeSet<Counter>,
    devices: BTreeMap<String, DeviceUse>,
    are_devices_told: bool,
    /// Kills that the kernel told one by one, those in groups that are gone too.
    kills: u64,
    /// What the groups had counted beyond those when they first told.
    kills_before: Option<u64>,
    memory: Option<GroupMemory>,
    high_water: Option<u64>,
    is_whole: bool,
}

impl Kernel {
    /// Takes the readings of all groups in; those that are not among them are no more.
    pub(super) fn look(&mut self, readings: &[Reading], depth: Depth) -> Told {
        let has = |counter| told_by_all(readings, |seen| seen.counters.contains_key(&counter));
        let told: BTreeSet<Counter> = COUNTERS.into_iter().filter(|one| has(*one)).collect();
        let mut cpu_us = 0;
        let mut storage = Storage::default();
        for reading in readings {
            cpu_us += self.count(reading);
            storage.add(self.count_devices(reading));
            self.remember(reading);
        }
        self.memory = told_by_all(readings, |seen| seen.memory.is_some()).then(|| sum(readings));
        let tells_cpu = told.contains(&Counter::Cpu);
        let tells_devices = told_by_all(readings, |seen| seen.devices.is_some());
        if depth == Depth::Whole {
            self.last.retain(|group, _| readings.iter().any(|reading| reading.group == *group));
            if let Some(counted) = self.totals.get(&Counter::Killed) {
                self.kills_before.get_or_insert(counted.saturating_sub(self.kills));
            }
            self.told = told;
            self.are_devices_told = tells_devices;
            self.note_high_water(readings);
        }
        if let Some(first) = readings.first() {
            self.is_whole = first.group.tree == Tree::Whole;
        }
        let are_new = readings.iter().all(|reading| reading.origin == Origin::New);
        let in_all =
            || readings.iter().filter_map(|one| one.seen.counters.get(&Counter::Cpu)).sum();
        Told {
            cpu_us: tells_cpu.then_some(cpu_us),
            cpu_in_all_us: (tells_cpu && are_new).then(in_all),
            storage: tells_devices.then_some(storage),
        }
    }

    /// The kernel told of so many kills in its groups, before they are read again.
    pub(super) const fn note_kills(&mut self, count: u64) {
        self.kills = self.kills.saturating_add(count);
    }

    /// Processes killed for want of memory; `None` if nothing tells it.
    pub(super) fn killed(&self, is_over: bool) -> Option<u64> {
        let told = self.kills.saturating_add(self.kills_before.unwrap_or(0));
        match self.total(Counter::Killed, is_over) {
            Some(counted) => Some(counted.max(told)),
            None => Some(told).filter(|_| self.kills > 0),
        }
    }

    /// Memory now.
    pub(super) const fn memory(&self) -> Option<GroupMemory> {
        self.memory
    }

    /// Most memory ever charged. Of several groups this is at least so much: their own marks were not
    /// reached at the same time.
    pub(super) const fn high_water(&self) -> Option<u64> {
        self.high_water
    }

    /// The total of a counter; `None` if it was not told. If the application `is_over` for now, it is told
    /// although the groups are gone.
    pub(super) fn total(&self, counter: Counter, is_over: bool) -> Option<u64> {
        let is_told = is_over || self.told.contains(&counter);
        self.totals.get(&counter).copied().filter(|_| is_told)
    }

    /// What was done on each device; nothing if it was not told.
    pub(super) fn devices(&self, is_over: bool) -> BTreeMap<String, DeviceUse> {
        let is_told = is_over || self.are_devices_told;
        if is_told { self.devices.clone() } else { BTreeMap::new() }
    }

    /// Time that tasks stood still, summed up over the groups.
    pub(super) fn stalls(&self, is_over: bool) -> Stalls {
        Stalls {
            cpu_us: self.total(Counter::WaitedForCpu, is_over),
            memory_us: self.total(Counter::WaitedForMemory, is_over),
            storage_us: self.total(Counter::WaitedForStorage, is_over),
        }
    }

    /// Whether the groups stand, or last stood, in a tree that accounts for everything.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Adds what one group counted; gives the CPU time of it.
    fn count(&mut self, reading: &Reading) -> u64 {
        let before = self.last.get(&reading.group);
        let same = before.filter(|before| before.identity == reading.seen.identity);
        let is_new = before.is_some() || reading.origin == Origin::New;
        let mut cpu_us = 0;
        for (counter, now) in &reading.seen.counters {
            let from = match same {
                Some(same) => same.counters.get(counter).copied(),
                None => is_new.then_some(0),
            };
            // A counter that went down was set to nought.
            let more = from.map_or(0, |from| now.checked_sub(from).unwrap_or(*now));
            let total = self.totals.entry(*counter).or_default();
            *total = total.saturating_add(more);
            if *counter == Counter::Cpu {
                cpu_us = more;
            }
        }
        cpu_us
    }

    fn count_devices(&mut self, reading: &Reading) -> Storage {
        let mut moved = Storage::default();
        let Some(devices) = &reading.seen.devices else { return moved };
        let before = self.last.get(&reading.group);
        let same = before.filter(|before| before.identity == reading.seen.identity);
        let is_new = before.is_some() || reading.origin == Origin::New;
        for (name, now) in devices {
            let more = match same {
                Some(same) => same.devices.as_ref().map_or_else(DeviceUse::default, |same| {
                    since(*now, same.get(name).copied().unwrap_or_default())
                }),
                None if is_new => *now,
                None => DeviceUse::default(),
            };
            moved.add(Storage { read: more.read.0, written: more.written.0 });
            add(self.devices.entry(name.clone()).or_default(), more);
        }
        moved
    }

    fn remember(&mut self, reading: &Reading) {
        let last = self.last.entry(reading.group.clone()).or_default();
        if last.identity != reading.seen.identity {
            *last = GroupUse { identity: reading.seen.identity, ..GroupUse::default() };
        }
        last.counters.extend(&reading.seen.counters);
        if reading.seen.devices.is_some() {
            last.devices.clone_from(&reading.seen.devices);
        }
    }

    fn note_high_water(&mut self, readings: &[Reading]) {
        if told_by_all(readings, |seen| seen.high_water.is_some()) {
            let marks = readings.iter().filter_map(|reading| reading.seen.high_water);
            let now = self.memory.map(|memory| memory.charged);
            self.high_water = self.high_water.into_iter().chain(marks).chain(now).max();
        }
    }
}

/// Whether some group tells it, and every other one of the same tree too.
fn told_by_all(readings: &[Reading], tells: impl Fn(&GroupUse) -> bool) -> bool {
    let Some(first) = readings.iter().find(|reading| tells(&reading.seen)) else { return false };
    let mut peers = readings.iter().filter(|reading| reading.group.tree == first.group.tree);
    peers.all(|reading| tells(&reading.seen))
}

fn sum(readings: &[Reading]) -> GroupMemory {
    let memory = readings.iter().filter_map(|reading| reading.seen.memory);
    memory.fold(GroupMemory::default(), |sum, one| GroupMemory {
        charged: sum.charged.saturating_add(one.charged),
        working_set: sum.working_set.saturating_add(one.working_set),
        resident: sum.resident.saturating_add(one.resident),
    })
}

/// What was done since; everything, if a counter went down.
fn since(now: DeviceUse, before: DeviceUse) -> DeviceUse {
    let less = || {
        Some(DeviceUse {
            reads: now.reads.checked_sub(before.reads)?,
            writes: now.writes.checked_sub(before.writes)?,
            discards: now.discards.checked_sub(before.discards)?,
            read: common::units::Bytes(now.read.0.checked_sub(before.read.0)?),
            written: common::units::Bytes(now.written.0.checked_sub(before.written.0)?),
        })
    };
    less().unwrap_or(now)
}

const fn add(total: &mut DeviceUse, more: DeviceUse) {
    total.reads = total.reads.saturating_add(more.reads);
    total.writes = total.writes.saturating_add(more.writes);
    total.discards = total.discards.saturating_add(more.discards);
    total.read.0 = total.read.0.saturating_add(more.read.0);
    total.written.0 = total.written.0.saturating_add(more.written.0);
}

#[cfg(test)]
mod tests;
