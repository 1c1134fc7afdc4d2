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
//! count as neither.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use algorithms::interval::of_share;
use common::{
    id::{AppName, VmId},
    units::Bytes,
};
use serde::{Deserialize, Serialize};

use super::{Context, Need};
use crate::{history::OperationCounts, join::Outcome};

/// Less than this, in cost units, is no cost but the noise of the figures it comes of.
const LEAST_COST: f64 = 1e-6;
/// What the operations of a history are summed over.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A GiB.
const GIB: u64 = 1 << 30;

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
    /// What the application used, in cost units of the policy.
    pub cost: f64,
    /// `certainty * per_second / cost`.
    pub utility: f64,
}

/// What one kind of operation came to.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    succeeded: OperationCounts,
    failed: u64,
}

/// The optimum record of an application; `None` if nothing it did can be built on. `over` is how
/// much of the cycle is held.
pub(super) fn optimum(
    vm: &VmId,
    name: &AppName,
    need: &Need,
    over: Duration,
    context: &Context<'_>,
) -> Option<Optimum> {
    let history = context.history.application(vm, name)?;
    let ran_out_at = context.history.memory_floor(vm, Some(name)).map(|floor| floor.at);
    let is_sound = ran_out_at.is_none_or(|at| history.last_seen().since(at) > WEEK);
    // Operations are summed over a week.
    let over = over.min(WEEK);
    if !is_sound || over.is_zero() {
        return None;
    }
    let mut kinds: BTreeMap<(&str, Option<u32>), Kind> = BTreeMap::new();
    for (key, counts) in history.operations_of_week() {
        let kind = kinds.entry((&*key.operation, key.size_class)).or_default();
        match key.outcome {
            Outcome::Ok => kind.succeeded = counts,
            Outcome::Failed => kind.failed = counts.count,
            Outcome::Unknown => {}
        }
    }
    let cost = cost(need, context).max(LEAST_COST);
    let most_failed = 1.0 - context.policy.trial_success_minimum;
    let each = kinds
        .into_iter()
        .map(|((operation, size_class), kind)| told(operation, size_class, kind, over, cost));
    let feasible = each.filter(|(_, most)| *most <= most_failed).map(|(optimum, _)| optimum);
    feasible.filter(|optimum| optimum.succeeded > 0).max_by(better)
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
    operation: &str,
    size_class: Option<u32>,
    kind: Kind,
    over: Duration,
    cost: f64,
) -> (Optimum, f64) {
    let (succeeded, failed) = (kind.succeeded.count as f64, kind.failed as f64);
    let certainty = of_share(succeeded, succeeded + failed).lower;
    let per_second = succeeded / over.as_secs_f64();
    let optimum = Optimum {
        operation: operation.to_owned(),
        size_class,
        succeeded: kind.succeeded.count,
        failed: kind.failed,
        bytes: kind.succeeded.bytes,
        certainty,
        per_second,
        cost,
        utility: certainty * per_second / cost,
    };
    (optimum, of_share(failed, succeeded + failed).upper)
}

/// What an application uses, at the policy's prices.
#[expect(clippy::cast_precision_loss, reason = "costs are compared to three digits")]
fn cost(need: &Need, context: &Context<'_>) -> f64 {
    let memory = need.working_set_peak.unwrap_or(need.memory_peak);
    let gib = |bytes: Bytes| bytes.0 as f64 / GIB as f64;
    need.cpu_mean.0 as f64 / 1000.0 * context.policy.cost_per_core
        + gib(memory) * context.policy.cost_per_gib
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn utility(succeeded: u64, failed: u64, cost: f64) -> f64 {
        let succeeded = OperationCounts { count: succeeded, bytes: 0 };
        told("write", None, Kind { succeeded, failed }, HOUR, cost).0.utility
    }

    #[test]
    fn more_successes_or_less_cost_never_lower_it_and_failures_never_raise_it() {
        for succeeded in [0, 1, 2, 10, 400, 100_000] {
            for failed in [0, 1, 5, 300] {
                let at = utility(succeeded, failed, 0.5);
                assert!(utility(succeeded + 1, failed, 0.5) >= at, "{succeeded} {failed}");
                assert!(utility(succeeded, failed + 1, 0.5) <= at, "{succeeded} {failed}");
                assert!(utility(succeeded, failed, 0.4) >= at, "{succeeded} {failed}");
            }
        }
    }

    #[test]
    fn of_equals_the_cheaper_is_better_and_then_the_first_by_name() {
        let of = |operation: &str, cost, utility| Optimum {
            operation: operation.to_owned(),
            size_class: None,
            succeeded: 1,
            failed: 0,
            bytes: 0,
            certainty: 1.0,
            per_second: 1.0,
            cost,
            utility,
        };
        assert_eq!(better(&of("a", 1.0, 2.0), &of("a", 1.0, 1.0)), Ordering::Greater);
        assert_eq!(better(&of("a", 0.5, 1.0), &of("a", 1.0, 1.0)), Ordering::Greater);
        assert_eq!(better(&of("a", 1.0, 1.0), &of("b", 1.0, 1.0)), Ordering::Greater);
    }

    #[test]
    fn few_operations_prove_little() {
        let most_failed = |succeeded, failed| {
            let succeeded = OperationCounts { count: succeeded, bytes: 0 };
            told("write", None, Kind { succeeded, failed }, HOUR, 1.0).1
        };
        assert!(most_failed(10, 0) > 0.2, "{}", most_failed(10, 0));
        assert!(most_failed(1_000, 0) < 0.01);
        assert!(most_failed(1_000, 30) > 0.03);
    }
}
