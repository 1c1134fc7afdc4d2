//! Packings nobody thought of, held against a checker that shares no line with the search.

mod properties;

use std::cell::{Cell, RefCell};

use super::{
    bound::bound,
    construct::{Heuristic, construct},
    exact,
    order::{Order, order},
    random::Random,
    search::{Found, Limits, Progress, search},
    state::State,
    *,
};

const ENOUGH: u64 = 20_000;

fn found(packing: &Packing) -> Found {
    search(packing, &Limits::steps(ENOUGH, 1)).expect("what is there is a packing")
}

/// What breaks a promise, from nothing but the problem as it was given.
fn wrong(packing: &Packing, assignment: &[usize]) -> Option<String> {
    for bin in 0..packing.bins() {
        let there: Vec<usize> = (0..packing.items()).filter(|i| assignment[*i] == bin).collect();
        let of = &packing.bins[bin];
        for item in &there {
            let item_of = &packing.items[*item];
            if item_of.home != Some(bin) {
                if !of.accepts {
                    return Some(format!("{item} came to {bin}, which takes nothing in"));
                }
                if !packing.reach.is_empty() && !packing.reach[item_of.class][of.class] {
                    return Some(format!("{item} does not reach {bin}"));
                }
            }
            let others = there.iter().filter(|other| *other != item);
            let marks = others.flat_map(|o| &packing.items[*o].holds).chain(&of.holds);
            let marks: Vec<&u32> = marks.collect();
            if item_of.excludes.iter().any(|mark| marks.contains(&mark)) {
                return Some(format!("{item} shares {bin} with what it excludes"));
            }
        }
        for dim in 0..packing.dims {
            let base = of.base.get(dim).copied().unwrap_or(0.0);
            let asked: f64 = there.iter().map(|item| packing.items[*item].demand[dim]).sum();
            if of.accepts && base + asked > of.capacity[dim] {
                return Some(format!("{bin} holds {} of {}", base + asked, of.capacity[dim]));
            }
        }
    }
    for (host, of) in packing.hosts.iter().enumerate() {
        for (dim, most) in of.capacity.iter().enumerate() {
            let bins = (0..packing.bins()).filter(|bin| packing.bins[*bin].host == Some(host));
            let load = bins.map(|bin| {
                let there = (0..packing.items()).filter(|item| assignment[*item] == bin);
                let base = packing.bins[bin].base.get(dim).copied().unwrap_or(0.0);
                base + there.map(|item| packing.items[item].demand[dim]).sum::<f64>()
            });
            let load: f64 = load.sum();
            if load > *most {
                return Some(format!("host {host} carries {load} of {most}"));
            }
        }
    }
    None
}

/// Walks an order stage by stage; while items move they count in both of their bins.
fn walked(packing: &Packing, from: &[usize], order: &Order) -> Assignment {
    let mut now = from.to_vec();
    for stage in &order.stages {
        for dim in 0..packing.dims {
            let to = stage.to;
            let there = (0..packing.items()).filter(|item| now[*item] == to);
            let coming = stage.moves.iter().map(|(item, _)| *item);
            let base = packing.bins[to].base.get(dim).copied().unwrap_or(0.0);
            let load: f64 = there.chain(coming).map(|item| packing.items[item].demand[dim]).sum();
            assert!(base + load <= packing.bins[to].capacity[dim], "no room for both in {to}");
        }
        for (item, was) in &stage.moves {
            assert_eq!(now[*item], *was);
            now[*item] = stage.to;
        }
        assert_eq!(wrong(packing, &now), None, "after {stage:?}");
    }
    now
}

struct Sizes {
    items: usize,
    bins: usize,
    dims: usize,
    tied: bool,
}

/// A problem with a packing in place.
fn any(seed: u64, sizes: &Sizes) -> Packing {
    let mut random = Random::new(seed);
    let Sizes { items, bins, dims, tied } = *sizes;
    let whole = |random: &mut Random, most: usize| random.below(most) as f64;
    let mut made: Vec<Item> = (0..items)
        .map(|_| Item {
            demand: (0..dims).map(|_| 1.0 + whole(&mut random, 40)).collect(),
            home: Some(random.below(bins)),
            move_cost: 0.01 * whole(&mut random, 5),
            class: random.below(2),
            ..Item::default()
        })
        .collect();
    for item in 0..items {
        if random.below(4) == 0 {
            let mark = u32::try_from(random.below(3)).unwrap();
            let is_alone = (0..item).all(|other| {
                made[other].home != made[item].home || !made[other].holds.contains(&mark)
            });
            if is_alone {
                made[item].holds.push(mark);
                made[item].excludes.push(mark);
            }
        }
        if tied && random.below(3) == 0 {
            let to = End::Bin(random.below(bins));
            made[item].ties.push(Tie { to, cost: 0.01 * whole(&mut random, 9) });
        }
    }
    let boxes = (0..bins).map(|bin| {
        let base: Vec<f64> = (0..dims).map(|_| whole(&mut random, 20)).collect();
        let used = |dim: usize| {
            let there = made.iter().filter(|item| item.home == Some(bin));
            base[dim] + there.map(|item| item.demand[dim]).sum::<f64>()
        };
        Bin {
            capacity: (0..dims).map(|dim| used(dim).max(60.0) + whole(&mut random, 60)).collect(),
            fixed_cost: 1.0 + 0.1 * whole(&mut random, 10),
            stays: random.below(4) == 0,
            accepts: random.below(5) > 0,
            class: random.below(2),
            host: Some(random.below(2)),
            base,
            ..Bin::default()
        }
    });
    let boxes: Vec<Bin> = boxes.collect();
    let hosts = (0..2).map(|host| {
        let on = |dim: usize| {
            let bins = boxes.iter().enumerate().filter(|(_, bin)| bin.host == Some(host));
            bins.map(|(_, bin)| bin.capacity[dim]).sum::<f64>()
        };
        Host { capacity: (0..dims).map(on).collect() }
    });
    let hosts = hosts.collect();
    let reach = vec![vec![true, !seed.is_multiple_of(3)], vec![true, true]];
    Packing::new(dims, made, boxes, hosts, reach)
}

fn many(sizes: &Sizes) -> impl Iterator<Item = (u64, Packing)> {
    (0..20).map(|seed| (seed, any(seed, sizes)))
}

const SMALL: Sizes = Sizes { items: 8, bins: 5, dims: 2, tied: true };
const LARGER: Sizes = Sizes { items: 60, bins: 20, dims: 4, tied: true };

#[test]
fn no_packing_that_is_found_breaks_a_promise() {
    for sizes in [SMALL, LARGER] {
        for (seed, packing) in many(&sizes) {
            let found = found(&packing);
            assert_eq!(wrong(&packing, &found.assignment), None, "seed {seed}");
            assert!((found.cost - packing.cost(&found.assignment)).abs() < 1e-9, "seed {seed}");
        }
    }
}

#[test]
fn what_is_found_is_never_worse_than_what_is_there_or_any_heuristic() {
    for (seed, packing) in many(&LARGER) {
        let found = found(&packing).cost;
        let there = packing.as_it_is().expect("it is feasible");
        assert!(found <= packing.cost(&there) + SAME_COST, "seed {seed}");
        for heuristic in Heuristic::ALL {
            if let Some(made) = construct(&packing, heuristic) {
                assert_eq!(wrong(&packing, &made), None, "seed {seed}, {heuristic:?}");
                assert!(found <= packing.cost(&made) + SAME_COST, "seed {seed}, {heuristic:?}");
            }
        }
    }
}

#[test]
fn the_bound_lies_below_the_optimum_and_that_below_what_is_found() {
    let (mut found_it, mut asked) = (0, 0);
    for (seed, packing) in many(&SMALL).take(12) {
        let best = exact::solve(&packing).expect("what is there is a packing");
        assert_eq!(wrong(&packing, &best), None, "seed {seed}");
        let (best, found) = (packing.cost(&best), found(&packing));
        assert!(bound(&packing) <= best + 1e-6, "seed {seed}: {} > {best}", bound(&packing));
        let relaxed = exact::relaxed(&packing).expect("there is a packing");
        assert!(relaxed <= best + 1e-6, "seed {seed}: {relaxed} > {best}");
        assert!(best <= found.cost + 1e-6, "seed {seed}: {best} > {}", found.cost);
        assert!(found.cost <= best * 1.05, "seed {seed}: {} after {best}", found.cost);
        asked += 1;
        found_it += u32::from(found.cost <= best + 1e-6);
    }
    assert!(found_it * 10 >= asked * 8, "the search found the best of {found_it} of {asked}");
}

#[test]
fn items_without_anything_but_size_are_packed_best() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let items = (0..6).map(|_| Item {
            demand: vec![20.0 + random.below(50) as f64, 20.0 + random.below(50) as f64],
            ..Item::default()
        });
        let bin =
            Bin { capacity: vec![100.0; 2], fixed_cost: 1.0, accepts: true, ..Bin::default() };
        let packing = Packing::new(2, items.collect(), vec![bin; 4], Vec::new(), Vec::new());
        let Some(best) = exact::solve(&packing) else { continue };
        assert!((found(&packing).cost - packing.cost(&best)).abs() < 1e-6, "seed {seed}");
    }
}

#[test]
fn what_is_solved_is_the_best_where_it_is_small_and_says_so() {
    for (seed, packing) in many(&SMALL).take(5) {
        let solved = exact::solve_or_search(&packing, &Limits::steps(2_000, 1)).unwrap();
        let best = exact::solve(&packing).unwrap();
        assert!((solved.cost - packing.cost(&best)).abs() < 1e-6, "seed {seed}");
        assert!((solved.bound - solved.cost).abs() < 1e-6, "seed {seed}");
    }
    for (seed, packing) in many(&LARGER).take(3) {
        let solved = exact::solve_or_search(&packing, &Limits::steps(2_000, 1)).unwrap();
        assert_eq!(wrong(&packing, &solved.assignment), None, "seed {seed}");
        assert!(solved.bound <= solved.cost, "seed {seed}");
    }
}

#[test]
fn a_program_is_as_large_as_its_items_bins_and_dimensions() {
    let sizes = Sizes { items: 8, bins: 5, dims: 48, tied: true };
    for (seed, packing) in many(&sizes).take(3) {
        assert!(exact::places_at_most(&packing, exact::PLACES) && packing.bins() <= exact::BINS);
        assert!(!exact::is_small(&packing), "seed {seed}");
        let found = exact::solve_or_search(&packing, &Limits::steps(2_000, 1)).unwrap();
        assert_eq!(wrong(&packing, &found.assignment), None, "seed {seed}");
        assert!(found.bound > 0.0 && found.bound <= found.cost, "seed {seed}");
        let gap = found.gap().expect("it costs something");
        assert!((gap - (found.cost / found.bound - 1.0)).abs() < 1e-9, "seed {seed}: {gap}");
    }
}

#[test]
fn the_same_seed_finds_the_same() {
    for (_, packing) in many(&LARGER).take(3) {
        assert_eq!(found(&packing), found(&packing));
    }
}

#[test]
fn every_order_leads_there_without_ever_too_much_in_a_bin() {
    let (mut moved, mut refused) = (0, 0);
    for sizes in [SMALL, LARGER] {
        for (seed, packing) in many(&sizes) {
            let from = packing.as_it_is().expect("it is feasible");
            let to = found(&packing).assignment;
            let order = order(&packing, &from, &to);
            let reached = walked(&packing, &from, &order);
            assert_eq!(reached, order.reached, "seed {seed}");
            for item in (0..packing.items()).filter(|item| reached[*item] != to[*item]) {
                assert!(order.refused.contains(&item), "seed {seed}: {item} is forgotten");
            }
            moved += order.stages.len();
            refused += order.refused.len();
        }
    }
    assert!(moved > 20 && refused * 5 < moved, "{moved} stages, {refused} refused");
}

fn full(items: &[(usize, f64)], bins: &[f64]) -> Packing {
    let items = items.iter().map(|(home, size)| Item {
        demand: vec![*size],
        home: Some(*home),
        ..Item::default()
    });
    let bins = bins.iter().map(|most| Bin {
        capacity: vec![*most],
        fixed_cost: 1.0,
        stays: true,
        accepts: true,
        ..Bin::default()
    });
    Packing::new(1, items.collect(), bins.collect(), Vec::new(), Vec::new())
}

#[test]
fn an_exchange_goes_by_way_of_a_spare_bin() {
    let packing = full(&[(0, 6.0), (1, 7.0)], &[10.0, 10.0, 7.0]);
    let order = order(&packing, &[0, 1], &[1, 0]);
    assert_eq!(walked(&packing, &[0, 1], &order), [1, 0]);
    assert_eq!(order.stages.len(), 3);
    assert!(order.stages[0].on_the_way && order.stages[0].to == 2);
}

#[test]
fn an_exchange_without_a_spare_bin_is_refused() {
    let packing = full(&[(0, 6.0), (1, 7.0)], &[10.0, 10.0]);
    let order = order(&packing, &[0, 1], &[1, 0]);
    assert_eq!((order.stages.len(), order.reached), (0, vec![0, 1]));
    assert_eq!(order.refused, [1, 0]);
}

#[test]
fn a_move_waits_until_another_has_made_room() {
    let packing = full(&[(0, 6.0), (1, 7.0)], &[10.0, 10.0, 7.0]);
    let order = order(&packing, &[0, 1], &[1, 2]);
    let targets: Vec<usize> = order.stages.iter().map(|stage| stage.to).collect();
    assert_eq!(targets, [2, 1]);
}

#[test]
fn peaks_at_different_hours_share_a_bin() {
    let at = |hour: usize| (0..24).map(|h| if h == hour { 90.0 } else { 5.0 }).collect();
    let item = |hour| Item { demand: at(hour), home: Some(hour), ..Item::default() };
    let bin = Bin { capacity: vec![100.0; 24], fixed_cost: 1.0, accepts: true, ..Bin::default() };
    let apart = Packing::new(24, vec![item(0), item(1)], vec![bin.clone(); 2], vec![], vec![]);
    assert!((found(&apart).cost - 1.0).abs() < 1e-9);
    let mut clashing = item(0);
    clashing.home = Some(1);
    let together = Packing::new(24, vec![item(0), clashing], vec![bin; 2], vec![], vec![]);
    assert!((found(&together).cost - 2.0).abs() < 1e-9);
}

#[test]
fn an_item_goes_near_what_it_talks_to() {
    let tie = Tie { to: End::Bin(1), cost: 1.0 };
    let item = |home, ties| Item { demand: vec![1.0], home: Some(home), ties, ..Item::default() };
    let items = vec![item(0, vec![tie])];
    let bin = |host| Bin {
        capacity: vec![5.0],
        fixed_cost: 1.0,
        stays: true,
        accepts: true,
        host,
        ..Bin::default()
    };
    let packing = Packing::new(1, items, vec![bin(None), bin(Some(0)), bin(None)], vec![], vec![]);
    let found = found(&packing);
    assert_eq!(found.assignment, [1]);
    assert!((found.cost - 3.0).abs() < 1e-9);
}

#[test]
fn a_move_that_costs_more_than_it_gains_is_not_made() {
    let item = |home, move_cost| Item {
        demand: vec![1.0],
        home: Some(home),
        move_cost,
        ..Item::default()
    };
    let bin = Bin { capacity: vec![5.0], fixed_cost: 1.0, accepts: true, ..Bin::default() };
    for (move_cost, bins) in [(0.9, 1), (1.1, 2)] {
        let items = vec![item(0, move_cost), item(1, 2.0)];
        let packing = Packing::new(1, items, vec![bin.clone(); 2], vec![], vec![]);
        let assignment = found(&packing).assignment;
        assert_eq!(assignment.iter().collect::<BTreeSet<_>>().len(), bins);
        assert_eq!(assignment[1], 1);
    }
}

#[test]
fn changes_are_valued_as_the_whole_is() {
    let mut random = Random::new(9);
    for (seed, packing) in many(&LARGER).take(5) {
        let mut state = State::of(&packing, packing.as_it_is().unwrap());
        for _ in 0..200 {
            let (item, bin) = (random.below(60), random.below(20));
            let other = random.below(60);
            if state.bin(item) != state.bin(other) {
                let foretold = state.cost() + state.swap_change(item, other).cost;
                let (here, there) = (state.bin(item), state.bin(other));
                state.put(item, there);
                state.put(other, here);
                let cost = packing.cost(state.assignment());
                assert!((foretold - cost).abs() < 1e-6, "seed {seed}");
            }
            let foretold = state.cost() + state.cost_change(item, bin);
            if state.bin(item) != bin {
                state.put(item, bin);
                assert!((foretold - packing.cost(state.assignment())).abs() < 1e-6, "seed {seed}");
            }
        }
        let again = State::of(&packing, state.assignment().clone());
        for bin in 0..packing.bins() {
            assert_eq!(again.load(bin), state.load(bin), "nothing is left behind");
        }
    }
}

#[test]
fn better_packings_are_told_as_they_are_found_and_a_no_ends_the_search() {
    let (_, packing) = many(&LARGER).nth(3).unwrap();
    let told: RefCell<Vec<(f64, f64)>> = RefCell::default();
    let asked = Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 3
    };
    let progress = |at: &Progress<'_>| {
        told.borrow_mut().push((at.cost, packing.cost(at.assignment)));
    };
    let limits =
        Limits { steps: u64::MAX, seed: 1, go_on: Some(&go_on), progress: Some(&progress) };
    let found = search(&packing, &limits).unwrap();
    let told = told.into_inner();
    assert!(told.is_sorted_by(|one, next| one.0 >= next.0));
    assert!(told.iter().all(|(cost, of_assignment)| (cost - of_assignment).abs() < 1e-9));
    assert!((told.last().unwrap().0 - found.cost).abs() < 1e-9);
}

#[test]
fn a_problem_without_a_packing_has_none() {
    let item = Item { demand: vec![11.0], ..Item::default() };
    let bin = Bin { capacity: vec![10.0], fixed_cost: 1.0, accepts: true, ..Bin::default() };
    let packing = Packing::new(1, vec![item], vec![bin], vec![], vec![]);
    assert_eq!(search(&packing, &Limits::steps(ENOUGH, 1)), None);
    assert_eq!(exact::solve(&packing), None);
}
