//! Whether events keep in step with some period over many cycles.
//!
//! For each period tried the phase differences of all pairs of events that lie between one and a half
//! and a few cycles apart are averaged: a periodogram of the autocorrelation, which unlike one of
//! the train itself does not lose a clock whose jitter adds up. Pairs closer than that say nothing
//! of cycles and much of bursts. Over a whole number of cycles whatever is smooth averages to nought.
//! Prefix sums make each period linear in the events.

/// Cycles over which pairs are compared: few, for a clock whose jitter adds up; many, for one that
/// loses events or has others among them.
const REACHES: [f64; 2] = [4.0, 12.0];
/// Cycles over which guesses for the period are compared, the next event included.
const GUESSES: [f64; 3] = [1.0, 4.0, 12.0];
/// Periods tried, against the middle gap: shorter where every other event is lost, longer where
/// several come by chance in each cycle.
const FROM: f64 = 0.45;
const TO: f64 = 4.5;
/// Two periods tried next to each other: at twelve cycles the phase moves by a quarter of a turn.
const STEP: f64 = 1.02;
/// Fewer pairs say nothing.
const FEWEST_PAIRS: usize = 6;

/// Of so many events that come by chance: the strength that the strongest of all periods tried exceeds in one
/// train of twenty, and the slope at which that chance falls from there on, in powers of e. Measured
/// on 20,000 trains each of pauses without memory, in bursts, and heavy-tailed with and without a
/// shortest pause; the worst of the four.
const CHANCE: [(f64, f64, f64); 8] = [
    (6.0, 4.29, 4.70),
    (8.0, 5.09, 3.00),
    (12.0, 5.66, 1.65),
    (16.0, 5.75, 1.28),
    (24.0, 5.67, 1.10),
    (32.0, 5.59, 1.06),
    (64.0, 5.40, 1.28),
    (128.0, 5.37, 1.40),
];

/// Chance that events without a period keep in step as well as these. No period below `least` is
/// tried.
pub(super) fn false_alarm(times: &[f64], least: f64) -> f64 {
    let mut sums = Sums::default();
    let most = candidates(times, least).fold(0.0_f64, |most, period| {
        sums.turn(times, period);
        sums.strengths(times, period, 1.5, REACHES).into_iter().fold(most, f64::max)
    });
    chance_of(most, times.len())
}

/// The periods tried, with how well events keep in step with each over any of the reaches.
#[derive(Debug)]
pub(super) struct Tried {
    /// Per reach the period that events keep in step with best over so many cycles, the next event
    /// included, and the reach.
    pub(super) best: Vec<(f64, f64)>,
    each: Vec<(f64, f64)>,
}

impl Tried {
    /// The shortest and the longest period that events keep in step with that well.
    pub(super) fn in_step(&self, strength: f64) -> Option<(f64, f64)> {
        let is_in_step = |(_, own): &&(f64, f64)| *own >= strength;
        let shortest = self.each.iter().find(is_in_step)?;
        let longest = self.each.iter().rfind(is_in_step)?;
        Some((shortest.0, longest.0))
    }
}

/// Tries all periods.
pub(super) fn tried(times: &[f64], least: f64) -> Tried {
    let mut sums = Sums::default();
    let mut best = GUESSES.map(|reach| (0.0, None, reach));
    let mut each = Vec::new();
    for period in candidates(times, least) {
        sums.turn(times, period);
        let strengths = sums.strengths(times, period, 0.5, GUESSES);
        for ((most, place, _), strength) in best.iter_mut().zip(strengths) {
            if strength > *most {
                (*most, *place) = (strength, Some(period));
            }
        }
        each.push((period, strengths.into_iter().fold(0.0, f64::max)));
    }
    let best = best.into_iter().filter_map(|(_, period, reach)| Some((period?, reach)));
    Tried { best: best.collect(), each }
}

fn candidates(times: &[f64], least: f64) -> impl Iterator<Item = f64> {
    let middle = super::gaps::middle(times);
    let span = times.last().copied().unwrap_or(0.0);
    let longest = (middle * TO).min(span / 3.0);
    let first = (middle * FROM).max(least);
    std::iter::successors(Some(first), |period| Some(period * STEP))
        .take_while(move |period| *period <= longest)
}

#[expect(clippy::cast_precision_loss, reason = "events are at most 128")]
fn chance_of(strength: f64, events: usize) -> f64 {
    let n = (events as f64).clamp(CHANCE[0].0, CHANCE[CHANCE.len() - 1].0);
    let above = CHANCE.iter().position(|row| row.0 >= n).unwrap_or(CHANCE.len() - 1).max(1);
    let (low, high) = (CHANCE[above - 1], CHANCE[above]);
    let part = (n / low.0).ln() / (high.0 / low.0).ln();
    let strength_of_one_in_twenty = low.1 + (high.1 - low.1) * part;
    let slope = low.2 + (high.2 - low.2) * part;
    (0.05 * (-slope * (strength - strength_of_one_in_twenty)).exp()).min(1.0)
}

/// The phases of all events for one period, and their running sums.
#[derive(Debug, Default)]
struct Sums {
    phases: Vec<(f64, f64)>,
    running: Vec<(f64, f64)>,
}

impl Sums {
    fn turn(&mut self, times: &[f64], period: f64) {
        let frequency = period.recip();
        self.phases.clear();
        self.phases.extend(times.iter().map(|time| {
            let turns = time * frequency;
            (sine(turns + 0.25), sine(turns))
        }));
        self.running.clear();
        let mut sum = (0.0, 0.0);
        self.running.push(sum);
        self.running.extend(self.phases.iter().map(|(cos, sin)| {
            sum = (sum.0 + cos, sum.1 + sin);
            sum
        }));
    }

    /// For each reach: standard deviations by which pairs that lie between `near` cycles and half a
    /// cycle beyond the reach apart are in step.
    #[expect(clippy::cast_precision_loss, reason = "pairs of 128 events are few")]
    fn strengths<const N: usize>(
        &self,
        times: &[f64],
        period: f64,
        near: f64,
        reaches: [f64; N],
    ) -> [f64; N] {
        let near = near * period;
        let far = reaches.map(|reach| (reach + 0.5) * period);
        let (mut from, mut to) = (0, [0; N]);
        let (mut sums, mut pairs) = ([0.0; N], [0_usize; N]);
        for (time, (cos, sin)) in times.iter().zip(&self.phases) {
            while times.get(from).is_some_and(|later| *later < time + near) {
                from += 1;
            }
            let low = self.running[from];
            for reach in 0..N {
                let end = time + far[reach];
                let mut at = to[reach].max(from);
                while times.get(at).is_some_and(|later| *later <= end) {
                    at += 1;
                }
                let high = self.running[at];
                sums[reach] += cos * (high.0 - low.0) + sin * (high.1 - low.1);
                pairs[reach] += at - from;
                to[reach] = at;
            }
        }
        std::array::from_fn(|reach| match pairs[reach] {
            0..FEWEST_PAIRS => 0.0,
            pairs => sums[reach] * (2.0 / pairs as f64).sqrt(),
        })
    }
}

/// Sine of so many turns, right to a thousandth: two parabolas, bent. The library's takes most of the
/// time there is, and chance blurs the sums by more.
pub(super) fn sine(turns: f64) -> f64 {
    // Adding and taking away 3 x 2^51 rounds to a whole number.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    let part = turns - ((turns + WHOLE) - WHOLE);
    let parabola = 8.0 * part * (1.0 - 2.0 * part.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}
