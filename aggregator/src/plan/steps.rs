//! The steps of a plan, in order, decided to the last name.
//!
//! ```text
//!  Clone, Isolate, Start ─> Apply (clone) ─> Try ─> Apply, Apply, Retire ─> Audit ─> RemoveClone
//!  └──────────────── assembly ──────────┘  trial  └───── promotion ─────┘          completion
//! ```
//!
//! The moved application is added where it goes before it is removed where it was: for a moment it
//! runs twice, never nowhere. The clone of an in-place promotion is kept until the audit passed.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use common::{
    id::VmId,
    list::{ConfigurationList, Form, changes},
    mix::{ApplicationMix, ConfigurationMix, EffectiveMix},
};

use super::{
    Goal, Step,
    basis::Names,
    draft::Draft,
    model::Model,
    probes::{stand_ins, targets},
};
use crate::{
    hypervisor::{Allocation, CloneOrder, Machine, ProbeOrder},
    policy::Promotion,
};

/// The steps of a draft, once it has its names.
pub(super) fn steps(
    model: &Model<'_>,
    draft: &Draft,
    names: &Names,
    source: &Machine,
) -> Vec<Step> {
    let clone = &names.clone;
    let mut steps = vec![
        Step::Clone(CloneOrder {
            source: draft.source.clone(),
            clone: clone.clone(),
            name: names.clone_name.clone(),
            host: source.host.clone(),
            plan: names.plan.clone(),
            allocation: draft.allocation,
            ticket: String::new(),
        }),
        Step::Isolate { clone: clone.clone(), network: names.network.clone() },
        Step::Start { clone: clone.clone() },
    ];
    // The clone inherits the machine's mix and generations, but is a machine of its own.
    steps.extend(apply(model, draft, names, (&draft.source, clone)));
    steps.push(Step::Try {
        clone: clone.clone(),
        network: names.network.clone(),
        probe: probe(model, draft),
    });
    promote(model, draft, names, &mut steps);
    steps
}

fn promote(model: &Model<'_>, draft: &Draft, names: &Names, steps: &mut Vec<Step>) {
    let clone = names.clone.clone();
    let source = draft.source.clone();
    let swaps = model.situation.policy.promotion == Promotion::Swap;
    if swaps {
        steps.push(Step::Swap { source: source.clone(), clone: clone.clone() });
    } else {
        steps.extend(apply(model, draft, names, (&source, &source)));
        if draft.goal == Goal::Shrink
            && let Some(change) = draft.changes.get(&source)
        {
            steps.push(Step::Resize {
                vm: source.clone(),
                to: lowered(change.allocation_after, change.allocation_before),
                from: lowered(change.allocation_before, change.allocation_after),
            });
        }
    }
    for (vm, _) in draft.changes.iter().filter(|(vm, _)| **vm != source) {
        steps.extend(apply(model, draft, names, (vm, vm)));
    }
    for (vm, _) in draft.changes.iter().filter(|(_, change)| change.retired) {
        steps.push(Step::Retire { vm: vm.clone() });
    }
    steps.push(Step::Audit);
    if !swaps {
        steps.push(Step::RemoveClone { clone });
    }
}

/// The parts of `to` that differ from `from`; what stays is not named.
fn lowered(to: Allocation, from: Allocation) -> Allocation {
    Allocation {
        cpu: to.cpu.filter(|_| to.cpu != from.cpu),
        memory: to.memory.filter(|_| to.memory != from.memory),
        storage: None,
    }
}

/// The list that leads machine `of` to its new mix, meant for machine `to`; `None` if its mix
/// stays as it is.
fn apply(
    model: &Model<'_>,
    draft: &Draft,
    names: &Names,
    (of, to): (&VmId, &VmId),
) -> Option<Step> {
    let change = draft.changes.get(of)?;
    let effective: &EffectiveMix = model.standing(of)?.mix.as_ref()?;
    let applications = changes(&change.mix_before, &change.mix_after);
    if applications.is_empty() {
        return None;
    }
    let former: ApplicationMix = change.mix_before.clone();
    // Above whatever was tried there before, applied or not.
    let generation = effective.attempted_generation.max(effective.generation) + 1;
    let situation = model.situation;
    let patience = Duration::from_secs(situation.policy.patience_seconds);
    let Allocation { cpu, memory, storage } = change.allocation_before;
    let list = ConfigurationList {
        generation,
        vm: to.clone(),
        plan: names.plan.clone(),
        base: former.hash(),
        expires_at: situation.now + patience,
        form: Form::Delta,
        applications,
        baseline: Some(ConfigurationMix { cpu, memory, storage }),
    };
    Some(Step::Apply { list, former, undo_generation: generation + 1 })
}

fn probe(model: &Model<'_>, draft: &Draft) -> ProbeOrder {
    let own: BTreeSet<SocketAddr> =
        targets(model, draft).iter().map(|target| target.address).collect();
    ProbeOrder {
        targets: targets(model, draft),
        stand_ins: stand_ins(model, draft).into_iter().filter(|at| !own.contains(at)).collect(),
        duration: Duration::from_secs(model.situation.policy.trial_seconds),
    }
}
