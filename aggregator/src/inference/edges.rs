//! Edges over the windows held: how often each was used of late, whether it ever was, and whether
//! what it leads to serves the whole fleet.

use std::{
    collections::{HashMap, HashSet},
    iter::Peekable,
    net::IpAddr,
    ops::Range,
    time::Duration,
};

use common::id::VmId;
use rayon::prelude::*;

use super::{
    Backing, Context, Edge, EdgeKey, Party, Rate, Regularity,
    rates::{corrected, rate},
};
use crate::{
    history::EdgeHistory,
    hypervisor::Power,
    join::{Joined, Traffic},
};

/// With fewer machines than this any backend of a small fleet would be infrastructure.
const MACHINES_OF_INFRASTRUCTURE: usize = 5;
/// An agent asks each application for its health about once per sample; above this it is no
/// agent that asks.
const HEALTH_CHECKS_PER_SAMPLE: f64 = 1.5;

/// One edge over the windows held.
#[derive(Debug, Clone)]
pub(super) struct Held<'a> {
    /// Its ends.
    pub(super) key: &'a EdgeKey,
    /// What it carried in the present window; `None` if it was quiet.
    present: Option<&'a Traffic>,
    /// What it carried in the last window that shows it.
    last: &'a Traffic,
    /// Connections that came to be over all windows held.
    pub(super) opened: u64,
    /// Rate of connections and exchanges together, over the windows that are needed to act.
    recent: Rate,
    /// Most connections open on average, over those windows.
    pub(super) open_mean: f64,
    /// Most connections open on average, over all windows held.
    pub(super) ever_open: f64,
    /// What earlier windows left behind of it.
    pub(super) known: Option<EdgeHistory<'a>>,
    /// What it leads to serves the whole fleet, or what it comes from watches it.
    pub(super) infrastructure: bool,
    /// Whether the other end backs it.
    pub(super) backing: Backing,
    /// What it counts by as evidence, from 0 to 1.
    pub(super) weight: f64,
}

impl Held<'_> {
    /// Whether the two work in concert: a connection was open, or they come often enough that the
    /// lower bound of their rate is above what counts.
    pub(super) fn communicates(&self, context: &Context<'_>) -> bool {
        self.open_mean > 0.0 || self.recent.lower >= context.policy.communicates_per_second
    }

    /// How much it counts where groups are drawn, from 0 to 1: in full if a connection stayed open or
    /// the two communicate, in part if they come more seldom.
    pub(super) fn liveliness(&self, context: &Context<'_>) -> f64 {
        if self.open_mean > 0.0 {
            return 1.0;
        }
        (self.recent.per_second / context.policy.communicates_per_second).min(1.0)
    }

    /// Whether both ends told of it when it was last shown.
    pub(super) const fn is_told_by_both(&self) -> bool {
        self.last.both_ends
    }

    /// The period it is used in, if there is one.
    pub(super) fn period(&self) -> Option<Regularity> {
        self.known.and_then(|known| known.period())
    }

    /// The cycle of the calendar that it is busy in, if there is one.
    pub(super) fn calendar(&self) -> Option<Regularity> {
        self.known.and_then(|known| known.calendar())
    }

    /// As it is told.
    pub(super) fn edge(&self, present: &Joined) -> Edge {
        let quiet = || rate(0, exposure(present, self.key));
        let traffic = self.present;
        Edge {
            connections: traffic.map_or_else(quiet, |traffic| {
                corrected(traffic.opened, traffic.watched, traffic.detected)
            }),
            exchanges: traffic.and_then(|traffic| {
                Some(corrected(traffic.exchanges?, traffic.watched, traffic.detected))
            }),
            burstiness: self.known.and_then(|known| known.burstiness()),
            peak: self.known.and_then(|known| known.peak()),
            period: self.period(),
            calendar: self.calendar(),
            detected: traffic.and_then(|traffic| traffic.detected),
            seen: traffic.map_or(0, |traffic| traffic.seen),
            open_mean: traffic.map_or(0.0, |traffic| traffic.open_mean),
            both_ends: self.last.both_ends,
            coverage: self.last.coverage,
            records: self.last.records.clone(),
            backing: self.backing,
        }
    }
}

/// The edges that carried anything in the windows held, in order of their keys. What only waited
/// to be closed is no edge, and neither is an agent that asks for its own machine's health.
pub(super) fn held<'a>(windows: &[&'a Joined], context: &Context<'a>) -> Vec<Held<'a>> {
    let recent = windows.len().saturating_sub(context.policy.windows_needed)..windows.len();
    let watched: Vec<HashMap<&VmId, Duration>> =
        windows[recent.clone()].iter().map(|window| watched(window)).collect();
    let shown = Shown::of(windows);
    let known = context.history.edges_of(shown.edges.iter().map(|(key, _)| *key));
    let each = shown.edges.par_iter().zip(known).filter_map(|((key, places), known)| {
        let all = &shown.traffic[places.clone()];
        let of_one = OfOne { key, all, known, windows };
        of_one.held((recent.start, &watched), context)
    });
    let mut held: Vec<Held<'a>> = each.collect();
    mark_infrastructure(&mut held, windows.last().copied(), context);
    held
}

/// How long each machine's agent watched it.
fn watched(window: &Joined) -> HashMap<&VmId, Duration> {
    window.machines.iter().map(|(vm, machine)| (vm, machine.guest.watched)).collect()
}

/// All edges of the windows in the order of their keys, and what each carried by number of the window.
#[derive(Default)]
struct Shown<'a> {
    edges: Vec<(&'a EdgeKey, Range<usize>)>,
    traffic: Vec<(usize, &'a Traffic)>,
}

impl<'a> Shown<'a> {
    /// Walks the windows side by side: each has its edges in order.
    fn of(windows: &[&'a Joined]) -> Self {
        let mut each: Vec<Peekable<_>> =
            windows.iter().map(|window| window.edges.iter().peekable()).collect();
        let mut shown = Self::default();
        loop {
            let next = each.iter_mut().filter_map(|edges| edges.peek().map(|(key, _)| *key)).min();
            let Some(next) = next else { return shown };
            let from = shown.traffic.len();
            for (index, edges) in each.iter_mut().enumerate() {
                if let Some((_, traffic)) = edges.next_if(|(key, _)| *key == next) {
                    shown.traffic.push((index, traffic));
                }
            }
            shown.edges.push((next, from..shown.traffic.len()));
        }
    }
}

/// One edge in all windows that show it.
struct OfOne<'a, 'w> {
    key: &'a EdgeKey,
    all: &'w [(usize, &'a Traffic)],
    known: Option<EdgeHistory<'a>>,
    windows: &'w [&'a Joined],
}

impl<'a> OfOne<'a, '_> {
    /// The edge; `None` if it carried nothing, or is an agent that asks for its own machine's health.
    fn held(
        &self,
        (recent_from, watched): (usize, &[HashMap<&VmId, Duration>]),
        context: &Context<'a>,
    ) -> Option<Held<'a>> {
        let alive = || self.all.iter().filter(|(_, traffic)| traffic.alive > 0);
        let (last_index, last) = alive().next_back().copied()?;
        if is_health_check(self.key, alive(), self.windows, context) {
            return None;
        }
        let recent = || alive().filter(|(index, _)| *index >= recent_from);
        let most_open = |most: f64, (_, traffic): &(usize, &Traffic)| most.max(traffic.open_mean);
        let exposed = (recent_from..).zip(watched).map(|(index, watched)| {
            let ends = [&self.key.client, &self.key.server].into_iter().filter_map(|end| end.vm());
            let agents = ends.filter_map(|vm| watched.get(vm)).copied();
            let own = self.all.iter().find(|(at, _)| *at == index);
            agents.chain(own.map(|(_, traffic)| traffic.watched)).max().unwrap_or_default()
        });
        Some(Held {
            key: self.key,
            present: (last_index + 1 == self.windows.len()).then_some(last),
            last,
            opened: alive().fold(0, |all, (_, traffic)| all.saturating_add(traffic.opened)),
            recent: rate(
                recent().fold(0, |all, (_, traffic)| all.saturating_add(events(traffic))),
                exposed.sum(),
            ),
            open_mean: recent().fold(0.0, most_open),
            ever_open: alive().fold(0.0, most_open),
            known: self.known,
            infrastructure: false,
            backing: Backing::default(),
            weight: 1.0,
        })
    }
}

/// Edges of which one end tells and the other does not that are told of one by one.
const ONE_SIDED_TOLD: usize = 20;

/// Edges that one end tells of and the other denies, for people.
pub(super) fn one_sided(held: &[Held<'_>], present: &Joined) -> Vec<String> {
    let claimed: Vec<_> = held.iter().filter(|edge| edge.backing == Backing::Claimed).collect();
    let name = |party: &Party| {
        let machine = party.vm().and_then(|vm| present.machines.get(vm));
        machine.map_or_else(String::new, |machine| machine.name.clone())
    };
    let each = claimed.iter().take(ONE_SIDED_TOLD).map(|edge| {
        let EdgeKey { client, server, port } = edge.key;
        let (client, server) = (name(client), name(server));
        format!(
            "only one end tells of the calls of {client} to {server} on {port}; they count little"
        )
    });
    let mut told: Vec<String> = each.collect();
    if let Some(more) = claimed.len().checked_sub(ONE_SIDED_TOLD).filter(|more| *more > 0) {
        told.push(format!("of {more} more edges only one end tells"));
    }
    told
}

/// Connections and exchanges.
fn events(traffic: &Traffic) -> u64 {
    traffic.opened.saturating_add(traffic.exchanges.unwrap_or(0))
}

/// Time over which an edge would have been seen, whether it was or not.
fn exposure(window: &Joined, key: &EdgeKey) -> Duration {
    let ends = [&key.client, &key.server].into_iter().filter_map(|party| party.vm());
    let watched = ends.filter_map(|vm| window.machines.get(vm)).map(|m| m.guest.watched);
    let watched = watched.max().unwrap_or_default();
    window.edges.get(key).map_or(watched, |traffic| watched.max(traffic.watched))
}

/// Short connections from a machine to itself leave no trace of who opened them. Those to an
/// application that its agent keeps, at the pace at which agents ask for health, are the agent's.
fn is_health_check<'t, 'a: 't>(
    key: &EdgeKey,
    mut traffic: impl Iterator<Item = &'t (usize, &'a Traffic)>,
    windows: &[&Joined],
    context: &Context<'_>,
) -> bool {
    let Party::Machine { vm, application: None } = &key.client else { return false };
    let Party::Machine { vm: server, application: Some(application) } = &key.server else {
        return false;
    };
    let is_kept = windows.iter().any(|window| {
        let mix = window.machines.get(vm).and_then(|machine| machine.mix.as_ref());
        mix.is_some_and(|mix| mix.applications.0.contains_key(application))
    });
    let period = context.policy.sample_period().as_secs_f64();
    vm == server
        && is_kept
        && traffic.all(|(_, traffic)| {
            let due = traffic.watched.as_secs_f64() / period;
            #[expect(clippy::cast_precision_loss, reason = "counts of a window are few")]
            let opened = traffic.opened as f64;
            opened <= due * HEALTH_CHECKS_PER_SAMPLE + 2.0 && traffic.open_mean < 0.5
        })
}

/// One end, whichever application it is, and the port.
type Place<'a> = (Option<&'a VmId>, Option<IpAddr>, u16);

fn place(party: &Party, port: u16) -> Place<'_> {
    match party {
        Party::Machine { vm, .. } => (Some(vm), None, port),
        Party::External { address } => (None, Some(*address), port),
    }
}

/// What most of the machines call, such as a name server, binds nobody to anybody; neither does
/// what calls most of them on the same port, such as a monitor.
#[expect(clippy::cast_precision_loss, reason = "machines are few")]
fn mark_infrastructure(held: &mut [Held<'_>], present: Option<&Joined>, context: &Context<'_>) {
    let Some(present) = present else { return };
    let running = present.machines.values().filter(|m| m.power == Some(Power::On) && !m.on_trial);
    let most = running.count() as f64 * context.policy.shared_infrastructure_share;
    let mut callers: HashMap<Place<'_>, HashSet<&VmId>> = HashMap::new();
    let mut called: HashMap<Place<'_>, HashSet<&VmId>> = HashMap::new();
    for edge in held.iter() {
        let EdgeKey { client, server, port } = edge.key;
        callers.entry(place(server, *port)).or_default().extend(client.vm());
        called.entry(place(client, *port)).or_default().extend(server.vm());
    }
    let is_many = |count: usize| count >= MACHINES_OF_INFRASTRUCTURE && count as f64 > most;
    for edge in held {
        let EdgeKey { client, server, port } = edge.key;
        let callers = callers.get(&place(server, *port)).map_or(0, HashSet::len);
        let called = called.get(&place(client, *port)).map_or(0, HashSet::len);
        let is_listed = server.vm().is_some_and(|vm| context.groups.is_shared(vm, *port));
        edge.infrastructure = is_listed || is_many(callers) || is_many(called);
    }
}
