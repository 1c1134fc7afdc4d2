//! The moves to a target, in parts that are each a plan, and in chains that are only together
//! worth it.
//!
//! A part is all that goes from one machine to one other at one time. Parts that empty the same
//! machine belong together, and so does a part that needs the room another makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::id::{AppName, VmId};

use super::{costs::cost, model::Model, target::Target};

/// What goes from one machine to one other.
pub(super) struct Part<'a> {
    pub(super) from: &'a VmId,
    pub(super) to: &'a VmId,
    pub(super) applications: Vec<&'a AppName>,
    /// Nothing is left on the machine then.
    pub(super) retires: bool,
    /// Nothing is left on it once the target is reached.
    empties: bool,
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
    let mut tied = Tied((0..parts.len()).collect());
    let mut last_from: HashMap<&VmId, usize> = HashMap::new();
    let mut last_of: HashMap<usize, usize> = HashMap::new();
    for (later, part) in parts.iter().enumerate() {
        // Parts that empty the same machine, and what needs the room that they make.
        let makes_room = last_from.get(part.to).copied();
        let same_source = last_from.insert(part.from, later);
        let goes_on: Vec<usize> =
            part.items.iter().filter_map(|item| last_of.insert(*item, later)).collect();
        for earlier in same_source.into_iter().chain(makes_room).chain(goes_on) {
            tied.tie(earlier, later);
        }
    }
    let mut chains: BTreeMap<usize, Chain<'a>> = BTreeMap::new();
    for (at, part) in parts.into_iter().enumerate() {
        let empty = || Chain { parts: Vec::new(), gain: 0.0, is_ordered: false, disruption: 0.0 };
        chains.entry(tied.first(at)).or_insert_with(empty).parts.push(part);
    }
    let chains = chains.into_values().map(|chain| valued(model, chain));
    chains.collect()
}

/// Which parts are tied to which: each leads to one before it, the first of a chain to itself.
struct Tied(Vec<usize>);

impl Tied {
    fn first(&mut self, mut part: usize) -> usize {
        while self.0[part] != part {
            self.0[part] = self.0[self.0[part]];
            part = self.0[part];
        }
        part
    }

    fn tie(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        self.0[one.max(other)] = one.min(other);
    }
}

fn parts<'a>(model: &Model<'a>, target: &Target<'a>) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let emptied = target.emptied();
    for stage in &target.order.stages {
        let mut by_source: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (item, from) in &stage.moves {
            by_source.entry(*from).or_default().push(*item);
        }
        for (from, items) in by_source {
            let vm = target.machines[from];
            let mix = model.standing(vm).and_then(|standing| standing.mix.as_ref());
            let all = mix.map_or(0, |mix| mix.applications.0.len());
            let is_emptied = emptied.contains(&from);
            let of = items.iter().flat_map(|item| &target.movables[*item].applications);
            let applications: Vec<&AppName> = of.copied().collect();
            parts.push(Part {
                from: vm,
                to: target.machines[stage.to],
                empties: is_emptied,
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

fn valued<'a>(model: &Model<'a>, mut chain: Chain<'a>) -> Chain<'a> {
    let emptied = chain.parts.iter().filter(|part| part.empties).map(|part| part.from);
    let policy = model.situation.policy;
    let (mut gain, mut machines) = (0.0, 0_u32);
    for vm in emptied.collect::<BTreeSet<_>>() {
        gain += model.machine(vm).map_or(0.0, |machine| cost(policy, &machine.allocation));
        machines += 1;
    }
    let moved: usize = chain.parts.iter().map(|part| part.applications.len()).sum();
    chain.gain = gain;
    chain.is_ordered = chain.parts.iter().any(|part| model.is_drained(part.from));
    chain.disruption = moved as f64 + f64::from(machines);
    chain
}
