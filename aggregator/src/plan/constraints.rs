//! What binds applications to machines besides room. Each refusal names its rule and where that is
//! written, so that whoever wonders knows what to change.
//!
//! The search asks the same questions as the explanations: what may leave ([`Model::leaving`]), what
//! goes together ([`Model::together`]), what may go where ([`Model::bar`]), what may meet
//! ([`Model::kept_apart`]).

use std::collections::BTreeSet;

use common::id::{AppName, HostId, NetworkId, VmId};

use super::model::Model;
use crate::{
    hypervisor::{Machine, Pool},
    inference::{Opportunity, Standing},
};

/// Label of a machine that nothing leaves.
const PINNED: &str = "sinter:pin";
/// Label of a machine that nothing comes to.
const CLOSED: &str = "sinter:closed";

/// What decides where the applications of a machine may go: those that agree in it need not be asked
/// one by one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin<'a> {
    networks: BTreeSet<&'a NetworkId>,
    labels: BTreeSet<&'a str>,
    platform: [Option<&'a str>; 2],
    host: Option<&'a HostId>,
    application: Option<&'a AppName>,
}

/// What decides which applications may come to a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    networks: BTreeSet<&'a NetworkId>,
    labels: BTreeSet<&'a str>,
    platform: [Option<&'a str>; 2],
    host: Option<&'a HostId>,
    machine: Option<&'a VmId>,
}

impl<'a> Model<'a> {
    /// The applications of a machine that may leave it, as far as they and the rules go.
    pub(super) fn leaving(&self, vm: &VmId, standing: &'a Standing) -> Vec<&'a AppName> {
        let Some(mix) = &standing.mix else { return Vec::new() };
        let mix = &mix.applications.0;
        let candidates: Vec<&AppName> =
            leaving(standing).filter(|name| mix.contains_key(*name)).collect();
        let stays = |name: &&AppName| self.stays(vm, standing, name).is_none();
        candidates.into_iter().filter(stays).collect()
    }

    /// Which rule keeps an application on its machine that could leave it otherwise.
    pub(super) fn stays(&self, vm: &VmId, standing: &Standing, name: &AppName) -> Option<String> {
        if self.machine(vm).is_some_and(|machine| machine.labels.contains(PINNED)) {
            return Some(format!("nothing leaves a machine with the label {PINNED}"));
        }
        let mix = standing.mix.as_ref()?;
        let may_leave: BTreeSet<&AppName> = leaving(standing).collect();
        let sets = (1..).zip(&self.situation.policy.keep_together);
        for (number, set) in sets.filter(|(_, set)| set.contains(name)) {
            let there = set.iter().filter(|other| mix.applications.0.contains_key(*other));
            if let Some(other) = there.into_iter().find(|other| !may_leave.contains(*other)) {
                return Some(format!(
                    "it goes only together with {other}, which stays (policy, keep_together, set \
                     {number})"
                ));
            }
        }
        None
    }

    /// Applications that leave a machine, in the sets that go together.
    pub(super) fn together(&self, leaving: &[&'a AppName]) -> Vec<Vec<&'a AppName>> {
        let mut sets: Vec<Vec<&AppName>> = leaving.iter().map(|name| vec![*name]).collect();
        for kept in &self.situation.policy.keep_together {
            let is_kept = |set: &Vec<&AppName>| set.iter().any(|name| kept.contains(*name));
            let (bound, free): (Vec<_>, Vec<_>) = sets.into_iter().partition(is_kept);
            sets = free;
            sets.extend((!bound.is_empty()).then(|| bound.concat()));
        }
        for set in &mut sets {
            set.sort();
        }
        sets.sort();
        sets
    }

    /// Why an application of one machine may not go to another, whatever else is there.
    pub(super) fn bar(&self, name: &AppName, from: &VmId, to: &VmId) -> Option<String> {
        let (Some(home), Some(there)) = (self.machine(from), self.machine(to)) else {
            return Some("the hypervisor does not know it".to_owned());
        };
        if there.labels.contains(CLOSED) {
            return Some(format!("nothing comes to a machine with the label {CLOSED}"));
        }
        if self.is_drained(to) {
            return Some("it is to be emptied itself".to_owned());
        }
        if !self.networks(to).is_superset(&self.networks(from)) {
            return Some("is not on all of its networks".to_owned());
        }
        self.platform_bar(from, to)
            .or_else(|| self.label_bar(name, home, there))
            .or_else(|| self.pin_bar(name, to, there))
            .or_else(|| self.pool_bar(name, home, there))
            .or_else(|| self.host_bar(name, home, there))
    }

    /// Unknown on one side is not the same; unknown on both says nothing against it.
    fn platform_bar(&self, from: &VmId, to: &VmId) -> Option<String> {
        let (home, there) = (self.platform(from), self.platform(to));
        let words = ["operating system", "architecture"];
        let differs =
            words.iter().zip(home.iter().zip(there)).find(|(_, (one, other))| *one != other);
        let shown = |of: Option<&'a str>| of.unwrap_or("unknown");
        differs.map(|(word, (one, other))| {
            format!("its {word} is {}, not {}", shown(other), shown(*one))
        })
    }

    fn label_bar(&self, name: &AppName, home: &Machine, there: &Machine) -> Option<String> {
        let policy = self.situation.policy;
        let kept = |label: &&String| policy.same_labels.iter().any(|p| label.starts_with(p));
        if let Some(label) = home.labels.iter().filter(kept).find(|l| !there.labels.contains(*l)) {
            return Some(format!("does not bear the label {label} (policy, same_labels)"));
        }
        let needed = policy.needs_labels.get(name).into_iter().flatten();
        let missing = needed.into_iter().find(|label| !there.labels.contains(*label));
        missing.map(|label| {
            format!("does not bear the label {label}, which {name} needs (policy, needs_labels)")
        })
    }

    fn pin_bar(&self, name: &AppName, to: &VmId, there: &Machine) -> Option<String> {
        let pins = self.situation.policy.pins.get(name)?;
        let is_named = pins.contains(&there.name) || pins.contains(to.as_str());
        (!is_named).then(|| format!("{name} runs on other machines only (policy, pins)"))
    }

    /// Pools of the same name on two hosts are one if they are as large as each other: local disks
    /// that bear the usual name are not.
    fn pool_bar(&self, name: &AppName, home: &Machine, there: &Machine) -> Option<String> {
        let needed = self.situation.policy.needs_pools.get(name)?;
        if home.host == there.host {
            return None;
        }
        let pools = |machine: &Machine| {
            let host = self.situation.inventory.hosts.get(&machine.host);
            host.map(|host| host.pools.as_slice()).unwrap_or_default()
        };
        let (here, others) = (pools(home), pools(there));
        let same =
            |pool: &Pool, other: &Pool| pool.id == other.id && pool.capacity == other.capacity;
        let is_reached = |id: &str| {
            let mine = here.iter().filter(|pool| pool.id.as_str() == id);
            mine.into_iter().any(|pool| others.iter().any(|other| same(pool, other)))
        };
        let missing = needed.iter().find(|id| !is_reached(id));
        missing.map(|id| {
            format!("its host does not reach pool {id}, which {name} needs (policy, needs_pools)")
        })
    }

    /// While all of a set stay on their hosts, none comes to another's.
    fn host_bar(&self, name: &AppName, home: &Machine, there: &Machine) -> Option<String> {
        let sets = (1..).zip(&self.situation.policy.keep_apart_by_host);
        let mut sets = sets.filter(|(_, set)| set.contains(name));
        let (number, _) = sets.next().filter(|_| home.host != there.host)?;
        Some(format!(
            "{name} stays on its host, for others must not share one with it (policy, \
             keep_apart_by_host, set {number})"
        ))
    }

    /// Why two applications may not meet on a machine.
    pub(super) fn kept_apart(&self, one: &AppName, other: &AppName) -> Option<String> {
        let catalogue = &self.situation.catalogue.0;
        let never = |one: &AppName, other: &AppName| {
            catalogue.get(one).is_some_and(|application| application.never_with.contains(other))
        };
        if never(one, other) || never(other, one) {
            return Some(format!(
                "{one} and {other} never share a machine (catalogue, never_with)"
            ));
        }
        let mut sets = (1..).zip(&self.situation.policy.keep_apart);
        let set = sets.find(|(_, set)| one != other && set.contains(one) && set.contains(other));
        set.map(|(number, _)| {
            format!("{one} and {other} never share a machine (policy, keep_apart, set {number})")
        })
    }

    /// All applications that an application must not meet.
    pub(super) fn shunned(&self, name: &AppName) -> BTreeSet<&'a AppName> {
        let catalogue = &self.situation.catalogue.0;
        let never = catalogue.get(name).into_iter().flat_map(|entry| &entry.never_with);
        let sets = self.situation.policy.keep_apart.iter().filter(|set| set.contains(name));
        never.chain(sets.flatten()).filter(|other| *other != name).collect()
    }

    fn platform(&self, vm: &VmId) -> [Option<&'a str>; 2] {
        let standing = self.standing(vm);
        standing.map_or([None, None], |standing| {
            [standing.operating_system.as_deref(), standing.architecture.as_deref()]
        })
    }

    pub(super) fn origin(&self, vm: &VmId, name: &'a AppName) -> Origin<'a> {
        let policy = self.situation.policy;
        let machine = self.machine(vm);
        let labels = machine.into_iter().flat_map(|machine| &machine.labels);
        let kept = labels.filter(|label| policy.same_labels.iter().any(|p| label.starts_with(p)));
        let has_pools = policy.needs_pools.contains_key(name);
        let is_spread = policy.keep_apart_by_host.iter().any(|set| set.contains(name));
        let is_own = has_pools
            || is_spread
            || policy.pins.contains_key(name)
            || policy.needs_labels.contains_key(name);
        Origin {
            networks: self.networks(vm),
            labels: kept.map(String::as_str).collect(),
            platform: self.platform(vm),
            host: machine.map(|machine| &machine.host).filter(|_| has_pools || is_spread),
            application: is_own.then_some(name),
        }
    }

    pub(super) fn place(&self, vm: &'a VmId, machine: &'a Machine) -> Place<'a> {
        let policy = self.situation.policy;
        let needed: BTreeSet<&String> = policy.needs_labels.values().flatten().collect();
        let counts = |label: &&String| {
            needed.contains(*label)
                || label.as_str() == CLOSED
                || policy.same_labels.iter().any(|prefix| label.starts_with(prefix))
        };
        let by_host = !policy.needs_pools.is_empty() || !policy.keep_apart_by_host.is_empty();
        let pinned_to: BTreeSet<&String> = policy.pins.values().flatten().collect();
        let is_named =
            pinned_to.iter().any(|pin| **pin == machine.name || pin.as_str() == vm.as_str());
        Place {
            networks: self.networks(vm),
            labels: machine.labels.iter().filter(counts).map(String::as_str).collect(),
            platform: self.platform(vm),
            host: by_host.then_some(&machine.host),
            machine: (is_named || self.is_drained(vm)).then_some(vm),
        }
    }
}

fn leaving(standing: &Standing) -> impl Iterator<Item = &AppName> {
    standing.opportunities.iter().filter_map(|opportunity| match opportunity {
        Opportunity::MixDown { application, .. } => Some(application),
        _ => None,
    })
}
