//! Counters of the whole guest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Counters of one network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct InterfaceCounters {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub sent_packets: u64,
    pub received_dropped: u64,
    pub sent_dropped: u64,
    pub errors: u64,
}

/// Protocol statistics of the network stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct ProtocolCounters {
    pub tcp_active_opens: u64,
    pub tcp_passive_opens: u64,
    pub tcp_attempt_failures: u64,
    pub tcp_resets: u64,
    pub tcp_segments_received: u64,
    pub tcp_segments_sent: u64,
    pub tcp_segments_retransmitted: u64,
    pub udp_datagrams_received: u64,
    pub udp_datagrams_sent: u64,
    pub ip_packets_received: Option<u64>,
    pub ip_packets_sent: Option<u64>,
    pub ip_packets_discarded: Option<u64>,
    pub tcp_established: Option<u64>,
    pub tcp_listen_overflows: Option<u64>,
    pub tcp_listen_drops: Option<u64>,
    pub udp_errors: Option<u64>,
    pub icmp_received: Option<u64>,
    pub icmp_sent: Option<u64>,
}

/// Counters of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    /// Operations that read.
    pub reads: u64,
    /// Operations that wrote.
    pub writes: u64,
    /// Operations that discarded.
    pub discards: u64,
    /// Operations that flushed.
    pub flushes: u64,
    /// Bytes read.
    pub read: Bytes,
    /// Bytes written.
    pub written: Bytes,
    /// Time with operations under way, in milliseconds.
    pub busy_ms: u64,
    /// Time that operations took together, in milliseconds.
    pub waited_ms: u64,
}

/// Counters of the whole guest; `None` is not known, never zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// CPU time in use over all cores since boot, in milliseconds.
    pub cpu_busy_ms: Option<u64>,
    /// Cores the guest sees.
    pub cpus: Option<u32>,
    /// One-minute load, in thousandths.
    pub load_1_milli: Option<u32>,
    /// Memory the guest has.
    pub memory_total: Option<Bytes>,
    /// Memory applications could still have, the page cache counted as free.
    pub memory_available: Option<Bytes>,
    /// Swap in use.
    pub swap_used: Option<Bytes>,
    /// Share of the last ten seconds some task waited for CPU, in hundredths of a per cent.
    pub cpu_pressure_10: Option<u32>,
    /// Share of the last ten seconds some task waited for memory, in hundredths of a per cent.
    pub memory_pressure_10: Option<u32>,
    /// Interfaces but loopback, by name.
    pub interfaces: BTreeMap<String, InterfaceCounters>,
    /// Protocol statistics.
    pub protocols: Option<ProtocolCounters>,
    /// Bytes read from block devices since boot.
    pub disk_read: Option<Bytes>,
    /// Bytes written to block devices since boot.
    pub disk_written: Option<Bytes>,
    /// The agent's own CPU time so far, in milliseconds.
    pub agent_cpu_ms: Option<u64>,
    /// The agent's own resident memory.
    pub agent_resident: Option<Bytes>,
    /// Share of the last ten seconds some task waited for storage, in hundredths of a per cent.
    pub storage_pressure_10: Option<u32>,
    /// Memory the page cache holds.
    pub page_cache: Option<Bytes>,
    /// Times the kernel killed something for want of memory since boot.
    pub out_of_memory_kills: Option<u64>,
    /// Block devices, by name.
    #[serde(default)]
    pub disks: BTreeMap<String, DiskCounters>,
}
