//! Edges that no window showed for a cycle: what is used once a month is not forgotten after a week, but it
//! must not take the room of what is used every day. It sleeps: its windows and hours go, for they are
//! past, and what tells months stays.

use std::time::Duration;

use common::clock::Timestamp;

use super::History;

/// How long edges are remembered that nothing shows: six months, which tell what recurs by the month,
/// and the one under way.
const LONGEST_SLEEP: Duration = Duration::from_secs(214 * 24 * 3_600);
/// Of the edges that are remembered at most, the share that may sleep: one in four.
const SLEEPING: usize = 4;

impl History {
    /// Puts to sleep what was not seen for a cycle, and forgets what slept too long.
    pub(super) fn put_to_sleep(&mut self, now: Timestamp) {
        let cycle = self.limits.cycle;
        self.edges.retain(|_, known| now.since(known.last_seen()) <= cycle.max(LONGEST_SLEEP));
        for known in self.edges.values_mut() {
            if now.since(known.last_seen()) > cycle {
                known.sleep();
            }
        }
        self.keep_asleep(now, self.limits.edges / SLEEPING);
    }

    /// Forgets what slept longest, so that there is room for so many more; says whether it forgot any.
    pub(super) fn make_room(&mut self, now: Timestamp, more: usize) -> bool {
        let before = self.edges.len();
        let room = self.limits.edges.saturating_sub(before);
        if more > room {
            let asleep = self.asleep(now).count();
            self.keep_asleep(now, asleep.saturating_sub(more - room));
        }
        self.edges.len() < before
    }

    fn asleep(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let cycle = self.limits.cycle;
        let seen = self.edges.values().map(|known| known.last_seen());
        seen.filter(move |last_seen| now.since(*last_seen) > cycle)
    }

    /// Lets at most so many sleep on, those that were seen last. Of those that were last seen in one window all
    /// or none are kept.
    fn keep_asleep(&mut self, now: Timestamp, most: usize) {
        let mut asleep: Vec<Timestamp> = self.asleep(now).collect();
        asleep.sort_unstable();
        let surplus = asleep.len().saturating_sub(most);
        let Some(last) = surplus.checked_sub(1).and_then(|last| asleep.get(last).copied()) else {
            return;
        };
        self.edges.retain(|_, known| known.last_seen() > last);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        history::{
            Limits, Resolution,
            tests::{key, limits, of, traffic, window, with},
        },
        regularity::Evidence,
    };

    use super::*;

    const DAY: u64 = 288;
    /// The first of the months from January to September 1970, in days.
    const FIRSTS: [u64; 9] = [0, 31, 59, 90, 120, 151, 181, 212, 243];

    #[test]
    fn what_is_used_on_the_first_of_each_month_is_known_to_be_though_a_cycle_is_a_week() {
        let mut history = History::new(limits());
        for day in 1..=243 {
            // Seven in the morning, give or take.
            let number = day * DAY + 84;
            let mut window = window(number);
            if FIRSTS.contains(&day) {
                let starts = vec![window.from + Duration::from_secs(day % 7 * 11)];
                let used = crate::join::Traffic { starts, ..traffic(40, None, 300) };
                window.edges.insert(key(1), used);
            }
            history.take(&window);
        }
        let edge = history.edge(&key(1)).unwrap();
        assert_eq!(edge.calendar().unwrap().by, Evidence::DayOfMonth);
        assert_eq!(edge.starts().count(), 8);
    }

    #[test]
    fn what_sleeps_keeps_no_windows_and_wakes_with_what_tells_months() {
        let mut history = of(&[with(0, 1, traffic(7, None, 300))]);
        history.take(&window(8 * DAY));
        let asleep = history.edge(&key(1)).unwrap();
        assert!(asleep.room() < 300, "{}", asleep.room());
        history.take(&with(9 * DAY, 1, traffic(2, None, 300)));
        let days = history.edge(&key(1)).unwrap().slots(Resolution::Day).flatten();
        let days: Vec<u64> = days.map(|day| day.connections).collect();
        assert_eq!((days[0], days.last()), (7, Some(&2)));
    }

    #[test]
    fn sleepers_take_a_quarter_of_the_room_and_make_way_for_what_is_awake() {
        let few = Limits { edges: 8, ..limits() };
        let mut history = History::new(few);
        for port in 1..=6 {
            history.take(&with(u64::from(port), port, traffic(1, None, 300)));
        }
        history.take(&window(9 * DAY));
        assert_eq!(history.edges().map(|(key, _)| key.port).collect::<Vec<_>>(), [5, 6]);
        let mut busy = window(9 * DAY + 1);
        busy.edges = (11..=18).map(|port| (key(port), traffic(1, None, 300))).collect();
        history.take(&busy);
        assert_eq!(history.edges().count(), 8);
        assert!(history.edge(&key(6)).is_none() && history.left_out().edges == 0);
    }
}
