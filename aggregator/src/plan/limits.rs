//! How long planning may take, and who hears how it goes.

use super::Situation;

/// Steps of search for each application that may move, and at least.
const STEPS_EACH: u64 = 2_000;
const STEPS_LEAST: u64 = 20_000;
/// Steps of search in a second of one core, about.
const STEPS_PER_SECOND: u64 = 10_000_000;
/// Steps of search at most, where nobody says how long it may take: about 2 s.
const STEPS_MOST: u64 = 2 * STEPS_PER_SECOND;
/// The same windows shall give the same plans on every day and every computer.
const SEED: u64 = 1;

/// How long to plan, and who hears of it.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Steps of search at most.
    pub steps: u64,
    /// Chance follows from it.
    pub seed: u64,
    /// Asked now and then; `false` ends the search with the best found.
    pub go_on: Option<&'a dyn Fn() -> bool>,
    /// Told of each better target as it is found.
    pub progress: Option<&'a dyn Fn(&Progress)>,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("steps", &self.steps).field("seed", &self.seed).finish()
    }
}

/// A better target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps so far.
    pub steps: u64,
    /// The cost of the fleet once it is reached, before any machine is given less.
    pub cost_of_target: f64,
    /// The least cost any plan could reach.
    pub lower_bound: f64,
}

impl Progress {
    /// By how much the target may be dearer than the best one, as a share of the bound; `None`
    /// where nothing costs anything.
    #[must_use]
    pub fn gap(&self) -> Option<f64> {
        super::gap(self.cost_of_target, self.lower_bound)
    }
}

impl Limits<'_> {
    /// A number of steps, and nobody asked or told.
    #[must_use]
    pub const fn steps(steps: u64, seed: u64) -> Self {
        Self { steps, seed, go_on: None, progress: None }
    }

    /// As many steps as a fleet of that size usually gets.
    #[must_use]
    pub fn usual(situation: &Situation<'_>) -> Self {
        let machines = situation.findings.machines.values();
        let movable = machines.map(|standing| standing.needs.len() as u64).sum::<u64>();
        let steps = movable.saturating_mul(STEPS_EACH);
        Self::steps(steps.clamp(STEPS_LEAST, STEPS_MOST), SEED)
    }

    /// As many steps as are made in so many seconds, about: the search spreads its boldness over
    /// them. A caller who means it gives a question besides.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        let steps = STEPS_PER_SECOND.saturating_mul(seconds);
        Self::steps(if steps < STEPS_LEAST { STEPS_LEAST } else { steps }, SEED)
    }
}
