//! A peer: the timing score of RITA (Real Intelligence Threat Analytics, Active Countermeasures), as
//! its beacon analyser publishes it: the mean of three scores of the intervals between connections,
//! each from 0 to 1: one minus the size of Bowley's skewness, one minus the median absolute deviation
//! over the median, and how many connections there are against how many intervals of the median fit.

/// The score, from 0 to 1; 0 with fewer than four intervals.
pub(in super::super) fn score(times: &[f64]) -> f64 {
    // Times are whole seconds there, each once.
    let mut seconds: Vec<f64> = times.iter().map(|time| time.floor()).collect();
    seconds.dedup();
    let mut intervals: Vec<f64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if intervals.len() < 4 {
        return 0.0;
    }
    intervals.sort_by(f64::total_cmp);
    let (low, middle, high) =
        (quantile(&intervals, 0.25), quantile(&intervals, 0.5), quantile(&intervals, 0.75));
    let is_flat = high <= low || middle <= low || middle >= high;
    let skewness = if is_flat { 0.0 } else { (low + high - 2.0 * middle) / (high - low) };
    let mut off: Vec<f64> = intervals.iter().map(|gap| (gap - middle).abs()).collect();
    off.sort_by(f64::total_cmp);
    let dispersion = if middle >= 1.0 { 1.0 - quantile(&off, 0.5) / middle } else { 1.0 };
    let span = seconds[seconds.len() - 1] - seconds[0];
    let fit = if middle > 0.0 { seconds.len() as f64 / (span / middle) } else { 0.0 };
    (1.0 - skewness.abs() + dispersion.max(0.0) + fit.min(1.0)) / 3.0
}

/// Interpolated between its neighbours.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among a few hundred"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}
