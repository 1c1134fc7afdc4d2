//! In which order items move, so that what must hold holds after every move and during it.
//!
//! An item is added where it goes before it is taken away where it was: while it moves it needs
//! room in both bins, and on both hosts if it changes its host. Moves into one bin that are possible at the same time are
//! one stage. Where each move waits for another, one of them goes by way of a third bin; if there
//! is none with room, it is refused and stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignment, Packing, state::State};

/// Moves into one bin that are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The bin.
    pub to: usize,
    /// The items, and where each comes from.
    pub moves: Vec<(usize, usize)>,
    /// The items go on from here later: the bin is only on their way.
    pub on_the_way: bool,
}

/// How to get from one assignment to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The stages, one after another.
    pub stages: Vec<Stage>,
    /// Items that stay where they are, for want of a way.
    pub refused: Vec<usize>,
    /// What is reached in the end.
    pub reached: Assignment,
}

/// The stages from one assignment to another; both must be feasible.
#[must_use]
pub fn order(packing: &Packing, from: &[usize], to: &[usize]) -> Order {
    let pending: BTreeSet<usize> =
        (0..from.len()).filter(|item| from[*item] != to[*item]).collect();
    let mut waiting: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for item in &pending {
        waiting.entry(to[*item]).or_default().insert(*item);
    }
    let mut way = Way {
        state: State::of(packing, from.to_vec()),
        pending,
        waiting,
        target: to,
        detoured: BTreeSet::new(),
        stages: Vec::new(),
        refused: Vec::new(),
    };
    while !way.pending.is_empty() {
        if !way.advance() && !way.detour() {
            way.refuse();
        }
    }
    let reached = way.state.assignment().clone();
    Order { stages: way.stages, refused: way.refused, reached }
}

struct Way<'p> {
    state: State<'p>,
    pending: BTreeSet<usize>,
    /// The same by the bin they go to.
    waiting: BTreeMap<usize, BTreeSet<usize>>,
    target: &'p [usize],
    detoured: BTreeSet<usize>,
    stages: Vec<Stage>,
    refused: Vec<usize>,
}

impl Way<'_> {
    /// Takes the bin that most of what it waits for can enter now; whether there is one.
    fn advance(&mut self) -> bool {
        let mut chosen: Option<Stage> = None;
        for (to, items) in &self.waiting {
            let enter = self.enter_together(*to, items.iter().copied());
            let is_whole = enter.len() == items.len();
            if enter.is_empty() || (chosen.is_some() && !is_whole) {
                continue;
            }
            let moves = enter.into_iter().map(|item| (item, self.state.bin(item))).collect();
            chosen = Some(Stage { to: *to, moves, on_the_way: false });
            if is_whole {
                break;
            }
        }
        let Some(stage) = chosen else { return false };
        for (item, _) in &stage.moves {
            self.settle(*item);
        }
        self.take(stage);
        true
    }

    /// An item waits no more.
    fn settle(&mut self, item: usize) {
        self.pending.remove(&item);
        let to = self.target[item];
        if let Some(items) = self.waiting.get_mut(&to) {
            items.remove(&item);
            if items.is_empty() {
                self.waiting.remove(&to);
            }
        }
    }

    fn take(&mut self, stage: Stage) {
        for (item, _) in &stage.moves {
            self.state.put(*item, stage.to);
        }
        self.stages.push(stage);
    }

    /// Those of some items that a bin can take in now, all at once.
    fn enter_together(&self, to: usize, items: impl Iterator<Item = usize>) -> Vec<usize> {
        let packing = self.state.packing;
        let dims = packing.dims;
        let mut load = self.state.load(to).to_vec();
        let mut on_host = self.state.host_load(to).to_vec();
        let host = packing.bins[to].host.and_then(|host| packing.hosts.get(host));
        let mut entering: Vec<usize> = Vec::new();
        for item in items {
            let need = packing.demand(item);
            let holds = |used: &[f64], most: &[f64]| {
                let of = used.iter().zip(need).zip(most).take(dims);
                of.into_iter().all(|((used, need), most)| used + need <= *most)
            };
            // Within a host it is there already; that it runs twice for a moment is the clone's room.
            let comes_from_afar = packing.bins[self.state.bin(item)].host != packing.bins[to].host;
            let has_room = holds(&load, packing.capacity(to))
                && host.is_none_or(|of| !comes_from_afar || holds(&on_host, &of.capacity));
            let is_welcome = self.state.admits(item, to, None)
                && entering.iter().all(|other| !packing.shun(item, *other));
            if has_room && is_welcome {
                let add = |used: &mut [f64]| {
                    used.iter_mut().zip(need).for_each(|(used, need)| *used += need);
                };
                add(&mut load);
                if comes_from_afar {
                    add(&mut on_host);
                }
                entering.push(item);
            }
        }
        entering
    }

    /// Sends one item by way of a third bin, so that others can go on; whether it could.
    fn detour(&mut self) -> bool {
        let packing = self.state.packing;
        let size = |item: usize| packing.demand(item).iter().sum::<f64>();
        let mut items: Vec<usize> =
            self.pending.iter().copied().filter(|item| !self.detoured.contains(item)).collect();
        items.sort_by(|one, other| size(*one).total_cmp(&size(*other)).then(one.cmp(other)));
        for item in items {
            let here = self.state.bin(item);
            let is_spare = |bin: &usize| {
                *bin != here && *bin != self.target[item] && packing.bins[*bin].accepts
            };
            // A bin that would have to be opened only for this is none.
            let is_open =
                |bin: &usize| packing.bins[*bin].stays || !self.state.contents(*bin).is_empty();
            let spare = (0..packing.bins())
                .filter(|bin| is_spare(bin) && is_open(bin))
                .find(|bin| !self.enter_together(*bin, std::iter::once(item)).is_empty());
            if let Some(to) = spare {
                self.detoured.insert(item);
                self.take(Stage { to, moves: vec![(item, here)], on_the_way: true });
                return true;
            }
        }
        false
    }

    /// Leaves the largest item that waits where it is.
    fn refuse(&mut self) {
        let packing = self.state.packing;
        let size = |item: &usize| packing.demand(*item).iter().sum::<f64>();
        let largest = self
            .pending
            .iter()
            .copied()
            .max_by(|one, other| size(one).total_cmp(&size(other)).then(other.cmp(one)));
        if let Some(item) = largest {
            self.settle(item);
            self.refused.push(item);
        }
    }
}
