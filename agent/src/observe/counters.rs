//! The guest's counters, as far as its extent makes them its own.
//!
//! Memory and swap come from sysinfo, all else from procfs. Network counters belong to the network
//! namespace and are right in every extent; CPU, load, pressure, swap and block devices belong to the
//! kernel and are left unknown, or summed up from processes, where the kernel is not the guest's.

use std::{collections::BTreeMap, path::Path};

use common::{
    sample::{Counters, InterfaceCounters, ProtocolCounters},
    units::Bytes,
};
use procfs::{Current, CurrentSI};
use sysinfo::{MemoryRefreshKind, System};

use super::{
    extent::Extent,
    processes::{Seen, Storage},
};

/// Bytes of a sector in /proc/diskstats, whatever the device's own are.
const SECTOR: u64 = 512;

/// What is summed up from the processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// CPU of all processes so far, living and ended.
    pub(super) busy_ms: u64,
    /// Resident memory of the living.
    pub(super) resident: Bytes,
    /// Bytes moved so far, as far as processes may be asked.
    pub(super) storage: Storage,
}

/// Reads the counters; `cores` is how many the kernel runs.
pub(super) fn read(extent: Extent, cores: Option<u32>, sums: Sums, own: Option<&Seen>) -> Counters {
    let mut counters = match extent {
        Extent::Kernel => of_kernel(),
        Extent::Processes { memory, .. } => of_processes(memory, sums),
    };
    counters.cpus = extent.cores(cores);
    counters.interfaces = interfaces();
    counters.protocols = protocols();
    counters.agent_cpu_ms = own.map(|own| own.cpu_ms);
    counters.agent_resident = own.map(|own| own.resident);
    counters
}

fn of_kernel() -> Counters {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    // sysinfo says zero for what it could not read, and no machine has no memory.
    let memory_total = Some(system.total_memory()).filter(|total| *total > 0);
    let (disk_read, disk_written) = disks().unzip();
    Counters {
        cpu_busy_ms: busy_ms(),
        load_1_milli: procfs::LoadAverage::current().ok().map(|load| whole(load.one * 1000.0)),
        memory_total: memory_total.map(Bytes),
        memory_available: memory_total.map(|_| Bytes(system.available_memory())),
        swap_used: memory_total.map(|_| Bytes(system.used_swap())),
        cpu_pressure_10: procfs::CpuPressure::current().ok().map(|it| whole(it.some.avg10 * 100.0)),
        memory_pressure_10: procfs::MemoryPressure::current()
            .ok()
            .map(|it| whole(it.some.avg10 * 100.0)),
        disk_read,
        disk_written,
        ..Counters::default()
    }
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

/// Time not idle, not waiting for storage, not taken by the host.
fn busy_ms() -> Option<u64> {
    let total = procfs::KernelStats::current().ok()?.total;
    let interrupts = total.irq_ms().unwrap_or(0) + total.softirq_ms().unwrap_or(0);
    Some(total.user_ms() + total.nice_ms() + total.system_ms() + interrupts)
}

fn interfaces() -> BTreeMap<String, InterfaceCounters> {
    let Ok(devices) = procfs::net::dev_status() else { return BTreeMap::new() };
    let counters = devices.into_iter().filter(|(name, _)| name != "lo").map(|(name, device)| {
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

fn protocols() -> Option<ProtocolCounters> {
    let snmp = procfs::net::snmp().ok()?;
    Some(ProtocolCounters {
        tcp_active_opens: snmp.tcp_active_opens,
        tcp_passive_opens: snmp.tcp_passive_opens,
        tcp_attempt_failures: snmp.tcp_attempt_fails,
        tcp_resets: snmp.tcp_estab_resets,
        tcp_segments_received: snmp.tcp_in_segs,
        tcp_segments_sent: snmp.tcp_out_segs,
        tcp_segments_retransmitted: snmp.tcp_retrans_segs,
        udp_datagrams_received: snmp.udp_in_datagrams,
        udp_datagrams_sent: snmp.udp_out_datagrams,
    })
}

/// Read and written over all devices that are real: a partition, a mapping or a loop would count the same
/// bytes again.
fn disks() -> Option<(Bytes, Bytes)> {
    let is_real = |name: &str| Path::new("/sys/block").join(name).join("device").exists();
    let disks = procfs::diskstats().ok()?.into_iter().filter(|disk| is_real(&disk.name));
    disks
        .map(|disk| (disk.sectors_read, disk.sectors_written))
        .reduce(|sum, disk| (sum.0.saturating_add(disk.0), sum.1.saturating_add(disk.1)))
        .map(|(read, written)| {
            (Bytes(read.saturating_mul(SECTOR)), Bytes(written.saturating_mul(SECTOR)))
        })
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

    const SUMS: Sums =
        Sums { busy_ms: 1234, resident: Bytes::mebi(40), storage: Storage { read: 7, written: 8 } };

    #[test]
    fn the_kernels_counters_are_there_where_the_kernel_is_the_guests() {
        let counters = read(Extent::Kernel, Some(2), SUMS, None);
        assert!(counters.cpu_busy_ms.unwrap() > 0);
        assert!(counters.memory_total.unwrap() > counters.memory_available.unwrap());
        assert_eq!(counters.cpus, Some(2));
        assert!(counters.protocols.is_some());
        assert_eq!(counters.agent_cpu_ms, None);
        assert!(!counters.interfaces.contains_key("lo"));
    }

    #[test]
    fn the_hosts_counters_are_not_taken_for_those_of_a_machine_of_namespaces() {
        let memory = Some(Bytes::mebi(64));
        let extent = Extent::Processes { cpu: Some(Millicores(1500)), memory };

        let counters = read(extent, Some(8), SUMS, None);

        assert_eq!(counters.cpu_busy_ms, Some(1234));
        assert_eq!(counters.cpus, Some(2));
        assert_eq!(counters.memory_available, Some(Bytes::mebi(24)));
        assert_eq!(counters.disk_read, Some(Bytes(7)));
        let of_the_host = (counters.load_1_milli, counters.swap_used, counters.cpu_pressure_10);
        assert_eq!(of_the_host, (None, None, None));
    }

    #[test]
    fn memory_without_a_limit_is_unknown() {
        let counters = read(Extent::Processes { cpu: None, memory: None }, None, SUMS, None);
        assert_eq!((counters.memory_total, counters.memory_available), (None, None));
    }
}
