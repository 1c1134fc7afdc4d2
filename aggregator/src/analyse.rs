//! Analyses recorded rows without a fleet: window by window through history, inference and planner,
//! as the service would, and nothing is acted upon.
//!
//! ```text
//!  folder or file ─> reader ─> Joined, one at a time ─> history ─┐
//!                                          └─> the last few ─────┴─> infer ─> plan ─> Analysis ─> page
//! ```
//!
//! What a recording does not hold and the planner needs is assumed, and each assumption is told. What
//! comes from a recording is not trusted: lines, machines and edges are bounded, and a bad line is
//! named and left out.

mod bitbrains;
mod computing_hosts;
mod exported;
mod hours;
mod lines;
pub mod page;
mod planetlab;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use common::id::VmId;
use serde::Serialize;

use self::hours::Hours;
pub use self::read::{AnalyseError, BadLine, Format, MemoryAssumed};
use crate::{
    grouping::GroupRules,
    hypervisor::Inventory,
    inference::Findings,
    join::Joined,
    past::{Past, Rules},
    plan::{Planned, Restraint, Situation, plan},
    policy::{Policy, Scope},
};

/// How a recording is read and analysed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its format; `None` to be told by its looks.
    pub format: Option<Format>,
    /// The thresholds.
    pub policy: Policy,
    /// The memory of machines of which the recording tells none; `None` to leave it unknown.
    pub memory: Option<MemoryAssumed>,
}

/// What it took, and how much of it there was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Windows read.
    pub windows: usize,
    /// Machines in the last window.
    pub machines: usize,
    /// Applications in the last window.
    pub applications: usize,
    /// Edges told.
    pub edges: usize,
    /// Seconds of reading and folding in.
    pub read_seconds: f64,
    /// Seconds of inferring.
    pub infer_seconds: f64,
    /// Seconds of planning.
    pub plan_seconds: f64,
}

/// All that came out of a recording.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// Where it was read from.
    pub source: String,
    /// What it was read as.
    pub format: Format,
    /// What the recording does not hold and was assumed.
    pub assumed: Vec<String>,
    /// What the windows say.
    pub findings: Findings,
    /// What could be changed.
    pub planned: Planned,
    /// CPU of each machine by hour of the day.
    pub hours: BTreeMap<VmId, Hours>,
    /// What it took.
    pub figures: Figures,
    /// Lines that could not be read, the first of them.
    pub bad: Vec<BadLine>,
    /// How many there were.
    pub bad_lines: u64,
}

/// Reads a folder or file and analyses it.
///
/// # Errors
///
/// See [`AnalyseError`].
pub fn analyse(path: &Path, wanted: &Wanted) -> Result<Analysis, AnalyseError> {
    let begun = Instant::now();
    let mut fold = Fold { past: Past::new(&wanted.policy), hours: BTreeMap::new() };
    let recording = read::read(path, wanted, &mut |window| fold.take(window))?;
    let read_seconds = begun.elapsed().as_secs_f64();
    if fold.past.windows() == 0 {
        return Err(AnalyseError::Empty {
            path: path.to_owned(),
            format: recording.format,
            bad: recording.bad,
        });
    }
    let begun = Instant::now();
    let (scope, busy) = (Scope::default(), BTreeSet::new());
    let policy = fold.past.timed(&wanted.policy);
    let rules = Rules {
        policy: &policy,
        catalogue: &recording.catalogue,
        scope: &scope,
        groups: &GroupRules::default(),
    };
    let findings = fold.past.infer(&rules, &Findings::default());
    let infer_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let planned = plan(&Situation {
        now: findings.closed_at,
        findings: &findings,
        inventory: &recording.inventory,
        catalogue: &recording.catalogue,
        policy: &policy,
        scope: &scope,
        busy: &busy,
        restraint: Restraint::NONE,
    });
    let figures = Figures {
        windows: fold.past.windows(),
        machines: findings.machines.len(),
        applications: findings.machines.values().map(|standing| standing.needs.len()).sum(),
        edges: findings.edges.len(),
        read_seconds,
        infer_seconds,
        plan_seconds: begun.elapsed().as_secs_f64(),
    };
    Ok(Analysis {
        source: path.display().to_string(),
        format: recording.format,
        assumed: recording.assumed,
        findings,
        planned,
        hours: fold.hours,
        figures,
        bad: recording.bad,
        bad_lines: recording.bad_lines,
    })
}

/// What is left of the windows read so far.
struct Fold {
    past: Past,
    hours: BTreeMap<VmId, Hours>,
}

impl Fold {
    fn take(&mut self, window: Joined) {
        for (vm, machine) in &window.machines {
            let cpu = machine.guest.cpu_mean.max(machine.outside.cpu_mean);
            if let Some(cpu) = cpu {
                self.hours.entry(vm.clone()).or_default().take(window.from, cpu);
            }
        }
        self.past.take(window);
    }
}

/// What a reader gives besides the windows.
#[derive(Debug)]
struct Recording {
    format: Format,
    inventory: Inventory,
    catalogue: crate::catalogue::Catalogue,
    assumed: Vec<String>,
    bad: Vec<BadLine>,
    bad_lines: u64,
}
