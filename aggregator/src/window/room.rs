//! Room for the edges of one machine in one window: so many, and the busiest of them where there are more.
//!
//! An agent merges edges itself long before that. What one sends that does not, or that lies, must not
//! fill the memory of the whole service. What had to go is told, and lowers the coverage.

use std::collections::BTreeMap;

use algorithms::heavy::Heavy;
use common::sample::{Flow, FlowKey};

use super::starts::Starts;

/// Edges that are kept of one machine in one window.
pub const EDGES_KEPT: usize = 16_384;

/// What found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Times an edge had to go for a busier one.
    pub edges: u64,
    /// Connections that went with them.
    pub connections: u64,
    /// Most that came on an edge which is not there, in connections and segments with data.
    pub busiest: u64,
}

/// The edges of one machine in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Which are the busiest; `None` while there is room for all.
    heavy: Option<Heavy<FlowKey>>,
    left_out: LeftOut,
}

/// The rows that are kept.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) flows: &'a mut BTreeMap<FlowKey, Flow>,
    pub(super) starts: &'a mut BTreeMap<FlowKey, Starts>,
}

impl Room {
    /// Adds what came on an edge.
    pub(super) fn add(&mut self, kept: &mut Kept<'_>, key: &FlowKey, more: &Flow) {
        self.add_within(EDGES_KEPT, kept, key, more);
    }

    fn add_within(&mut self, room: usize, kept: &mut Kept<'_>, key: &FlowKey, more: &Flow) {
        if self.heavy.is_none() {
            if let Some(sum) = kept.flows.get_mut(key) {
                sum.add(more);
                return;
            }
            if kept.flows.len() < room {
                kept.flows.insert(key.clone(), *more);
                return;
            }
        }
        let heavy = self.heavy.get_or_insert_with(|| {
            let mut heavy = Heavy::new(room);
            for (key, flow) in kept.flows.iter() {
                heavy.add(key.clone(), weight(flow));
            }
            heavy
        });
        if let Some(gone) = heavy.add(key.clone(), weight(more)) {
            let flow = kept.flows.remove(&gone).unwrap_or_default();
            kept.starts.remove(&gone);
            self.left_out.edges += 1;
            self.left_out.connections = self.left_out.connections.saturating_add(flow.opened);
        }
        self.left_out.busiest = heavy.bound();
        kept.flows.entry(key.clone()).or_default().add(more);
    }

    pub(super) const fn left_out(&self) -> LeftOut {
        self.left_out
    }
}

/// How much came on an edge. One that only ever failed counts too.
fn weight(flow: &Flow) -> u64 {
    let segments = [flow.data_segments_sent, flow.data_segments_received];
    let counts = [flow.opened, flow.failed].into_iter().chain(segments.into_iter().flatten());
    counts.fold(1, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use common::sample::{Direction, Protocol};

    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Inbound,
            local: "10.0.0.1".parse().unwrap(),
            remote: "10.0.0.2".parse().unwrap(),
            port,
            application: None,
        }
    }

    fn added(
        room: usize,
        rows: impl IntoIterator<Item = (u16, u64)>,
    ) -> (LeftOut, BTreeMap<u16, u64>) {
        let (mut held, mut flows, mut starts) = (Room::default(), BTreeMap::new(), BTreeMap::new());
        let mut kept = Kept { flows: &mut flows, starts: &mut starts };
        for (port, opened) in rows {
            let flow = Flow { opened, ..Flow::default() };
            held.add_within(room, &mut kept, &key(port), &flow);
        }
        (held.left_out(), flows.iter().map(|(key, flow)| (key.port, flow.opened)).collect())
    }

    #[test]
    fn with_room_for_all_nothing_goes() {
        let (left_out, kept) = added(3, [(1, 5), (2, 1), (1, 2), (3, 9)]);
        assert_eq!(left_out, LeftOut::default());
        assert_eq!(kept, [(1, 7), (2, 1), (3, 9)].into());
    }

    #[test]
    fn a_flood_of_edges_leaves_the_busy_ones_and_is_told() {
        let busy = [(1, 1_000_000), (2, 500_000)];
        let flood = (100..10_100).map(|port| (port, 1));
        let (left_out, kept) = added(50, busy.into_iter().chain(flood));
        assert_eq!(kept.len(), 50);
        assert_eq!((kept[&1], kept[&2]), (1_000_000, 500_000));
        assert_eq!((left_out.edges, left_out.connections), (10_002 - 50, 10_002 - 50));
        assert!(left_out.busiest < 1000, "{left_out:?}");
    }
}
