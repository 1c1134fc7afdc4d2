//! Puts the claims about one machine together.

use std::collections::{BTreeMap, BTreeSet};

use common::{clock::Timestamp, id::VmId};

use super::{
    Claim, Context, Standing,
    edges::Held,
    groups::Groups,
    measured::Measured,
    opportunities::{self, Calls, Chances},
    predicates::{self, busy_neighbour, no, yes},
};
use crate::join::Joined;

/// Who is tied to whom, by machine.
pub(super) struct Ties<'a> {
    groups: Groups<'a>,
    /// Group and machine of what plans under way touch.
    busy: BTreeSet<(&'a VmId, &'a VmId)>,
    peers: BTreeMap<&'a VmId, BTreeSet<&'a str>>,
    inbound: BTreeMap<&'a VmId, Vec<&'a Held<'a>>>,
    outbound: BTreeMap<&'a VmId, Vec<&'a Held<'a>>>,
}

impl<'a> Ties<'a> {
    pub(super) fn of(held: &'a [Held<'a>], present: &'a Joined, context: &Context<'a>) -> Self {
        let mut ties = Self {
            groups: Groups::default(),
            busy: BTreeSet::new(),
            peers: BTreeMap::new(),
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
        };
        let name = |vm: &VmId| present.machines.get(vm).map(|machine| machine.name.as_str());
        for edge in held {
            if let Some(client) = edge.key.client.vm() {
                ties.outbound.entry(client).or_default().push(edge);
            }
            let Some(server) = edge.key.server.vm() else { continue };
            ties.inbound.entry(server).or_default().push(edge);
            let Some(client) = edge.key.client.vm().filter(|client| *client != server) else {
                continue;
            };
            if edge.infrastructure {
                continue;
            }
            ties.groups.tie(client, server);
            if edge.communicates(context) {
                ties.peers.entry(client).or_default().extend(name(server));
                ties.peers.entry(server).or_default().extend(name(client));
            }
        }
        for vm in context.busy {
            ties.busy.insert((ties.groups.root(vm), vm));
        }
        ties
    }
}

/// All claims about one machine.
pub(super) fn of<'a>(
    machine: &Measured<'a>,
    now: Timestamp,
    ties: &mut Ties<'a>,
    context: &Context<'a>,
) -> Standing {
    let none = BTreeSet::new();
    let active = predicates::active(machine, context);
    let peers = ties.peers.get(machine.vm).unwrap_or(&none);
    let participating = predicates::participating(machine, &active, peers);
    let trusted = predicates::trusted(machine, context);
    let group = ties.groups.root(machine.vm);
    let obstacle = predicates::obstacle(machine, &trusted, now, context).or_else(|| {
        let busy = busy_neighbour(machine.vm, group, &ties.busy);
        busy.then(|| "a plan under way touches a machine it works with".to_owned())
    });
    let calls = Calls {
        inbound: ties.inbound.get(machine.vm).map_or(&[], Vec::as_slice),
        outbound: ties.outbound.get(machine.vm).map_or(&[], Vec::as_slice),
    };
    let (candidate, chances) = match obstacle {
        Some(obstacle) => (no(obstacle), Chances::default()),
        None => judged(machine, &calls, context),
    };
    let present = machine.present;
    let used = present.applications.iter();
    Standing {
        name: present.name.clone(),
        has_agent: present.has_agent,
        active,
        participating,
        trusted,
        candidate,
        opportunities: chances.found,
        stays: chances.stays,
        besides: chances.besides,
        coverage: present.coverage,
        allocation: present.allocation,
        cpu_peak: machine.cpu_peak(),
        cpu_mean: machine.cpu_mean(),
        memory_peak: machine.memory_peak(),
        mix: machine.mix().cloned(),
        needs: machine.needs(),
        listens: used.clone().map(|(name, used)| (name.clone(), used.listens.clone())).collect(),
        addresses: present.addresses.clone(),
        group: Some(group.clone()),
        records: used.map(|(name, used)| (name.clone(), used.records.clone())).collect(),
    }
}

fn judged(machine: &Measured<'_>, calls: &Calls<'_>, context: &Context<'_>) -> (Claim, Chances) {
    let chances = opportunities::chances(machine, calls, context);
    let claim = if chances.found.is_empty() {
        no(format!("there is nothing to gain: {}", chances.why_not()))
    } else {
        yes(opportunities::told(&chances.found))
    };
    (claim, chances)
}
