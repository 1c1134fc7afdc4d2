//! Whether the gaps between events are more even than chance makes them.
//!
//! Gini's index of n exponential gaps is distributed as the mean of n - 1 uniform values (Gail &
//! Gastwirth, JRSS B 1978). It is told rather than the coefficient of variation,
//! which one long silence drives up without bound. Two laws of chance must be ruled out: pauses
//! without memory, and heavy-tailed ones, of which the logarithm over the smallest is exponential.
//! Pauses that vary more than either, as in bursts, only raise the index.

use crate::normal;

/// Fewer values are not told apart from chance.
const FEWEST_GAPS: usize = 4;
/// Beyond this many values their mean is as good as normal, and the exact sum would cancel out.
const SUMMED_EXACTLY: usize = 12;

/// Chance that gaps without a period are as even as these, known to `resolution`. No gap is shorter than
/// `shortest`.
pub(super) fn false_alarm(gaps: &[f64], shortest: f64, resolution: f64) -> f64 {
    let memoryless = gaps.iter().map(|gap| (gap - shortest).max(0.0)).collect();
    // What looks shortest was longer, by half of the resolution on average.
    let smallest = gaps.iter().copied().fold(f64::INFINITY, f64::min) + resolution / 2.0;
    let tailed = gaps.iter().map(|gap| (gap / smallest).ln().max(0.0));
    let mut tailed: Vec<f64> = tailed.collect();
    tailed.sort_by(f64::total_cmp);
    // The smallest is its own measure and says nothing.
    chance_of(memoryless).max(chance_of(tailed.split_off(1)))
}

/// The middle gap.
pub(super) fn middle(times: &[f64]) -> f64 {
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
}

/// Chance that exponential values are as even as these.
#[expect(clippy::cast_precision_loss, reason = "gaps are at most 127")]
fn chance_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    if count < FEWEST_GAPS {
        return 1.0;
    }
    let (n, sum) = (count as f64, values.iter().sum::<f64>());
    if sum <= 0.0 {
        return 0.0;
    }
    let ranked = values.iter().enumerate().map(|(rank, value)| (rank as f64 + 1.0) * value);
    let gini = (2.0 * ranked.sum::<f64>() / sum - n - 1.0) / (n - 1.0);
    at_most(gini, count - 1)
}

/// Chance that the mean of `m` uniform values, which Gini's index of exponential ones is
/// distributed as, is at most that.
#[expect(clippy::cast_precision_loss, reason = "gaps are at most 127")]
fn at_most(mean: f64, m: usize) -> f64 {
    if m > SUMMED_EXACTLY {
        return normal::above((0.5 - mean) * (12.0 * m as f64).sqrt());
    }
    // Irwin & Hall's sum.
    let (sum, power) = (mean * m as f64, i32::try_from(m).unwrap_or(i32::MAX));
    let (mut share, mut term) = (0.0, 1.0);
    for k in 0..=m {
        let rest = sum - k as f64;
        if rest <= 0.0 {
            break;
        }
        share += term * rest.powi(power);
        term *= -((m - k) as f64) / (k as f64 + 1.0);
    }
    (share / (1..=m).map(|k| k as f64).product::<f64>()).clamp(0.0, 1.0)
}
