//! What is told at each turn of the story, as text.

use std::collections::BTreeMap;

use common::{
    id::VmId,
    sample::Observation,
    units::{Bytes, Millicores, figure},
    wire::admin::v1,
};

use super::story::{Story, columns};
use crate::{admin, inference::Findings, join::Party, plan::Planned};

/// What each agent saw first.
pub(super) fn samples(story: &Story, seen: &[(String, Observation)]) -> String {
    let rows: Vec<_> = seen
        .iter()
        .map(|(name, seen)| {
            let mix: Vec<_> = seen.mix.applications.0.keys().map(ToString::to_string).collect();
            [
                name.clone(),
                format!("{} processes", seen.processes.len()),
                format!("{} connections", seen.connections.len()),
                if mix.is_empty() { "no application".to_owned() } else { mix.join(" ") },
            ]
        })
        .collect();
    format!("{}\n{}", story.heading("first samples of every agent"), columns(&rows))
}

/// Who talks to whom, how often.
pub(super) fn graph(story: &Story, findings: &Findings, names: &BTreeMap<VmId, String>) -> String {
    let party = |party: &Party| match party {
        Party::Machine { vm, application } => {
            let name = names.get(vm).map_or(vm.as_str(), String::as_str);
            let application = application.as_ref().map_or("?", |application| application.as_str());
            format!("{name}/{application}")
        }
        Party::External { address } => address.to_string(),
    };
    let rows: Vec<_> = findings
        .edges
        .iter()
        .map(|(key, edge)| {
            let rate = edge.connections;
            // Where next to nothing was seen, next to everything is possible.
            let upper = if rate.upper < f64::MAX {
                format!("to {:.2}", rate.upper)
            } else {
                "and more".to_owned()
            };
            [
                format!("{} -> {}", party(&key.client), party(&key.server)),
                format!("port {}", key.port),
                format!("{:.2}/s", rate.per_second),
                format!("(95 %: {:.2} {upper})", rate.lower),
                if edge.both_ends { "seen from both ends" } else { "seen from one end" }.to_owned(),
            ]
        })
        .collect();
    format!("{}\n{}", story.heading("who talks to whom"), columns(&rows))
}

/// Which machines could carry another mix, and why not the rest.
pub(super) fn candidates(story: &Story, findings: &Findings) -> String {
    let mut standings: Vec<_> = findings.machines.values().collect();
    standings.sort_by(|one, other| one.name.cmp(&other.name));
    let rows: Vec<_> = standings
        .iter()
        .map(|standing| {
            let could: Vec<_> = standing.opportunities.iter().map(admin::opportunity).collect();
            let why = if could.is_empty() {
                standing.candidate.reason.clone()
            } else {
                format!("could {}", could.join("; or "))
            };
            [
                standing.name.clone(),
                if standing.candidate.holds { "candidate" } else { "not" }.to_owned(),
                why,
            ]
        })
        .collect();
    format!("{}\n{}", story.heading("candidates"), columns(&rows))
}

/// That there is no plan, and why each machine is left alone.
pub(super) fn no_plan(planned: &Planned, names: &BTreeMap<VmId, String>) -> String {
    let rows: Vec<_> = planned
        .left_alone
        .iter()
        .map(|(vm, reason)| {
            let name = names.get(vm).map_or(vm.as_str(), String::as_str);
            [name.to_owned(), reason.clone()]
        })
        .collect();
    format!("no plan yet\n{}", columns(&rows))
}

fn amount<T: std::fmt::Display>(
    (before, after): (Option<u64>, Option<u64>),
    unit: impl Fn(u64) -> T,
) -> String {
    let shown =
        |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |v| unit(v).to_string());
    if before == after { shown(before) } else { format!("{} -> {}", shown(before), shown(after)) }
}

fn diff(story: &Story, change: &v1::MachineChange) -> String {
    let mut text = format!("  {}\n", change.name);
    for name in &change.removed {
        text += &format!("  {}\n", story.bad(&format!("  - {name}")));
    }
    for name in &change.added {
        text += &format!("  {}\n", story.good(&format!("  + {name}")));
    }
    for name in &change.kept {
        text += &format!("      {name}\n");
    }
    let (before, after) =
        (change.allocation_before.unwrap_or_default(), change.allocation_after.unwrap_or_default());
    if change.retired {
        let gone = story.bad("  - the machine itself: it is stopped");
        return text + &format!("  {gone}\n");
    }
    let cpu = amount((before.cpu_millicores, after.cpu_millicores), Millicores);
    let memory = amount((before.memory_bytes, after.memory_bytes), Bytes);
    text + &format!("      {cpu}, {memory}\n")
}

/// The plan as a diff, with what it rests on.
pub(super) fn plan(story: &Story, plan: &v1::Plan) -> String {
    let mut text = format!("{}\n", story.heading(&format!("plan {}: {}", plan.plan, plan.summary)));
    for change in &plan.changes {
        text += &diff(story, change);
    }
    let effects: Vec<_> = plan
        .effects
        .iter()
        .map(|effect| {
            let (before, after) =
                (figure(effect.before, &effect.unit), figure(effect.after, &effect.unit));
            [effect.name.clone(), format!("{before} -> {after}")]
        })
        .collect();
    text += &columns(&effects);
    for evidence in &plan.evidence {
        text += &format!("  because {} ({} records)\n", evidence.fact, evidence.records.len());
    }
    text + &format!("  not worth it if {}\n", plan.not_if)
}

/// What was measured, against what it was held.
pub(super) fn measurements(story: &Story, measured: &[v1::Measurement]) -> String {
    let rows: Vec<_> = measured
        .iter()
        .map(|m| {
            let value = m.value.map(|value| figure(value, &m.unit));
            [
                m.name.clone(),
                value.unwrap_or_else(|| "unknown".to_owned()),
                m.threshold.clone(),
                if m.passed { story.good("right") } else { story.bad("wrong") },
            ]
        })
        .collect();
    columns(&rows)
}
