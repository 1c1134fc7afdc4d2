//! Quantiles of many numbers in little room: a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and
//! fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019).
//!
//! A value goes into the bin of its logarithm, so that every quantile is right to [`RELATIVE_ERROR`] of
//! itself, however the values are spread; merging sketches is adding bins. Values are whole numbers, so
//! there are never more than some 1,500 bins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// By how much a quantile may be off, of itself.
pub const RELATIVE_ERROR: f64 = 1.0 / 64.0;

/// Bin of the largest value there can be, by [`RELATIVE_ERROR`].
pub const LARGEST_BIN: u32 = 1_420;

/// How many values of which size there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    zeros: u64,
    bins: BTreeMap<u32, u64>,
}

/// Why a sketch from outside is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("bin {0} lies beyond the largest value")]
pub struct NoSuchBin(pub u32);

fn gamma_ln() -> f64 {
    ((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)).ln()
}

impl Sketch {
    /// Takes a value in.
    pub fn insert(&mut self, value: u64) {
        match bin_of(value) {
            Some(bin) => *self.bins.entry(bin).or_default() += 1,
            None => self.zeros += 1,
        }
    }

    /// Takes all values of another in.
    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        for (bin, count) in &other.bins {
            let held = self.bins.entry(*bin).or_default();
            *held = held.saturating_add(*count);
        }
    }

    /// How many values were taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bins.values().fold(self.zeros, |sum, count| sum.saturating_add(*count))
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zeros == 0 && self.bins.is_empty()
    }

    /// The value below or at which the share `quantile` (0 to 1) of all values lies, within
    /// [`RELATIVE_ERROR`] of itself; `None` of no values.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count is a count"
    )]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (quantile.clamp(0.0, 1.0) * (count - 1) as f64).floor() as u64;
        let mut below = self.zeros;
        if rank < below {
            return Some(0);
        }
        for (bin, held) in &self.bins {
            below = below.saturating_add(*held);
            if rank < below {
                return Some(value_of(*bin));
            }
        }
        self.bins.keys().next_back().map(|bin| value_of(*bin))
    }

    /// How many values were at least that large, within twice [`RELATIVE_ERROR`].
    #[must_use]
    pub fn count_from(&self, least: u64) -> u64 {
        let Some(first) = bin_of(least) else { return self.count() };
        self.bins().filter(|(bin, _)| *bin >= first).map(|(_, count)| count).sum()
    }

    /// How many values were nought.
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The bins that hold something, ascending, with how many values each.
    pub fn bins(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.bins.iter().map(|(bin, count)| (*bin, *count))
    }

    /// A sketch from what [`Self::zeros`] and [`Self::bins`] gave.
    ///
    /// # Errors
    ///
    /// [`NoSuchBin`] if a bin is none that a value can fall into.
    pub fn from_parts(
        zeros: u64,
        bins: impl IntoIterator<Item = (u32, u64)>,
    ) -> Result<Self, NoSuchBin> {
        let mut sketch = Self { zeros, bins: BTreeMap::new() };
        for (bin, count) in bins {
            if bin > LARGEST_BIN {
                return Err(NoSuchBin(bin));
            }
            if count > 0 {
                let held = sketch.bins.entry(bin).or_default();
                *held = held.saturating_add(count);
            }
        }
        Ok(sketch)
    }
}

/// The bin of a value; `None` of nought, which has no logarithm.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the logarithm of a whole number above nought is small and not negative"
)]
fn bin_of(value: u64) -> Option<u32> {
    (value > 0).then(|| ((value as f64).ln() / gamma_ln()).ceil() as u32)
}

/// The value that stands for a bin: its middle, in the sense that it is off by the same share of either end.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates, and nothing here is below nought"
)]
#[must_use]
pub fn value_of(bin: u32) -> u64 {
    let upper = (f64::from(bin) * gamma_ln()).exp();
    (upper * (1.0 - RELATIVE_ERROR)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.insert(value));
        sketch
    }

    #[test]
    fn every_quantile_is_right_within_the_error() {
        for scale in [1_u64, 1_000, 1 << 30] {
            let sketch = of((1..=1_000).map(|value| value * scale));
            for share in [0.0, 0.25, 0.5, 0.95, 0.99, 1.0] {
                let exact = ((share * 999.0_f64).floor() + 1.0) * scale as f64;
                let told = sketch.quantile(share).unwrap() as f64;
                // Half of one is lost to whole numbers.
                assert!((told - exact).abs() <= exact * RELATIVE_ERROR + 0.5, "{told} for {exact}");
            }
        }
    }

    #[test]
    fn values_from_a_size_on_are_counted_within_the_error() {
        let sketch = of((0..1_000).chain([0, 0]));
        assert_eq!((sketch.count_from(0), sketch.count_from(1)), (1_002, 999));
        let told = sketch.count_from(500);
        assert!((480..=520).contains(&told), "{told}");
    }

    #[test]
    fn merged_sketches_are_the_sketch_of_all() {
        let mut odd = of((1..1_000).step_by(2));
        odd.merge(&of((0..1_000).step_by(2)));
        assert_eq!(odd, of(0..1_000));
        assert_eq!(odd.count(), 1_000);
    }

    #[test]
    fn of_nothing_there_is_no_quantile_and_nought_is_a_value() {
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(of([0, 0, 7]).quantile(0.5), Some(0));
    }

    #[test]
    fn the_largest_number_has_a_bin_and_what_lies_beyond_is_refused() {
        let sketch = of([u64::MAX]);
        let parts: Vec<_> = sketch.bins().collect();
        assert!(parts[0].0 <= LARGEST_BIN);
        assert_eq!(Sketch::from_parts(0, parts), Ok(sketch));
        assert_eq!(Sketch::from_parts(0, [(LARGEST_BIN + 1, 1)]), Err(NoSuchBin(LARGEST_BIN + 1)));
    }
}
