//! Applications and processes, with what they use.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use common::{
    id::AppName,
    sample::{Accounting, ApplicationUse, Process, ProcessKey},
};

use crate::show::paper::{Cell, Paper, Tone};

/// `over` is the time since the first look; a peak needs two.
pub(super) fn applications(
    paper: &Paper,
    applications: &BTreeMap<AppName, ApplicationUse>,
    over: Option<Duration>,
) -> String {
    let mut rows: Vec<_> = applications.iter().collect();
    let weight = |usage: &ApplicationUse| (usage.peak_cpu, usage.resident, usage.cpu_ms);
    rows.sort_by_key(|(name, usage)| (Reverse(weight(usage)), *name));
    let head = [
        "application",
        "listed",
        "processes",
        "cpu peak",
        "cpu time",
        "memory",
        "working set",
        "read",
        "written",
        "throttled",
        "oom",
        "ports",
        "account",
    ];
    paper.table(
        head,
        rows.into_iter().map(|(name, usage)| {
            let throttled = usage.throttled_us.map(|us| span(us / 1000));
            [
                name.into(),
                if usage.listed { Cell::toned("yes", Tone::Good) } else { Cell::from("no") },
                usage.processes.into(),
                Cell::maybe(over.map(|_| usage.peak_cpu)),
                span(usage.cpu_ms).into(),
                usage.resident.into(),
                Cell::maybe(usage.working_set),
                Cell::maybe(usage.read),
                Cell::maybe(usage.written),
                Cell::maybe(throttled),
                kills(usage.out_of_memory_kills),
                ports(&usage.listening_ports),
                account(usage.accounting).into(),
            ]
        }),
    )
}

pub(super) fn processes(paper: &Paper, processes: &BTreeMap<ProcessKey, Process>) -> String {
    let mut rows: Vec<_> = processes.iter().collect();
    rows.sort_by_key(|(key, row)| (Reverse(row.cpu_ms), **key));
    let head = [
        "process",
        "parent",
        "name",
        "application",
        "user",
        "unit",
        "cpu time",
        "memory",
        "read",
        "written",
        "command",
    ];
    paper.table(
        head,
        rows.into_iter().map(|(key, row)| {
            [
                key.pid.into(),
                row.parent.into(),
                (&row.name).into(),
                Cell::maybe(row.application.as_ref()),
                row.user.into(),
                Cell::maybe(row.unit.as_ref()),
                span(row.cpu_ms).into(),
                row.resident.into(),
                Cell::maybe(row.read),
                Cell::maybe(row.written),
                command(row),
            ]
        }),
    )
}

fn command(row: &Process) -> Cell {
    match &row.arguments {
        Some(arguments) => Cell::from(arguments.join(" ")),
        None => Cell::maybe(row.executable.as_ref()),
    }
}

fn kills(kills: Option<u64>) -> Cell {
    match kills {
        Some(kills) if kills > 0 => Cell::toned(kills, Tone::Bad),
        kills => Cell::maybe(kills),
    }
}

fn ports(ports: &[u16]) -> Cell {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    Cell::maybe((!ports.is_empty()).then(|| ports.join(",")))
}

const fn account(accounting: Accounting) -> &'static str {
    match accounting {
        Accounting::Cgroup2 => "cgroup2",
        Accounting::Cgroup1 => "cgroup1",
        Accounting::Processes => "processes",
    }
}

fn span(milliseconds: u64) -> String {
    let seconds = Duration::from_millis(milliseconds).as_secs_f64();
    if seconds < 6000.0 { format!("{seconds:.1} s") } else { format!("{:.1} h", seconds / 3600.0) }
}
