//! The guest's counters, as far as its extent makes them its own.
//!
//! Every file is read once per look. Network counters belong to the network namespace and are right in every
//! extent; CPU, load, pressure, memory and block devices belong to the kernel and are left unknown, or summed
//! up from processes, where the kernel is not the guest's.

use std::{collections::BTreeMap, path::Path};

use common::{
    sample::{Counters, DiskCounters, InterfaceCounters, ProtocolCounters},
    units::Bytes,
};
use procfs::Current;

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

/// Reads the counters; `kernel` is what was asked of it in this look already.
pub(in crate::observe) fn read(
    extent: Extent,
    kernel: Kernel,
    sums: Sums,
    own: Option<&Seen>,
) -> Counters {
    let mut counters = match extent {
        Extent::Kernel => of_kernel(kernel),
        Extent::Processes { memory, .. } => of_processes(memory, sums),
    };
    counters.cpus = extent.cores(kernel.cores);
    counters.interfaces = interfaces();
    counters.protocols = protocols();
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

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The number that follows a name at the beginning of a line.
fn value(text: &str, name: &str) -> Option<u64> {
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

/// What the network stack counted, IPv4 and IPv6 together as far as the kernel counts them apart.
fn protocols() -> Option<ProtocolCounters> {
    let snmp = text("/proc/net/snmp")?;
    let snmp6 = text("/proc/net/snmp6").unwrap_or_default();
    let extended = text("/proc/net/netstat").unwrap_or_default();
    Some(protocols_of(&snmp, &snmp6, &extended))
}

fn protocols_of(snmp: &str, snmp6: &str, extended: &str) -> ProtocolCounters {
    let (ip, tcp) = (Table::of(snmp, "Ip:"), Table::of(snmp, "Tcp:"));
    let (udp, icmp) = (Table::of(snmp, "Udp:"), Table::of(snmp, "Icmp:"));
    let listen = Table::of(extended, "TcpExt:");
    let both = |table: &Table<'_>, name: &str, of_6: &str| {
        table.get(name).map(|count| count.saturating_add(value(snmp6, of_6).unwrap_or(0)))
    };
    let discarded = [("InDiscards", "Ip6InDiscards"), ("OutDiscards", "Ip6OutDiscards")];
    let discarded = discarded.map(|(name, of_6)| both(&ip, name, of_6));
    let counted = |name| tcp.get(name).unwrap_or(0);
    ProtocolCounters {
        tcp_active_opens: counted("ActiveOpens"),
        tcp_passive_opens: counted("PassiveOpens"),
        tcp_attempt_failures: counted("AttemptFails"),
        tcp_resets: counted("EstabResets"),
        tcp_segments_received: counted("InSegs"),
        tcp_segments_sent: counted("OutSegs"),
        tcp_segments_retransmitted: counted("RetransSegs"),
        udp_datagrams_received: both(&udp, "InDatagrams", "Udp6InDatagrams").unwrap_or(0),
        udp_datagrams_sent: both(&udp, "OutDatagrams", "Udp6OutDatagrams").unwrap_or(0),
        ip_packets_received: both(&ip, "InReceives", "Ip6InReceives"),
        ip_packets_sent: both(&ip, "OutRequests", "Ip6OutRequests"),
        ip_packets_discarded: discarded[0].zip(discarded[1]).map(|(a, b)| a.saturating_add(b)),
        tcp_established: tcp.get("CurrEstab"),
        tcp_listen_overflows: listen.get("ListenOverflows"),
        tcp_listen_drops: listen.get("ListenDrops"),
        udp_errors: both(&udp, "InErrors", "Udp6InErrors"),
        icmp_received: both(&icmp, "InMsgs", "Icmp6InMsgs"),
        icmp_sent: both(&icmp, "OutMsgs", "Icmp6OutMsgs"),
    }
}

/// Two lines of /proc/net/snmp or /proc/net/netstat: the names, and below them the values.
#[derive(Debug)]
struct Table<'a> {
    names: &'a str,
    values: &'a str,
}

impl<'a> Table<'a> {
    fn of(text: &'a str, prefix: &str) -> Self {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        Self { names, values }
    }

    fn get(&self, name: &str) -> Option<u64> {
        let at = self.names.split_ascii_whitespace().position(|known| known == name)?;
        self.values.split_ascii_whitespace().nth(at)?.parse().ok()
    }
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

    fn kernel(cores: u32) -> Kernel {
        Kernel { cores: Some(cores), ..processes::kernel() }
    }

    #[test]
    fn the_kernels_counters_are_there_where_the_kernel_is_the_guests() {
        let counters = read(Extent::Kernel, kernel(2), SUMS, None);
        assert!(counters.cpu_busy_ms.unwrap() > 0);
        assert!(counters.memory_total.unwrap() > counters.memory_available.unwrap());
        assert_eq!(counters.cpus, Some(2));
        assert!(counters.protocols.is_some());
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
    fn both_families_of_the_stack_are_counted_together() {
        let snmp = "Ip: InReceives InDiscards OutRequests OutDiscards\nIp: 10 1 20 2\n\
            Icmp: InMsgs OutMsgs\nIcmp: 3 4\nIcmpMsg: InType3\nIcmpMsg: 9\n\
            Tcp: ActiveOpens CurrEstab RtoMin\nTcp: 5 6 -1\nUdp: InDatagrams InErrors\nUdp: 7 8\n";
        let snmp6 = "Ip6InReceives \t100\nUdp6InErrors 1\nIcmp6OutMsgs 10\n";
        let extended = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 11 12\n";

        let counted = protocols_of(snmp, snmp6, extended);

        assert_eq!((counted.ip_packets_received, counted.ip_packets_sent), (Some(110), Some(20)));
        assert_eq!((counted.ip_packets_discarded, counted.udp_errors), (Some(3), Some(9)));
        assert_eq!((counted.icmp_received, counted.icmp_sent), (Some(3), Some(14)));
        assert_eq!((counted.tcp_active_opens, counted.tcp_established), (5, Some(6)));
        assert_eq!((counted.tcp_listen_overflows, counted.tcp_listen_drops), (Some(11), Some(12)));
        assert_eq!(protocols_of("", "", "").udp_errors, None);
    }

    #[test]
    fn the_hosts_counters_are_not_taken_for_those_of_a_machine_of_namespaces() {
        let memory = Some(Bytes::mebi(64));
        let extent = Extent::Processes { cpu: Some(Millicores(1500)), memory };

        let counters = read(extent, kernel(8), SUMS, None);

        assert_eq!(counters.cpu_busy_ms, Some(1234));
        assert_eq!(counters.cpus, Some(2));
        assert_eq!(counters.memory_available, Some(Bytes::mebi(24)));
        assert_eq!(counters.disk_read, Some(Bytes(7)));
        let of_the_host = (counters.load_1_milli, counters.swap_used, counters.cpu_pressure_10);
        assert_eq!(of_the_host, (None, None, None));
    }

    #[test]
    fn memory_without_a_limit_is_unknown() {
        let counters =
            read(Extent::Processes { cpu: None, memory: None }, Kernel::default(), SUMS, None);
        assert_eq!((counters.memory_total, counters.memory_available), (None, None));
    }
}
