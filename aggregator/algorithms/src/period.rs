//! How regularly something happens: the period of a train of events, or of counts over time, with
//! how sure of it we are.
//!
//! ```text
//!  times ─> bursts merged ─┬─> gaps: more even than chance?          ─┐
//!                          └─> coherence: in step over many cycles?  ─┴─> smaller p ─> refine
//!  counts ─> fold: does one hour, day or date differ from the others?
//! ```
//!
//! A train of events that come by chance has no period, however many they are, and neither has one
//! that comes in bursts or after heavy-tailed pauses. What is told of a train is the period, its
//! 95 % interval and the false-alarm probability: how often chance alone shows as much.

pub mod fold;
mod coherence;
mod gaps;
mod refine;
#[cfg(test)]
mod tests;

use crate::interval::Interval;

/// Events closer than this are one burst, whatever the resolution: a retry is no second visit.
const SHORTEST_GAP: f64 = 2.0;
/// Looks that a period must hold to be told, by Nyquist.
const FEWEST_LOOKS: f64 = 2.0;
/// Looks that it must hold to be acted on.
const LOOKS_TRUSTED: f64 = 4.0;
/// A guess may be so much shorter than what it is refined to.
const SLACK: f64 = 0.95;
/// Guesses that differ by less climb the same hill.
const SAME_HILL: f64 = 0.005;
/// Share of the gaps that are one look long from which on it is the looking that is regular: what comes at
/// every look has no period of its own.
const EVERY_LOOK: f64 = 0.75;
/// Standard deviations by which events may be less in step with the true period than with another: each is off by
/// one, and so their difference by the root of two.
const AS_WELL: f64 = std::f64::consts::SQRT_2;
/// With fewer events nothing is told: five gaps are the least that can be even by more than chance.
pub const FEWEST_EVENTS: usize = 6;
/// Later events alone are looked at beyond this many.
pub const MOST_EVENTS: usize = 128;

/// A train of events as it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Train<'a> {
    /// When each came, in seconds since any moment, ascending.
    pub times: &'a [f64],
    /// Seconds within which a time is known: how often somebody looked.
    pub resolution: f64,
}

/// What tells the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The gaps between events are more even than chance makes them.
    Gaps,
    /// Events keep in step over many cycles.
    Coherence,
}

/// How regularly something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Period {
    /// The period in seconds.
    pub seconds: f64,
    /// Its 95 % interval, in seconds.
    pub interval: Interval,
    /// How often chance alone looks at least as regular.
    pub false_alarm: f64,
    /// Events it rests on, each burst one; of counts the events counted.
    pub events: u64,
    /// It is long enough against the resolution to be acted on: four times, by Nyquist two.
    pub is_trusted: bool,
    /// What told it.
    pub method: Method,
}

/// The period of a train, if chance would look as regular at most in the share `level` of all
/// trains; `None` if there is none, or there are too few events to tell.
#[must_use]
pub fn of_train(train: &Train<'_>, level: f64) -> Option<Period> {
    let shortest = train.resolution.max(SHORTEST_GAP);
    let times = starts(train.times, shortest);
    // A period as long as the resolution is that of the looking, not of what is looked at.
    let least = shortest.max(FEWEST_LOOKS * train.resolution * SLACK);
    if times.len() < FEWEST_EVENTS {
        return None;
    }
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if comes_at_every_look(&gaps, train.resolution) {
        return None;
    }
    let even = gaps::false_alarm(&gaps, shortest, train.resolution);
    let in_step = coherence::false_alarm(&times, least);
    // Šidák: the smaller of two chances has two chances to be small.
    let false_alarm = -(2.0 * (-even.min(in_step)).ln_1p()).exp_m1();
    if false_alarm > level {
        return None;
    }
    let tried = coherence::tried(&times, least);
    let mut guesses = tried.best.clone();
    if guesses.is_empty() {
        guesses.push((gaps::middle(&times), 1.0));
    }
    guesses.dedup_by(|later, kept| (later.0 / kept.0 - 1.0).abs() < SAME_HILL);
    let refined = guesses.into_iter().filter_map(|guess| refine::refine(&times, guess));
    let refined = refined.max_by(|one, other| one.strength.total_cmp(&other.strength))?;
    let (seconds, mut interval) = (refined.seconds, refined.interval(&times, train.resolution));
    // Another period with which events keep in step as well, but for chance, may be the true one.
    if let Some((shortest, longest)) = tried.in_step(refined.strength - AS_WELL) {
        interval.lower = interval.lower.min(shortest);
        interval.upper = interval.upper.max(longest);
    }
    (seconds >= FEWEST_LOOKS * train.resolution).then_some(Period {
        seconds,
        interval,
        false_alarm,
        events: times.len() as u64,
        is_trusted: seconds >= LOOKS_TRUSTED * train.resolution,
        method: if even < in_step { Method::Gaps } else { Method::Coherence },
    })
}

#[expect(clippy::cast_precision_loss, reason = "gaps are at most 127")]
fn comes_at_every_look(gaps: &[f64], resolution: f64) -> bool {
    let at_once = gaps.iter().filter(|gap| **gap < 1.5 * resolution).count();
    at_once as f64 >= EVERY_LOOK * gaps.len() as f64
}

/// The starts of bursts: what follows another within `shortest` is part of it. The latest ones,
/// counted from the first.
fn starts(times: &[f64], shortest: f64) -> Vec<f64> {
    let mut starts: Vec<f64> = Vec::with_capacity(times.len().min(MOST_EVENTS));
    let mut last = f64::NEG_INFINITY;
    for time in times.iter().copied().filter(|time| time.is_finite()) {
        if time - last >= shortest {
            starts.push(time);
        }
        last = time;
    }
    let surplus = starts.len().saturating_sub(MOST_EVENTS);
    starts.drain(..surplus);
    // Near nought a float is exact to less than a microsecond; since 1970 it is not.
    let origin = starts.first().copied().unwrap_or(0.0);
    starts.iter_mut().for_each(|time| *time -= origin);
    starts
}
