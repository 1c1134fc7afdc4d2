//! Looks into edges for what recurs, each once in a few windows, not all in the same one: a window costs the same,
//! whether all edges are new in it or none.

use std::{collections::BTreeMap, time::Duration};

use common::id::VmId;

use super::{
    Resolution,
    edge::{EdgeHistory, EdgeRings},
    machine::MachineHistory,
    slots::Span,
};
use crate::{
    join::{EdgeKey, Party},
    regularity::{Counts, Rings, TURN},
};

/// Looks into the connections and the counts of an edge if it is its turn.
pub(super) fn look(
    (key, rings): (&EdgeKey, &mut EdgeRings),
    (machines, length): (&BTreeMap<VmId, MachineHistory>, Duration),
    span: &Span,
) {
    let window = span.slots.window;
    let is_its_turn = window % TURN == spread(key) % TURN;
    if is_its_turn || rings.watch.missed_its_turn(window) {
        rings.look_at_train(span.sampled_every);
    }
    if !rings.watch.wants_counts(window, is_its_turn) {
        return;
    }
    let [windows, hours, days] = {
        let edge = EdgeHistory::new(rings, key, machines, length);
        let of = |resolution: Resolution| counts(&edge, resolution, resolution.length(length));
        [Resolution::Window, Resolution::Hour, Resolution::Day].map(of)
    };
    let held = Rings { windows: &windows, hours: &hours, days: &days };
    rings.watch.look_at_counts(window, &held);
}

/// The counts of an edge; the slot under way is not one yet.
fn counts(edge: &EdgeHistory<'_>, resolution: Resolution, length: Duration) -> Counts {
    let mut held: Vec<_> = edge.slots(resolution).collect();
    held.pop();
    let connects = held.iter().flatten().any(|slot| slot.connections > 0);
    let slots = held.iter().map(|slot| {
        let slot = (*slot)?;
        let count = if connects { slot.connections } else { slot.exchanges.unwrap_or(0) };
        Some((count, slot.watched))
    });
    Counts { length, slots: slots.collect() }
}

/// A number that differs from edge to edge.
fn spread(key: &EdgeKey) -> u32 {
    let id = |party: &Party| match party {
        Party::Machine { vm, .. } => sum(vm.as_str().bytes()),
        Party::External { address } => sum(address.to_string().bytes()),
    };
    id(&key.client).wrapping_mul(31).wrapping_add(id(&key.server)).wrapping_add(u32::from(key.port))
}

fn sum(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use common::clock::Timestamp;

    use super::*;
    use crate::{
        history::{History, Limits},
        join::{Joined, JoinedMachine, Traffic, Use},
        regularity::Evidence,
    };

    const WINDOW: u64 = 300;
    const SAMPLE: u64 = 10;

    fn key() -> EdgeKey {
        let machine = |vm: &str| Party::Machine { vm: vm.parse().unwrap(), application: None };
        EdgeKey { client: machine("shop"), server: machine("store"), port: 5432 }
    }

    /// Windows in which an edge came to be used at the moments given, in seconds, to a sample.
    fn windows(count: u64, uses: impl Fn(u64) -> Vec<u64>) -> History {
        let limits = Limits {
            window: Duration::from_secs(WINDOW),
            cycle: Duration::from_secs(35 * 86_400),
            edges: 10,
        };
        let mut history = History::new(limits);
        for number in 0..count {
            let from = Timestamp::from_millis(number * WINDOW * 1000);
            let watched = Duration::from_secs(WINDOW);
            let machine = JoinedMachine {
                guest: Use { watched, ..Use::default() },
                ..JoinedMachine::default()
            };
            let seen = uses(number);
            let mut starts: Vec<Timestamp> = seen
                .iter()
                .map(|second| second / SAMPLE * SAMPLE)
                .map(|second| Timestamp::from_millis(second * 1000))
                .collect();
            starts.dedup();
            let traffic =
                Traffic { opened: seen.len() as u64, starts, watched, ..Traffic::default() };
            let edges = [(key(), traffic)];
            let edges = edges.into_iter().filter(|(_, traffic)| traffic.opened > 0);
            history.take(&Joined {
                window: format!("w-{number}").parse().unwrap(),
                from,
                to: from + watched,
                sampled_every: Duration::from_secs(SAMPLE),
                machines: ["shop", "store"].map(|vm| (vm.parse().unwrap(), machine.clone())).into(),
                edges: edges.collect::<BTreeMap<_, _>>(),
                records: Vec::new(),
                remarks: Vec::new(),
            });
        }
        history
    }

    #[test]
    fn what_comes_every_four_minutes_is_known_within_an_hour() {
        let history = windows(12, |window| {
            let from = window * WINDOW;
            (0..)
                .map(|use_| use_ * 240)
                .skip_while(|at| *at < from)
                .take_while(|at| *at < from + WINDOW)
                .collect()
        });
        let period = history.edge(&key()).unwrap().period().unwrap();
        assert!((period.seconds - 240.0).abs() < 5.0 && period.trusted, "{period:?}");
    }

    #[test]
    fn a_burst_in_the_same_hour_of_each_day_is_daily_and_bursty() {
        let history = windows(9 * 288, |window| {
            let busy = window % 288 / 12 == 2;
            (0..if busy { 40 } else { 1 }).map(|n| window * WINDOW + n * 7 + window % 5).collect()
        });
        let edge = history.edge(&key()).unwrap();
        let daily = edge.calendar().unwrap();
        assert_eq!(daily.by, Evidence::HourOfDay);
        assert!(edge.burstiness().unwrap().lower > 5.0, "{:?}", edge.burstiness());
        let peak = edge.peak().unwrap();
        assert!((peak.per_second_most - 40.0 / 300.0).abs() < 0.01 && peak.windows > 280);
    }
}
