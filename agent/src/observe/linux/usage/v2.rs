//! The files of a control group of version 2: text in, figures out. What a file does not say is not told.

use std::collections::BTreeMap;

use common::sample::DeviceUse;

use super::flat;
use crate::observe::seen::GroupMemory;

/// Used so far, from `cpu.stat`, in microseconds.
pub(super) fn cpu(stat: &str) -> Option<u64> {
    flat(stat, "usage_usec")
}

/// Held back so far, from `cpu.stat`, in microseconds; told only where the controller is on.
pub(super) fn throttled(stat: &str) -> Option<u64> {
    flat(stat, "throttled_usec")
}

/// Memory now. The kernel counts page cache in; what of it was not used a second time could be given back
/// at once, so it is taken off, but never so much that less than the group's own pages is left.
pub(super) fn memory(current: &str, stat: &str) -> Option<GroupMemory> {
    let charged = current.trim().parse().ok()?;
    let own = flat(stat, "anon")?;
    let unused = flat(stat, "inactive_file")?;
    Some(GroupMemory {
        charged,
        working_set: charged.saturating_sub(unused).max(own),
        resident: own.saturating_add(flat(stat, "file_mapped")?),
    })
}

/// Processes killed so far, from `memory.events`.
pub(super) fn killed(events: &str) -> Option<u64> {
    flat(events, "oom_kill")
}

/// Time in which some task waited, from one of the `.pressure` files, in microseconds.
pub(super) fn waited(pressure: &str) -> Option<u64> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|part| part.strip_prefix("total="))?.parse().ok()
}

/// Every device of `io.stat` by its numbers.
pub(super) fn devices(stat: &str) -> BTreeMap<(u32, u32), DeviceUse> {
    stat.lines().filter_map(device).collect()
}

fn device(line: &str) -> Option<((u32, u32), DeviceUse)> {
    let mut parts = line.split(' ');
    let numbers = super::devices::numbers(parts.next()?)?;
    let mut device = DeviceUse::default();
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        let into = match key {
            "rbytes" => &mut device.read.0,
            "wbytes" => &mut device.written.0,
            "rios" => &mut device.reads,
            "wios" => &mut device.writes,
            "dios" => &mut device.discards,
            _ => continue,
        };
        *into = value.parse().ok()?;
    }
    (device != DeviceUse::default()).then_some((numbers, device))
}

#[cfg(test)]
mod tests {
    use common::units::Bytes;

    use super::*;

    #[test]
    fn cpu_is_told_without_the_controller_and_throttling_is_not() {
        let without = "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\n";
        assert_eq!((cpu(without), throttled(without)), (Some(5000), None));
        let with = format!("{without}nr_periods 10\nnr_throttled 3\nthrottled_usec 77\n");
        assert_eq!(throttled(&with), Some(77));
    }

    #[test]
    fn the_working_set_is_without_unused_cache_but_never_below_the_own_pages() {
        let stat = "anon 1000\nfile 9000\nfile_mapped 50\ninactive_anon 7\ninactive_file 6000\n";
        let wanted = GroupMemory { charged: 10_000, working_set: 4000, resident: 1050 };
        assert_eq!(memory("10000\n", stat), Some(wanted));
        assert_eq!(memory("6100\n", stat).unwrap().working_set, 1000);
        assert_eq!(memory("10000\n", "anon 5\n"), None);
    }

    #[test]
    fn kills_and_stalls_are_read() {
        let events = "low 0\nhigh 0\nmax 4\noom 2\noom_kill 3\noom_group_kill 0\n";
        assert_eq!(killed(events), Some(3));
        let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345\n\
            full avg10=0.00 avg60=0.00 avg300=0.00 total=999\n";
        assert_eq!((waited(pressure), waited("")), (Some(12_345), None));
    }

    #[test]
    fn devices_are_read_and_what_else_stands_in_the_line_is_left() {
        let stat = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=512 dios=3 cost.usage=9\n\
            7:0 \n253:1 rbytes=x\n8:16 rbytes=0 wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n";
        let used =
            DeviceUse { reads: 1, writes: 2, discards: 3, read: Bytes(4096), written: Bytes(8192) };
        assert_eq!(devices(stat), [((254, 0), used)].into());
    }
}
