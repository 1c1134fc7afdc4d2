//! Maintenance windows: when plans may begin on which machines, by the clock on the wall of a place.
//!
//! Zones are those of the database that is built in, so that the same policy means the same on every
//! computer. A night that a clock is set forward or back is as long as it is there.

use std::{collections::BTreeSet, fmt, time::Duration};

use common::clock::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

const DAY_MINUTES: u64 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// The first.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The seventh.
    Sunday,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permit {
    /// Plans begin in it and in no other time.
    Allowed,
    /// No plan begins in it.
    Denied,
}

/// A time of the week, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// What it is for.
    pub changes: Permit,
    /// The days on which it begins; none for every day.
    #[serde(default)]
    pub days: BTreeSet<Weekday>,
    /// When it begins, as `HH:MM`.
    pub from: String,
    /// When it ends, as `HH:MM`; on the next day if that is not after the beginning.
    pub to: String,
    /// Where the clock hangs, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub zone: String,
    /// It is for machines that bear one of these labels; none for all machines.
    #[serde(default)]
    pub labels: BTreeSet<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What of an entry nobody can work with.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: &'static str,
    pub(super) value: String,
    pub(super) remedy: String,
}

impl Maintenance {
    /// `lead`: how long a plan may take.
    pub(super) fn check(&self, lead: Duration) -> Result<(), Wrong> {
        let wrong = |what, value: &str, remedy: &str| {
            Err(Wrong { what, value: format!("{value:?}"), remedy: remedy.to_owned() })
        };
        let clock = "write hours and minutes, such as \"22:30\"";
        let Some(from) = minute(&self.from) else { return wrong("from", &self.from, clock) };
        let Some(to) = minute(&self.to) else { return wrong("to", &self.to, clock) };
        if zone(&self.zone).is_none() {
            let remedy = "write the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"";
            return wrong("zone", &self.zone, remedy);
        }
        let length = (to + DAY_MINUTES - from - 1) % DAY_MINUTES + 1;
        if self.changes == Permit::Allowed && length * 60 < lead.as_secs() {
            let remedy = format!(
                "a plan may take {} s until it is live, write a later time, or less for \
                 patience_seconds or trial_seconds",
                lead.as_secs()
            );
            return Err(Wrong { what: "to", value: format!("{:?}", self.to), remedy });
        }
        Ok(())
    }

    pub(super) fn means_any(&self, machines: &[&BTreeSet<String>]) -> bool {
        machines.iter().any(|labels| self.means(labels))
    }

    fn means(&self, labels: &BTreeSet<String>) -> bool {
        self.labels.is_empty() || !self.labels.is_disjoint(labels)
    }

    /// As it is shown, with where it is written.
    pub(super) fn told(&self, number: usize) -> String {
        format!("changes are {self} (policy, maintenance, entry {number})")
    }

    /// Whether a time is in it. What cannot be read is never on; [`Maintenance::check`] refuses it.
    fn is_on(&self, zone: &TimeZone, at: Timestamp) -> bool {
        let (Some(from), Some(to)) = (minute(&self.from), minute(&self.to)) else { return false };
        let Ok(millis) = i64::try_from(at.as_millis()) else { return false };
        let Ok(at) = jiff::Timestamp::from_millisecond(millis) else { return false };
        let there = at.to_zoned(zone.clone());
        let (hour, past) = (there.hour().unsigned_abs(), there.minute().unsigned_abs());
        let now = u64::from(hour) * 60 + u64::from(past);
        let index = usize::from(there.weekday().to_monday_zero_offset().unsigned_abs());
        let is_day =
            |day: usize| self.days.is_empty() || self.days.contains(&Weekday::ALL[day % 7]);
        let (today, yesterday) = (is_day(index), is_day(index + 6));
        if from < to {
            return today && (from..to).contains(&now);
        }
        (today && now >= from) || (yesterday && now < to)
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = match self.changes {
            Permit::Allowed => "allowed only",
            Permit::Denied => "not allowed",
        };
        let days: Vec<String> =
            self.days.iter().map(|day| format!("{day:?}").to_lowercase()).collect();
        let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
        write!(f, "{changes} {days} from {} to {} {}", self.from, self.to, self.zone)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        write!(f, " on machines with {}", labels.join(" or "))
    }
}

/// Minutes from midnight.
fn minute(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str, most: u64| {
        let is_written = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|value| is_written && *value < most)
    };
    Some(two(hours, 24)? * 60 + two(minutes, 60)?)
}

fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Whether changes of machines with these labels may be made from now on, for as long as they take.
pub(super) fn may_begin(
    entries: &[Maintenance],
    machines: &[&BTreeSet<String>],
    (now, lead): (Timestamp, Duration),
) -> Result<(), String> {
    let zoned: Vec<(usize, &Maintenance, TimeZone)> = (1..)
        .zip(entries)
        .filter_map(|(number, entry)| Some((number, entry, zone(&entry.zone)?)))
        .collect();
    for labels in machines {
        let meant: Vec<_> = zoned.iter().filter(|(_, entry, _)| entry.means(labels)).collect();
        // Windows begin and end at whole minutes.
        for minutes in 0..=lead.as_secs().div_ceil(60) {
            let at = now + Duration::from_secs(minutes * 60).min(lead);
            let is_on = |permit: Permit| {
                let of_kind = meant.iter().filter(move |(_, entry, _)| entry.changes == permit);
                of_kind.map(move |(number, entry, zone)| (*number, *entry, entry.is_on(zone, at)))
            };
            if let Some((number, entry, _)) = is_on(Permit::Denied).find(|(_, _, is_on)| *is_on) {
                return Err(entry.told(number));
            }
            let mut allowed = is_on(Permit::Allowed).peekable();
            let Some((number, entry, _)) = allowed.peek().copied() else { continue };
            if !allowed.any(|(_, _, is_on)| is_on) {
                return Err(entry.told(number));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly(changes: Permit) -> Maintenance {
        Maintenance {
            changes,
            days: [Weekday::Saturday].into(),
            from: "22:00".to_owned(),
            to: "04:00".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            labels: BTreeSet::new(),
        }
    }

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap())
    }

    fn begins(entries: &[Maintenance], labels: &[&str], text: &str) -> bool {
        let labels: BTreeSet<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        may_begin(entries, &[&labels], (at(text), Duration::from_secs(600))).is_ok()
    }

    #[test]
    fn a_night_begins_by_the_clock_of_its_place_in_summer_and_in_winter() {
        let entries = [nightly(Permit::Allowed)];
        // Berlin is two hours ahead in June, one in January; both days are Saturdays.
        for (before, begun) in [
            ("2026-06-20T19:59:00Z", "2026-06-20T20:00:00Z"),
            ("2026-01-17T20:59:00Z", "2026-01-17T21:00:00Z"),
        ] {
            assert!(!begins(&entries, &[], before));
            assert!(begins(&entries, &[], begun));
        }
    }

    #[test]
    fn a_night_goes_on_after_midnight_and_a_plan_must_be_live_before_it_ends() {
        let entries = [nightly(Permit::Allowed)];
        assert!(begins(&entries, &[], "2026-01-18T02:49:00Z"), "a Sunday, 03:49 there");
        assert!(!begins(&entries, &[], "2026-01-18T02:51:00Z"), "nine minutes are too few");
        assert!(!begins(&entries, &[], "2026-01-17T02:00:00Z"), "the night of a Friday");
    }

    #[test]
    fn what_is_denied_wins_and_labels_choose_the_machines() {
        let allowed = Maintenance { days: BTreeSet::new(), ..nightly(Permit::Allowed) };
        let backup = Maintenance {
            labels: ["backup".to_owned()].into(),
            from: "23:00".to_owned(),
            to: "01:00".to_owned(),
            ..nightly(Permit::Denied)
        };
        let entries = [allowed, backup];
        let at_night = "2026-01-17T22:30:00Z";
        assert!(begins(&entries, &["web"], at_night));
        assert!(!begins(&entries, &["backup"], at_night));
        assert!(
            !begins(&entries[1..], &["backup"], "2026-01-17T21:55:00Z"),
            "it would run into it"
        );
        assert!(begins(&entries[1..], &["backup"], "2026-01-17T12:00:00Z"));
    }

    #[test]
    fn an_entry_nobody_can_work_with_is_refused_with_its_remedy() {
        let lead = Duration::from_secs(600);
        let refused = |entry: Maintenance| {
            let Wrong { what, value, remedy } = entry.check(lead).unwrap_err();
            format!("{what} {value}; {remedy}")
        };
        let entry = || nightly(Permit::Allowed);
        let told = refused(Maintenance { from: "22".to_owned(), ..entry() });
        assert_eq!(told, "from \"22\"; write hours and minutes, such as \"22:30\"");
        let told = refused(Maintenance { to: "24:00".to_owned(), ..entry() });
        assert!(told.starts_with("to \"24:00\""), "{told}");
        let told = refused(Maintenance { zone: "Berlin".to_owned(), ..entry() });
        assert!(told.starts_with("zone \"Berlin\"; write the name"), "{told}");
        let told = refused(Maintenance { to: "22:05".to_owned(), ..entry() });
        assert!(told.contains("a plan may take 600 s"), "{told}");
        assert!(
            Maintenance { to: "22:00".to_owned(), ..entry() }.check(lead).is_ok(),
            "a whole day"
        );
    }
}
