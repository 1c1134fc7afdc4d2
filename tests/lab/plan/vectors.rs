//! Vector packing: machines of the recorded days as items, four quarters of the day or four
//! resources as dimensions, identical bins.

use std::time::Instant;

use algorithms::packing::{
    Bin, Item, Packing, Random, bound,
    construct::{Heuristic, construct},
    search::{Limits, search},
};

use super::traces::{Day, SAMPLES, quantile};
use crate::figure::{Failure, Row, Target};

/// A bin, in wholes of a machine: about as many of them as the figures of the peers had.
const BIN: f64 = 3.75;
/// What amounts are counted in.
const UNIT: f64 = 1e4;
/// Steps of search for each item.
const STEPS_EACH: u64 = 20_000;

/// Where the dimensions come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Four resources, which have nothing to do with each other.
    Resources,
    /// The quarters of the day.
    Quarters,
    /// Four resources in 24 buckets each.
    Hours,
}

impl Shape {
    const fn name(self) -> &'static str {
        match self {
            Self::Resources => "4 resources",
            Self::Quarters => "4 quarters of a day",
            Self::Hours => "4 resources x 24 buckets",
        }
    }

    /// Cuts a day's use into parts and takes what 95 % of each lies below.
    fn demand(self, day: &Day, chance: &mut Random) -> Vec<f64> {
        let (resources, buckets) = match self {
            Self::Resources => (4, 1),
            Self::Quarters => (1, 4),
            Self::Hours => (4, 24),
        };
        let mut demand = Vec::new();
        for _ in 0..resources {
            let use_of = &day.use_of[chance.below(day.use_of.len())];
            let parts = use_of.chunks(SAMPLES / buckets);
            demand.extend(parts.map(|part| quantile(part, 0.95) * UNIT));
        }
        demand
    }
}

/// Items of a shape drawn from the days, and bins to hold them.
pub(super) fn problem(days: &[Day], shape: Shape, items: usize, bins: usize) -> Packing {
    let mut chance = Random::new(7);
    let made = (0..items).map(|_| {
        let day = &days[chance.below(days.len())];
        Item { demand: shape.demand(day, &mut chance), ..Item::default() }
    });
    let made: Vec<Item> = made.collect();
    let dims = made.first().map_or(0, |item| item.demand.len());
    let bin =
        Bin { capacity: vec![BIN * UNIT; dims], fixed_cost: 1.0, accepts: true, ..Bin::default() };
    Packing::new(dims, made, vec![bin; bins], Vec::new(), Vec::new())
}

/// How one problem is packed by each heuristic and by ours, beside the bound.
pub(super) fn compared(days: &[Day], shape: Shape, items: usize) -> Result<Vec<Row>, Failure> {
    // An application beside others, as a fleet of a thousand machines would have them.
    let bins = if matches!(shape, Shape::Hours) { items / 5 } else { items };
    let packing = problem(days, shape, items, bins);
    let least = bound::bins(&packing) as f64;
    let named = |what: &str| format!("{items} items, {}: {what}", shape.name());
    let bound = "bound";
    let mut rows = Vec::new();
    for heuristic in Heuristic::ALL {
        let begun = Instant::now();
        let made = construct(&packing, heuristic).ok_or("a heuristic found no place")?;
        let took = begun.elapsed().as_secs_f64();
        rows.push(
            Row::new(named(name(heuristic)), packing.cost(&made), "bins").beside(bound, least),
        );
        rows.push(Row::new(named(&format!("{}, time", name(heuristic))), took, "s"));
    }
    let (goal, seconds) = if items <= 500 {
        (Target::AtMost(least + 1.0), 1.0)
    } else {
        (Target::AtMostOfPeer(1.02), 10.0)
    };
    let begun = Instant::now();
    let steps = STEPS_EACH * items as u64;
    let go_on = || begun.elapsed().as_secs_f64() < seconds * 0.9;
    let limits = Limits { steps, seed: 1, go_on: Some(&go_on), progress: None };
    let found = search(&packing, &limits).ok_or("the search found no place")?;
    let took = begun.elapsed().as_secs_f64();
    let ours = Row::new(named("ours"), found.cost, "bins").beside(bound, least);
    let is_told = !matches!(shape, Shape::Hours);
    rows.push(if is_told { ours.held_to(goal) } else { ours });
    rows.push(Row::new(named("ours, time"), took, "s").held_to(Target::AtMost(seconds)));
    Ok(rows)
}

const fn name(heuristic: Heuristic) -> &'static str {
    match heuristic {
        Heuristic::FirstFit => "first-fit decreasing",
        Heuristic::BestFit => "best-fit decreasing",
        Heuristic::DotProduct => "dot product",
        Heuristic::Norm => "L2",
    }
}

/// How the time grows with the size, with as many steps for each item.
pub(super) fn growth(days: &[Day], sizes: &[usize]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for size in sizes.iter().copied() {
        let packing = problem(days, Shape::Resources, size, size / 8 + 8);
        let begun = Instant::now();
        let steps = 2_000 * size as u64;
        let found = search(&packing, &Limits::steps(steps, 1)).ok_or("no place was found")?;
        let took = begun.elapsed().as_secs_f64();
        rows.push(
            Row::new(format!("{size} items, 2,000 steps each: ours"), found.cost, "bins")
                .beside("bound", found.bound),
        );
        rows.push(Row::new(format!("{size} items, 2,000 steps each: time"), took, "s"));
        if let Some((items, seconds)) = before {
            let exponent = (took / seconds).ln() / (size as f64 / items).ln();
            rows.push(Row::new(format!("growth exponent up to {size} items"), exponent, "-"));
        }
        // One that reaches the bound at once ends there, and says nothing of steps.
        before = (found.cost > found.bound).then_some((size as f64, took));
    }
    Ok(rows)
}
