//! Writes the joined table: one line per edge, outcome and end, one per application and operation,
//! and what the hypervisor counted of each machine.

use std::collections::BTreeMap;

use common::id::{AppName, VmId};

use super::{
    EdgeKey, JoinedMachine, Outcome, Party, Record, Traffic, connections::Carried, outside::Outside,
};
use crate::window::SamplingWindow;

/// The table while it is written. Lines are numbered in the order they come, which is the order
/// of the edges and machines: the same window gives the same keys.
pub(super) struct Book<'a> {
    window: &'a SamplingWindow,
    names: BTreeMap<VmId, String>,
    records: Vec<Record>,
}

/// Records of one application: which machine, which application, which keys.
type UseRecords = (VmId, AppName, Vec<String>);

struct Line<'a> {
    vm: &'a VmId,
    application: Option<&'a AppName>,
    operation: &'a str,
    target: String,
    outcome: Outcome,
    count: u64,
    bytes: Option<u64>,
    /// Operations that the bytes are those of; 0 if that is not known.
    sized_by: u64,
    source: &'a str,
}

impl<'a> Book<'a> {
    pub(super) fn new(
        window: &'a SamplingWindow,
        machines: &BTreeMap<VmId, JoinedMachine>,
    ) -> Self {
        let names = machines.iter().map(|(vm, machine)| (vm.clone(), machine.name.clone()));
        Self { window, names: names.collect(), records: Vec::new() }
    }

    fn write(&mut self, line: Line<'_>) -> String {
        let key = format!("{}/{}", self.window.id, self.records.len() + 1);
        let size = line.bytes.and_then(|bytes| bytes.checked_div(line.sized_by));
        self.records.push(Record {
            key: key.clone(),
            vm: line.vm.clone(),
            application: line.application.cloned(),
            operation: line.operation.to_owned(),
            target: line.target,
            size_class: size.and_then(u64::checked_ilog2),
            outcome: line.outcome,
            count: line.count,
            bytes: line.bytes,
            source: line.source.to_owned(),
        });
        key
    }

    fn shown(&self, party: &Party) -> String {
        match party {
            Party::External { address } => address.to_string(),
            Party::Machine { vm, application } => {
                let name = self.names.get(vm).map_or(vm.as_str(), String::as_str);
                application
                    .as_ref()
                    .map_or_else(|| name.to_owned(), |application| format!("{name}/{application}"))
            }
        }
    }

    /// The lines of an edge, at each end that is a machine.
    pub(super) fn edge(&mut self, key: EdgeKey, carried: Carried) -> (EdgeKey, Traffic) {
        let mut records = Vec::new();
        let source = if carried.both_ends { "both agents" } else { "agent" };
        let (client, server) = (self.shown(&key.client), self.shown(&key.server));
        for (outcome, tally) in &carried.by_outcome {
            let ends = [
                (&key.client, "connect", format!("{server}:{}", key.port)),
                (&key.server, "answer", format!("{client} on {}", key.port)),
            ];
            for (party, operation, target) in ends {
                let Party::Machine { vm, application } = party else { continue };
                records.push(self.write(Line {
                    vm,
                    application: application.as_ref(),
                    operation,
                    target,
                    outcome: *outcome,
                    count: tally.opened,
                    bytes: tally.bytes,
                    sized_by: tally.seen,
                    source,
                }));
            }
        }
        let sum = |part: fn(&super::connections::Tally) -> u64| {
            carried.by_outcome.values().map(part).sum::<u64>()
        };
        let known = carried.by_outcome.values().filter_map(|tally| tally.bytes);
        let traffic = Traffic {
            opened: sum(|tally| tally.opened),
            seen: sum(|tally| tally.seen),
            alive: carried.by_outcome.get(&Outcome::Ok).map_or(0, |tally| tally.seen),
            open_mean: carried.open_mean(),
            both_ends: carried.both_ends,
            coverage: carried.coverage,
            watched: carried.watched,
            bytes: known.reduce(u64::saturating_add),
            answered_at: carried.answered_at,
            records,
        };
        (key, traffic)
    }

    /// The lines of what was used, by application as the agents say and by machine as the
    /// hypervisor says.
    pub(super) fn uses(&mut self) -> Vec<UseRecords> {
        let window = self.window;
        let mut written = Vec::new();
        for (vm, guest) in &window.guests {
            for (name, span) in &guest.applications {
                let parts = [
                    ("compute", "cpu", span.cpu_ms, None),
                    ("read", "storage", 0, span.read.filter(|bytes| *bytes > 0)),
                    ("write", "storage", 0, span.written.filter(|bytes| *bytes > 0)),
                ];
                let told = parts.into_iter().filter(|(_, _, count, bytes)| {
                    !span.watched.is_zero() && (*count > 0 || bytes.is_some())
                });
                let keys = told.map(|(operation, target, count, bytes)| {
                    self.write(Line {
                        vm,
                        application: Some(name),
                        operation,
                        target: target.to_owned(),
                        outcome: Outcome::Unknown,
                        count,
                        bytes,
                        sized_by: 0,
                        source: "agent",
                    })
                });
                let keys = keys.collect();
                written.push((vm.clone(), name.clone(), keys));
            }
        }
        self.outside();
        written
    }

    fn outside(&mut self) {
        let window = self.window;
        let looked_at: std::collections::BTreeSet<&VmId> =
            window.looks.iter().flat_map(|look| look.telemetry.keys()).collect();
        for vm in looked_at {
            let outside = Outside::of(&window.looks, vm);
            let (read, written) = (outside.read.total(), outside.written.total());
            let parts = [
                ("compute", outside.cpu_ms.total(), None, Outcome::Unknown),
                ("read", outside.read_operations.total(), read, Outcome::Ok),
                ("write", outside.write_operations.total(), written, Outcome::Ok),
                ("read or write", outside.failed_operations.total(), None, Outcome::Failed),
            ];
            for (operation, count, bytes, outcome) in parts {
                let Some(count) = count.filter(|count| *count > 0) else { continue };
                let target = if operation == "compute" { "cpu" } else { "storage" };
                self.write(Line {
                    vm,
                    application: None,
                    operation,
                    target: target.to_owned(),
                    outcome,
                    count,
                    bytes,
                    sized_by: if bytes.is_some() { count } else { 0 },
                    source: "hypervisor",
                });
            }
        }
    }

    pub(super) fn close(self) -> Vec<Record> {
        self.records
    }
}
