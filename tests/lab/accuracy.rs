//! `sinter-lab accuracy`: how much of what is true is found, by subject; each method a row, ours
//! beside those of others re-implemented from their published formulae.
//!
//! ```text
//!  Fleet ─> samples ─> window ─> join ─> infer ─> held against what the fleet was made from
//!  SINTER_DATA ──────────────────────────────────> held against the labels
//! ```

#[path = "accuracy/edges.rs"]
mod edges;
#[path = "accuracy/liars.rs"]
mod liars;
#[path = "accuracy/peers.rs"]
mod peers;
#[path = "accuracy/periods.rs"]
mod periods;
#[path = "accuracy/predicates.rs"]
mod predicates;
#[path = "accuracy/score.rs"]
pub mod score;

use aggregator::policy::Policy;

use crate::{
    figure::{Failure, Row, sizes},
    fleet::{Fleet, Shape},
    grouping, plan,
};

/// Machines of the fleets that are watched sample by sample.
const SIZES: [usize; 3] = [20, 200, 2_000];

/// Takes the figure.
///
/// # Errors
///
/// If a size is no number, or labelled data is there and cannot be read.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for machines in sizes(&SIZES)? {
        rows.extend(edges::measure(machines));
        rows.extend(predicates::measure(machines));
        rows.extend(liars::measure(machines));
    }
    rows.extend(periods::measure());
    rows.extend(grouping::measure()?);
    rows.extend(plan::quality()?);
    Ok(rows)
}

/// The policy that fleets are watched under: that of every day, with samples 15 s apart.
fn policy() -> Policy {
    Policy { sample_period_ms: 15_000, ..Policy::default() }
}

/// A fleet of few edges for each machine, as they are outside of load tests.
fn fleet(machines: usize, change: impl FnOnce(Shape) -> Shape) -> Fleet {
    Fleet::of(change(Shape::plain(machines, 4, 12)))
}
