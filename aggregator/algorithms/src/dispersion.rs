//! Whether events come by chance or in bursts: the index of dispersion of counts, variance over mean.
//!
//! It is 1 for events that know nothing of each other, below for even ones and above for bursts (Fano
//! 1947). Counts that were watched for different lengths of time are held against what was due in each
//! (Pearson's statistic over its degrees of freedom). The interval is that of the jackknife on the
//! logarithm, which unlike that of the chi-squared law holds for bursts too.

use crate::interval::Interval;
use crate::normal::Z_95;

/// Fewer counts have no spread worth telling.
const FEWEST: usize = 8;

/// The index of dispersion and its 95 % interval, of counts and the time each was watched for.
/// `None` with too few counts, or if nothing happened.
#[must_use]
pub fn of(counts: &[(u64, f64)]) -> Option<(f64, Interval)> {
    let counts: Vec<(f64, f64)> = counts
        .iter()
        .filter(|(_, watched)| watched.is_finite() && *watched > 0.0)
        .map(|(count, watched)| (*count as f64, *watched))
        .collect();
    if counts.len() < FEWEST {
        return None;
    }
    let sums = counts.iter().fold(Sums::default(), |sums, count| sums.with(*count, 1.0));
    let index = sums.index()?;
    let without: Vec<f64> =
        counts.iter().filter_map(|count| Some(sums.with(*count, -1.0).index()?.ln())).collect();
    let n = without.len() as f64;
    if index <= 0.0 || without.len() < FEWEST || without.iter().any(|value| !value.is_finite()) {
        // All counts are as due: the spread is nought, and nothing tells how sure of it we are.
        return Some((index, Interval { lower: 0.0, upper: 1.0_f64.max(index) }));
    }
    let mean = without.iter().sum::<f64>() / n;
    let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    let factor = (Z_95 * (spread * (n - 1.0) / n).sqrt()).exp();
    Some((index, Interval { lower: index / factor, upper: index * factor }))
}

/// What the index follows from: that one count can be taken out again makes the jackknife linear.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    count: f64,
    watched: f64,
    square_over_watched: f64,
}

impl Sums {
    fn with(self, (count, watched): (f64, f64), sign: f64) -> Self {
        Self {
            n: self.n + sign,
            count: self.count + sign * count,
            watched: self.watched + sign * watched,
            square_over_watched: self.square_over_watched + sign * count * count / watched,
        }
    }

    /// Sum of (count - due)^2 / due over n - 1, where due is the mean rate times the time watched.
    fn index(&self) -> Option<f64> {
        if self.n < 2.0 || self.count <= 0.0 || self.watched <= 0.0 {
            return None;
        }
        let rate = self.count / self.watched;
        Some(((self.square_over_watched / rate - self.count) / (self.n - 1.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Random;

    /// Events of chance in slots of that length, each event `size` at once.
    fn counts(random: &mut Random, slots: usize, due: f64, size: u64) -> Vec<(u64, f64)> {
        let slot = |slot: usize| {
            let watched = if slot.is_multiple_of(3) { 150.0 } else { 300.0 };
            let (mut at, mut count) = (0.0, 0);
            loop {
                at -= (1.0 - random.share()).ln() * 300.0 / due;
                if at > watched {
                    return (count, watched);
                }
                count += size;
            }
        };
        (0..slots).map(slot).collect()
    }

    #[test]
    fn chance_is_one_and_the_interval_holds_it_though_slots_differ() {
        let mut random = Random::new(1000);
        let holds = (0..300).filter(|_| {
            let (_, interval) = of(&counts(&mut random, 60, 8.0, 1)).unwrap();
            interval.lower <= 1.0 && 1.0 <= interval.upper
        });
        assert!(holds.count() >= 270);
    }

    #[test]
    fn bursts_of_nine_at_once_are_nine() {
        let mut random = Random::new(1001);
        let (index, interval) = of(&counts(&mut random, 288, 4.0, 9)).unwrap();
        assert!((7.0..11.0).contains(&index) && interval.lower > 5.0, "{index} {interval:?}");
    }

    #[test]
    fn what_is_as_even_as_can_be_is_nought() {
        let (index, interval) = of(&[(5, 300.0); 20]).unwrap();
        assert!(index < 1e-9 && interval.lower < 1e-9 && interval.upper <= 1.0);
    }

    #[test]
    fn silence_and_a_few_counts_have_no_spread() {
        assert_eq!(of(&[(0, 300.0); 50]), None);
        assert_eq!(of(&[(4, 300.0); 3]), None);
        assert_eq!(of(&[(4, 0.0); 50]), None);
    }
}
