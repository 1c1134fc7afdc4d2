//! Makes the clone of a plan, and takes it away again.
//!
//! The clone comes stopped, is plugged into a network of its own, and only then started. Each act
//! may be done twice, also after a crash in its middle: what is found done is success. What we did
//! not clone is never removed.

mod surroundings;

use std::time::Duration;

use common::{
    id::{NetworkId, VmId},
    list::ConfigurationList,
    mix::{ApplicationMix, EffectiveMix},
};
use tracing::warn;

pub use self::surroundings::{ActError, Surroundings};
use crate::{
    hypervisor::{CloneOrder, Machine},
    plan::Plan,
};

/// Copies the candidate to a stopped machine. The ticket by which the copy's agent may enrol is
/// made here, never before: it would lie about in the journal.
///
/// # Errors
///
/// See [`ActError`].
pub async fn clone(around: &Surroundings, order: &CloneOrder) -> Result<(), ActError> {
    let ticket = around.guests.ticket(&order.clone, &order.plan).await?;
    let order = CloneOrder { ticket, ..order.clone() };
    around.ask(|| around.hypervisor.clone_vm(&order)).await
}

/// Plugs the clone into a network of its own.
///
/// # Errors
///
/// See [`ActError`].
pub async fn isolate(
    around: &Surroundings,
    clone: &VmId,
    network: &NetworkId,
) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.isolate(clone, network)).await
}

/// Starts the clone and waits until its agent reports, under the clone's own id and with the mix
/// of its source.
///
/// # Errors
///
/// See [`ActError`].
pub async fn start(around: &Surroundings, plan: &Plan, clone: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.start(clone)).await?;
    let first = around.wait(around.guests.attached(clone, around.patience())).await?;
    let says = first.observation.facts.product_uuid;
    if says.as_ref().is_some_and(|uuid| !uuid.eq_ignore_ascii_case(clone.as_str())) {
        let what = format!("its agent says that it is {}", says.unwrap_or_default());
        return Err(ActError::Unlike { vm: clone.clone(), what });
    }
    let Some(wanted) = source_mix(around, plan).await else { return Ok(()) };
    await_mix(around, clone, &wanted).await
}

/// Offers the list with the new mix to the clone's agent and waits until it is applied.
///
/// # Errors
///
/// See [`ActError`].
pub async fn apply(
    around: &Surroundings,
    list: &ConfigurationList,
    former: &ApplicationMix,
) -> Result<(), ActError> {
    let patience = around.patience();
    // The plan may have waited for days. Twice the patience: whatever is on its way when we give
    // up is refused soon after.
    let expires_at = around.clock.now() + patience * 2;
    let offered = ConfigurationList { expires_at, ..list.clone() };
    let effective = around.wait(around.guests.apply(&offered, patience)).await?;
    expect_mix(&list.vm, &effective, list.resolve(former).ok().as_ref())
}

/// Stops the clone, at once: nothing in it is worth a wait.
///
/// # Errors
///
/// See [`ActError`].
pub async fn stop(around: &Surroundings, clone: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.stop(clone, Duration::ZERO)).await
}

/// Removes the clone and forgets its agent.
///
/// # Errors
///
/// See [`ActError`].
pub async fn remove(around: &Surroundings, plan: &Plan, clone: &VmId) -> Result<(), ActError> {
    let inventory = around.ask(|| around.hypervisor.inventory()).await?;
    match inventory.machines.get(clone) {
        Some(machine) if !is_ours(machine, plan) => {
            // The clone was refused because of it, so there is nothing of ours to remove.
            warn!(vm = %clone, plan = %plan.id, "machine left alone, another one has the clone's id");
            return Ok(());
        }
        Some(_) => stop(around, clone).await?,
        None => {}
    }
    // Also when it is not listed: a copy that was begun may leave disks behind.
    around.ask(|| around.hypervisor.remove(clone)).await?;
    Ok(around.guests.forget(clone).await?)
}

fn is_ours(machine: &Machine, plan: &Plan) -> bool {
    let of_source = machine.cloned_from.as_ref() == Some(&plan.source);
    of_source && machine.plan.as_ref().is_none_or(|of| *of == plan.id)
}

/// The mix that the clone comes with: its source's.
async fn source_mix(around: &Surroundings, plan: &Plan) -> Option<ApplicationMix> {
    if let Some(change) = plan.changes.get(&plan.source) {
        return Some(change.mix_before.clone());
    }
    let seen = around.guests.last_seen(&plan.source).await?;
    Some(seen.observation.mix.applications)
}

async fn await_mix(
    around: &Surroundings,
    vm: &VmId,
    wanted: &ApplicationMix,
) -> Result<(), ActError> {
    let is_wanted = |mix: &EffectiveMix| mix.applications == *wanted;
    match around.seen(vm, |seen| is_wanted(&seen.observation.mix)).await {
        Err(ActError::Guest(cause)) => match around.guests.last_seen(vm).await {
            Some(seen) => expect_mix(vm, &seen.observation.mix, Some(wanted)),
            None => Err(cause.into()),
        },
        seen => seen.map(drop),
    }
}

/// Says in what a machine runs another mix than `wanted`; nothing is wanted of `None`.
///
/// # Errors
///
/// [`ActError::Unlike`].
pub fn expect_mix(
    vm: &VmId,
    present: &EffectiveMix,
    wanted: Option<&ApplicationMix>,
) -> Result<(), ActError> {
    let Some(wanted) = wanted.filter(|wanted| **wanted != present.applications) else {
        return Ok(());
    };
    let what = format!("it runs {}, not {}", names(&present.applications), names(wanted));
    Err(ActError::Unlike { vm: vm.clone(), what })
}

/// The applications of a mix, for people.
#[must_use]
pub fn names(mix: &ApplicationMix) -> String {
    if mix.0.is_empty() {
        return "nothing".into();
    }
    let names: Vec<&str> = mix.0.keys().map(common::id::AppName::as_str).collect();
    format!("{} ({})", names.join(", "), mix.hash())
}
