//! Periods found in trains of events, by how they are spoilt, at one false alarm in a hundred; how far
//! they are off, and what finding them costs. The seeds are none that the method was made on.

#[path = "periods/generator.rs"]
mod generator;

use std::time::Instant;

use algorithms::period::{Period, Train, of_train};

use self::generator::{Spoilt, aperiodic, periodic};
use super::peers::rita;
use crate::figure::{Row, Target};

/// Trains of each row.
const TRAINS: u64 = 1000;
/// Trains without a period that the level of one in a hundred is told by.
const NEGATIVES: u64 = 5000;
/// Seeds from here on were never looked at while the method was made.
const FIRST_SEED: u64 = 1_000_000;
/// Seconds that times are rounded down to.
const ROUNDED: [f64; 2] = [0.0, 5.0];

/// How trains are spoilt, and which share of them is to be found.
const SPOILT: [(f64, f64, f64, Option<f64>); 8] = [
    (0.0, 0.0, 0.0, Some(0.95)),
    (0.05, 0.1, 0.2, Some(0.95)),
    (0.1, 0.1, 0.2, Some(0.95)),
    (0.2, 0.0, 0.0, Some(0.95)),
    (0.2, 0.1, 0.2, Some(0.95)),
    (0.05, 0.3, 0.5, Some(0.76)),
    (0.1, 0.3, 0.5, None),
    (0.2, 0.3, 0.5, None),
];

/// What was found of the trains of one way of spoiling.
#[derive(Debug, Default)]
struct Found {
    ours: u64,
    peers: u64,
    in_interval: u64,
    /// How far the period is off, of those whose jitter does not add up: of the others the train itself
    /// has another mean than the period it was made from.
    off: Vec<f64>,
}

/// All rows.
pub(super) fn measure() -> Vec<Row> {
    let mut rows: Vec<Row> = ROUNDED.into_iter().flat_map(of_rounding).collect();
    rows.extend(cost());
    rows
}

fn of_rounding(quantised: f64) -> Vec<Row> {
    let what = if quantised > 0.0 {
        format!("periods, times rounded to {quantised} s")
    } else {
        "periods".to_owned()
    };
    let negatives: Vec<Vec<f64>> =
        (FIRST_SEED..FIRST_SEED + NEGATIVES).map(|seed| aperiodic(seed, quantised)).collect();
    let ours = |times: &[f64]| -found(times, quantised).map_or(1.0, |told| told.false_alarm);
    let level = level(&negatives, ours);
    let peers_level = self::level(&negatives, rita::score);
    let alarms = negatives.iter().filter(|times| ours(times) >= -0.01).count();
    let share = |count: u64, of: u64| count as f64 / of.max(1) as f64;
    let mut rows = vec![
        Row::new(
            format!("{what}: false alarms at 1 % as told"),
            alarms as f64 / NEGATIVES as f64,
            "share",
        )
        .held_to(Target::AtMost(0.01)),
    ];
    for (jitter, lost, noise, target) in SPOILT {
        let spoilt = Spoilt { jitter, lost, noise, quantised };
        let found = of_spoilt(&spoilt, level, peers_level);
        let what = format!("{what}, jitter {jitter}, lost {lost}, noise {noise}");
        let row = Row::new(format!("{what}: found"), share(found.ours, TRAINS), "share")
            .beside("RITA's timing score", share(found.peers, TRAINS));
        rows.push(target.map_or(row.clone(), |target| row.held_to(Target::AtLeast(target))));
        let off = found.off.get(found.off.len() / 2).copied().unwrap_or(f64::NAN);
        let row = Row::new(format!("{what}: off, median"), off * 100.0, "%");
        rows.push(target.map_or(row.clone(), |_| row.held_to(Target::AtMost(2.0))));
        let inside = share(found.in_interval, found.ours);
        rows.push(Row::new(format!("{what}: within the 95 % interval"), inside, "share"));
    }
    rows
}

fn of_spoilt(spoilt: &Spoilt, level: f64, peers_level: f64) -> Found {
    let mut all = Found::default();
    for seed in 2 * FIRST_SEED..2 * FIRST_SEED + TRAINS {
        let (times, truth) = periodic(seed, spoilt);
        all.peers += u64::from(rita::score(&times) > peers_level);
        let told = found(&times, spoilt.quantised);
        let Some(told) = told.filter(|told| -told.false_alarm > level) else { continue };
        all.ours += 1;
        let interval = told.interval;
        all.in_interval += u64::from(interval.lower <= truth && truth <= interval.upper);
        if !generator::adds_up(seed) {
            all.off.push((told.seconds / truth - 1.0).abs());
        }
    }
    all.off.sort_by(f64::total_cmp);
    all
}

fn found(times: &[f64], resolution: f64) -> Option<Period> {
    of_train(&Train { times, resolution }, 1.0)
}

/// The score that one train in a hundred without a period passes; the larger the more regular.
fn level(negatives: &[Vec<f64>], score: impl Fn(&[f64]) -> f64) -> f64 {
    let mut scores: Vec<f64> = negatives.iter().map(|times| score(times)).collect();
    scores.sort_by(|one, other| other.total_cmp(one));
    scores.get(scores.len() / 100).copied().unwrap_or(f64::INFINITY)
}

/// Time for each train, of those without a period and of those with one.
fn cost() -> Vec<Row> {
    let spoilt = Spoilt { jitter: 0.05, lost: 0.1, noise: 0.2, quantised: 0.0 };
    let seeds = FIRST_SEED..FIRST_SEED + TRAINS;
    let without: Vec<Vec<f64>> = seeds.clone().map(|seed| aperiodic(seed, 0.0)).collect();
    let with: Vec<Vec<f64>> = seeds.map(|seed| periodic(seed, &spoilt).0).collect();
    let row = |(name, trains): (&str, Vec<Vec<f64>>)| {
        let begun = Instant::now();
        let told = trains
            .iter()
            .filter(|times| of_train(&Train { times, resolution: 1.0 }, 0.001).is_some());
        let told = told.count();
        let each = begun.elapsed().as_secs_f64() * 1000.0 / TRAINS as f64;
        Row::new(format!("periods: each train {name} one, {told} of {TRAINS} told"), each, "ms")
            .held_to(Target::AtMost(1.0))
    };
    [("without", without), ("with", with)].map(row).into()
}
