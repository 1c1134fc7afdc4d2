//! The files of control groups of version 1: text in, figures out. What a file does not say is not told.

use std::collections::BTreeMap;

use common::sample::DeviceUse;

use super::flat;
use crate::observe::seen::GroupMemory;

/// Used so far, from `cpuacct.usage`, in microseconds.
pub(super) fn cpu(usage: &str) -> Option<u64> {
    Some(usage.trim().parse::<u64>().ok()? / 1000)
}

/// Held back so far, from `cpu.stat`, in microseconds.
pub(super) fn throttled(stat: &str) -> Option<u64> {
    Some(flat(stat, "throttled_time")? / 1000)
}

/// Memory now, as in version 2.
pub(super) fn memory(usage: &str, stat: &str) -> Option<GroupMemory> {
    let charged = usage.trim().parse().ok()?;
    let own = flat(stat, "total_rss")?;
    let unused = flat(stat, "total_inactive_file")?;
    Some(GroupMemory {
        charged,
        working_set: charged.saturating_sub(unused).max(own),
        resident: own.saturating_add(flat(stat, "total_mapped_file")?),
    })
}

/// Processes killed so far, from `memory.oom_control`. Those of groups below are not in it.
pub(super) fn killed(control: &str) -> Option<u64> {
    flat(control, "oom_kill")
}

/// Every device of `blkio.throttle.io_service_bytes` and `io_serviced` by its numbers.
pub(super) fn devices(bytes: &str, operations: &str) -> BTreeMap<(u32, u32), DeviceUse> {
    let mut devices: BTreeMap<(u32, u32), DeviceUse> = BTreeMap::new();
    for (numbers, what, count) in lines(bytes) {
        let device = devices.entry(numbers).or_default();
        match what {
            "Read" => device.read.0 = count,
            "Write" => device.written.0 = count,
            _ => {}
        }
    }
    for (numbers, what, count) in lines(operations) {
        let device = devices.entry(numbers).or_default();
        match what {
            "Read" => device.reads = count,
            "Write" => device.writes = count,
            "Discard" => device.discards = count,
            _ => {}
        }
    }
    devices.retain(|_, device| *device != DeviceUse::default());
    devices
}

/// Whether the kernel counts at all: newer ones begin only when something limits a device.
pub(super) fn counts(of_the_root: &str) -> bool {
    flat(of_the_root, "Total").is_some_and(|total| total > 0)
}

fn lines(text: &str) -> impl Iterator<Item = ((u32, u32), &str, u64)> {
    text.lines().filter_map(|line| {
        let mut parts = line.split(' ');
        let numbers = super::devices::numbers(parts.next()?)?;
        Some((numbers, parts.next()?, parts.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use common::units::Bytes;

    use super::*;

    #[test]
    fn cpu_memory_and_kills_are_read() {
        assert_eq!(cpu("5000999\n"), Some(5000));
        assert_eq!(throttled("nr_periods 1\nnr_throttled 1\nthrottled_time 7000\n"), Some(7));
        let stat = "rss 1\nmapped_file 1\ninactive_file 1\ntotal_rss 1000\ntotal_mapped_file 50\n\
            total_inactive_file 6000\n";
        let wanted = GroupMemory { charged: 10_000, working_set: 4000, resident: 1050 };
        assert_eq!(memory("10000\n", stat), Some(wanted));
        assert_eq!(killed("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(killed("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn devices_are_read_from_both_files() {
        let bytes = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n254:0 Total 12288\n\
            7:0 Read 0\nTotal 12288\n";
        let operations = "254:0 Read 1\n254:0 Write 2\n254:0 Discard 3\nTotal 6\n";
        let used =
            DeviceUse { reads: 1, writes: 2, discards: 3, read: Bytes(4096), written: Bytes(8192) };
        assert_eq!(devices(bytes, operations), [((254, 0), used)].into());
        assert!(counts(bytes) && !counts("Total 0\n") && !counts(""));
    }
}
