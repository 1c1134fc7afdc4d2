//! Merges what both ends say of each connection, so that it counts once, and adds connections up
//! to edges.
//!
//! Where an agent counts its flows, they say how many connections came to be and what they carried,
//! and the rows say what is open. Where none does, the rows say all: with short connections only the
//! side that closes first is left with a row that polling sees, so the merged table sees nearly all
//! of what either side alone would miss.

mod counted;
mod detected;
mod opener;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use common::{
    id::{AppName, VmId},
    sample::{ConnectionState, Protocol},
};

use self::detected::Detected;
use super::{
    EdgeKey, JoinedMachine, Outcome, Party,
    addresses::Owners,
    flows::{Flows, is_habit},
    machines::is_alive,
    sampled_every,
    translations::{Translations, far_end},
};
use crate::{
    catalogue::AGENT,
    window::{ConnectionSpan, EDGES_KEPT, GuestWindow, SamplingWindow, Starts},
};

/// The connections of one outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Those that came to be in the window.
    pub(super) opened: u64,
    /// Those seen.
    pub(super) seen: u64,
    /// Bytes both ways; `None` if not known of any.
    pub(super) bytes: Option<u64>,
}

/// What one edge carried.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried {
    pub(super) by_outcome: BTreeMap<Outcome, Tally>,
    /// Connections that were reset; 0 where nobody counts.
    pub(super) reset: u64,
    /// Requests and answers; `None` where nobody counts.
    pub(super) exchanges: Option<u64>,
    pub(super) both_ends: bool,
    pub(super) coverage: f64,
    pub(super) watched: Duration,
    pub(super) answered_at: BTreeSet<SocketAddr>,
    pub(super) starts: Starts,
    pub(super) told: super::Told,
    detected: Detected,
    open_by_client: f64,
    open_by_server: f64,
}

impl Carried {
    /// Connections open on average, by the end that saw more.
    pub(super) fn open_mean(&self) -> f64 {
        self.open_by_client.max(self.open_by_server)
    }

    /// Share of the connections that came to be that were seen; `None` if none came to be.
    pub(super) fn detected(&self) -> Option<f64> {
        self.detected.share()
    }
}

/// What names a connection whoever reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ends<'a> {
    /// The machine, if the addresses mean something else on every machine.
    within: Option<&'a VmId>,
    protocol: Protocol,
    low: SocketAddr,
    high: SocketAddr,
}

/// One end's report of it.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    vm: &'a VmId,
    guest: &'a GuestWindow,
    local: SocketAddr,
    remote: SocketAddr,
    spans: &'a [ConnectionSpan],
}

impl View<'_> {
    fn order(&self, other: &Self) -> Ordering {
        (self.vm, self.local).cmp(&(other.vm, other.local))
    }

    /// Whether a connection that it does not call new is older than the window.
    fn knows_the_old(&self) -> bool {
        self.guest.holes.is_empty() && self.guest.came + 1 >= self.guest.due
    }
}

/// Adds up the connections of a window by edge.
pub(super) fn merge(
    window: &SamplingWindow,
    machines: &BTreeMap<VmId, JoinedMachine>,
    owners: &Owners,
    remarks: &mut Vec<String>,
) -> BTreeMap<EdgeKey, Carried> {
    let mut views = Vec::new();
    for (vm, guest) in &window.guests {
        if machines.get(vm).is_none_or(|machine| machine.on_trial) {
            continue;
        }
        for (key, spans) in &guest.connections {
            let Some(remote) = key.remote else { continue };
            let (local, remote) = (key.local, far_end(remote, spans));
            let is_within = owners.is_local(local.ip()) || remote.ip().is_loopback();
            let within = is_within.then_some(vm);
            let (low, high) = (local.min(remote), local.max(remote));
            let ends = Ends { within, protocol: key.protocol, low, high };
            views.push((ends, View { vm, guest, local, remote, spans }));
        }
    }
    views.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.order(right)));
    let translations = Translations::of(window, machines, remarks);
    let flows = Flows::of(window, machines, owners, &translations);
    let mut unclear = flows.unclear;
    let sampled_every = sampled_every(window);
    let merger = Merger { window, machines, owners, habits: habits(&views), flows, sampled_every };
    let mut edges = BTreeMap::new();
    for (pair, told) in &merger.flows.pairs {
        merger.add_counted(&mut edges, pair, told);
    }
    for both in views.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((client, server)) = merger.orient(both) else {
            unclear += 1;
            continue;
        };
        merger.add(&mut edges, both, client, server);
    }
    if unclear > 0 {
        remarks.push(format!("{unclear} connections are left out: nobody saw who opened them"));
    }
    remarks.extend(crowded(window, machines));
    edges
}

/// Machines with more edges than there is room for.
fn crowded(
    window: &SamplingWindow,
    machines: &BTreeMap<VmId, JoinedMachine>,
) -> impl Iterator<Item = String> {
    window.guests.iter().filter(|(_, guest)| guest.left_out().edges > 0).map(|(vm, guest)| {
        let left_out = guest.left_out();
        let name = machines.get(vm).map_or(vm.as_str(), |machine| machine.name.as_str());
        format!(
            "{name} has more edges than the {EDGES_KEPT} that are kept: {} connections are left out, at \
             most {} events of one edge",
            left_out.connections, left_out.busiest
        )
    })
}

/// Which applications of a machine were seen to call an address, and how often.
type Habits<'a> = BTreeMap<(&'a VmId, SocketAddr), BTreeMap<&'a AppName, u64>>;

fn habits<'a>(views: &[(Ends<'a>, View<'a>)]) -> Habits<'a> {
    let mut habits = Habits::new();
    for (_, view) in views {
        for application in view.spans.iter().filter_map(|span| span.application.as_ref()) {
            let calls = habits.entry((view.vm, view.remote)).or_default();
            *calls.entry(application).or_default() += 1;
        }
    }
    habits
}

struct Merger<'a> {
    window: &'a SamplingWindow,
    machines: &'a BTreeMap<VmId, JoinedMachine>,
    owners: &'a Owners,
    habits: Habits<'a>,
    flows: Flows<'a>,
    sampled_every: Duration,
}

impl<'a> Merger<'a> {
    fn add(
        &self,
        edges: &mut BTreeMap<EdgeKey, Carried>,
        both: &[(Ends<'a>, View<'a>)],
        client: SocketAddr,
        server: SocketAddr,
    ) {
        let view_from = |local| both.iter().map(|(_, view)| view).find(|view| view.local == local);
        let (by_client, by_server) = (view_from(client), view_from(server));
        let Some(viewer) = by_client.or(by_server) else { return };
        let mut key = EdgeKey {
            client: self.client(viewer, by_client, client, server),
            server: self.server(viewer, by_server, server),
            port: server.port(),
        };
        let is_counted = self.name_by_count(&mut key, both, (client, server));
        // Of a row in nobody's hands only its count may say that it is.
        if self.is_the_agents(&key, server) {
            return;
        }
        let mut told = tallies(by_client, by_server);
        // What was counted already is not counted by its rows again.
        told.retain(|(outcome, tally)| {
            !is_counted || (tally.opened == 0 && *outcome != Outcome::Failed)
        });
        if told.is_empty() && !edges.contains_key(&key) {
            return;
        }
        let carried = edges.entry(key).or_default();
        carried.answered_at.insert(server);
        carried.both_ends |= by_client.is_some() && by_server.is_some();
        carried.open_by_client += by_client.map_or(0.0, open_share);
        carried.open_by_server += by_server.map_or(0.0, open_share);
        for view in by_client.into_iter().chain(by_server) {
            carried.coverage = carried.coverage.max(view.guest.edge_coverage());
            carried.watched = carried.watched.max(self.watched(view.guest));
        }
        for (outcome, tally) in told {
            let of_outcome = carried.by_outcome.entry(outcome).or_default();
            of_outcome.opened += tally.opened;
            of_outcome.seen += tally.seen;
            of_outcome.bytes = sum(of_outcome.bytes, tally.bytes.filter(|_| !is_counted));
        }
        if !is_counted {
            self.note_starts(carried, by_client, by_server);
        }
    }

    /// Notes when the connections of these ends came to be, and how surely they were seen.
    fn note_starts(
        &self,
        carried: &mut Carried,
        by_client: Option<&View<'_>>,
        by_server: Option<&View<'_>>,
    ) {
        for told in paired(by_client, by_server) {
            if !is_opened(&told) || outcome(&told) == Outcome::Failed {
                continue;
            }
            let spans: Vec<&ConnectionSpan> = told.iter().map(|(_, span)| *span).collect();
            // Who looked first saw it first.
            let began = spans.iter().filter_map(|span| span.began).min();
            carried.starts.add(began, 1);
            carried.detected.see(&spans, self.sampled_every);
        }
    }

    /// With one sample nothing lies between two; its share of the window stands for it.
    fn watched(&self, guest: &GuestWindow) -> Duration {
        if guest.watched.is_zero() {
            self.window.length().mul_f64(guest.coverage())
        } else {
            guest.watched
        }
    }

    fn client(
        &self,
        viewer: &View<'a>,
        by_client: Option<&View<'a>>,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Party {
        let owner =
            by_client.map(|view| view.vm).or_else(|| self.owners.owner(viewer.vm, client.ip()));
        let Some(vm) = owner else { return Party::External { address: client.ip() } };
        let seen = by_client.and_then(application);
        let application = seen.or_else(|| self.by_habit(vm, server)).cloned();
        Party::Machine { vm: vm.clone(), application }
    }

    fn server(&self, viewer: &View<'a>, by_server: Option<&View<'a>>, server: SocketAddr) -> Party {
        let owner =
            by_server.map(|view| view.vm).or_else(|| self.owners.owner(viewer.vm, server.ip()));
        let Some(vm) = owner else { return Party::External { address: server.ip() } };
        let seen = by_server.and_then(application);
        let application = seen.or_else(|| self.by_port(vm, server.port())).cloned();
        Party::Machine { vm: vm.clone(), application }
    }

    fn by_habit(&self, vm: &'a VmId, server: SocketAddr) -> Option<&'a AppName> {
        let calls = self.habits.get(&(vm, server))?;
        let all: u64 = calls.values().sum();
        let (application, most) = calls.iter().max_by_key(|(_, count)| **count)?;
        is_habit(*most, all).then_some(*application)
    }

    /// The one application that listens on a port; two of them are none.
    fn by_port(&self, vm: &VmId, port: u16) -> Option<&'a AppName> {
        let applications = &self.machines.get(vm)?.applications;
        let mut listening = applications.iter().filter(|(_, used)| used.listens.contains(&port));
        let (application, _) = listening.next()?;
        listening.next().is_none().then_some(application)
    }

    /// The agents' own connections: those of its process, and those that only its process makes
    /// to the same address.
    fn is_the_agents(&self, key: &EdgeKey, server: SocketAddr) -> bool {
        let is_agent = |name: &AppName| name.as_str() == AGENT;
        if [&key.client, &key.server].into_iter().filter_map(|p| p.application()).any(is_agent) {
            return true;
        }
        let Party::Machine { vm, application: None } = &key.client else { return false };
        let calls = self.habits.get(&(vm, server));
        !server.ip().is_loopback()
            && calls.is_some_and(|calls| calls.keys().all(|name| is_agent(name)))
    }
}

fn application<'a>(view: &View<'a>) -> Option<&'a AppName> {
    view.spans.iter().rev().find_map(|span| span.application.as_ref())
}

/// Connections open on average at these ends.
#[expect(clippy::cast_precision_loss, reason = "samples of one window are few")]
fn open_share(view: &View<'_>) -> f64 {
    let open: u64 = view.spans.iter().map(|span| span.open).sum();
    open as f64 / view.guest.came.max(1) as f64
}

/// One connection as its ends tell of it.
type Told<'a> = Vec<(&'a View<'a>, &'a ConnectionSpan)>;

/// Pairs the connections that had these ends one after the other, last with last: what one end
/// missed is rather the start of the window than its end.
fn paired<'a>(by_client: Option<&'a View<'a>>, by_server: Option<&'a View<'a>>) -> Vec<Told<'a>> {
    let views: Vec<&View<'_>> = by_client.into_iter().chain(by_server).collect();
    let count = views.iter().map(|view| view.spans.len()).max().unwrap_or(0);
    let told = (1..=count).map(|back| {
        let told = views
            .iter()
            .filter_map(|view| Some((*view, view.spans.get(view.spans.len().checked_sub(back)?)?)));
        told.collect()
    });
    told.collect()
}

/// Whether a connection came to be in the window.
fn is_opened(told: &Told<'_>) -> bool {
    let is_new = told.iter().any(|(_, span)| span.opened);
    let is_old = told.iter().any(|(view, span)| !span.opened && view.knows_the_old());
    is_new && !is_old
}

fn tallies(by_client: Option<&View<'_>>, by_server: Option<&View<'_>>) -> Vec<(Outcome, Tally)> {
    let paired = paired(by_client, by_server);
    let tallies = paired.iter().map(|told| {
        let bytes = told.iter().filter_map(|(_, span)| bytes(span)).max();
        (outcome(told), Tally { opened: u64::from(is_opened(told)), seen: 1, bytes })
    });
    tallies.collect()
}

/// What is known of either is known of both.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

fn bytes(span: &ConnectionSpan) -> Option<u64> {
    match (span.sent, span.received) {
        (None, None) => None,
        (sent, received) => Some(sent.unwrap_or(0).saturating_add(received.unwrap_or(0))),
    }
}

fn outcome(told: &[(&View<'_>, &ConnectionSpan)]) -> Outcome {
    let unanswered = |span: &ConnectionSpan| {
        span.states.lies_within(&[ConnectionState::SynSent, ConnectionState::Closed])
    };
    if told.iter().any(|(_, span)| is_alive(span)) {
        Outcome::Ok
    } else if told.iter().all(|(_, span)| unanswered(span)) {
        Outcome::Failed
    } else {
        Outcome::Unknown
    }
}
