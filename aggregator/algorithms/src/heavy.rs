//! The heaviest of very many keys, in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi,
//! ICDT 2005).
//!
//! As long as there is room every key has its exact weight. After that a new key takes the place of
//! the lightest one and inherits its weight, and the inherited part is told as its error: a weight is never too
//! small, and too large by no more than its error, which never exceeds the whole weight over the
//! room. Any key heavier than that is there.

use std::collections::{BTreeMap, BTreeSet};

/// How much a key weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    /// At most so much.
    pub most: u64,
    /// Of which so much may be others'. 0 is exact.
    pub error: u64,
}

impl Weight {
    /// At least so much.
    #[must_use]
    pub const fn least(self) -> u64 {
        self.most.saturating_sub(self.error)
    }
}

/// The heaviest keys, and what is known of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heavy<K> {
    room: usize,
    weights: BTreeMap<K, Weight>,
    /// Keys by weight: the first is the one to go.
    by_weight: BTreeSet<(u64, K)>,
    total: u64,
    displaced: u64,
}

impl<K: Ord + Clone> Heavy<K> {
    /// With room for so many keys, at least one.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            room: room.max(1),
            weights: BTreeMap::new(),
            by_weight: BTreeSet::new(),
            total: 0,
            displaced: 0,
        }
    }

    /// Adds to the weight of a key. Says which key had to go for it, if one had to.
    pub fn add(&mut self, key: K, weight: u64) -> Option<K> {
        self.total = self.total.saturating_add(weight);
        if let Some(known) = self.weights.get_mut(&key) {
            self.by_weight.remove(&(known.most, key.clone()));
            known.most = known.most.saturating_add(weight);
            self.by_weight.insert((known.most, key));
            return None;
        }
        let gone = if self.weights.len() < self.room { None } else { self.by_weight.pop_first() };
        let inherited = gone.as_ref().map_or(0, |(weight, _)| *weight);
        if let Some((_, lightest)) = &gone {
            self.weights.remove(lightest);
            self.displaced += 1;
        }
        let most = inherited.saturating_add(weight);
        self.weights.insert(key.clone(), Weight { most, error: inherited });
        self.by_weight.insert((most, key));
        gone.map(|(_, lightest)| lightest)
    }

    /// How much a key weighs; `None` if it is not among the heaviest, and then it weighs at most
    /// [`Self::bound`].
    #[must_use]
    pub fn weight(&self, key: &K) -> Option<Weight> {
        self.weights.get(key).copied()
    }

    /// Most that a key weighs which is not there.
    #[must_use]
    pub fn bound(&self) -> u64 {
        let lightest = self.by_weight.first().map_or(0, |(weight, _)| *weight);
        if self.displaced > 0 { lightest } else { 0 }
    }

    /// All keys that are there, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Weight)> {
        self.weights.iter().map(|(key, weight)| (key, *weight))
    }

    /// The keys from the heaviest down.
    pub fn heaviest(&self) -> impl Iterator<Item = (&K, Weight)> {
        let keys = self.by_weight.iter().rev();
        keys.filter_map(|(_, key)| Some((key, self.weight(key)?)))
    }

    /// Weight of all that was added.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Times that a key had to go. 0 means that every weight is exact.
    #[must_use]
    pub const fn displaced(&self) -> u64 {
        self.displaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Random;

    #[test]
    fn with_room_for_all_every_weight_is_exact() {
        let mut heavy = Heavy::new(3);
        for (key, weight) in [("a", 5), ("b", 1), ("a", 2), ("c", 9)] {
            assert_eq!(heavy.add(key, weight), None);
        }
        let told: Vec<_> = heavy.heaviest().map(|(key, weight)| (*key, weight.most)).collect();
        assert_eq!(told, [("c", 9), ("a", 7), ("b", 1)]);
        assert_eq!((heavy.displaced(), heavy.bound(), heavy.total()), (0, 0, 17));
    }

    /// Against the exact count, on a stream with few light keys and many heavy ones.
    #[test]
    fn the_error_holds_and_no_heavy_key_is_missed() {
        let (room, mut random) = (64, Random::new(1001));
        let (mut heavy, mut exact) = (Heavy::new(room), BTreeMap::<usize, u64>::new());
        for _ in 0..50_000 {
            let key = 10_000 / (1 + random.below(10_000));
            heavy.add(key, 1);
            *exact.entry(key).or_default() += 1;
        }
        let bound = heavy.total() / room as u64;
        for (key, weight) in heavy.iter() {
            assert!(weight.least() <= exact[key] && exact[key] <= weight.most, "{key}: {weight:?}");
            assert!(weight.error <= bound);
        }
        for (key, count) in exact {
            let is_there = heavy.weight(&key).is_some();
            assert!(is_there || count <= heavy.bound(), "{key} of {count} is missed");
        }
        assert!(heavy.displaced() > 0 && heavy.bound() <= bound);
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_room() {
        let mut heavy = Heavy::new(100);
        heavy.add(u64::MAX, 1_000_000);
        (0..100_000).for_each(|key| {
            heavy.add(key, 1);
        });
        assert_eq!(heavy.iter().count(), 100);
        assert_eq!(heavy.weight(&u64::MAX), Some(Weight { most: 1_000_000, error: 0 }));
    }
}
