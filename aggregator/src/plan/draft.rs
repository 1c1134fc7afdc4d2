//! A change that is right by itself, before it is held against the others.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};

use super::{Goal, MachineChange, Move};
use crate::hypervisor::Allocation;

/// A change that is right by itself.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) goal: Goal,
    /// The machine that is cloned: the one that carries another mix, or is given less, then.
    pub(super) source: VmId,
    /// What the clone is given.
    pub(super) allocation: Allocation,
    pub(super) summary: String,
    /// In cost units.
    pub(super) gain: f64,
    /// Gain per interruption of a live machine or application, over all the changes that only
    /// together are worth it.
    pub(super) worth: f64,
    /// What must be done before.
    pub(super) after: Option<String>,
    pub(super) moves: Vec<Move>,
    pub(super) changes: BTreeMap<VmId, MachineChange>,
    /// The groups of the machines it changes.
    pub(super) groups: BTreeSet<VmId>,
    pub(super) foretold: Vec<Foretold>,
}

/// CPU and memory of one machine at peak.
#[derive(Debug, Clone)]
pub(super) struct Foretold {
    pub(super) vm: VmId,
    pub(super) before: (Millicores, Bytes),
    pub(super) after: (Millicores, Bytes),
}
