//! The peers of a data centre's day: Beloglazov and Buyya's policies, from their published formulae.
//!
//! A host is too full by a threshold (THR), by one that falls with the median absolute deviation
//! (MAD) or the interquartile range (IQR) of its use, or because a local regression foretells that
//! it will be (LR). Machines leave it by least time to migrate (MMT) and go where the power rises
//! least; then the least used hosts are emptied where all they hold finds room.

use std::collections::BTreeSet;

use super::centre::{Centre, Decide, HOSTS, kind};

/// Samples of a host's past that are known.
const PAST: usize = 30;
/// Samples that a threshold must know to follow them.
const LEAST: usize = 12;
/// Samples of a local regression.
const REGRESSED: usize = 10;

/// When a host is too full.
#[derive(Debug, Clone, Copy)]
pub(super) enum TooFull {
    Threshold,
    Deviation,
    Range,
    Regression,
}

impl TooFull {
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("THR-MMT", Self::Threshold),
        ("MAD-MMT", Self::Deviation),
        ("IQR-MMT", Self::Range),
        ("LR-MMT", Self::Regression),
    ];

    /// Of a host's use now and before, newest first, in shares.
    fn is(self, past: &[f64; PAST]) -> bool {
        let known = past.iter().take_while(|used| **used > 0.0).count();
        let limit = match self {
            Self::Threshold => 0.8,
            Self::Deviation if known >= LEAST => 1.0 - 2.5 * deviation(past),
            Self::Range if known >= LEAST => 1.0 - 1.5 * range(past),
            Self::Regression if known >= REGRESSED => return 1.2 * foretold(past) >= 1.0,
            _ => 0.7,
        };
        past[0] > limit
    }
}

fn median(mut values: [f64; PAST]) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[PAST / 2 - 1], values[PAST / 2])
}

fn deviation(past: &[f64; PAST]) -> f64 {
    let middle = median(*past);
    median(past.map(|used| (used - middle).abs()))
}

fn range(past: &[f64; PAST]) -> f64 {
    let mut sorted = *past;
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[(share * (PAST as f64 + 1.0)).round() as usize - 1];
    at(0.75) - at(0.25)
}

/// Cleveland's local regression with tricube weights, one step ahead.
fn foretold(past: &[f64; PAST]) -> f64 {
    let last = REGRESSED as f64;
    let (mut weights, mut x_sum, mut y_sum, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (ago, used) in past.iter().take(REGRESSED).enumerate() {
        let x = last - ago as f64;
        let weight = (1.0 - (ago as f64 / last).powi(3)).powi(3);
        weights += weight;
        x_sum += weight * x;
        y_sum += weight * used;
        xx += weight * x * x;
        xy += weight * x * used;
    }
    let slope = (weights * xy - x_sum * y_sum) / (weights * xx - x_sum * x_sum);
    (y_sum - slope * x_sum) / weights + slope * (last + 1.0)
}

/// One of the policies.
pub(super) struct Peer(pub(super) TooFull);

/// What is decided in one step.
struct Step<'c, 'd> {
    centre: &'c Centre<'d>,
    too_full: TooFull,
    /// By host, newest first, in MIPS.
    past: Vec<[f64; PAST]>,
    holds: Vec<BTreeSet<usize>>,
    host_of: Vec<usize>,
    taking: BTreeSet<usize>,
}

impl Decide for Peer {
    fn decide(&mut self, centre: &Centre<'_>) -> Vec<(usize, usize)> {
        let mut step = Step {
            centre,
            too_full: self.0,
            past: vec![[0.0; PAST]; HOSTS],
            holds: vec![BTreeSet::new(); HOSTS],
            host_of: centre.host_of.clone(),
            taking: BTreeSet::new(),
        };
        for vm in 0..centre.machines() {
            step.enter(vm, centre.host_of[vm]);
        }
        let full: BTreeSet<usize> = (0..HOSTS).filter(|host| step.is_too_full(*host)).collect();
        step.relieve(&full);
        step.empty_least_used(&full);
        let of = step.host_of.iter().enumerate();
        of.filter(|(vm, to)| centre.host_of[*vm] != **to).map(|(vm, to)| (vm, *to)).collect()
    }
}

impl Step<'_, '_> {
    fn shift(&mut self, vm: usize, host: usize, sign: f64) {
        for (ago, used) in self.past[host].iter_mut().enumerate() {
            *used += sign * self.centre.asked(vm, ago);
        }
    }

    fn enter(&mut self, vm: usize, host: usize) {
        self.shift(vm, host, 1.0);
        self.holds[host].insert(vm);
        self.host_of[vm] = host;
    }

    fn leave(&mut self, vm: usize) {
        let host = self.host_of[vm];
        self.shift(vm, host, -1.0);
        self.holds[host].remove(&vm);
        if self.holds[host].is_empty() {
            self.past[host] = [0.0; PAST];
        }
    }

    fn is_too_full(&self, host: usize) -> bool {
        let most = kind(host).capacity();
        !self.holds[host].is_empty() && self.too_full.is(&self.past[host].map(|used| used / most))
    }

    fn relieve(&mut self, full: &BTreeSet<usize>) {
        let mut out = Vec::new();
        for host in full {
            while self.is_too_full(*host) {
                let quickest = self.holds[*host].iter().copied().min_by(|one, other| {
                    let time = |vm: &usize| self.centre.migration_seconds(*vm);
                    time(one).total_cmp(&time(other))
                });
                let Some(vm) = quickest else { break };
                self.leave(vm);
                out.push(vm);
            }
        }
        self.sort(&mut out);
        for vm in out {
            let back = self.host_of[vm];
            let to = self.best(vm, full, true).unwrap_or(back);
            self.enter(vm, to);
            self.taking.insert(to);
        }
    }

    fn sort(&self, machines: &mut [usize]) {
        let asked = |vm: &usize| self.centre.asked(*vm, 0);
        machines.sort_by(|one, other| asked(other).total_cmp(&asked(one)));
    }

    /// The host with room where the power rises least.
    fn best(&self, vm: usize, excluded: &BTreeSet<usize>, may_start: bool) -> Option<usize> {
        let asked = self.centre.asked(vm, 0);
        let mut found: Option<(f64, usize)> = None;
        for host in 0..HOSTS {
            let of = kind(host);
            let (used, most) = (self.past[host][0], of.capacity());
            let starts = self.holds[host].is_empty();
            if excluded.contains(&host)
                || starts && !may_start
                || used + asked > most
                || asked > of.core
            {
                continue;
            }
            let now = if starts { 0.0 } else { of.watts(used / most) };
            let more = of.watts((used + asked) / most) - now;
            if found.is_some_and(|(least, _)| more >= least) {
                continue;
            }
            let then = std::array::from_fn(|ago| {
                (self.past[host][ago] + self.centre.asked(vm, ago)) / most
            });
            if !self.too_full.is(&then) {
                found = Some((more, host));
            }
        }
        found.map(|(_, host)| host)
    }

    fn empty_least_used(&mut self, full: &BTreeSet<usize>) {
        let mut done: BTreeSet<usize> = full.union(&self.taking).copied().collect();
        let mut closed = full.clone();
        loop {
            let share = |host: &usize| self.past[*host][0] / kind(*host).capacity();
            let least = (0..HOSTS)
                .filter(|host| !self.holds[*host].is_empty() && !done.contains(host))
                .min_by(|one, other| share(one).total_cmp(&share(other)));
            let Some(host) = least else { return };
            done.insert(host);
            closed.insert(host);
            let mut all: Vec<usize> = self.holds[host].iter().copied().collect();
            self.sort(&mut all);
            let mut placed = Vec::new();
            for vm in &all {
                let Some(to) = self.best(*vm, &closed, false) else { break };
                self.leave(*vm);
                self.enter(*vm, to);
                placed.push((*vm, to));
            }
            if placed.len() == all.len() {
                done.extend(placed.iter().map(|(_, to)| *to));
            } else {
                for (vm, _) in placed {
                    self.leave(vm);
                    self.enter(vm, host);
                }
            }
        }
    }
}
