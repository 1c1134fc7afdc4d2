//! Tries the new mix on the clone, under load and cut off from production, and says what came of
//! it.
//!
//! Failed is what was measured and is not right; unproven is what could not be measured. Only what
//! was measured and is right in everything passes.

mod measure;

use std::collections::BTreeMap;

use common::{
    id::{AppName, NetworkId, VmId},
    mix::ApplicationMix,
};
use tokio::time::Instant;

use self::measure::Seen;
use crate::{
    assembly::{ActError, Surroundings},
    guest::{GuestError, LastSeen},
    hypervisor::{Allocation, ProbeOrder, Telemetry},
    inference::Demand,
    journal::Measurement,
    plan::{Plan, Step},
    policy::Verdict,
};

/// What a trial or an audit said, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What it said.
    pub verdict: Verdict,
    /// Why, for people.
    pub reasons: Vec<String>,
    /// What it was decided from.
    pub measurements: Vec<Measurement>,
    /// What each application used meanwhile, as far as that is known. Nothing is decided from it: it is what
    /// predictions are held against.
    pub used: BTreeMap<AppName, Demand>,
}

impl Judgement {
    /// The judgement that follows from `measurements`: failed if one was taken and is not right,
    /// unproven if one could not be taken.
    #[must_use]
    pub fn of(measurements: Vec<Measurement>, notes: Vec<String>) -> Self {
        let wrong = measurements.iter().filter(|each| !each.passed);
        let (failed, unknown): (Vec<_>, Vec<_>) = wrong.partition(|each| each.value.is_some());
        let verdict = match (failed.is_empty(), unknown.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, false) => Verdict::Unproven,
            (true, true) => Verdict::Passed,
        };
        let mut reasons: Vec<String> = failed.into_iter().map(failure).collect();
        reasons.extend(unknown.into_iter().map(|each| format!("{}: could not be told", each.name)));
        if reasons.is_empty() {
            reasons.push(format!("all {} measurements are right", measurements.len()));
        }
        reasons.extend(notes);
        Self { verdict, reasons, measurements, used: BTreeMap::new() }
    }
}

fn failure(of: &Measurement) -> String {
    let value = of.value.unwrap_or_default();
    format!("{}: {} {}, must be {}", of.name, measure::shown(value), of.unit, of.threshold)
}

/// The machine on trial, and what it is put under.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The clone.
    pub clone: &'a VmId,
    /// Its network.
    pub network: &'a NetworkId,
    /// The load.
    pub probe: &'a ProbeOrder,
}

/// Holds a trial, for as long as its load says. It may be held again.
///
/// # Errors
///
/// If the hypervisor refused, or did not answer while patience lasted.
pub async fn hold(around: &Surroundings, trial: &Trial<'_>) -> Result<Judgement, ActError> {
    let clone = trial.clone;
    let seen_before = around.guests.last_seen(clone).await;
    let outside_before = telemetry_of(around, clone).await?;
    let began = Instant::now();
    let (hypervisor, network) = (&around.hypervisor, trial.network);
    let results = around.wait(around.ask(|| hypervisor.probe(network, trial.probe))).await?;
    // An adapter without a port to ask may answer at once; the mix is watched all the same.
    around.pause(trial.probe.duration.saturating_sub(began.elapsed())).await?;
    let seen_after = last_word(around, clone).await?;
    let outside_after = telemetry_of(around, clone).await?;
    let inventory = around.ask(|| hypervisor.inventory()).await?;
    let given = inventory.machines.get(clone).map(|machine| machine.allocation);
    let seen = Seen {
        asked: trial.probe,
        results,
        guest: (seen_before, seen_after),
        outside: (outside_before, outside_after),
        given: given.unwrap_or_default(),
        baseline: baseline(trial.plan),
        mix: mix_on_trial(trial.plan, clone),
    };
    Ok(seen.judge(&around.policy))
}

/// What the clone's agent saw once the load was over; `None` if it fell silent.
async fn last_word(around: &Surroundings, clone: &VmId) -> Result<Option<LastSeen>, ActError> {
    match around.seen_after(clone, around.clock.now()).await {
        Ok(seen) => Ok(Some(seen)),
        Err(ActError::Guest(GuestError::Silent { .. })) => Ok(None),
        Err(cause) => Err(cause),
    }
}

async fn telemetry_of(around: &Surroundings, vm: &VmId) -> Result<Option<Telemetry>, ActError> {
    let all: BTreeMap<_, _> = around.ask(|| around.hypervisor.telemetry()).await?;
    Ok(all.get(vm).copied())
}

/// What the candidate was given before; the clone never gets more.
fn baseline(plan: &Plan) -> Allocation {
    plan.changes.get(&plan.source).map(|change| change.allocation_before).unwrap_or_default()
}

/// The mix that the lists for the clone lead to, or what its source shall run.
fn mix_on_trial(plan: &Plan, clone: &VmId) -> Option<ApplicationMix> {
    let last = plan.steps.iter().rev().find_map(|step| match step {
        Step::Apply { list, former, .. } if list.vm == *clone => list.resolve(former).ok(),
        _ => None,
    });
    last.or_else(|| Some(plan.changes.get(&plan.source)?.mix_after.clone()))
}
