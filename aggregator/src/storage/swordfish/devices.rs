//! What the resources of an array say of its volumes and drives.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use common::{clock::Timestamp, units::Bytes};
use serde_json::Value;

use super::{
    super::{Device, Holder, Told, Totals},
    resources::{Resources, link},
};

/// A list that is empty tells nothing.
fn some<T>(list: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let list: Vec<T> = list.into_iter().collect();
    (!list.is_empty()).then_some(list)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// All volumes and drives, in order of their paths.
pub(super) fn devices(resources: &Resources) -> Vec<Device> {
    let holders = Holders::of(resources);
    let mut devices: Vec<Device> = Vec::new();
    for (path, volume) in resources.of_type("Volume") {
        devices.push(Part::volume(resources, path, volume).device(&holders));
    }
    for (path, drive) in resources.of_type("Drive") {
        devices.push(Part::drive(resources, path, drive).device(&holders));
    }
    devices.sort_by(|left, right| left.key.cmp(&right.key));
    devices
}

/// The paths of the volumes that count.
pub(super) fn counting(resources: &Resources) -> Vec<String> {
    let counting = resources.of_type("Volume").filter(|(_, v)| v["IOStatistics"].is_object());
    counting.map(|(path, _)| path.to_owned()).collect()
}

/// What one of them counts; `None` if it does not any more.
pub(super) fn totals(path: &str, volume: &[u8], now: Timestamp) -> Option<Totals> {
    let volume: Value = serde_json::from_slice(volume).ok()?;
    let counts = Some(&volume["IOStatistics"]).filter(|counts| counts.is_object())?;
    let kibibytes = |name: &str| counts[name].as_u64().map(|n| Bytes(n.saturating_mul(1024)));
    Some(Totals {
        taken_at: now,
        device: path.to_owned(),
        initiator: None,
        reads: counts["ReadIORequests"].as_u64(),
        writes: counts["WriteIORequests"].as_u64(),
        read: kibibytes("ReadIOKiBytes"),
        written: kibibytes("WriteIOKiBytes"),
        failed: None,
    })
}

/// A volume or drive with what belongs to it.
struct Part<'a> {
    path: &'a str,
    itself: &'a Value,
    is_volume: bool,
    /// The drives it lies on, or itself.
    drives: Vec<(&'a str, &'a Value)>,
    /// The controllers that give it out.
    controllers: Vec<&'a Value>,
    /// The places in the network it is reached at.
    functions: Vec<(&'a str, &'a Value)>,
    endpoints: Vec<&'a Value>,
    resources: &'a Resources,
}

impl<'a> Part<'a> {
    fn volume(resources: &'a Resources, path: &'a str, volume: &'a Value) -> Self {
        let subsystem = path.rsplit_once("/Volumes/").map_or("", |(subsystem, _)| subsystem);
        let of_subsystem = resources.at(subsystem);
        let mut drives: Vec<_> = resources.led_to(&volume["Links"]["Drives"]).collect();
        if drives.is_empty()
            && let Some(subsystem) = of_subsystem
        {
            drives = resources.led_to(&subsystem["Drives"]).collect();
        }
        let of_links = resources.led_to(&volume["Links"]["Controllers"]).map(|(_, of)| of);
        let controllers = of_links.collect();
        let part = Self {
            path,
            itself: volume,
            is_volume: true,
            drives,
            controllers,
            functions: Vec::new(),
            endpoints: Vec::new(),
            resources,
        };
        part.reached(&[subsystem, path])
    }

    fn drive(resources: &'a Resources, path: &'a str, drive: &'a Value) -> Self {
        let part = Self {
            path,
            itself: drive,
            is_volume: false,
            drives: vec![(path, drive)],
            controllers: Vec::new(),
            functions: Vec::new(),
            endpoints: Vec::new(),
            resources,
        };
        let subsystems = resources.of_type("Storage").filter(|(_, subsystem)| {
            let drives = subsystem["Drives"].as_array().map(Vec::as_slice).unwrap_or_default();
            drives.iter().filter_map(link).any(|named| named == path)
        });
        let subsystems: Vec<&str> = subsystems.map(|(path, _)| path).collect();
        let ends: Vec<&str> = subsystems.into_iter().chain([path]).collect();
        part.reached(&ends)
    }

    /// With the endpoints that lead to any of `ends`, and the functions behind those and behind
    /// its drives.
    fn reached(mut self, ends: &[&str]) -> Self {
        let mut functions: BTreeMap<&str, &Value> = BTreeMap::new();
        for (_, drive) in &self.drives {
            functions.extend(self.resources.led_to(&drive["Links"]["NetworkDeviceFunctions"]));
        }
        for (_, endpoint) in self.resources.of_type("Endpoint") {
            let entities = endpoint["ConnectedEntities"].as_array();
            let entities = entities.map(Vec::as_slice).unwrap_or_default();
            let named = entities.iter().filter_map(|entity| link(&entity["EntityLink"]));
            if !named.clone().any(|named| ends.contains(&named)) {
                continue;
            }
            self.endpoints.push(endpoint);
            for path in named {
                let at = self.resources.at(path);
                let kind = at.and_then(|at| at["@odata.type"].as_str()).unwrap_or_default();
                if let Some(function) = at.filter(|_| kind.contains("NetworkDeviceFunction")) {
                    functions.insert(path, function);
                }
            }
        }
        self.functions = functions.into_iter().collect();
        self
    }

    fn device(&self, holders: &Holders) -> Device {
        let itself = self.itself;
        let interfaces = self.interfaces();
        let vendor = ["Manufacturer", "Model", "SerialNumber", "Revision", "FirmwareVersion"];
        let vendor = vendor.iter().filter_map(|key| Some(((*key).to_owned(), text(&itself[key])?)));
        let capacity = self.capacity();
        Device {
            key: self.path.to_owned(),
            name: text(&itself["DisplayName"])
                .or_else(|| text(&itself["Name"]))
                .unwrap_or_else(|| self.path.to_owned()),
            kind: Told::or_reason(self.kind(), "neither it nor its drives tell a medium"),
            bandwidth: Told::or_reason(self.bandwidth(), "neither drive nor port tells a speed"),
            connections: self.connections(holders),
            state: Told::or_reason(text(&itself["Status"]["State"]), "it tells no state"),
            status: Told::or_reason(text(&itself["Status"]["Health"]), "it tells no health"),
            id: Told::or_reason(self.id(), "it has no durable name and no serial"),
            addresses: Told::or_reason(self.addresses(&interfaces), "no endpoint leads to it"),
            macs: Told::or_reason(self.macs(&interfaces), "no network function leads to it"),
            route: Told::or_reason(self.routes(&interfaces), "no endpoint leads to it"),
            capacity: Told::or_reason(capacity.map(Bytes), "it tells no capacity"),
            free: Told::or_reason(self.free(capacity), "it does not tell what is taken"),
            redundancy: Told::or_reason(text(&itself["RAIDType"]), "it tells no redundancy"),
            lies_on: if self.is_volume {
                self.drives.iter().map(|(path, _)| (*path).to_owned()).collect()
            } else {
                Vec::new()
            },
            vendor: vendor.collect(),
        }
    }

    fn kind(&self) -> Option<String> {
        let mut parts: BTreeSet<String> = BTreeSet::new();
        for (_, drive) in &self.drives {
            parts.extend(text(&drive["MediaType"]));
            parts.extend(text(&drive["Protocol"]));
        }
        for controller in &self.controllers {
            let spoken = controller["SupportedDeviceProtocols"].as_array();
            parts.extend(spoken.into_iter().flatten().filter_map(text));
        }
        if parts.is_empty() {
            return None;
        }
        let parts = parts.into_iter().collect::<Vec<_>>().join(", ");
        Some(if self.is_volume { format!("volume on {parts}") } else { format!("drive, {parts}") })
    }

    /// The slowest of its drives, or the fastest of its ports if that is slower still: paths add
    /// up at best, a drive does not get faster by them.
    fn bandwidth(&self) -> Option<u64> {
        let drives = self.drives.iter().filter_map(|(_, drive)| {
            drive["NegotiatedSpeedGbs"].as_f64().or_else(|| drive["CapableSpeedGbs"].as_f64())
        });
        let ports = self.functions.iter().flat_map(|(_, function)| self.ports(function));
        let ports = ports.filter_map(|port| port["CurrentSpeedGbps"].as_f64());
        let drive = drives.reduce(f64::min);
        let port = ports.reduce(f64::max);
        let slowest = [drive, port].into_iter().flatten().reduce(f64::min)?;
        gigabits(slowest)
    }

    fn ports(&self, function: &'a Value) -> impl Iterator<Item = &'a Value> {
        self.resources.led_to(&function["AssignablePhysicalNetworkPorts"]).map(|(_, port)| port)
    }

    fn connections(&self, holders: &Holders) -> Told<Vec<Holder>> {
        let volumes: Vec<&str> = if self.is_volume {
            vec![self.path]
        } else {
            let volumes = self.itself["Links"]["Volumes"].as_array();
            volumes.into_iter().flatten().filter_map(link).collect()
        };
        // One initiator may hold it by several connections: what any of them allows, it may.
        let mut held: BTreeMap<&str, Holder> = BTreeMap::new();
        for holder in volumes.iter().filter_map(|path| holders.by_volume.get(*path)).flatten() {
            match held.entry(&holder.initiator) {
                Entry::Vacant(place) => drop(place.insert(holder.clone())),
                Entry::Occupied(mut place) => {
                    let known = place.get_mut();
                    known.may_write = known.may_write.max(holder.may_write);
                    known.addresses.extend(&holder.addresses);
                    known.addresses.sort_unstable();
                    known.addresses.dedup();
                }
            }
        }
        if held.is_empty() && !holders.are_told {
            return Told::Not("the array tells no connections".to_owned());
        }
        Told::Is(held.into_values().collect())
    }

    fn id(&self) -> Option<String> {
        let named = self.itself["Identifiers"].as_array();
        let durable = named.into_iter().flatten().find_map(|id| text(&id["DurableName"]));
        durable.or_else(|| text(&self.itself["SerialNumber"]))
    }

    fn capacity(&self) -> Option<u64> {
        let data = &self.itself["Capacity"]["Data"];
        self.itself["CapacityBytes"].as_u64().or_else(|| data["AllocatedBytes"].as_u64())
    }

    fn free(&self, capacity: Option<u64>) -> Option<Bytes> {
        let consumed = self.itself["Capacity"]["Data"]["ConsumedBytes"].as_u64()?;
        Some(Bytes(capacity?.saturating_sub(consumed)))
    }

    /// The interfaces of its functions.
    fn interfaces(&self) -> Vec<&'a Value> {
        let functions = self.functions.iter();
        let of_functions = functions.flat_map(|(_, function)| {
            self.resources.members(&function["Ethernet"]["EthernetInterfaces"])
        });
        of_functions.map(|(_, interface)| interface).collect()
    }

    fn addresses(&self, interfaces: &[&Value]) -> Option<Vec<IpAddr>> {
        let mut found: BTreeSet<IpAddr> =
            self.endpoints.iter().flat_map(|endpoint| endpoint_addresses(endpoint)).collect();
        for interface in interfaces {
            for list in ["IPv4Addresses", "IPv6Addresses"] {
                let listed = interface[list].as_array().into_iter().flatten();
                found.extend(
                    listed
                        .filter_map(|address| address["Address"].as_str()?.parse::<IpAddr>().ok()),
                );
            }
        }
        some(found)
    }

    fn macs(&self, interfaces: &[&Value]) -> Option<Vec<String>> {
        let functions = self.functions.iter().map(|(_, function)| &function["Ethernet"]);
        let shown = functions.chain(interfaces.iter().copied());
        let macs = shown.filter_map(|at| text(&at["MACAddress"])).map(|mac| mac.to_lowercase());
        some(macs.collect::<BTreeSet<_>>())
    }

    fn routes(&self, interfaces: &[&Value]) -> Option<Vec<String>> {
        let mut routes = BTreeSet::new();
        let unit = self.itself["LogicalUnitNumber"].as_u64();
        for endpoint in &self.endpoints {
            let protocol = text(&endpoint["EndpointProtocol"]).unwrap_or_else(|| "unknown".into());
            let named = endpoint["Identifiers"].as_array().into_iter().flatten();
            let target = named.filter_map(|id| text(&id["DurableName"])).next();
            let ways = endpoint["IPTransportDetails"].as_array().into_iter().flatten();
            for way in ways {
                let Some(address) = transport_address(way) else { continue };
                let mut route = format!("{protocol} {address}");
                if let Some(port) = way["Port"].as_u64() {
                    route = format!("{protocol} {address} port {port}");
                }
                if let Some(target) = &target {
                    route = format!("{route} target {target}");
                }
                if let Some(unit) = unit {
                    route = format!("{route} unit {unit}");
                }
                routes.insert(route);
            }
        }
        for interface in interfaces {
            let listed = interface["IPv4Addresses"].as_array().into_iter().flatten();
            routes.extend(listed.filter_map(|address| {
                let (at, gateway) = (text(&address["Address"])?, text(&address["Gateway"])?);
                Some(format!("{at} by gateway {gateway}"))
            }));
        }
        some(routes)
    }
}

/// Bits per second. Speeds come as numbers of any size from outside.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates"
)]
fn gigabits(speed: f64) -> Option<u64> {
    (speed.is_finite() && speed > 0.0).then_some((speed * 1e9) as u64)
}

fn transport_address(way: &Value) -> Option<IpAddr> {
    let at =
        way["IPv4Address"]["Address"].as_str().or_else(|| way["IPv6Address"]["Address"].as_str());
    at?.parse().ok()
}

fn endpoint_addresses(endpoint: &Value) -> impl Iterator<Item = IpAddr> {
    endpoint["IPTransportDetails"].as_array().into_iter().flatten().filter_map(transport_address)
}

/// Who holds which volume, by the connections of the fabrics.
struct Holders {
    by_volume: BTreeMap<String, BTreeSet<Holder>>,
    are_told: bool,
}

impl Holders {
    fn of(resources: &Resources) -> Self {
        let mut holders = Self { by_volume: BTreeMap::new(), are_told: false };
        for (_, connection) in resources.of_type("Connection") {
            holders.are_told = true;
            let initiators = Self::initiators(resources, connection);
            for info in connection["VolumeInfo"].as_array().into_iter().flatten() {
                let Some(volume) = link(&info["Volume"]) else { continue };
                let may_write = info["AccessCapabilities"].as_array().map(|capabilities| {
                    capabilities.iter().any(|capability| capability == "Write")
                });
                let held = holders.by_volume.entry(volume.to_owned()).or_default();
                held.extend(initiators.iter().map(|(initiator, addresses)| Holder {
                    initiator: initiator.clone(),
                    addresses: addresses.clone(),
                    may_write,
                }));
            }
        }
        holders
    }

    fn initiators(resources: &Resources, connection: &Value) -> Vec<(String, Vec<IpAddr>)> {
        let links = &connection["Links"];
        let groups = resources.led_to(&links["InitiatorEndpointGroups"]);
        let of_groups =
            groups.flat_map(|(_, group)| resources.led_to(&group["Links"]["Endpoints"]));
        let alone = resources.led_to(&links["InitiatorEndpoints"]);
        let each = alone.chain(of_groups).map(|(path, endpoint)| {
            let named = endpoint["Identifiers"].as_array().into_iter().flatten();
            let name = named.filter_map(|id| text(&id["DurableName"])).next();
            let addresses = endpoint_addresses(endpoint).collect();
            (name.unwrap_or_else(|| path.to_owned()), addresses)
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_counts_tells_what_it_counted() {
        let volume = br#"{"IOStatistics": {"ReadIORequests": 3, "WriteIORequests": 5,
            "ReadIOKiBytes": 2, "WriteIOKiBytes": 1}}"#;
        let now = Timestamp::from_millis(1_800_000_000_000);

        let told = totals("/redfish/v1/Storage/1/Volumes/1", volume, now).unwrap();

        assert_eq!((told.reads, told.writes, told.failed), (Some(3), Some(5), None));
        assert_eq!((told.read, told.written), (Some(Bytes(2048)), Some(Bytes(1024))));
        assert_eq!(totals("/redfish/v1/Storage/1/Volumes/1", b"{}", now), None);
    }

    #[test]
    fn an_array_that_tells_nothing_has_a_reason_for_each_fact() {
        let mut resources = Resources::default();
        let volume = br##"{"@odata.type": "#Volume.v1_0_0.Volume", "Name": "bare"}"##;
        resources.take("/redfish/v1/Storage/1/Volumes/1", volume.to_vec());

        let [bare] = devices(&resources).try_into().unwrap();

        assert_eq!(bare.bandwidth, Told::Not("neither drive nor port tells a speed".into()));
        assert_eq!(bare.connections, Told::Not("the array tells no connections".into()));
        assert_eq!(bare.status, Told::Not("it tells no health".into()));
    }
}
