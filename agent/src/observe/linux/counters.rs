//! The guest's counters, as far as its extent makes them its own.
//!
//! Every file is read once per look; what the network stack counted was read right after the sockets were. Network counters belong to the network namespace and are right in every
//! extent; CPU, load, pressure, memory and block devices belong to the kernel and are left unknown, or summed
//! up from processes, where the kernel is not the guest's.

use std::{collections::BTreeMap, path::Path};

use common::{
    sample::{Counters, DiskCounters, InterfaceCounters, ProtocolCounters},
    units::Bytes,
};
use procfs::{Current, FromRead as _, net::InterfaceDeviceStatus};

use super::{devices, extent::Extent, processes::Kernel};
use crate::observe::seen::{Seen, Storage};

/// Bytes of a sector in /proc/diskstats, whatever the device's own are.
const SECTOR: u64 = 512;
/// Most block devices counted.
const MAX_DISKS: usize = 512;

/// What is summed up from the processes.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Sums {
    /// CPU of all processes so far, living and ended.
    pub(in crate::observe) busy_ms: u64,
    /// Resident memory of the living.
    pub(in crate::observe) resident: Bytes,
    /// Bytes moved so far, as far as processes may be asked.
    pub(in crate::observe) storage: Storage,
}

/// What this look asked already.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Asked<'a> {
    /// Of the kernel.
    pub(in crate::observe) kernel: Kernel,
    /// Of its network stack.
    pub(in crate::observe) protocols: Option<ProtocolCounters>,
    /// Of the processes.
    pub(in crate::observe) sums: Sums,
    /// Of the agent itself.
    pub(in crate::observe) own: Option<&'a Seen>,
}

/// Reads the counters that were not asked yet.
pub(in crate::observe) fn read(extent: Extent, asked: Asked<'_>) -> Counters {
    let Asked { kernel, protocols, sums, own } = asked;
    let mut counters = match extent {
        Extent::Kernel => of_kernel(kernel),
        Extent::Processes { memory, .. } => of_processes(memory, sums),
    };
    counters.cpus = extent.cores(kernel.cores);
    counters.interfaces = interfaces();
    counters.protocols = protocols;
    counters.agent_cpu_ms = own.map(|own| own.cpu_ms);
    counters.agent_resident = own.map(|own| own.resident);
    counters
}

fn of_kernel(kernel: Kernel) -> Counters {
    let disks = disks();
    let sum = |of: fn(&DiskCounters) -> u64| {
        let sums = disks.values().map(of);
        sums.reduce(u64::saturating_add).map(Bytes)
    };
    let (disk_read, disk_written) = (sum(|disk| disk.read.0), sum(|disk| disk.written.0));
    let counters = Counters {
        cpu_busy_ms: kernel.busy_ms,
        load_1_milli: procfs::LoadAverage::current().ok().map(|load| whole(load.one * 1000.0)),
        cpu_pressure_10: pressure("/proc/pressure/cpu"),
        memory_pressure_10: pressure("/proc/pressure/memory"),
        storage_pressure_10: pressure("/proc/pressure/io"),
        out_of_memory_kills: out_of_memory_kills(),
        disk_read,
        disk_written,
        disks,
        ..Counters::default()
    };
    with_memory(counters)
}

fn with_memory(counters: Counters) -> Counters {
    let Some(text) = text("/proc/meminfo") else { return counters };
    let of = |name: &str| value(&text, name).map(|kibi| kibi.saturating_mul(1024));
    let swap = of("SwapTotal:").zip(of("SwapFree:"));
    Counters {
        memory_total: of("MemTotal:").map(Bytes),
        memory_available: of("MemAvailable:").map(Bytes),
        swap_used: swap.map(|(total, free)| Bytes(total.saturating_sub(free))),
        page_cache: of("Cached:").map(Bytes),
        ..counters
    }
}

/// `oom_kill` of /proc/vmstat: kernels before 4.13 do not count.
fn out_of_memory_kills() -> Option<u64> {
    value(&text("/proc/vmstat")?, "oom_kill")
}

/// Share of the last ten seconds that some task waited, in hundredths of a per cent.
fn pressure(path: &str) -> Option<u32> {
    let text = text(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let share = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    Some(whole(share.parse::<f32>().ok()? * 100.0))
}

/// The text of a file, if there is one.
pub(super) fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The number that follows a name at the beginning of a line.
pub(super) fn value(text: &str, name: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    let value = values.find(|value| value.starts_with([' ', '\t']))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn of_processes(memory: Option<Bytes>, sums: Sums) -> Counters {
    Counters {
        cpu_busy_ms: Some(sums.busy_ms),
        memory_total: memory,
        memory_available: memory.map(|total| Bytes(total.0.saturating_sub(sums.resident.0))),
        disk_read: Some(Bytes(sums.storage.read)),
        disk_written: Some(Bytes(sums.storage.written)),
        ..Counters::default()
    }
}

fn interfaces() -> BTreeMap<String, InterfaceCounters> {
    let Ok(devices) = InterfaceDeviceStatus::from_file("/proc/thread-self/net/dev") else {
        return BTreeMap::new();
    };
    let counters = devices.0.into_iter().filter(|(name, _)| name != "lo").map(|(name, device)| {
        let counters = InterfaceCounters {
            received_bytes: device.recv_bytes,
            sent_bytes: device.sent_bytes,
            received_packets: device.recv_packets,
            sent_packets: device.sent_packets,
            received_dropped: device.recv_drop,
            sent_dropped: device.sent_drop,
            errors: device.recv_errs.saturating_add(device.sent_errs),
        };
        (name, counters)
    });
    counters.collect()
}

/// The devices that are real: a partition, a mapping or a loop would count the same bytes again.
fn disks() -> BTreeMap<String, DiskCounters> {
    let Some(text) = text("/proc/diskstats") else { return BTreeMap::new() };
    let disks = text.lines().filter_map(disk);
    disks.filter(|(name, _)| devices::is_real(Path::new("/sys"), name)).take(MAX_DISKS).collect()
}

/// One line: major, minor, name, then what the kernel's Documentation/admin-guide/iostats.rst numbers from
/// one. Discards and flushes came with later kernels.
fn disk(line: &str) -> Option<(String, DiskCounters)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let fields: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let of = |number: usize| fields.get(number - 1).copied();
    let bytes = |number| Some(Bytes(of(number)?.saturating_mul(SECTOR)));
    let counters = DiskCounters {
        reads: of(1)?,
        writes: of(5)?,
        discards: of(12).unwrap_or(0),
        flushes: of(16).unwrap_or(0),
        read: bytes(3)?,
        written: bytes(7)?,
        busy_ms: of(10)?,
        waited_ms: of(11)?,
    };
    Some((name, counters))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to u32 saturates, and nothing here is below zero"
)]
const fn whole(number: f32) -> u32 {
    number.round() as u32
}

#[cfg(test)]
mod tests {
    use common::units::Millicores;

    use super::*;
    use crate::observe::linux::processes;

    const SUMS: Sums =
        Sums { busy_ms: 1234, resident: Bytes::mebi(40), storage: Storage { read: 7, written: 8 } };

    fn asked(cores: u32) -> Asked<'static> {
        let kernel = Kernel { cores: Some(cores), ..processes::kernel() };
        Asked { kernel, protocols: None, sums: SUMS, own: None }
    }

    #[test]
    fn the_kernels_counters_are_there_where_the_kernel_is_the_guests() {
        let counters = read(Extent::Kernel, asked(2));
        assert!(counters.cpu_busy_ms.unwrap() > 0);
        assert!(counters.memory_total.unwrap() > counters.memory_available.unwrap());
        assert_eq!(counters.cpus, Some(2));
        assert_eq!(counters.agent_cpu_ms, None);
        assert!(!counters.interfaces.contains_key("lo"));
        assert!(counters.page_cache > Some(Bytes(0)) && counters.out_of_memory_kills.is_some());
        assert!(counters.disks.keys().all(|name| !name.starts_with("loop")));
        let of_disks = counters.disks.values().map(|disk| disk.read.0).sum();
        assert_eq!(counters.disk_read.unwrap_or(Bytes(0)), Bytes(of_disks));
    }

    #[test]
    fn a_line_of_a_disk_is_read_by_kernels_old_and_new() {
        let old = " 254 0 vda 11 1 22 13 15 1 26 17 0 30 40";
        let (name, counters) = disk(&format!("{old} 5 0 80 9 6 7")).unwrap();
        let wanted = DiskCounters {
            reads: 11,
            writes: 15,
            discards: 5,
            flushes: 6,
            read: Bytes(22 * 512),
            written: Bytes(26 * 512),
            busy_ms: 30,
            waited_ms: 40,
        };
        assert_eq!((name.as_str(), counters), ("vda", wanted));
        assert_eq!(disk(old).unwrap().1, DiskCounters { discards: 0, flushes: 0, ..wanted });
        assert!(disk("254 0 vda 11").is_none() && disk("").is_none());
    }

    #[test]
    fn the_hosts_counters_are_not_taken_for_those_of_a_machine_of_namespaces() {
        let memory = Some(Bytes::mebi(64));
        let extent = Extent::Processes { cpu: Some(Millicores(1500)), memory };

        let counters = read(extent, asked(8));

        assert_eq!(counters.cpu_busy_ms, Some(1234));
        assert_eq!(counters.cpus, Some(2));
        assert_eq!(counters.memory_available, Some(Bytes::mebi(24)));
        assert_eq!(counters.disk_read, Some(Bytes(7)));
        let of_the_host = (counters.load_1_milli, counters.swap_used, counters.cpu_pressure_10);
        assert_eq!(of_the_host, (None, None, None));
    }

    #[test]
    fn memory_without_a_limit_is_unknown() {
        let asked = Asked { kernel: Kernel::default(), ..asked(1) };
        let counters = read(Extent::Processes { cpu: None, memory: None }, asked);
        assert_eq!((counters.memory_total, counters.memory_available), (None, None));
    }
}
