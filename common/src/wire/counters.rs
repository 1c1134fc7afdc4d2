//! The counters of a whole guest: what could not be read stays unknown.

use super::{
    BadMessage,
    field::{Field, by_name, conversion, cut},
    types::v1,
};
use crate::{
    sample::{Counters, DiskCounters, InterfaceCounters, ProtocolCounters},
    units::Bytes,
};

conversion! {
    v1::Counters => Counters, counters;
}

pub(super) fn counters(wire: v1::Counters, field: &Field<'_>) -> Result<Counters, BadMessage> {
    let (place, disks) = (field.of("interfaces"), field.of("disks"));
    let interfaces = place.rows(wire.interfaces, interface_counters)?;
    Ok(Counters {
        cpu_busy_ms: wire.cpu_busy_ms,
        cpus: wire.cpus,
        load_1_milli: wire.load_1_milli,
        memory_total: wire.memory_total_bytes.map(Bytes),
        memory_available: wire.memory_available_bytes.map(Bytes),
        swap_used: wire.swap_used_bytes.map(Bytes),
        cpu_pressure_10: wire.cpu_pressure_10,
        memory_pressure_10: wire.memory_pressure_10,
        interfaces: by_name(interfaces, &place)?,
        protocols: wire.protocols.map(Into::into),
        disk_read: wire.disk_read_bytes.map(Bytes),
        disk_written: wire.disk_written_bytes.map(Bytes),
        agent_cpu_ms: wire.agent_cpu_ms,
        agent_resident: wire.agent_resident_bytes.map(Bytes),
        storage_pressure_10: wire.storage_pressure_10,
        page_cache: wire.page_cache_bytes.map(Bytes),
        out_of_memory_kills: wire.out_of_memory_kills,
        disks: by_name(disks.rows(wire.disks, disk_counters)?, &disks)?,
    })
}

impl From<&Counters> for v1::Counters {
    fn from(counters: &Counters) -> Self {
        let bytes = |amount: Option<Bytes>| amount.map(|bytes| bytes.0);
        let interfaces = counters.interfaces.iter();
        Self {
            cpu_busy_ms: counters.cpu_busy_ms,
            cpus: counters.cpus,
            load_1_milli: counters.load_1_milli,
            memory_total_bytes: bytes(counters.memory_total),
            memory_available_bytes: bytes(counters.memory_available),
            swap_used_bytes: bytes(counters.swap_used),
            cpu_pressure_10: counters.cpu_pressure_10,
            memory_pressure_10: counters.memory_pressure_10,
            interfaces: interfaces.map(wire_interface_counters).collect(),
            protocols: counters.protocols.as_ref().map(Into::into),
            disk_read_bytes: bytes(counters.disk_read),
            disk_written_bytes: bytes(counters.disk_written),
            agent_cpu_ms: counters.agent_cpu_ms,
            agent_resident_bytes: bytes(counters.agent_resident),
            storage_pressure_10: counters.storage_pressure_10,
            page_cache_bytes: bytes(counters.page_cache),
            out_of_memory_kills: counters.out_of_memory_kills,
            disks: counters.disks.iter().map(wire_disk_counters).collect(),
        }
    }
}

fn interface_counters(
    wire: v1::InterfaceCounters,
    field: &Field<'_>,
) -> Result<(String, InterfaceCounters), BadMessage> {
    let counters = InterfaceCounters {
        received_bytes: wire.received_bytes,
        sent_bytes: wire.sent_bytes,
        received_packets: wire.received_packets,
        sent_packets: wire.sent_packets,
        received_dropped: wire.received_dropped,
        sent_dropped: wire.sent_dropped,
        errors: wire.errors,
    };
    Ok((field.of("name").text(wire.name)?, counters))
}

fn wire_interface_counters(
    (name, counters): (&String, &InterfaceCounters),
) -> v1::InterfaceCounters {
    v1::InterfaceCounters {
        name: cut(name),
        received_bytes: counters.received_bytes,
        sent_bytes: counters.sent_bytes,
        received_packets: counters.received_packets,
        sent_packets: counters.sent_packets,
        received_dropped: counters.received_dropped,
        sent_dropped: counters.sent_dropped,
        errors: counters.errors,
    }
}

fn disk_counters(
    wire: v1::DiskCounters,
    field: &Field<'_>,
) -> Result<(String, DiskCounters), BadMessage> {
    let counters = DiskCounters {
        reads: wire.reads,
        writes: wire.writes,
        discards: wire.discards,
        flushes: wire.flushes,
        read: Bytes(wire.read_bytes),
        written: Bytes(wire.written_bytes),
        busy_ms: wire.busy_ms,
        waited_ms: wire.waited_ms,
    };
    Ok((field.of("name").text(wire.name)?, counters))
}

fn wire_disk_counters((name, counters): (&String, &DiskCounters)) -> v1::DiskCounters {
    v1::DiskCounters {
        name: cut(name),
        reads: counters.reads,
        writes: counters.writes,
        discards: counters.discards,
        flushes: counters.flushes,
        read_bytes: counters.read.0,
        written_bytes: counters.written.0,
        busy_ms: counters.busy_ms,
        waited_ms: counters.waited_ms,
    }
}

impl From<v1::ProtocolCounters> for ProtocolCounters {
    fn from(wire: v1::ProtocolCounters) -> Self {
        Self {
            tcp_active_opens: wire.tcp_active_opens,
            tcp_passive_opens: wire.tcp_passive_opens,
            tcp_attempt_failures: wire.tcp_attempt_failures,
            tcp_resets: wire.tcp_resets,
            tcp_segments_received: wire.tcp_segments_received,
            tcp_segments_sent: wire.tcp_segments_sent,
            tcp_segments_retransmitted: wire.tcp_segments_retransmitted,
            udp_datagrams_received: wire.udp_datagrams_received,
            udp_datagrams_sent: wire.udp_datagrams_sent,
            ip_packets_received: wire.ip_packets_received,
            ip_packets_sent: wire.ip_packets_sent,
            ip_packets_discarded: wire.ip_packets_discarded,
            tcp_established: wire.tcp_established,
            tcp_listen_overflows: wire.tcp_listen_overflows,
            tcp_listen_drops: wire.tcp_listen_drops,
            udp_errors: wire.udp_errors,
            icmp_received: wire.icmp_received,
            icmp_sent: wire.icmp_sent,
        }
    }
}

impl From<&ProtocolCounters> for v1::ProtocolCounters {
    fn from(counters: &ProtocolCounters) -> Self {
        Self {
            tcp_active_opens: counters.tcp_active_opens,
            tcp_passive_opens: counters.tcp_passive_opens,
            tcp_attempt_failures: counters.tcp_attempt_failures,
            tcp_resets: counters.tcp_resets,
            tcp_segments_received: counters.tcp_segments_received,
            tcp_segments_sent: counters.tcp_segments_sent,
            tcp_segments_retransmitted: counters.tcp_segments_retransmitted,
            udp_datagrams_received: counters.udp_datagrams_received,
            udp_datagrams_sent: counters.udp_datagrams_sent,
            ip_packets_received: counters.ip_packets_received,
            ip_packets_sent: counters.ip_packets_sent,
            ip_packets_discarded: counters.ip_packets_discarded,
            tcp_established: counters.tcp_established,
            tcp_listen_overflows: counters.tcp_listen_overflows,
            tcp_listen_drops: counters.tcp_listen_drops,
            udp_errors: counters.udp_errors,
            icmp_received: counters.icmp_received,
            icmp_sent: counters.icmp_sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_nobody_could_read_stays_unknown() {
        let counters = Counters { cpu_busy_ms: Some(0), ..Counters::default() };
        let back = Counters::try_from(v1::Counters::from(&counters)).unwrap();
        assert_eq!(back, counters);
        assert_eq!(back.memory_total, None);
    }

    #[test]
    fn an_interface_counted_twice_is_refused() {
        let eth0 = v1::InterfaceCounters { name: "eth0".into(), ..Default::default() };
        let wire = v1::Counters { interfaces: vec![eth0.clone(), eth0], ..Default::default() };
        assert!(Counters::try_from(wire).unwrap_err().to_string().contains("naming eth0 twice"));
    }
}
