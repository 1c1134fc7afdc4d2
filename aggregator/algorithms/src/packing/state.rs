//! An assignment with all that its change costs kept up to date.
//!
//! A move is valued in time proportional to the dimensions and the item's ties, whatever the size
//! of the rest. A bin may be too full for a while; what may never be (class, marks, hosts) is asked
//! by [`State::admits`] before an item enters.

use super::{Assignment, End, Packing};

/// Where an item is that was taken out.
const NOWHERE: usize = usize::MAX;

/// An assignment, with loads and costs.
#[derive(Debug, Clone)]
pub struct State<'p> {
    pub(crate) packing: &'p Packing,
    assignment: Assignment,
    load: Vec<f64>,
    over: Vec<f64>,
    contents: Vec<Vec<usize>>,
    place: Vec<usize>,
    host_load: Vec<f64>,
    cost: f64,
    /// Bins that are too full, and where each stands in that list.
    too_full: Vec<usize>,
    rank: Vec<Option<usize>>,
    used: usize,
}

/// What changes if an item goes elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Of the cost.
    pub cost: f64,
    /// Of the sum by which bins are too full, as shares of their capacity.
    pub over: f64,
}

impl<'p> State<'p> {
    /// The state of an assignment.
    #[must_use]
    pub fn of(packing: &'p Packing, assignment: Assignment) -> Self {
        let (bins, dims) = (packing.bins(), packing.dims);
        let mut state = Self {
            packing,
            load: packing.base.clone(),
            over: vec![0.0; bins],
            contents: vec![Vec::new(); bins],
            place: vec![0; assignment.len()],
            host_load: vec![0.0; packing.hosts.len() * dims],
            cost: packing.cost(&assignment),
            too_full: Vec::new(),
            rank: vec![None; bins],
            used: 0,
            assignment,
        };
        for bin in 0..bins {
            state.shift_host(bin, packing.base(bin), 1.0);
        }
        for item in 0..state.assignment.len() {
            let bin = state.assignment[item];
            state.enter(item, bin);
        }
        for bin in 0..bins {
            state.note_over(bin);
        }
        state.used = state.contents.iter().filter(|contents| !contents.is_empty()).count();
        state
    }

    /// Where each item is.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// What it costs.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// Bins that hold an item.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Items of a bin.
    #[must_use]
    pub fn contents(&self, bin: usize) -> &[usize] {
        &self.contents[bin]
    }

    /// The bin of an item.
    #[must_use]
    pub fn bin(&self, item: usize) -> usize {
        self.assignment[item]
    }

    /// What is used of each dimension of a bin.
    #[must_use]
    pub fn load(&self, bin: usize) -> &[f64] {
        &self.load[bin * self.packing.dims..(bin + 1) * self.packing.dims]
    }

    /// What is used of each dimension of a bin's host; empty if that is not known.
    pub(super) fn host_load(&self, bin: usize) -> &[f64] {
        let dims = self.packing.dims;
        let host = self.packing.bins[bin].host.filter(|host| *host < self.packing.hosts.len());
        host.map_or(&[], |host| &self.host_load[host * dims..(host + 1) * dims])
    }

    /// Bins that are too full.
    #[must_use]
    pub fn too_full(&self) -> &[usize] {
        &self.too_full
    }

    /// Whether no bin is too full and nothing is where it must not be.
    #[must_use]
    pub fn is_feasible(&self) -> bool {
        let placed = || {
            (0..self.assignment.len()).all(|item| {
                let bin = self.assignment[item];
                self.packing.may(item, bin) && !self.clashes(item, bin, None)
            })
        };
        self.too_full.is_empty() && self.hosts_hold() && placed()
    }

    fn hosts_hold(&self) -> bool {
        let dims = self.packing.dims;
        self.packing.hosts.iter().enumerate().all(|(host, of)| {
            let load = &self.host_load[host * dims..(host + 1) * dims];
            load.iter().zip(&of.capacity).all(|(load, most)| load <= most)
        })
    }

    /// Whether an item may enter a bin as far as class, marks and hosts go; `without` is an item
    /// that would leave it in return.
    #[must_use]
    pub fn admits(&self, item: usize, bin: usize, without: Option<usize>) -> bool {
        self.packing.may(item, bin)
            && !self.clashes(item, bin, without)
            && self.host_admits(item, bin, without)
    }

    fn clashes(&self, item: usize, bin: usize, without: Option<usize>) -> bool {
        // What is at home beside each other already may go on so.
        let at_home = |item: usize| self.packing.items[item].home == Some(bin);
        self.packing.has_marks
            && self.contents[bin].iter().any(|other| {
                *other != item
                    && Some(*other) != without
                    && !(at_home(item) && at_home(*other))
                    && self.packing.shun(item, *other)
            })
    }

    fn host_admits(&self, item: usize, bin: usize, without: Option<usize>) -> bool {
        let packing = self.packing;
        let Some(host) = packing.bins[bin].host.filter(|_| !packing.hosts.is_empty()) else {
            return true;
        };
        if packing.bins.get(self.assignment[item]).is_some_and(|bin| bin.host == Some(host)) {
            return true;
        }
        let load = &self.host_load[host * packing.dims..(host + 1) * packing.dims];
        let less = |dim: usize| without.map_or(0.0, |other| packing.demand(other)[dim]);
        let of = packing.hosts[host].capacity.iter().zip(load).zip(packing.demand(item));
        of.enumerate().all(|(dim, ((most, load), need))| load + need - less(dim) <= *most)
    }

    /// Whether a bin has room for an item beside what it holds.
    #[must_use]
    pub fn has_room(&self, item: usize, bin: usize) -> bool {
        let of = self.packing.demand(item).iter().zip(self.load(bin));
        of.zip(self.packing.capacity(bin)).all(|((need, load), most)| need + load <= *most)
    }

    /// By how much a bin would be too full with `more` in it and `less` out of it.
    fn over_with(&self, bin: usize, more: Option<usize>, less: Option<usize>) -> f64 {
        let packing = self.packing;
        let range = bin * packing.dims..(bin + 1) * packing.dims;
        let (load, most) = (&self.load[range.clone()], &packing.capacity[range.clone()]);
        let share = &packing.share[range];
        let limits = load.iter().zip(most).zip(share);
        match (more, less) {
            (Some(more), Some(less)) => limits
                .zip(packing.demand(more).iter().zip(packing.demand(less)))
                .map(|(((load, most), share), (more, less))| {
                    (load + more - less - most).max(0.0) * share
                })
                .sum(),
            (Some(more), None) => limits
                .zip(packing.demand(more))
                .map(|(((load, most), share), more)| (load + more - most).max(0.0) * share)
                .sum(),
            (None, Some(less)) => limits
                .zip(packing.demand(less))
                .map(|(((load, most), share), less)| (load - less - most).max(0.0) * share)
                .sum(),
            (None, None) => {
                limits.map(|((load, most), share)| (load - most).max(0.0) * share).sum()
            }
        }
    }

    /// What changes if an item goes to another bin.
    #[must_use]
    pub fn change(&self, item: usize, to: usize) -> Change {
        let from = self.assignment[item];
        let left = if self.over[from] > 0.0 { self.over_with(from, None, Some(item)) } else { 0.0 };
        let over = self.over_with(to, Some(item), None) + left - self.over[from] - self.over[to];
        Change { over, cost: self.cost_change(item, to) }
    }

    /// What changes in the cost if an item goes to another bin.
    #[must_use]
    pub fn cost_change(&self, item: usize, to: usize) -> f64 {
        let packing = self.packing;
        let from = self.assignment[item];
        let mut cost = packing.place_cost(item, to) - packing.place_cost(item, from);
        if self.contents[to].is_empty() && !packing.bins[to].stays {
            cost += packing.bins[to].fixed_cost;
        }
        if self.contents[from].len() == 1 && !packing.bins[from].stays {
            cost -= packing.bins[from].fixed_cost;
        }
        cost + self.tie_change(item, to)
    }

    fn tie_change(&self, item: usize, to: usize) -> f64 {
        if self.packing.ties[item].is_empty() {
            return 0.0;
        }
        self.tie_cost(item, to) - self.tie_cost(item, self.assignment[item])
    }

    /// What an item's ties cost were it in a bin; those to items that are taken out cost nothing.
    fn tie_cost(&self, item: usize, at: usize) -> f64 {
        let costs = self.packing.ties[item].iter().map(|tie| {
            let other = match tie.to {
                End::Item(other) => self.assignment[other],
                End::Bin(bin) => bin,
            };
            if other == NOWHERE { 0.0 } else { tie.cost * self.packing.distance(at, other) }
        });
        costs.sum()
    }

    /// What it costs to put an item that was taken out into a bin.
    #[must_use]
    pub(super) fn entry_cost(&self, item: usize, to: usize) -> f64 {
        let of = &self.packing.bins[to];
        let opened = self.contents[to].is_empty() && !of.stays;
        let fixed = if opened { of.fixed_cost } else { 0.0 };
        self.packing.place_cost(item, to) + self.tie_cost(item, to) + fixed
    }

    /// Takes an item out, until [`State::put_in`]; gives the bin it was in.
    pub(super) fn take_out(&mut self, item: usize) -> usize {
        let from = self.assignment[item];
        self.leave(item, from);
        self.used -= usize::from(self.contents[from].is_empty());
        self.note_over(from);
        self.cost -= self.entry_cost(item, from);
        self.assignment[item] = NOWHERE;
        from
    }

    /// Puts an item that was taken out into a bin.
    pub(super) fn put_in(&mut self, item: usize, to: usize) {
        self.cost += self.entry_cost(item, to);
        self.assignment[item] = to;
        self.enter(item, to);
        self.used += usize::from(self.contents[to].len() == 1);
        self.note_over(to);
    }

    /// What changes if two items of different bins change places.
    #[must_use]
    pub fn swap_change(&self, one: usize, other: usize) -> Change {
        let (here, there) = (self.assignment[one], self.assignment[other]);
        let over = self.over_with(here, Some(other), Some(one))
            + self.over_with(there, Some(one), Some(other))
            - self.over[here]
            - self.over[there];
        let packing = self.packing;
        let placed = packing.place_cost(one, there) - packing.place_cost(one, here)
            + packing.place_cost(other, here)
            - packing.place_cost(other, there);
        let mut cost = placed + self.tie_change(one, there) + self.tie_change(other, here);
        // A tie between the two is as long after the exchange as before.
        let between = packing.ties[one].iter().filter(|tie| tie.to == End::Item(other));
        let between: f64 = between.map(|tie| tie.cost).sum();
        cost += 2.0 * between * packing.distance(here, there);
        Change { cost, over }
    }

    /// Puts an item into another bin.
    pub fn put(&mut self, item: usize, to: usize) {
        let from = self.assignment[item];
        if from == to {
            return;
        }
        self.cost += self.cost_change(item, to);
        self.leave(item, from);
        self.assignment[item] = to;
        self.enter(item, to);
        self.used += usize::from(self.contents[to].len() == 1);
        self.used -= usize::from(self.contents[from].is_empty());
        self.note_over(from);
        self.note_over(to);
    }

    fn enter(&mut self, item: usize, bin: usize) {
        self.place[item] = self.contents[bin].len();
        self.contents[bin].push(item);
        self.shift(item, bin, 1.0);
    }

    fn leave(&mut self, item: usize, bin: usize) {
        let place = self.place[item];
        self.contents[bin].swap_remove(place);
        if let Some(moved) = self.contents[bin].get(place) {
            self.place[*moved] = place;
        }
        self.shift(item, bin, -1.0);
    }

    fn shift(&mut self, item: usize, bin: usize, sign: f64) {
        let packing = self.packing;
        let load = &mut self.load[bin * packing.dims..(bin + 1) * packing.dims];
        for (load, need) in load.iter_mut().zip(packing.demand(item)) {
            *load += sign * need;
        }
        self.shift_host(bin, packing.demand(item), sign);
    }

    fn shift_host(&mut self, bin: usize, amounts: &[f64], sign: f64) {
        let packing = self.packing;
        let Some(host) = packing.bins[bin].host.filter(|host| *host < packing.hosts.len()) else {
            return;
        };
        let load = &mut self.host_load[host * packing.dims..(host + 1) * packing.dims];
        for (load, amount) in load.iter_mut().zip(amounts) {
            *load += sign * amount;
        }
    }

    fn note_over(&mut self, bin: usize) {
        self.over[bin] = self.over_with(bin, None, None);
        match (self.over[bin] > 0.0, self.rank[bin]) {
            (true, None) => {
                self.rank[bin] = Some(self.too_full.len());
                self.too_full.push(bin);
            }
            (false, Some(rank)) => {
                self.too_full.swap_remove(rank);
                if let Some(moved) = self.too_full.get(rank) {
                    self.rank[*moved] = Some(rank);
                }
                self.rank[bin] = None;
            }
            _ => {}
        }
    }
}
