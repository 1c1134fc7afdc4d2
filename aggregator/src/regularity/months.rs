//! Which days of the last months were busy: a bit for each. A day is busy if more than twice as much came
//! as on the days before it, and more than chance adds.

use algorithms::period::fold::{FEWEST_CYCLES, Folded, fold};
use serde::{Deserialize, Serialize};

use super::Day;

/// Months held: those that tell a cycle, and the one under way.
const HELD: usize = FEWEST_CYCLES + 1;
/// Part that a day has in the mean of the days before the next one: some two weeks count.
const PART: f32 = 1.0 / 16.0;

/// Busy days of the last months.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Months {
    /// A bit for each day of a month, the newest month first.
    busy: [u32; HELD],
    /// The newest day.
    day: u32,
    /// What came on it.
    came: u32,
    /// What came on a day before it, on average.
    mean: f32,
    /// Number of the newest month since the year nought.
    month: u16,
    /// Months held.
    held: u8,
}

impl Months {
    /// Takes in what came on a day. A day before the newest is left out: its window came late.
    pub(super) fn take(&mut self, day: Day) {
        if self.held > 0 && day.number < self.day {
            return;
        }
        let date = Date::of(day.number);
        self.turn_to(date.month);
        self.go_on_to(day.number);
        let came = u32::try_from(day.came).unwrap_or(u32::MAX);
        self.came = self.came.saturating_add(came);
        // Chance passes four standard deviations once in 30,000 days.
        let most = (2.0 * self.mean).max(self.mean + 4.0 * self.mean.sqrt());
        #[expect(clippy::cast_precision_loss, reason = "it is held against twice the mean")]
        if self.came as f32 > most {
            self.busy[0] |= 1_u32.checked_shl(date.day).unwrap_or(0);
        }
    }

    fn turn_to(&mut self, month: u16) {
        if self.held == 0 {
            self.held = 1;
        } else {
            let passed = usize::from(month.saturating_sub(self.month)).min(HELD);
            self.busy.rotate_right(passed % HELD);
            self.busy[..passed].fill(0);
            let held = usize::from(self.held).saturating_add(passed).min(HELD);
            self.held = u8::try_from(held).unwrap_or(u8::MAX);
        }
        self.month = month;
    }

    /// What came on the newest day, and nothing on the days since, goes into the mean.
    fn go_on_to(&mut self, day: u32) {
        let Some(passed) = day.checked_sub(self.day).filter(|passed| *passed > 0) else { return };
        if self.day > 0 {
            #[expect(clippy::cast_precision_loss, reason = "it goes into a mean")]
            let came = self.came as f32;
            // The first that came is all that is known of the days before.
            let part = if self.mean > 0.0 { PART } else { 1.0 };
            self.mean += (came - self.mean) * part;
            self.mean *= (1.0 - PART).powi(i32::try_from(passed - 1).unwrap_or(i32::MAX));
        }
        (self.day, self.came) = (day, 0);
    }

    /// The days of the month laid upon each other, the month under way left out.
    pub(super) fn fold(&self) -> Option<Folded> {
        let whole =
            self.busy.iter().zip(0_u16..).skip(1).take(usize::from(self.held).checked_sub(1)?);
        let months: Vec<Vec<Option<u64>>> = whole
            .map(|(busy, before)| {
                let days = 0..length(self.month.saturating_sub(before));
                days.map(|day| Some(u64::from(busy >> day & 1))).collect()
            })
            .collect();
        fold(&months.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// A month since the year nought, and the day of it from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    month: u16,
    day: u32,
}

impl Date {
    /// The date of a day since 1970 (Hinnant, `civil_from_days`).
    fn of(days: u32) -> Self {
        let since_march_of_0 = days.saturating_add(719_468);
        let (era, of_era) = (since_march_of_0 / 146_097, since_march_of_0 % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let since_march = (5 * of_year + 2) / 153;
        let month = (year + era * 400) * 12 + since_march + 2;
        let month = u16::try_from(month).unwrap_or(u16::MAX);
        Self { month, day: of_year - (153 * since_march + 2) / 5 }
    }
}

/// Days of a month since the year nought.
const fn length(month: u16) -> u32 {
    let year = month / 12;
    match month % 12 {
        1 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-01-01.
    const NEW_YEAR: u32 = 19_723;

    fn months(days: u32, came: impl Fn(Date) -> u64) -> Months {
        let mut months = Months::default();
        for number in NEW_YEAR..NEW_YEAR + days {
            let came = came(Date::of(number));
            for _ in 0..2 {
                months.take(Day { number, came });
            }
        }
        months
    }

    #[test]
    fn days_have_the_dates_that_the_calendar_gives_them() {
        let months_of = |year: u16, month: u16| year * 12 + month - 1;
        let known = [
            (0, 1970, 1, 1),
            (58, 1970, 2, 28),
            (59, 1970, 3, 1),
            (11_016, 2000, 2, 29),
            (19_722, 2023, 12, 31),
            (19_723, 2024, 1, 1),
            (20_878, 2027, 3, 1),
        ];
        for (number, year, month, day) in known {
            let date = Date { month: months_of(year, month), day: day - 1 };
            assert_eq!(Date::of(number), date, "{number}");
        }
        assert_eq!([1, 2, 4, 12].map(|month| length(months_of(2024, month))), [31, 29, 30, 31]);
        assert_eq!([2023, 1900, 2000].map(|year| length(months_of(year, 2))), [28, 28, 29]);
    }

    #[test]
    fn the_first_of_the_month_stands_out_and_six_whole_months_are_needed() {
        let busy = |date: Date| if date.day == 0 { 900 } else { 20 + u64::from(date.day % 3) };
        let folded = months(190, busy).fold().unwrap();
        assert!(folded.false_alarm <= 1e-3 && folded.peak == 0, "{folded:?}");
        assert_eq!(months(170, busy).fold(), None);
        let even = months(190, |date| 20 + u64::from(date.day % 3)).fold();
        assert!(even.is_none_or(|folded| folded.false_alarm > 0.05), "chance");
    }

    #[test]
    fn a_long_silence_leaves_empty_months_and_a_day_long_past_nothing() {
        let mut months = months(190, |date| if date.day == 0 { 900 } else { 0 });
        months.take(Day { number: NEW_YEAR + 5000, came: 1 });
        assert_eq!(months.busy.iter().filter(|month| **month > 0).count(), 1);
        let before = months.clone();
        months.take(Day { number: NEW_YEAR + 4000, came: 1 });
        assert_eq!(months, before);
        months.take(Day { number: u32::MAX, came: u64::MAX });
    }
}
