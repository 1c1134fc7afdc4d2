//! Promises that hold for packings of any size, shape and seed.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

fn packings(items: Range<usize>, bins: Range<usize>) -> impl Strategy<Value = Packing> {
    let shapes = (proptest::num::u64::ANY, items, bins, 1..5_usize, proptest::bool::ANY);
    shapes.prop_map(|(seed, items, bins, dims, tied)| {
        super::any(seed, &Sizes { items, bins, dims, tied })
    })
}

fn tried(packing: &Packing) -> Found {
    exact::solve_or_search(packing, &Limits::steps(2_000, 1)).expect("what is there is a packing")
}

/// The same problem, with its items and its bins given from another one on.
fn turned(packing: &Packing, first_item: usize, first_bin: usize) -> Packing {
    let bins = packing.bins();
    let turn = |bin: usize| (bin + bins - first_bin) % bins;
    let tie = |tie: &Tie| match tie.to {
        End::Bin(bin) => Tie { to: End::Bin(turn(bin)), ..*tie },
        End::Item(_) => *tie,
    };
    let items = packing.items.iter().map(|item| Item {
        home: item.home.map(turn),
        ties: item.ties.iter().map(tie).collect(),
        ..item.clone()
    });
    let mut items: Vec<Item> = items.collect();
    items.rotate_left(first_item);
    let mut boxes = packing.bins.clone();
    boxes.rotate_left(first_bin);
    Packing::new(packing.dims, items, boxes, packing.hosts.clone(), packing.reach.clone())
}

/// The same problem once an assignment is carried out.
fn carried_out(packing: &Packing, assignment: &[usize]) -> Packing {
    let items = packing.items.iter().zip(assignment);
    let items = items.map(|(item, bin)| Item { home: Some(*bin), ..item.clone() });
    Packing::new(
        packing.dims,
        items.collect(),
        packing.bins.clone(),
        packing.hosts.clone(),
        packing.reach.clone(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_promise_is_broken_and_no_heuristic_is_better(packing in packings(1..40, 1..12)) {
        let found = tried(&packing);
        prop_assert_eq!(wrong(&packing, &found.assignment), None);
        prop_assert!((found.cost - packing.cost(&found.assignment)).abs() < 1e-9);
        prop_assert!(found.bound <= found.cost);
        prop_assert!(found.cost <= packing.cost(&packing.as_it_is().unwrap()) + SAME_COST);
        for heuristic in Heuristic::ALL {
            let Some(made) = construct(&packing, heuristic) else { continue };
            prop_assert!(found.cost <= packing.cost(&made) + SAME_COST, "{:?}", heuristic);
        }
    }

    #[test]
    fn the_same_seed_finds_the_same_whatever_the_problem(packing in packings(1..40, 1..12)) {
        prop_assert_eq!(tried(&packing), tried(&packing.clone()));
    }

    #[test]
    fn there_is_room_at_each_step_of_the_way(packing in packings(1..40, 1..12)) {
        let from = packing.as_it_is().unwrap();
        let order = order(&packing, &from, &tried(&packing).assignment);
        prop_assert_eq!(walked(&packing, &from, &order), order.reached);
    }

    #[test]
    fn the_best_costs_the_same_in_whatever_order_it_is_asked_for(
        packing in packings(1..5, 1..6),
        (item, bin) in (0..20_usize, 0..30_usize),
    ) {
        let turned = turned(&packing, item % packing.items(), bin % packing.bins());
        prop_assert!((tried(&packing).cost - tried(&turned).cost).abs() < 1e-6);
    }

    #[test]
    fn nothing_moves_again_once_the_best_is_carried_out(packing in packings(1..5, 1..6)) {
        let best = tried(&packing).assignment;
        let after = carried_out(&packing, &best);
        prop_assert_eq!(tried(&after).assignment, best);
    }
}
