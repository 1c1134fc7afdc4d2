//! What machines cost, and the least that any plan could bring it to.
//!
//! The prices are the policy's: of a machine that is given nothing, of a core and of a GiB.

use std::collections::BTreeMap;

use algorithms::packing::{Packing, bound::bound, exact};
use common::{
    id::VmId,
    units::{Bytes, Millicores},
};

use super::model::Model;
use crate::{
    hypervisor::{Allocation, Machine},
    inference::{Opportunity, Standing},
    policy::Policy,
};

/// Cost of a running machine. What is not known is not counted: no plan changes it.
pub fn cost(policy: &Policy, allocation: &Allocation) -> f64 {
    policy.cost_per_machine + given(policy, allocation)
}

#[expect(clippy::cast_precision_loss, reason = "costs are compared to three digits")]
fn given(policy: &Policy, allocation: &Allocation) -> f64 {
    let cores = allocation.cpu.unwrap_or_default().0 as f64 / 1000.0;
    let gib = allocation.memory.unwrap_or_default().0 as f64 / Bytes::mebi(1024).0 as f64;
    cores * policy.cost_per_core + gib * policy.cost_per_gib
}

/// Cost of all running machines.
pub(super) fn present(model: &Model<'_>) -> f64 {
    let policy = model.situation.policy;
    // An empty sum of floats is minus nought, which nobody should read.
    model.running().map(|(_, machine)| cost(policy, &machine.allocation)).sum::<f64>() + 0.0
}

/// CPU and memory.
#[derive(Debug, Clone, Copy, Default)]
struct Demand {
    cpu: u64,
    memory: u64,
}

/// The least cost that any plan could reach, with what may be changed now.
///
/// A machine that may not be changed, or holds an application that must stay, stays; it may at
/// most be given less. Of the others at least as many stay as it takes to hold what their
/// applications need and the ones that stay have no room for, were they all as large as the
/// largest and as full as they can be.
pub(super) fn lower_bound(model: &Model<'_>) -> f64 {
    let (mut bound, mut staying) = (0.0, 0_u64);
    let machine_cost = model.situation.policy.cost_per_machine;
    let (mut demand, mut slack, mut largest) =
        (Demand::default(), Demand::default(), Demand::default());
    let mut least_given = f64::MAX;
    for (vm, machine) in model.running() {
        let standing = model.standing(vm);
        let least = least_given_to(model, standing, &machine.allocation);
        if standing.is_some_and(|standing| may_go(model, vm, standing)) {
            let Some(standing) = standing else { continue };
            let needed = needed_by(model, standing, &machine.allocation);
            demand.cpu += needed.cpu;
            demand.memory += needed.memory;
            largest.cpu = largest.cpu.max(machine.allocation.cpu.unwrap_or(Millicores(0)).0);
            largest.memory = largest.memory.max(machine.allocation.memory.unwrap_or(Bytes(0)).0);
            least_given = least_given.min(least);
        } else {
            bound += machine_cost + least;
            staying += 1;
            let room = standing.and_then(|standing| model.room(standing));
            let (cpu, memory) = room.map(|room| room.mean()).unwrap_or_default();
            // The mean of a bucket is rounded down.
            slack.cpu += cpu.0 + 1;
            slack.memory += memory.0 + (1 << 10);
        }
    }
    let short = |demand: u64, slack: u64, largest: u64| {
        let left = demand.saturating_sub(slack);
        if largest == 0 { 0 } else { left.div_ceil(largest) }
    };
    let more = short(demand.cpu, slack.cpu, largest.cpu)
        .max(short(demand.memory, slack.memory, largest.memory))
        .max(u64::from(staying == 0 && least_given < f64::MAX));
    #[expect(clippy::cast_precision_loss, reason = "machines are few")]
    let more = more as f64;
    if more > 0.0 { bound + more * (machine_cost + least_given) } else { bound }
}

/// Whether a machine could be emptied, as far as its own standing goes.
fn may_go(model: &Model<'_>, vm: &VmId, standing: &Standing) -> bool {
    model.emptiable(vm, standing).is_ok()
}

/// What a machine costs at least while it is kept.
pub(super) fn least_cost(model: &Model<'_>, vm: &VmId, machine: &Machine) -> f64 {
    let least = least_given_to(model, model.standing(vm), &machine.allocation);
    model.situation.policy.cost_per_machine + least
}

/// What all machines but those of a target cost at least.
pub(super) fn bound_beside(model: &Model<'_>, target: &BTreeMap<&VmId, usize>) -> f64 {
    let others = model.running().filter(|(vm, _)| !target.contains_key(*vm));
    others.map(|(vm, machine)| least_cost(model, vm, machine)).sum()
}

/// The least that the machines of a target cost, and for a small one nearer than that.
pub(super) fn bound_of(packing: &Packing) -> f64 {
    let is_near = exact::is_sized_at_most(packing, exact::SIZE_RELAXED);
    let relaxed = is_near.then(|| exact::relaxed(packing)).flatten();
    relaxed.unwrap_or_default().max(bound(packing))
}

fn least_given_to(model: &Model<'_>, standing: Option<&Standing>, present: &Allocation) -> f64 {
    let policy = model.situation.policy;
    let lowered = standing.into_iter().flat_map(|standing| &standing.opportunities);
    let lowered = lowered.filter_map(|opportunity| match opportunity {
        Opportunity::Shrink { to } => Some(given(policy, to)),
        _ => None,
    });
    lowered.fold(given(policy, present), f64::min)
}

/// What a machine's mix needs at least: no more than it was seen to use, or is given.
fn needed_by(model: &Model<'_>, standing: &Standing, allocation: &Allocation) -> Demand {
    let mix = standing.mix.as_ref();
    let names = mix.into_iter().flat_map(|mix| mix.applications.0.keys());
    let needs = names.filter_map(|name| standing.needs.get(name));
    let (mut cpu, mut memory) = (0, 0);
    for need in needs {
        // Over all buckets, for at no time is there more room than a machine has.
        let (over_day, held) = model.buckets.demand(need).mean();
        cpu += need.cpu_mean.min(need.cpu_peak).min(over_day).0;
        memory += held.min(need.memory_peak).0;
    }
    let at_most = |amount: u64, peak: Option<u64>, given: Option<u64>| {
        amount.min(peak.unwrap_or(u64::MAX)).min(given.unwrap_or(0))
    };
    Demand {
        cpu: at_most(cpu, standing.cpu_peak.map(|cpu| cpu.0), allocation.cpu.map(|cpu| cpu.0)),
        memory: at_most(
            memory,
            standing.memory_peak.map(|memory| memory.0),
            allocation.memory.map(|memory| memory.0),
        ),
    }
}
