//! Rates of events with their 95 % intervals.
//!
//! Events of an edge are counted, so their rate has a Gamma interval: with n events in a time T
//! the lower bound is the 2.5 % quantile of Gamma(n)/T and the upper one the 97.5 % quantile of
//! Gamma(n + 1)/T. It is exact for every n, nought among them: silence over a short time bounds a
//! rate, it does not make it nought.

use std::time::Duration;

use super::Rate;

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// From this shape on the Wilson-Hilferty approximation is right to eight digits.
const LARGE_SHAPE: f64 = 1e6;

/// So many events in so much time.
#[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
pub(super) fn rate(events: u64, watched: Duration) -> Rate {
    let seconds = watched.as_secs_f64();
    if seconds <= 0.0 {
        return Rate { per_second: 0.0, lower: 0.0, upper: f64::MAX };
    }
    let events = events as f64;
    let lower = if events > 0.0 { gamma_quantile(events, Tail::Lower) / seconds } else { 0.0 };
    let upper = gamma_quantile(events + 1.0, Tail::Upper) / seconds;
    Rate { per_second: events / seconds, lower, upper }
}

#[derive(Debug, Clone, Copy)]
enum Tail {
    Lower,
    Upper,
}

/// The 2.5 % or 97.5 % quantile of the Gamma distribution of that shape and scale 1.
fn gamma_quantile(shape: f64, tail: Tail) -> f64 {
    let (probability, z) = match tail {
        Tail::Lower => (0.025, -Z),
        Tail::Upper => (0.975, Z),
    };
    let root = 1.0 - 1.0 / (9.0 * shape) + z / (3.0 * shape.sqrt());
    let guess = shape * root.powi(3);
    if shape > LARGE_SHAPE {
        return guess;
    }
    let (mut low, mut high) = (0.0_f64, shape + 10.0 * shape.sqrt() + 10.0);
    let mut x = if guess > low && guess < high { guess } else { shape / 2.0 };
    for _ in 0..100 {
        let off = gamma_share(shape, x) - probability;
        if off > 0.0 {
            high = x
        } else {
            low = x
        }
        // Newton's step, or half the bracket where it would leave it.
        let step = x - off / gamma_density(shape, x);
        let next = if step > low && step < high { step } else { f64::midpoint(low, high) };
        let moved = (next - x).abs();
        x = next;
        if moved <= 1e-13 * x {
            break;
        }
    }
    x
}

fn gamma_density(shape: f64, x: f64) -> f64 {
    ((shape - 1.0) * x.ln() - x - ln_gamma(shape)).exp()
}

/// The regularised lower incomplete gamma function P(shape, x).
fn gamma_share(shape: f64, x: f64) -> f64 {
    let factor = (shape * x.ln() - x - ln_gamma(shape)).exp();
    if x < shape + 1.0 { factor * series(shape, x) } else { 1.0 - factor * fraction(shape, x) }
}

fn series(shape: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0 / shape, 1.0 / shape, shape);
    while term > sum * 1e-16 {
        n += 1.0;
        term *= x / n;
        sum += term;
    }
    sum
}

/// Lentz's continued fraction of the upper part.
fn fraction(shape: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - shape;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut value = d;
    let mut n = 1.0;
    while n < 100_000.0 {
        let a = -n * (n - shape);
        b += 2.0;
        let divisor = a * d + b;
        d = 1.0 / if divisor.abs() < TINY { TINY } else { divisor };
        let next = b + a / c;
        c = if next.abs() < TINY { TINY } else { next };
        value *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
        n += 1.0;
    }
    value
}

/// Stirling's series, with the argument raised to where it is right to fifteen digits.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 15.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series =
        (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(events: u64) -> (f64, f64) {
        let rate = rate(events, Duration::from_secs(1));
        (rate.lower, rate.upper)
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 5e-5 * right.abs().max(1e-9)
    }

    /// The exact Poisson limits as Garwood tabled them (Biometrika 1936), and R's
    /// `qgamma(0.025, n)` and `qgamma(0.975, n + 1)`.
    #[test]
    fn the_bounds_are_those_of_the_tables() {
        let table = [
            (1, 0.025_318, 5.571_643),
            (2, 0.242_209, 7.224_688),
            (5, 1.623_486, 11.668_332),
            (10, 4.795_389, 18.390_356),
            (100, 81.363_955, 121.627_006),
        ];
        for (events, lower, upper) in table {
            let found = bounds(events);
            assert!(close(found.0, lower) && close(found.1, upper), "{events}: {found:?}");
        }
    }

    #[test]
    fn silence_bounds_a_rate_and_does_not_make_it_nought() {
        let silent = rate(0, Duration::from_secs(100));
        assert!(silent.per_second.abs() < f64::EPSILON && silent.lower.abs() < f64::EPSILON);
        assert!(close(silent.upper, 0.036_888_79), "{}", silent.upper);
    }

    #[test]
    fn no_time_bounds_nothing() {
        assert!(rate(3, Duration::ZERO).upper >= f64::MAX);
    }

    #[test]
    fn many_events_have_a_narrow_interval_either_way_of_reckoning() {
        for events in [900_000_u64, 1_100_000] {
            let (lower, upper) = bounds(events);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let n = events as f64;
            assert!(close(lower, n - Z * n.sqrt()) && close(upper, n + Z * n.sqrt()));
        }
    }

    #[test]
    fn the_interval_closes_with_time() {
        let short = rate(10, Duration::from_secs(10));
        let long = rate(1000, Duration::from_secs(1000));
        assert!(long.lower > short.lower && long.upper < short.upper);
    }
}
