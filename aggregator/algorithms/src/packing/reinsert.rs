//! Large neighbourhood: some items are taken out and put back where they cost least.
//!
//! What is taken out is all of some bins, items tied to each other, those whose place costs most,
//! or any. They come back in the order of their size or of what it would cost to let them wait
//! (regret); the outcome is kept if it costs no more than the search allows just then.

use super::{End, Packing, random::Random, search::Budget, state::State};

/// Most items that are taken out at once.
const MOST_TAKEN: usize = 24;
/// Items up to which each insertion is chosen by regret.
const MOST_REGRETTED: usize = 8;
/// Bins looked at for a place, beside the item's home and those it is tied to.
const BINS_LOOKED_AT: usize = 48;
/// Shares by which a cost may seem higher, so that the same place is not chosen for ever.
const NOISES: [f64; 3] = [0.0, 0.1, 0.5];

/// One attempt: whether what came of it costs at most `most`. If not, all is as before.
pub(super) fn attempt(
    state: &mut State<'_>,
    (random, budget): (&mut Random, &mut Budget<'_>),
    open: &[usize],
    most: f64,
) -> bool {
    let out = taken(state, random);
    let mut former: Vec<(usize, usize)> = Vec::with_capacity(out.len());
    for item in &out {
        former.push((*item, state.take_out(*item)));
    }
    let by_regret = out.len() <= MOST_REGRETTED && random.below(2) == 0;
    let noise = NOISES[random.below(NOISES.len())];
    let (placed, former_of) = (Vec::new(), &former);
    let mut back = Back { state, random, budget, open, placed, former: former_of, noise };
    let is_whole = if by_regret { back.by_regret(out) } else { back.by_size(out) };
    let placed = back.placed;
    if is_whole && state.cost() <= most {
        return true;
    }
    for item in placed {
        state.take_out(item);
    }
    for (item, bin) in former.into_iter().rev() {
        state.put_in(item, bin);
    }
    false
}

/// What is taken out.
fn taken(state: &State<'_>, random: &mut Random) -> Vec<usize> {
    let all = state.packing.items();
    let seed = random.below(all);
    let mut out = match random.below(4) {
        0 => {
            let mut out = state.contents(state.bin(seed)).to_vec();
            out.extend(state.contents(state.bin(random.below(all))));
            out
        }
        1 => related(state, seed),
        2 => worst(state, random),
        _ => (0..=random.below(MOST_TAKEN / 2)).map(|_| random.below(all)).collect(),
    };
    out.sort_unstable();
    out.dedup();
    random.shuffle(&mut out);
    out.truncate(MOST_TAKEN);
    out
}

/// An item, those it is tied to, and those it shares its bin with.
fn related(state: &State<'_>, seed: usize) -> Vec<usize> {
    let tied = state.packing.ties[seed].iter().filter_map(|tie| match tie.to {
        End::Item(other) => Some(other),
        End::Bin(_) => None,
    });
    tied.chain([seed]).chain(state.contents(state.bin(seed)).iter().copied()).collect()
}

/// Of some items the half whose places cost most.
fn worst(state: &State<'_>, random: &mut Random) -> Vec<usize> {
    let all = state.packing.items();
    let some = (0..MOST_TAKEN.min(all)).map(|_| random.below(all));
    let mut some: Vec<(f64, usize)> =
        some.map(|item| (state.entry_cost(item, state.bin(item)), item)).collect();
    some.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    some.truncate(some.len().div_ceil(2));
    some.into_iter().map(|(_, item)| item).collect()
}

struct Back<'s, 'p, 'b> {
    state: &'s mut State<'p>,
    random: &'s mut Random,
    budget: &'s mut Budget<'b>,
    open: &'s [usize],
    placed: Vec<usize>,
    former: &'s [(usize, usize)],
    noise: f64,
}

impl Back<'_, '_, '_> {
    fn by_size(&mut self, mut items: Vec<usize>) -> bool {
        if self.random.below(2) == 0 {
            let packing = self.state.packing;
            items.sort_by(|one, other| {
                size(packing, *other).total_cmp(&size(packing, *one)).then(one.cmp(other))
            });
        }
        for item in items {
            let Some((_, _, to)) = self.best(item) else { return false };
            self.state.put_in(item, to);
            self.placed.push(item);
        }
        true
    }

    /// First the item whose second best place is the furthest behind its best.
    fn by_regret(&mut self, mut items: Vec<usize>) -> bool {
        while !items.is_empty() {
            let mut chosen: Option<(f64, usize, usize)> = None;
            for (at, item) in items.iter().copied().enumerate() {
                let Some((best, second, to)) = self.best(item) else { return false };
                let regret = second - best;
                if chosen.is_none_or(|(most, _, _)| regret > most) {
                    chosen = Some((regret, at, to));
                }
            }
            let Some((_, at, to)) = chosen else { return false };
            let item = items.swap_remove(at);
            self.state.put_in(item, to);
            self.placed.push(item);
        }
        true
    }

    /// What the best and the second best place with room cost, and the best.
    fn best(&mut self, item: usize) -> Option<(f64, f64, usize)> {
        let packing = self.state.packing;
        let mut found: Option<(f64, f64, usize)> = None;
        let begin = self.random.below(self.open.len().max(1));
        let some = self.open.len().min(BINS_LOOKED_AT);
        let former = self.former.iter().filter(|(of, _)| *of == item).map(|(_, bin)| *bin);
        let tied = packing.ties[item].iter().filter_map(|tie| match tie.to {
            End::Bin(bin) => Some(bin),
            End::Item(_) => None,
        });
        let near: Vec<usize> =
            packing.items[item].home.into_iter().chain(former).chain(tied).collect();
        let some = (0..some).map(|at| self.open[(begin + at) % self.open.len()]);
        for to in near.into_iter().chain(some) {
            self.budget.spend(1);
            if !self.state.has_room(item, to) || !self.state.admits(item, to, None) {
                continue;
            }
            let noise = 1.0 + self.noise * self.random.share();
            let cost = self.state.entry_cost(item, to) * noise;
            found = Some(match found {
                None => (cost, f64::INFINITY, to),
                Some((best, _, at)) if cost < best && to != at => (cost, best, to),
                Some((best, second, at)) if to != at => (best, second.min(cost), at),
                Some(same) => same,
            });
        }
        found
    }
}

fn size(packing: &Packing, item: usize) -> f64 {
    packing.demand(item).iter().sum()
}
