//! The times of a day that demand is planned over, so that what works by night and what works by
//! day can share a machine.
//!
//! One bucket stands for all while nobody's course over the day is known; else there is one for
//! each hour. What has no course of its own needs its peak in every bucket. CPU goes by the
//! quantile a course gives, for a moment's want of it only makes things slower; memory is hard: a
//! course is raised until its highest hour is the peak ever seen, for want of it ends a process.

use common::units::{Bytes, Millicores};

use crate::inference::{BUCKETS, Findings, Need};

const KIB: u64 = 1 << 10;

/// CPU in millicores and memory in KiB, by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) cpu: Vec<u64>,
    pub(super) memory: Vec<u64>,
}

/// How many buckets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buckets(usize);

/// What does not fit, where and by how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    bucket: usize,
    buckets: Buckets,
    is_cpu: bool,
    room: u64,
    needed: u64,
}

impl Buckets {
    /// Those that what was found calls for.
    pub(super) fn of(findings: &Findings) -> Self {
        let mut needs = findings.machines.values().flat_map(|standing| standing.needs.values());
        Self(if needs.any(|need| need.profile.is_some()) { BUCKETS } else { 1 })
    }

    /// Dimensions of a packing over them.
    pub(super) const fn dims(self) -> usize {
        2 * self.0
    }

    /// The same in every bucket.
    pub(super) fn level(self, cpu: Millicores, memory: u64) -> Amounts {
        Amounts { cpu: vec![cpu.0; self.0], memory: vec![memory; self.0] }
    }

    /// What an application needs.
    pub(super) fn demand(self, need: &Need) -> Amounts {
        let peak = need.memory_peak.0.div_ceil(KIB);
        let Some(profile) = need.profile.filter(|_| self.0 == BUCKETS) else {
            return self.level(need.cpu_peak.max(need.cpu_mean), peak);
        };
        let hours = profile.hours.iter();
        let memory: Vec<u64> = hours.clone().map(|demand| demand.memory.0.div_ceil(KIB)).collect();
        let above = peak.saturating_sub(memory.iter().copied().max().unwrap_or(0));
        Amounts {
            cpu: hours.map(|demand| demand.cpu.0).collect(),
            memory: memory.into_iter().map(|memory| memory + above).collect(),
        }
    }

    /// What a machine uses: its peak, less what its applications stay below theirs at that time;
    /// not less than they need, nor more than the peak.
    pub(super) fn course(
        self,
        (cpu, memory): (Millicores, Bytes),
        needs: impl Iterator<Item = Need>,
    ) -> Amounts {
        let mut sum = self.level(Millicores(0), 0);
        let mut spared = sum.clone();
        for need in needs {
            let demand = self.demand(&need);
            let peak =
                self.level(need.cpu_peak.max(need.cpu_mean), need.memory_peak.0.div_ceil(KIB));
            spared.add(&peak.less(&demand));
            sum.add(&demand);
        }
        let peak = self.level(cpu, memory.0.div_ceil(KIB));
        let below = peak.less(&spared);
        below.each(&sum.each(&peak, u64::min), u64::max)
    }
}

impl Amounts {
    fn each(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let both = |one: &[u64], other: &[u64]| {
            one.iter().zip(other).map(|(one, other)| with(*one, *other)).collect()
        };
        Self { cpu: both(&self.cpu, &other.cpu), memory: both(&self.memory, &other.memory) }
    }

    pub(super) fn add(&mut self, other: &Self) {
        *self = self.each(other, u64::saturating_add);
    }

    /// What is left once `other` is taken away, where there is so much.
    pub(super) fn less(&self, other: &Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// The highest of all buckets.
    pub(super) fn peak(&self) -> (Millicores, Bytes) {
        let most = |amounts: &[u64]| amounts.iter().copied().max().unwrap_or(0);
        (Millicores(most(&self.cpu)), Bytes(most(&self.memory).saturating_mul(KIB)))
    }

    /// The lowest of all buckets.
    pub(super) fn least(&self) -> (Millicores, Bytes) {
        let least = |amounts: &[u64]| amounts.iter().copied().min().unwrap_or(0);
        (Millicores(least(&self.cpu)), Bytes(least(&self.memory).saturating_mul(KIB)))
    }

    /// The mean over all buckets: no packing over buckets needs less.
    pub(super) fn mean(&self) -> (Millicores, Bytes) {
        let mean = |amounts: &[u64]| {
            amounts.iter().sum::<u64>() / u64::try_from(amounts.len()).unwrap_or(1).max(1)
        };
        (Millicores(mean(&self.cpu)), Bytes(mean(&self.memory) * KIB))
    }

    /// Whether this fits into `room`, or where it does not.
    pub(super) fn fits(&self, room: &Self) -> Result<(), Short> {
        let buckets = Buckets(self.cpu.len());
        let over = |needed: &[u64], room: &[u64], is_cpu: bool| {
            let pairs = needed.iter().zip(room).enumerate();
            let short = pairs.filter(|(_, (needed, room))| needed > room);
            // Where it lacks most.
            let worst = short.max_by_key(|(_, (needed, room))| *needed - *room);
            worst.map(|(bucket, (needed, room))| Short {
                bucket,
                buckets,
                is_cpu,
                room: *room,
                needed: *needed,
            })
        };
        let cpu = over(&self.cpu, &room.cpu, true);
        cpu.or_else(|| over(&self.memory, &room.memory, false)).map_or(Ok(()), Err)
    }

    /// As a packing takes it: CPU of all buckets, then memory.
    pub(super) fn row(&self) -> Vec<f64> {
        self.cpu.iter().chain(&self.memory).map(|amount| float(*amount)).collect()
    }
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_cpu {
            let (room, needed) = (Millicores(self.room), Millicores(self.needed));
            write!(f, "has room for {room}, {needed} needed")?;
        } else {
            let (room, needed) = (Bytes(self.room * KIB), Bytes(self.needed * KIB));
            write!(f, "has room for {room}, {needed} needed")?;
        }
        if self.buckets.0 > 1 { write!(f, " from {:02}:00 UTC", self.bucket) } else { Ok(()) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no amount has more than 52 bits of truth")]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Demand, Profile};

    fn need(cpu: u64, memory_kib: u64) -> Need {
        Need { cpu_peak: Millicores(cpu), memory_peak: Bytes(memory_kib * KIB), ..Need::default() }
    }

    fn at_night(cpu: u64, memory_kib: u64) -> Need {
        let mut profile = Profile::default();
        for hour in profile.hours.iter_mut().take(6) {
            *hour = Demand { cpu: Millicores(cpu), memory: Bytes(memory_kib * KIB) };
        }
        Need { profile: Some(profile), ..need(cpu, memory_kib) }
    }

    #[test]
    fn one_bucket_holds_the_peaks() {
        let demand = Buckets(1).demand(&at_night(300, 64));
        assert_eq!((demand.cpu, demand.memory), (vec![300], vec![64]));
    }

    #[test]
    fn what_works_at_night_needs_nothing_by_day() {
        let demand = Buckets(BUCKETS).demand(&at_night(300, 64));
        assert_eq!((demand.cpu[5], demand.cpu[6]), (300, 0));
        assert_eq!((demand.memory[5], demand.memory[6]), (64, 0));
        assert_eq!(demand.mean().0, Millicores(75));
    }

    #[test]
    fn a_peak_of_memory_above_every_hour_raises_them_all() {
        let mut need = at_night(300, 64);
        need.memory_peak = Bytes(80 * KIB);
        let demand = Buckets(BUCKETS).demand(&need);
        assert_eq!((demand.memory[0], demand.memory[12]), (80, 16));
    }

    #[test]
    fn a_machine_uses_its_peak_less_what_its_applications_spare() {
        let (night, always) = (at_night(300, 64), need(100, 32));
        let needs = [night, always];
        let peak = (Millicores(500), Bytes(128 * KIB));
        let course = Buckets(BUCKETS).course(peak, needs.into_iter());
        assert_eq!((course.cpu[0], course.cpu[12]), (500, 200));
        assert_eq!((course.memory[0], course.memory[12]), (128, 64));
        // Peaks that never met add up to more than the machine's: it is believed.
        let low = (Millicores(350), Bytes(128 * KIB));
        let course = Buckets(BUCKETS).course(low, needs.into_iter());
        assert_eq!((course.cpu[0], course.cpu[12]), (350, 100));
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_hour() {
        let demand = Buckets(BUCKETS).demand(&at_night(300, 64));
        let room = Buckets(BUCKETS).level(Millicores(200), 100);
        let told = demand.fits(&room).unwrap_err().to_string();
        assert!(told.ends_with("from 05:00 UTC") || told.ends_with("from 00:00 UTC"), "{told}");
        assert!(demand.fits(&Buckets(BUCKETS).level(Millicores(300), 64)).is_ok());
    }
}
