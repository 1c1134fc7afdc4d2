//! How regularly edges are used, and when that is looked into again.
//!
//! Looking into a train of events costs a tenth of a millisecond, and there may be hundreds of
//! thousands of trains. So one is looked into when enough has come since, a quarter of what is held; and one
//! without a period ever more seldom, the longer it shows none. Counts are laid upon each other once in
//! twelve windows. What is skipped is found later, not never.

mod months;
mod spread;
mod told;

use std::time::Duration;

use algorithms::period::{
    FEWEST_EVENTS, MOST_EVENTS, Method, Period, Train,
    fold::{Folded, fold, stretches},
    of_train,
};
use common::clock::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::spread::{Estimate, Peak};
use self::{
    months::Months,
    spread::Spread,
    told::{Kept, Told},
};

/// How often chance may look as regular as what is told. With 200,000 edges one in a hundred would be
/// two thousand periods that are none.
const LEVEL: f64 = 1e-3;
/// Events that come at most before a train is looked into again.
const LONGEST_WAIT: u16 = 1024;
/// Windows from one look into the counts of an edge to the next: an hour, where windows are five
/// minutes long.
pub const TURN: u32 = 12;
const HOURS_OF_A_DAY: usize = 24;
const DAYS_OF_A_WEEK: usize = 7;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// The mean month of the calendar.
const MONTH: f64 = 30.436_875 * DAY;

/// What tells a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The gaps between events are more even than chance makes them.
    Gaps,
    /// Events keep in step over many cycles.
    Coherence,
    /// The same hours of the day are busy.
    HourOfDay,
    /// The same days of the week are busy.
    DayOfWeek,
    /// The same days of the month are busy.
    DayOfMonth,
}

/// How regularly something happens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Regularity {
    /// The period, in seconds.
    pub seconds: f64,
    /// Lower bound of its 95 % interval.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// How often chance alone looks as regular.
    pub false_alarm: f64,
    /// Events it rests on.
    pub events: u64,
    /// It is long enough against how often was looked to be acted on.
    pub trusted: bool,
    /// What tells it.
    pub by: Evidence,
}

impl From<Period> for Regularity {
    fn from(period: Period) -> Self {
        Self {
            seconds: period.seconds,
            lower: period.interval.lower,
            upper: period.interval.upper,
            false_alarm: period.false_alarm,
            events: period.events,
            trusted: period.is_trusted,
            by: match period.method {
                Method::Gaps => Evidence::Gaps,
                Method::Coherence => Evidence::Coherence,
            },
        }
    }
}

/// What is known of how regularly one edge is used. Small: there is one for each edge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Moments that came since its train was last looked into.
    came: u32,
    /// Number of the window in which its counts were last looked into.
    window: u32,
    /// Moments that are to come before its train is looked into again; 0 if it never was.
    wait: u16,
    told: Option<Box<Told>>,
    spread: Option<Box<Spread>>,
    months: Months,
}

/// What came on one day.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    /// The day, since 1970.
    pub number: u32,
    /// What came on it besides what is known.
    pub came: u64,
}

/// Counts of slots of equal length.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Length of a slot.
    pub length: Duration,
    /// The counts, each with how long it was watched; `None` where nobody looked.
    pub slots: Vec<Option<(u64, Duration)>>,
}

impl Counts {
    fn counts(&self) -> Vec<Option<u64>> {
        self.slots.iter().map(|slot| slot.map(|(count, _)| count)).collect()
    }

    fn watched(&self) -> Vec<(u64, Duration)> {
        self.slots.iter().flatten().copied().collect()
    }
}

/// The counts of an edge in all resolutions.
#[derive(Debug, Clone, Copy)]
pub struct Rings<'a> {
    /// By window.
    pub windows: &'a Counts,
    /// By hour.
    pub hours: &'a Counts,
    /// By day.
    pub days: &'a Counts,
}

impl Watch {
    /// The period; `None` if there is none, or that is not known.
    #[must_use]
    pub fn period(&self) -> Option<Regularity> {
        self.told.as_deref()?.period.map(Into::into)
    }

    /// The cycle of the calendar; `None` if there is none, or that is not known.
    #[must_use]
    pub fn calendar(&self) -> Option<Regularity> {
        self.told.as_deref()?.calendar.map(Into::into)
    }

    /// Whether its events come in bursts: variance over mean of their counts by window, 1 for chance; `None`
    /// until enough windows are remembered.
    #[must_use]
    pub fn burstiness(&self) -> Option<Estimate> {
        self.spread.as_deref()?.burstiness()
    }

    /// Its busiest windows; `None` until enough are remembered.
    #[must_use]
    pub fn peak(&self) -> Option<Peak> {
        self.spread.as_deref()?.peak()
    }

    /// Bytes it takes besides its own.
    #[must_use]
    pub fn room(&self) -> usize {
        self.told.iter().count() * size_of::<Told>()
            + self.spread.iter().count() * size_of::<Spread>()
    }

    /// Takes in that so many moments came, and how much on that day.
    pub fn take(&mut self, moments: usize, day: Day) {
        self.came = self.came.saturating_add(u32::try_from(moments).unwrap_or(u32::MAX));
        self.months.take(day);
    }

    /// Looks into the newest moments, in order and known within `resolution`, if enough came.
    pub fn look<I>(&mut self, moments: impl FnOnce() -> I, resolution: Duration)
    where
        I: IntoIterator<Item = Timestamp>,
    {
        let wait = if self.wait == 0 { FEWEST_EVENTS } else { usize::from(self.wait) };
        if (self.came as usize) < wait {
            return;
        }
        let times: Vec<f64> = moments().into_iter().map(seconds).collect();
        let found = period(&times, resolution);
        let soonest = u16::try_from(times.len().min(MOST_EVENTS) / 4).unwrap_or(0).max(1);
        self.wait = if found.is_some() {
            soonest
        } else {
            self.wait.saturating_mul(2).clamp(soonest, LONGEST_WAIT)
        };
        self.came = 0;
        self.tell(|told| told.replace(found, false));
    }

    /// Whether its counts are to be looked into in the window of that number: when it is its turn, or else
    /// when it was not seen at its turn.
    #[must_use]
    pub const fn wants_counts(&self, window: u32, is_its_turn: bool) -> bool {
        let passed = window.saturating_sub(self.window);
        self.missed_its_turn(window) || (passed > 0 && is_its_turn)
    }

    /// Whether it was not seen at its turn.
    #[must_use]
    pub const fn missed_its_turn(&self, window: u32) -> bool {
        self.window > 0 && window.saturating_sub(self.window) > TURN
    }

    /// Says that it was first seen in the window of that number: its turn comes.
    pub const fn begin(&mut self, window: u32) {
        if self.window == 0 {
            self.window = window;
        }
    }

    /// Looks into counts, in the window of that number.
    pub fn look_at_counts(&mut self, window: u32, rings: &Rings<'_>) {
        self.window = window;
        let daily = told(daily(rings.hours), DAY, Evidence::HourOfDay, rings.hours);
        let weekly = told(weekly(rings.days), 7.0 * DAY, Evidence::DayOfWeek, rings.days);
        let monthly = told(self.months.fold(), MONTH, Evidence::DayOfMonth, rings.days);
        // The longest: who waits for a month has waited for its days.
        let calendar = monthly.or(weekly).or(daily).map(Into::into);
        // What comes too often to be told apart may still swell and ebb.
        let of_counts = [rings.windows, rings.hours].into_iter().find_map(|counts| {
            period(&stretches(&counts.counts(), counts.length.as_secs_f64()), counts.length)
        });
        self.tell(|told| {
            told.replace(of_counts, true);
            told.calendar = calendar;
        });
        let spread = Spread::of(&rings.windows.watched());
        self.spread = spread.tells_anything().then(|| Box::new(spread));
    }

    /// Changes what is told; what tells nothing takes no room.
    fn tell(&mut self, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.as_deref().copied().unwrap_or_default();
        change(&mut told);
        self.told = (told != Told::default()).then(|| Box::new(told));
    }
}

fn period(times: &[f64], resolution: Duration) -> Option<Kept> {
    let train = Train { times, resolution: resolution.as_secs_f64() };
    of_train(&train, LEVEL).map(|period| Regularity::from(period).into())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^52")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

fn told(folded: Option<Folded>, seconds: f64, by: Evidence, of: &Counts) -> Option<Regularity> {
    let folded = folded.filter(|folded| folded.false_alarm <= LEVEL)?;
    Some(Regularity {
        seconds,
        lower: seconds,
        upper: seconds,
        false_alarm: folded.false_alarm,
        events: of.slots.iter().flatten().fold(0, |sum, (count, _)| sum.saturating_add(*count)),
        trusted: true,
        by,
    })
}

/// The newest whole cycles of so many slots. Where in a day or a week they begin makes no difference.
fn cycles(slots: &[Option<u64>], length: usize) -> Vec<&[Option<u64>]> {
    slots.rchunks_exact(length).collect()
}

fn daily(hours: &Counts) -> Option<Folded> {
    fold(&cycles(&hours.counts(), HOURS_OF_A_DAY))
}

fn weekly(days: &Counts) -> Option<Folded> {
    fold(&cycles(&days.counts(), DAYS_OF_A_WEEK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + seconds * 1000)
    }

    fn every(seconds: u64, count: u64) -> Vec<Timestamp> {
        (0..count).map(|event| at(event * seconds)).collect()
    }

    /// Moments that know nothing of each other.
    fn by_chance(count: u64) -> Vec<Timestamp> {
        let mut random = algorithms::packing::Random::new(1000);
        let mut now = 0.0_f64;
        let moments = (0..count).map(|_| {
            now -= 600.0 * (1.0 - random.share()).ln();
            Timestamp::from_millis(Duration::from_secs_f64(now).as_millis().try_into().unwrap())
        });
        moments.collect()
    }

    fn day(number: u32) -> Day {
        Day { number, came: 1 }
    }

    #[test]
    fn what_comes_every_hour_has_a_period_of_one() {
        let mut watch = Watch::default();
        watch.take(20, day(1));
        watch.look(|| every(3600, 20), MINUTE);
        let period = watch.period().unwrap();
        assert!((period.seconds - 3600.0).abs() < 1.0 && period.trusted, "{period:?}");
    }

    #[test]
    fn a_train_is_looked_into_when_enough_came_and_without_a_period_ever_more_seldom() {
        let (mut watch, mut looks) = (Watch::default(), Vec::new());
        let events = by_chance(4000);
        for ever in 1..=4000_usize {
            watch.take(1, day(1));
            let held = &events[ever.saturating_sub(128)..ever];
            watch.look(
                || {
                    looks.push(ever);
                    held.to_vec()
                },
                MINUTE,
            );
        }
        assert_eq!(looks[0], 6);
        assert!(looks.len() < 20, "{looks:?}");
        let longest = usize::from(LONGEST_WAIT);
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] <= longest), "{looks:?}");
        assert_eq!(watch.period(), None);
    }

    #[test]
    fn counts_are_looked_into_at_each_turn() {
        let watch = Watch { window: 100, ..Watch::default() };
        assert!(!watch.wants_counts(100, true));
        assert!(watch.wants_counts(101, true) && !watch.wants_counts(112, false));
        assert!(watch.wants_counts(113, false), "its turn was missed");
    }

    /// Slots of which some are busy.
    fn slots(seconds: u64, count: usize, busy: impl Fn(usize) -> bool) -> Counts {
        let mut random = algorithms::packing::Random::new(1001);
        let length = Duration::from_secs(seconds);
        let slot = |slot: usize| {
            let count = 20 + random.below(9) as u64 + if busy(slot) { 60 } else { 0 };
            Some((count, length))
        };
        Counts { length, slots: (0..count).map(slot).collect() }
    }

    fn told_of(hours: &Counts, days: &Counts) -> Watch {
        let windows = slots(300, 0, |_| false);
        let mut watch = Watch::default();
        watch.look_at_counts(1, &Rings { windows: &windows, hours, days });
        watch
    }

    #[test]
    fn cycles_of_the_calendar_are_told_wherever_they_begin() {
        let quiet_hours = slots(3600, 168, |_| false);
        let quiet_days = slots(86_400, 42, |_| false);
        assert_eq!(told_of(&quiet_hours, &quiet_days).calendar(), None);
        let night = slots(3600, 168, |hour| (hour + 5) % 24 == 3);
        let daily = told_of(&night, &quiet_days).calendar().unwrap();
        assert_eq!((daily.by, daily.seconds), (Evidence::HourOfDay, DAY));
        let weekends = slots(86_400, 42, |day| (day + 2) % 7 >= 5);
        let weekly = told_of(&night, &weekends).calendar().unwrap();
        assert_eq!(weekly.by, Evidence::DayOfWeek, "the longer of the two");
    }

    #[test]
    fn what_comes_all_the_time_but_swells_every_two_hours_has_that_period() {
        let hours = slots(3600, 0, |_| false);
        let windows = slots(300, 288, |window| window % 24 < 2);
        let mut watch = Watch::default();
        watch.look_at_counts(1, &Rings { windows: &windows, hours: &hours, days: &hours });
        let period = watch.period().unwrap();
        assert!((period.seconds - 7200.0).abs() < 60.0, "{period:?}");
    }
}
