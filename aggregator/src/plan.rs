//! Decides everything that acting will need, so that acting chooses nothing.
//!
//! A [`Plan`] is a value with every name, id and list in it. Acting walks down its [`Step`]s; the
//! way back walks up them again. The plan that was approved is the plan that runs: [`Plan::basis`]
//! names all it was made from, and a plan whose basis changed is superseded.

mod basis;
mod buckets;
mod chains;
mod choose;
mod constraints;
mod costs;
mod draft;
mod explain;
mod hosts;
mod limits;
mod model;
mod moves;
mod probes;
mod shrinks;
mod situation;
mod steps;
mod supposed;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use algorithms::packing::Packing;
use common::{
    clock::Timestamp,
    id::{AppName, HostId, NetworkId, PlanId, VmId, WindowId},
    list::ConfigurationList,
    mix::{ApplicationMix, MixHash},
};
use serde::{Deserialize, Serialize};

pub use self::{
    costs::cost,
    limits::{Limits, Progress},
    situation::{Restraint, Situation, may_begin},
    supposed::{Addition, BadSupposition, Supposition, assumed, plan_supposed},
};
use crate::hypervisor::{Allocation, CloneOrder, ProbeOrder};
pub use crate::policy::Scope;

/// One thing to be done outside, decided to the last name. Each may be done twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Copy the candidate to a stopped machine. The ticket is made when the step runs.
    Clone(CloneOrder),
    /// Plug the clone into a network of its own.
    Isolate {
        /// The clone.
        clone: VmId,
        /// Its network.
        network: NetworkId,
    },
    /// Start the clone and wait for its agent.
    Start {
        /// The clone.
        clone: VmId,
    },
    /// Offer a list to a machine's agent and wait until it is applied.
    Apply {
        /// The list forward.
        list: ConfigurationList,
        /// The mix the machine runs once it is undone; a list is written from it then, under
        /// `undo_generation`.
        former: ApplicationMix,
        /// Generation of that list.
        undo_generation: u64,
    },
    /// Put the clone under load and hold what is measured against the thresholds.
    Try {
        /// The clone.
        clone: VmId,
        /// Its network.
        network: NetworkId,
        /// The load.
        probe: ProbeOrder,
    },
    /// Change what a live machine is given.
    Resize {
        /// The machine.
        vm: VmId,
        /// What it is given then.
        to: Allocation,
        /// What it is given now.
        from: Allocation,
    },
    /// Let the clone take the candidate's place.
    Swap {
        /// The candidate.
        source: VmId,
        /// Its clone.
        clone: VmId,
    },
    /// Stop a machine that the plan emptied.
    Retire {
        /// The machine.
        vm: VmId,
    },
    /// Hold the following windows against the baseline.
    Audit,
    /// Remove the clone (or, after a swap, the source's place is the clone's and this is left out).
    RemoveClone {
        /// The clone.
        clone: VmId,
    },
}

/// Which part of a plan's course a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The clone comes to be.
    Assembly,
    /// The clone is tried.
    Trial,
    /// The new mix goes live.
    Promotion,
    /// The new mix is watched.
    Audit,
    /// What is left over goes.
    Completion,
}

/// Why a plan is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Applications move so that a machine can go.
    Consolidate,
    /// A machine is given less.
    Shrink,
}

/// What changes for one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineChange {
    /// Its name.
    pub name: String,
    /// Its mix now.
    pub mix_before: ApplicationMix,
    /// Its mix then.
    pub mix_after: ApplicationMix,
    /// What it is given now: the baseline, never exceeded.
    pub allocation_before: Allocation,
    /// What it is given then.
    pub allocation_after: Allocation,
    /// It is stopped for good.
    pub retired: bool,
}

/// A figure the plan foretells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// What it is a figure of, such as `cpu of api-1, peak`.
    pub name: String,
    /// Its unit, such as `millicores`.
    pub unit: String,
    /// The figure now.
    pub before: f64,
    /// The figure then.
    pub after: f64,
}

/// One line of evidence: a figure, and where it was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was found, as a sentence.
    pub fact: String,
    /// The windows it was found in.
    pub windows: Vec<WindowId>,
    /// The record keys it was found in, as shown by `sinterctl windows`.
    pub records: Vec<String>,
}

/// A new mix for one or more machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// When it was made.
    pub made_at: Timestamp,
    /// The window it was made from.
    pub window: WindowId,
    /// SHA-256 over everything it was made from: mixes, allocations, scope and policy.
    pub basis: MixHash,
    /// Why.
    pub goal: Goal,
    /// In one sentence, for people.
    pub summary: String,
    /// The machine that is cloned: the one that carries the new mix, not the one it is taken from.
    pub source: VmId,
    /// Its clone.
    pub clone: VmId,
    /// Where the clone is.
    pub host: HostId,
    /// The applications that move, from where to where.
    pub moves: Vec<Move>,
    /// What changes, by machine.
    pub changes: BTreeMap<VmId, MachineChange>,
    /// What is to be done, in order.
    pub steps: Vec<Step>,
    /// What is foretold.
    pub effects: Vec<Effect>,
    /// What it was decided from.
    pub evidence: Vec<Evidence>,
    /// What would make it not worth it.
    pub not_if: String,
    /// The rules that bind it, each with where it is written.
    #[serde(default)]
    pub bound_by: Vec<String>,
}

/// An application that goes from one machine to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The application.
    pub application: AppName,
    /// Where it runs.
    pub from: VmId,
    /// Where it shall run.
    pub to: VmId,
}

/// What planning gives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The plans, best first; none is a good answer.
    pub plans: Vec<Plan>,
    /// Why each machine that no plan touches is left alone.
    pub left_alone: BTreeMap<VmId, String>,
    /// The least cost any plan could reach, in cost units of the policy.
    pub lower_bound: f64,
    /// The cost once all plans are carried out.
    pub cost_after: f64,
    /// The cost now.
    pub cost_before: f64,
    /// The cost once the whole target is reached, of which the plans are the first steps.
    #[serde(default)]
    pub cost_of_target: f64,
}

impl Planned {
    /// By how much the target may be dearer than the best one, as a share of the bound; `None`
    /// where nothing costs anything.
    #[must_use]
    pub fn gap(&self) -> Option<f64> {
        gap(self.cost_of_target, self.lower_bound)
    }
}

fn gap(cost: f64, bound: f64) -> Option<f64> {
    (bound > 0.0).then(|| (cost - bound).max(0.0) / bound)
}

impl Step {
    /// Which part of the course it belongs to. `Apply` and `Resize` belong to the assembly while
    /// they touch the plan's clone, and to the promotion when they touch a live machine.
    #[must_use]
    pub fn phase(&self, clone: &VmId) -> Phase {
        match self {
            Self::Clone(_) | Self::Isolate { .. } | Self::Start { .. } => Phase::Assembly,
            Self::Apply { list, .. } if list.vm == *clone => Phase::Assembly,
            Self::Try { .. } => Phase::Trial,
            Self::Apply { .. } | Self::Resize { .. } | Self::Swap { .. } | Self::Retire { .. } => {
                Phase::Promotion
            }
            Self::Audit => Phase::Audit,
            Self::RemoveClone { .. } => Phase::Completion,
        }
    }
}

/// Plans, best first; the same situation gives the same plans.
///
/// The best target for the whole fleet is searched, and of the steps to it those are planned that
/// may run now: one per group of machines that work together, as many as may run at once.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Planned {
    plan_within(situation, &Limits::usual(situation))
}

/// As [`plan`], with limits of the caller's own: one that must be done by a time gives a question
/// whether to go on, one that shows how it goes hears of every better target.
#[must_use]
pub fn plan_within(situation: &Situation<'_>, limits: &Limits<'_>) -> Planned {
    choose::choose(&model::Model::new(situation), limits)
}

/// The search for a target as numbers, and the machine of each bin: to hold other methods against
/// ours.
#[must_use]
pub fn problem(situation: &Situation<'_>) -> (Vec<VmId>, Packing) {
    moves::problem(&model::Model::new(situation))
}

/// What `plan` rests on, as it is in `situation`: a plan whose basis is another than when it was
/// made is superseded.
#[must_use]
pub fn basis(plan: &Plan, situation: &Situation<'_>) -> MixHash {
    basis::of(&plan.changes, situation)
}
