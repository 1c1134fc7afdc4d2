//! A fleet as past windows tell of it: what is known once the last of them is closed, and what was
//! there, for those who look at it later or elsewhere.
//!
//! Windows are folded in one by one, oldest first, and only the last few are held; what is older is
//! in the history. Nothing here knows of the present.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::{
    id::HostId,
    units::{Bytes, Millicores},
};
use ipnet::IpNet;

use crate::{
    catalogue::Catalogue,
    grouping::GroupRules,
    history::{History, Limits},
    hypervisor::{Host, Inventory, Machine, Nic, Power, Volume},
    inference::{Context, Findings, infer},
    join::{Joined, JoinedMachine},
    policy::{Policy, Scope},
};

/// Windows that inference looks at one by one; what is older is in the history.
const WINDOWS_HELD: usize = 12;

/// What is left of the windows folded in so far.
#[derive(Debug, Clone)]
pub struct Past {
    policy: Policy,
    history: History,
    held: VecDeque<Joined>,
    windows: usize,
}

impl Past {
    /// Before the first window.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self {
            history: History::new(Limits::of(policy)),
            policy: policy.clone(),
            held: VecDeque::new(),
            windows: 0,
        }
    }

    /// Folds in the next window.
    pub fn take(&mut self, window: Joined) {
        // They are as long as they are, whatever the policy says now.
        if self.windows == 0 {
            let length = window.to.since(window.from);
            self.policy.window_seconds = length.as_secs().max(1);
            self.history = History::new(Limits::of(&self.policy));
        }
        self.history.take(&window);
        self.windows += 1;
        self.held.push_back(window);
        while self.held.len() > WINDOWS_HELD.max(self.policy.windows_needed) {
            self.held.pop_front();
        }
    }

    /// Windows folded in.
    #[must_use]
    pub const fn windows(&self) -> usize {
        self.windows
    }

    /// A policy with windows as long as those folded in were.
    #[must_use]
    pub fn timed(&self, policy: &Policy) -> Policy {
        Policy { window_seconds: self.policy.window_seconds, ..policy.clone() }
    }

    /// The last window.
    #[must_use]
    pub fn last(&self) -> Option<&Joined> {
        self.held.back()
    }

    /// What is known once the last window is closed, with nothing under way. `former` is what was
    /// known before it.
    #[must_use]
    pub fn infer(&self, rules: &Rules<'_>, former: &Findings) -> Findings {
        let Rules { policy, catalogue, scope, groups } = *rules;
        let (cooldowns, busy) = (BTreeMap::new(), BTreeSet::new());
        let (cooldowns, busy, history) = (&cooldowns, &busy, &self.history);
        let held: Vec<&Joined> = self.held.iter().collect();
        infer(
            &held,
            &Context { policy, catalogue, scope, groups, former, cooldowns, busy, history },
        )
    }
}

/// What an operator set, as inference and planning go by it.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The thresholds.
    pub policy: &'a Policy,
    /// The applications.
    pub catalogue: &'a Catalogue,
    /// Machines left out.
    pub scope: &'a Scope,
    /// What is said of business groups.
    pub groups: &'a GroupRules,
}

/// The machines of a window as a hypervisor would list them. Windows do not tell how large hosts
/// are: each is as large as what is given on it.
#[must_use]
pub fn listed(window: &Joined) -> Inventory {
    let mut inventory = Inventory { taken_at: window.to, ..Inventory::default() };
    let known = window
        .machines
        .iter()
        .filter_map(|(vm, machine)| Some((vm, machine, machine.host.clone()?, machine.power?)));
    for (vm, machine, host, power) in known {
        let on = inventory.hosts.entry(host.clone()).or_insert_with(|| empty(&host));
        if power == Power::On {
            let given = machine.allocation;
            on.cpu = Millicores(on.cpu.0.saturating_add(given.cpu.unwrap_or_default().0));
            on.memory = Bytes(on.memory.0.saturating_add(given.memory.unwrap_or_default().0));
        }
        inventory.machines.insert(
            vm.clone(),
            Machine {
                id: vm.clone(),
                name: machine.name.clone(),
                host,
                power,
                allocation: machine.allocation,
                nics: vec![nic(machine)],
                volumes: volumes(machine),
                cloned_from: None,
                plan: None,
                labels: machine.labels.clone(),
            },
        );
    }
    inventory
}

/// The same with what a window does not tell taken from the inventory of another time: how large
/// hosts are, which pools they reach, and which networks machines are plugged into.
#[must_use]
pub fn listed_beside(window: &Joined, other: &Inventory) -> Inventory {
    let mut inventory = listed(window);
    for (id, host) in &mut inventory.hosts {
        if let Some(known) = other.hosts.get(id) {
            host.clone_from(known);
        }
    }
    for (vm, machine) in &mut inventory.machines {
        if let Some(known) = other.machines.get(vm) {
            machine.nics.clone_from(&known.nics);
        }
    }
    inventory
}

fn empty(host: &HostId) -> Host {
    Host {
        id: host.clone(),
        name: host.to_string(),
        addresses: Vec::new(),
        macs: Vec::new(),
        cpu: Millicores(0),
        memory: Bytes(0),
        pools: Vec::new(),
    }
}

fn nic(machine: &JoinedMachine) -> Nic {
    Nic {
        mac: String::new(),
        network: None,
        kind: "recorded".to_owned(),
        addresses: machine.addresses.iter().copied().map(IpNet::from).collect(),
        up: true,
    }
}

fn volumes(machine: &JoinedMachine) -> Vec<Volume> {
    let each = machine.pools.iter().map(|pool| Volume {
        id: pool.clone(),
        pool: pool.clone(),
        capacity: None,
        allocated: None,
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inference::tests::around,
        join::tests::fleet::{demonstration, vm},
    };

    #[test]
    fn past_windows_say_what_they_said_when_they_were_present() {
        let (around, fleet) = (around(), demonstration());
        let windows = fleet.joined(3);
        let mut past = Past::new(&around.policy);
        windows.iter().cloned().for_each(|window| past.take(window));

        let rules = Rules {
            policy: &past.timed(&around.policy),
            catalogue: &around.catalogue,
            scope: &around.scope,
            groups: &around.groups,
        };
        let found = past.infer(&rules, &Findings::default());

        assert_eq!((past.windows(), past.last()), (3, windows.last()));
        assert_eq!(found, around.infer(&windows));
    }

    #[test]
    fn hosts_and_networks_of_another_time_stand_in_for_what_windows_do_not_tell() {
        let fleet = demonstration();
        let windows = fleet.joined(1);
        let mut present = fleet.inventory();
        let gone = present.machines.remove(&vm("report-1")).unwrap();

        let alone = listed(&windows[0]);
        let beside = listed_beside(&windows[0], &present);

        assert_eq!(alone.machines.len(), present.machines.len() + 1);
        assert_eq!(beside.hosts, present.hosts);
        assert_eq!(beside.machines[&vm("api-1")].nics, present.machines[&vm("api-1")].nics);
        let report = &beside.machines[&vm("report-1")];
        assert_eq!((&report.host, report.nics[0].network.as_ref()), (&gone.host, None));
    }
}
