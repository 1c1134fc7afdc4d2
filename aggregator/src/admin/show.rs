//! What is known, in the words of the wire.

use common::{clock::Timestamp, wire::admin::v1};

use crate::hypervisor::Allocation;

mod course;
mod fleet;
mod graph;
mod groups;
mod need;
mod plan;
pub(super) mod storage;

pub(crate) use course::measurements;
pub(crate) use fleet::opportunity;
pub(super) use fleet::{Fleet, agent, host};
pub(super) use graph::{edge, record, storage, window};
pub(super) use groups::{dependency, group, rules};
pub(crate) use plan::whole_plan;
pub(super) use plan::{left_alone, offered_list, outlook, plan};

/// A moment, as the wire has it.
pub(super) fn moment(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn allocation(given: &Allocation) -> v1::Allocation {
    v1::Allocation {
        cpu_millicores: given.cpu.map(|cpu| cpu.0),
        memory_bytes: given.memory.map(|memory| memory.0),
        storage_bytes: given.storage.map(|storage| storage.0),
    }
}

/// A word as it stands in stored rows, such as `rolling_back`.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
