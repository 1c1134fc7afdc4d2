//! What the observer leaves out when the agent costs more than it may: measures in one declared order.
//!
//! A [`Thrift`] is a value, made by the agent's own budget and handed in with every look. Each step takes
//! the measures before it along, cheapest loss first: peaks become coarser before anything is missing, what
//! is missing is first what others could tell too, and only at the end samples become fewer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    id::AppName,
    sample::{ApplicationUse, Process, ProcessKey},
};

/// Processes kept for the memory they have, and as many for the CPU they used, when only some are kept.
const LARGEST: usize = 20;
/// Use is looked at every so many ticks when ticks are few.
const FEW_TICKS: u32 = 5;
/// Longest period that this stretches to: a window of five minutes still has samples enough to tell that
/// some are missing.
const LONGEST_PERIOD: Duration = Duration::from_mins(1);

/// One measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Use is looked at every five seconds instead of every second: peaks are means over longer.
    FewTicks,
    /// Openings from the kernel's trace are not taken: short connections of unknown processes.
    NoOpenings,
    /// No I/O per process, no scan of the software.
    NoDetail,
    /// Rows of processes only of listed applications and of the largest users.
    FewProcesses,
    /// Samples half as often.
    HalfRate,
    /// Samples a quarter as often.
    QuarterRate,
}

/// The order in which measures are taken.
const ORDER: [Measure; 6] = [
    Measure::FewTicks,
    Measure::NoOpenings,
    Measure::NoDetail,
    Measure::FewProcesses,
    Measure::HalfRate,
    Measure::QuarterRate,
];

impl Measure {
    /// As it is told to the aggregator and to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FewTicks => "looks between samples more often than every 5 s",
            Self::NoOpenings => "openings from the kernel's trace",
            Self::NoDetail => "I/O per process, scans of the software",
            Self::FewProcesses => "processes of no listed application that are not large",
            Self::HalfRate => "every second sample",
            Self::QuarterRate => "three samples of four",
        }
    }
}

/// How many measures are taken; none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thrift(usize);

impl Thrift {
    /// One measure more, as far as there are any.
    #[must_use]
    pub fn tighter(self) -> Self {
        Self((self.0 + 1).min(ORDER.len()))
    }

    /// The last measure less.
    #[must_use]
    pub const fn looser(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Every measure is taken.
    #[must_use]
    pub const fn is_tightest(self) -> bool {
        self.0 >= ORDER.len()
    }

    /// The measures taken, in order.
    #[must_use]
    pub fn measures(self) -> &'static [Measure] {
        &ORDER[..self.0.min(ORDER.len())]
    }

    /// Whether that measure is taken.
    #[must_use]
    pub fn has(self, measure: Measure) -> bool {
        self.measures().contains(&measure)
    }

    /// Whether the `count`th tick is one at which use is looked at.
    #[must_use]
    pub fn takes_tick(self, count: u32) -> bool {
        !self.has(Measure::FewTicks) || count.is_multiple_of(FEW_TICKS)
    }

    /// Time between two samples where `asked` is what the aggregator wants.
    #[must_use]
    pub fn period(self, asked: Duration) -> Duration {
        let factor = match self.measures().last() {
            Some(Measure::HalfRate) => 2,
            Some(Measure::QuarterRate) => 4,
            _ => 1,
        };
        asked.max((asked * factor).min(LONGEST_PERIOD))
    }

    /// The rows that are still told: all, or those of listed applications and of the largest users.
    pub(super) fn rows(
        self,
        all: BTreeMap<ProcessKey, Process>,
        uses: &BTreeMap<AppName, ApplicationUse>,
    ) -> BTreeMap<ProcessKey, Process> {
        if !self.has(Measure::FewProcesses) {
            return all;
        }
        let large: BTreeSet<ProcessKey> =
            largest(&all, |row| row.resident.0).chain(largest(&all, |row| row.cpu_ms)).collect();
        let is_listed = |row: &Process| {
            let usage = row.application.as_ref().and_then(|application| uses.get(application));
            usage.is_some_and(|usage| usage.listed)
        };
        all.into_iter().filter(|(key, row)| large.contains(key) || is_listed(row)).collect()
    }
}

fn largest(
    all: &BTreeMap<ProcessKey, Process>,
    of: impl Fn(&Process) -> u64,
) -> impl Iterator<Item = ProcessKey> {
    let mut ranked: Vec<(u64, ProcessKey)> = all.iter().map(|(key, row)| (of(row), *key)).collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    ranked.into_iter().take(LARGEST).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use common::{clock::Timestamp, units::Bytes};

    use super::*;

    fn step(count: usize) -> Thrift {
        (0..count).fold(Thrift::default(), |thrift, _| thrift.tighter())
    }

    #[test]
    fn each_step_takes_the_measures_before_it_along() {
        assert_eq!(Thrift::default().measures(), []);
        assert_eq!(step(2).measures(), [Measure::FewTicks, Measure::NoOpenings]);
        assert_eq!(step(2).looser(), step(1));
        assert_eq!(Thrift::default().looser(), Thrift::default());
        assert!(step(99).is_tightest() && step(99) == step(6));
    }

    #[test]
    fn a_tick_is_left_out_only_by_the_first_measure() {
        let taken = |thrift: Thrift| (0..10).filter(|count| thrift.takes_tick(*count)).count();
        assert_eq!((taken(step(0)), taken(step(1)), taken(step(6))), (10, 2, 2));
    }

    #[test]
    fn samples_become_fewer_at_the_end_and_never_rarer_than_a_minute() {
        let ten = Duration::from_secs(10);
        assert_eq!([4, 5, 6].map(|n| step(n).period(ten).as_secs()), [10, 20, 40]);
        assert_eq!(step(6).period(Duration::from_secs(30)), LONGEST_PERIOD);
        assert_eq!(step(6).period(Duration::from_secs(300)), Duration::from_secs(300));
    }

    #[test]
    fn the_rows_that_are_kept_are_listed_or_large() {
        let row = |pid: u32, application: &str| {
            let key = ProcessKey { pid, started_at: Timestamp::from_millis(1) };
            let row = Process {
                parent: 1,
                name: String::new(),
                executable: None,
                user: 0,
                unit: None,
                application: Some(application.parse().unwrap()),
                cpu_ms: u64::from(pid),
                resident: Bytes(u64::from(1000 - pid)),
                read: None,
                written: None,
                reads: None,
                writes: None,
                arguments: None,
            };
            (key, row)
        };
        let all: BTreeMap<_, _> =
            (1..=100).map(|pid| row(pid, if pid == 50 { "web" } else { "sh" })).collect();
        let listed = ApplicationUse { listed: true, ..ApplicationUse::default() };
        let uses = [("web".parse().unwrap(), listed)].into();

        assert_eq!(step(3).rows(all.clone(), &uses), all);
        let kept: Vec<u32> = step(4).rows(all, &uses).keys().map(|key| key.pid).collect();
        let expected: Vec<u32> = (1..=20).chain([50]).chain(81..=100).collect();
        assert_eq!(kept, expected);
    }
}
