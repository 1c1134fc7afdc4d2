//! The best packing of a small problem, and that it is the best, by integer programming.
//!
//! Written with `good_lp`; solved by `microlp`, which is all Rust. Without the whole numbers the same
//! program is a bound for somewhat larger ones.

use good_lp::{
    Expression, ProblemVariables, Solution as _, SolverModel as _, Variable, constraint,
    default_solver, variable, variables,
};

use super::{
    Assignment, End, Packing, SAME_COST,
    bound::has_item_ties,
    search::{Found, Limits, search},
    state::State,
};

/// Places, that is pairs of an item and a bin it may be in, up to which a problem is solved in whole
/// numbers by default.
pub const PLACES: usize = 72;
/// Bins up to which a problem is solved in whole numbers by default.
pub const BINS: usize = 6;
/// Amounts in a program ([`is_sized_at_most`]) up to which a problem is solved in whole numbers by default: a
/// few places make a large program where there are many dimensions.
pub const SIZE: usize = 288;
/// The same, up to which the relaxation is asked for a bound.
pub const SIZE_RELAXED: usize = 1_200;
/// Assignments up to which all are tried instead.
const ASSIGNMENTS: usize = 4_096;
/// Largest share by which rounding in the solver may have it too high.
const SOLVER_ERROR: f64 = 1e-6;

struct Program {
    variables: ProblemVariables,
    cost: Expression,
    /// By item: the bins it may be in, and the variable that says that it is.
    places: Vec<Vec<(usize, Variable)>>,
    /// By bin: the variable that says that it is kept; `None` if it is kept anyway.
    kept: Vec<Option<Variable>>,
}

/// Whether a problem is small enough to be solved by default.
#[must_use]
pub fn is_small(packing: &Packing) -> bool {
    packing.bins() <= BINS && places_at_most(packing, PLACES) && is_sized_at_most(packing, SIZE)
}

/// Whether the program of a problem has at most so many amounts: one for each place and each
/// dimension.
#[must_use]
pub fn is_sized_at_most(packing: &Packing, most: usize) -> bool {
    places_at_most(packing, most / packing.dims().max(1))
}

/// Whether there are at most so many pairs of an item and a bin it may be in. A large problem has too
/// many to count.
#[must_use]
pub fn places_at_most(packing: &Packing, most: usize) -> bool {
    let bins = 0..packing.bins();
    let places = (0..packing.items())
        .flat_map(|item| bins.clone().filter(move |bin| packing.may(item, *bin)));
    places.take(most + 1).count() <= most
}

/// What a search finds; if it may not be the best, the best of a small problem, and for a larger
/// one a bound that is nearer.
#[must_use]
pub fn solve_or_search(packing: &Packing, limits: &Limits<'_>) -> Option<Found> {
    if let Some(assignment) = best_of_all(packing) {
        let cost = packing.cost(&assignment);
        return Some(Found { assignment, cost, bound: cost, steps: 0 });
    }
    let mut found = search(packing, limits)?;
    if found.cost <= found.bound + SAME_COST {
        return Some(found);
    }
    if is_small(packing)
        && let Some(assignment) = solve(packing)
    {
        let cost = packing.cost(&assignment);
        // Among equals the search's: it began with what is there.
        if cost < found.cost - SAME_COST {
            found = Found { assignment, cost, ..found };
        }
        found.bound = found.cost.min(cost);
    } else if is_sized_at_most(packing, SIZE_RELAXED)
        && let Some(bound) = relaxed(packing)
    {
        found.bound = found.bound.max(bound).min(found.cost);
    }
    Some(found)
}

/// The best of all assignments, what is there among equals; `None` if they are too many, or what is
/// there is no packing.
fn best_of_all(packing: &Packing) -> Option<Assignment> {
    let mut all: usize = 1;
    for item in 0..packing.items() {
        let may = (0..packing.bins()).filter(|bin| packing.may(item, *bin)).count();
        all = all.saturating_mul(may);
        if all > ASSIGNMENTS {
            return None;
        }
    }
    let there = packing.as_it_is()?;
    let mut best = (packing.cost(&there), there.clone());
    let mut state = State::of(packing, there);
    for item in 0..packing.items() {
        state.take_out(item);
    }
    try_all(&mut state, 0, &mut best);
    Some(best.1)
}

fn try_all(state: &mut State<'_>, item: usize, best: &mut (f64, Assignment)) {
    let packing = state.packing;
    if item == packing.items() {
        if state.cost() < best.0 - SAME_COST {
            *best = (state.cost(), state.assignment().clone());
        }
        return;
    }
    for bin in 0..packing.bins() {
        if state.has_room(item, bin) && state.admits(item, bin, None) {
            state.put_in(item, bin);
            try_all(state, item + 1, best);
            state.take_out(item);
        }
    }
}

/// A packing that costs least. `None` if there is none, if items are tied to each other (a product
/// of two choices, which is not linear), or if the solver gives up.
///
/// It takes as long as it takes: ask for what [`is_small`].
#[must_use]
pub fn solve(packing: &Packing) -> Option<Assignment> {
    if has_item_ties(packing) {
        return None;
    }
    let program = program(packing, true);
    let places = program.places.clone();
    let solution = solved(packing, program)?;
    let assignment = places.iter().map(|of| {
        let surest = of
            .iter()
            .max_by(|one, other| solution.value(one.1).total_cmp(&solution.value(other.1)));
        surest.map(|(bin, _)| *bin)
    });
    let assignment: Option<Assignment> = assignment.collect();
    // What the solver takes for whole may be a hair off; then it is no packing of ours.
    assignment.filter(|assignment| State::of(packing, assignment.clone()).is_feasible())
}

/// A bound by the linear relaxation: items may be cut in pieces, bins kept in part.
#[must_use]
pub fn relaxed(packing: &Packing) -> Option<f64> {
    let program = program(packing, false);
    let cost = program.cost.clone();
    let solution = solved(packing, program)?;
    let value = solution.eval(cost);
    // Ties between items are left out of the program and cost nothing below 0.
    Some(value - value.abs() * SOLVER_ERROR)
}

fn program(packing: &Packing, whole: bool) -> Program {
    let mut variables = variables!();
    let choice = || if whole { variable().binary() } else { variable().min(0.0).max(1.0) };
    let mut cost = Expression::from(0.0);
    let kept: Vec<Option<Variable>> = packing
        .bins
        .iter()
        .map(|bin| {
            if bin.stays {
                cost += bin.fixed_cost;
                return None;
            }
            let kept = variables.add(choice());
            cost.add_mul(bin.fixed_cost, kept);
            Some(kept)
        })
        .collect();
    let mut places = Vec::new();
    for item in 0..packing.items() {
        let may = (0..packing.bins()).filter(|bin| packing.may(item, *bin));
        let of: Vec<(usize, Variable)> = may.map(|bin| (bin, variables.add(choice()))).collect();
        for (bin, is_there) in &of {
            cost.add_mul(packing.place_cost(item, *bin) + tied(packing, item, *bin), *is_there);
        }
        places.push(of);
    }
    Program { variables, cost, places, kept }
}

fn tied(packing: &Packing, item: usize, bin: usize) -> f64 {
    let ties = packing.items[item].ties.iter().filter_map(|tie| match tie.to {
        End::Bin(other) => Some(tie.cost * packing.distance(bin, other)),
        End::Item(_) => None,
    });
    ties.sum()
}

fn solved(packing: &Packing, program: Program) -> Option<impl good_lp::Solution> {
    let Program { variables, cost, places, kept } = program;
    let mut model = variables.minimise(cost).using(default_solver);
    for of in &places {
        let sum: Expression = of.iter().map(|(_, is_there)| *is_there).sum();
        model = model.with(constraint!(sum == 1.0));
        for (bin, is_there) in of {
            if let Some(kept) = kept[*bin] {
                model = model.with(constraint!(*is_there <= kept));
            }
        }
    }
    for bin in 0..packing.bins() {
        for dim in 0..packing.dims {
            let (most, base) = (packing.capacity(bin)[dim], packing.base(bin)[dim]);
            let unit = most.max(1.0);
            let load = load(packing, &places, (dim, unit), |there| there == bin);
            let room = (most - base) / unit;
            model = model.with(match kept[bin] {
                Some(kept) => constraint!(load <= room * kept),
                None => constraint!(load <= room),
            });
        }
        for (one, other) in shunning(packing, &places, bin) {
            model = model.with(constraint!(one + other <= 1.0));
        }
    }
    for (host, of) in packing.hosts.iter().enumerate() {
        for (dim, most) in of.capacity.iter().enumerate() {
            let on_host = |bin: usize| packing.bins[bin].host == Some(host);
            let base = (0..packing.bins()).filter(|bin| on_host(*bin));
            let base: f64 = base.map(|bin| packing.base(bin)[dim]).sum();
            let unit = most.max(1.0);
            let load = load(packing, &places, (dim, unit), on_host);
            let room = (most - base) / unit;
            model = model.with(constraint!(load <= room));
        }
    }
    model.solve().ok()
}

/// What is asked of one dimension in some bins, in parts of `unit`.
fn load(
    packing: &Packing,
    places: &[Vec<(usize, Variable)>],
    (dim, unit): (usize, f64),
    is_among: impl Fn(usize) -> bool,
) -> Expression {
    let mut load = Expression::from(0.0);
    for (item, of) in places.iter().enumerate() {
        for (_, is_there) in of.iter().filter(|(bin, _)| is_among(*bin)) {
            load.add_mul(packing.demand(item)[dim] / unit, *is_there);
        }
    }
    load
}

fn shunning(
    packing: &Packing,
    places: &[Vec<(usize, Variable)>],
    bin: usize,
) -> Vec<(Variable, Variable)> {
    let there = |item: usize| places[item].iter().find(|(at, _)| *at == bin).map(|(_, is)| *is);
    let mut pairs = Vec::new();
    for one in 0..packing.items() {
        for other in one + 1..packing.items() {
            // What shuns each other at home already may go on doing so.
            let at_home = |item: usize| packing.items[item].home == Some(bin);
            if packing.shun(one, other) && !(at_home(one) && at_home(other)) {
                pairs.extend(there(one).zip(there(other)));
            }
        }
    }
    pairs
}
