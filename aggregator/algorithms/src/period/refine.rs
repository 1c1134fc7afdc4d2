//! The period to the digit, on the hill of the autocorrelation, with its interval.
//!
//! Newton's steps climb the hill of pairs a few cycles apart, then of pairs ever further apart for as long
//! as those keep in step: a clock is known the better the longer it is watched, one whose jitter adds
//! up is not. Where jitter is large, chance keeps some pairs far apart in step too. So the interval
//! is at least that of the pairs up to where coherence fades, as it does if jitter adds up.

use std::f64::consts::TAU;

use super::coherence::sine;
use crate::interval::Interval;

/// Parts of the train that are left out in turn for the interval.
const PARTS: usize = 10;
/// Student's 97.5 % quantile with one degree of freedom less than parts.
const QUANTILE: f64 = 2.262;
/// Seconds within which no clock tells the time.
const FINEST: f64 = 1e-3;
/// Standard deviations by which pairs must be in step at a distance for it to count.
const IN_STEP: f64 = 4.0;
/// The same of neighbours, of which there is one distance to choose from.
const NEIGHBOURS_IN_STEP: f64 = 2.0;
/// Share of the coherence of nearer pairs that farther ones must have for it not to fade.
const KEPT: f64 = 0.8;

/// Newton's steps to the top of a hill, from its side.
const CLIMBED: usize = 4;

/// The top of a hill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Refined {
    /// The period.
    pub(super) seconds: f64,
    /// Standard deviations by which the pairs that it rests on are in step.
    pub(super) strength: f64,
    /// Cycles apart that those pairs are at most.
    reach: f64,
}

impl Refined {
    /// The 95 % interval of the period: it holds those of all pairs that it rests on and of the nearer ones
    /// that would tell it if jitter added up.
    pub(super) fn interval(&self, times: &[f64], resolution: f64) -> Interval {
        let nearer = faded(times, self.seconds);
        let mut half = self.half(times, resolution);
        if nearer.reach < self.reach {
            let off = (nearer.seconds - self.seconds).abs();
            half = half.max(nearer.half(times, resolution) + off);
        }
        Interval { lower: (self.seconds - half).max(0.0), upper: self.seconds + half }
    }

    /// Half of the interval that its pairs tell, by the jackknife over stretches of the train: pairs share
    /// events, so their scatter alone would tell too narrow a one.
    fn half(&self, times: &[f64], resolution: f64) -> f64 {
        let slopes = slopes(times, self.seconds, (0.5, self.reach));
        let without = (0..PARTS).map(|part| self.seconds * slopes.whole(Some(part)).factor());
        // However even the events, each is known no better than that.
        let finest = resolution.max(FINEST) / self.reach;
        (QUANTILE * jackknife(&without.collect::<Vec<_>>())).max(finest)
    }
}

/// What pairs of events at some distances say of a period.
#[derive(Debug, Clone, Copy, Default)]
struct Slope {
    /// Sum of cycles x sine of the phase.
    off: f64,
    /// Sum of cycles squared x cosine of the phase.
    curve: f64,
    /// Sum of cosines.
    step: f64,
    pairs: f64,
}

impl Slope {
    fn add(&mut self, other: &Self) {
        self.off += other.off;
        self.curve += other.curve;
        self.step += other.step;
        self.pairs += other.pairs;
    }

    /// Standard deviations by which the pairs are in step.
    fn strength(&self) -> f64 {
        if self.pairs > 0.0 { self.step * (2.0 / self.pairs).sqrt() } else { 0.0 }
    }

    /// How closely the pairs are in step, 1 if wholly.
    fn coherence(&self) -> f64 {
        if self.pairs > 0.0 { self.step / self.pairs } else { 0.0 }
    }

    /// Newton's step: by which factor the period is off.
    fn factor(&self) -> f64 {
        if self.curve <= 0.0 {
            return 1.0;
        }
        // Beyond a tenth the hill is another one.
        1.0 + (self.off / self.curve / TAU).clamp(-0.1, 0.1)
    }
}

/// The period near a guess that holds over so many cycles.
pub(super) fn refine(times: &[f64], (guess, cycles): (f64, f64)) -> Option<Refined> {
    let (mut seconds, mut reach) = (guess, cycles + 0.5);
    for _ in 0..3 {
        seconds *= slopes(times, seconds, (0.5, reach)).whole(None).factor();
    }
    let longest = times.last().copied().unwrap_or(0.0) / guess;
    while reach < longest {
        // Half a cycle beyond a whole number, so that no hill is cut in two.
        let next = reach * 2.0 + 0.5;
        if slopes(times, seconds, (reach, next)).whole(None).strength() < IN_STEP {
            break;
        }
        reach = next;
        for _ in 0..2 {
            seconds *= slopes(times, seconds, (0.5, reach)).whole(None).factor();
        }
    }
    let strength = slopes(times, seconds, (0.5, reach)).whole(None).strength();
    (seconds.is_finite() && seconds > 0.0).then_some(Refined { seconds, strength, reach })
}

/// The period that a guess is refined to by the pairs up to where coherence fades.
fn faded(times: &[f64], guess: f64) -> Refined {
    let near = |seconds: f64, reach: f64| slopes(times, seconds, (0.5, reach)).whole(None);
    let longest = times.last().copied().unwrap_or(0.0) / guess;
    let (mut seconds, mut reach) = (guess, 1.5);
    while reach < longest && near(seconds, reach).strength() < NEIGHBOURS_IN_STEP {
        reach = reach * 2.0 + 0.5;
    }
    loop {
        for _ in 0..CLIMBED {
            seconds *= near(seconds, reach).factor();
        }
        let next = reach * 2.0 + 0.5;
        let far = slopes(times, seconds, (reach, next)).whole(None);
        let fades = far.coherence() < KEPT * near(seconds, reach).coherence();
        if reach >= longest || fades || far.strength() < IN_STEP {
            return Refined { seconds, strength: 0.0, reach };
        }
        reach = next;
    }
}

/// What pairs say, by the stretches of the train that their two events lie in.
struct Slopes([[Slope; PARTS]; PARTS]);

impl Slopes {
    /// The sum of all pairs, or of those that have one part not between them.
    fn whole(&self, without: Option<usize>) -> Slope {
        let mut sum = Slope::default();
        for (one, row) in self.0.iter().enumerate() {
            for (other, slope) in row.iter().enumerate() {
                if without.is_none_or(|part| other < part || one > part) {
                    sum.add(slope);
                }
            }
        }
        sum
    }
}

/// What pairs of events at some distances say of a period.
fn slopes(times: &[f64], period: f64, (near, far): (f64, f64)) -> Slopes {
    let mut slopes = [[Slope::default(); PARTS]; PARTS];
    for (at, time) in times.iter().enumerate() {
        let row = &mut slopes[at * PARTS / times.len()];
        for (after, later) in times.iter().enumerate().skip(at + 1) {
            let cycles = (later - time) / period;
            if cycles >= far {
                break;
            }
            if cycles < near {
                continue;
            }
            let (whole, sin, cos) = (cycles.round(), sine(cycles), sine(cycles + 0.25));
            row[after * PARTS / times.len()].add(&Slope {
                off: whole * sin,
                curve: whole * whole * cos,
                step: cos,
                pairs: 1.0,
            });
        }
    }
    Slopes(slopes)
}

/// Standard error of a figure from its values with each part left out.
#[expect(clippy::cast_precision_loss, reason = "parts are ten")]
fn jackknife(without: &[f64]) -> f64 {
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
    (spread * (n - 1.0) / n).sqrt()
}
