//! A data centre for a day: CloudSim's set-up of Beloglazov and Buyya (2012), from its published
//! figures.
//!
//! 800 hosts, half of each of two kinds; machines of four kinds; a decision every five minutes.
//! A machine that migrates takes its memory over half of a gigabit link, works at 90 % meanwhile,
//! and the host that it comes to counts as short of CPU for so long, as CloudSim counts it.

use super::traces::{Day, SAMPLES};

/// Seconds between two decisions.
const STEP: f64 = 300.0;
/// MiB per second of a migration.
const MIB_PER_SECOND: f64 = 62.5;
/// Share of its work that a machine loses while it migrates.
const LOST: f64 = 0.1;
/// Hosts in all.
pub(super) const HOSTS: usize = 800;

/// A kind of host: MIPS of one of its two cores, and watts at each tenth of its use.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) core: f64,
    watts: [f64; 11],
}

const G4: Kind = Kind {
    core: 1_860.0,
    watts: [86.0, 89.4, 92.6, 96.0, 99.5, 102.0, 106.0, 108.0, 112.0, 114.0, 117.0],
};
const G5: Kind = Kind {
    core: 2_660.0,
    watts: [93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0],
};
/// MIPS and MiB of the four kinds of machines.
const MACHINES: [(f64, f64); 4] =
    [(2_500.0, 870.0), (2_000.0, 1_740.0), (1_000.0, 1_740.0), (500.0, 613.0)];

impl Kind {
    pub(super) fn capacity(&self) -> f64 {
        2.0 * self.core
    }

    pub(super) fn watts(&self, used: f64) -> f64 {
        let tenths = used.clamp(0.0, 1.0) * 10.0;
        let low = (tenths.floor() as usize).min(9);
        self.watts[low] + (self.watts[low + 1] - self.watts[low]) * (tenths - low as f64)
    }
}

/// The centre and where each machine is.
pub(super) struct Centre<'d> {
    day: &'d Day,
    mips: Vec<f64>,
    memory: Vec<f64>,
    pub(super) host_of: Vec<usize>,
    /// The sample that is known last.
    pub(super) now: usize,
}

/// What decides who migrates where, knowing all samples up to the present one.
pub(super) trait Decide {
    fn decide(&mut self, centre: &Centre<'_>) -> Vec<(usize, usize)>;
}

/// What a day came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Came {
    pub(super) kilowatt_hours: f64,
    pub(super) migrations: f64,
    /// Share of the time of active hosts in which machines get less than they ask for.
    pub(super) short: f64,
    /// Share of the work that is lost to migrations.
    pub(super) lost: f64,
    pub(super) host_hours: f64,
}

pub(super) fn kind(host: usize) -> &'static Kind {
    if host.is_multiple_of(2) { &G4 } else { &G5 }
}

impl<'d> Centre<'d> {
    /// The centre at the beginning of a day, packed by what the machines may ask for at most.
    pub(super) fn new(day: &'d Day) -> Self {
        let all = day.use_of.len();
        let of = |vm: usize| MACHINES[(vm * MACHINES.len() / all.max(1)).min(3)];
        let mut centre = Self {
            mips: (0..all).map(|vm| of(vm).0).collect(),
            memory: (0..all).map(|vm| of(vm).1).collect(),
            host_of: vec![0; all],
            now: 0,
            day,
        };
        let mut left: Vec<f64> = (0..HOSTS).map(|host| kind(host).capacity()).collect();
        for vm in 0..all {
            let asks = centre.mips[vm];
            let more = |host: usize, left: &[f64]| {
                let (of, used) = (kind(host), kind(host).capacity() - left[host]);
                of.watts((used + asks) / of.capacity())
                    - if used > 0.0 { of.watts(used / of.capacity()) } else { 0.0 }
            };
            let fits = |host: &usize| kind(*host).core >= asks && left[*host] >= asks;
            let best =
                (0..HOSTS).filter(fits).min_by(|a, b| more(*a, &left).total_cmp(&more(*b, &left)));
            // Two cores for two machines at most: 800 hosts have room for 1,600.
            let host = best.unwrap_or(vm % HOSTS);
            left[host] -= asks;
            centre.host_of[vm] = host;
        }
        centre
    }

    pub(super) fn machines(&self) -> usize {
        self.host_of.len()
    }

    pub(super) fn mips(&self, vm: usize) -> f64 {
        self.mips[vm]
    }

    pub(super) fn migration_seconds(&self, vm: usize) -> f64 {
        self.memory[vm] / MIB_PER_SECOND
    }

    /// MIPS that a machine asked for `ago` samples ago; 0 before the day began.
    pub(super) fn asked(&self, vm: usize, ago: usize) -> f64 {
        let sample = self.now.checked_sub(ago);
        sample.map_or(0.0, |sample| self.at(vm, sample))
    }

    fn at(&self, vm: usize, sample: usize) -> f64 {
        let use_of = &self.day.use_of[vm];
        use_of[sample.min(use_of.len() - 1)] * self.mips[vm]
    }

    fn loads(&self, sample: usize) -> Vec<f64> {
        let mut loads = vec![0.0; HOSTS];
        for (vm, host) in self.host_of.iter().enumerate() {
            loads[*host] += self.at(vm, sample);
        }
        loads
    }

    /// Runs the day.
    pub(super) fn run(mut self, decide: &mut dyn Decide) -> Came {
        let (mut came, mut active, mut short) = (Came::default(), 0.0, 0.0);
        let (mut asked, mut lost) = (0.0, 0.0);
        for now in 0..SAMPLES {
            self.now = now;
            let before = self.loads(now);
            let moves = if now == 0 { Vec::new() } else { decide.decide(&self) };
            // Seconds in which each host takes someone in, and in which it still has all it had.
            let (mut taking, mut leaving) = (vec![0.0_f64; HOSTS], vec![0.0_f64; HOSTS]);
            for (vm, to) in moves {
                let (from, seconds) = (self.host_of[vm], self.migration_seconds(vm));
                if from == to {
                    continue;
                }
                taking[to] = taking[to].max(seconds);
                leaving[from] = leaving[from].max(seconds);
                lost += self.at(vm, now) * LOST * seconds;
                came.migrations += 1.0;
                self.host_of[vm] = to;
            }
            let (begin, end) = (self.loads(now), self.loads(now + 1));
            let mut holds = vec![false; HOSTS];
            self.host_of.iter().for_each(|host| holds[*host] = true);
            for host in (0..HOSTS).filter(|host| holds[*host]) {
                let most = kind(host).capacity();
                let (first, last) =
                    (kind(host).watts(begin[host] / most), kind(host).watts(end[host] / most));
                came.kilowatt_hours += f64::midpoint(first, last) * STEP / 3.6e6;
                active += STEP;
                let busy = taking[host].max(if before[host] > most { leaving[host] } else { 0.0 });
                short += if begin[host] > most { STEP } else { busy };
            }
            asked += (0..self.machines()).map(|vm| self.at(vm, now) * STEP).sum::<f64>();
        }
        came.short = short / active;
        came.lost = lost / asked;
        came.host_hours = active / 3_600.0;
        came
    }
}
