//! The optimum record of an application: of all it did over the cycle, that which gave most for what
//! it cost, among what went well enough to be built on.
//!
//! ```text
//!  utility = W x (successes / length of the cycle) / cost of what it used
//! ```
//!
//! W is the lower Wilson bound of the share that succeeded (Wilson, JASA 1927), so that few
//! operations prove little. Feasible is what fails no more often than a trial allows, by the upper
//! bound, on a machine that did not run out of memory. Operations of which nobody saw how they went
//! count as neither, but work they were.
//!
//! What an application used is its kinds' by what they need: its memory is there for each of them, so
//! each bears it whole; its CPU is spent by turns, so each bears its share of the work. An operation is
//! work by itself and by the bytes it moves. So a kind that is frequent spreads the memory over more
//! successes, and one that moves little gives more for the CPU.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use algorithms::interval::of_share;
use common::{
    id::{AppName, VmId},
    units::Bytes,
};
use serde::{Deserialize, Serialize};

use super::{Context, Need};
use crate::{history::WeekOfOperations, join::Outcome};

/// Less than this, in cost units, is no cost but the noise of the figures it comes of.
const LEAST_COST: f64 = 1e-6;
/// What the operations of a history are summed over.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A GiB.
const GIB: u64 = 1 << 30;
/// Bytes whose moving is as much work as the operation itself: a page, which every layer below moves
/// whole.
const PAGE: f64 = 4096.0;

/// One kind of operation over the cycle, and how much it gave for what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// What was done, as records say.
    pub operation: String,
    /// `floor(log2(bytes per operation))`; `None` if sizes are not known.
    pub size_class: Option<u32>,
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Bytes of those that succeeded, as far as they are known.
    pub bytes: u64,
    /// Lower bound of the share that succeeds.
    pub certainty: f64,
    /// Successes per second, over the part of the cycle that is held.
    pub per_second: f64,
    /// What it used, in cost units of the policy: the application's memory, and its share of the CPU.
    pub cost: f64,
    /// `certainty * per_second / cost`.
    pub utility: f64,
}

/// What one kind of operation came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Kind {
    succeeded: u64,
    failed: u64,
    /// Bytes of those that succeeded.
    bytes: u64,
    /// All of its operations and bytes, whichever way they went, in operations that move nothing.
    work: f64,
}

/// The kinds of operations, by name and size.
type Kinds<'a> = BTreeMap<(&'a str, Option<u32>), Kind>;

/// What an application used, at the policy's prices.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: f64,
    memory: f64,
}

/// The optimum record of an application; `None` if nothing it did can be built on.
pub(super) fn optimum(
    vm: &VmId,
    name: &AppName,
    need: &Need,
    context: &Context<'_>,
) -> Option<Optimum> {
    let history = context.history.application(vm, name)?;
    let newest = context.history.windows().next_back()?;
    let ran_out_at = context.history.memory_floor(vm, Some(name)).map(|floor| floor.at);
    let is_sound = ran_out_at.is_none_or(|at| newest.to.since(at) > WEEK);
    let week = history.week((newest.from, newest.to));
    if !is_sound || week.over.is_zero() {
        return None;
    }
    let kinds = kinds(&week);
    let most_failed = 1.0 - context.policy.trial_success_minimum;
    best(&kinds, week.over, cost(need, context), most_failed)
}

fn kinds<'a>(week: &WeekOfOperations<'a>) -> Kinds<'a> {
    let mut kinds = Kinds::new();
    for (key, counts) in &week.kinds {
        let kind = kinds.entry((&*key.operation, key.size_class)).or_default();
        kind.work += work(counts.count, counts.bytes);
        match key.outcome {
            Outcome::Ok => (kind.succeeded, kind.bytes) = (counts.count, counts.bytes),
            Outcome::Failed => kind.failed = counts.count,
            Outcome::Unknown => {}
        }
    }
    kinds
}

#[expect(clippy::cast_precision_loss, reason = "counts of a cycle are far below 2^52")]
fn work(count: u64, bytes: u64) -> f64 {
    count as f64 + bytes as f64 / PAGE
}

/// The feasible kind of most utility.
fn best(kinds: &Kinds<'_>, over: Duration, cost: Cost, most_failed: f64) -> Option<Optimum> {
    let all: f64 = kinds.values().map(|kind| kind.work).sum();
    let each = kinds.iter().map(|((operation, size_class), kind)| {
        let cost = cost.memory + cost.cpu * share(kind.work, all);
        told((operation, *size_class), kind, over, cost.max(LEAST_COST))
    });
    let feasible = each.filter(|(_, most)| *most <= most_failed).map(|(optimum, _)| optimum);
    feasible.filter(|optimum| optimum.succeeded > 0).max_by(better)
}

fn share(work: f64, all: f64) -> f64 {
    if all > 0.0 { work / all } else { 0.0 }
}

/// More utility first; of equals the cheaper, then the one whose name comes first.
fn better(one: &Optimum, other: &Optimum) -> Ordering {
    let key = |of: &Optimum| (of.operation.clone(), of.size_class);
    one.utility
        .total_cmp(&other.utility)
        .then_with(|| other.cost.total_cmp(&one.cost))
        .then_with(|| key(other).cmp(&key(one)))
}

/// A kind as an optimum, and the most of it that may fail.
#[expect(clippy::cast_precision_loss, reason = "counts of a cycle are far below 2^52")]
fn told(
    (operation, size_class): (&str, Option<u32>),
    kind: &Kind,
    over: Duration,
    cost: f64,
) -> (Optimum, f64) {
    let (succeeded, failed) = (kind.succeeded as f64, kind.failed as f64);
    let certainty = of_share(succeeded, succeeded + failed).lower;
    let per_second = succeeded / over.as_secs_f64();
    let optimum = Optimum {
        operation: operation.to_owned(),
        size_class,
        succeeded: kind.succeeded,
        failed: kind.failed,
        bytes: kind.bytes,
        certainty,
        per_second,
        cost,
        utility: certainty * per_second / cost,
    };
    (optimum, of_share(failed, succeeded + failed).upper)
}

/// What an application uses, at the policy's prices.
#[expect(clippy::cast_precision_loss, reason = "costs are compared to three digits")]
fn cost(need: &Need, context: &Context<'_>) -> Cost {
    let memory = need.working_set_peak.unwrap_or(need.memory_peak);
    let gib = |bytes: Bytes| bytes.0 as f64 / GIB as f64;
    Cost {
        cpu: need.cpu_mean.0 as f64 / 1000.0 * context.policy.cost_per_core,
        memory: gib(memory) * context.policy.cost_per_gib,
    }
}

#[cfg(test)]
mod tests;
