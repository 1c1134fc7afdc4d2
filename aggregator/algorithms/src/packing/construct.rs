//! Packings made from nothing: the heuristics that a search begins with, and is held against.
//!
//! First-fit and best-fit decreasing take the items in order of size; dot product and L2 take the
//! bins in order and fill each with what fits its remaining room best (Panigrahy et al. 2011).

use std::cmp::Reverse;

use super::{Assignment, Packing, state::State};

/// Items that a bin-centred heuristic looks at for one place, largest first. All of 5,000 would be
/// looked at 5,000 times; past some hundreds the best hardly changes.
const ITEMS_LOOKED_AT: usize = 512;

/// Open bins that an item is tried in, those opened last. More only in a fleet of thousands of bins,
/// whose oldest are as good as full.
const BINS_LOOKED_AT: usize = 2_048;
/// Pairs of an item and a bin up to which bins are filled one by one: each bin looks at every item
/// that waits.
const PAIRS_FILLED: usize = 100_000_000;

/// How a packing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heuristic {
    /// Each item into the first bin with room, largest first.
    FirstFit,
    /// Each item into the fullest bin with room, largest first.
    BestFit,
    /// Each bin filled with items that need most of what it has most of.
    DotProduct,
    /// Each bin filled with items that leave the shortest vector of room.
    Norm,
}

impl Heuristic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FirstFit, Self::BestFit, Self::DotProduct, Self::Norm];
}

/// A packing made by a heuristic; `None` if it finds no place for some item, or would take too long.
#[must_use]
pub fn construct(packing: &Packing, heuristic: Heuristic) -> Option<Assignment> {
    let mut made = Made::new(packing);
    match heuristic {
        Heuristic::FirstFit => made.fit(false)?,
        Heuristic::BestFit => made.fit(true)?,
        Heuristic::DotProduct | Heuristic::Norm
            if packing.items().saturating_mul(packing.bins()) > PAIRS_FILLED =>
        {
            return None;
        }
        Heuristic::DotProduct => made.fill(closeness),
        Heuristic::Norm => made.fill(shortness),
    }
    let assignment: Option<Assignment> = made.bin_of.into_iter().collect();
    assignment.filter(|assignment| State::of(packing, assignment.clone()).is_feasible())
}

/// Weight of each dimension: what is asked of it in all, by what there is. The scarcer, the heavier.
fn weights(packing: &Packing) -> Vec<f64> {
    let sum_of = |row: &dyn Fn(usize) -> f64, rows: usize| (0..rows).map(row).sum::<f64>();
    (0..packing.dims)
        .map(|dim| {
            let asked = sum_of(&|item| packing.demand(item)[dim], packing.items());
            let there = sum_of(&|bin| packing.capacity(bin)[dim], packing.bins());
            if there > 0.0 { asked / there } else { 0.0 }
        })
        .collect()
}

struct Made<'p> {
    packing: &'p Packing,
    weights: Vec<f64>,
    bin_of: Vec<Option<usize>>,
    room: Vec<f64>,
    contents: Vec<Vec<usize>>,
    /// Bins in the order in which they are opened: those that stay, then the cheapest by room.
    bins: Vec<usize>,
    /// Items, largest first.
    items: Vec<usize>,
}

impl<'p> Made<'p> {
    fn new(packing: &'p Packing) -> Self {
        let weights = weights(packing);
        let most: Vec<f64> = (0..packing.dims)
            .map(|dim| {
                (0..packing.bins()).map(|bin| packing.capacity(bin)[dim]).fold(1.0, f64::max)
            })
            .collect();
        let size = |amounts: &[f64]| -> f64 {
            let of = amounts.iter().zip(&most).zip(&weights);
            of.map(|((amount, most), weight)| amount / most * weight).sum()
        };
        let mut items: Vec<usize> = (0..packing.items()).collect();
        let sizes: Vec<f64> = items.iter().map(|item| size(packing.demand(*item))).collect();
        items.sort_by(|one, other| sizes[*other].total_cmp(&sizes[*one]).then(one.cmp(other)));
        let mut bins: Vec<usize> = (0..packing.bins()).collect();
        let price = |bin: &usize| {
            let of = &packing.bins[*bin];
            of.fixed_cost / size(packing.capacity(*bin)).max(f64::MIN_POSITIVE)
        };
        bins.sort_by(|one, other| {
            let stays = |bin: &usize| Reverse(packing.bins[*bin].stays);
            let by_price = price(one).total_cmp(&price(other));
            stays(one).cmp(&stays(other)).then(by_price).then(one.cmp(other))
        });
        let room = packing.capacity.iter().zip(&packing.base).map(|(most, used)| most - used);
        Self {
            bin_of: vec![None; packing.items()],
            contents: vec![Vec::new(); packing.bins()],
            room: room.collect(),
            packing,
            weights,
            bins,
            items,
        }
    }

    fn room(&self, bin: usize) -> &[f64] {
        &self.room[bin * self.packing.dims..(bin + 1) * self.packing.dims]
    }

    fn fits(&self, item: usize, bin: usize) -> bool {
        let has_room = || self.packing.demand(item).iter().zip(self.room(bin)).all(|(a, b)| a <= b);
        let contents = &self.contents[bin];
        self.packing.may(item, bin)
            && has_room()
            && !(self.packing.has_marks && contents.iter().any(|o| self.packing.shun(item, *o)))
    }

    fn place(&mut self, item: usize, bin: usize) {
        let range = bin * self.packing.dims..(bin + 1) * self.packing.dims;
        for (room, need) in self.room[range].iter_mut().zip(self.packing.demand(item)) {
            *room -= need;
        }
        self.contents[bin].push(item);
        self.bin_of[item] = Some(bin);
    }

    /// Item by item; into the first bin that fits, or the one that is left with the least room.
    fn fit(&mut self, best: bool) -> Option<()> {
        let mut opened = 0;
        for at in 0..self.items.len() {
            let item = self.items[at];
            let mut chosen: Option<(f64, usize)> = None;
            let from = usize::saturating_sub(opened, BINS_LOOKED_AT);
            for bin in self.bins[from..opened].iter().copied() {
                if !self.fits(item, bin) {
                    continue;
                }
                let left = if best { self.left(item, bin) } else { 0.0 };
                if chosen.is_none_or(|(least, _)| left < least) {
                    chosen = Some((left, bin));
                }
                if !best {
                    break;
                }
            }
            let bin = match chosen {
                Some((_, bin)) => bin,
                None => {
                    let next =
                        (opened..self.bins.len()).find(|at| self.fits(item, self.bins[*at]))?;
                    // The ones passed over stay unopened and are looked at again.
                    self.bins[opened..=next].rotate_right(1);
                    opened += 1;
                    self.bins[opened - 1]
                }
            };
            self.place(item, bin);
        }
        Some(())
    }

    fn left(&self, item: usize, bin: usize) -> f64 {
        let of = self
            .room(bin)
            .iter()
            .zip(self.packing.demand(item))
            .zip(&self.packing.share[bin * self.packing.dims..(bin + 1) * self.packing.dims]);
        of.zip(&self.weights)
            .map(|(((room, need), share), weight)| (room - need) * share * weight)
            .sum()
    }

    /// Bin by bin; the item with the highest score that fits, until none does.
    fn fill(&mut self, score: Score) {
        let mut waiting = self.items.clone();
        for at in 0..self.bins.len() {
            let bin = self.bins[at];
            loop {
                let mut chosen: Option<(f64, usize)> = None;
                let mut looked_at = 0;
                for (place, item) in waiting.iter().copied().enumerate() {
                    if !self.fits(item, bin) {
                        continue;
                    }
                    let range = bin * self.packing.dims..(bin + 1) * self.packing.dims;
                    let share = &self.packing.share[range];
                    let value =
                        score(self.packing.demand(item), self.room(bin), share, &self.weights);
                    if chosen.is_none_or(|(most, _)| value > most) {
                        chosen = Some((value, place));
                    }
                    looked_at += 1;
                    if looked_at == ITEMS_LOOKED_AT {
                        break;
                    }
                }
                let Some((_, place)) = chosen else { break };
                let item = waiting.remove(place);
                self.place(item, bin);
            }
            if waiting.is_empty() {
                return;
            }
        }
    }
}

type Score = fn(&[f64], &[f64], &[f64], &[f64]) -> f64;

fn closeness(need: &[f64], room: &[f64], share: &[f64], weights: &[f64]) -> f64 {
    let of = need.iter().zip(room).zip(share).zip(weights);
    of.map(|(((need, room), share), weight)| weight * need * share * room * share).sum()
}

fn shortness(need: &[f64], room: &[f64], share: &[f64], weights: &[f64]) -> f64 {
    let of = need.iter().zip(room).zip(share).zip(weights);
    let squares = of.map(|(((need, room), share), weight)| {
        let left = (room - need) * share;
        weight * left * left
    });
    -squares.sum::<f64>()
}
