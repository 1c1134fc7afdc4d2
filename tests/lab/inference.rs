//! `sinter-lab inference`: what folding in, inferring and planning one window costs, for fleets of 100
//! machines and more with five applications and twenty edges each; and how that grows.

#[path = "inference/memory.rs"]
mod memory;

use std::time::Instant;

use aggregator::{
    history::{History, Limits},
    plan::{Limits as Search, Situation, plan_within},
    policy::{Policy, Scope},
};

use self::memory::resident;
use crate::{
    figure::{Failure, Row, Target, sizes},
    fleet::{Fleet, Shape, found::of_history, joined::window},
};

/// Machines of the fleets.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const APPLICATIONS: usize = 4;
const EDGES: usize = 20;
/// Windows that are folded in before the one that is timed.
const WINDOWS: u64 = 3;
/// Steps of search: as many at every size, so that it is the model that is timed and not the search.
const STEPS: u64 = 200_000;

/// What one size took.
#[derive(Debug, Clone, Copy)]
struct Took {
    edges: f64,
    take: f64,
    infer: f64,
    plan: f64,
    /// Bytes resident for what the windows left behind.
    history: f64,
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
        let took = of_size(machines)?;
        let row =
            |what: &str, value, unit| Row::new(format!("{machines} machines: {what}"), value, unit);
        let whole = row("folded in and inferred", took.take + took.infer, "s");
        rows.push(row("edges", took.edges, "-"));
        rows.push(match machines {
            10_000 => whole.held_to(Target::AtMost(2.0)),
            100_000 => whole.held_to(Target::AtMost(30.0)),
            _ => whole,
        });
        rows.push(row("of it folded in", took.take, "s"));
        rows.push(row("planned", took.plan, "s"));
        let each = row("remembered, resident per edge", took.history / took.edges, "B");
        // What a process needs anyhow outweighs the edges of a small fleet.
        rows.push(if machines >= 1_000 { each.held_to(Target::AtMost(2048.0)) } else { each });
        taken.push((machines, took));
    }
    rows.extend(growth(&taken));
    Ok(rows)
}

fn of_size(machines: usize) -> Result<Took, Failure> {
    let fleet = Fleet::of(Shape::plain(machines, APPLICATIONS, EDGES));
    let policy = Policy::default();
    let (catalogue, inventory) = (fleet.catalogue(), fleet.inventory());
    let mut history = History::new(Limits::of(&policy));
    let mut remembered = 0.0;
    for number in 0..WINDOWS {
        let made = window(&fleet, number);
        let before = resident()?;
        history.take(&made);
        remembered += (resident()? - before).max(0.0);
    }
    let windows = [window(&fleet, WINDOWS)];
    let begun = Instant::now();
    history.take(&windows[0]);
    let take = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let findings = of_history(&windows, &history, (&catalogue, &policy));
    let infer = begun.elapsed().as_secs_f64();
    let (scope, busy) = (Scope::default(), std::collections::BTreeSet::new());
    let situation = Situation {
        now: windows[0].to,
        findings: &findings,
        inventory: &inventory,
        catalogue: &catalogue,
        policy: &policy,
        scope: &scope,
        busy: &busy,
    };
    let begun = Instant::now();
    drop(plan_within(&situation, &Search::steps(STEPS, 1)));
    let plan = begun.elapsed().as_secs_f64();
    let edges = windows[0].edges.len() as f64;
    Ok(Took { edges, take, infer, plan, history: remembered })
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
