//! A fleet that is not there: planning on it shows what a change would bring before it is made.

use std::collections::BTreeSet;

use common::id::VmId;

use super::{Planned, Restraint, Situation, plan};
use crate::inference::{EdgeKey, Party};

/// How a fleet differs from the one that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supposition {
    /// Machines that are not there.
    pub without: BTreeSet<VmId>,
    /// Machines that shall be emptied, whatever that gains.
    pub drained: BTreeSet<VmId>,
}

/// Plans for the fleet as it would be.
#[must_use]
pub fn plan_supposed(situation: &Situation<'_>, supposition: &Supposition) -> Planned {
    let Supposition { without, drained } = supposition;
    let is_there = |party: &Party| match party {
        Party::Machine { vm, .. } => !without.contains(vm),
        Party::External { .. } => true,
    };
    let mut findings = situation.findings.clone();
    findings.machines.retain(|vm, _| !without.contains(vm));
    let meets = |key: &EdgeKey| is_there(&key.client) && is_there(&key.server);
    findings.edges.retain(|(key, _)| meets(key));
    let mut inventory = situation.inventory.clone();
    inventory.machines.retain(|vm, _| !without.contains(vm));
    let restraint = Restraint { drained: drained.clone(), ..situation.restraint.clone() };
    plan(&Situation {
        findings: &findings,
        inventory: &inventory,
        restraint: &restraint,
        ..*situation
    })
}
