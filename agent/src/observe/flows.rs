//! What happened on each edge since the agent's epoch began, in memory that is bounded.
//!
//! Counts only go up while their edge is kept. An edge goes when nothing happened on it for a while, or when
//! there are too many: then what of it was not told yet goes on in one row for all far ends of its port, so
//! that nothing is lost and nothing is told twice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ConnectionKey, Direction, Flow, FlowKey, Protocol},
    units::Bytes,
};

/// Most edges kept. A guest that talks to more is a server of the public or scans; its far ends go together.
const MAX_EDGES: usize = 4096;

/// Of these, most rows that stand for many far ends of one port; beyond, for those of all ports.
const MAX_MERGED: usize = 512;

/// Edges let go at once when there are too many, so that it does not happen at every look.
const LET_GO: usize = MAX_EDGES / 8;

/// An edge without connections on which nothing happened so long is let go.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// The edges of this machine.
#[derive(Debug, Default)]
pub(super) struct Edges {
    edges: BTreeMap<FlowKey, Edge>,
    merged_rows: usize,
    merged: u64,
    seen: u64,
    attributed: u64,
}

#[derive(Debug, Default)]
struct Edge {
    flow: Flow,
    told: Flow,
    living: u32,
    active_at: Timestamp,
}

/// The edge that a connection is on; `None` if it has no far end.
pub(super) fn edge_of(
    key: &ConnectionKey,
    direction: Direction,
    application: Option<&AppName>,
    ephemeral: &RangeInclusive<u16>,
) -> Option<FlowKey> {
    let remote = key.remote?;
    let (here, there) = (key.local.port(), remote.port());
    let port = match direction {
        Direction::Inbound | Direction::Listener => here,
        Direction::Outbound => there,
        Direction::Unknown => match (ephemeral.contains(&here), ephemeral.contains(&there)) {
            (false, true) => here,
            (true, false) => there,
            _ => here.min(there),
        },
    };
    Some(FlowKey {
        protocol: key.protocol,
        direction,
        local: key.local.ip(),
        remote: remote.ip(),
        port,
        application: application.cloned(),
    })
}

impl Edges {
    /// Adds what happened on an edge.
    pub(super) fn add(&mut self, key: &FlowKey, change: &Flow, now: Timestamp) {
        if *change == Flow::default() {
            return;
        }
        if key.protocol == Protocol::Tcp {
            let connections = change.opened + change.failed;
            self.seen += connections;
            self.attributed += if key.application.is_some() { connections } else { 0 };
        }
        let edge = self.edge(key);
        edge.flow.add(change);
        if moves(change) {
            edge.active_at = now;
        }
    }

    /// A connection lives on the edge from now on.
    pub(super) fn enter(&mut self, key: &FlowKey, now: Timestamp) {
        let edge = self.edge(key);
        edge.living += 1;
        edge.active_at = edge.active_at.max(now);
    }

    /// A connection does not live on the edge any more.
    pub(super) fn leave(&mut self, key: &FlowKey, now: Timestamp) {
        if let Some(edge) = self.edges.get_mut(key) {
            edge.living = edge.living.saturating_sub(1);
            edge.active_at = edge.active_at.max(now);
        }
    }

    /// The application of a connection that was counted without one came to be known.
    pub(super) const fn attribute(&mut self) {
        self.attributed += 1;
    }

    /// Everything that happened, to be told now. Edges on which nothing ever happened are left out, as are
    /// those let go.
    pub(super) fn tell(&mut self, now: Timestamp) -> BTreeMap<FlowKey, Flow> {
        self.merge(now);
        self.edges.retain(|_, edge| {
            let is_told = edge.flow == edge.told;
            edge.living > 0 || !is_told || now.since(edge.active_at) < IDLE
        });
        self.merged_rows = self.edges.keys().filter(|key| is_merged(key)).count();
        let mut flows = BTreeMap::new();
        for (key, edge) in &mut self.edges {
            edge.told = edge.flow;
            if moves(&edge.flow) {
                flows.insert(key.clone(), edge.flow);
            }
        }
        flows
    }

    /// TCP connections counted, failed attempts among them.
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Those of them whose application is known.
    pub(super) const fn attributed(&self) -> u64 {
        self.attributed
    }

    /// Edges merged so far.
    pub(super) const fn merged(&self) -> u64 {
        self.merged
    }

    fn edge(&mut self, key: &FlowKey) -> &mut Edge {
        let is_full = self.edges.len() >= 2 * MAX_EDGES;
        if !is_full || self.edges.contains_key(key) {
            return self.edges.entry(key.clone()).or_default();
        }
        self.merged += 1;
        self.merged_edge(key)
    }

    /// The row that stands for all far ends of the edge's port.
    fn merged_edge(&mut self, key: &FlowKey) -> &mut Edge {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut row = FlowKey { local: nowhere, remote: nowhere, ..key.clone() };
        if self.merged_rows >= MAX_MERGED && !self.edges.contains_key(&row) {
            row = FlowKey { port: 0, application: None, ..row };
        }
        if !self.edges.contains_key(&row) {
            self.merged_rows += 1;
        }
        self.edges.entry(row).or_default()
    }

    fn merge(&mut self, now: Timestamp) {
        if self.edges.len() <= MAX_EDGES {
            return;
        }
        let excess = self.edges.len() - MAX_EDGES + LET_GO;
        let single = self.edges.iter().filter(|(key, _)| !is_merged(key));
        let mut order: Vec<(bool, Timestamp, u64, FlowKey)> = single
            .map(|(key, edge)| {
                let count = edge.flow.opened + edge.flow.failed;
                (edge.living > 0, edge.active_at, count, key.clone())
            })
            .collect();
        order.sort_unstable();
        for (_, _, _, key) in order.into_iter().take(excess) {
            let Some(edge) = self.edges.remove(&key) else { continue };
            self.merged += 1;
            let untold = minus(&edge.flow, &edge.told);
            let row = self.merged_edge(&key);
            row.flow.add(&untold);
            row.active_at = now;
        }
    }
}

fn minus(now: &Flow, told: &Flow) -> Flow {
    let less = |now: Option<u64>, told: Option<u64>| {
        now.map(|now| now.saturating_sub(told.unwrap_or_default()))
    };
    Flow {
        opened: now.opened - told.opened,
        closed: now.closed - told.closed,
        reset: now.reset - told.reset,
        failed: now.failed - told.failed,
        sent: less(now.sent.map(|b| b.0), told.sent.map(|b| b.0)).map(Bytes),
        received: less(now.received.map(|b| b.0), told.received.map(|b| b.0)).map(Bytes),
        data_segments_sent: less(now.data_segments_sent, told.data_segments_sent),
        data_segments_received: less(now.data_segments_received, told.data_segments_received),
        retransmitted: less(now.retransmitted, told.retransmitted),
    }
}

/// Whether anything happened.
fn moves(flow: &Flow) -> bool {
    let bytes = [flow.sent, flow.received].into_iter().flatten().map(|bytes| bytes.0);
    let segments = [flow.data_segments_sent, flow.data_segments_received, flow.retransmitted];
    let counts = [flow.opened, flow.closed, flow.reset, flow.failed];
    counts.into_iter().chain(bytes).chain(segments.into_iter().flatten()).any(|count| count > 0)
}

const fn is_merged(key: &FlowKey) -> bool {
    key.local.is_unspecified() && key.remote.is_unspecified()
}

#[cfg(test)]
mod tests;
