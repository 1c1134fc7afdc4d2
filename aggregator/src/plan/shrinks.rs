//! Shrinking: gives a machine less of what it was never seen to need.

use super::{
    Goal,
    costs::cost,
    draft::{Draft, Foretold},
    model::Model,
    moves::{change, mix_of},
};
use crate::{hypervisor::Allocation, inference::Opportunity};

/// All shrinks that are right by themselves.
pub(super) fn shrinks(model: &Model<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let policy = model.situation.policy;
    for (vm, _) in model.running() {
        let Ok((standing, machine)) = model.candidate(vm) else { continue };
        if model.is_drained(vm) {
            continue;
        }
        let lowered = standing.opportunities.iter().find_map(|opportunity| match opportunity {
            Opportunity::Shrink { to } => Some(*to),
            _ => None,
        });
        let Some(to) = lowered else { continue };
        // The windows may be older than the present allocation: never more than that.
        let to = at_most(to, machine.allocation);
        let mix = mix_of(standing);
        let use_at_peak =
            (standing.cpu_peak.unwrap_or_default(), standing.memory_peak.unwrap_or_default());
        let (from, name) = (machine.allocation, &standing.name);
        let gain = cost(policy, &from) - cost(policy, &to);
        drafts.push(Draft {
            goal: Goal::Shrink,
            source: vm.clone(),
            allocation: to,
            summary: format!("give {name} {} instead of {}", told(&to), told(&from)),
            gain,
            // One machine is interrupted once.
            worth: gain,
            after: None,
            moves: Vec::new(),
            changes: [(vm.clone(), change(standing, machine, (mix.clone(), mix), to))].into(),
            groups: [model.group(vm).clone()].into(),
            foretold: vec![Foretold { vm: vm.clone(), before: use_at_peak, after: use_at_peak }],
        });
    }
    drafts
}

fn at_most(to: Allocation, present: Allocation) -> Allocation {
    Allocation {
        cpu: present.cpu.map(|given| to.cpu.unwrap_or(given).min(given)),
        memory: present.memory.map(|given| to.memory.unwrap_or(given).min(given)),
        storage: present.storage,
    }
}

pub(super) fn told(allocation: &Allocation) -> String {
    let cpu = allocation.cpu.map_or_else(|| "unknown CPU".to_owned(), |cpu| cpu.to_string());
    let memory = allocation.memory.map_or_else(|| "unknown".to_owned(), |m| m.to_string());
    format!("{cpu} and {memory} of memory")
}
