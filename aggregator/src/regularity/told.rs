//! What is told of an edge, kept in little room.

use serde::{Deserialize, Serialize};

use super::{Evidence, Regularity};

/// What is told of it, in as much room as that takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The period of its train, or else of its counts.
    pub(super) period: Option<Kept>,
    /// The period is that of its counts.
    of_counts: bool,
    /// Its cycle of the calendar.
    pub(super) calendar: Option<Kept>,
}

impl Told {
    /// Puts in what one of its train and its counts says now: a train tells more, so its period stands before
    /// that of counts, and each takes away its own alone.
    pub(super) fn replace(&mut self, found: Option<Kept>, of_counts: bool) {
        let stands = self.period.is_some() && !self.of_counts;
        if of_counts && stands {
            return;
        }
        let is_others = self.period.is_some() && self.of_counts != of_counts;
        if found.is_some() || !is_others {
            (self.period, self.of_counts) = (found, found.is_some() && of_counts);
        }
    }
}

/// A [`Regularity`] to seven digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    seconds: f32,
    /// By how much the upper bound is above it.
    half_interval: f32,
    /// By how much the lower bound is below it; `None` for as much, as it was kept once.
    #[serde(default)]
    below: Option<f32>,
    /// Powers of e, for a chance may be smaller than any such number.
    false_alarm_ln: f32,
    events: u32,
    trusted: bool,
    by: Evidence,
}

impl From<Regularity> for Kept {
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
    fn from(told: Regularity) -> Self {
        Self {
            seconds: told.seconds as f32,
            half_interval: (told.upper - told.seconds) as f32,
            below: Some((told.seconds - told.lower) as f32),
            false_alarm_ln: told.false_alarm.max(f64::MIN_POSITIVE).ln() as f32,
            events: u32::try_from(told.events).unwrap_or(u32::MAX),
            trusted: told.trusted,
            by: told.by,
        }
    }
}

impl From<Kept> for Regularity {
    fn from(kept: Kept) -> Self {
        let seconds = f64::from(kept.seconds);
        Self {
            seconds,
            lower: seconds - f64::from(kept.below.unwrap_or(kept.half_interval)),
            upper: seconds + f64::from(kept.half_interval),
            false_alarm: f64::from(kept.false_alarm_ln).exp(),
            events: u64::from(kept.events),
            trusted: kept.trusted,
            by: kept.by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_of_the_train_stands_before_that_of_counts() {
        let of = |seconds| {
            let (lower, upper, by) = (seconds, seconds, Evidence::Gaps);
            let told = Regularity {
                seconds,
                lower,
                upper,
                false_alarm: 0.0,
                events: 9,
                trusted: true,
                by,
            };
            Some(Kept::from(told))
        };
        let (train, counts) = (of(60.0), of(7200.0));
        let mut told = Told::default();
        told.replace(counts, true);
        told.replace(None, false);
        assert_eq!(told.period, counts, "the train says nothing of counts");
        told.replace(train, false);
        told.replace(counts, true);
        assert_eq!(told.period, train);
        told.replace(None, false);
        assert_eq!(told, Told::default());
    }

    #[test]
    fn seven_digits_come_back_and_a_chance_of_nearly_nothing_stays_one() {
        let told = Regularity {
            seconds: 86_400.25,
            lower: 43_000.25,
            upper: 86_410.25,
            false_alarm: 1e-200,
            events: 128,
            trusted: true,
            by: Evidence::Coherence,
        };
        let back = Regularity::from(Kept::from(told));
        let off = [back.seconds - told.seconds, back.upper - told.upper, back.lower - told.lower];
        assert!(off.iter().all(|off| off.abs() < 0.01), "{back:?}");
        assert!((back.false_alarm / told.false_alarm).ln().abs() < 1e-3, "{back:?}");
        let certain = Regularity { false_alarm: 0.0, ..told };
        assert!(Regularity::from(Kept::from(certain)).false_alarm > 0.0);
    }
}
