//! The last moments at which something happened, in two bytes each.

use common::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// Moments held at most.
pub(super) const HELD: usize = 128;
/// Moments are kept to a quarter of a second: closer ones are one burst to all who look at them.
const TICK_MS: u64 = 250;
/// Ticks that fit into two bytes. Where the moments reach further, over more than four hours, ticks are as
/// many times longer as they must be: then the moments themselves lie minutes apart.
const TICKS: u64 = 1 << 16;
/// How often a tick is doubled at most: it is eight minutes then, and the moments reach over a year, so
/// that what comes by the month tells its period.
const DOUBLED_MOST: u32 = 11;

/// Up to [`HELD`] moments in order, the newest ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    /// Where ticks are counted from, in the shortest ticks; a multiple of those used.
    base: u64,
    /// How often a tick is doubled.
    doubled: u32,
    ticks: Vec<[u8; 2]>,
}

impl Moments {
    /// Takes moments in, in any order; those that fall together with one held are that one.
    pub(super) fn take(&mut self, moments: &[Timestamp]) {
        if moments.is_empty() {
            return;
        }
        let mut all: Vec<u64> = self.iter().chain(moments.iter().copied()).map(tick).collect();
        all.sort_unstable();
        all.dedup();
        all.drain(..all.len().saturating_sub(HELD));
        let newest = all.last().copied().unwrap_or(0);
        all.retain(|tick| newest - tick < (TICKS - 1) << DOUBLED_MOST);
        let oldest = all.first().copied().unwrap_or(0);
        let fits = |doubled: &u32| (newest >> doubled) - (oldest >> doubled) < TICKS;
        self.doubled = (0..DOUBLED_MOST).find(fits).unwrap_or(DOUBLED_MOST);
        let doubled = self.doubled;
        // Multiples of a longer tick are some of a shorter one: what was rounded once stays where it is.
        self.base = oldest >> doubled << doubled;
        all.iter_mut().for_each(|tick| *tick >>= doubled);
        all.dedup();
        let room = all.len().saturating_sub(self.ticks.capacity());
        self.ticks.clear();
        if room > 0 {
            // Doubling would take nearly twice what is held at most.
            let room = (all.len() + all.len() / 2).clamp(4, HELD);
            self.ticks = Vec::with_capacity(room);
        }
        self.ticks.extend(all.iter().map(|tick| two_bytes(tick - (oldest >> doubled))));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.ticks.iter().map(move |bytes| {
            let offset = u64::from(u16::from_be_bytes(*bytes)) << self.doubled;
            Timestamp::from_millis((self.base + offset) * TICK_MS)
        })
    }

    pub(super) const fn room(&self) -> usize {
        self.ticks.capacity() * size_of::<[u8; 2]>()
    }
}

const fn tick(at: Timestamp) -> u64 {
    at.as_millis() / TICK_MS
}

fn two_bytes(offset: u64) -> [u8; 2] {
    let [.., high, low] = offset.to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(moments: &[u64]) -> Vec<Timestamp> {
        moments.iter().map(|ms| Timestamp::from_millis(*ms)).collect()
    }

    #[test]
    fn the_newest_moments_are_held_in_order_and_each_once() {
        let mut moments = Moments::default();
        moments.take(&of(&[10_000, 12_000]));
        moments.take(&of(&[11_000, 12_100, 20_000]));
        assert_eq!(moments.iter().collect::<Vec<_>>(), of(&[10_000, 11_000, 12_000, 20_000]));
        let later: Vec<u64> = (0..200).map(|n| 30_000 + n * 1_000).collect();
        moments.take(&of(&later));
        assert_eq!(moments.iter().collect::<Vec<_>>(), of(&later[200 - HELD..]));
        assert!(moments.room() <= 2 * HELD);
    }

    #[test]
    fn moments_out_of_reach_of_the_newest_go() {
        let mut moments = Moments::default();
        let day = 24 * 3_600_000;
        moments.take(&of(&[64 * day, 320 * day]));
        moments.take(&of(&[640 * day]));
        assert_eq!(moments.iter().collect::<Vec<_>>(), of(&[320 * day, 640 * day]));
    }

    #[test]
    fn moments_that_reach_further_are_rounded_once_and_stay_there() {
        let (mut moments, hour) = (Moments::default(), 3_600_000);
        let given: Vec<u64> = (0..400).map(|n| n * hour + n * 777).collect();
        for at in &given {
            moments.take(&of(&[*at]));
        }
        let held: Vec<u64> = moments.iter().map(Timestamp::as_millis).collect();
        assert_eq!(held.len(), HELD);
        for (held, given) in held.iter().zip(&given[given.len() - HELD..]) {
            assert!(given - held <= 8_000, "{held} of {given}");
        }
    }
}
