//! `TelemetryIntakeService`: what collectors of others saw. A push is taken in whole or not at all;
//! what is wrong with it is named with its field, so that the collector's author can mend it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use common::{
    units::Bytes,
    wire::admin::v1::{self, telemetry_intake_service_server::TelemetryIntakeService},
};
use tonic::{Code, Request, Response, Status};
use tracing::debug;

use super::{
    Admin,
    change::actor,
    refusal::{self, bad_field, missing},
    show,
};
use crate::{
    access,
    repository::Logged,
    storage::{Device, Holder, Told, Totals},
};

/// Devices of one array: as many as its push has room for.
const MOST_DEVICES: usize = 10_000;
/// Totals of one array: a few holders a device.
const MOST_TOTALS: usize = 50_000;
/// Longest text of a fact, in bytes.
const LONGEST_TEXT: usize = 512;
/// Entries of one list within a device.
const MOST_ENTRIES: usize = 1_024;
/// What is said of a fact that a collector left out without saying why.
const UNSAID: &str = "its collector left it out";

#[tonic::async_trait]
impl TelemetryIntakeService for Admin {
    async fn push_storage(
        &self,
        request: Request<v1::PushStorageRequest>,
    ) -> Result<Response<v1::PushStorageResponse>, Status> {
        let by = actor(&request)?;
        let push = request.into_inner();
        let array = self.pushed.get_key_value(&push.array).map(|(name, _)| name.clone());
        let outcome = self.take_push(&by, push);
        let at = self.clock.now();
        let note = self.0.pushes.note(&by, array.as_deref(), at, &outcome);
        if let Some((action, detail)) = note {
            let (action, subject) = (action.to_owned(), array.unwrap_or_else(|| "storage".into()));
            let logged = Logged { at, actor: by, action, subject, detail };
            self.repository.log(logged).await.map_err(refusal::repository)?;
        }
        outcome.map(Response::new)
    }
}

impl Admin {
    /// Takes a push in, whole or not at all.
    fn take_push(
        &self,
        by: &str,
        push: v1::PushStorageRequest,
    ) -> Result<v1::PushStorageResponse, Status> {
        let v1::PushStorageRequest { array, devices, totals } = push;
        let Some(pushed) = self.pushed.get(&array) else {
            let named: String = array.chars().take(LONGEST_TEXT).collect();
            return Err(missing("[[storage]] of kind \"pushed\" named", &named, "storage"));
        };
        if !pushed.is_told_of_by(by) {
            let told = format!("{array} is told of by others; its collectors name who they are");
            return Err(access::refused(Code::PermissionDenied, "NOT_ITS_COLLECTOR", told));
        }
        let devices = checked_devices(&array, devices)?;
        let totals = checked_totals(&devices, totals)?;
        let (of, counted) = (devices.len(), totals.len());
        let at = Arc::clone(pushed).take(devices, totals);
        debug!(%array, by, devices = of, totals = counted, "push taken in");
        let away_after = u32::try_from(pushed.away_after().as_secs()).unwrap_or(u32::MAX);
        Ok(v1::PushStorageResponse {
            taken_in_unix_ms: show::moment(at),
            away_after_seconds: away_after,
        })
    }
}

fn checked_devices(array: &str, said: Vec<v1::StorageDevice>) -> Result<Vec<Device>, Status> {
    at_most("devices", said.len(), MOST_DEVICES)?;
    let mut keys = BTreeSet::new();
    let mut devices = Vec::with_capacity(said.len());
    for (number, each) in said.into_iter().enumerate() {
        let field = |name: &str| format!("devices[{number}].{name}");
        if !(each.array.is_empty() || each.array == array) {
            let remedy = format!("is {:?}; leave it out or write {array:?}", cut(&each.array));
            return Err(bad_field(&field("array"), remedy));
        }
        if each.key.is_empty() || !keys.insert(each.key.clone()) {
            let remedy = format!("is {:?}; write a key that no other device has", cut(&each.key));
            return Err(bad_field(&field("key"), remedy));
        }
        devices.push(device(each, &field)?);
    }
    Ok(devices)
}

fn device(said: v1::StorageDevice, field: &dyn Fn(&str) -> String) -> Result<Device, Status> {
    texts_fit(&said, field)?;
    let absent = said.absent;
    let reason = |name: &str| absent.get(name).map_or(UNSAID, String::as_str).to_owned();
    let addresses = addresses(&said.addresses, &field("addresses"))?;
    let macs = macs(said.macs, &field("macs"))?;
    let mut holders = Vec::with_capacity(said.connections.len());
    for holder in said.connections {
        let addresses = self::addresses(&holder.addresses, &field("connections.addresses"))?;
        let (initiator, may_write) = (holder.initiator, holder.may_write);
        if initiator.is_empty() {
            let told = "is empty; write the holder's name at the array, such as its IQN";
            return Err(bad_field(&field("connections.initiator"), told));
        }
        holders.push(Holder { initiator, addresses, may_write });
    }
    let name = if said.name.is_empty() { said.key.clone() } else { said.name };
    Ok(Device {
        key: said.key,
        name,
        kind: Told::or_reason(said.r#type, &reason("type")),
        bandwidth: Told::or_reason(
            said.bandwidth_bits_per_second,
            &reason("bandwidth_bits_per_second"),
        ),
        connections: list(holders, absent.get("connections")),
        state: Told::or_reason(said.state, &reason("state")),
        status: Told::or_reason(said.status, &reason("status")),
        id: Told::or_reason(said.id, &reason("id")),
        addresses: list(addresses, absent.get("addresses")),
        macs: list(macs, absent.get("macs")),
        route: list(said.routes, absent.get("routes")),
        capacity: Told::or_reason(said.capacity_bytes.map(Bytes), &reason("capacity_bytes")),
        free: Told::or_reason(said.free_bytes.map(Bytes), &reason("free_bytes")),
        redundancy: Told::or_reason(said.redundancy, &reason("redundancy")),
        lies_on: said.lies_on,
        vendor: said.vendor.into_iter().collect(),
    })
}

/// A list that is empty on the wire is none unless it has no reason: a volume may have no holder.
fn list<T>(entries: Vec<T>, absent: Option<&String>) -> Told<Vec<T>> {
    match absent {
        Some(reason) if entries.is_empty() => Told::Not(reason.clone()),
        _ => Told::Is(entries),
    }
}

fn checked_totals(devices: &[Device], said: Vec<v1::StorageTotals>) -> Result<Vec<Totals>, Status> {
    at_most("totals", said.len(), MOST_TOTALS)?;
    let known: BTreeSet<&str> = devices.iter().map(|device| device.key.as_str()).collect();
    let mut seen = BTreeSet::new();
    let mut totals = Vec::with_capacity(said.len());
    for (number, each) in said.into_iter().enumerate() {
        if !known.contains(each.device.as_str()) {
            let told = format!("is {:?}; write the key of one of the devices", cut(&each.device));
            return Err(bad_field(&format!("totals[{number}].device"), told));
        }
        fits(&format!("totals[{number}].initiator"), &each.initiator)?;
        if !seen.insert((each.device.clone(), each.initiator.clone())) {
            let told = "stands there twice for one device; add its totals up";
            return Err(bad_field(&format!("totals[{number}].initiator"), told));
        }
        totals.push(Totals {
            device: each.device,
            initiator: Some(each.initiator).filter(|initiator| !initiator.is_empty()),
            reads: each.reads,
            writes: each.writes,
            read: each.read_bytes.map(Bytes),
            written: each.written_bytes.map(Bytes),
            failed: each.failed,
            ..Totals::default()
        });
    }
    Ok(totals)
}

fn addresses(said: &[String], field: &str) -> Result<Vec<IpAddr>, Status> {
    let parsed = said.iter().map(|address| {
        let told = || format!("is {:?}; write an IPv4 or IPv6 address", cut(address));
        address.parse().map_err(|_| bad_field(field, told()))
    });
    parsed.collect()
}

fn macs(said: Vec<String>, field: &str) -> Result<Vec<String>, Status> {
    let is_mac = |mac: &str| {
        let pairs: Vec<&str> = mac.split(':').collect();
        let is_pair = |pair: &&str| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok();
        pairs.len() == 6 && pairs.iter().all(is_pair)
    };
    let checked = said.into_iter().map(|mac| {
        let told = || format!("is {:?}; write six pairs of hex digits with colons", cut(&mac));
        if is_mac(&mac) { Ok(mac.to_lowercase()) } else { Err(bad_field(field, told())) }
    });
    checked.collect()
}

fn texts_fit(said: &v1::StorageDevice, field: &dyn Fn(&str) -> String) -> Result<(), Status> {
    let optional = [
        ("type", &said.r#type),
        ("state", &said.state),
        ("status", &said.status),
        ("id", &said.id),
        ("redundancy", &said.redundancy),
    ];
    for (name, text) in optional {
        fits(&field(name), text.as_deref().unwrap_or_default())?;
    }
    fits(&field("key"), &said.key)?;
    fits(&field("name"), &said.name)?;
    let lists = [
        ("routes", &said.routes),
        ("lies_on", &said.lies_on),
        ("addresses", &said.addresses),
        ("macs", &said.macs),
    ];
    for (name, entries) in lists {
        at_most(&field(name), entries.len(), MOST_ENTRIES)?;
        entries.iter().try_for_each(|entry| fits(&field(name), entry))?;
    }
    for (name, pairs) in [("vendor", &said.vendor), ("absent", &said.absent)] {
        at_most(&field(name), pairs.len(), MOST_ENTRIES)?;
        let mut texts = pairs.iter().flat_map(|(key, value)| [key, value]);
        texts.try_for_each(|text| fits(&field(name), text))?;
    }
    at_most(&field("connections"), said.connections.len(), MOST_ENTRIES)?;
    let most = said.connections.iter().map(|holder| holder.addresses.len()).max();
    at_most(&field("connections.addresses"), most.unwrap_or(0), MOST_ENTRIES)?;
    let mut initiators = said.connections.iter().map(|holder| &holder.initiator);
    initiators.try_for_each(|initiator| fits(&field("connections.initiator"), initiator))
}

fn fits(field: &str, text: &str) -> Result<(), Status> {
    if text.len() > LONGEST_TEXT {
        let told = format!("has {} bytes; {LONGEST_TEXT} are allowed", text.len());
        return Err(bad_field(field, told));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(bad_field(
            field,
            format!("has the control character {control:?}; leave it out"),
        ));
    }
    Ok(())
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Status> {
    if count > most {
        return Err(bad_field(field, format!("has {count} entries; {most} are allowed")));
    }
    Ok(())
}

/// A value as an error quotes it.
fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(key: &str) -> v1::StorageDevice {
        v1::StorageDevice { key: key.to_owned(), ..v1::StorageDevice::default() }
    }

    #[test]
    fn what_is_shown_of_a_device_can_be_handed_in_again() {
        let mut given = said("lun-1");
        given.state = Some("Enabled".to_owned());
        given.macs = vec!["00:0C:29:9A:98:01".to_owned()];
        given.absent.insert("capacity_bytes".to_owned(), "thin, without a limit".to_owned());
        given.connections =
            vec![v1::StorageHolder { initiator: "iqn.x".to_owned(), ..Default::default() }];

        let [device] = checked_devices("filer", vec![given]).unwrap().try_into().unwrap();

        assert_eq!(device.state, Told::Is("Enabled".to_owned()));
        assert_eq!(device.macs, Told::Is(vec!["00:0c:29:9a:98:01".to_owned()]));
        assert_eq!(device.capacity, Told::Not("thin, without a limit".to_owned()));
        assert_eq!(device.status, Told::Not(UNSAID.to_owned()));
        let again = show::storage::device("filer", &device);
        assert_eq!(checked_devices("filer", vec![again]).unwrap(), [device]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let told = |devices: Vec<v1::StorageDevice>, totals: Vec<v1::StorageTotals>| {
            let checked = checked_devices("filer", devices)
                .and_then(|devices| checked_totals(&devices, totals));
            checked.unwrap_err().message().to_owned()
        };
        let twice = told(vec![said("a"), said("a")], Vec::new());
        assert!(twice.starts_with("devices[1].key: is \"a\""), "{twice}");
        let other = v1::StorageDevice { array: "x".to_owned(), ..said("a") };
        assert!(told(vec![other], Vec::new()).starts_with("devices[0].array"));
        let far = v1::StorageDevice { addresses: vec!["host".to_owned()], ..said("a") };
        assert!(told(vec![far], Vec::new()).contains("write an IPv4 or IPv6 address"));
        let mac = v1::StorageDevice { macs: vec!["00-0c".to_owned()], ..said("a") };
        assert!(told(vec![mac], Vec::new()).starts_with("devices[0].macs"));
        let shown = v1::StorageDevice { name: "\u{1b}[2J".to_owned(), ..said("a") };
        assert!(told(vec![shown], Vec::new()).contains("control character"));
        let long = v1::StorageDevice { status: Some("x".repeat(513)), ..said("a") };
        assert!(told(vec![long], Vec::new()).contains("has 513 bytes; 512 are allowed"));
        let stray = v1::StorageTotals { device: "b".to_owned(), ..Default::default() };
        assert!(told(vec![said("a")], vec![stray]).starts_with("totals[0].device"));
        let of_a = v1::StorageTotals { device: "a".to_owned(), ..Default::default() };
        let twice = told(vec![said("a")], vec![of_a.clone(), of_a]);
        assert!(twice.starts_with("totals[1].initiator"), "{twice}");
    }
}
