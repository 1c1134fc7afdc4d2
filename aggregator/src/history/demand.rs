//! How demand spreads over the hours of the day, in constant room.

use common::{
    sketch::{Sketch, value_of},
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

/// Hours of a day.
const HOURS_OF_DAY: usize = 24;
/// Bins held per hour: they reach from the largest value down to a quarter of it. What lies below
/// counts as that quarter, which only ever makes the low quantiles larger.
const BINS: usize = 48;

/// What one hour of the day needed, over all days held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourDemand {
    cpu: Bins,
    memory: Bins,
}

impl HourDemand {
    /// CPU at or below which it stayed for that share (0 to 1) of the time; `None` if unknown.
    #[must_use]
    pub fn cpu(&self, share: f64) -> Option<Millicores> {
        self.cpu.quantile(share).map(Millicores)
    }

    /// Memory at or below which it stayed for that share (0 to 1) of the time; `None` if unknown.
    #[must_use]
    pub fn memory(&self, share: f64) -> Option<Bytes> {
        self.memory.quantile(share).map(Bytes)
    }

    /// How many values of CPU it rests on, older ones counting less.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.cpu.count()
    }
}

/// Demand by hour of the day, from midnight UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayDemand {
    hours: [HourDemand; HOURS_OF_DAY],
    /// By hour: the last day that showed it, since 1970, and how many did.
    #[serde(default)]
    days: [(u32, u8); HOURS_OF_DAY],
}

impl DayDemand {
    /// The hours, the one from midnight first.
    #[must_use]
    pub const fn hours(&self) -> &[HourDemand; HOURS_OF_DAY] {
        &self.hours
    }

    /// How many hours of the day something is known of.
    #[must_use]
    pub fn hours_known(&self) -> usize {
        self.hours.iter().filter(|hour| !hour.cpu.0.is_empty()).count()
    }

    /// Days that showed the hour of the day of which the fewest did; 255 for that many or more.
    #[must_use]
    pub fn days_known(&self) -> u8 {
        self.days.iter().map(|(_, days)| *days).min().unwrap_or(0)
    }

    pub(super) fn take(&mut self, (day, hour): (u32, usize), cpu: &Sketch, memory: &Sketch) {
        if let Some((last, days)) = self.days.get_mut(hour)
            && (*days == 0 || day > *last)
        {
            (*last, *days) = (day, days.saturating_add(1));
        }
        if let Some(hour) = self.hours.get_mut(hour) {
            hour.cpu.take(cpu);
            hour.memory.take(memory);
        }
    }

    /// A cycle went by: what was before it counts half.
    pub(super) fn age(&mut self) {
        for hour in &mut self.hours {
            hour.cpu.age();
            hour.memory.age();
        }
    }
}

/// The largest bins of a sketch, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Bins(Vec<(u16, u32)>);

impl Bins {
    fn take(&mut self, sketch: &Sketch) {
        let mut all: Vec<(u16, u32)> = Vec::with_capacity(self.0.len() + 8);
        let zeros = (sketch.zeros() > 0).then_some((0, sketch.zeros()));
        // Bin 0 holds the value 1, which no figure here tells from nought.
        let told = zeros.into_iter().chain(sketch.bins()).map(|(bin, count)| {
            (u16::try_from(bin).unwrap_or(u16::MAX), u32::try_from(count).unwrap_or(u32::MAX))
        });
        all.extend(self.0.iter().copied().chain(told));
        all.sort_by_key(|(bin, _)| *bin);
        all.dedup_by(|(bin, count), (kept, sum)| {
            let is_same = bin == kept;
            if is_same {
                *sum = sum.saturating_add(*count);
            }
            is_same
        });
        let largest = all.last().map_or(0, |(bin, _)| *bin);
        let span = u16::try_from(BINS).unwrap_or(u16::MAX);
        let lowest = largest.saturating_sub(span - 1);
        let below: u32 = all
            .iter()
            .filter(|(bin, _)| *bin < lowest)
            .fold(0, |sum, (_, count)| sum.saturating_add(*count));
        all.retain(|(bin, _)| *bin >= lowest);
        if below > 0 {
            match all.first_mut() {
                Some((bin, count)) if *bin == lowest => *count = count.saturating_add(below),
                _ => all.insert(0, (lowest, below)),
            }
        }
        all.shrink_to_fit();
        self.0 = all;
    }

    fn age(&mut self) {
        self.0.iter_mut().for_each(|(_, count)| *count /= 2);
        self.0.retain(|(_, count)| *count > 0);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// As [`Sketch::quantile`] tells it. There are dozens of quantiles for each application and window:
    /// none of them is worth a sketch of its own.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count is a count"
    )]
    fn quantile(&self, share: f64) -> Option<u64> {
        let last = self.count().checked_sub(1)?;
        let rank = (share.clamp(0.0, 1.0) * last as f64).floor() as u64;
        let mut below = 0;
        let bin = self.0.iter().find(|(_, count)| {
            below += u64::from(*count);
            rank < below
        });
        bin.or(self.0.last()).map(|(bin, _)| value_of(u32::from(*bin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.insert(value));
        sketch
    }

    #[test]
    fn high_quantiles_are_those_of_the_sketch_and_room_is_constant() {
        let all = sketch((0..100_000).map(|n| n * n % 65_521));
        let mut bins = Bins::default();
        bins.take(&all);
        assert!(bins.0.len() <= BINS);
        for share in [0.5, 0.9, 0.95, 0.99, 1.0] {
            assert_eq!(bins.quantile(share), all.quantile(share), "{share}");
        }
    }

    #[test]
    fn what_was_before_counts_half_after_a_cycle() {
        let mut bins = Bins::default();
        bins.take(&sketch([1_000; 8]));
        bins.age();
        bins.take(&sketch([10; 4]));
        assert_eq!(bins.0.iter().map(|(_, count)| count).sum::<u32>(), 8);
        for _ in 0..3 {
            bins.age();
        }
        assert_eq!(bins.quantile(1.0), None);
    }
}
