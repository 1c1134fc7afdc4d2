//! How sure a figure is: intervals of rates and of shares.
//!
//! Events that are counted have a Gamma interval: with n events in a time T the lower bound of their
//! rate is the 2.5 % quantile of Gamma(n)/T and the upper one the 97.5 % quantile of Gamma(n + 1)/T
//! (Garwood, Biometrika 1936). It is exact for every n, nought among them: silence over a short time
//! bounds a rate, it does not make it nought.

use std::sync::OnceLock;

use crate::normal::Z_95;

/// From this shape on the Wilson-Hilferty approximation is right to six digits: where the table of known
/// counts ends, for the exact quantile takes a hundred times as long.
const LARGE_SHAPE: f64 = 4096.0;

/// The 95 % interval of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// Counts whose intervals are worked out once: those of a window are few and come again and again.
static KNOWN: [OnceLock<Interval>; 4096] = [const { OnceLock::new() }; 4096];

/// The interval of the expected number of events where so many were counted.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no place of the table is none of a known count"
)]
pub fn of_count(events: f64) -> Interval {
    let place = events as usize;
    match KNOWN.get(place) {
        Some(known) if place as f64 == events => *known.get_or_init(|| worked_out(events)),
        _ => worked_out(events),
    }
}

fn worked_out(events: f64) -> Interval {
    let lower = if events > 0.0 { gamma_quantile(events, Tail::Lower) } else { 0.0 };
    Interval { lower, upper: gamma_quantile(events + 1.0, Tail::Upper) }
}

/// The interval of a share of which so many in so many were counted: Wilson's (JASA 1927), which stays within
/// 0 and 1 and is not empty where none or all were. Nothing counted leaves it open from 0 to 1.
#[must_use]
pub fn of_share(counted: f64, all: f64) -> Interval {
    if all <= 0.0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let (share, square) = ((counted / all).clamp(0.0, 1.0), Z_95 * Z_95);
    let middle = share + square / (2.0 * all);
    let half = Z_95 * (share * (1.0 - share) / all + square / (4.0 * all * all)).sqrt();
    let scale = 1.0 + square / all;
    Interval {
        lower: ((middle - half) / scale).max(0.0),
        upper: ((middle + half) / scale).min(1.0),
    }
}

#[derive(Debug, Clone, Copy)]
enum Tail {
    Lower,
    Upper,
}

/// The 2.5 % or 97.5 % quantile of the Gamma distribution of that shape and scale 1.
fn gamma_quantile(shape: f64, tail: Tail) -> f64 {
    let (probability, z) = match tail {
        Tail::Lower => (0.025, -Z_95),
        Tail::Upper => (0.975, Z_95),
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

/// Chance that a value of the Gamma distribution of that shape and scale 1 is above `x`, right also
/// where it is tiny.
#[must_use]
pub fn gamma_above(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < shape + 1.0 {
        return 1.0 - gamma_share(shape, x);
    }
    (shape * x.ln() - x - ln_gamma(shape)).exp() * fraction(shape, x)
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

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 5e-5 * right.abs().max(1e-9)
    }

    /// The exact Poisson limits as Garwood tabled them, and R's `qgamma(0.025, n)` and
    /// `qgamma(0.975, n + 1)`.
    #[test]
    fn the_bounds_are_those_of_the_tables() {
        let table = [
            (1.0, 0.025_318, 5.571_643),
            (2.0, 0.242_209, 7.224_688),
            (5.0, 1.623_486, 11.668_332),
            (10.0, 4.795_389, 18.390_356),
            (100.0, 81.363_955, 121.627_006),
        ];
        for (events, lower, upper) in table {
            let found = of_count(events);
            assert!(close(found.lower, lower) && close(found.upper, upper), "{events}: {found:?}");
        }
    }

    /// Against R's `prop.test(x, n, correct = FALSE)`.
    #[test]
    fn shares_have_wilsons_interval() {
        let table = [
            (0.0, 10.0, 0.0, 0.277_533),
            (10.0, 10.0, 0.722_467, 1.0),
            (8.0, 10.0, 0.490_162, 0.943_318),
            (81.0, 263.0, 0.255_302, 0.366_224),
        ];
        for (counted, all, lower, upper) in table {
            let found = of_share(counted, all);
            assert!(
                (found.lower - lower).abs() < 1e-4 && (found.upper - upper).abs() < 1e-4,
                "{found:?}"
            );
        }
        assert_eq!(of_share(0.0, 0.0), Interval { lower: 0.0, upper: 1.0 });
    }

    #[test]
    fn a_tail_is_right_where_it_is_tiny() {
        // Of shape 1 the law is exponential.
        for x in [0.1_f64, 1.0, 3.0, 50.0, 200.0] {
            assert!((gamma_above(1.0, x) / (-x).exp() - 1.0).abs() < 1e-9, "{x}");
        }
        assert!((gamma_above(5.0, 0.0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn beyond_the_table_the_bounds_cut_off_the_tails_they_should() {
        for events in [4_097.0, 20_000.0, 700_000.0] {
            let found = of_count(events);
            let (lower, upper) =
                (gamma_share(events, found.lower), gamma_share(events + 1.0, found.upper));
            assert!(
                (lower - 0.025).abs() < 1e-5 && (upper - 0.975).abs() < 1e-5,
                "{lower} {upper}"
            );
        }
    }

    #[test]
    fn many_events_have_a_narrow_interval_either_way_of_reckoning() {
        for events in [900_000.0_f64, 1_100_000.0] {
            let found = of_count(events);
            let spread = Z_95 * events.sqrt();
            assert!(close(found.lower, events - spread) && close(found.upper, events + spread));
        }
    }
}
