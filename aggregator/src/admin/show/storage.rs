//! Storage devices, as they are told.

use std::collections::BTreeMap;

use common::wire::admin::v1;

use crate::storage::{Device, Holder, Told};

/// One device of an array.
pub(crate) fn device(array: &str, device: &Device) -> v1::StorageDevice {
    let mut absent = BTreeMap::new();
    let mut told = Facts(&mut absent);
    let connections = told.fact("connections", &device.connections).unwrap_or_default();
    let texts = |list: Option<Vec<String>>| list.unwrap_or_default();
    let addresses = told.fact("addresses", &device.addresses);
    v1::StorageDevice {
        array: array.to_owned(),
        key: device.key.clone(),
        name: device.name.clone(),
        r#type: told.fact("type", &device.kind),
        bandwidth_bits_per_second: told.fact("bandwidth_bits_per_second", &device.bandwidth),
        connections: connections.iter().map(holder).collect(),
        state: told.fact("state", &device.state),
        status: told.fact("status", &device.status),
        id: told.fact("id", &device.id),
        addresses: addresses.iter().flatten().map(ToString::to_string).collect(),
        macs: texts(told.fact("macs", &device.macs)),
        routes: texts(told.fact("routes", &device.route)),
        capacity_bytes: told.fact("capacity_bytes", &device.capacity).map(|bytes| bytes.0),
        free_bytes: told.fact("free_bytes", &device.free).map(|bytes| bytes.0),
        redundancy: told.fact("redundancy", &device.redundancy),
        lies_on: device.lies_on.clone(),
        vendor: device.vendor.clone().into_iter().collect(),
        absent: absent.into_iter().collect(),
    }
}

/// Takes facts, and notes the reason of each that is not there.
struct Facts<'a>(&'a mut BTreeMap<String, String>);

impl Facts<'_> {
    fn fact<T: Clone>(&mut self, field: &str, told: &Told<T>) -> Option<T> {
        match told {
            Told::Is(fact) => Some(fact.clone()),
            Told::Not(reason) => {
                self.0.insert(field.to_owned(), reason.clone());
                None
            }
        }
    }
}

fn holder(holder: &Holder) -> v1::StorageHolder {
    v1::StorageHolder {
        initiator: holder.initiator.clone(),
        addresses: holder.addresses.iter().map(ToString::to_string).collect(),
        may_write: holder.may_write,
    }
}
