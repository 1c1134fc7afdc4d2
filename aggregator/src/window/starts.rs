//! When the connections of an edge came to be, as far as samples tell them apart.
//!
//! An agent counts connections from one sample to the next, so a moment is the middle between two
//! samples, and what came to be between the same two shares one. Where samples are so far apart that
//! the middle would be a guess, the connections are counted as having none.

use std::{collections::BTreeMap, time::Duration};

use common::{clock::Timestamp, sample::FlowKey};

/// Moments that are kept, the newest of them: periods are told by no more.
pub const MOMENTS_KEPT: usize = 256;

/// When the connections of an edge came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starts {
    /// The moments, each once, in order.
    pub moments: Vec<Timestamp>,
    /// Connections whose moment nobody knows.
    pub missing: u64,
}

impl Starts {
    /// Takes in that so many came to be at a moment, or at one that nobody knows.
    pub(crate) fn add(&mut self, moment: Option<Timestamp>, opened: u64) {
        if opened == 0 {
            return;
        }
        let Some(moment) = moment else {
            self.missing = self.missing.saturating_add(opened);
            return;
        };
        if let Err(place) = self.moments.binary_search(&moment) {
            self.moments.insert(place, moment);
            self.keep_the_newest();
        }
    }

    /// Takes in those of another part of the same edge.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.moments.extend(&other.moments);
        self.moments.sort_unstable();
        self.moments.dedup();
        self.missing = self.missing.saturating_add(other.missing);
        self.keep_the_newest();
    }

    fn keep_the_newest(&mut self) {
        let surplus = self.moments.len().saturating_sub(MOMENTS_KEPT);
        self.moments.drain(..surplus);
    }
}

/// Adds when connections of an edge came to be; `None` if nobody knows.
pub(super) fn add(
    starts: &mut BTreeMap<FlowKey, Starts>,
    key: &FlowKey,
    moment: Option<Timestamp>,
    opened: u64,
) {
    match starts.get_mut(key) {
        Some(known) => known.add(moment, opened),
        None => starts.entry(key.clone()).or_default().add(moment, opened),
    }
}

/// The middle between a sample and the one that long before it.
pub(super) fn middle(at: Timestamp, since: Duration) -> Timestamp {
    let half = u64::try_from(since.as_millis() / 2).unwrap_or(u64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn moments_are_in_order_each_once_and_the_newest_stay() {
        let (mut one, mut other) = (Starts::default(), Starts::default());
        for second in [30, 10, 30] {
            one.add(Some(at(second)), 4);
        }
        one.add(None, 2);
        one.add(Some(at(99)), 0);
        assert_eq!(one, Starts { moments: vec![at(10), at(30)], missing: 2 });
        (20..400).for_each(|second| other.add(Some(at(second)), 1));
        other.merge(&one);
        assert_eq!((other.moments.len(), other.missing), (MOMENTS_KEPT, 2));
        assert_eq!((other.moments[0], other.moments[255]), (at(144), at(399)));
    }

    #[test]
    fn a_moment_is_the_middle_between_two_samples() {
        assert_eq!(middle(at(60), Duration::from_secs(20)), at(50));
    }
}
