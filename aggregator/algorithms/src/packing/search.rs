//! The search: the best of the heuristics and of what is there, made better step by step.
//!
//! A step is one place valued for one item. The budget is a number of steps, so that the answer
//! does not depend on the computer; a caller that must be done by a time gives a question to be
//! asked now and then.

use super::{
    Assignment, Packing, SAME_COST, bound,
    construct::{Heuristic, construct},
    random::Random,
    reinsert,
    squeeze::Walk,
    state::State,
};

/// Steps between two questions whether to go on.
const ASK_EVERY: u64 = 4096;
/// Steps that the first attempt to close a bin may take; each one that fails gives the next more.
const FIRST_ATTEMPT: u64 = 4_000;
/// Reinsertions between two attempts to close a bin.
const REINSERTIONS: usize = 24;
/// Items shoved into another bin between two attempts to close one, and steps each may take.
const SHOVES: usize = 4;
const SHOVE: u64 = 400;
/// Times that the search is let loose again.
const HEATS: f64 = 6.0;
/// How much dearer than the best a packing may be to go on from, in bins, when a heat begins.
const LEEWAY: f64 = 1.0;

/// How long to search, and who hears of it.
pub struct Limits<'a> {
    /// Steps at most.
    pub steps: u64,
    /// Chance follows from it.
    pub seed: u64,
    /// Asked now and then; `false` ends the search with the best found.
    pub go_on: Option<&'a dyn Fn() -> bool>,
    /// Told of each better packing as it is found.
    pub progress: Option<&'a dyn Fn(&Progress<'_>)>,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("steps", &self.steps).field("seed", &self.seed).finish()
    }
}

impl Limits<'_> {
    /// A number of steps, and nobody asked or told.
    #[must_use]
    pub const fn steps(steps: u64, seed: u64) -> Self {
        Self { steps, seed, go_on: None, progress: None }
    }
}

/// A better packing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// Steps so far.
    pub steps: u64,
    /// Its cost.
    pub cost: f64,
    /// Bins that hold an item.
    pub used: usize,
    /// Where each item is.
    pub assignment: &'a [usize],
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where each item shall be.
    pub assignment: Assignment,
    /// Its cost.
    pub cost: f64,
    /// No packing costs less than this.
    pub bound: f64,
    /// Steps it took.
    pub steps: u64,
}

impl Found {
    /// By how much it may be dearer than the best, as a share of the bound; `None` where nothing
    /// costs anything.
    #[must_use]
    pub fn gap(&self) -> Option<f64> {
        (self.bound > 0.0).then(|| (self.cost - self.bound).max(0.0) / self.bound)
    }
}

/// Steps that are left.
pub(super) struct Budget<'a> {
    limits: &'a Limits<'a>,
    spent: u64,
    asked: u64,
    ended: bool,
}

impl<'a> Budget<'a> {
    fn new(limits: &'a Limits<'a>) -> Self {
        Self { limits, spent: 0, asked: 0, ended: false }
    }

    pub(super) fn spend(&mut self, steps: u64) {
        self.spent += steps;
    }

    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }

    pub(super) fn is_over(&mut self) -> bool {
        if self.spent >= self.limits.steps {
            return true;
        }
        if self.spent >= self.asked + ASK_EVERY {
            self.asked = self.spent;
            self.ended |= self.limits.go_on.is_some_and(|go_on| !go_on());
        }
        self.ended
    }
}

/// The best packing that a search finds within its limits, never worse than any heuristic's or
/// than what is there; `None` if it finds none at all.
#[must_use]
pub fn search(packing: &Packing, limits: &Limits<'_>) -> Option<Found> {
    let least = bound::bound(packing);
    let mut random = Random::new(limits.seed);
    let mut budget = Budget::new(limits);
    let there = packing.as_it_is().or_else(|| mended(packing, &mut random, &mut budget));
    let begin = best_start(packing, there)?;
    let mut search = Search {
        cost: packing.cost(&begin),
        best: begin.clone(),
        state: State::of(packing, begin),
        random,
        budget,
        least,
    };
    search.tell();
    if packing.items() > 0 {
        search.improve();
    }
    let cost = packing.cost(&search.best);
    let steps = search.budget.spent();
    Some(Found { assignment: search.best, cost, bound: least.min(cost), steps })
}

/// What is there, with as much moved as it takes to have no bin too full.
fn mended(packing: &Packing, random: &mut Random, budget: &mut Budget<'_>) -> Option<Assignment> {
    let homes: Option<Assignment> = packing.items.iter().map(|item| item.home).collect();
    let mut state = State::of(packing, homes?);
    let open: Vec<usize> = (0..packing.bins()).filter(|bin| packing.bins[*bin].accepts).collect();
    let steps = budget.limits.steps / 4;
    let is_mended = Walk::new(&mut state, (random, budget), &open).mend(steps);
    (is_mended && state.is_feasible()).then(|| state.assignment().clone())
}

fn best_start(packing: &Packing, there: Option<Assignment>) -> Option<Assignment> {
    let made = Heuristic::ALL.iter().filter_map(|heuristic| construct(packing, *heuristic));
    let mut best: Option<(f64, Assignment)> = None;
    // What is there comes first: among equals nothing moves.
    for made in there.into_iter().chain(made) {
        let cost = packing.cost(&made);
        if best.as_ref().is_none_or(|(least, _)| cost < least - SAME_COST) {
            best = Some((cost, made));
        }
    }
    best.map(|(_, made)| made)
}

struct Search<'p> {
    state: State<'p>,
    best: Assignment,
    cost: f64,
    random: Random,
    budget: Budget<'p>,
    least: f64,
}

impl Search<'_> {
    fn tell(&self) {
        if let Some(progress) = self.budget.limits.progress {
            let used = self.state.used();
            let (steps, cost, assignment) = (self.budget.spent, self.cost, &self.best);
            progress(&Progress { steps, cost, used, assignment });
        }
    }

    fn note(&mut self) {
        if self.state.cost() < self.cost - SAME_COST {
            self.cost = self.state.cost();
            self.best.clone_from(self.state.assignment());
            self.tell();
        }
    }

    /// Closes bins and reinserts items in turn, until the bound or the end of the budget.
    fn improve(&mut self) {
        let packing = self.state.packing;
        let mut patience = FIRST_ATTEMPT;
        let most_patience = (self.budget.limits.steps / 8).max(FIRST_ATTEMPT);
        let mut tried: Vec<u32> = vec![0; packing.bins()];
        let places_differ = places_differ(packing);
        let accepting: Vec<usize> =
            (0..packing.bins()).filter(|bin| packing.bins[*bin].accepts).collect();
        while !self.budget.is_over() && self.cost > self.least + SAME_COST {
            // An attempt that can do nothing costs something too, or the search would never end.
            self.budget.spend(1 + packing.bins() as u64 / 8);
            let closing = next_to_close(&self.state, &tried, &mut self.random);
            if closing.is_none() && !places_differ {
                return;
            }
            if let Some(bin) = closing {
                if self.walk(|walk, most| walk.close(bin, patience, most)) {
                    tried.iter_mut().for_each(|times| *times = 0);
                } else {
                    tried[bin] += 1;
                    patience = (patience + patience / 4).min(most_patience);
                }
            }
            if places_differ {
                self.reinsert(&accepting);
                for _ in 0..SHOVES {
                    let item = self.random.below(packing.items());
                    let to = self.random.below(packing.bins());
                    self.walk(|walk, most| walk.shove(item, to, (SHOVE, most)));
                }
            }
        }
    }

    fn walk(&mut self, way: impl FnOnce(&mut Walk<'_, '_, '_>, f64) -> bool) -> bool {
        let most = self.at_most();
        let open = open(&self.state, &mut self.random);
        let (random, budget) = (&mut self.random, &mut self.budget);
        let is_kept = way(&mut Walk::new(&mut self.state, (random, budget), &open), most);
        if is_kept {
            self.note();
        }
        is_kept
    }

    fn reinsert(&mut self, accepting: &[usize]) {
        for _ in 0..REINSERTIONS {
            if self.budget.is_over() {
                return;
            }
            let most = self.at_most();
            let (random, budget) = (&mut self.random, &mut self.budget);
            if reinsert::attempt(&mut self.state, (random, budget), accepting, most) {
                self.note();
            }
        }
    }

    /// What the present packing may cost: near the best, the nearer the longer this heat lasts.
    fn at_most(&self) -> f64 {
        let spent = self.budget.spent as f64 / self.budget.limits.steps.max(1) as f64;
        let left = 1.0 - (spent * HEATS).fract();
        let bins = &self.state.packing.bins;
        let mean = bins.iter().map(|bin| bin.fixed_cost).sum::<f64>() / bins.len().max(1) as f64;
        self.cost + LEEWAY * mean * left
    }
}

/// Whether it matters where an item is, besides the bins that are kept.
fn places_differ(packing: &Packing) -> bool {
    let bins = &packing.bins;
    packing.items.iter().any(|item| item.move_cost > 0.0)
        || packing.ties.iter().any(|ties| !ties.is_empty())
        || bins.iter().any(|bin| bin.reluctance != 0.0 || !bin.unit_cost.is_empty())
        || bins
            .iter()
            .any(|bin| !bin.stays && (bin.fixed_cost - bins[0].fixed_cost).abs() > SAME_COST)
}

/// Bins that hold something, or are kept anyway; now and then one more, which may take the place
/// of the one to be closed.
fn open(state: &State<'_>, random: &mut Random) -> Vec<usize> {
    let bins = &state.packing.bins;
    let one_more = (random.below(4) == 0).then(|| random.below(bins.len()));
    let is_open = |bin: &usize| {
        let is_kept = bins[*bin].stays || !state.contents(*bin).is_empty();
        is_kept || (one_more == Some(*bin) && bins[*bin].accepts)
    };
    (0..bins.len()).filter(is_open).collect()
}

/// The bin that is the easiest to close for what it costs, of those tried least.
fn next_to_close(state: &State<'_>, tried: &[u32], random: &mut Random) -> Option<usize> {
    let packing = state.packing;
    let mut chosen: Option<((u32, f64), usize)> = None;
    for (bin, times) in tried.iter().copied().enumerate() {
        let of = &packing.bins[bin];
        if of.stays || of.fixed_cost <= 0.0 || state.contents(bin).is_empty() {
            continue;
        }
        let load = state.load(bin).iter().zip(&packing.share[bin * packing.dims..]);
        let fullness: f64 = load.map(|(load, share)| load * share).sum();
        let ease = fullness / of.fixed_cost * (1.0 + 0.3 * random.share());
        let key = (times, ease);
        if chosen.is_none_or(|(least, _)| key < least) {
            chosen = Some((key, bin));
        }
    }
    chosen.map(|(_, bin)| bin)
}
