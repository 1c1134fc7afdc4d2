//! Answers as tables.

use common::{
    units::{Bytes, Millicores},
    wire::admin::v1,
};
use jiff::{Timestamp, tz::TimeZone};

use crate::print::{Printer, safe, table};

mod groups;
mod graph;
mod guest;
mod needs;
mod plans;
mod software;
mod storage;
mod traffic;

pub(crate) use graph::graph;
pub(crate) use groups::{dependencies, group, groups, rules};
pub(crate) use guest::whole;
pub(crate) use plans::{plan, planning, plans, what_if};
pub(crate) use software::software;
pub(crate) use storage::storage;

/// A moment in the reader's own time zone; a dash for never.
pub(crate) fn moment(unix_ms: i64) -> String {
    if unix_ms == 0 {
        return "-".to_owned();
    }
    Timestamp::from_millisecond(unix_ms).map_or_else(
        |_| unix_ms.to_string(),
        |at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

fn cpu(value: Option<u64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |millicores| Millicores(millicores).to_string())
}

fn bytes(value: Option<u64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |bytes| Bytes(bytes).to_string())
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn claim(printer: &Printer, claim: Option<&v1::Claim>) -> String {
    claim.map_or_else(|| "unknown".to_owned(), |claim| printer.claim(claim.holds))
}

fn reason(claim: Option<&v1::Claim>) -> String {
    claim.map_or_else(String::new, |claim| safe(&claim.reason))
}

fn shape(machine: &v1::Machine) -> (Option<u64>, Option<u64>) {
    let allocation = machine.allocation.unwrap_or_default();
    (allocation.cpu_millicores, allocation.memory_bytes)
}

pub(crate) fn machines(printer: &Printer, machines: &[v1::Machine]) -> String {
    let head = [
        "name",
        "power",
        "agent",
        "cpu peak",
        "of",
        "memory peak",
        "of",
        "active",
        "participating",
        "candidate",
        "applications",
    ];
    table(
        head,
        machines.iter().map(|m| {
            let (cpu_given, memory_given) = shape(m);
            let applications: Vec<_> = m
                .applications
                .iter()
                .filter(|need| need.in_mix)
                .map(|need| safe(&need.application))
                .collect();
            [
                safe(&m.name),
                m.power.clone(),
                if m.agent == "reporting" { printer.good(&m.agent) } else { printer.bad(&m.agent) },
                cpu(m.cpu_peak_millicores),
                cpu(cpu_given),
                bytes(m.memory_peak_bytes),
                bytes(memory_given),
                claim(printer, m.active.as_ref()),
                claim(printer, m.participating.as_ref()),
                claim(printer, m.candidate.as_ref()),
                if applications.is_empty() { "-".to_owned() } else { applications.join(" ") },
            ]
        }),
    )
}

fn machine(printer: &Printer, m: &v1::Machine) -> String {
    let (cpu_given, memory_given) = shape(m);
    let mut text = printer.heading(&m.name) + "\n";
    let lines = [
        ("uuid", m.vm.clone()),
        ("host", safe(&m.host)),
        ("power", m.power.clone()),
        ("addresses", m.addresses.join(" ")),
        ("agent", format!("{}, last seen {}", m.agent, moment(m.last_seen_at_unix_ms))),
        ("cpu", format!("{} at peak of {}", cpu(m.cpu_peak_millicores), cpu(cpu_given))),
        ("memory", format!("{} at peak of {}", bytes(m.memory_peak_bytes), bytes(memory_given))),
        ("coverage", percent(m.coverage)),
        ("active", format!("{}: {}", claim(printer, m.active.as_ref()), reason(m.active.as_ref()))),
        (
            "participating",
            format!(
                "{}: {}",
                claim(printer, m.participating.as_ref()),
                reason(m.participating.as_ref())
            ),
        ),
        (
            "trusted",
            format!("{}: {}", claim(printer, m.trusted.as_ref()), reason(m.trusted.as_ref())),
        ),
        (
            "candidate",
            format!("{}: {}", claim(printer, m.candidate.as_ref()), reason(m.candidate.as_ref())),
        ),
    ];
    for (name, value) in lines {
        text += &format!("  {name:14}{value}\n");
    }
    for (name, value) in testimony(m.testimony.as_ref()) {
        text += &format!("  {name:14}{value}\n");
    }
    if m.group > 0 {
        let named = safe(&m.group_name);
        text += &format!("  {:14}{named} (see `sinterctl groups show {}`)\n", "group", m.group);
    }
    for role in groups::roles(&m.applications) {
        text += &format!("  {:14}{role}\n", "role");
    }
    for opportunity in &m.opportunities {
        text += &format!("  {:14}{}\n", "could", safe(opportunity));
    }
    for (name, value) in
        [("cloned from", &m.cloned_from), ("plan", &m.plan), ("left out", &m.opted_out)]
    {
        if !value.is_empty() {
            text += &format!("  {name:14}{}\n", safe(value));
        }
    }
    text += "\n";
    text + &needs::needs(printer, &m.applications)
}

/// What its peers and its past say of a machine, where there is anything.
fn testimony(testimony: Option<&v1::Testimony>) -> Vec<(&'static str, String)> {
    let Some(told) = testimony else { return Vec::new() };
    let names = |names: &[String]| safe(&names.join(", "));
    let mut lines = Vec::new();
    if told.agrees > 0 {
        lines.push(("agrees with", format!("{} machines about who calls whom", told.agrees)));
    }
    if !told.denies.is_empty() {
        lines.push(("denies", format!("connections that these tell of: {}", names(&told.denies))));
    }
    if !told.unbacked.is_empty() {
        let peers = names(&told.unbacked);
        lines.push(("claims", format!("connections that these do not have: {peers}")));
    }
    if told.score > 0.0 {
        let (score, windows) = (percent(told.score), told.windows);
        lines.push(("lie score", format!("{score} of {windows} windows")));
    }
    lines
}

pub(crate) fn hosts(_: &Printer, answer: &v1::ListHostsResponse) -> String {
    let head = ["host", "cpu", "given", "memory", "given", "storage", "free", "addresses"];
    table(
        head,
        answer.hosts.iter().map(|host| {
            [
                safe(&host.name),
                cpu(Some(host.cpu_millicores)),
                cpu(Some(host.allocated_cpu_millicores)),
                bytes(Some(host.memory_bytes)),
                bytes(Some(host.allocated_memory_bytes)),
                bytes(Some(host.storage_bytes)),
                bytes(host.storage_available_bytes),
                host.addresses.join(" "),
            ]
        }),
    )
}

pub(crate) fn windows(_: &Printer, answer: &v1::ListWindowsResponse) -> String {
    let head = [
        "window",
        "from",
        "to",
        "machines",
        "records",
        "samples",
        "missing",
        "late",
        "least coverage",
    ];
    table(
        head,
        answer.windows.iter().map(|window| {
            [
                window.window.clone(),
                moment(window.opened_at_unix_ms),
                moment(window.closed_at_unix_ms),
                window.machines.to_string(),
                window.records.to_string(),
                window.samples.to_string(),
                window.missing.map_or_else(|| "?".to_owned(), |missing| missing.to_string()),
                window.late.to_string(),
                percent(window.coverage_minimum),
            ]
        }),
    )
}

pub(crate) fn records(_: &Printer, answer: &v1::GetWindowResponse) -> String {
    let head = ["key", "application", "operation", "target", "outcome", "count", "bytes", "source"];
    table(
        head,
        answer.records.iter().map(|record| {
            [
                safe(&record.key),
                safe(if record.application.is_empty() { "?" } else { &record.application }),
                record.operation.clone(),
                safe(&record.target),
                record.outcome.clone(),
                record.count.to_string(),
                bytes(record.bytes),
                record.source.clone(),
            ]
        }),
    )
}

pub(crate) fn findings(printer: &Printer, answer: &v1::GetFindingsResponse) -> String {
    if answer.window.is_empty() {
        return "no window has closed yet\n".to_owned();
    }
    let closed = moment(answer.closed_at_unix_ms);
    let mut text = format!("window {} closed {closed}\n\n", answer.window);
    text += &table(
        ["machine", "active", "participating", "trusted", "candidate", "why"],
        answer.machines.iter().map(|m| {
            [
                safe(&m.name),
                claim(printer, m.active.as_ref()),
                claim(printer, m.participating.as_ref()),
                claim(printer, m.trusted.as_ref()),
                claim(printer, m.candidate.as_ref()),
                reason(m.candidate.as_ref()),
            ]
        }),
    );
    text += &left_alone(&answer.left_alone);
    for remark in &answer.remarks {
        text += &format!("remark: {}\n", safe(remark));
    }
    let costs = (answer.cost_before, answer.cost_after, answer.lower_bound);
    text += &format!(
        "cost now {:.2}, after all plans {:.2}, lower bound {:.2}\n",
        costs.0, costs.1, costs.2
    );
    text
}

pub(crate) fn left_alone(rows: &[v1::LeftAlone]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows = rows.iter().map(|row| [safe(&row.name), safe(&row.reason)]);
    format!("\n{}", table(["left alone", "why"], rows))
}

pub(crate) fn candidates(printer: &Printer, answer: &v1::GetFindingsResponse) -> String {
    let could = |m: &v1::Machine| {
        let reason = reason(m.candidate.as_ref());
        if m.opportunities.is_empty() { reason } else { safe(&m.opportunities.join("; ")) }
    };
    table(
        ["machine", "candidate", "could, or why not"],
        answer
            .machines
            .iter()
            .map(|m| [safe(&m.name), claim(printer, m.candidate.as_ref()), could(m)]),
    )
}

pub(crate) fn lists(_: &Printer, answer: &v1::ListConfigurationListsResponse) -> String {
    let head = ["machine", "generation", "plan", "offered", "state", "reason"];
    table(
        head,
        answer.lists.iter().map(|list| {
            [
                list.vm.clone(),
                list.generation.to_string(),
                list.plan.clone(),
                moment(list.offered_at_unix_ms),
                list.state.clone(),
                safe(&list.reason),
            ]
        }),
    )
}

pub(crate) fn tokens(_: &Printer, tokens: &[v1::Token]) -> String {
    let head = ["token", "name", "expires", "uses left", "made by", "revoked"];
    table(
        head,
        tokens.iter().map(|token| {
            [
                token.token.clone(),
                safe(&token.name),
                moment(token.expires_at_unix_ms),
                token.uses_left.map_or_else(|| "any".to_owned(), |uses| uses.to_string()),
                safe(&token.created_by),
                if token.revoked { "yes" } else { "no" }.to_owned(),
            ]
        }),
    )
}

pub(crate) fn agents(_: &Printer, answer: &v1::ListAgentsResponse) -> String {
    let head = ["agent", "machine", "state", "attached", "version", "enrolled", "last sample"];
    table(
        head,
        answer.agents.iter().map(|agent| {
            [
                agent.agent_id.clone(),
                agent.vm.clone(),
                agent.state.clone(),
                if agent.attached { "yes" } else { "no" }.to_owned(),
                safe(&agent.version),
                moment(agent.enrolled_at_unix_ms),
                format!("{}.{}", agent.epoch, agent.sequence),
            ]
        }),
    )
}

pub(crate) fn audit(_: &Printer, answer: &v1::ListAuditEntriesResponse) -> String {
    table(
        ["no", "when", "who", "what", "to what", "more"],
        answer.entries.iter().map(|entry| {
            [
                entry.number.to_string(),
                moment(entry.at_unix_ms),
                safe(&entry.actor),
                safe(&entry.action),
                safe(&entry.subject),
                safe(&entry.detail),
            ]
        }),
    )
}

pub(crate) fn refusals(_: &Printer, answer: &v1::ListRefusalsResponse) -> String {
    table(
        ["agent", "what", "count"],
        answer.refusals.iter().map(|refusal| {
            let agent = if refusal.agent_id.is_empty() { "-" } else { &refusal.agent_id };
            [safe(agent), safe(&refusal.name), refusal.count.to_string()]
        }),
    )
}
