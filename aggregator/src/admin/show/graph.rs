//! Windows, records and edges.

use std::collections::BTreeMap;

use common::{id::VmId, wire::admin::v1};

use super::{moment, word};
use crate::{
    inference::{self, Edge, EdgeKey, Party, StorageEdge},
    join::Record,
    repository::WindowRow,
};

/// One window, without its records.
pub(in super::super) fn window(row: &WindowRow) -> v1::Window {
    let least = row.coverage.values().copied().reduce(f64::min);
    v1::Window {
        window: row.id.to_string(),
        opened_at_unix_ms: moment(row.opened_at),
        closed_at_unix_ms: moment(row.closed_at),
        records: row.records,
        machines: u32::try_from(row.coverage.len()).unwrap_or(u32::MAX),
        coverage_minimum: least.unwrap_or_default(),
        samples: row.samples,
        late: row.late,
        missing: row.missing,
    }
}

/// One line of the joined table.
pub(in super::super) fn record(record: &Record) -> v1::Record {
    v1::Record {
        key: record.key.clone(),
        vm: record.vm.to_string(),
        application: record.application.as_ref().map(ToString::to_string).unwrap_or_default(),
        operation: record.operation.clone(),
        target: record.target.clone(),
        size_class: record.size_class,
        outcome: word(&record.outcome),
        count: record.count,
        bytes: record.bytes,
        source: record.source.clone(),
    }
}

/// Who calls whom, how often.
pub(in super::super) fn edge(
    (key, edge): &(EdgeKey, Edge),
    names: &BTreeMap<VmId, String>,
) -> v1::Edge {
    v1::Edge {
        client: Some(party(&key.client, names)),
        server: Some(party(&key.server, names)),
        port: u32::from(key.port),
        connections: Some(rate(edge.connections)),
        exchanges: edge.exchanges.map(rate),
        seen: edge.seen,
        open_mean: edge.open_mean,
        both_ends: edge.both_ends,
        coverage: edge.coverage,
        records: edge.records.clone(),
        burstiness: edge.burstiness.map(estimate),
        peak: edge.peak.map(|peak| v1::Peak {
            per_second_95: peak.per_second_95,
            per_second_most: peak.per_second_most,
            windows: peak.windows,
        }),
        period: edge.period.map(regularity),
        calendar: edge.calendar.map(regularity),
        detected: edge.detected,
        backing: word(&edge.backing),
    }
}

/// Who reads and writes which volume.
pub(in super::super) fn storage(
    edge: &StorageEdge,
    names: &BTreeMap<VmId, String>,
) -> v1::StorageEdge {
    v1::StorageEdge {
        vm: edge.vm.to_string(),
        name: names.get(&edge.vm).cloned().unwrap_or_else(|| edge.vm.to_string()),
        application: edge.application.as_ref().map(ToString::to_string).unwrap_or_default(),
        volume: edge.volume.clone(),
        operation: word(&edge.operation),
        size_class: edge.size_class,
        operations: Some(rate(edge.operations)),
        succeeded: edge.succeeded.map(estimate),
        bytes_per_second: edge.bytes_per_second,
        coverage: edge.coverage,
        source: edge.source.clone(),
        records: edge.records.clone(),
    }
}

const fn rate(rate: inference::Rate) -> v1::Rate {
    v1::Rate { per_second: rate.per_second, lower: rate.lower, upper: rate.upper }
}

const fn estimate(estimate: inference::Estimate) -> v1::Estimate {
    v1::Estimate { value: estimate.value, lower: estimate.lower, upper: estimate.upper }
}

fn regularity(regularity: inference::Regularity) -> v1::Regularity {
    v1::Regularity {
        seconds: regularity.seconds,
        lower: regularity.lower,
        upper: regularity.upper,
        false_alarm: regularity.false_alarm,
        events: regularity.events,
        trusted: regularity.trusted,
        by: word(&regularity.by),
    }
}

pub(super) fn party(party: &Party, names: &BTreeMap<VmId, String>) -> v1::Party {
    match party {
        Party::Machine { vm, application } => v1::Party {
            vm: vm.to_string(),
            name: names.get(vm).cloned().unwrap_or_else(|| vm.to_string()),
            application: application.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
        Party::External { address } => {
            v1::Party { name: address.to_string(), ..v1::Party::default() }
        }
    }
}
