//! The load of a trial: what the clone is asked, and who stands in for those it calls.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use common::id::{AppName, VmId};

use super::{draft::Draft, model::Model};
use crate::{hypervisor::ProbeTarget, inference::Party};

/// What nobody asks in production is asked once per second.
const LEAST_RATE: f64 = 1.0;
/// A trial is no load test of our own prober.
const MOST_RATE: f64 = 500.0;

/// Every port that an application of the new mix serves, asked as often as in production.
pub(super) fn targets(model: &Model<'_>, draft: &Draft) -> Vec<ProbeTarget> {
    let Some(change) = draft.changes.get(&draft.source) else { return Vec::new() };
    let Some(address) = production_addresses(model, &draft.source).into_iter().next() else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for name in change.mix_after.0.keys() {
        let Some(application) = model.situation.catalogue.0.get(name) else { continue };
        let home = draft.moves.iter().find(|m| m.application == *name).map(|m| &m.from);
        for (port, kind) in &application.serves {
            let rate = rate(model, home.unwrap_or(&draft.source), *port);
            targets.push(ProbeTarget {
                address: SocketAddr::new(address, *port),
                kind: kind.clone(),
                rate_per_second: rate.clamp(LEAST_RATE, MOST_RATE),
            });
        }
    }
    targets
}

/// Connections per second that a port gets in production, from all clients together.
fn rate(model: &Model<'_>, vm: &VmId, port: u16) -> f64 {
    let edges = model.inbound(vm).iter().filter(|(key, _)| key.port == port);
    edges.map(|(_, edge)| edge.connections.per_second).sum()
}

/// Where the machine calls in production, and where the applications that come to it do.
pub(super) fn stand_ins(model: &Model<'_>, draft: &Draft) -> Vec<SocketAddr> {
    let mut addresses = BTreeSet::new();
    let from: BTreeSet<&VmId> = draft.moves.iter().map(|m| &m.from).collect();
    let moved: BTreeSet<&AppName> = draft.moves.iter().map(|m| &m.application).collect();
    for vm in std::iter::once(&draft.source).chain(from) {
        for (key, _) in model.outbound(vm) {
            // Who is not known to call may be the one that moves.
            let comes = key.client.application().is_none_or(|name| moved.contains(name));
            if *vm != draft.source && !comes {
                continue;
            }
            let called = match &key.server {
                Party::External { address } => vec![*address],
                Party::Machine { vm: server, .. } if *server == draft.source => Vec::new(),
                Party::Machine { vm: server, .. } => production_addresses(model, server),
            };
            addresses.extend(called.into_iter().map(|ip| SocketAddr::new(ip, key.port)));
        }
    }
    addresses.into_iter().collect()
}

/// A machine's addresses on the networks it is plugged into, IPv4 first; what else it has may
/// lead to us and not to its clients.
fn production_addresses(model: &Model<'_>, vm: &VmId) -> Vec<IpAddr> {
    let nics = model.machine(vm).into_iter().flat_map(|machine| &machine.nics);
    let plugged = nics.filter(|nic| nic.network.is_some()).flat_map(|nic| &nic.addresses);
    let mut addresses: Vec<IpAddr> = plugged.map(ipnet::IpNet::addr).collect();
    if addresses.is_empty() {
        addresses.extend(model.standing(vm).into_iter().flat_map(|standing| &standing.addresses));
    }
    addresses.retain(|address| !address.is_loopback());
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}
