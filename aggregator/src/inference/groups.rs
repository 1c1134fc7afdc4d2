//! Business groups: machines that do one thing together, told by who calls whom how often.
//!
//! ```text
//!  edges between machines ─> without infrastructure ─> weights ─┐
//!  volumes that several machines use ──────────────────────────┼─> Leiden ─> ids of before
//!  the operator's rules ───────────────────────────────────────┘
//! ```
//!
//! A group keeps its id as long as half of what it and its former self have is in both. Groups of one
//! are told of only where the operator named them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use algorithms::{
    leiden::{self, Settings, Wishes},
    partition::{inherited, numbered},
};
use common::id::{AppName, VmId};
use serde::{Deserialize, Serialize};

use super::{
    Context, Findings,
    dependencies::{Dependency, is_call},
    edges::Held,
};
use crate::{
    grouping::GroupRules,
    join::{Joined, Record},
};

/// A group of one window is the former one from this Jaccard index on.
const SAME: f64 = 0.5;
/// What a volume in common counts by, beside calls that count by 1 at most.
const VOLUME: f64 = 1.0;
/// The seed: any will do, and the same gives the same groups.
const SEED: u64 = 1;

/// Machines that do one thing together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Stays from window to window, and is never given again.
    pub id: u64,
    /// What people call it: the operator's name, or that of the machine most work goes through.
    pub name: String,
    /// Its machines.
    pub machines: BTreeSet<VmId>,
    /// Its applications, by machine: those that call or are called within it.
    pub applications: BTreeSet<(VmId, AppName)>,
    /// Share of the weight at its machines that stays within it, from 0 to 1; `None` where only the
    /// operator holds it together.
    pub cohesion: Option<f64>,
    /// The operator named it.
    pub pinned: bool,
    /// Why, for people.
    pub reason: String,
}

/// The groups, and the id the next new one gets.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    pub(super) groups: Vec<Group>,
    pub(super) next: u64,
}

impl Grouping {
    /// Each machine's group.
    pub(super) fn by_machine(&self) -> BTreeMap<&VmId, &Group> {
        let each =
            self.groups.iter().flat_map(|group| group.machines.iter().map(move |vm| (vm, group)));
        each.collect()
    }
}

/// The machines as numbers, and the ties between them.
struct Graph<'a> {
    machines: Vec<&'a VmId>,
    ties: Vec<(usize, usize, f64)>,
}

/// Draws the groups of the present window. `former`: what the window before said.
pub(super) fn groups(
    (held, dependencies): (&[Held<'_>], &[Dependency]),
    present: &Joined,
    former: &Findings,
    context: &Context<'_>,
) -> (Grouping, Vec<String>) {
    let mut remarks = Vec::new();
    let graph = graph((held, dependencies), present, context);
    let wishes = wishes(&graph.machines, context);
    let settings = Settings { seed: SEED, ..Settings::default() };
    let labels = leiden::communities(graph.machines.len(), &graph.ties, &wishes, &settings)
        .unwrap_or_else(|cause| {
            remarks.push(format!("groups could not be drawn: {cause}"));
            (0..graph.machines.len()).collect()
        });
    let mut groups = told(&graph, &labels, present, context);
    take_applications(&mut groups, held);
    let mut groups: Vec<Group> = groups.into_values().collect();
    let next = number(&mut groups, former);
    (Grouping { groups, next }, remarks)
}

fn graph<'a>(
    (held, dependencies): (&[Held<'_>], &[Dependency]),
    present: &'a Joined,
    context: &Context<'_>,
) -> Graph<'a> {
    let is_there = |vm: &&VmId| present.machines.get(*vm).is_some_and(|machine| !machine.on_trial);
    let machines: Vec<&VmId> = present.machines.keys().filter(is_there).collect();
    let numbers: HashMap<&VmId, usize> =
        machines.iter().enumerate().map(|(number, vm)| (*vm, number)).collect();
    let number = |vm: &VmId| numbers.get(vm).copied();
    let mut ties = Vec::new();
    // There is a dependency for each call, in their order.
    for (edge, known) in held.iter().filter(|edge| is_call(edge)).zip(dependencies) {
        let strength = known.strength();
        let ends = edge.key.client.vm().and_then(number).zip(edge.key.server.vm().and_then(number));
        if let Some((client, server)) = ends {
            let weight = strength * edge.liveliness(context) * edge.weight;
            ties.push((client, server, weight));
        }
    }
    for users in shared_volumes(present, context).into_values() {
        let users: Vec<usize> = users.into_iter().filter_map(number).collect();
        // Each to the next: a star or all pairs would count many users more than they are.
        ties.extend(users.windows(2).map(|pair| (pair[0], pair[1], VOLUME)));
    }
    Graph { machines, ties }
}

/// The volumes that each machine uses, by what names them the same to everybody: their array.
pub(super) fn volumes(present: &Joined) -> BTreeMap<&VmId, BTreeSet<&str>> {
    let mut volumes: BTreeMap<&VmId, BTreeSet<&str>> = BTreeMap::new();
    for record in present.records.iter().filter(|record| is_use(record)) {
        volumes.entry(&record.vm).or_default().insert(&record.target);
    }
    volumes
}

/// Whether an array says that a machine read or wrote.
fn is_use(record: &Record) -> bool {
    let is_use = matches!(&*record.operation, "read" | "write" | "read or write");
    record.source == ARRAY && record.count > 0 && is_use
}

/// Volumes that several machines use, but not most of the fleet, by what names them the same to
/// everybody: their array.
#[expect(clippy::cast_precision_loss, reason = "machines are few")]
pub(super) fn shared_volumes<'a>(
    present: &'a Joined,
    context: &Context<'_>,
) -> BTreeMap<&'a str, BTreeSet<&'a VmId>> {
    let mut users: BTreeMap<&str, BTreeSet<&VmId>> = BTreeMap::new();
    for record in present.records.iter().filter(|record| is_use(record)) {
        users.entry(&record.target).or_default().insert(&record.vm);
    }
    let most = present.machines.len() as f64 * context.policy.shared_infrastructure_share;
    users.retain(|_, users| users.len() > 1 && (users.len() < FEW || users.len() as f64 <= most));
    users
}

/// Who says what an array counted.
const ARRAY: &str = "array";
/// With fewer users than this a volume is no infrastructure, however small the fleet.
const FEW: usize = 5;

/// The operator's rules as wishes; machines that are not there wish nothing.
fn wishes(machines: &[&VmId], context: &Context<'_>) -> Wishes {
    let rules = context.groups;
    let number = |vm: &VmId| machines.binary_search(&vm).ok();
    let numbers = |set: &BTreeSet<VmId>| set.iter().filter_map(number).collect::<Vec<_>>();
    let mut wishes = Wishes::default();
    for set in rules.joined() {
        wishes.together.extend(numbers(set).windows(2).map(|pair| (pair[0], pair[1])));
    }
    let firsts: BTreeSet<VmId> = rules
        .named
        .values()
        .filter_map(|set| set.iter().find(|vm| number(vm).is_some()))
        .cloned()
        .collect();
    for set in rules.apart.iter().chain([&firsts]) {
        let set = numbers(set);
        for (at, one) in set.iter().enumerate() {
            wishes.apart.extend(set[at + 1..].iter().map(|other| (*one, *other)));
        }
    }
    wishes
}

/// The groups that are worth telling of, by label.
fn told(
    graph: &Graph<'_>,
    labels: &[usize],
    present: &Joined,
    context: &Context<'_>,
) -> BTreeMap<usize, Group> {
    let count = numbered(labels).iter().max().map_or(0, |most| most + 1);
    let (mut inside, mut around) = (vec![0.0; count], vec![0.0; count]);
    let mut at_machine = vec![0.0; labels.len()];
    for &(one, other, weight) in &graph.ties {
        around[labels[one]] += weight;
        around[labels[other]] += weight;
        at_machine[one] += weight;
        at_machine[other] += weight;
        if labels[one] == labels[other] {
            inside[labels[one]] += 2.0 * weight;
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (machine, label) in labels.iter().enumerate() {
        members.entry(*label).or_default().push(machine);
    }
    let said = Said::of(context.groups);
    let mut groups = BTreeMap::new();
    for (label, members) in members {
        let machines: BTreeSet<VmId> =
            members.iter().map(|machine| graph.machines[*machine].clone()).collect();
        let pinned = machines.iter().find_map(|vm| said.names.get(vm).copied());
        if machines.len() < 2 && pinned.is_none() {
            continue;
        }
        let busiest = members
            .iter()
            .max_by(|a, b| at_machine[**a].total_cmp(&at_machine[**b]).then(b.cmp(a)));
        let busiest = busiest.and_then(|at| present.machines.get(graph.machines[*at]));
        let name = pinned.or_else(|| busiest.map(|machine| machine.name.as_str()));
        let cohesion = (around[label] > 0.0).then(|| inside[label] / around[label]);
        let group = Group {
            id: 0,
            name: name.unwrap_or_default().to_owned(),
            reason: reason(&machines, cohesion, &said),
            machines,
            applications: BTreeSet::new(),
            cohesion,
            pinned: pinned.is_some(),
        };
        groups.insert(label, group);
    }
    groups
}

/// What the operator said of single machines.
struct Said<'a> {
    names: BTreeMap<&'a VmId, &'a str>,
    merged: BTreeSet<&'a VmId>,
    split: BTreeSet<&'a VmId>,
}

impl<'a> Said<'a> {
    fn of(rules: &'a GroupRules) -> Self {
        let named = rules.named.iter();
        let names = named.flat_map(|(name, set)| set.iter().map(move |vm| (vm, name.as_str())));
        Self {
            names: names.collect(),
            merged: rules.together.iter().flatten().collect(),
            split: rules.apart.iter().flatten().collect(),
        }
    }
}

fn reason(machines: &BTreeSet<VmId>, cohesion: Option<f64>, said: &Said<'_>) -> String {
    let mut parts = vec![match cohesion {
        Some(share) => format!("{:.0} % of their calls stay within", share * 100.0),
        None => "they do not call each other".to_owned(),
    }];
    if machines.iter().any(|vm| said.names.contains_key(vm)) {
        parts.push("the operator named it".to_owned());
    }
    if machines.iter().filter(|vm| said.merged.contains(vm)).count() > 1 {
        parts.push("the operator merged some of it".to_owned());
    }
    if machines.iter().any(|vm| said.split.contains(vm)) {
        parts.push("the operator split it from others".to_owned());
    }
    parts.join("; ")
}

/// Gives the ends of edges within a group to it.
fn take_applications(groups: &mut BTreeMap<usize, Group>, held: &[Held<'_>]) {
    let each =
        groups.iter().flat_map(|(label, group)| group.machines.iter().map(|vm| (vm, *label)));
    let homes: HashMap<VmId, usize> = each.map(|(vm, label)| (vm.clone(), label)).collect();
    let mut taken = HashSet::new();
    for edge in held.iter().filter(|edge| !edge.infrastructure) {
        let Some((client, server)) = edge.key.client.vm().zip(edge.key.server.vm()) else {
            continue;
        };
        let home =
            homes.get(client).filter(|home| client != server && homes.get(server) == Some(*home));
        let Some(group) = home.and_then(|home| groups.get_mut(home)) else { continue };
        for party in [&edge.key.client, &edge.key.server] {
            let end = party.vm().zip(party.application()).filter(|end| taken.insert(*end));
            group.applications.extend(end.map(|(vm, name)| (vm.clone(), name.clone())));
        }
    }
}

/// Gives every group the id of its former self, or a new one; says which comes next.
fn number(groups: &mut [Group], former: &Findings) -> u64 {
    let members = |group: &Group| group.machines.iter().cloned().collect::<Vec<_>>();
    let then: Vec<_> = former.groups.iter().map(members).collect();
    let now: Vec<_> = groups.iter().map(members).collect();
    let most = former.groups.iter().map(|group| group.id + 1).max().unwrap_or(1);
    let mut next = former.next_group.max(most);
    for (group, heir) in groups.iter_mut().zip(inherited(&then, &now, SAME)) {
        match heir.and_then(|at| former.groups.get(at)) {
            Some(known) => group.id = known.id,
            None => {
                group.id = next;
                next += 1;
            }
        }
    }
    groups.sort_by_key(|group| group.id);
    next
}

#[cfg(test)]
mod tests;
