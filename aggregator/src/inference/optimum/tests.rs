//! The laws of utility, over kinds of operations made by chance.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
/// Any share of failures is feasible.
const ANY: f64 = 1.0;

/// So many successes and failures of equally many bytes each.
fn kind(succeeded: u64, failed: u64, size: u64) -> Kind {
    let work = work(succeeded + failed, (succeeded + failed) * size);
    Kind { succeeded, failed, bytes: succeeded * size, work }
}

/// The utility of one kind beside another one.
fn utility(one: Kind, beside: Kind, cost: Cost) -> f64 {
    let all = one.work + beside.work;
    let cost = cost.memory + cost.cpu * share(one.work, all);
    told(("write", None), &one, HOUR, cost.max(LEAST_COST)).0.utility
}

fn any_cost() -> impl Strategy<Value = Cost> {
    (0.0..8.0_f64, 0.0..8.0_f64).prop_map(|(cpu, memory)| Cost { cpu, memory })
}

prop_compose! {
    fn any_kind()(succeeded in 0..1_000_000_u64, failed in 0..10_000_u64, log in 0..21_u32) -> Kind {
        kind(succeeded, failed, (1 << log) - 1)
    }
}

/// Ten digits are enough: the law is of numbers, not of how they are rounded.
fn at_least(one: f64, other: f64) -> bool {
    one >= other * (1.0 - 1e-10)
}

proptest! {
    #[test]
    fn more_successes_never_lower_it_and_errors_never_raise_it(
        (succeeded, failed) in (0..1_000_000_u64, 0..10_000_u64),
        (more, log) in (1..1_000_u64, 0..21_u32),
        beside in any_kind(),
        cost in any_cost(),
    ) {
        let size = (1 << log) - 1;
        let at = utility(kind(succeeded, failed, size), beside, cost);
        prop_assert!(at_least(utility(kind(succeeded + more, failed, size), beside, cost), at));
        prop_assert!(at_least(at, utility(kind(succeeded, failed + more, size), beside, cost)));
    }

    #[test]
    fn less_resource_never_lowers_it(
        one in any_kind(),
        beside in any_kind(),
        cost in any_cost(),
        (cpu, memory) in (0.0..=1.0_f64, 0.0..=1.0_f64),
    ) {
        let less = Cost { cpu: cost.cpu * cpu, memory: cost.memory * memory };
        prop_assert!(at_least(utility(one, beside, less), utility(one, beside, cost)));
    }

    #[test]
    fn all_kinds_together_bear_the_cpu_once(kinds in prop::collection::vec(any_kind(), 1..12)) {
        let all: f64 = kinds.iter().map(|kind| kind.work).sum();
        let shares: f64 = kinds.iter().map(|kind| share(kind.work, all)).sum();
        prop_assert!((shares - 1.0).abs() < 1e-9 || all <= 0.0, "{shares}");
    }

    #[test]
    fn the_best_is_feasible_and_none_that_is_feasible_is_better(
        kinds in prop::collection::vec(any_kind(), 1..12),
        cost in any_cost(),
        most_failed in 0.0..0.1_f64,
    ) {
        let names: Vec<String> = (0..kinds.len()).map(|at| format!("kind {at}")).collect();
        let all: Kinds<'_> =
            names.iter().zip(&kinds).map(|(name, kind)| ((name.as_str(), None), *kind)).collect();
        let work: f64 = kinds.iter().map(|kind| kind.work).sum();
        let found = best(&all, HOUR, cost, most_failed);
        for kind in &kinds {
            let cost = cost.memory + cost.cpu * share(kind.work, work);
            let (other, most) = told(("", None), kind, HOUR, cost.max(LEAST_COST));
            if most <= most_failed && kind.succeeded > 0 {
                let found = found.as_ref().unwrap();
                prop_assert!(found.utility >= other.utility);
            }
        }
    }
}

#[test]
fn of_kinds_as_frequent_and_as_sure_the_one_that_moves_less_is_better() {
    let kinds: Kinds<'_> = [
        (("read", Some(12)), kind(10_000, 0, 4_096)),
        (("read", Some(20)), kind(10_000, 0, 1 << 20)),
    ]
    .into();
    let cost = Cost { cpu: 0.5, memory: 0.1 };
    let found = best(&kinds, HOUR, cost, ANY).unwrap();
    assert_eq!(found.size_class, Some(12));
    assert!(found.cost < 0.1 + 0.5 / 100.0, "{found:?}");
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
    let most_failed =
        |succeeded, failed| told(("write", None), &kind(succeeded, failed, 0), HOUR, 1.0).1;
    assert!(most_failed(10, 0) > 0.2, "{}", most_failed(10, 0));
    assert!(most_failed(1_000, 0) < 0.01);
    assert!(most_failed(1_000, 30) > 0.03);
}
