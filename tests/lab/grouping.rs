//! `sinter-lab grouping`: who depends on whom, and who belongs together, held against what is true;
//! ours beside methods of others, re-implemented from their published formulae.
//!
//! ```text
//!  flow log of a known fleet ──> infer, NSDMiner, co-occurrence ──> F1
//!  SINTER_DATA/computing-hosts/g21 ──> Leiden on calls, on likeness ──> adjusted Rand index
//! ```

mod flows;
mod hosts;
mod nsdminer;
mod ours;
mod sherlock;

use std::collections::{BTreeMap, BTreeSet};

use self::flows::{Log, Service, Trace};
use crate::figure::{Failure, Row, Target};

/// Seeds that are told of: none that the set-up was looked at with while it was made.
const SEEDS: std::ops::Range<u64> = 201..206;

/// That the first calls the second when it is called.
type Pairs = BTreeSet<(Service, Service)>;

/// Takes the figure.
///
/// # Errors
///
/// If labelled data is there and cannot be read.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let logs: Vec<Log> = SEEDS.map(Log::of).collect();
    let mean = |found: &dyn Fn(&Log) -> Pairs| {
        let sum: f64 = logs.iter().map(|log| f1(&found(log), log)).sum();
        sum / logs.len() as f64
    };
    // Their best threshold on the very logs they are held against: what no operator could know.
    let best = |found: &dyn Fn(&Log, f64) -> Pairs| {
        let thresholds = (1..20).map(|step| f64::from(step) / 20.0);
        thresholds.map(|least| mean(&|log| found(log, least))).fold(0.0, f64::max)
    };
    let ours = mean(&ours::dependencies);
    let what = "dependencies, busy machines, half of the edges pooled: F1";
    let mut rows = vec![
        Row::new(what, ours, "share")
            .beside("NSDMiner", best(&nsdminer::dependencies))
            .held_to(Target::AtLeast(0.95)),
        Row::new(what, ours, "share").beside("co-occurrence", best(&sherlock::dependencies)),
    ];
    rows.extend(by_trace(&logs));
    rows.extend(hosts::measure()?);
    Ok(rows)
}

fn f1(found: &Pairs, log: &Log) -> f64 {
    let right = found.iter().filter(|pair| log.truth.contains_key(*pair)).count();
    let all = found.len() + log.truth.len();
    if all == 0 { 1.0 } else { 2.0 * right as f64 / all as f64 }
}

/// What ours finds and misses, by how it shows, and what it tells wrongly.
fn by_trace(logs: &[Log]) -> Vec<Row> {
    let (mut all, mut right, mut wrong) = (BTreeMap::new(), BTreeMap::new(), 0);
    for log in logs {
        let found = ours::dependencies(log);
        for (pair, trace) in &log.truth {
            *all.entry(*trace).or_insert(0_u32) += 1;
            *right.entry(*trace).or_insert(0_u32) += u32::from(found.contains(pair));
        }
        wrong += found.iter().filter(|pair| !log.truth.contains_key(*pair)).count();
    }
    let share = |(trace, name): (Trace, &str)| {
        let (all, right) = (*all.get(&trace)?, *right.get(&trace)?);
        let what = format!("dependencies, of {all} that show by {name}: found");
        Some(Row::new(what, f64::from(right) / f64::from(all), "share"))
    };
    let mut rows: Vec<Row> = Trace::ALL.into_iter().filter_map(share).collect();
    rows.push(Row::new("dependencies told wrongly", wrong as f64, "-"));
    let untraced: usize = logs.iter().map(|log| log.untraced).sum();
    let what = "dependencies that left no trace, and that no method is held to";
    rows.push(Row::new(what, untraced as f64, "-"));
    rows
}
