//! Rates of events with their 95 % intervals.

use std::time::Duration;

use algorithms::interval::{Interval, of_count, of_share};

use super::Rate;

/// So many events in so much time.
pub(super) fn rate(events: u64, watched: Duration) -> Rate {
    corrected(events, watched, None)
}

/// So many events in so much time, of which a share was seen: each that was seen stands for as many as
/// there were for it (Horvitz & Thompson). The interval is as much wider as the share is unsure;
/// `None` is all.
#[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
pub(super) fn corrected(events: u64, watched: Duration, seen: Option<f64>) -> Rate {
    let seconds = watched.as_secs_f64();
    if seconds <= 0.0 {
        return Rate { per_second: 0.0, lower: 0.0, upper: f64::MAX };
    }
    let events = events as f64;
    let counted = of_count(events);
    let seen = seen.filter(|share| *share > 0.0 && *share < 1.0);
    let share =
        seen.map_or(Interval { lower: 1.0, upper: 1.0 }, |share| of_share(events, events / share));
    Rate {
        per_second: events / seen.unwrap_or(1.0) / seconds,
        lower: counted.lower / share.upper / seconds,
        upper: (counted.upper / share.lower / seconds).min(f64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_bounds_a_rate_and_does_not_make_it_nought() {
        let silent = rate(0, Duration::from_secs(100));
        assert!(silent.per_second.abs() < f64::EPSILON && silent.lower.abs() < f64::EPSILON);
        assert!((silent.upper - 0.036_888_79).abs() < 1e-6, "{}", silent.upper);
    }

    #[test]
    fn no_time_bounds_nothing() {
        assert!(rate(3, Duration::ZERO).upper >= f64::MAX);
    }

    #[test]
    fn the_interval_closes_with_time() {
        let short = rate(10, Duration::from_secs(10));
        let long = rate(1000, Duration::from_secs(1000));
        assert!(long.lower > short.lower && long.upper < short.upper);
    }

    #[test]
    fn what_was_missed_is_added_and_makes_the_rate_less_sure() {
        let whole = rate(800, Duration::from_secs(100));
        let part = corrected(800, Duration::from_secs(100), Some(0.8));
        assert!((part.per_second - 10.0).abs() < 1e-9, "{part:?}");
        let width = |rate: Rate| (rate.upper - rate.lower) / rate.per_second;
        assert!(width(part) > width(whole));
        assert!(part.lower < 10.0 && part.upper > 10.0 && part.upper < 12.0, "{part:?}");
    }

    #[test]
    fn a_share_that_is_no_share_corrects_nothing() {
        let minute = Duration::from_secs(60);
        for share in [Some(1.0), Some(0.0), Some(-1.0), Some(f64::NAN), None] {
            assert_eq!(corrected(7, minute, share), rate(7, minute));
        }
    }
}
