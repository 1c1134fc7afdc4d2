//! What agents count on their edges, from one sample to the next.
//!
//! Totals run since the agent's epoch began, so a difference holds every connection in between,
//! however short, and whatever samples were lost. A row that stands lower than before came back
//! and began at nought; so did all of them when the epoch is another one.

use common::{
    sample::{Coverage, Flow, FlowKey, Observation, Sample},
    units::Bytes,
};

/// What was counted between two samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FlowStep {
    pub(super) rows: Vec<(FlowKey, Flow)>,
    pub(super) coverage: Option<Coverage>,
}

/// What `sample` counted since `state`; `is_new_epoch` if the agent began anew in between.
pub(super) fn step(state: &Observation, sample: &Sample, is_new_epoch: bool) -> FlowStep {
    let rows = sample.flows.upserted.iter().filter_map(|(key, now)| {
        let was = state.flows.get(key).filter(|was| !is_new_epoch && !fell(was, now));
        let more = since(&was.copied().unwrap_or(NOUGHT), now);
        is_any(&more).then(|| (key.clone(), more))
    });
    let was = state.coverage.filter(|_| !is_new_epoch);
    let coverage = sample.coverage.map(|now| coverage_since(was, now));
    FlowStep { rows: rows.collect(), coverage }
}

/// A row before anything happened on its edge.
const NOUGHT: Flow = Flow {
    sent: Some(Bytes(0)),
    received: Some(Bytes(0)),
    data_segments_sent: Some(0),
    data_segments_received: Some(0),
    retransmitted: Some(0),
    opened: 0,
    closed: 0,
    reset: 0,
    failed: 0,
};

/// Whether anything happened.
fn is_any(more: &Flow) -> bool {
    let counts = [more.opened, more.closed, more.reset, more.failed];
    let bytes = [more.sent, more.received].into_iter().flatten().map(|bytes| bytes.0);
    let segments = [more.data_segments_sent, more.data_segments_received, more.retransmitted];
    counts.into_iter().chain(bytes).chain(segments.into_iter().flatten()).any(|count| count > 0)
}

fn fell(was: &Flow, now: &Flow) -> bool {
    let bytes = |amount: Option<Bytes>| amount.map(|bytes| bytes.0);
    let pairs = [
        (Some(was.opened), Some(now.opened)),
        (Some(was.closed), Some(now.closed)),
        (Some(was.reset), Some(now.reset)),
        (Some(was.failed), Some(now.failed)),
        (bytes(was.sent), bytes(now.sent)),
        (bytes(was.received), bytes(now.received)),
        (was.data_segments_sent, now.data_segments_sent),
        (was.data_segments_received, now.data_segments_received),
        (was.retransmitted, now.retransmitted),
    ];
    pairs.into_iter().any(|(was, now)| was.zip(now).is_some_and(|(was, now)| now < was))
}

fn since(was: &Flow, now: &Flow) -> Flow {
    // What could not be told before and can be now has no difference.
    let more =
        |was: Option<u64>, now: Option<u64>| now.zip(was).map(|(now, was)| now - was.min(now));
    let bytes = |was: Option<Bytes>, now: Option<Bytes>| {
        more(was.map(|bytes| bytes.0), now.map(|bytes| bytes.0)).map(Bytes)
    };
    Flow {
        opened: now.opened.saturating_sub(was.opened),
        closed: now.closed.saturating_sub(was.closed),
        reset: now.reset.saturating_sub(was.reset),
        failed: now.failed.saturating_sub(was.failed),
        sent: bytes(was.sent, now.sent),
        received: bytes(was.received, now.received),
        data_segments_sent: more(was.data_segments_sent, now.data_segments_sent),
        data_segments_received: more(was.data_segments_received, now.data_segments_received),
        retransmitted: more(was.retransmitted, now.retransmitted),
    }
}

fn coverage_since(was: Option<Coverage>, now: Coverage) -> Coverage {
    let was = was
        .filter(|was| was.seen <= now.seen)
        .unwrap_or(Coverage { due: Some(0), ..Coverage::default() });
    let due = now.due.zip(was.due).map(|(now, was)| now.saturating_sub(was));
    Coverage {
        due,
        seen: now.seen.saturating_sub(was.seen),
        attributed: now.attributed.saturating_sub(was.attributed),
        overruns: now.overruns.saturating_sub(was.overruns),
        restarts: now.restarts.saturating_sub(was.restarts),
        merged_edges: now.merged_edges.saturating_sub(was.merged_edges),
        ..now
    }
}

/// Adds a step to what a window has of coverage.
pub(super) fn add_coverage(sum: &mut Option<Coverage>, step: Option<Coverage>) {
    let Some(step) = step else { return };
    let Some(so_far) = *sum else {
        *sum = Some(step);
        return;
    };
    *sum = Some(Coverage {
        due: so_far.due.zip(step.due).map(|(one, other)| one.saturating_add(other)),
        seen: so_far.seen.saturating_add(step.seen),
        attributed: so_far.attributed.saturating_add(step.attributed),
        overruns: so_far.overruns.saturating_add(step.overruns),
        restarts: so_far.restarts.saturating_add(step.restarts),
        merged_edges: so_far.merged_edges.saturating_add(step.merged_edges),
        ..step
    });
}

#[cfg(test)]
mod tests {
    use common::sample::{Direction, Protocol, TableDelta};

    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: "10.0.0.1".parse().unwrap(),
            remote: "10.0.0.2".parse().unwrap(),
            port,
            application: None,
        }
    }

    fn flow(opened: u64, sent: Option<u64>) -> Flow {
        Flow { opened, sent: sent.map(Bytes), ..Flow::default() }
    }

    fn state(rows: &[(u16, Flow)], seen: u64) -> Observation {
        Observation {
            flows: rows.iter().map(|(port, flow)| (key(*port), *flow)).collect(),
            coverage: Some(Coverage { due: Some(seen + 1), seen, ..Coverage::default() }),
            ..Observation::default()
        }
    }

    fn sample(rows: &[(u16, Flow)], seen: u64) -> Sample {
        let upserted = rows.iter().map(|(port, flow)| (key(*port), *flow)).collect();
        Sample {
            flows: TableDelta { upserted, removed: Vec::new() },
            coverage: Some(Coverage { due: Some(seen + 3), seen, ..Coverage::default() }),
            ..Sample::default()
        }
    }

    #[test]
    fn what_came_since_is_counted_and_what_began_anew_counts_from_nought() {
        let before = state(&[(80, flow(10, Some(100))), (81, flow(10, None))], 20);
        let now = [(80, flow(12, Some(160))), (81, flow(3, Some(7))), (82, flow(1, Some(5)))];
        let step = step(&before, &sample(&now, 26), false);
        let told: Vec<_> =
            step.rows.iter().map(|(key, more)| (key.port, more.opened, more.sent)).collect();
        let (sixty, seven, five) = (Some(Bytes(60)), Some(Bytes(7)), Some(Bytes(5)));
        assert_eq!(told, [(80, 2, sixty), (81, 3, seven), (82, 1, five)]);
        let coverage = step.coverage.unwrap();
        assert_eq!((coverage.due, coverage.seen), (Some(8), 6));
    }

    #[test]
    fn another_epoch_begins_at_nought() {
        let before = state(&[(80, flow(10, Some(100)))], 20);
        let step = step(&before, &sample(&[(80, flow(12, Some(160)))], 26), true);
        assert_eq!(step.rows[0].1.opened, 12);
        assert_eq!(step.coverage.unwrap().seen, 26);
    }

    #[test]
    fn a_row_that_did_not_move_is_no_step() {
        let before = state(&[(80, flow(10, Some(100)))], 20);
        assert!(step(&before, &sample(&[(80, flow(10, Some(100)))], 20), false).rows.is_empty());
    }

    #[test]
    fn steps_add_up_and_a_share_over_a_window_is_that_of_its_sums() {
        let (mut sums, mut coverage) = (std::collections::BTreeMap::new(), None);
        for (opened, seen) in [(12, 26), (15, 40)] {
            let step = step(
                &state(&[(80, flow(10, Some(1)))], 20),
                &sample(&[(80, flow(opened, None))], seen),
                false,
            );
            step.rows.iter().for_each(|(key, more)| {
                sums.entry(key.clone()).or_insert_with(Flow::default).add(more);
            });
            add_coverage(&mut coverage, step.coverage);
        }
        assert_eq!(sums[&key(80)].opened, 7);
        assert_eq!(coverage.unwrap().share(), Some(26 * 10_000 / 30));
    }
}
