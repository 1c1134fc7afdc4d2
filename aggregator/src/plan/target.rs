//! The whole target: where every application that may leave its machine should run.
//!
//! The model is written as numbers, searched, and read back as moves. A machine that takes nothing
//! in and that nothing may leave is left out of it: nothing about it can change. Every move costs
//! what an interruption must gain, so a target that gains less per interruption is none.

mod written;

use std::collections::{BTreeMap, BTreeSet};

use algorithms::packing::{
    Bin, Item, Packing,
    exact::solve_or_search,
    order::{Order, order},
    search,
};
use common::id::{AppName, VmId};

use self::written::Written;
use super::{
    Limits, Progress,
    costs::{bound_beside, bound_of, cost, least_cost, lower_bound, present},
    model::Model,
};

/// Applications that may leave their machine, and go together: one, unless a rule says so.
pub(super) struct Movable<'a> {
    pub(super) applications: Vec<&'a AppName>,
    pub(super) home: usize,
}

/// The target and the way there.
pub(super) struct Target<'a> {
    pub(super) machines: Vec<&'a VmId>,
    pub(super) movables: Vec<Movable<'a>>,
    pub(super) packing: Packing,
    /// Empty if nothing moves.
    pub(super) order: Order,
    /// No plan brings the fleet below this.
    pub(super) bound: f64,
}

impl Target<'_> {
    /// The machines that go once the target is reached.
    pub(super) fn emptied(&self) -> BTreeSet<usize> {
        let had_any = self.movables.iter().map(|movable| movable.home);
        let mut emptied: BTreeSet<usize> =
            had_any.filter(|bin| !self.packing.stays(*bin)).collect();
        for bin in &self.order.reached {
            emptied.remove(bin);
        }
        emptied
    }
}

/// Looks for the best target within limits.
pub(super) fn target<'a>(
    model: &Model<'a>,
    ranks: &BTreeMap<&'a VmId, usize>,
    limits: &Limits<'_>,
) -> Target<'a> {
    let mut written = Written::new(model);
    written.write(ranks);
    let Written { machines, movables, items, bins, hosts, reach, index, .. } = written;
    let bare = bare(model, &machines, &items, &bins);
    let bound = lower_bound(model).max(bound_beside(model, &index) + bound_of(&bare));
    let packing = Packing::new(model.buckets.dims(), items, bins, hosts, reach);
    let homes: Vec<usize> = movables.iter().map(|movable| movable.home).collect();
    let found = packing.as_it_is().and_then(|_| {
        let costs = Costs::of(model, &machines);
        searched(&packing, limits, &|better| {
            let cost_of_target = costs.once(&packing, better.assignment);
            let lower_bound = bound.min(cost_of_target);
            Progress { steps: better.steps, cost_of_target, lower_bound }
        })
    });
    let to = found.unwrap_or_else(|| homes.clone());
    let mut way = order(&packing, &homes, &to);
    // What was refused on the way may have been what made it worth it.
    if packing.cost(&way.reached) >= packing.cost(&homes) {
        way = Order { stages: Vec::new(), refused: way.refused, reached: homes };
    }
    Target { bound, machines, movables, packing, order: way }
}

/// What is searched, as numbers, and the machine of each bin.
pub(super) fn problem(model: &Model<'_>, ranks: &BTreeMap<&VmId, usize>) -> (Vec<VmId>, Packing) {
    let mut written = Written::new(model);
    written.write(ranks);
    let Written { machines, items, bins, hosts, reach, .. } = written;
    let packing = Packing::new(model.buckets.dims(), items, bins, hosts, reach);
    (machines.into_iter().cloned().collect(), packing)
}

/// The best packing within limits. Whoever hears of better ones is told in the fleet's terms.
fn searched(
    packing: &Packing,
    limits: &Limits<'_>,
    told: &dyn Fn(&search::Progress<'_>) -> Progress,
) -> Option<Vec<usize>> {
    let Limits { steps, seed, go_on, progress } = *limits;
    let hears = |better: &search::Progress<'_>| {
        if let Some(progress) = progress {
            progress(&told(better));
        }
    };
    let heard = progress.is_some().then_some(&hears as &dyn Fn(&search::Progress<'_>));
    let limits = search::Limits { steps, seed, go_on, progress: heard };
    solve_or_search(packing, &limits).map(|found| found.assignment)
}

/// What the machines of a target cost, and all others together.
struct Costs {
    each: Vec<f64>,
    beside: f64,
}

impl Costs {
    fn of(model: &Model<'_>, machines: &[&VmId]) -> Self {
        let policy = model.situation.policy;
        let each = machines
            .iter()
            .map(|vm| model.machine(vm).map_or(0.0, |machine| cost(policy, &machine.allocation)));
        let each: Vec<f64> = each.collect();
        Self { beside: present(model) - each.iter().sum::<f64>(), each }
    }

    /// What the fleet costs once each item is where an assignment has it.
    fn once(&self, packing: &Packing, assignment: &[usize]) -> f64 {
        let mut is_kept: Vec<bool> = (0..self.each.len()).map(|bin| packing.stays(bin)).collect();
        assignment.iter().for_each(|bin| is_kept[*bin] = true);
        let kept = self.each.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept);
        self.beside + kept.map(|(cost, _)| cost).sum::<f64>()
    }
}

/// The same without what only chooses among equals, and with machines as small as they may become.
fn bare(model: &Model<'_>, machines: &[&VmId], items: &[Item], bins: &[Bin]) -> Packing {
    let items = items.iter().map(|item| Item {
        move_cost: 0.0,
        ties: Vec::new(),
        holds: Vec::new(),
        excludes: Vec::new(),
        ..item.clone()
    });
    let bins = bins.iter().zip(machines).map(|(bin, vm)| Bin {
        fixed_cost: model.machine(vm).map_or(0.0, |machine| least_cost(model, vm, machine)),
        reluctance: 0.0,
        ..bin.clone()
    });
    Packing::new(model.buckets.dims(), items.collect(), bins.collect(), Vec::new(), Vec::new())
}
