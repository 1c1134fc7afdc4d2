//! What a plan foretells, what it rests on, what would make it not worth it, and why the rest of
//! the fleet is left alone.

use common::id::{AppName, VmId};

use super::{Effect, Evidence, Goal, draft::Draft, model::Model, shrinks::told};
use crate::inference::{Opportunity, Standing};

#[expect(clippy::cast_precision_loss, reason = "figures are shown to three digits")]
fn float(amount: u64) -> f64 {
    amount as f64
}

/// The figures a draft foretells.
pub(super) fn effects(model: &Model<'_>, draft: &Draft, cost: f64) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut foretell = |name: String, unit: &str, before: f64, after: f64| {
        effects.push(Effect { name, unit: unit.to_owned(), before, after });
    };
    for at_peak in &draft.foretold {
        let Some(change) = draft.changes.get(&at_peak.vm) else { continue };
        let name = &change.name;
        let (before, after) = (at_peak.before, at_peak.after);
        let cpu = (float(before.0.0), float(after.0.0));
        foretell(format!("cpu of {name}, peak"), "millicores", cpu.0, cpu.1);
        let memory = (float(before.1.0), float(after.1.0));
        foretell(format!("memory of {name}, peak"), "bytes", memory.0, memory.1);
        let (given, then) = (change.allocation_before, change.allocation_after);
        if let (Some(given), Some(then)) = (given.cpu, then.cpu) {
            foretell(format!("cpu given to {name}"), "millicores", float(given.0), float(then.0));
        }
        if let (Some(given), Some(then)) = (given.memory, then.memory) {
            foretell(format!("memory given to {name}"), "bytes", float(given.0), float(then.0));
        }
    }
    let machines = model.running().count();
    let retired = draft.changes.values().filter(|change| change.retired).count();
    let machines = (float(machines as u64), float((machines - retired.min(machines)) as u64));
    foretell("machines that run".to_owned(), "machines", machines.0, machines.1);
    foretell("cost of the fleet".to_owned(), "cost units", cost, cost - draft.gain);
    effects
}

/// What a draft was decided from, each fact with its windows and records.
pub(super) fn evidence(model: &Model<'_>, draft: &Draft) -> Vec<Evidence> {
    let windows = &model.situation.findings.windows;
    let mut evidence = Vec::new();
    let mut found = |fact: String, records: Vec<String>| {
        evidence.push(Evidence { fact, windows: windows.clone(), records });
    };
    for moved in &draft.moves {
        let Some(home) = model.standing(&moved.from) else { continue };
        let need = Model::need(home, &moved.application).unwrap_or_default();
        let records = records_of(model, &moved.from, Some(&moved.application));
        let (name, at) = (&moved.application, &home.name);
        found(
            format!(
                "{name} needs at most {} and {} on {at}",
                need.cpu_peak.max(need.cpu_mean),
                need.memory_peak
            ),
            records.clone(),
        );
        let is_emptied = draft.changes.get(&moved.from).is_some_and(|change| change.retired);
        let alone = if is_emptied { ", and nothing else works there" } else { "" };
        found(format!("nothing called {name} on {at}{alone}"), records);
    }
    for at_peak in &draft.foretold {
        let Some(change) = draft.changes.get(&at_peak.vm).filter(|change| !change.retired) else {
            continue;
        };
        let (cpu, memory) = at_peak.before;
        let given = told(&change.allocation_before);
        let fact = format!("{} uses at most {cpu} and {memory} of {given}", change.name);
        found(fact, records_of(model, &at_peak.vm, None));
    }
    let answered: Vec<_> = model.inbound(&draft.source).iter().collect();
    if !answered.is_empty() {
        let rate: f64 = answered.iter().map(|(_, edge)| edge.connections.per_second).sum();
        let records = answered.iter().flat_map(|(_, edge)| edge.records.iter().cloned()).collect();
        let name = draft.changes.get(&draft.source).map_or("it", |change| change.name.as_str());
        found(format!("{name} is called {rate:.2} times per second, and is tried so"), records);
    }
    evidence
}

fn records_of(model: &Model<'_>, vm: &VmId, application: Option<&AppName>) -> Vec<String> {
    let records = model.standing(vm).into_iter().flat_map(|standing| &standing.records);
    let told = records.filter(|(name, _)| application.is_none_or(|wanted| wanted == *name));
    told.flat_map(|(_, records)| records.iter().cloned()).collect()
}

/// What would make a draft not worth it.
pub(super) fn not_if(model: &Model<'_>, draft: &Draft) -> String {
    let name = draft.changes.get(&draft.source).map_or("it", |change| change.name.as_str());
    let policy = model.situation.policy;
    match draft.goal {
        Goal::Consolidate => {
            let moved: Vec<&str> = draft.moves.iter().map(|m| m.application.as_str()).collect();
            let moved = moved.join(", ");
            let spare = model.standing(&draft.source).and_then(|standing| model.room(standing));
            let room = spare.map_or_else(String::new, |room| {
                let (cpu, memory) = room.least();
                format!("the room on {name} ({cpu}, {memory}) is needed for something else, or ")
            });
            format!("{room}anything begins to call {moved} where it is")
        }
        Goal::Shrink => format!(
            "{name} has peaks that the windows held do not show, higher by more than {:.0} %",
            policy.shrink_margin * 100.0
        ),
    }
}

/// The rules that bind a draft, each with where it is written.
pub(super) fn bound_by(model: &Model<'_>, draft: &Draft) -> Vec<String> {
    let policy = model.situation.policy;
    let machines = draft.changes.keys().filter_map(|vm| model.machine(vm));
    let labels: Vec<_> = machines.map(|machine| &machine.labels).collect();
    let mut rules = policy.maintained(&labels);
    for moved in &draft.moves {
        let name = &moved.application;
        let mut named = |field: &str, what: String| {
            rules.push(format!("{name} {what} (policy, {field})"));
        };
        let listed = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
        let sets = [
            ("keep_together", "goes together with", &policy.keep_together),
            ("keep_apart", "never shares a machine with", &policy.keep_apart),
            ("keep_apart_by_host", "never shares a host with", &policy.keep_apart_by_host),
        ];
        for (field, what, sets) in sets {
            for set in sets.iter().filter(|set| set.contains(name)) {
                let mut others = set.iter().filter(|other| *other != name).map(AppName::as_str);
                named(field, format!("{what} {}", listed(&mut others)));
            }
        }
        let words = [
            ("needs_labels", "goes only to machines with", &policy.needs_labels),
            ("pins", "goes only to", &policy.pins),
            ("needs_pools", "goes only to hosts that reach", &policy.needs_pools),
        ];
        for (field, what, words) in words {
            if let Some(words) = words.get(name) {
                let words = listed(&mut words.iter().map(String::as_str));
                named(field, format!("{what} {words}"));
            }
        }
    }
    rules
}

/// Why a machine is left alone, if no plan and no draft speaks of it.
pub(super) fn left_alone(model: &Model<'_>, vm: &VmId) -> String {
    let standing = match model.candidate(vm) {
        Ok((standing, _)) => standing,
        Err(reason) => return reason,
    };
    let carries = model.room(standing).is_some();
    match model.emptiable(vm, standing) {
        Ok(_) => "it could be emptied, but that gains too little".to_owned(),
        Err(reason) if carries => {
            format!("{reason}; it can carry more, but nothing needs a place there")
        }
        Err(reason) => reason,
    }
}

/// Why a machine is left alone of which a draft speaks that must wait: what keeps it from being emptied is
/// said too, where one looks for that.
pub(super) fn also_kept(model: &Model<'_>, vm: &VmId, waits: &str) -> String {
    let could_give_up = |standing: &&Standing| {
        standing.opportunities.iter().any(|found| matches!(found, Opportunity::MixDown { .. }))
    };
    let kept = model.standing(vm).filter(could_give_up);
    let kept = kept.and_then(|standing| model.emptiable(vm, standing).err());
    kept.map_or_else(|| waits.to_owned(), |kept| format!("it is not emptied: {kept}; {waits}"))
}
