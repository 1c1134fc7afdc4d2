//! Infers from who talks to whom, and how often, what each machine is and needs.
//!
//! ```text
//!  windows held ─┬─> edges ──> dependencies ──> groups ──┐
//!                └─> measured ───────────────────────────┴─> predicates, roles ─> opportunities
//! ```
//!
//! A lie may stop us from acting, it must not make us act: what is taken away must be shown to be
//! unused by both ends and by the hypervisor; one witness is enough to keep it.

mod besides;
mod concert;
mod dependencies;
mod edges;
mod frequency;
mod groups;
mod links;
mod measured;
mod mixes;
mod opportunities;
mod optimum;
mod predicates;
mod rates;
mod roles;
mod shared;
mod standing;
mod trust;
mod witness;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use common::{
    clock::Timestamp,
    id::{AppName, VmId, WindowId},
    mix::EffectiveMix,
    units::{Bytes, Millicores},
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::frequency::{StorageEdge, StorageOperation};
pub use self::{
    dependencies::{Dependency, Follows, FollowsBy},
    groups::Group,
    mixes::{Bounded, ConfigurationMix, Corrected},
    optimum::Optimum,
    roles::{Playing, Role},
    trust::Testimony,
    witness::Backing,
};
pub(crate) use self::{opportunities::free_share, predicates::NEVER_TOUCH};
use self::{
    standing::{Judged, Ties},
    witness::Witnesses,
};
use crate::{
    catalogue::Catalogue,
    grouping::GroupRules,
    history::History,
    hypervisor::Allocation,
    join::Joined,
    policy::{Policy, Scope},
};
pub use crate::{
    join::{EdgeKey, Party},
    regularity::{Estimate, Evidence, Peak, Regularity},
};

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Events per second.
    pub per_second: f64,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// How often, over the last window. An edge that an earlier window held shows and the last one does
/// not is there with a rate of nought and its upper bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// New connections.
    pub connections: Rate,
    /// Requests and answers; `None` where nobody counts, or it was quiet.
    #[serde(default)]
    pub exchanges: Option<Rate>,
    /// Whether its events come in bursts: variance over mean of their counts by window, 1 for chance.
    /// `None` until enough windows are remembered.
    #[serde(default)]
    pub burstiness: Option<Estimate>,
    /// Its busiest windows; `None` until enough are remembered.
    #[serde(default)]
    pub peak: Option<Peak>,
    /// The period it is used in; `None` if there is none, or that is not known.
    #[serde(default)]
    pub period: Option<Regularity>,
    /// The cycle of the calendar that it is busy in, such as the day; `None` likewise.
    #[serde(default)]
    pub calendar: Option<Regularity>,
    /// Share of its new connections that were seen, by which their rate is corrected; `None` if there
    /// were none.
    #[serde(default)]
    pub detected: Option<f64>,
    /// Different connections seen, from either end, each once.
    pub seen: u64,
    /// Connections open on average.
    pub open_mean: f64,
    /// Both ends reported it.
    pub both_ends: bool,
    /// Share of what was due that was seen.
    pub coverage: f64,
    /// The records it was inferred from.
    pub records: Vec<String>,
    /// Whether the other end backs it.
    #[serde(default)]
    pub backing: Backing,
}

/// What one application needs on one machine, over the windows held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// CPU on average; of all applications of a machine together no more than its hypervisor says that the
    /// whole of it used.
    pub cpu_mean: Millicores,
    /// CPU on average as the guest tells it, where that was cut to what the hypervisor says; `None` where
    /// it stands as told.
    #[serde(default)]
    pub cpu_told: Option<Millicores>,
    /// CPU at its peak.
    pub cpu_peak: Millicores,
    /// Resident memory at its peak.
    pub memory_peak: Bytes,
    /// CPU that it stays at or below 95 % of the time; `None` if its agent does not tell.
    #[serde(default)]
    pub cpu_95: Option<Millicores>,
    /// CPU that it stays at or below 99 % of the time; `None` if its agent does not tell.
    #[serde(default)]
    pub cpu_99: Option<Millicores>,
    /// Most memory it worked with, page cache left out; `None` if its agent does not tell.
    #[serde(default)]
    pub working_set_peak: Option<Bytes>,
    /// Bytes written to storage per second; `None` if unknown.
    pub written_per_second: Option<f64>,
    /// How its demand goes over the day; `None` until that is known well enough.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// CPU on average, with its 95 % interval, where nobody accounts it to the application and it was shared
    /// out by what the application did; `None` where it was measured, or cannot be told.
    #[serde(default)]
    pub cpu_shared_out: Option<Bounded>,
}

/// Parts of a day that demand is told of apart.
pub const BUCKETS: usize = 24;

/// Demand over the day, so that peaks at different hours can share a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The demand of each hour, from midnight UTC.
    pub hours: [Demand; BUCKETS],
}

/// What is needed at one time of the day, over all days held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// CPU that it stays at or below 95 % of the time.
    pub cpu: Millicores,
    /// Memory that it stays at or below 99 % of the time.
    pub memory: Bytes,
}

/// A claim and what it rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whether it holds.
    pub holds: bool,
    /// Why, or why not, for people.
    pub reason: String,
}

/// How a machine could be changed for the better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Opportunity {
    /// It can carry more applications.
    MixUp {
        /// Share of CPU free at peak.
        cpu_headroom: f64,
        /// Share of memory free at peak.
        memory_headroom: f64,
    },
    /// It runs an application that could leave it.
    MixDown {
        /// Which.
        application: AppName,
        /// Why.
        reason: String,
    },
    /// It is given more than it needs.
    Shrink {
        /// What would do.
        to: Allocation,
    },
}

/// What the windows say of one machine: separate claims, not one of several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// It has an enrolled agent that reports.
    pub has_agent: bool,
    /// Uses resources of its host.
    pub active: Claim,
    /// Works in concert with others.
    pub participating: Claim,
    /// Guest and hypervisor agree about it.
    pub trusted: Claim,
    /// May be changed; the reason says what keeps it from it.
    pub candidate: Claim,
    /// How it could be changed.
    pub opportunities: Vec<Opportunity>,
    /// Share of the samples due that came.
    pub coverage: f64,
    /// What it is given.
    pub allocation: Allocation,
    /// CPU it uses at peak, by the larger of guest and hypervisor; `None` if unknown.
    pub cpu_peak: Option<Millicores>,
    /// CPU it uses on average; `None` if unknown.
    pub cpu_mean: Option<Millicores>,
    /// Memory it uses at peak; `None` if unknown.
    pub memory_peak: Option<Bytes>,
    /// What it runs; `None` if unknown.
    pub mix: Option<EffectiveMix>,
    /// What each application on it needs, listed or not.
    pub needs: BTreeMap<AppName, Need>,
    /// Ports each application listens on.
    pub listens: BTreeMap<AppName, BTreeSet<u16>>,
    /// Its addresses.
    #[serde(default)]
    pub addresses: BTreeSet<IpAddr>,
    /// The machine with the smallest id of those it works in concert with, itself among them.
    #[serde(default)]
    pub group: Option<VmId>,
    /// The id of its business group; `None` if it has none.
    #[serde(default)]
    pub business_group: Option<u64>,
    /// What each of its applications does.
    #[serde(default)]
    pub roles: BTreeMap<AppName, Vec<Playing>>,
    /// Why each application of its mix stays where it is, if it must.
    #[serde(default)]
    pub stays: BTreeMap<AppName, String>,
    /// What works on it besides its mix, and would end with the machine; `None` if nothing does.
    #[serde(default)]
    pub besides: Option<String>,
    /// What each application needs to run nominally, with how sure that is.
    #[serde(default)]
    pub mixes: BTreeMap<AppName, ConfigurationMix>,
    /// The optimum record of each application that has one.
    #[serde(default)]
    pub optimum: BTreeMap<AppName, Optimum>,
    /// The records its applications were measured in.
    #[serde(default)]
    pub records: BTreeMap<AppName, Vec<String>>,
    /// The records of what the hypervisor counted of it.
    #[serde(default)]
    pub outside_records: Vec<String>,
    /// How far it can be believed, by its peers and its past.
    #[serde(default)]
    pub testimony: Testimony,
    /// The volumes it uses, as their arrays call them.
    #[serde(default)]
    pub volumes: BTreeSet<String>,
    /// The operating system, as it names itself; `None` if unknown.
    #[serde(default)]
    pub operating_system: Option<String>,
    /// The instruction set; `None` if unknown.
    #[serde(default)]
    pub architecture: Option<String>,
}

/// All that is known after a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The window; `None` before the first.
    pub window: Option<WindowId>,
    /// When it closed.
    pub closed_at: Timestamp,
    /// All windows it rests on, oldest first.
    #[serde(default)]
    pub windows: Vec<WindowId>,
    /// The machines.
    pub machines: BTreeMap<VmId, Standing>,
    /// Who talks to whom.
    pub edges: Vec<(EdgeKey, Edge)>,
    /// Which calls depend on which.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// The business groups, by id.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The id that the next new group gets; 0 before the first.
    #[serde(default)]
    pub next_group: u64,
    /// Who reads and writes which volume.
    #[serde(default)]
    pub storage: Vec<StorageEdge>,
    /// Disagreements and oddities a person may like to know.
    pub remarks: Vec<String>,
}

/// What inference goes by besides the windows.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The thresholds.
    pub policy: &'a Policy,
    /// The applications.
    pub catalogue: &'a Catalogue,
    /// Machines the operator left out.
    pub scope: &'a Scope,
    /// What the operator says of groups.
    pub groups: &'a GroupRules,
    /// What the window before said, so that groups keep their ids.
    pub former: &'a Findings,
    /// Until when machines are left alone that a plan touched.
    pub cooldowns: &'a BTreeMap<VmId, Timestamp>,
    /// Machines that a plan under way touches.
    pub busy: &'a BTreeSet<VmId>,
    /// What the windows before left behind, the last one among them.
    pub history: &'a History,
}

/// What the windows held say, oldest first; the last one is the present.
#[must_use]
pub fn infer(recent: &[impl Borrow<Joined>], context: &Context<'_>) -> Findings {
    let recent: Vec<&Joined> = recent.iter().map(Borrow::borrow).collect();
    let Some(present) = recent.last().copied() else { return Findings::default() };
    let mut held = edges::held(&recent, context);
    let machines = measured::measured(&recent, context.policy.windows_needed);
    let witnesses = Witnesses::of(&recent, context);
    let judged: Judged<'_> = machines
        .iter()
        .map(|machine| (machine.vm, trust::trusted(machine, &witnesses, present, context)))
        .collect();
    let doubted = judged.iter().filter(|(_, (_, testimony))| testimony.doubted);
    witnesses.mark(&mut held, &doubted.map(|(vm, _)| *vm).collect());
    let dependencies = dependencies::dependencies(&held, context);
    let (grouping, mut told) =
        groups::groups((&held, &dependencies), present, context.former, context);
    let ties = Ties::of((&held, &grouping), (&recent, present), context);
    let standings = machines.par_iter().map(|machine| {
        let judged = judged.get(machine.vm).cloned().unwrap_or_default();
        (machine.vm.clone(), standing::of(machine, judged, &ties, context))
    });
    let standings: Vec<_> = standings.collect();
    let standings = BTreeMap::from_iter(standings);
    let mut remarks = present.remarks.clone();
    remarks.append(&mut told);
    for standing in standings.values().filter(|standing| standing.has_agent) {
        // Off machines are silent rightly.
        if !standing.trusted.holds && standing.active.holds {
            remarks.push(format!("{} is not trusted: {}", standing.name, standing.trusted.reason));
        }
    }
    remarks.extend(edges::one_sided(&held, present));
    Findings {
        window: Some(present.window.clone()),
        closed_at: present.to,
        windows: recent.iter().map(|joined| joined.window.clone()).collect(),
        machines: standings,
        edges: held.par_iter().map(|edge| (edge.key.clone(), edge.edge(present))).collect(),
        dependencies,
        next_group: grouping.next,
        groups: grouping.groups,
        storage: frequency::storage(present),
        remarks,
    }
}
