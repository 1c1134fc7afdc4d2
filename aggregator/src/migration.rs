//! Makes the new mix live on machines that serve, and finds the way back from there.
//!
//! The way back of each act leads to what the plan says was there before, from whatever is found:
//! the act may have been done, half done or never. It is over only when what is found is what was
//! there before.

use std::time::Duration;

use common::{
    clock::Timestamp,
    id::VmId,
    list::{self, ConfigurationList, Form},
    mix::{ApplicationMix, EffectiveMix},
};

use crate::{
    assembly::{ActError, Surroundings, expect_mix},
    hypervisor::Allocation,
    repository::ListState,
};

pub use crate::assembly::apply;

/// How much longer than its expiry a list is waited for: its last answer may be on its way.
const AFTER_EXPIRY: Duration = Duration::from_secs(2);

/// Changes what a live machine is given; never to more than it has.
///
/// # Errors
///
/// See [`ActError`].
pub async fn resize(
    around: &Surroundings,
    vm: &VmId,
    to: &Allocation,
    from: &Allocation,
) -> Result<(), ActError> {
    let more = [
        ("CPU", to.cpu.map(|cpu| cpu.0), from.cpu.map(|cpu| cpu.0)),
        ("memory", to.memory.map(|memory| memory.0), from.memory.map(|memory| memory.0)),
        ("storage", to.storage.map(|storage| storage.0), from.storage.map(|storage| storage.0)),
    ];
    for (part, to, from) in more {
        if to.zip(from).is_some_and(|(to, from)| to > from) {
            let what = format!("it would be given more {part} than before");
            return Err(ActError::Unlike { vm: vm.clone(), what });
        }
    }
    around.ask(|| around.hypervisor.configure(vm, to)).await
}

/// Gives a machine what it was given before.
///
/// # Errors
///
/// See [`ActError`].
pub async fn undo_resize(
    around: &Surroundings,
    vm: &VmId,
    from: &Allocation,
) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.configure(vm, from)).await
}

/// Lets the clone take the candidate's place and waits for its agent there.
///
/// # Errors
///
/// See [`ActError`].
pub async fn swap(around: &Surroundings, source: &VmId, clone: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.promote(source, clone)).await?;
    reports_again(around, clone).await
}

/// Puts the candidate back into its place and waits for its agent there.
///
/// # Errors
///
/// See [`ActError`].
pub async fn undo_swap(around: &Surroundings, source: &VmId, clone: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.restore(source, clone)).await?;
    reports_again(around, source).await
}

/// Stops a machine that the plan emptied, gently for as long as patience lasts.
///
/// # Errors
///
/// See [`ActError`].
pub async fn retire(around: &Surroundings, vm: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.stop(vm, around.patience())).await
}

/// Starts a retired machine again and waits for its agent.
///
/// # Errors
///
/// See [`ActError`].
pub async fn undo_retire(around: &Surroundings, vm: &VmId) -> Result<(), ActError> {
    around.ask(|| around.hypervisor.start(vm)).await?;
    reports_again(around, vm).await
}

/// Leads a machine back to `former` from whatever it runs now, by a list under `undo_generation`,
/// or under a later one if the machine has tried that already.
/// `abandoned_at`: when the plan was given up, so that `list` was not offered after it.
///
/// # Errors
///
/// See [`ActError`].
pub async fn undo_apply(
    around: &Surroundings,
    (list, undo_generation): (&ConfigurationList, u64),
    former: &ApplicationMix,
    abandoned_at: Timestamp,
) -> Result<(), ActError> {
    let vm = &list.vm;
    let present = settled(around, list, abandoned_at).await?;
    if present.applications == *former {
        return Ok(());
    }
    let patience = around.patience();
    let back = ConfigurationList {
        generation: undo_generation.max(last_tried(&present) + 1),
        vm: vm.clone(),
        plan: list.plan.clone(),
        base: present.applications.hash(),
        expires_at: around.clock.now() + patience * 2,
        form: Form::Delta,
        applications: list::changes(&present.applications, former),
        baseline: None,
    };
    let effective = around.wait(around.guests.apply(&back, patience)).await?;
    expect_mix(vm, &effective, Some(former))
}

/// What the machine runs once it is certain that nothing more comes of `list`. A list that was
/// offered and not answered may yet be taken, until it expires.
async fn settled(
    around: &Surroundings,
    list: &ConfigurationList,
    abandoned_at: Timestamp,
) -> Result<EffectiveMix, ActError> {
    let vm = &list.vm;
    around.wait(around.guests.attached(vm, around.patience())).await?;
    let began = around.clock.now();
    let seen = around.seen_after(vm, began).await?.observation.mix;
    let is_tried = |mix: &EffectiveMix| last_tried(mix) >= list.generation;
    if is_tried(&seen) {
        return Ok(seen);
    }
    let stored = around.repository.list(vm, list.generation).await?;
    match stored.map(|stored| stored.state) {
        // It was never offered, or its agent has said that it took nothing of it.
        None | Some(ListState::Refused { .. } | ListState::Undone { .. }) => Ok(seen),
        // Its agent has said more than its samples have shown so far.
        Some(ListState::Applied | ListState::Stranded { .. }) => {
            let tried = around.seen(vm, |seen| is_tried(&seen.observation.mix)).await?;
            Ok(tried.observation.mix)
        }
        Some(ListState::Offered) => {
            let expires_at = abandoned_at + around.patience() * 2 + AFTER_EXPIRY;
            while around.clock.now() < expires_at {
                let rest = expires_at.since(around.clock.now());
                let soon = around.clock.now() + rest.min(AFTER_EXPIRY);
                let mix = around.seen_after(vm, soon).await?.observation.mix;
                if is_tried(&mix) {
                    return Ok(mix);
                }
            }
            Ok(around.seen_after(vm, around.clock.now()).await?.observation.mix)
        }
    }
}

fn last_tried(mix: &EffectiveMix) -> u64 {
    mix.generation.max(mix.attempted_generation)
}

/// Waits until the agent of a machine that has just come to run reports from there.
async fn reports_again(around: &Surroundings, vm: &VmId) -> Result<(), ActError> {
    let began = around.clock.now();
    around.wait(around.guests.attached(vm, around.patience())).await?;
    around.seen_after(vm, began).await.map(drop)
}
