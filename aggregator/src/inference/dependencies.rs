//! Who depends on whom: a call is a fact, for both its ends are known by their processes; how closely
//! what an application calls follows what it is called for is measured.
//!
//! ```text
//!  calls into an application ──> application ──> calls out of it
//!          counts by window          └── rank correlation, company in time ──┘
//! ```
//!
//! All calls into an application are one series, so that the work grows with the edges and not with
//! their pairs. What is found is held against chance over all pairs of the fleet at once.

use std::collections::{HashMap, HashSet};

use algorithms::dependency::{self, INTERVALS_NEEDED};
use common::id::{AppName, VmId};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Context, EdgeKey, edges::Held};
use crate::history::{History, Resolution};

/// Windows looked at: at 300 s each the last four hours, enough for any test and quick for millions
/// of edges.
const INTERVALS: usize = 48;
/// Share of false ones among the dependencies that are told to be more than chance.
const FALSE_SHARE: f64 = 0.05;
/// Least an edge counts by: that it is called is a fact, whatever it follows.
const LEAST_STRENGTH: f64 = 0.5;

/// By which test calls follow calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowsBy {
    /// Their rates rise and fall together.
    Rates,
    /// They come in the same windows, and in few others.
    Company,
}

/// How closely calls out of an application follow the calls into it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Follows {
    /// By which test, the one that is surer.
    pub by: FollowsBy,
    /// How closely, from 0 to 1.
    pub strength: f64,
    /// Windows by which they follow.
    pub lag: u32,
    /// How likely chance gives as much.
    pub chance: f64,
    /// Windows it rests on.
    pub windows: u32,
    /// More than chance, at 5 % false ones over the whole fleet.
    pub holds: bool,
}

/// That one depends on another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dependency {
    /// Who depends, on whom, on which port.
    pub edge: EdgeKey,
    /// How closely its calls follow the calls into who depends; `None` if nobody calls it, or too
    /// little is known.
    pub follows: Option<Follows>,
}

impl Dependency {
    /// From 0 to 1: what the edge counts by where groups are drawn.
    pub(super) fn strength(&self) -> f64 {
        self.follows.map_or(1.0, |follows| follows.strength.clamp(LEAST_STRENGTH, 1.0))
    }
}

/// Events of the last windows, oldest first; `None` where nobody watched.
type Series = Vec<Option<f64>>;

/// The dependency of every edge between two machines that is no infrastructure, in their order.
pub(super) fn dependencies(held: &[Held<'_>], context: &Context<'_>) -> Vec<Dependency> {
    let causes = causes(held, context);
    let called = held.par_iter().filter(|edge| is_call(edge));
    let each = called.map(|edge| {
        let client = &edge.key.client;
        let end = client.vm().zip(client.application());
        let cause = end.and_then(|end| causes.get(&end));
        let follows = cause.and_then(|cause| follows(cause, &series(edge, context.history)));
        Dependency { edge: edge.key.clone(), follows }
    });
    let mut found: Vec<Dependency> = each.collect();
    let chances: Vec<f64> =
        found.iter().filter_map(|found| found.follows.map(|follows| follows.chance)).collect();
    let mut held = dependency::discoveries(&chances, FALSE_SHARE).into_iter();
    for follows in found.iter_mut().filter_map(|found| found.follows.as_mut()) {
        follows.holds = held.next().unwrap_or(false);
    }
    found
}

/// An application on a machine.
type End<'a> = (&'a VmId, &'a AppName);

/// All calls into each application that calls others, as one series.
fn causes<'a>(held: &[Held<'a>], context: &Context<'_>) -> HashMap<End<'a>, Series> {
    let callers = callers(held);
    let mut inbound: HashMap<End<'a>, Vec<&Held<'a>>> = HashMap::new();
    for edge in held.iter().filter(|edge| !edge.infrastructure) {
        let end = edge.key.server.vm().zip(edge.key.server.application());
        // What calls nobody depends on nobody.
        if let Some(end) = end.filter(|end| callers.contains(end)) {
            inbound.entry(end).or_default().push(edge);
        }
    }
    let sum = |(end, edges): (End<'a>, Vec<&Held<'_>>)| {
        let mut sum = Series::new();
        edges.into_iter().for_each(|edge| add(&mut sum, series(edge, context.history)));
        (end, sum)
    };
    inbound.into_par_iter().map(sum).collect()
}

/// Applications that call others.
fn callers<'a>(held: &[Held<'a>]) -> HashSet<End<'a>> {
    let calls = held.iter().filter(|edge| is_call(edge));
    calls.filter_map(|edge| edge.key.client.vm().zip(edge.key.client.application())).collect()
}

/// Whether an edge makes its client depend on its server: from one machine of the inventory to another.
pub(super) fn is_call(edge: &Held<'_>) -> bool {
    let ends = edge.key.client.vm().zip(edge.key.server.vm());
    !edge.infrastructure && ends.is_some_and(|(client, server)| client != server)
}

/// What an edge carried in the last windows that the history holds.
#[expect(clippy::cast_precision_loss, reason = "counts of a window are few")]
fn series(edge: &Held<'_>, history: &History) -> Series {
    let Some(edge) = edge.known else { return Vec::new() };
    let length = history.limits().window;
    let Some(newest) = history.windows().next_back().map(|window| window.from) else {
        return Vec::new();
    };
    let mut series = vec![None; INTERVALS];
    for counts in edge.last_slots(Resolution::Window, INTERVALS).flatten() {
        let back = newest.since(counts.from).as_millis() / length.as_millis().max(1);
        let at = usize::try_from(back).ok().and_then(|back| INTERVALS.checked_sub(back + 1));
        if let Some(slot) = at.and_then(|at| series.get_mut(at)) {
            let events = counts.connections.saturating_add(counts.exchanges.unwrap_or(0));
            *slot = Some(events as f64);
        }
    }
    series
}

fn add(sum: &mut Series, more: Series) {
    if sum.is_empty() {
        *sum = more;
        return;
    }
    for (slot, events) in sum.iter_mut().zip(more) {
        *slot = match (*slot, events) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
}

/// How closely the second follows the first, by the test that is surer.
fn follows(cause: &Series, effect: &Series) -> Option<Follows> {
    let both = cause.iter().zip(effect);
    let both: Vec<(f64, f64)> =
        both.filter_map(|(one, other)| Some(((*one)?, (*other)?))).collect();
    if both.len() < INTERVALS_NEEDED {
        return None;
    }
    let windows = u32::try_from(both.len()).unwrap_or(u32::MAX);
    let (cause, effect): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
    let rates = dependency::correlation(&cause, &effect).map(|found| Follows {
        by: FollowsBy::Rates,
        strength: found.rho.max(0.0),
        lag: u32::try_from(found.lag).unwrap_or(u32::MAX),
        chance: found.chance,
        windows,
        holds: false,
    });
    let company = company(&cause, &effect, windows);
    let mut surer = [rates, company]
        .into_iter()
        .flatten()
        .min_by(|a, b| a.chance.total_cmp(&b.chance).then(b.strength.total_cmp(&a.strength)))?;
    // The better of two looks is no single look.
    surer.chance = (surer.chance * 2.0).min(1.0);
    Some(surer)
}

/// How far the two are active in the same windows.
fn company(cause: &[f64], effect: &[f64], windows: u32) -> Option<Follows> {
    let count = |is: &dyn Fn(f64, f64) -> bool| {
        let those = cause.iter().zip(effect).filter(|(one, other)| is(**one, **other)).count();
        u32::try_from(those).unwrap_or(u32::MAX)
    };
    let first = count(&|one, _| one > 0.0);
    let second = count(&|_, other| other > 0.0);
    let both = count(&|one, other| one > 0.0 && other > 0.0);
    let chance = dependency::chance_of_company(windows, first, second, both)?;
    let strength = if second == 0 { 0.0 } else { f64::from(both) / f64::from(second) };
    Some(Follows { by: FollowsBy::Company, strength, lag: 0, chance, windows, holds: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u32>) -> Series {
        values.into_iter().map(|value| Some(f64::from(value))).collect()
    }

    #[test]
    fn calls_that_rise_and_fall_with_their_cause_follow_it() {
        let cause = of((0..24).map(|at| at * 7 % 24));
        let effect = of((0..24).map(|at| (at * 7 % 24) * 2 + 1));
        let found = follows(&cause, &effect).unwrap();
        assert!(found.by == FollowsBy::Rates && found.strength > 0.99 && found.chance < 1e-6);
    }

    #[test]
    fn calls_in_the_same_few_windows_follow_by_company() {
        let at_times = |rate: u32| of((0..48).map(move |at| if at % 12 == 5 { rate } else { 0 }));
        let found = follows(&at_times(3), &at_times(1)).unwrap();
        assert!(found.strength > 0.99 && found.chance < 1e-4, "{found:?}");
    }

    #[test]
    fn too_few_windows_and_those_nobody_watched_say_nothing() {
        assert_eq!(follows(&of(0..11), &of(0..11)), None);
        let unwatched = vec![None; 24];
        assert_eq!(follows(&of(0..24), &unwatched), None);
    }
}
