//! Closing a bin: its items go wherever they make others least too full, and those are then
//! relieved by moves and exchanges until none is too full, or the attempt is given up and undone.
//!
//! The walk is focused (each step begins in a bin that is too full), as a walk for satisfiability
//! is: what is right already is only touched to make room.

use super::{
    random::Random,
    search::Budget,
    state::{Change, State},
};

/// Bins looked at in each step.
const BINS_LOOKED_AT: usize = 12;
/// Items of such a bin that are looked at for an exchange.
const ITEMS_LOOKED_AT: usize = 6;
/// How much worse, in shares of a bin, a step may make it with a probability of 1/e.
const WARMTH: f64 = 0.004;
/// What a cost unit weighs against a whole bin too full: enough to choose among ways, too little
/// to keep a bin too full.
const COST_WEIGHT: f64 = 0.05;

/// What a step does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Move(usize, usize),
    Swap(usize, usize),
}

/// A walk that can be undone.
pub(super) struct Walk<'s, 'p, 'b> {
    state: &'s mut State<'p>,
    random: &'s mut Random,
    budget: &'s mut Budget<'b>,
    /// Bins that items may go to.
    open: &'s [usize],
    done: Vec<(usize, usize)>,
}

impl<'s, 'p, 'b> Walk<'s, 'p, 'b> {
    pub(super) fn new(
        state: &'s mut State<'p>,
        (random, budget): (&'s mut Random, &'s mut Budget<'b>),
        open: &'s [usize],
    ) -> Self {
        Self { state, random, budget, open, done: Vec::new() }
    }

    /// Closes a bin within `steps`; whether it could, at a cost of at most `most`. If not, all is
    /// as before.
    pub(super) fn close(&mut self, bin: usize, steps: u64, most: f64) -> bool {
        let is_closed = self.empty(bin) && self.relieve(Some(bin), steps);
        self.keep_or_undo(is_closed, most)
    }

    /// Has an item go to a bin, room or not, and others make room; ends as [`Walk::close`] does.
    pub(super) fn shove(&mut self, item: usize, to: usize, (steps, most): (u64, f64)) -> bool {
        if to == self.state.bin(item) || !self.state.admits(item, to, None) {
            return false;
        }
        self.put(item, to);
        let is_relieved = self.relieve(None, steps);
        self.keep_or_undo(is_relieved, most)
    }

    /// Relieves whatever is too full; it is not undone if that fails.
    pub(super) fn mend(&mut self, steps: u64) -> bool {
        self.relieve(None, steps)
    }

    fn keep_or_undo(&mut self, is_right: bool, most: f64) -> bool {
        if is_right && self.state.cost() <= most {
            return true;
        }
        while let Some((item, from)) = self.done.pop() {
            self.state.put(item, from);
        }
        false
    }

    fn put(&mut self, item: usize, to: usize) {
        self.done.push((item, self.state.bin(item)));
        self.state.put(item, to);
    }

    /// Puts every item of a bin where it does least harm.
    fn empty(&mut self, bin: usize) -> bool {
        let mut items = self.state.contents(bin).to_vec();
        let packing = self.state.packing;
        let size = |item: &usize| packing.demand(*item).iter().sum::<f64>();
        items.sort_by(|one, other| size(other).total_cmp(&size(one)).then(one.cmp(other)));
        for item in items {
            let mut chosen: Option<(f64, usize)> = None;
            let begin = self.random.below(self.open.len().max(1));
            let looked_at = self.open.len().min(8 * BINS_LOOKED_AT);
            for at in 0..self.open.len() {
                let to = self.open[(begin + at) % self.open.len()];
                // Further than that only for an item that has found no place at all.
                if at >= looked_at && chosen.is_some() {
                    break;
                }
                if to == bin || !self.state.admits(item, to, None) {
                    continue;
                }
                self.budget.spend(1);
                let harm = harm(self.state.change(item, to));
                if chosen.is_none_or(|(least, _)| harm < least) {
                    chosen = Some((harm, to));
                }
            }
            let Some((_, to)) = chosen else { return false };
            self.put(item, to);
        }
        true
    }

    /// Walks until no bin is too full; gives up after `steps`.
    fn relieve(&mut self, closed: Option<usize>, steps: u64) -> bool {
        let until = self.budget.spent() + steps;
        while !self.state.too_full().is_empty() {
            if self.budget.spent() >= until || self.budget.is_over() {
                return false;
            }
            let bin = self.state.too_full()[self.random.below(self.state.too_full().len())];
            let contents = self.state.contents(bin);
            if contents.is_empty() {
                return false;
            }
            let item = contents[self.random.below(contents.len())];
            let Some((harm, step)) = self.best(item, closed) else { continue };
            if harm <= 0.0 || self.random.share() < (-harm / WARMTH).exp() {
                self.take(step);
            }
        }
        true
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Move(item, to) => self.put(item, to),
            Step::Swap(one, other) => {
                let (here, there) = (self.state.bin(one), self.state.bin(other));
                self.put(one, there);
                self.put(other, here);
            }
        }
    }

    /// The least harmful of some ways to get an item out of its bin.
    fn best(&mut self, item: usize, closed: Option<usize>) -> Option<(f64, Step)> {
        let here = self.state.bin(item);
        let mut chosen: Option<(f64, Step)> = None;
        for _ in 0..BINS_LOOKED_AT.min(self.open.len()) {
            let to = self.open[self.random.below(self.open.len())];
            if to == here || Some(to) == closed {
                self.budget.spend(1);
                continue;
            }
            if self.state.admits(item, to, None) {
                let harm = harm(self.state.change(item, to));
                keep(&mut chosen, harm, Step::Move(item, to));
            }
            let there = self.state.contents(to).len();
            for _ in 0..ITEMS_LOOKED_AT.min(there) {
                let other = self.state.contents(to)[self.random.below(there)];
                if self.state.admits(item, to, Some(other))
                    && self.state.admits(other, here, Some(item))
                {
                    let harm = harm(self.state.swap_change(item, other));
                    keep(&mut chosen, harm, Step::Swap(item, other));
                }
            }
            self.budget.spend(1 + ITEMS_LOOKED_AT.min(there) as u64);
        }
        chosen
    }
}

fn keep(chosen: &mut Option<(f64, Step)>, harm: f64, step: Step) {
    if chosen.is_none_or(|(least, _)| harm < least) {
        *chosen = Some((harm, step));
    }
}

fn harm(change: Change) -> f64 {
    change.over + COST_WEIGHT * change.cost
}
