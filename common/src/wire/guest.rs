//! What is said of a whole guest: facts and counters.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    BadMessage,
    field::{Field, by_name, conversion, cut, cut_path, millis, some},
    types::v1,
};
use crate::{
    sample::{Counters, Facts, FileSystem, Interface, InterfaceCounters, ProtocolCounters, Route},
    units::Bytes,
};

conversion! {
    v1::Facts => Facts, facts;
    v1::Counters => Counters, counters;
}

const NETWORK: &str = "send ADDRESS/PREFIX, such as 10.0.0.1/24";

pub(super) fn facts(wire: v1::Facts, field: &Field<'_>) -> Result<Facts, BadMessage> {
    let known = |name, text| Ok::<_, BadMessage>(some(field.of(name).text(text)?));
    let others = field.of("other");
    others.counted(wire.other.len())?;
    let other =
        wire.other.into_iter().map(|(key, value)| Ok((others.text(key)?, others.text(value)?)));
    Ok(Facts {
        product_uuid: known("product_uuid", wire.product_uuid)?.map(|id| id.to_lowercase()),
        product_serial: known("product_serial", wire.product_serial)?,
        machine_id: known("machine_id", wire.machine_id)?,
        boot_id: known("boot_id", wire.boot_id)?,
        hostname: field.of("hostname").text(wire.hostname)?,
        operating_system: field.of("operating_system").text(wire.operating_system)?,
        kernel: field.of("kernel").text(wire.kernel)?,
        architecture: field.of("architecture").text(wire.architecture)?,
        agent_version: field.of("agent_version").text(wire.agent_version)?,
        interfaces: field.of("interfaces").rows(wire.interfaces, interface)?,
        routes: field.of("routes").rows(wire.routes, route)?,
        file_systems: field.of("file_systems").rows(wire.file_systems, file_system)?,
        booted_at: field.of("booted_at_unix_ms").time(wire.booted_at_unix_ms)?,
        services_source: field.of("services_source").text(wire.services_source)?,
        connections_source: field.of("connections_source").text(wire.connections_source)?,
        other: other.collect::<Result<_, BadMessage>>()?,
    })
}

impl From<&Facts> for v1::Facts {
    fn from(facts: &Facts) -> Self {
        let known = |text: &Option<String>| text.as_deref().map(cut).unwrap_or_default();
        Self {
            product_uuid: known(&facts.product_uuid),
            product_serial: known(&facts.product_serial),
            machine_id: known(&facts.machine_id),
            boot_id: known(&facts.boot_id),
            hostname: cut(&facts.hostname),
            operating_system: cut(&facts.operating_system),
            kernel: cut(&facts.kernel),
            architecture: cut(&facts.architecture),
            agent_version: cut(&facts.agent_version),
            interfaces: facts.interfaces.iter().map(Into::into).collect(),
            routes: facts.routes.iter().map(Into::into).collect(),
            file_systems: facts.file_systems.iter().map(Into::into).collect(),
            booted_at_unix_ms: millis(facts.booted_at),
            services_source: cut(&facts.services_source),
            connections_source: cut(&facts.connections_source),
            other: facts.other.iter().map(|(key, value)| (cut(key), cut(value))).collect(),
        }
    }
}

fn interface(wire: v1::Interface, field: &Field<'_>) -> Result<Interface, BadMessage> {
    let address = |text: String, place: &Field<'_>| place.parsed::<IpNet>(&text, NETWORK);
    Ok(Interface {
        name: field.of("name").text(wire.name)?,
        mac: some(field.of("mac").text(wire.mac)?).map(|mac| mac.to_lowercase()),
        addresses: field.of("addresses").rows(wire.addresses, address)?,
        up: wire.up,
    })
}

impl From<&Interface> for v1::Interface {
    fn from(interface: &Interface) -> Self {
        Self {
            name: cut(&interface.name),
            mac: interface.mac.as_deref().map(cut).unwrap_or_default(),
            addresses: interface.addresses.iter().map(ToString::to_string).collect(),
            up: interface.up,
        }
    }
}

fn route(wire: v1::Route, field: &Field<'_>) -> Result<Route, BadMessage> {
    let hop = field.of("gateway");
    Ok(Route {
        destination: field.of("destination").parsed(&wire.destination, NETWORK)?,
        gateway: hop.parsed_if_any::<IpAddr>(&wire.gateway, "send an address")?,
        interface: field.of("interface").text(wire.interface)?,
        metric: wire.metric,
    })
}

impl From<&Route> for v1::Route {
    fn from(route: &Route) -> Self {
        Self {
            destination: route.destination.to_string(),
            gateway: route.gateway.map(|hop| hop.to_string()).unwrap_or_default(),
            interface: cut(&route.interface),
            metric: route.metric,
        }
    }
}

fn file_system(wire: v1::FileSystem, field: &Field<'_>) -> Result<FileSystem, BadMessage> {
    Ok(FileSystem {
        device: field.of("device").path(wire.device)?,
        mount_point: field.of("mount_point").path(wire.mount_point)?,
        kind: field.of("kind").text(wire.kind)?,
        total: Bytes(wire.total_bytes),
        available: Bytes(wire.available_bytes),
    })
}

impl From<&FileSystem> for v1::FileSystem {
    fn from(system: &FileSystem) -> Self {
        Self {
            device: cut_path(&system.device),
            mount_point: cut_path(&system.mount_point),
            kind: cut(&system.kind),
            total_bytes: system.total.0,
            available_bytes: system.available.0,
        }
    }
}

pub(super) fn counters(wire: v1::Counters, field: &Field<'_>) -> Result<Counters, BadMessage> {
    let place = field.of("interfaces");
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
    fn an_address_without_prefix_is_named_with_its_row() {
        let interface = v1::Interface { addresses: vec!["10.0.0.1".into()], ..Default::default() };
        let wire = v1::Facts { interfaces: vec![interface], ..Default::default() };
        let told = Facts::try_from(wire).unwrap_err();
        assert_eq!(told.field, "interfaces[0].addresses[0]");
    }

    #[test]
    fn an_interface_counted_twice_is_refused() {
        let eth0 = v1::InterfaceCounters { name: "eth0".into(), ..Default::default() };
        let wire = v1::Counters { interfaces: vec![eth0.clone(), eth0], ..Default::default() };
        assert!(Counters::try_from(wire).unwrap_err().to_string().contains("naming eth0 twice"));
    }

    #[test]
    fn facts_that_are_unknown_come_back_unknown() {
        let facts = Facts::default();
        assert_eq!(Facts::try_from(v1::Facts::from(&facts)), Ok(facts));
    }
}
