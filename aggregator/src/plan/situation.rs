//! All that planning goes by, and when a plan may begin in it.

use std::collections::{BTreeMap, BTreeSet};

use common::{clock::Timestamp, id::VmId};

use super::Plan;
use crate::{
    catalogue::Catalogue,
    hypervisor::Inventory,
    inference::Findings,
    policy::{Policy, Scope},
};

/// All that planning goes by.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The time.
    pub now: Timestamp,
    /// What the windows say.
    pub findings: &'a Findings,
    /// What is there.
    pub inventory: &'a Inventory,
    /// The applications.
    pub catalogue: &'a Catalogue,
    /// The thresholds.
    pub policy: &'a Policy,
    /// Machines the operator left out.
    pub scope: &'a Scope,
    /// Machines that a plan under way touches.
    pub busy: &'a BTreeSet<VmId>,
    /// What else keeps machines from being changed.
    pub restraint: &'a Restraint,
}

/// What keeps machines from being changed besides what was set and what is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restraint {
    /// Machines that the aggregator itself runs on.
    pub own: BTreeSet<VmId>,
    /// Plans that began on a machine within the last 24 hours.
    pub begun_on: BTreeMap<VmId, u64>,
    /// Plans that began within the last 24 hours.
    pub begun: u64,
    /// Machines that shall be emptied whatever that gains; nothing comes to them.
    pub drained: BTreeSet<VmId>,
}

impl Restraint {
    /// For a fleet that nothing was changed in and that the aggregator is no part of.
    pub const NONE: &'static Self = &Self {
        own: BTreeSet::new(),
        begun_on: BTreeMap::new(),
        begun: 0,
        drained: BTreeSet::new(),
    };

    /// Takes note of a plan that begins on these machines.
    pub fn note<'v>(&mut self, machines: impl IntoIterator<Item = &'v VmId>) {
        self.begun += 1;
        for vm in machines {
            *self.begun_on.entry(vm.clone()).or_default() += 1;
        }
    }

    /// Whether the day's budget lets one more plan begin on these machines.
    ///
    /// # Errors
    ///
    /// The budget that is spent, for people.
    pub fn allows<'v>(
        &self,
        machines: impl IntoIterator<Item = &'v VmId>,
        policy: &Policy,
    ) -> Result<(), String> {
        if self.begun >= policy.changes_per_day {
            return Err(format!(
                "{} plans began within 24 hours, and no more may (policy, changes_per_day)",
                self.begun
            ));
        }
        let most = policy.changes_per_machine_per_day;
        let spent = |vm: &&VmId| self.begun_on.get(*vm).is_some_and(|begun| *begun >= most);
        match machines.into_iter().find(spent) {
            Some(vm) => Err(format!(
                "{most} plans began on {vm} within 24 hours, and no more may (policy, \
                 changes_per_machine_per_day)"
            )),
            None => Ok(()),
        }
    }
}

/// Whether an approved plan may begin now.
///
/// # Errors
///
/// What it waits for, for people.
pub fn may_begin(plan: &Plan, situation: &Situation<'_>) -> Result<(), String> {
    let machines = || plan.changes.keys();
    let standing = |vm: &VmId| situation.findings.machines.get(vm);
    let group = |vm: &VmId| standing(vm).and_then(|standing| standing.group.clone());
    if let Some(vm) = machines().find(|vm| situation.busy.contains(*vm)) {
        return Err(format!("a plan under way touches {vm}"));
    }
    let at_work: BTreeSet<VmId> = situation.busy.iter().filter_map(&group).collect();
    if machines().filter_map(group).any(|group| at_work.contains(&group)) {
        return Err("waits for another plan in the same group".to_owned());
    }
    if let Some(vm) = machines().find(|vm| situation.restraint.own.contains(*vm)) {
        return Err(format!("the aggregator itself runs on {vm}"));
    }
    situation.restraint.allows(machines(), situation.policy)?;
    let mut labels: Vec<&BTreeSet<String>> = Vec::new();
    for vm in machines() {
        // What is not seen may bear any label.
        let machine = situation.inventory.machines.get(vm);
        let machine = machine.ok_or_else(|| format!("{vm} is not in the inventory now"))?;
        labels.push(&machine.labels);
    }
    situation.policy.may_begin(&labels, situation.now)
}
