//! `sinter-lab inference`: what folding in, inferring and planning one window costs, for fleets of 100
//! machines and more with five applications and twenty edges each; and how that grows.

#[path = "inference/memory.rs"]
pub(crate) mod memory;

use std::{collections::BTreeSet, time::Instant};

use aggregator::{
    history::{History, Limits},
    inference::Findings,
    join::Joined,
    plan::{Limits as Search, Restraint, Situation, plan_within},
    policy::{Policy, Scope},
};

use self::memory::{highest, resident};
use crate::{
    figure::{Failure, Row, Target, sizes},
    fleet::{Fleet, Shape, found::of_history, joined::window},
};

/// Machines of the fleets.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Besides what tells the watch how the machine is: five with it.
pub const APPLICATIONS: usize = 4;
/// Edges for each machine.
pub const EDGES: usize = 20;
/// Windows that are folded in before the one that is timed.
pub const WINDOWS: u64 = 3;
/// Windows before it of a fleet that is known for long: all that dependencies look at, and more than all
/// hours of a day.
const LONG: u64 = 300;
/// Machines that a fleet known for long has at most: a day of a larger one takes hours to make.
const LONG_AT_MOST: usize = 1_000;
/// Steps of search: as many at every size, so that it is the model that is timed and not the search.
const STEPS: u64 = 200_000;

/// What one size took.
#[derive(Debug, Clone)]
pub struct Took {
    /// Edges of the window.
    pub edges: f64,
    /// Seconds for folding it in.
    pub take: f64,
    /// Seconds for inferring.
    pub infer: f64,
    /// Seconds for planning.
    pub plan: f64,
    /// Bytes resident for what the windows left behind, applications and machines among it.
    pub history: f64,
    /// Bytes of it that are the edges' own, their keys left out.
    pub rings: f64,
    /// Bytes resident at most while the window was thought about, besides what was there before.
    pub thought: f64,
    /// What was found.
    pub findings: Findings,
}

/// Takes the figure.
///
/// # Errors
///
/// If a size is no number, or the kernel does not say what memory is resident.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut taken: Vec<(usize, Took)> = Vec::new();
    for machines in sizes(&SIZES)? {
        let mut took = of_size(machines, WINDOWS)?;
        rows.extend(rows_of(machines, &took));
        took.findings = Findings::default();
        taken.push((machines, took));
        if (LONG_AT_MOST / 2..=LONG_AT_MOST).contains(&machines) {
            let long = of_size(machines, LONG)?;
            let row = |what: &str, value, unit| {
                Row::new(format!("{machines} machines, {LONG} windows: {what}"), value, unit)
            };
            rows.push(row("folded in and inferred", long.take + long.infer, "s"));
            rows.push(row("of it folded in", long.take, "s"));
            let each = row("remembered, rings of an edge", long.rings / long.edges, "B");
            rows.push(each.held_to(Target::AtMost(2048.0)));
        }
    }
    rows.extend(growth(&taken));
    Ok(rows)
}

fn rows_of(machines: usize, took: &Took) -> Vec<Row> {
    let row =
        |what: &str, value, unit| Row::new(format!("{machines} machines: {what}"), value, unit);
    let whole = row("folded in and inferred", took.take + took.infer, "s");
    let each = row("remembered, resident per edge", took.history / took.edges, "B");
    vec![
        row("edges", took.edges, "-"),
        match machines {
            10_000 => whole.held_to(Target::AtMost(2.0)),
            100_000 => whole.held_to(Target::AtMost(30.0)),
            _ => whole,
        },
        row("of it folded in", took.take, "s"),
        row("planned", took.plan, "s"),
        // What a process needs anyhow outweighs the edges of a small fleet.
        if machines >= 1_000 { each.held_to(Target::AtMost(2048.0)) } else { each },
        row("resident besides while it is thought about", took.thought / took.edges, "B per edge"),
    ]
}

/// Folds in and infers a window of a fleet of that size, after so many before it.
///
/// # Errors
///
/// If the kernel does not say what memory is resident.
pub fn of_size(machines: usize, windows: u64) -> Result<Took, Failure> {
    let fleet = Fleet::of(Shape::plain(machines, APPLICATIONS, EDGES));
    let policy = Policy::default();
    let mut history = History::new(Limits::of(&policy));
    let mut remembered = 0.0;
    for number in 0..windows {
        let made = window(&fleet, number);
        let before = resident()?;
        history.take(&made);
        remembered += (resident()? - before).max(0.0);
    }
    let present = [window(&fleet, windows)];
    let before = resident()?;
    let begun = Instant::now();
    history.take(&present[0]);
    let take = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let findings = of_history(&present, &history, (&fleet.catalogue(), &policy));
    let infer = begun.elapsed().as_secs_f64();
    let thought = (highest()? - before).max(0.0);
    let plan = planned(&fleet, &present[0], &findings, &policy);
    let edges = present[0].edges.len() as f64;
    let rings = history.edges().map(|(_, edge)| edge.room() as f64).sum();
    Ok(Took { edges, take, infer, plan, history: remembered, rings, thought, findings })
}

/// Seconds that planning takes.
fn planned(fleet: &Fleet, present: &Joined, findings: &Findings, policy: &Policy) -> f64 {
    let (catalogue, inventory) = (fleet.catalogue(), fleet.inventory());
    let (scope, busy) = (Scope::default(), BTreeSet::new());
    let situation = Situation {
        now: present.to,
        findings,
        inventory: &inventory,
        catalogue: &catalogue,
        policy,
        scope: &scope,
        busy: &busy,
        restraint: Restraint::NONE,
    };
    let begun = Instant::now();
    drop(plan_within(&situation, &Search::steps(STEPS, 1)));
    begun.elapsed().as_secs_f64()
}

/// By which power of the machines the time grows, between the least and the largest size that is
/// timed well enough.
fn growth(taken: &[(usize, Took)]) -> Vec<Row> {
    let timed = || taken.iter().filter(|(machines, _)| *machines >= 1_000);
    let Some(((few, least), (many, most))) = timed().next().zip(timed().next_back()) else {
        return Vec::new();
    };
    if few == many {
        return Vec::new();
    }
    let sizes = (*many as f64 / *few as f64).ln();
    let of = |what: fn(&Took) -> f64| (what(most) / what(least)).ln() / sizes;
    vec![
        Row::new(
            "growth of folding in and inferring",
            of(|took| took.take + took.infer),
            "exponent",
        )
        .held_to(Target::AtMost(1.1)),
        Row::new("growth of planning", of(|took| took.plan), "exponent"),
    ]
}
