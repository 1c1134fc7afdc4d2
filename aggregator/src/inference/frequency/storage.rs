//! Storage edges: how often each machine, and each application on it, reads and writes each volume, by
//! the size of the operations, and which share of them went well.

use std::{collections::BTreeMap, time::Duration};

use algorithms::interval::of_share;
use common::id::{AppName, VmId};
use serde::{Deserialize, Serialize};

use crate::{
    inference::{Rate, rates::rate},
    join::{Joined, JoinedMachine, Outcome, Record},
    regularity::Estimate,
};

/// What is done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageOperation {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Given back.
    Discard,
    /// Any of these, where nobody tells them apart.
    Any,
}

/// How often one kind of operation is done to a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageEdge {
    /// By which machine.
    pub vm: VmId,
    /// By which application; `None` for the whole machine, as its hypervisor counts.
    pub application: Option<AppName>,
    /// To which volume, as its source names it.
    pub volume: String,
    /// What is done.
    pub operation: StorageOperation,
    /// `floor(log2(bytes per operation))`; `None` if sizes are not known.
    pub size_class: Option<u32>,
    /// Operations, well or not.
    pub operations: Rate,
    /// Share of them that went well; `None` if nobody saw how they went.
    pub succeeded: Option<Estimate>,
    /// Bytes per second; `None` if not known.
    pub bytes_per_second: Option<f64>,
    /// Share of the samples due that came, of who counts.
    pub coverage: f64,
    /// Who counts: `agent` or `hypervisor`.
    pub source: String,
    /// The records it was inferred from.
    pub records: Vec<String>,
}

type Key<'a> = (&'a VmId, Option<&'a AppName>, &'a str, StorageOperation, Option<u32>, &'a str);

#[derive(Debug, Default)]
struct Sum {
    well: u64,
    failed: u64,
    unseen: u64,
    bytes: Option<u64>,
    records: Vec<String>,
}

impl Sum {
    fn take(&mut self, record: &Record) {
        let by_outcome = match record.outcome {
            Outcome::Ok => &mut self.well,
            Outcome::Failed => &mut self.failed,
            Outcome::Unknown => &mut self.unseen,
        };
        *by_outcome = by_outcome.saturating_add(record.count);
        if let Some(bytes) = record.bytes {
            self.bytes = Some(self.bytes.unwrap_or(0).saturating_add(bytes));
        }
        self.records.push(record.key.clone());
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
    fn edge(self, key: Key<'_>, machine: &JoinedMachine) -> StorageEdge {
        let (vm, application, volume, operation, size_class, source) = key;
        let is_agents = source == "agent";
        let watched = if is_agents { machine.guest.watched } else { machine.outside.watched };
        let told = self.well.saturating_add(self.failed);
        let ratio = (told > 0).then(|| {
            let interval = of_share(self.well as f64, told as f64);
            let value = self.well as f64 / told as f64;
            Estimate { value, lower: interval.lower, upper: interval.upper }
        });
        let per_second = |bytes: u64| bytes as f64 / watched.as_secs_f64();
        StorageEdge {
            vm: vm.clone(),
            application: application.cloned(),
            volume: volume.to_owned(),
            operation,
            size_class,
            operations: rate(told.saturating_add(self.unseen), watched),
            succeeded: ratio,
            bytes_per_second: self.bytes.filter(|_| watched > Duration::ZERO).map(per_second),
            coverage: if is_agents { machine.coverage } else { 1.0 },
            source: source.to_owned(),
            records: self.records,
        }
    }
}

/// The storage edges of a window, in order of machine, application, volume and operation. The last of a
/// machine that its hypervisor counts is all that it did, for failures are not told apart by what failed.
pub(in crate::inference) fn storage(window: &Joined) -> Vec<StorageEdge> {
    let mut sums: BTreeMap<Key<'_>, Sum> = BTreeMap::new();
    for record in &window.records {
        let Some(operation) = operation(&record.operation) else { continue };
        if record.count == 0 {
            continue;
        }
        let application = record.application.as_ref();
        let by_class = (
            &record.vm,
            application,
            &*record.target,
            operation,
            record.size_class,
            &*record.source,
        );
        if application.is_none() {
            let all =
                (&record.vm, None, &*record.target, StorageOperation::Any, None, &*record.source);
            sums.entry(all).or_default().take(record);
        }
        if operation != StorageOperation::Any {
            sums.entry(by_class).or_default().take(record);
        }
    }
    let edges = sums.into_iter().filter_map(|(key, sum)| {
        let machine = window.machines.get(key.0)?;
        Some(sum.edge(key, machine))
    });
    edges.collect()
}

fn operation(named: &str) -> Option<StorageOperation> {
    match named {
        "read" => Some(StorageOperation::Read),
        "write" => Some(StorageOperation::Write),
        "discard" => Some(StorageOperation::Discard),
        "read or write" => Some(StorageOperation::Any),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::tests::fleet::{demonstration, name, vm};

    fn window(lines: &[(Option<&str>, &str, &str, Outcome, u64)]) -> Joined {
        let mut joined = demonstration().joined(2).remove(1);
        let records = lines.iter().enumerate().map(|(row, line)| {
            let (application, operation, target, outcome, count) = *line;
            Record {
                key: format!("w/{row}"),
                vm: vm("web-1"),
                application: application.map(name),
                operation: operation.to_owned(),
                target: target.to_owned(),
                size_class: (operation == "write").then_some(12),
                outcome,
                count,
                bytes: Some(count * 4096),
                source: if application.is_some() { "agent" } else { "hypervisor" }.to_owned(),
            }
        });
        joined.records = records.collect();
        joined
    }

    #[test]
    fn failures_that_the_hypervisor_counts_lower_the_share_of_its_machine() {
        let edges = storage(&window(&[
            (None, "read", "storage", Outcome::Ok, 600),
            (None, "write", "storage", Outcome::Ok, 300),
            (None, "read or write", "storage", Outcome::Failed, 100),
        ]));
        let told: Vec<_> = edges.iter().map(|edge| (edge.operation, edge.records.len())).collect();
        let each =
            [(StorageOperation::Any, 3), (StorageOperation::Read, 1), (StorageOperation::Write, 1)];
        assert_eq!(told.into_iter().collect::<std::collections::BTreeSet<_>>(), each.into());
        let all = edges.iter().find(|edge| edge.operation == StorageOperation::Any).unwrap();
        let ratio = all.succeeded.unwrap();
        assert!((ratio.value - 0.9).abs() < 1e-9 && ratio.lower > 0.87 && ratio.upper < 0.92);
        assert!((all.operations.per_second - 100.0).abs() < 1e-9, "{:?}", all.operations);
    }

    #[test]
    fn what_nobody_saw_the_end_of_has_no_share_and_sizes_stay_apart() {
        let edges = storage(&window(&[
            (Some("web"), "write", "vda", Outcome::Unknown, 40),
            (Some("web"), "read", "vda", Outcome::Unknown, 7),
            (Some("web"), "compute", "cpu", Outcome::Unknown, 99),
        ]));
        assert_eq!(edges.len(), 2);
        assert!(edges.iter().all(|edge| edge.succeeded.is_none() && edge.volume == "vda"));
        let write = edges.iter().find(|edge| edge.size_class == Some(12)).unwrap();
        assert!((write.operations.per_second - 4.0).abs() < 1e-9, "{:?}", write.operations);
        assert!(write.operations.lower < 4.0 && write.operations.upper > 4.0);
        assert!((write.bytes_per_second.unwrap() - 4.0 * 4096.0).abs() < 1e-6);
    }
}
