//! Our planner for a data centre's day: the same search, with hosts as bins and machines as items.
//!
//! What a machine will ask for is foretold from what it asked for, and how far off that was. A host
//! takes someone in while the sum of the first leaves room for the spread of the second, may be
//! fuller than that by what it holds already, and never holds more than it can serve just now. A
//! migration costs a share of a host: only those are made that relieve one or let one be switched
//! off.
//!
//! No constant here was chosen by looking at a recorded day: each follows from the length of a
//! step, from the policy that operators begin with, or from the fleet as it is at the step.

use aggregator::policy::Policy;
use algorithms::packing::{
    Bin, Item, Packing,
    search::{Limits, search},
};

use super::centre::{Centre, Decide, HOSTS, kind};

/// Samples of an hour, which is as long as a placement should hold: what is foretold is the mean
/// over it.
const HOUR: f64 = 12.0;
/// Samples that a variance is taken over. It is known to `sqrt(2 / n)` of itself, a mean to
/// `sqrt(1 / n)` of its deviation: twice as many samples make both equally sure.
const SPREAD_OVER: f64 = 2.0 * HOUR;
/// Of what may be asked for, uniformly anything, as a machine that nothing is known of does: its
/// variance, which counts as one sample.
const FIRST_VARIANCE: f64 = 1.0 / 12.0;
/// Deviations of a normal sum that it stays below 99 % of the time. At that, made-up days of every
/// nature keep hosts at most half as often short of CPU as local regression does; at 95 %, none.
const DEVIATIONS: f64 = 2.326;
/// Steps of search in each step of the day: ten seconds for all of them together.
const STEPS: u64 = 200_000;

/// Weight of the newest of some samples: that of an exponential mean as old as the plain mean over
/// `window` samples, and the plain mean's own until there are so many.
fn newest(samples: f64, window: f64) -> f64 {
    (1.0 / samples).max(2.0 / (window + 1.0))
}

/// What is foretold of each machine.
pub(super) struct Ours {
    level: Vec<f64>,
    variance: Vec<f64>,
    /// Cost of a migration, in hosts: what the policy that operators begin with asks an
    /// interruption to gain, for what it says that a machine costs.
    migration: f64,
    samples: f64,
}

impl Ours {
    pub(super) fn new(machines: usize) -> Self {
        let policy = Policy::default();
        Self {
            level: vec![0.0; machines],
            variance: vec![0.0; machines],
            migration: policy.gain_per_disruption / policy.cost_per_machine,
            samples: 0.0,
        }
    }

    fn learn(&mut self, centre: &Centre<'_>) {
        self.samples += 1.0;
        for vm in 0..centre.machines() {
            let asked = centre.asked(vm, 0);
            if centre.now <= 1 {
                self.level[vm] = f64::midpoint(asked, centre.asked(vm, 1));
                self.variance[vm] = FIRST_VARIANCE * centre.mips(vm).powi(2);
                continue;
            }
            let error = asked - self.level[vm];
            self.level[vm] += newest(self.samples + 1.0, HOUR) * error;
            let weight = newest(self.samples, SPREAD_OVER);
            self.variance[vm] += weight * (error * error - self.variance[vm]);
        }
    }

    /// Variance for each unit of what is foretold, over the fleet.
    fn spread_of_level(&self) -> f64 {
        let level: f64 = self.level.iter().sum();
        if level > 0.0 { self.variance.iter().sum::<f64>() / level } else { 0.0 }
    }

    /// What is foretold and what spreads are two dimensions, and their sum is to fit: `level +
    /// deviations * sqrt(variance) <= capacity`. A host of the fleet's mixture is full in both at
    /// once where the level solves that with `variance = spread * level`.
    fn level_of_a_full_host(spread: f64, capacity: f64) -> f64 {
        let half = DEVIATIONS * spread.sqrt();
        let root = f64::midpoint(-half, (half * half + 4.0 * capacity).sqrt());
        root * root
    }

    fn bin(&self, host: usize, there: &[usize], spread: f64) -> Bin {
        let of = kind(host);
        let sum = |amounts: &[f64]| there.iter().map(|vm| amounts[*vm].ceil()).sum::<f64>();
        let (level, variance) = (sum(&self.level), sum(&self.variance));
        let most = Self::level_of_a_full_host(spread, of.capacity());
        let widest = ((of.capacity() - most) / DEVIATIONS).powi(2);
        // What grew less sure where it is does no harm yet: nobody moves for that alone.
        let is_well = level <= of.capacity();
        let least = |most: f64, held: f64| if is_well { most.max(held) } else { most };
        let unit = f64::midpoint(kind(0).watts(0.0), kind(1).watts(0.0));
        let (idle, full) = (of.watts(0.0) / unit, of.watts(1.0) / unit);
        Bin {
            capacity: vec![least(most, level), least(widest, variance), of.capacity()],
            fixed_cost: idle,
            unit_cost: vec![(full - idle) / of.capacity()],
            accepts: true,
            ..Bin::default()
        }
    }
}

impl Decide for Ours {
    fn decide(&mut self, centre: &Centre<'_>) -> Vec<(usize, usize)> {
        self.learn(centre);
        let mut there = vec![Vec::new(); HOSTS];
        for (vm, host) in centre.host_of.iter().enumerate() {
            there[*host].push(vm);
        }
        let items = (0..centre.machines()).map(|vm| Item {
            demand: vec![self.level[vm], self.variance[vm], centre.asked(vm, 0)],
            home: Some(centre.host_of[vm]),
            move_cost: self.migration,
            ..Item::default()
        });
        let spread = self.spread_of_level();
        let bins = there.iter().enumerate().map(|(host, there)| self.bin(host, there, spread));
        let packing = Packing::new(3, items.collect(), bins.collect(), Vec::new(), Vec::new());
        let found = search(&packing, &Limits::steps(STEPS, centre.now as u64));
        let Some(found) = found else { return Vec::new() };
        let of = found.assignment.into_iter().enumerate();
        of.filter(|(vm, host)| centre.host_of[*vm] != *host).collect()
    }
}
