//! The moves to a target, in parts that are each a plan, and in chains that are only together
//! worth it.
//!
//! A part is all that goes from one machine to one other at one time. Parts that empty the same
//! machine belong together, and so does a part that needs the room another makes.

use std::collections::BTreeMap;

use common::id::{AppName, VmId};

use super::{costs::cost, model::Model, target::Target};

/// What goes from one machine to one other.
pub(super) struct Part<'a> {
    pub(super) from: &'a VmId,
    pub(super) to: &'a VmId,
    pub(super) applications: Vec<&'a AppName>,
    /// Nothing is left on the machine then.
    pub(super) retires: bool,
    /// What it is good for, if it retires nothing itself.
    pub(super) purpose: &'static str,
    items: Vec<usize>,
}

/// Parts that are only together worth it, in the order in which they can be made.
pub(super) struct Chain<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// In cost units, once all are made.
    pub(super) gain: f64,
    /// It empties a machine that shall be emptied whatever that gains.
    pub(super) is_ordered: bool,
    disruption: f64,
}

impl Chain<'_> {
    /// Gain per interruption of a live machine or application.
    pub(super) fn worth(&self) -> f64 {
        if self.is_ordered {
            return f64::INFINITY;
        }
        if self.disruption > 0.0 { self.gain / self.disruption } else { 0.0 }
    }
}

/// The chains of a target.
pub(super) fn chains<'a>(model: &Model<'a>, target: &Target<'a>) -> Vec<Chain<'a>> {
    let parts = parts(model, target);
    let mut chain_of: Vec<usize> = (0..parts.len()).collect();
    for later in 0..parts.len() {
        for earlier in 0..later {
            let (one, other) = (&parts[earlier], &parts[later]);
            let same_source = one.from == other.from;
            let makes_room = one.from == other.to;
            let goes_on = one.items.iter().any(|item| other.items.contains(item));
            if same_source || makes_room || goes_on {
                let (from, to) = (chain_of[later], chain_of[earlier]);
                chain_of.iter_mut().filter(|of| **of == from).for_each(|of| *of = to);
            }
        }
    }
    let mut chains: BTreeMap<usize, Chain<'a>> = BTreeMap::new();
    for (part, of) in parts.into_iter().zip(chain_of) {
        let empty = || Chain { parts: Vec::new(), gain: 0.0, is_ordered: false, disruption: 0.0 };
        chains.entry(of).or_insert_with(empty).parts.push(part);
    }
    let chains = chains.into_values().map(|chain| valued(model, target, chain));
    chains.collect()
}

fn parts<'a>(model: &Model<'a>, target: &Target<'a>) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for stage in &target.order.stages {
        let mut by_source: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (item, from) in &stage.moves {
            by_source.entry(*from).or_default().push(*item);
        }
        for (from, items) in by_source {
            let vm = target.machines[from];
            let mix = model.standing(vm).and_then(|standing| standing.mix.as_ref());
            let all = mix.map_or(0, |mix| mix.applications.0.len());
            let is_emptied = target.is_emptied(from);
            let of = items.iter().flat_map(|item| &target.movables[*item].applications);
            let applications: Vec<&AppName> = of.copied().collect();
            parts.push(Part {
                from: vm,
                to: target.machines[stage.to],
                retires: is_emptied && applications.len() == all && !stage.on_the_way,
                purpose: purpose(is_emptied || model.is_drained(vm), stage.on_the_way),
                applications,
                items,
            });
        }
    }
    parts
}

const fn purpose(is_emptied: bool, on_the_way: bool) -> &'static str {
    if on_the_way {
        "on its way to another, which has no room yet"
    } else if is_emptied {
        "one of the moves that empty it"
    } else {
        "to make room for others"
    }
}

fn valued<'a>(model: &Model<'a>, target: &Target<'a>, mut chain: Chain<'a>) -> Chain<'a> {
    let emptied = target.machines.iter().enumerate().filter(|(bin, vm)| {
        target.is_emptied(*bin) && chain.parts.iter().any(|part| part.from == **vm)
    });
    let policy = model.situation.policy;
    let (mut gain, mut machines) = (0.0, 0_u32);
    for (_, vm) in emptied {
        gain += model.machine(vm).map_or(0.0, |machine| cost(policy, &machine.allocation));
        machines += 1;
    }
    let moved: usize = chain.parts.iter().map(|part| part.applications.len()).sum();
    chain.gain = gain;
    chain.is_ordered = chain.parts.iter().any(|part| model.is_drained(part.from));
    chain.disruption = moved as f64 + f64::from(machines);
    chain
}
