//! Our planner for a data centre's day: the same search, with hosts as bins and machines as items.
//!
//! What a machine will ask for is foretold from what it asked for, and how far off that was. A host
//! takes someone in while the sum of the first leaves room for the spread of the second, may be
//! fuller than that by what it holds already, and never holds more than it can serve just now. A
//! migration costs a share of a host: only those are made that relieve one or let one be switched
//! off.

use aggregator::plan::packing::{
    Bin, Item, Packing,
    search::{Limits, search},
};

use super::centre::{Centre, Decide, HOSTS, kind};

/// Weight of the newest sample in what is foretold.
const NEWEST: f64 = 0.2;
/// Weight of the newest error in how far off it is.
const NEWEST_ERROR: f64 = 0.1;
/// How far off it is before anything is known, as a share of what a machine may ask for.
const FIRST_ERROR: f64 = 0.08;
/// Spreads that must fit beside what is foretold.
const SPREADS: f64 = 1.1;
/// Share of a host that is for what is foretold; the rest is for the spread.
const FORETOLD: f64 = 0.8;
/// Share of a host that may be asked for just now.
const NOW: f64 = 0.98;
/// How much wider than it should be a spread may become where it is.
const WIDER: f64 = 2.0;
/// Cost of a migration, in hosts: what a host of twenty machines uses in a day is worth a few
/// hundred of them, and it may be switched on again within the hour.
const MIGRATION: f64 = 0.05;
/// Steps of search in each step of the day.
const STEPS: u64 = 200_000;
/// Watts of a host that does nothing, about: costs are counted in these.
const IDLE: f64 = 90.0;

/// What is foretold of each machine.
pub(super) struct Ours {
    level: Vec<f64>,
    variance: Vec<f64>,
}

impl Ours {
    pub(super) fn new(machines: usize) -> Self {
        Self { level: vec![0.0; machines], variance: vec![0.0; machines] }
    }

    fn learn(&mut self, centre: &Centre<'_>) {
        for vm in 0..centre.machines() {
            let asked = centre.asked(vm, 0);
            if centre.now <= 1 {
                self.level[vm] = f64::midpoint(asked, centre.asked(vm, 1));
                self.variance[vm] = (FIRST_ERROR * centre.mips(vm)).powi(2);
                continue;
            }
            let error = asked - self.level[vm];
            self.level[vm] += NEWEST * error;
            self.variance[vm] += NEWEST_ERROR * (error * error - self.variance[vm]);
        }
    }

    fn bin(&self, host: usize, there: &[usize]) -> Bin {
        let of = kind(host);
        let sum = |amounts: &[f64]| there.iter().map(|vm| amounts[*vm].ceil()).sum::<f64>();
        let (level, variance) = (sum(&self.level), sum(&self.variance));
        let most = FORETOLD * of.capacity();
        let spread = ((1.0 - FORETOLD) * of.capacity() / SPREADS).powi(2);
        let is_well = level <= of.capacity() && variance <= WIDER * spread;
        let least = |most: f64, held: f64| if is_well { most.max(held) } else { most };
        let (idle, full) = (of.watts(0.0) / IDLE, of.watts(1.0) / IDLE);
        Bin {
            capacity: vec![least(most, level), least(spread, variance), NOW * of.capacity()],
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
            move_cost: MIGRATION,
            ..Item::default()
        });
        let bins = there.iter().enumerate().map(|(host, there)| self.bin(host, there));
        let packing = Packing::new(3, items.collect(), bins.collect(), Vec::new(), Vec::new());
        let found = search(&packing, &Limits::steps(STEPS, centre.now as u64));
        let Some(found) = found else { return Vec::new() };
        let of = found.assignment.into_iter().enumerate();
        of.filter(|(vm, host)| centre.host_of[*vm] != *host).collect()
    }
}
