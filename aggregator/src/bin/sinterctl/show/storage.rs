//! Storage devices.

use common::wire::admin::v1;

use super::bytes;
use crate::print::{Printer, safe, table};

pub(crate) fn storage(_: &Printer, answer: &v1::ListStorageDevicesResponse) -> String {
    if answer.devices.is_empty() {
        return "no storage device is known; [[storage]] in the configuration names arrays\n"
            .into();
    }
    let head =
        ["array", "device", "type", "bandwidth", "capacity", "free", "state", "status", "held by"];
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| safe(text));
    let rows = answer.devices.iter().map(|device| {
        let holders = device.connections.iter().map(|holder| safe(&holder.initiator));
        let held_by = holders.collect::<Vec<_>>().join("\n");
        let is_told = !device.absent.contains_key("connections");
        [
            safe(&device.array),
            format!("{}\n{}", safe(&device.name), safe(&device.key)),
            or_dash(device.r#type.as_ref()),
            device.bandwidth_bits_per_second.map_or_else(|| "-".to_owned(), speed),
            bytes(device.capacity_bytes),
            bytes(device.free_bytes),
            or_dash(device.state.as_ref()),
            or_dash(device.status.as_ref()),
            if !is_told {
                "unknown".to_owned()
            } else if held_by.is_empty() {
                "nobody".to_owned()
            } else {
                held_by
            },
        ]
    });
    table(head, rows)
}

#[expect(clippy::cast_precision_loss, reason = "shown to one digit")]
fn speed(bits_per_second: u64) -> String {
    format!("{:.1} Gbit/s", bits_per_second as f64 / 1e9)
}
