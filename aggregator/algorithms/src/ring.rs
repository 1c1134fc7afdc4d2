//! A ring over numbered slots of equal length: the newest `N` of them, in order, in room that grows
//! with what is held and never beyond. What nobody touched between two slots has the default value.

use std::collections::TryReserveError;

use serde::{Deserialize, Serialize};

/// Slots of a fixed length in time, by their number since some beginning.
///
/// Advancing costs the slots passed over, `N` at most; an untouched ring costs nothing, however far
/// the time goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ring<T, const N: usize> {
    slots: Vec<T>,
    /// Where the oldest slot lies; 0 until all `N` are there.
    start: u32,
    /// The newest slot's number.
    newest: u32,
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self { slots: Vec::new(), start: 0, newest: 0 }
    }
}

/// Slots that room is made for at once at least.
const ROOM: usize = 4;

impl<T: Copy + Default, const N: usize> Ring<T, N> {
    /// Number of the newest slot; `None` of an empty ring.
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        (!self.slots.is_empty()).then_some(self.newest)
    }

    /// Number of the oldest slot held; `None` of an empty ring.
    #[must_use]
    pub fn oldest(&self) -> Option<u32> {
        let before = u32::try_from(self.slots.len().checked_sub(1)?).unwrap_or(u32::MAX);
        Some(self.newest.saturating_sub(before))
    }

    /// What a slot holds; `None` if it lies outside of what is held.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<T> {
        self.slots.get(self.place(slot)?).copied()
    }

    /// The slot, to be changed: those between it and the newest come to be, the oldest go. `None` if
    /// it is older than any slot that could be held.
    pub fn at(&mut self, slot: u32) -> Option<&mut T> {
        if self.slots.is_empty() {
            self.newest = slot;
            self.push(T::default());
        } else if slot > self.newest {
            self.advance(slot);
        } else if slot < self.oldest()? {
            self.extend_back(slot)?;
        }
        let place = self.place(slot)?;
        self.slots.get_mut(place)
    }

    /// The slots held, oldest first, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        let oldest = self.oldest().unwrap_or(0);
        let (after, before) = self.slots.split_at((self.start as usize).min(self.slots.len()));
        (oldest..).zip(before.iter().chain(after).copied())
    }

    /// Bytes taken for its slots.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.slots.capacity() * size_of::<T>()
    }

    fn place(&self, slot: u32) -> Option<usize> {
        let back = usize::try_from(self.newest.checked_sub(slot)?).ok()?;
        let from_oldest = self.slots.len().checked_sub(back + 1)?;
        Some((self.start as usize + from_oldest) % self.slots.len())
    }

    fn advance(&mut self, slot: u32) {
        let ahead = usize::try_from(slot - self.newest).unwrap_or(usize::MAX);
        if ahead >= N {
            self.slots.clear();
            self.start = 0;
            self.push(T::default());
        } else {
            for _ in 0..ahead {
                self.push(T::default());
            }
        }
        self.newest = slot;
    }

    fn push(&mut self, value: T) {
        if self.slots.len() < N {
            // Where there is no memory, the push itself says so.
            drop(self.grow(1));
            self.slots.push(value);
        } else if let Some(oldest) = self.slots.get_mut(self.start as usize) {
            *oldest = value;
            self.start = (self.start + 1) % u32::try_from(N).unwrap_or(u32::MAX);
        }
    }

    /// Doubling would take nearly twice what is held at most.
    fn grow(&mut self, more: usize) -> Result<(), TryReserveError> {
        let len = self.slots.len();
        if len + more <= self.slots.capacity() {
            return Ok(());
        }
        let room = more.max(ROOM).max(len / 2).min(N - len);
        self.slots.try_reserve_exact(room)
    }

    /// Makes slots before the oldest; there is room for them only while the ring is not full.
    fn extend_back(&mut self, slot: u32) -> Option<()> {
        let more = usize::try_from(self.oldest()? - slot).ok()?;
        if self.slots.len() + more > N {
            return None;
        }
        drop(self.grow(more));
        self.slots.splice(0..0, std::iter::repeat_n(T::default(), more));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn held(ring: &Ring<u32, 5>) -> Vec<(u32, u32)> {
        ring.iter().collect()
    }

    #[test]
    fn the_newest_slots_are_held_and_gaps_have_the_default() {
        let mut ring = Ring::default();
        for (slot, value) in [(10, 1), (12, 2), (13, 3)] {
            *ring.at(slot).unwrap() = value;
        }
        assert_eq!(held(&ring), [(10, 1), (11, 0), (12, 2), (13, 3)]);
        *ring.at(16).unwrap() = 4;
        assert_eq!(held(&ring), [(12, 2), (13, 3), (14, 0), (15, 0), (16, 4)]);
        assert_eq!(ring.at(11), None);
        *ring.at(1_000).unwrap() = 5;
        assert_eq!(held(&ring), [(1_000, 5)]);
    }

    #[test]
    fn slots_before_the_first_come_to_be_while_there_is_room() {
        let mut ring = Ring::default();
        *ring.at(10).unwrap() = 1;
        *ring.at(7).unwrap() = 2;
        assert_eq!(held(&ring), [(7, 2), (8, 0), (9, 0), (10, 1)]);
        assert_eq!(ring.at(5), None);
        assert_eq!(ring.get(6), None);
    }

    /// Held against a map of all slots ever touched, with a fixed course of steps to and fro.
    #[test]
    fn a_ring_is_the_tail_of_a_map() {
        let (mut ring, mut map) = (Ring::<u32, 5>::default(), BTreeMap::new());
        let mut state = 1_u32;
        let mut now = 100;
        *ring.at(now).unwrap() = 0;
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let step = state >> 28;
            let slot = if step < 8 { now - step % 6 } else { now + step % 4 };
            now = now.max(slot);
            if let Some(value) = ring.at(slot) {
                *value = value.wrapping_add(state);
                let sum = map.entry(slot).or_insert(0_u32);
                *sum = sum.wrapping_add(state);
            } else {
                assert!(slot + 5 <= now, "{slot} of {now} was refused");
            }
            for (slot, value) in ring.iter() {
                assert_eq!(map.get(&slot).copied().unwrap_or(0), value);
                assert_eq!(ring.get(slot), Some(value));
            }
            assert_eq!(ring.newest(), Some(now));
            assert!(ring.room() <= 5 * 4);
        }
    }
}
