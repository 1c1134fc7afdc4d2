//! Puts the claims about one machine together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
};

use super::{
    Claim, Context, Need, Standing, Testimony,
    concert::Concert,
    edges::Held,
    frequency::{Recurring, recurring},
    groups::{self, Grouping},
    measured::Measured,
    mixes,
    opportunities::{self, Calls, Chances},
    optimum,
    predicates::{self, busy_neighbour, no, yes},
    roles, shared,
    witness::CLAIMED,
};
use crate::join::Joined;

/// Whether each machine is trusted, and how far it can be believed.
pub(super) type Judged<'a> = BTreeMap<&'a VmId, (Claim, Testimony)>;

/// Who is tied to whom, by machine.
pub(super) struct Ties<'a> {
    windows: &'a [&'a Joined],
    concert: Concert<'a>,
    /// The machine that stands for the group of each machine.
    roots: HashMap<&'a VmId, &'a VmId>,
    /// Group and machine of what plans under way touch.
    busy: BTreeSet<(&'a VmId, &'a VmId)>,
    peers: HashMap<&'a VmId, BTreeSet<&'a str>>,
    inbound: HashMap<&'a VmId, Vec<&'a Held<'a>>>,
    outbound: HashMap<&'a VmId, Vec<&'a Held<'a>>>,
    /// The business group of each machine that has one.
    business: HashMap<&'a VmId, u64>,
    /// When the present window closed.
    now: Timestamp,
    /// What was ever called regularly, by machine.
    recurring: BTreeMap<&'a VmId, Vec<Recurring<'a>>>,
    /// The volumes that each machine uses, as their arrays call them.
    volumes: BTreeMap<&'a VmId, BTreeSet<&'a str>>,
    /// Machines in a business group of two or more.
    in_company: HashSet<&'a VmId>,
}

impl<'a> Ties<'a> {
    pub(super) fn of(
        (held, grouping): (&'a [Held<'a>], &'a Grouping),
        (windows, present): (&'a [&'a Joined], &'a Joined),
        context: &Context<'a>,
    ) -> Self {
        let business = grouping.by_machine();
        let in_company = business.iter().filter(|(_, group)| group.machines.len() > 1);
        let mut ties = Self {
            windows,
            concert: Concert::default(),
            roots: HashMap::new(),
            busy: BTreeSet::new(),
            peers: HashMap::new(),
            inbound: HashMap::new(),
            outbound: HashMap::new(),
            now: present.to,
            recurring: recurring(context),
            volumes: groups::volumes(present),
            in_company: in_company.map(|(vm, _)| *vm).collect(),
            business: business.into_iter().map(|(vm, group)| (vm, group.id)).collect(),
        };
        let names: HashMap<&VmId, &str> =
            present.machines.iter().map(|(vm, machine)| (vm, machine.name.as_str())).collect();
        let name = |vm: &VmId| names.get(vm).copied();
        for edge in held {
            if let Some(client) = edge.key.client.vm() {
                ties.outbound.entry(client).or_default().push(edge);
            }
            let Some(server) = edge.key.server.vm() else { continue };
            ties.inbound.entry(server).or_default().push(edge);
            let Some(client) = edge.key.client.vm().filter(|client| *client != server) else {
                continue;
            };
            // What a liar alone tells ties nobody to it.
            if edge.infrastructure || edge.weight <= 0.0 {
                continue;
            }
            ties.concert.tie(client, server);
            if edge.weight > CLAIMED && edge.communicates(context) {
                ties.peers.entry(client).or_default().extend(name(server));
                ties.peers.entry(server).or_default().extend(name(client));
            }
        }
        for users in groups::shared_volumes(present, context).into_values() {
            let users: Vec<&VmId> = users.into_iter().collect();
            for pair in users.windows(2) {
                ties.concert.tie(pair[0], pair[1]);
                ties.peers.entry(pair[0]).or_default().extend(name(pair[1]));
                ties.peers.entry(pair[1]).or_default().extend(name(pair[0]));
            }
        }
        for vm in context.busy {
            ties.busy.insert((ties.concert.root(vm), vm));
        }
        for vm in present.machines.keys() {
            ties.roots.insert(vm, ties.concert.root(vm));
        }
        ties
    }
}

/// All claims about one machine.
pub(super) fn of<'a>(
    machine: &Measured<'a>,
    (trusted, testimony): (Claim, Testimony),
    ties: &Ties<'a>,
    context: &Context<'a>,
) -> Standing {
    let none = BTreeSet::new();
    let active = predicates::active(machine, context);
    let peers = ties.peers.get(machine.vm).unwrap_or(&none);
    let volumes = ties.volumes.get(machine.vm).unwrap_or(&none);
    let in_company = ties.in_company.contains(machine.vm);
    let participating = predicates::participating(machine, &active, (peers, volumes, in_company));
    let group = ties.roots.get(machine.vm).copied().unwrap_or(machine.vm);
    let obstacle = obstacle(machine, &trusted, (group, ties), context);
    let calls = Calls {
        inbound: ties.inbound.get(machine.vm).map_or(&[], Vec::as_slice),
        outbound: ties.outbound.get(machine.vm).map_or(&[], Vec::as_slice),
        recurring: ties.recurring.get(machine.vm).map_or(&[], Vec::as_slice),
        now: ties.now,
    };
    let (candidate, chances) = match obstacle {
        Some(obstacle) => (no(obstacle), Chances::default()),
        None => judged(machine, &calls, context),
    };
    let present = machine.present;
    let used = present.applications.iter();
    let mut needs = needs(machine, context);
    shared::share_out(&mut needs, machine, &calls, ties.windows);
    let optimum = needs.iter().filter_map(|(name, need)| {
        Some((name.clone(), optimum::optimum(machine.vm, name, need, context)?))
    });
    let mixes = needs
        .iter()
        .map(|(name, need)| (name.clone(), mixes::mix(machine.vm, name, need, context)));
    Standing {
        optimum: optimum.collect(),
        mixes: mixes.collect(),
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
        needs,
        listens: used.clone().map(|(name, used)| (name.clone(), used.listens.clone())).collect(),
        addresses: present.addresses.clone(),
        group: Some(group.clone()),
        business_group: ties.business.get(machine.vm).copied(),
        roles: roles::roles(machine, &calls, context),
        records: used.map(|(name, used)| (name.clone(), used.records.clone())).collect(),
        outside_records: present.records.clone(),
        testimony,
        volumes: volumes.iter().map(|volume| (*volume).to_owned()).collect(),
        operating_system: present.operating_system.clone(),
        architecture: present.architecture.clone(),
    }
}

/// Why a machine is no candidate whatever it could do.
fn obstacle(
    machine: &Measured<'_>,
    trusted: &Claim,
    (group, ties): (&VmId, &Ties<'_>),
    context: &Context<'_>,
) -> Option<String> {
    predicates::obstacle(machine, trusted, ties.now, context).or_else(|| {
        let busy = busy_neighbour(machine.vm, group, &ties.busy);
        busy.then(|| "a plan under way touches a machine it works with".to_owned())
    })
}

/// What each application needs, with how that goes over the day.
fn needs(machine: &Measured<'_>, context: &Context<'_>) -> BTreeMap<AppName, Need> {
    let each = machine.needs().iter().map(|(name, need)| {
        let profile = mixes::profile(machine.vm, name, context);
        (name.clone(), Need { profile, ..*need })
    });
    each.collect()
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
