//! A window as rows. Every struct is taken apart in full, so that a figure that is added to one and
//! forgotten here does not compile.

use std::time::Duration;

use common::{
    sketch::Sketch,
    units::{Bytes, Millicores},
};

use super::{Table, cell::Row};
use crate::{
    hypervisor::{Allocation, Power},
    join::{EdgeKey, Joined, JoinedMachine, Outcome, Party, Record, Traffic, Use, Used},
};

/// The rows of one table, in the order of their keys.
pub(super) fn rows(table: Table, joined: &Joined) -> Vec<Row> {
    let start = || {
        let mut row = Row::default();
        row.text(&joined.window);
        row
    };
    match table {
        Table::Windows => vec![window(start(), joined)],
        Table::Machines => {
            let machines = joined.machines.iter();
            machines
                .map(|(vm, known)| {
                    let mut row = start();
                    row.text(vm);
                    machine(row, known)
                })
                .collect()
        }
        Table::Applications => {
            let machines = joined.machines.iter();
            let all = machines.flat_map(|(vm, known)| {
                known.applications.iter().map(move |(name, used)| (vm, name, used))
            });
            let row = |(vm, name, used)| {
                let mut row = start();
                row.text(vm).text(name);
                application(row, used)
            };
            all.map(row).collect()
        }
        Table::Edges => {
            joined.edges.iter().map(|(key, traffic)| edge(start(), key, traffic)).collect()
        }
        Table::Records => joined.records.iter().map(|line| record(start(), line)).collect(),
    }
}

fn window(mut row: Row, joined: &Joined) -> Row {
    let Joined { window: _, from, to, sampled_every, machines, edges, records, remarks } = joined;
    let applications: usize = machines.values().map(|machine| machine.applications.len()).sum();
    row.time(*from).time(*to).count(nanoseconds(*sampled_every));
    for length in [machines.len(), applications, edges.len(), records.len()] {
        row.count(length as u64);
    }
    row.json(remarks);
    row
}

fn machine(mut row: Row, machine: &JoinedMachine) -> Row {
    let JoinedMachine {
        name,
        host,
        power,
        allocation: Allocation { cpu, memory, storage },
        pools,
        labels,
        addresses,
        on_trial,
        has_agent,
        coverage,
        guest,
        outside,
        out_of_memory,
        mix,
        applications: _,
        half_closed,
        contradictions,
        records,
        counted,
        cpu_looks,
        operating_system,
        architecture,
    } = machine;
    row.text(name).maybe_text(host.as_ref()).maybe_text(power.map(power_name));
    row.maybe_count(cpu.map(|cpu| cpu.0)).maybe_count(bytes(*memory)).maybe_count(bytes(*storage));
    row.json(pools).json(labels).json(addresses);
    row.flag(*on_trial).flag(*has_agent).real(*coverage);
    side(&mut row, guest);
    side(&mut row, outside);
    row.maybe_count(*out_of_memory);
    match mix {
        Some(mix) => row.json(mix),
        None => row.maybe_text(None::<&str>),
    };
    row.count(*half_closed).json(contradictions).json(records);
    match counted {
        Some(counted) => row.json(counted),
        None => row.maybe_text(None::<&str>),
    };
    row.maybe_text((!cpu_looks.is_empty()).then(|| sketch(cpu_looks)));
    row.maybe_text(operating_system.as_ref()).maybe_text(architecture.as_ref());
    row
}

fn side(row: &mut Row, side: &Use) {
    let Use {
        watched,
        cpu_mean,
        cpu_peak,
        memory_peak,
        received_per_second,
        sent_per_second,
        written_per_second,
    } = *side;
    row.count(nanoseconds(watched)).maybe_count(cores(cpu_mean)).maybe_count(cores(cpu_peak));
    row.maybe_count(bytes(memory_peak)).maybe_real(received_per_second);
    row.maybe_real(sent_per_second).maybe_real(written_per_second);
}

fn application(mut row: Row, used: &Used) -> Row {
    let Used {
        listed,
        seen,
        cpu_mean,
        cpu_peak,
        memory_peak,
        cpu_quantiles,
        memory_quantiles,
        written_per_second,
        listens,
        records,
    } = used;
    row.flag(*listed).count(*seen).maybe_count(cores(*cpu_mean));
    row.count(cpu_peak.0).count(memory_peak.0);
    row.text(sketch(cpu_quantiles)).text(sketch(memory_quantiles));
    row.maybe_real(*written_per_second).json(listens).json(records);
    row
}

fn edge(mut row: Row, key: &EdgeKey, traffic: &Traffic) -> Row {
    let EdgeKey { client, server, port } = key;
    let Traffic {
        opened,
        failed,
        reset,
        exchanges,
        starts,
        starts_missing,
        detected,
        seen,
        alive,
        open_mean,
        both_ends,
        coverage,
        watched,
        bytes,
        answered_at,
        records,
        told,
    } = traffic;
    for party in [client, server] {
        let address = if let Party::External { address } = party { Some(address) } else { None };
        row.maybe_text(party.vm()).maybe_text(party.application()).maybe_text(address);
    }
    row.count(u64::from(*port)).count(*opened).count(*failed).count(*reset);
    row.maybe_count(*exchanges).json(starts).count(*starts_missing).maybe_real(*detected);
    row.count(*seen).count(*alive).real(*open_mean).flag(*both_ends).real(*coverage);
    row.count(nanoseconds(*watched)).maybe_count(*bytes).json(answered_at).json(records);
    row.json(told);
    row
}

fn record(mut row: Row, record: &Record) -> Row {
    let Record {
        key,
        vm,
        application,
        operation,
        target,
        size_class,
        outcome,
        count,
        bytes,
        source,
    } = record;
    row.text(key).text(vm).maybe_text(application.as_ref()).text(operation).text(target);
    row.maybe_count(size_class.map(u64::from)).text(outcome_name(*outcome));
    row.count(*count).maybe_count(*bytes).text(source);
    row
}

pub(super) const fn power_name(power: Power) -> &'static str {
    match power {
        Power::On => "on",
        Power::Off => "off",
    }
}

pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    }
}

/// How many values were nought, then `bin:count` for each bin.
fn sketch(sketch: &Sketch) -> String {
    let bins = sketch.bins().map(|(bin, count)| format!(" {bin}:{count}"));
    bins.fold(sketch.zeros().to_string(), |text, bin| text + &bin)
}

/// A window is never five hundred years long.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn cores(cpu: Option<Millicores>) -> Option<u64> {
    cpu.map(|cpu| cpu.0)
}

fn bytes(bytes: Option<Bytes>) -> Option<u64> {
    bytes.map(|bytes| bytes.0)
}
