//! The facts of a guest: what names it, what it is made of, what storage it has.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    BadMessage,
    field::{Field, conversion, cut, cut_path, millis, or_empty, some},
    types::v1,
};
use crate::{
    sample::{BlockDevice, Facts, FileSystem, Interface, RemoteStorage, Route},
    units::Bytes,
};

conversion! {
    v1::Facts => Facts, facts;
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
        block_devices: field.of("block_devices").rows(wire.block_devices, block_device)?,
        remote_storage: field.of("remote_storage").rows(wire.remote_storage, remote_storage)?,
        run_level: known("run_level", wire.run_level)?,
    })
}

impl From<&Facts> for v1::Facts {
    fn from(facts: &Facts) -> Self {
        let known = |text: &Option<String>| or_empty(text.as_ref());
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
            block_devices: facts.block_devices.iter().map(Into::into).collect(),
            remote_storage: facts.remote_storage.iter().map(Into::into).collect(),
            run_level: known(&facts.run_level),
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
            mac: or_empty(interface.mac.as_ref()),
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

fn block_device(wire: v1::BlockDevice, field: &Field<'_>) -> Result<BlockDevice, BadMessage> {
    let known = |name, text| Ok::<_, BadMessage>(some(field.of(name).text(text)?));
    Ok(BlockDevice {
        name: field.of("name").text(wire.name)?,
        size: Bytes(wire.size_bytes),
        serial: known("serial", wire.serial)?,
        wwn: known("wwn", wire.wwn)?,
        model: known("model", wire.model)?,
        bus: known("bus", wire.bus)?,
        rotational: wire.rotational,
    })
}

impl From<&BlockDevice> for v1::BlockDevice {
    fn from(device: &BlockDevice) -> Self {
        Self {
            name: cut(&device.name),
            size_bytes: device.size.0,
            serial: or_empty(device.serial.as_ref()),
            wwn: or_empty(device.wwn.as_ref()),
            model: or_empty(device.model.as_ref()),
            bus: or_empty(device.bus.as_ref()),
            rotational: device.rotational,
        }
    }
}

fn remote_storage(wire: v1::RemoteStorage, field: &Field<'_>) -> Result<RemoteStorage, BadMessage> {
    let address = field.of("address");
    Ok(RemoteStorage {
        kind: field.of("kind").text(wire.kind)?,
        server: field.of("server").text(wire.server)?,
        address: address.parsed_if_any::<IpAddr>(&wire.address, "send an address")?,
        source: field.of("source").path(wire.source)?,
        place: field.of("place").path(wire.place)?,
    })
}

impl From<&RemoteStorage> for v1::RemoteStorage {
    fn from(storage: &RemoteStorage) -> Self {
        Self {
            kind: cut(&storage.kind),
            server: cut(&storage.server),
            address: storage.address.map(|address| address.to_string()).unwrap_or_default(),
            source: cut_path(&storage.source),
            place: cut_path(&storage.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_prefix_is_named_with_its_row() {
        let interface = v1::Interface { addresses: vec!["10.0.0.1".into()], ..Default::default() };
        let wire = v1::Facts { interfaces: vec![interface], ..Default::default() };
        let told = Facts::try_from(wire).unwrap_err();
        assert_eq!(told.field, "interfaces[0].addresses[0]");
    }

    #[test]
    fn an_address_of_remote_storage_that_is_none_is_named() {
        let nfs = v1::RemoteStorage { address: "filer".into(), ..Default::default() };
        let wire = v1::Facts { remote_storage: vec![nfs], ..Default::default() };
        let told = Facts::try_from(wire).unwrap_err();
        assert_eq!(told.to_string(), "remote_storage[0].address is filer; send an address");
    }

    #[test]
    fn facts_that_are_unknown_come_back_unknown() {
        let facts = Facts::default();
        assert_eq!(Facts::try_from(v1::Facts::from(&facts)), Ok(facts));
    }
}
