//! How counts spread: whether events come in bursts, and what the busiest windows carry. What was not
//! watched is left out, never taken for silence.

use std::time::Duration;

use algorithms::dispersion;
use serde::{Deserialize, Serialize};

/// Windows that a quantile needs: with fewer, 95 % of them is all of them.
const FEWEST_WINDOWS: usize = 20;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// Most that came in one window, of those remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Events per second that 95 of 100 windows stay at or below.
    pub per_second_95: f64,
    /// Events per second of the busiest window.
    pub per_second_most: f64,
    /// Windows that were watched.
    pub windows: u64,
}

/// How the counts of the windows remembered spread, in as much room as that takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Index of dispersion and its upper bound; the lower one lies as far below on a scale of factors. Below
    /// nought if they are not known.
    bursts: [f32; 2],
    per_second_95: f32,
    per_second_most: f32,
    /// 0 if there are too few for a quantile.
    windows: u32,
}

impl Spread {
    /// How counts spread, each with how long its window was watched.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
    pub(super) fn of(windows: &[(u64, Duration)]) -> Self {
        let bursts = burstiness(windows).map(|told| [told.value as f32, told.upper as f32]);
        let peak = peak(windows).unwrap_or_default();
        Self {
            bursts: bursts.unwrap_or([-1.0; 2]),
            per_second_95: peak.per_second_95 as f32,
            per_second_most: peak.per_second_most as f32,
            windows: u32::try_from(peak.windows).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn tells_anything(&self) -> bool {
        self.burstiness().is_some() || self.windows > 0
    }

    pub(super) fn burstiness(&self) -> Option<Estimate> {
        let [value, upper] = self.bursts.map(f64::from);
        let lower = if upper > 0.0 { value * value / upper } else { 0.0 };
        (value >= 0.0).then_some(Estimate { value, lower, upper })
    }

    pub(super) fn peak(&self) -> Option<Peak> {
        (self.windows > 0).then_some(Peak {
            per_second_95: f64::from(self.per_second_95),
            per_second_most: f64::from(self.per_second_most),
            windows: u64::from(self.windows),
        })
    }
}

/// Whether events come in bursts: variance over mean of the counts of windows of time, each with how
/// long it was watched. 1 for chance; `None` with too few windows, or if nothing happened.
fn burstiness(windows: &[(u64, Duration)]) -> Option<Estimate> {
    let counts: Vec<(u64, f64)> =
        windows.iter().map(|(count, watched)| (*count, watched.as_secs_f64())).collect();
    let (value, interval) = dispersion::of(&counts)?;
    Some(Estimate { value, lower: interval.lower, upper: interval.upper })
}

/// The busiest windows of time; `None` with too few for a quantile.
fn peak(windows: &[(u64, Duration)]) -> Option<Peak> {
    let watched = windows.iter().filter(|(_, watched)| !watched.is_zero());
    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
    let rates = watched.map(|(count, watched)| *count as f64 / watched.as_secs_f64());
    let mut rates: Vec<f64> = rates.collect();
    if rates.len() < FEWEST_WINDOWS {
        return None;
    }
    rates.sort_by(f64::total_cmp);
    // The smallest that at least 95 of 100 do not exceed.
    let at = (rates.len() * 95).div_ceil(100) - 1;
    Some(Peak {
        per_second_95: rates[at],
        per_second_most: rates[rates.len() - 1],
        windows: rates.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(counts: &[u64]) -> Vec<(u64, Duration)> {
        counts.iter().map(|count| (*count, Duration::from_secs(10))).collect()
    }

    #[test]
    fn a_peak_is_that_of_the_windows_watched() {
        let mut counts = windows(&(1..=100).collect::<Vec<_>>());
        counts.push((9999, Duration::ZERO));
        let peak = peak(&counts).unwrap();
        assert!((peak.per_second_95 - 9.5).abs() < 1e-9 && peak.windows == 100, "{peak:?}");
        assert!((peak.per_second_most - 10.0).abs() < 1e-9);
        assert_eq!(super::peak(&windows(&[1; 19])), None);
    }

    #[test]
    fn bursts_are_told_from_chance() {
        let bursts = burstiness(&windows(&[0, 0, 40, 0, 0, 0, 38, 0, 0, 0, 41, 0])).unwrap();
        assert!(bursts.lower > 1.0, "{bursts:?}");
        let even = burstiness(&windows(&[5, 4, 5, 6, 5, 5, 4, 6, 5, 5, 5, 5])).unwrap();
        assert!(even.upper < 1.0, "{even:?}");
        assert_eq!(burstiness(&windows(&[0; 50])), None);
    }
}
