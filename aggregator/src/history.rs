//! What windows leave behind: rings of several resolutions per edge, demand by hour of the day and
//! operations per application, both sides' figures per machine. Folded in one pass, in memory that
//! does not grow with time.
//!
//! ```text
//!             ┌─> edges         counts per window, hour and day; moments of the last connections
//!  Joined ────┼─> applications  demand by hour of the day, use per window, operations per day
//!             └─> machines      time watched per window, hour and day; by how much both sides differ
//! ```
//!
//! A slot that nobody watched is told apart from one in which nothing happened: each machine has
//! rings of the time it was watched, and an edge was watched where one of its ends was. So an edge
//! that is quiet costs nothing per window, and its noughts are still known.
//!
//! A window that comes late goes into the slots of its time. The same window twice changes nothing,
//! and so does one that is older than all that are remembered one by one.

mod application;
mod corrections;
mod demand;
mod edge;
mod fold;
mod machine;
mod moments;
mod parts;
mod recurring;
mod sleepers;
mod slots;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, time::Duration};

use common::{
    clock::Timestamp,
    id::{AppName, VmId, WindowId},
    units::Bytes,
};
use serde::{Deserialize, Serialize};

pub use self::{
    application::{ApplicationHistory, OperationCounts, OperationKey, UseSlot, WeekOfOperations},
    corrections::{Compared, Correction, Corrections, Resource, Written},
    demand::{DayDemand, HourDemand},
    edge::{Counts, EdgeHistory},
    machine::{Differences, HourUse, MachineHistory, Sides},
    parts::Part,
    slots::{DAYS, HOURS, Resolution, WINDOWS},
};
use self::{
    edge::EdgeRings,
    slots::{Slots, Span},
};
use crate::{
    join::{EdgeKey, Joined},
    policy::Policy,
};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Length of a window, and so of the finest slots.
    pub window: Duration,
    /// What no window showed for so long is forgotten; of edges what tells months is kept longer.
    pub cycle: Duration,
    /// Edges that are remembered at most.
    pub edges: usize,
}

/// Edges that are remembered at most: at 2 KiB each they take 8 GiB, and a fleet of 100,000 machines
/// has half as many.
const EDGES_AT_MOST: usize = 4_000_000;

impl Limits {
    /// What the policy says.
    #[must_use]
    pub const fn of(policy: &Policy) -> Self {
        Self { window: policy.window(), cycle: policy.cycle(), edges: EDGES_AT_MOST }
    }
}

/// A window that was folded in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    /// Its id.
    pub window: WindowId,
    /// When it opened.
    pub from: Timestamp,
    /// When it closed.
    pub to: Timestamp,
    /// Machines whose agents reported, or should have.
    pub agents: usize,
    /// Share of the samples due that came, over all agents; `None` without any.
    pub coverage: Option<f64>,
}

/// What is remembered of a machine or application that ran out of memory; it never goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFloor {
    /// What it had when that was too little: what a machine was given, what an application used.
    pub memory: Bytes,
    /// When the window closed in which that was seen.
    pub at: Timestamp,
    /// That window.
    pub window: WindowId,
}

/// What was left out for want of room or time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Windows older than all that are remembered one by one.
    pub late_windows: u64,
    /// Times an edge was seen that found no room any more.
    pub edges: u64,
}

/// What all windows taken in left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    limits: Limits,
    /// The last windows, by when they opened.
    windows: BTreeMap<Timestamp, Folded>,
    edges: BTreeMap<EdgeKey, EdgeRings>,
    applications: BTreeMap<(VmId, AppName), ApplicationHistory>,
    machines: BTreeMap<VmId, MachineHistory>,
    floors: BTreeMap<(VmId, Option<AppName>), MemoryFloor>,
    #[serde(default)]
    corrections: Corrections,
    /// When what was not seen for a cycle was last forgotten.
    swept_at: Timestamp,
    left_out: LeftOut,
}

impl History {
    /// With nothing in it.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            windows: BTreeMap::new(),
            edges: BTreeMap::new(),
            applications: BTreeMap::new(),
            machines: BTreeMap::new(),
            floors: BTreeMap::new(),
            corrections: Corrections::default(),
            swept_at: Timestamp::from_millis(0),
            left_out: LeftOut { late_windows: 0, edges: 0 },
        }
    }

    /// Changes the limits. Slots of another length cannot hold the windows held so far: the rings of
    /// windows begin anew, those of hours and days go on.
    pub fn set_limits(&mut self, limits: Limits) {
        if limits.window != self.limits.window {
            self.edges.values_mut().for_each(EdgeRings::forget_windows);
            self.applications.values_mut().for_each(ApplicationHistory::forget_windows);
            self.machines.values_mut().for_each(MachineHistory::forget_windows);
        }
        self.limits = limits;
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes a window in, once. One that is known, or older than all that are remembered one by one
    /// while there are [`WINDOWS`] of them, changes nothing.
    pub fn take(&mut self, joined: &Joined) {
        if self.windows.contains_key(&joined.from) {
            return;
        }
        let oldest = self.windows.keys().next().copied();
        if self.windows.len() >= WINDOWS && oldest.is_some_and(|oldest| joined.from < oldest) {
            self.left_out.late_windows += 1;
            return;
        }
        let span = Span {
            from: joined.from,
            to: joined.to,
            sampled_every: joined.sampled_every,
            slots: self.slots(joined.from),
        };
        for (vm, machine) in &joined.machines {
            self.machines.entry(vm.clone()).or_default().take(machine, &span);
            self.take_floors(vm, machine, joined);
        }
        self.take_applications(joined, &span);
        self.take_edges(joined, &span);
        self.windows.insert(joined.from, folded(joined));
        while self.windows.len() > WINDOWS {
            self.windows.pop_first();
        }
        self.forget_the_unseen();
    }

    /// The windows folded in of late, oldest first, [`WINDOWS`] at most.
    pub fn windows(&self) -> impl DoubleEndedIterator<Item = &Folded> {
        self.windows.values()
    }

    /// What is remembered of an edge.
    #[must_use]
    pub fn edge(&self, key: &EdgeKey) -> Option<EdgeHistory<'_>> {
        self.edges.get_key_value(key).map(|(key, rings)| self.edge_history(key, rings))
    }

    /// What is remembered of all edges, by key.
    pub fn edges(&self) -> impl Iterator<Item = (&EdgeKey, EdgeHistory<'_>)> {
        self.edges.iter().map(|(key, rings)| (key, self.edge_history(key, rings)))
    }

    /// What is remembered of each of the edges, which are in the order of their keys: they are walked
    /// beside those that are remembered, not looked up one by one.
    pub fn edges_of<'a, 'k>(
        &'a self,
        keys: impl IntoIterator<Item = &'k EdgeKey>,
    ) -> Vec<Option<EdgeHistory<'a>>> {
        let mut known = self.edges.iter().peekable();
        let of = |wanted: &EdgeKey| {
            while known.next_if(|(key, _)| *key < wanted).is_some() {}
            let (key, rings) = known.next_if(|(key, _)| *key == wanted)?;
            Some(self.edge_history(key, rings))
        };
        keys.into_iter().map(of).collect()
    }

    /// What is remembered of an application on a machine.
    #[must_use]
    pub fn application(&self, vm: &VmId, name: &AppName) -> Option<&ApplicationHistory> {
        self.applications.get(&(vm.clone(), name.clone()))
    }

    /// What is remembered of all applications, by machine and name.
    pub fn applications(&self) -> impl Iterator<Item = (&VmId, &AppName, &ApplicationHistory)> {
        self.applications.iter().map(|((vm, name), known)| (vm, name, known))
    }

    /// What is remembered of a machine.
    #[must_use]
    pub fn machine(&self, vm: &VmId) -> Option<&MachineHistory> {
        self.machines.get(vm)
    }

    /// What is remembered of all machines, by id.
    pub fn machines(&self) -> impl Iterator<Item = (&VmId, &MachineHistory)> {
        self.machines.iter()
    }

    /// The memory that was too little: of the application on that machine, or with `None` of the
    /// machine as a whole. It is kept for good, even after all else about it is forgotten.
    #[must_use]
    pub fn memory_floor(&self, vm: &VmId, name: Option<&AppName>) -> Option<&MemoryFloor> {
        self.floors.get(&(vm.clone(), name.cloned()))
    }

    /// All memory floors, by machine and application.
    pub fn memory_floors(&self) -> impl Iterator<Item = (&VmId, Option<&AppName>, &MemoryFloor)> {
        self.floors.iter().map(|((vm, name), floor)| (vm, name.as_ref(), floor))
    }

    /// What found no room or came too late, since the beginning.
    #[must_use]
    pub const fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn slots(&self, from: Timestamp) -> Slots {
        Slots::of(from, self.limits.window)
    }

    fn edge_history<'a>(&'a self, key: &'a EdgeKey, rings: &'a EdgeRings) -> EdgeHistory<'a> {
        EdgeHistory::new(rings, key, &self.machines, self.limits.window)
    }

    fn take_floors(&mut self, vm: &VmId, machine: &crate::join::JoinedMachine, joined: &Joined) {
        if machine.out_of_memory.is_none_or(|times| times == 0) {
            return;
        }
        let used = machine.applications.iter();
        let used = used.map(|(name, used)| (Some(name.clone()), used.memory_peak));
        let given = machine.allocation.memory.map(|memory| (None, memory));
        for (name, memory) in used.chain(given) {
            let floor = MemoryFloor { memory, at: joined.to, window: joined.window.clone() };
            let known = self.floors.entry((vm.clone(), name)).or_insert_with(|| floor.clone());
            // The largest that was too little; of equals the first.
            if (memory, std::cmp::Reverse(joined.to)) > (known.memory, std::cmp::Reverse(known.at))
            {
                *known = floor;
            }
        }
    }

    /// Once per hour is enough: nothing is forgotten at the hour.
    fn forget_the_unseen(&mut self) {
        let Some(now) = self.windows.values().next_back().map(|window| window.to) else { return };
        if now.since(self.swept_at) < SWEEP_PERIOD {
            return;
        }
        self.swept_at = now;
        let cycle = self.limits.cycle;
        let is_held = |last_seen: Timestamp| now.since(last_seen) <= cycle;
        self.put_to_sleep(now);
        self.applications.retain(|_, known| is_held(known.last_seen()));
        self.machines.retain(|_, known| is_held(known.last_seen()));
    }
}

/// How often what was not seen for a cycle is forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(3_600);

fn folded(joined: &Joined) -> Folded {
    let agents = || joined.machines.values().filter(|machine| machine.has_agent);
    let count = agents().count();
    #[expect(clippy::cast_precision_loss, reason = "machines are few")]
    let coverage = agents().map(|machine| machine.coverage).sum::<f64>() / count as f64;
    Folded {
        window: joined.window.clone(),
        from: joined.from,
        to: joined.to,
        agents: count,
        coverage: (count > 0).then_some(coverage),
    }
}
