//! Where what happened is entered: on the edge of a known application, or among the undecided until the look
//! is over and it can be said whose they are.
//!
//! Connections that several applications may have opened are told apart by count only: each application is
//! given as many as it was told to have opened, and what they carried stays with nobody.

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive};

use ahash::HashMap;
use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ConnectionKey, Direction, Flow, FlowKey, Protocol},
};

use super::{
    super::flows::{Edges, edge_of},
    openings::{Openings, Posterior, Sightings},
};

/// The edges, and what decides whose a connection is.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) edges: Edges,
    pub(super) openings: Openings,
    pub(super) sightings: Sightings,
    undecided: HashMap<FlowKey, Flow>,
    pub(super) ephemeral: RangeInclusive<u16>,
    pub(super) now: Timestamp,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            edges: Edges::default(),
            openings: Openings::default(),
            sightings: Sightings::default(),
            undecided: HashMap::default(),
            ephemeral: 32_768..=60_999,
            now: Timestamp::default(),
        }
    }
}

/// Whose the undecided connections of one edge are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// All this application's.
    One(AppName),
    /// Of several, or it is not certain of which.
    Ambiguous,
    /// Nothing is known of it.
    Nobody,
}

impl Books {
    /// A look begins.
    pub(super) fn turn_to(&mut self, ephemeral: RangeInclusive<u16>, now: Timestamp) {
        self.ephemeral = ephemeral;
        self.now = now;
    }

    /// The edge of a connection.
    pub(super) fn edge(
        &self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<&AppName>,
    ) -> Option<FlowKey> {
        edge_of(key, direction, application, &self.ephemeral)
    }

    /// Enters a change.
    pub(super) fn add(
        &mut self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<&AppName>,
        change: &Flow,
    ) {
        if let Some(edge) = self.edge(key, direction, application) {
            self.edges.add(&edge, change, self.now);
        }
    }

    /// Enters a whole connection; if it was opened here and nobody is known, it is decided later whose it is.
    pub(super) fn add_of_somebody(
        &mut self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<&AppName>,
        change: &Flow,
    ) {
        let has_attempt = change.opened + change.failed > 0;
        if application.is_some() || direction != Direction::Outbound || !has_attempt {
            return self.add(key, direction, application, change);
        }
        if let Some(edge) = self.edge(key, direction, None) {
            self.undecided.entry(edge).or_default().add(change);
        }
    }

    /// A connection lives on its edge.
    pub(super) fn enter(
        &mut self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<&AppName>,
    ) {
        if let Some(edge) = self.edge(key, direction, application) {
            self.edges.enter(&edge, self.now);
        }
    }

    /// It does not any more.
    pub(super) fn leave(
        &mut self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<&AppName>,
    ) {
        if let Some(edge) = self.edge(key, direction, application) {
            self.edges.leave(&edge, self.now);
        }
    }

    /// A connection counted as nobody's is somebody's.
    pub(super) fn attribute(&mut self, key: &ConnectionKey) {
        if key.protocol == Protocol::Tcp {
            self.edges.attribute();
        }
    }

    /// Whether connections of `edge` wait to be decided.
    pub(super) fn is_undecided(&self, edge: &FlowKey) -> bool {
        self.undecided.contains_key(edge)
    }

    /// Decides whose the undecided connections are, as far as that can be said.
    pub(super) fn decide(&mut self) -> HashMap<FlowKey, Decision> {
        let mut by_end: BTreeMap<(Protocol, SocketAddr), Vec<(FlowKey, Flow)>> = BTreeMap::new();
        for (edge, flow) in std::mem::take(&mut self.undecided) {
            let end = (edge.protocol, SocketAddr::new(edge.remote, edge.port));
            by_end.entry(end).or_default().push((edge, flow));
        }
        let mut decisions = HashMap::default();
        // The kernel forgets the port of a refused attempt; what is left when the others are decided is its.
        let (forgotten, whole): (Vec<_>, Vec<_>) =
            by_end.into_iter().partition(|((_, end), _)| end.port() == 0);
        for ((protocol, end), mut flows) in whole {
            flows.sort_by(|one, other| one.0.cmp(&other.0));
            let decision = self.decide_end(protocol, end, &flows);
            decisions.extend(flows.into_iter().map(|(edge, _)| (edge, decision.clone())));
        }
        for ((_, end), flows) in forgotten {
            for (edge, flow) in flows {
                self.decide_forgotten(end, &edge, flow);
            }
        }
        decisions
    }

    fn decide_end(
        &mut self,
        protocol: Protocol,
        end: SocketAddr,
        flows: &[(FlowKey, Flow)],
    ) -> Decision {
        let attempts: u64 = flows.iter().map(|(_, flow)| flow.opened + flow.failed).sum();
        let told = match protocol {
            Protocol::Tcp => self.openings.at(end),
            Protocol::Udp => BTreeMap::new(),
        };
        let total: u64 = told.values().sum();
        if let (1, Some(only)) = (told.len(), told.keys().next())
            && attempts <= total
        {
            self.openings.take(end, only, attempts);
            for _ in 0..attempts.min(8) {
                self.sightings.note(protocol, end, only);
            }
            return self.give_all(only.clone(), flows);
        }
        let failed: u64 = flows.iter().map(|(_, flow)| flow.failed).sum();
        let is_mixed = failed > 0 && failed < attempts;
        if total == 0 || is_mixed {
            return match self.sightings.of(protocol, end) {
                Posterior::Sure(application) => self.give_all(application, flows),
                Posterior::Ambiguous => self.give_nobody(flows, Decision::Ambiguous),
                Posterior::Nothing if is_mixed => self.give_nobody(flows, Decision::Ambiguous),
                Posterior::Nothing => self.give_nobody(flows, Decision::Nobody),
            };
        }
        self.share_out(end, flows, &told, attempts);
        Decision::Ambiguous
    }

    fn give_all(&mut self, application: AppName, flows: &[(FlowKey, Flow)]) -> Decision {
        for (edge, flow) in flows {
            self.edges.add(&of(edge, Some(&application)), flow, self.now);
        }
        Decision::One(application)
    }

    fn give_nobody(&mut self, flows: &[(FlowKey, Flow)], decision: Decision) -> Decision {
        for (edge, flow) in flows {
            self.edges.add(edge, flow, self.now);
        }
        decision
    }

    /// Gives each application as many as it opened for certain. More attempts than connections: as many are
    /// still under way, and nobody knows whose; the rest waits for the next look.
    fn share_out(
        &mut self,
        end: SocketAddr,
        flows: &[(FlowKey, Flow)],
        told: &BTreeMap<AppName, u64>,
        attempts: u64,
    ) {
        let under_way = told.values().sum::<u64>().saturating_sub(attempts);
        let mut shares: Vec<(&AppName, u64)> =
            told.iter().map(|(app, count)| (app, count.saturating_sub(under_way))).collect();
        for (application, count) in &shares {
            self.openings.take(end, application, *count);
        }
        for (edge, flow) in flows {
            let mut left = *flow;
            for (application, share) in &mut shares {
                let (opened, failed) = (left.opened.min(*share), left.failed.min(*share));
                *share -= opened + failed;
                let closed = opened;
                let given = Flow { opened, closed, failed, ..Flow::default() };
                left.opened -= opened;
                left.failed -= failed;
                left.closed = left.closed.saturating_sub(closed);
                self.edges.add(&of(edge, Some(application)), &given, self.now);
            }
            let waits = under_way > 0 && left.opened + left.failed > 0;
            if waits {
                let Flow { opened, closed, failed, .. } = left;
                let rest = Flow { opened, closed, failed, ..Flow::default() };
                self.undecided.entry(edge.clone()).or_default().add(&rest);
                left = Flow { opened: 0, closed: 0, failed: 0, ..left };
            }
            self.edges.add(edge, &left, self.now);
        }
    }

    /// Attempts whose port is not known: those told to the same address that nothing else came of. If there
    /// are more of them than connections, some are still under way, and the rest waits for the next look.
    fn decide_forgotten(&mut self, address: SocketAddr, edge: &FlowKey, flow: Flow) {
        let ends = self.openings.far_ends(address.ip());
        let told: Vec<(SocketAddr, AppName, u64)> = ends
            .into_iter()
            .flat_map(|end| {
                let told = self.openings.at(end).into_iter();
                told.map(move |(application, count)| (end, application, count))
            })
            .collect();
        let attempts = flow.opened + flow.failed;
        let is_mixed = flow.failed > 0 && flow.opened > 0;
        let total: u64 = told.iter().map(|(_, _, count)| count).sum();
        let is_only_one = told.len() == 1;
        let under_way = if is_only_one { 0 } else { total.saturating_sub(attempts) };
        let mut left = flow;
        for (end, application, count) in told.iter().filter(|_| is_only_one || !is_mixed) {
            let share = count.saturating_sub(under_way);
            let failed = left.failed.min(share);
            let opened = left.opened.min(share - failed);
            let reset = left.reset.min(opened);
            let given = Flow { opened, closed: opened, reset, failed, ..Flow::default() };
            left.failed -= failed;
            left.opened -= opened;
            left.closed = left.closed.saturating_sub(opened);
            left.reset -= reset;
            self.openings.take(*end, application, failed + opened);
            // The kernel forgets the own address too.
            let told = self.openings.local(*end, application);
            let local = told.filter(|_| edge.local.is_unspecified()).unwrap_or(edge.local);
            let known = FlowKey { local, port: end.port(), ..of(edge, Some(application)) };
            self.edges.add(&known, &given, self.now);
        }
        if under_way > 0 && !is_mixed {
            self.undecided.entry(edge.clone()).or_default().add(&left);
        } else {
            self.edges.add(edge, &left, self.now);
        }
    }
}

fn of(edge: &FlowKey, application: Option<&AppName>) -> FlowKey {
    FlowKey { application: application.cloned(), ..edge.clone() }
}
