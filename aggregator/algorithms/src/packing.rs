//! Vector packing: which item shall be in which bin, as numbers, without a name or a clock.
//!
//! ```text
//!  Packing ─> construct ─┐
//!          ─> as it is ──┴─> squeeze (close a bin) <─> reinsert (large neighbourhood) ─> Found
//!          ─> bound: no assignment costs less        ─> exact: none does, shown for small ones
//!  Found   ─> order: in which order the items move, so that no bin is ever too full
//! ```
//!
//! An item is an application on a machine, a bin a machine. A dimension is one resource in one
//! bucket of time. Amounts are whole numbers held in floats, so that adding one and taking it away
//! again leaves nothing behind; [`Packing::new`] rounds demands up and capacities down. The same
//! packing, budget and seed give the same answer on every computer.

pub mod bound;
pub mod construct;
pub mod exact;
pub mod order;
mod random;
mod reinsert;
pub mod search;
mod squeeze;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use random::Random;

/// Costs that differ by less are the same.
pub const SAME_COST: f64 = 1e-9;

/// What an item talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Another item, wherever it is.
    Item(usize),
    /// Something that stays in a bin.
    Bin(usize),
}

/// A tie between an item and what it talks to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tie {
    /// To what. A tie between two items is given once, by either.
    pub to: End,
    /// Cost of each unit of distance: 0 in the same bin, 1 on the same host, 2 beyond.
    pub cost: f64,
}

/// Something that has to be in some bin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// How much of each dimension it needs.
    pub demand: Vec<f64>,
    /// The bin it is in now; `None` if it is new.
    pub home: Option<usize>,
    /// Cost of having it elsewhere than at home.
    pub move_cost: f64,
    /// Its row in the table of what reaches what.
    pub class: usize,
    /// Marks it brings along, such as a port it listens on.
    pub holds: Vec<u32>,
    /// Marks that must not be where it is, whoever brings them.
    pub excludes: Vec<u32>,
    /// What it talks to.
    pub ties: Vec<Tie>,
}

/// Something that holds items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bin {
    /// How much of each dimension may be used at most.
    pub capacity: Vec<f64>,
    /// What is used by that which stays; empty for nothing.
    pub base: Vec<f64>,
    /// Cost while it is kept.
    pub fixed_cost: f64,
    /// Cost of each unit of demand in it, by dimension; empty for nothing.
    pub unit_cost: Vec<f64>,
    /// It is kept even when nothing is left in it.
    pub stays: bool,
    /// Items may come to it that are not at home there.
    pub accepts: bool,
    /// Cost of each item that is in it, to choose among equals.
    pub reluctance: f64,
    /// Its column in the table of what reaches what.
    pub class: usize,
    /// The host it is on; `None` if unknown.
    pub host: Option<usize>,
    /// Marks of what stays in it.
    pub holds: Vec<u32>,
    /// Marks that what stays in it does not bear.
    pub excludes: Vec<u32>,
}

/// What a bin is on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// How much of each dimension all its bins may use together.
    pub capacity: Vec<f64>,
}

/// Which item is in which bin, by item.
pub type Assignment = Vec<usize>;

/// A whole problem, checked and laid out for speed.
#[derive(Debug, Clone)]
pub struct Packing {
    pub(crate) dims: usize,
    pub(crate) items: Vec<Item>,
    pub(crate) bins: Vec<Bin>,
    pub(crate) hosts: Vec<Host>,
    reach: Vec<Vec<bool>>,
    demand: Vec<f64>,
    pub(crate) capacity: Vec<f64>,
    pub(crate) base: Vec<f64>,
    /// One over the capacity; 1 where there is none, so that anything there is too much.
    pub(crate) share: Vec<f64>,
    /// Ties seen from either of their ends.
    pub(crate) ties: Vec<Vec<Tie>>,
    pub(crate) has_marks: bool,
}

impl Packing {
    /// Lays a problem out. `reach[class of item][class of bin]` says what may go where; an empty
    /// table lets everything go everywhere. A dimension that is not given is nought.
    ///
    /// A bin that takes nothing in may be fuller at the start than its capacity: what is at home
    /// there may stay or come back.
    #[must_use]
    pub fn new(
        dims: usize,
        items: Vec<Item>,
        bins: Vec<Bin>,
        hosts: Vec<Host>,
        reach: Vec<Vec<bool>>,
    ) -> Self {
        let laid = |amounts: &[f64], round: fn(f64) -> f64| {
            let given = amounts.iter().copied().map(round).chain(std::iter::repeat(0.0));
            given.take(dims).collect::<Vec<_>>()
        };
        let demand: Vec<f64> =
            items.iter().flat_map(|item| laid(&item.demand, f64::ceil)).collect();
        let base: Vec<f64> = bins.iter().flat_map(|bin| laid(&bin.base, f64::ceil)).collect();
        let mut capacity: Vec<f64> =
            bins.iter().flat_map(|bin| laid(&bin.capacity, f64::floor)).collect();
        let mut at_home = base.clone();
        for (item, of) in items.iter().enumerate() {
            if let Some(home) = of.home {
                let rows = at_home[home * dims..].iter_mut().zip(&demand[item * dims..]);
                rows.take(dims).for_each(|(used, more)| *used += more);
            }
        }
        for (bin, _) in bins.iter().enumerate().filter(|(_, bin)| !bin.accepts) {
            let rows = capacity[bin * dims..].iter_mut().zip(&at_home[bin * dims..]);
            rows.take(dims).for_each(|(most, used)| *most = most.max(*used));
        }
        let share = capacity.iter().map(|most| if *most > 0.0 { 1.0 / most } else { 1.0 });
        let share = share.collect();
        let has_marks = items.iter().any(|item| !item.excludes.is_empty())
            || bins.iter().any(|bin| !bin.excludes.is_empty());
        let ties = from_either_end(&items);
        Self { dims, items, bins, hosts, reach, demand, capacity, base, share, ties, has_marks }
    }

    /// Items in all.
    #[must_use]
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Bins in all.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// Dimensions of each demand and capacity.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// What an item needs of each dimension.
    #[must_use]
    pub fn demand(&self, item: usize) -> &[f64] {
        &self.demand[item * self.dims..(item + 1) * self.dims]
    }

    /// What may be used of each dimension of a bin.
    #[must_use]
    pub fn capacity(&self, bin: usize) -> &[f64] {
        &self.capacity[bin * self.dims..(bin + 1) * self.dims]
    }

    /// What is used in a bin by that which stays.
    #[must_use]
    pub fn base(&self, bin: usize) -> &[f64] {
        &self.base[bin * self.dims..(bin + 1) * self.dims]
    }

    /// Whether an item may be in a bin, whatever else is there.
    #[must_use]
    pub fn may(&self, item: usize, bin: usize) -> bool {
        let (of, to) = (&self.items[item], &self.bins[bin]);
        if of.home == Some(bin) {
            return true;
        }
        let reaches = || {
            let row = self.reach.get(of.class).and_then(|row| row.get(to.class));
            self.reach.is_empty() || row.copied().unwrap_or(false)
        };
        to.accepts && reaches() && !self.clashes_with_base(item, bin)
    }

    fn clashes_with_base(&self, item: usize, bin: usize) -> bool {
        let (of, to) = (&self.items[item], &self.bins[bin]);
        self.has_marks && (shares(&of.excludes, &to.holds) || shares(&to.excludes, &of.holds))
    }

    /// Whether two items may never share a bin.
    #[must_use]
    pub fn shun(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.items[one], &self.items[other]);
        self.has_marks
            && (shares(&one.excludes, &other.holds) || shares(&other.excludes, &one.holds))
    }

    /// Whether a bin is kept even when nothing is left in it.
    #[must_use]
    pub fn stays(&self, bin: usize) -> bool {
        self.bins[bin].stays
    }

    /// Units of distance between two bins.
    #[must_use]
    pub fn distance(&self, one: usize, other: usize) -> f64 {
        if one == other {
            return 0.0;
        }
        let (one, other) = (self.bins[one].host, self.bins[other].host);
        if one.is_some() && one == other { 1.0 } else { 2.0 }
    }

    /// Cost of having an item in a bin, its ties and the bin itself left out.
    #[must_use]
    pub fn place_cost(&self, item: usize, bin: usize) -> f64 {
        let (of, to) = (&self.items[item], &self.bins[bin]);
        let moved = if of.home.is_some_and(|home| home != bin) { of.move_cost } else { 0.0 };
        let units = to.unit_cost.iter().zip(self.demand(item)).map(|(cost, need)| cost * need);
        moved + to.reluctance + units.sum::<f64>()
    }

    /// What an assignment costs, from scratch.
    #[must_use]
    pub fn cost(&self, assignment: &[usize]) -> f64 {
        let used: BTreeSet<usize> = assignment.iter().copied().collect();
        let kept = (0..self.bins()).filter(|bin| self.bins[*bin].stays || used.contains(bin));
        let fixed: f64 = kept.map(|bin| self.bins[bin].fixed_cost).sum();
        let places = assignment.iter().enumerate();
        let placed: f64 = places.map(|(item, bin)| self.place_cost(item, *bin)).sum();
        let mut tied = 0.0;
        for (item, of) in self.items.iter().enumerate() {
            for tie in &of.ties {
                let other = match tie.to {
                    End::Item(other) => assignment[other],
                    End::Bin(bin) => bin,
                };
                tied += tie.cost * self.distance(assignment[item], other);
            }
        }
        fixed + placed + tied
    }

    /// Where everything is now; `None` if something is new, or a bin is too full.
    #[must_use]
    pub fn as_it_is(&self) -> Option<Assignment> {
        let homes: Option<Assignment> = self.items.iter().map(|item| item.home).collect();
        homes.filter(|homes| state::State::of(self, homes.clone()).is_feasible())
    }
}

fn shares(some: &[u32], others: &[u32]) -> bool {
    some.iter().any(|mark| others.contains(mark))
}

fn from_either_end(items: &[Item]) -> Vec<Vec<Tie>> {
    let mut ties: Vec<Vec<Tie>> = items.iter().map(|item| item.ties.clone()).collect();
    for (item, of) in items.iter().enumerate() {
        for tie in &of.ties {
            if let End::Item(other) = tie.to {
                ties[other].push(Tie { to: End::Item(item), cost: tie.cost });
            }
        }
    }
    ties
}
