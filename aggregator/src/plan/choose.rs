//! Holds the drafts against each other and makes plans of the best.

use std::collections::{BTreeMap, BTreeSet};

use common::id::{PlanId, VmId};

use super::{
    Goal, Limits, Plan, Planned, Restraint, basis, costs, draft::Draft, explain, hosts::Hosts,
    model::Model, moves, shrinks, steps,
};

/// Plans, best first, and why each machine they do not touch is left alone.
pub(super) fn choose(model: &Model<'_>, limits: &Limits<'_>) -> Planned {
    let found = moves::consolidations(model, limits);
    let threshold = model.situation.policy.gain_per_disruption;
    let mut waiting: BTreeMap<VmId, String> = found.stuck.into_iter().collect();
    let cost_before = costs::present(model);
    let mut gain = found.gain;
    let (mut drafts, shrinks) = (found.drafts, shrinks::shrinks(model));
    let moving: BTreeSet<VmId> =
        drafts.iter().flat_map(|draft| draft.changes.keys().cloned()).collect();
    for draft in shrinks {
        // What a machine needs is known once its mix is as it shall be.
        if draft.changes.keys().any(|vm| moving.contains(vm)) {
            continue;
        }
        gain += if draft.worth > threshold { draft.gain } else { 0.0 };
        drafts.push(draft);
    }
    drafts.sort_by(|left, right| {
        let by_worth = right.worth.total_cmp(&left.worth);
        by_worth.then_with(|| left.changes.keys().cmp(right.changes.keys()))
    });
    let mut round = Round {
        model,
        hosts: Hosts::of(model),
        slots: slots(model),
        groups: model.situation.busy.iter().map(|vm| model.group(vm).clone()).collect(),
        restraint: model.situation.restraint.clone(),
        cost: cost_before,
        plans: Vec::new(),
    };
    for draft in &drafts {
        let refused = if draft.worth > threshold {
            round.take(draft).err().map(|reason| format!("{}: {reason}", draft.summary))
        } else {
            Some(moves::too_little(&draft.summary, draft.worth, threshold))
        };
        if let Some(reason) = refused {
            for vm in draft.changes.keys() {
                waiting.entry(vm.clone()).or_insert_with(|| reason.clone());
            }
        }
    }
    let left_alone = left_alone(model, &round.plans, &waiting);
    let cost_of_target = cost_before - gain;
    let lower_bound = found.bound.min(cost_of_target);
    Planned {
        left_alone,
        lower_bound,
        cost_after: round.cost,
        cost_before,
        cost_of_target,
        plans: round.plans,
    }
}

/// The reason of each machine that no plan touches, drafts that had to wait first.
fn left_alone(
    model: &Model<'_>,
    plans: &[Plan],
    waiting: &BTreeMap<VmId, String>,
) -> BTreeMap<VmId, String> {
    let touched: BTreeSet<&VmId> = plans.iter().flat_map(|plan| plan.changes.keys()).collect();
    let known = model.situation.findings.machines.keys();
    let all: BTreeSet<&VmId> = known.chain(model.situation.inventory.machines.keys()).collect();
    let reasons = all.into_iter().filter(|vm| !touched.contains(*vm)).map(|vm| {
        let reason = match waiting.get(vm) {
            Some(waits) => explain::also_kept(model, vm, waits),
            None => explain::left_alone(model, vm),
        };
        (vm.clone(), reason)
    });
    reasons.collect()
}

/// Plans that may begin beside those under way, as far as their machines show them.
fn slots(model: &Model<'_>) -> usize {
    let situation = model.situation;
    let of_clones: BTreeSet<&PlanId> = situation
        .inventory
        .machines
        .iter()
        .filter(|(vm, _)| situation.busy.contains(*vm))
        .filter_map(|(_, machine)| machine.plan.as_ref())
        .collect();
    let under_way = of_clones.len().max(usize::from(!situation.busy.is_empty()));
    situation.policy.plans_at_once.saturating_sub(under_way)
}

/// What is taken while plans are chosen: each sees what the ones before it left.
struct Round<'m, 'a> {
    model: &'m Model<'a>,
    hosts: Hosts,
    slots: usize,
    groups: BTreeSet<VmId>,
    restraint: Restraint,
    cost: f64,
    plans: Vec<Plan>,
}

impl Round<'_, '_> {
    fn take(&mut self, draft: &Draft) -> Result<(), String> {
        if let Some(before) = &draft.after {
            return Err(format!("comes after: {before}"));
        }
        if draft.groups.iter().any(|group| self.groups.contains(group)) {
            return Err("waits for another plan in the same group".to_owned());
        }
        if self.slots == 0 {
            return Err("waits until fewer plans are under way".to_owned());
        }
        self.restraint.allows(draft.changes.keys(), self.model.situation.policy)?;
        let source = self.model.machine(&draft.source);
        let source = source.ok_or("the hypervisor does not know the machine to clone")?;
        self.hosts.reserve(self.model, (&draft.source, source), &draft.allocation)?;
        let situation = self.model.situation;
        let window = situation.findings.window.clone().ok_or("no window is closed yet")?;
        let basis = basis::of(&draft.changes, situation);
        let names = basis::names(draft, &basis);
        let steps = steps::steps(self.model, draft, &names, source);
        self.plans.push(Plan {
            id: names.plan,
            made_at: situation.now,
            window,
            basis,
            goal: draft.goal,
            summary: summary(draft),
            source: draft.source.clone(),
            clone: names.clone,
            host: source.host.clone(),
            moves: draft.moves.clone(),
            changes: draft.changes.clone(),
            steps,
            effects: explain::effects(self.model, draft, self.cost),
            evidence: explain::evidence(self.model, draft),
            not_if: explain::not_if(self.model, draft),
            bound_by: explain::bound_by(self.model, draft),
        });
        self.slots -= 1;
        self.restraint.note(draft.changes.keys());
        self.groups.extend(draft.groups.iter().cloned());
        self.cost -= draft.gain;
        Ok(())
    }
}

fn summary(draft: &Draft) -> String {
    if draft.goal == Goal::Consolidate && draft.gain <= 0.0 {
        return draft.summary.clone();
    }
    format!("{}, saving {:.2} cost units", draft.summary, draft.gain)
}
