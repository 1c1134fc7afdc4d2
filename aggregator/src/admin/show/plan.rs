//! Plans, with what changes first and what is taken away before what is added.

use std::collections::BTreeMap;

use common::{
    id::{AppName, VmId},
    list::ConfigurationList,
    wire::admin::v1,
};
use tonic::Status;

use super::{allocation, course, moment, word};
use crate::{
    admin::toml_text,
    hypervisor::Allocation,
    journal::Entry,
    plan::{MachineChange, Plan, Planned, Step},
    repository::{ListState, StoredList},
};

/// A plan, without course and measurements.
pub(in super::super) fn plan(plan: &Plan, entries: &[Entry]) -> v1::Plan {
    let name = |vm: &VmId| named(plan, vm);
    let moves = plan.moves.iter().map(|moved| v1::ApplicationMove {
        application: moved.application.to_string(),
        from: name(&moved.from),
        to: name(&moved.to),
    });
    let effects = plan.effects.iter().map(|effect| v1::Effect {
        name: effect.name.clone(),
        unit: effect.unit.clone(),
        before: effect.before,
        after: effect.after,
    });
    let evidence = plan.evidence.iter().map(|evidence| v1::Evidence {
        fact: evidence.fact.clone(),
        windows: evidence.windows.iter().map(ToString::to_string).collect(),
        records: evidence.records.clone(),
    });
    v1::Plan {
        plan: plan.id.to_string(),
        stage: course::stage(plan, entries),
        made_at_unix_ms: moment(plan.made_at),
        window: plan.window.to_string(),
        basis: hex::encode(plan.basis.0),
        goal: word(&plan.goal),
        summary: plan.summary.clone(),
        not_if: plan.not_if.clone(),
        moves: moves.collect(),
        changes: plan.changes.iter().map(|(vm, of)| change(vm, of)).collect(),
        steps: steps(plan, entries),
        effects: effects.collect(),
        evidence: evidence.collect(),
        course: Vec::new(),
        measurements: Vec::new(),
        bound_by: plan.bound_by.clone(),
        outlook: None,
    }
}

/// What planning comes to, in figures.
pub(in super::super) fn outlook(planned: &Planned) -> v1::Outlook {
    let changes = planned.plans.iter().flat_map(|plan| plan.changes.values());
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::Outlook {
        plans: count(planned.plans.len()),
        retired: count(changes.filter(|change| change.retired).count()),
        cost_before: planned.cost_before,
        cost_after: planned.cost_after,
        cost_of_target: planned.cost_of_target,
        lower_bound: planned.lower_bound,
        gap: planned.gap(),
    }
}

/// A plan with all that happened to it.
pub(crate) fn whole_plan(of: &Plan, entries: &[Entry]) -> v1::Plan {
    let mut shown = plan(of, entries);
    let steps: Vec<_> = shown.steps.iter().map(|step| step.text.clone()).collect();
    shown.course = course::told(entries, &steps);
    shown.measurements = course::measurements(entries);
    shown
}

/// What people call a machine of a plan.
fn named(plan: &Plan, vm: &VmId) -> String {
    if *vm == plan.clone {
        return format!("the clone of {}", named_source(plan));
    }
    plan.changes.get(vm).map_or_else(|| vm.to_string(), |change| change.name.clone())
}

fn named_source(plan: &Plan) -> String {
    let change = plan.changes.get(&plan.source);
    change.map_or_else(|| plan.source.to_string(), |change| change.name.clone())
}

fn change(vm: &VmId, change: &MachineChange) -> v1::MachineChange {
    let (before, after) = (&change.mix_before.0, &change.mix_after.0);
    let of = |names: Vec<&AppName>| names.into_iter().map(ToString::to_string).collect();
    v1::MachineChange {
        vm: vm.to_string(),
        name: change.name.clone(),
        removed: of(before.keys().filter(|name| !after.contains_key(*name)).collect()),
        added: of(after.keys().filter(|name| !before.contains_key(*name)).collect()),
        kept: of(before.keys().filter(|name| after.contains_key(*name)).collect()),
        allocation_before: Some(allocation(&change.allocation_before)),
        allocation_after: Some(allocation(&change.allocation_after)),
        retired: change.retired,
    }
}

fn steps(plan: &Plan, entries: &[Entry]) -> Vec<v1::PlanStep> {
    let states = course::states(plan.steps.len(), entries);
    let shown = plan.steps.iter().zip(states).map(|(step, state)| v1::PlanStep {
        phase: word(&step.phase(&plan.clone)),
        text: text(plan, step),
        state: state.to_owned(),
    });
    shown.collect()
}

fn text(plan: &Plan, step: &Step) -> String {
    let name = |vm: &VmId| named(plan, vm);
    match step {
        Step::Clone(order) => {
            format!("clone {} as {} on {}", name(&order.source), order.name, order.host)
        }
        Step::Isolate { clone, network } => {
            format!("plug {} into its own network {network}", name(clone))
        }
        Step::Start { clone } => format!("start {} and wait for its agent", name(clone)),
        Step::Apply { list, .. } => format!("give {} its new mix: {}", name(&list.vm), mix(list)),
        Step::Try { clone, probe, .. } => format!(
            "try {} for {} s under load on {} ports",
            name(clone),
            probe.duration.as_secs(),
            probe.targets.len()
        ),
        Step::Resize { vm, to, from } => {
            format!("give {} {}", name(vm), resized(from, to))
        }
        Step::Swap { source, clone } => {
            format!("let {} take the place of {}", name(clone), name(source))
        }
        Step::Retire { vm } => format!("stop {}", name(vm)),
        Step::Audit => "watch the new mix against the baseline".to_owned(),
        Step::RemoveClone { clone } => format!("remove {}", name(clone)),
    }
}

fn mix(list: &ConfigurationList) -> String {
    let listed = list.applications.iter().map(|listed| {
        let action = word(&listed.action);
        format!("{action} {}", listed.name)
    });
    listed.collect::<Vec<_>>().join(", ")
}

fn resized(from: &Allocation, to: &Allocation) -> String {
    fn part<T: std::fmt::Display>(from: Option<T>, to: Option<T>) -> Option<String> {
        let to = to?;
        Some(from.map_or_else(|| to.to_string(), |from| format!("{to} instead of {from}")))
    }
    let parts =
        [part(from.cpu, to.cpu), part(from.memory, to.memory), part(from.storage, to.storage)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Why machines are left alone, by name.
pub(in super::super) fn left_alone(
    reasons: &BTreeMap<VmId, String>,
    names: &BTreeMap<VmId, String>,
) -> Vec<v1::LeftAlone> {
    let mut rows: Vec<_> = reasons
        .iter()
        .map(|(vm, reason)| v1::LeftAlone {
            vm: vm.to_string(),
            name: names.get(vm).cloned().unwrap_or_else(|| vm.to_string()),
            reason: reason.clone(),
        })
        .collect();
    rows.sort_by(|one, other| (&one.name, &one.vm).cmp(&(&other.name, &other.vm)));
    rows
}

/// A list that was offered.
///
/// # Errors
///
/// If it cannot be written as TOML.
pub(in super::super) fn offered_list(stored: &StoredList) -> Result<v1::OfferedList, Status> {
    let (state, reason) = match &stored.state {
        ListState::Offered => ("offered", ""),
        ListState::Applied => ("applied", ""),
        ListState::Refused { reason } => ("refused", reason.as_str()),
        ListState::Undone { reason } => ("undone", reason.as_str()),
        ListState::Stranded { reason } => ("stranded", reason.as_str()),
    };
    Ok(v1::OfferedList {
        list_toml: toml_text::write(&stored.list)?,
        vm: stored.vm.to_string(),
        generation: stored.generation,
        plan: stored.plan.to_string(),
        offered_at_unix_ms: moment(stored.offered_at),
        state: state.to_owned(),
        reason: reason.to_owned(),
    })
}
