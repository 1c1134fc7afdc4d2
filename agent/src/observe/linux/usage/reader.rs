//! Reads control groups of either version.

use std::collections::{BTreeMap, HashMap};

use super::{
    devices::Devices,
    folder::{Buffer, Folder},
    places::{Part, Places},
    v1, v2,
};
use crate::observe::{
    accounts::Depth,
    seen::{Counter, Group, GroupUse, Tree},
};

/// Most files kept open; beyond that they are opened each time.
const MAX_OPEN: usize = 192;

/// The first namespace of processes, from which every process can be seen (`PROC_PID_INIT_INO`).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// Files of version 2 that have one counter each.
const REST_OF_V2: [(Counter, &str); 4] = [
    (Counter::Killed, "memory.events"),
    (Counter::WaitedForCpu, "cpu.pressure"),
    (Counter::WaitedForMemory, "memory.pressure"),
    (Counter::WaitedForStorage, "io.pressure"),
];

/// What is read of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) depth: Depth,
    /// Of a group whose CPU time did not move the rest may be as it was.
    pub(super) may_rest: bool,
}

/// One group as it was last read.
#[derive(Debug)]
struct Known {
    folder: Folder,
    last: GroupUse,
}

/// The reader.
#[derive(Debug)]
pub(super) struct GroupReader {
    places: Places,
    /// All processes of the machine can be seen from here.
    sees_all: bool,
    storage_counts: bool,
    known: HashMap<Group, Known>,
    devices: Devices,
    buffer: Buffer,
}

impl GroupReader {
    /// The reader for this machine.
    pub(super) fn find() -> Self {
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self::of(Places::find(), namespace.as_os_str() == FIRST_NAMESPACE)
    }

    pub(super) fn of(places: Places, sees_all: bool) -> Self {
        Self {
            places,
            sees_all,
            storage_counts: false,
            known: HashMap::new(),
            devices: Devices::default(),
            buffer: Buffer::default(),
        }
    }

    /// Whether all processes of the machine can be seen from here.
    pub(super) const fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Begins a whole look: what is no group's any more is let go.
    pub(super) fn begin(&mut self, is_wanted: impl Fn(&Group) -> bool) {
        self.known.retain(|group, _| is_wanted(group));
        self.devices.forget();
        let root = Group { tree: Tree::Storage, path: "/".to_owned() };
        let root = self.places.folder(&root).and_then(|path| Folder::at(path).ok());
        self.storage_counts = root.is_some_and(|mut root| {
            let file = "blkio.throttle.io_service_bytes_recursive";
            root.text(file, &mut self.buffer, false).is_some_and(v1::counts)
        });
    }

    /// Reads a group; `None` if it is no more. If the kernel is others' too, a group counts only if all that is
    /// in it can be seen.
    pub(super) fn read(
        &mut self,
        group: &Group,
        wanted: Wanted,
        is_shared: bool,
    ) -> Option<GroupUse> {
        // A group that stands where it cannot be seen tells nothing, but is not gone.
        let Some(path) = self.places.folder(group) else { return Some(GroupUse::default()) };
        let is_whole = wanted.depth == Depth::Whole;
        // Between whole looks a file kept open says by itself when its group is gone.
        let stays =
            |known: &Known| (!is_whole && known.folder.open() > 0) || known.folder.is_there();
        let mut known = match self.known.remove(group).filter(stays) {
            Some(known) => known,
            None => Known { folder: Folder::at(path).ok()?, last: GroupUse::default() },
        };
        let identity = known.folder.identity();
        let is_hidden = is_shared || !self.sees_all;
        if is_hidden && (group.tree != Tree::Whole || !known.folder.is_seen_whole()) {
            return Some(GroupUse { identity, ..GroupUse::default() });
        }
        let mut seen = GroupUse { identity, ..GroupUse::default() };
        let keep = !is_whole && self.open() < MAX_OPEN;
        self.read_cpu(group.tree, &mut known.folder, &mut seen, keep);
        let cpu = |of: &GroupUse| of.counters.get(&Counter::Cpu).copied();
        let rests = wanted.may_rest && cpu(&seen).is_some() && cpu(&seen) == cpu(&known.last);
        if rests && is_whole {
            seen = known.last.clone();
        } else {
            self.read_memory(group.tree, &mut known.folder, &mut seen, keep);
            if is_whole {
                self.read_rest(group.tree, &mut known.folder, &mut seen);
                known.last.clone_from(&seen);
            }
        }
        self.known.insert(group.clone(), known);
        Some(seen)
    }

    fn open(&self) -> usize {
        self.known.values().map(|known| known.folder.open()).sum()
    }

    fn read_cpu(&mut self, tree: Tree, folder: &mut Folder, seen: &mut GroupUse, keep: bool) {
        let buffer = &mut self.buffer;
        let mut put = |counter, value: Option<u64>| {
            let is_kept_here = self.places.keeps(tree, Part::of(counter));
            seen.counters.extend(value.filter(|_| is_kept_here).map(|value| (counter, value)));
        };
        match tree {
            Tree::Whole => {
                let stat = folder.text("cpu.stat", buffer, keep);
                put(Counter::Cpu, stat.and_then(v2::cpu));
                put(Counter::Throttled, stat.and_then(v2::throttled));
            }
            Tree::Cpu => {
                let usage = folder.text("cpuacct.usage", buffer, keep);
                put(Counter::Cpu, usage.and_then(v1::cpu));
            }
            Tree::CpuLimit => {
                let stat = folder.text("cpu.stat", buffer, keep);
                put(Counter::Throttled, stat.and_then(v1::throttled));
            }
            Tree::Memory | Tree::Storage => {}
        }
    }

    fn read_memory(&mut self, tree: Tree, folder: &mut Folder, seen: &mut GroupUse, keep: bool) {
        if !self.places.keeps(tree, Part::Memory) {
            return;
        }
        let (current, parse): (_, fn(&str, &str) -> _) = match tree {
            Tree::Whole => ("memory.current", v2::memory),
            Tree::Memory => ("memory.usage_in_bytes", v1::memory),
            _ => return,
        };
        let Some(current) = folder.text(current, &mut self.buffer, keep).map(str::to_owned) else {
            return;
        };
        let stat = folder.text("memory.stat", &mut self.buffer, keep);
        seen.memory = stat.and_then(|stat| parse(&current, stat));
    }

    fn read_rest(&mut self, tree: Tree, folder: &mut Folder, seen: &mut GroupUse) {
        match tree {
            Tree::Whole => self.read_rest_of_v2(folder, seen),
            Tree::Memory => {
                let mark = folder.text("memory.max_usage_in_bytes", &mut self.buffer, false);
                seen.high_water = mark.and_then(|text| text.trim().parse().ok());
                // Kills in groups below are counted there only.
                if !folder.has_groups_below() {
                    let control = folder.text("memory.oom_control", &mut self.buffer, false);
                    let killed = control.and_then(v1::killed);
                    seen.counters.extend(killed.map(|count| (Counter::Killed, count)));
                }
            }
            Tree::Storage if self.storage_counts => {
                seen.devices = self.devices_of_v1(folder);
            }
            Tree::Storage | Tree::Cpu | Tree::CpuLimit => {}
        }
    }

    fn read_rest_of_v2(&mut self, folder: &mut Folder, seen: &mut GroupUse) {
        let Self { buffer, places, .. } = self;
        let mut told = BTreeMap::new();
        for (counter, file) in REST_OF_V2 {
            if places.keeps(Tree::Whole, Part::of(counter)) {
                let text = folder.text(file, buffer, false);
                let is_kills = counter == Counter::Killed;
                let value = text.and_then(if is_kills { v2::killed } else { v2::waited });
                told.extend(value.map(|value| (counter, value)));
            }
        }
        seen.counters.append(&mut told);
        if places.keeps(Tree::Whole, Part::Memory) {
            let mark = folder.text("memory.peak", buffer, false);
            seen.high_water = mark.and_then(|text| text.trim().parse().ok());
        }
        if places.keeps(Tree::Whole, Part::Storage) {
            let devices = folder.text("io.stat", buffer, false).map(v2::devices);
            seen.devices = devices.map(|devices| self.devices.named(devices));
        }
    }

    /// The files that count what is below too are there since Linux 3.18.
    fn devices_of_v1(
        &mut self,
        folder: &mut Folder,
    ) -> Option<BTreeMap<String, common::sample::DeviceUse>> {
        let bytes = "blkio.throttle.io_service_bytes_recursive";
        let bytes = folder.text(bytes, &mut self.buffer, false)?.to_owned();
        let operations = "blkio.throttle.io_serviced_recursive";
        let operations = folder.text(operations, &mut self.buffer, false)?;
        let devices = v1::devices(&bytes, operations);
        Some(self.devices.named(devices))
    }
}

#[cfg(test)]
mod tests;
