//! What Sinter finds in windows of a fleet, with nothing under way and nobody left out.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::{
    catalogue::Catalogue,
    grouping::GroupRules,
    history::{History, Limits},
    inference::{Context, Findings, infer},
    join::Joined,
    policy::{Policy, Scope},
};

/// The findings after all of the windows, oldest first.
#[must_use]
pub fn findings(windows: &[Joined], catalogue: &Catalogue, policy: &Policy) -> Findings {
    let mut history = History::new(Limits::of(policy));
    windows.iter().for_each(|window| history.take(window));
    of_history(windows, &history, (catalogue, policy))
}

/// The same, with what the windows left behind already folded.
#[must_use]
pub fn of_history(
    windows: &[Joined],
    history: &History,
    (catalogue, policy): (&Catalogue, &Policy),
) -> Findings {
    let scope = Scope::default();
    let (cooldowns, busy) = (BTreeMap::new(), BTreeSet::new());
    let context = Context {
        policy,
        catalogue,
        scope: &scope,
        groups: &GroupRules::default(),
        former: &Findings::default(),
        cooldowns: &cooldowns,
        busy: &busy,
        history,
    };
    infer(windows, &context)
}
