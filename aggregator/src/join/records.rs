//! Writes the joined table: one line per edge, outcome and end, one per application and operation,
//! and what the hypervisor counted of each machine.

use std::collections::BTreeMap;

use common::id::{AppName, VmId};

use super::{
    EdgeKey, JoinedMachine, Outcome, Party, Record, Traffic,
    arrays::OnDevice,
    connections::{Carried, Tally},
    outside::Outside,
};
use crate::window::{ApplicationSpan, OperationKind, SamplingWindow};

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
        let records = self.lines(&key, &carried);
        let sum = |part: fn(&Tally) -> u64| {
            let tallies = carried.by_outcome.iter();
            let came = tallies.filter(|(outcome, _)| **outcome != Outcome::Failed);
            came.map(|(_, tally)| part(tally)).sum::<u64>()
        };
        let failed = carried.by_outcome.get(&Outcome::Failed).copied().unwrap_or_default();
        let known = carried.by_outcome.values().filter_map(|tally| tally.bytes);
        let traffic = Traffic {
            opened: sum(|tally| tally.opened),
            failed: failed.opened,
            reset: carried.reset,
            exchanges: carried.exchanges,
            detected: carried.detected(),
            starts: carried.starts.moments.clone(),
            starts_missing: carried.starts.missing,
            seen: sum(|tally| tally.seen) + failed.seen,
            alive: carried.by_outcome.get(&Outcome::Ok).map_or(0, |tally| tally.seen),
            open_mean: carried.open_mean(),
            both_ends: carried.both_ends,
            coverage: carried.coverage,
            watched: carried.watched,
            bytes: known.reduce(u64::saturating_add),
            answered_at: carried.answered_at,
            records,
            told: carried.told,
        };
        (key, traffic)
    }

    fn lines(&mut self, key: &EdgeKey, carried: &Carried) -> Vec<String> {
        let source = if carried.both_ends { "both agents" } else { "agent" };
        let (client, server) = (self.shown(&key.client), self.shown(&key.server));
        let (there, from) = (format!("{server}:{}", key.port), format!("{client} on {}", key.port));
        let ends = [(&key.client, "connect", &there), (&key.server, "answer", &from)];
        let mut records = Vec::new();
        for (party, operation, target) in ends {
            let Party::Machine { vm, application } = party else { continue };
            let application = application.as_ref();
            let mut line = |operation, outcome, tally: Tally| {
                records.push(self.write(Line {
                    vm,
                    application,
                    operation,
                    target: target.clone(),
                    outcome,
                    count: tally.opened,
                    bytes: tally.bytes,
                    sized_by: tally.seen,
                    source,
                }));
            };
            for (outcome, tally) in &carried.by_outcome {
                line(operation, *outcome, *tally);
            }
            if let Some(count) = carried.exchanges.filter(|count| *count > 0) {
                let bytes = carried.by_outcome.get(&Outcome::Ok).and_then(|tally| tally.bytes);
                line("exchange", Outcome::Ok, Tally { opened: count, seen: count, bytes });
            }
        }
        records
    }

    /// The lines of what was used, by application as the agents say.
    pub(super) fn uses(&mut self) -> Vec<UseRecords> {
        let window = self.window;
        let mut written = Vec::new();
        for (vm, guest) in &window.guests {
            let is_sound = self.nothing_failed(vm);
            for (name, span) in &guest.applications {
                let keys = self.used(vm, name, span, is_sound);
                written.push((vm.clone(), name.clone(), keys));
            }
        }
        written
    }

    fn used(
        &mut self,
        vm: &VmId,
        name: &AppName,
        span: &ApplicationSpan,
        is_sound: bool,
    ) -> Vec<String> {
        if span.watched.is_zero() {
            return Vec::new();
        }
        let by_device = !span.operations.is_empty();
        let bytes = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0 && !by_device);
        let mut parts = vec![
            ("compute", "cpu".to_owned(), span.cpu_ms, None),
            ("read", "storage".to_owned(), 0, bytes(span.read)),
            ("write", "storage".to_owned(), 0, bytes(span.written)),
        ];
        parts.extend(span.operations.iter().map(|(key, sum)| {
            let operation = match key.kind {
                OperationKind::Read => "read",
                OperationKind::Write => "write",
                OperationKind::Discard => "discard",
            };
            (operation, key.device.clone(), sum.count, sum.bytes)
        }));
        let told = parts.into_iter().filter(|(_, _, count, bytes)| *count > 0 || bytes.is_some());
        let keys = told.map(|(operation, target, count, bytes)| {
            let is_counted = operation != "compute" && count > 0;
            self.write(Line {
                vm,
                application: Some(name),
                operation,
                target,
                outcome: if is_counted && is_sound { Outcome::Ok } else { Outcome::Unknown },
                count,
                bytes,
                sized_by: if operation == "compute" { 0 } else { count },
                source: "agent",
            })
        });
        keys.collect()
    }

    /// Whether the hypervisor says that no operation of a machine failed. A guest counts what it
    /// asked for, not what became of it.
    fn nothing_failed(&self, vm: &VmId) -> bool {
        Outside::of(&self.window.looks, vm).failed_operations.total() == Some(0)
    }

    /// The lines of what the hypervisor counted, with the keys of each machine.
    pub(super) fn outside(&mut self) -> Vec<(VmId, Vec<String>)> {
        let window = self.window;
        let mut all = Vec::new();
        let looked_at: std::collections::BTreeSet<&VmId> =
            window.looks.iter().flat_map(|look| look.telemetry.keys()).collect();
        for vm in looked_at {
            let mut keys = Vec::new();
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
                keys.push(self.write(Line {
                    vm,
                    application: None,
                    operation,
                    target: target.to_owned(),
                    outcome,
                    count,
                    bytes,
                    sized_by: if bytes.is_some() { count } else { 0 },
                    source: "hypervisor",
                }));
            }
            all.push((vm.clone(), keys));
        }
        all
    }

    /// The lines of what was done to each device, as its array says.
    pub(super) fn arrays(&mut self, counted: BTreeMap<(VmId, String), OnDevice>) {
        for ((vm, device), on) in counted {
            let parts = [
                ("read", on.reads.total(), on.read.total(), Outcome::Ok),
                ("write", on.writes.total(), on.written.total(), Outcome::Ok),
                ("read or write", on.failed.total(), None, Outcome::Failed),
            ];
            for (operation, count, bytes, outcome) in parts {
                let Some(count) = count.filter(|count| *count > 0) else { continue };
                self.write(Line {
                    vm: &vm,
                    application: None,
                    operation,
                    target: device.clone(),
                    outcome,
                    count,
                    bytes,
                    sized_by: if bytes.is_some() { count } else { 0 },
                    source: "array",
                });
            }
        }
    }

    pub(super) fn close(self) -> Vec<Record> {
        self.records
    }
}
