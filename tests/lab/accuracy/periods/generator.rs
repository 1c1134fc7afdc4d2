//! Trains of events to hold the methods against: with a period, and without.

use algorithms::packing::Random;

/// How a train with a period is spoilt.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Spoilt {
    /// Standard deviation of the jitter, as a share of the period.
    pub jitter: f64,
    /// Share of the events that are lost.
    pub lost: f64,
    /// Events that come by chance, as a share of the cycles.
    pub noise: f64,
    /// Seconds that times are rounded down to; 0 for none.
    pub quantised: f64,
}

/// A normal value (Box & Muller).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.share()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.share()).cos()
}

fn exponential(random: &mut Random) -> f64 {
    -(1.0 - random.share()).ln()
}

fn between(random: &mut Random, low: f64, high: f64) -> f64 {
    low * (high / low).powf(random.share())
}

fn done(mut times: Vec<f64>, quantised: f64) -> Vec<f64> {
    times.retain(|time| *time >= 0.0);
    times.sort_by(f64::total_cmp);
    if quantised > 0.0 {
        times.iter_mut().for_each(|time| *time = (*time / quantised).floor() * quantised);
        times.dedup();
    }
    times
}

/// Whether the jitter of a seed's train adds up from event to event, as of something that sleeps; else it does
/// not, as of something that looks at the clock.
pub(in super::super) const fn adds_up(seed: u64) -> bool {
    seed % 2 == 1
}

/// A train with a period of 10 s to 6 h, and the period.
pub(in super::super) fn periodic(seed: u64, spoilt: &Spoilt) -> (Vec<f64>, f64) {
    let mut random = Random::new(seed);
    let period = between(&mut random, 10.0_f64.max(2.0 * spoilt.quantised), 21_600.0);
    let cycles = 30 + random.below(81);
    let sleeps = adds_up(seed);
    let (mut times, mut clock) = (Vec::new(), period * random.share());
    for _ in 0..cycles {
        let jitter = spoilt.jitter * period * normal(&mut random);
        let at = clock + jitter;
        clock = if sleeps { at.max(clock - period * 0.9) + period } else { clock + period };
        if random.share() >= spoilt.lost {
            times.push(at);
        }
        if random.share() < spoilt.noise {
            times.push(clock - period * random.share());
        }
    }
    (done(times, spoilt.quantised), period)
}

/// A train without a period: of chance, in bursts, or after heavy-tailed pauses, in turn.
pub(in super::super) fn aperiodic(seed: u64, quantised: f64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mean = between(&mut random, 10.0_f64.max(2.0 * quantised), 21_600.0);
    let count = 30 + random.below(99);
    let (mut times, mut at) = (Vec::new(), 0.0);
    let mut left = 0;
    let alpha = 1.1 + random.share();
    let crowd = 2 + random.below(12);
    for _ in 0..count {
        at += match seed % 5 {
            0 | 1 => mean * exponential(&mut random),
            // Bursts within which events come by chance.
            2 => {
                if left == 0 {
                    left = 1 + random.below(2 * crowd);
                    mean * exponential(&mut random)
                } else {
                    left -= 1;
                    mean / 30.0 * exponential(&mut random)
                }
            }
            // Heavy tails, with a shortest pause and without.
            3 => mean / 3.0 * (1.0 - random.share()).powf(-1.0 / alpha),
            _ => mean / 3.0 * ((1.0 - random.share()).powf(-1.0 / alpha) - 1.0),
        };
        times.push(at);
    }
    done(times, quantised)
}
