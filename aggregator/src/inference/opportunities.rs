//! How a machine that nothing keeps from it could be changed for the better.

use std::collections::BTreeMap;

use common::{
    clock::Timestamp,
    id::AppName,
    mix::EffectiveMix,
    units::{Bytes, Millicores},
};

use super::{
    Backing, Context, Opportunity,
    besides::besides,
    edges::Held,
    frequency::{PERIODS_OF_SILENCE, Recurring, longest_period},
    links,
    measured::Measured,
    mixes,
    rates::rate,
};
use crate::{catalogue::Class, hypervisor::Allocation, policy::Policy};

/// Least CPU a machine keeps: below this a guest's own housekeeping stutters.
const CPU_FLOOR: Millicores = Millicores(100);
/// Lowered allocations are rounded up to these.
const CPU_STEP: u64 = 10;
const MEMORY_STEP: u64 = 1 << 20;

/// What could be done, and why not where it could not.
#[derive(Debug, Default)]
pub(super) struct Chances {
    pub(super) found: Vec<Opportunity>,
    /// Why each application of the mix stays.
    pub(super) stays: BTreeMap<AppName, String>,
    /// What works on it besides its mix.
    pub(super) besides: Option<String>,
    no_more: Option<String>,
    no_less: Option<String>,
}

/// The edges of one machine.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    pub(super) inbound: &'a [&'a Held<'a>],
    pub(super) outbound: &'a [&'a Held<'a>],
    /// What was ever called regularly.
    pub(super) recurring: &'a [Recurring<'a>],
    /// When the present window closed.
    pub(super) now: Timestamp,
}

impl Chances {
    /// Why there is no chance at all.
    pub(super) fn why_not(&self) -> String {
        let stays = self.stays.iter().map(|(name, reason)| format!("{name} {reason}"));
        let whole = self.no_more.iter().chain(&self.no_less).cloned();
        whole.chain(stays).collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn chances(machine: &Measured<'_>, calls: &Calls<'_>, context: &Context<'_>) -> Chances {
    let untold = links::untold(machine);
    let besides = besides(machine, calls, context.policy).or_else(|| untold.clone());
    let mut chances = Chances { besides, ..Chances::default() };
    match mix_up(machine, context.policy) {
        Ok(opportunity) => chances.found.push(opportunity),
        Err(reason) => chances.no_more = Some(reason),
    }
    let mixes = machine.mix().into_iter();
    for (mix, name) in mixes.flat_map(|mix| mix.applications.0.keys().map(move |n| (mix, n))) {
        let leaves = leaves(machine, mix, name, calls, context);
        // Whom nobody tells of may be called all the same: that is not shown while links carry more than told.
        let leaves = leaves.and_then(|reason| {
            untold.as_ref().map_or(Ok(reason), |untold| Err(format!("may be called: {untold}")))
        });
        match leaves {
            Ok(reason) => {
                chances.found.push(Opportunity::MixDown { application: name.clone(), reason });
            }
            Err(reason) => drop(chances.stays.insert(name.clone(), reason)),
        }
    }
    match shrink(machine, context) {
        Ok(to) => chances.found.push(Opportunity::Shrink { to }),
        Err(reason) => chances.no_less = Some(reason),
    }
    chances
}

/// Share of an amount that stays free at a peak.
#[expect(clippy::cast_precision_loss, reason = "three digits are compared")]
pub(crate) fn free_share(peak: u64, capacity: u64) -> f64 {
    if capacity == 0 { 0.0 } else { 1.0 - peak as f64 / capacity as f64 }
}

fn mix_up(machine: &Measured<'_>, policy: &Policy) -> Result<Opportunity, String> {
    let Allocation { cpu, memory, .. } = machine.present.allocation;
    let cpu = machine.cpu_peak().zip(cpu).map(|(peak, given)| free_share(peak.0, given.0));
    let memory = machine.memory_peak().zip(memory).map(|(peak, given)| free_share(peak.0, given.0));
    let Some((cpu_headroom, memory_headroom)) = cpu.zip(memory) else {
        return Err("its free CPU and memory are not known".to_owned());
    };
    if cpu_headroom.min(memory_headroom) < policy.headroom {
        return Err(format!(
            "{:.0} % of CPU and {:.0} % of memory are free at peak, {:.0} % must stay free",
            cpu_headroom * 100.0,
            memory_headroom * 100.0,
            policy.headroom * 100.0
        ));
    }
    Ok(Opportunity::MixUp { cpu_headroom, memory_headroom })
}

/// Why an application may leave its machine, or why not.
fn leaves(
    machine: &Measured<'_>,
    mix: &EffectiveMix,
    name: &AppName,
    around: &Calls<'_>,
    context: &Context<'_>,
) -> Result<String, String> {
    let inbound = around.inbound;
    let Some(application) = context.catalogue.0.get(name) else {
        return Err("is not in the catalogue".to_owned());
    };
    if application.pinned {
        return Err("is pinned to its machine".to_owned());
    }
    if !application.movable {
        return Err("may not move, by the catalogue".to_owned());
    }
    if application.keeps_data {
        return Err("keeps data on its machine's disks".to_owned());
    }
    let used = machine.present.applications.get(name);
    if used.is_none_or(|used| used.seen == 0) {
        return Err("was not seen running".to_owned());
    }
    if !mix.healthy.contains(name) {
        return Err("was not healthy when it was last asked".to_owned());
    }
    let serves = |port: u16| {
        application.serves.contains_key(&port)
            || used.is_some_and(|used| used.listens.contains(&port))
    };
    // Whose port it is by the catalogue is called, whatever name its guest gives to who answers.
    let calls = inbound.iter().filter(|edge| match edge.key.server.application() {
        Some(server) => server == name || application.serves.contains_key(&edge.key.port),
        None => serves(edge.key.port),
    });
    let calls: Vec<&Held<'_>> = calls.copied().collect();
    let listens = used.is_some_and(|used| !used.listens.is_empty());
    let ever = around.recurring.iter().filter(|ever| match ever.application {
        Some(server) => server == name || application.serves.contains_key(&ever.port),
        None => serves(ever.port),
    });
    if let Some(why) = may_come_again(ever, around.now) {
        return Err(why);
    }
    if let Some(edge) = inbound.iter().find(|edge| edge.key.server.application().is_none())
        && !listens
    {
        let port = edge.key.port;
        return Err(format!("may be what is called on port {port}, which nothing here owns up to"));
    }
    let is_job = application.class == Class::Batch || !listens;
    unused(machine, &calls, is_job, context.policy)
}

/// Why what was called regularly may be called again, though it was silent of late.
fn may_come_again<'a>(
    ever: impl Iterator<Item = &'a Recurring<'a>>,
    now: Timestamp,
) -> Option<String> {
    let due = ever.filter(|ever| now.since(ever.last_seen) < ever.silence);
    let longest = due.max_by_key(|ever| ever.silence)?;
    let hours = |span: std::time::Duration| span.as_secs().div_ceil(3600);
    Some(format!(
        "was called regularly; it must be silent for {} h to show that it no longer is, and is for {} h",
        hours(longest.silence),
        hours(now.since(longest.last_seen))
    ))
}

/// A job that nobody calls may leave at once. What could be called must have been silent for so
/// long that even the upper bound of its rate is nothing: absence is shown, not assumed.
fn unused(
    machine: &Measured<'_>,
    calls: &[&Held<'_>],
    is_job: bool,
    policy: &Policy,
) -> Result<String, String> {
    if calls.is_empty() && is_job {
        return Ok("is a job that nothing calls".to_owned());
    }
    let watched = machine.watched();
    if let Some(longest) = longest_period(calls.iter().copied())
        && watched < longest * PERIODS_OF_SILENCE
    {
        let (every, watched) = (longest.as_secs(), watched.as_secs());
        return Err(format!(
            "is used every {every} s or so; {watched} s do not show that it no longer is"
        ));
    }
    let events = calls.iter().fold(0, |all: u64, edge| all.saturating_add(edge.opened));
    let is_open = calls.iter().any(|edge| edge.ever_open > 0.0);
    let upper = rate(events, watched).upper;
    if !is_open && upper < policy.unused_per_second {
        let seconds = watched.as_secs();
        return Ok(format!("was called {events} times in {seconds} s, at most {upper:.2e} per s"));
    }
    if !calls.is_empty() && calls.iter().all(|edge| edge.backing == Backing::Claimed) {
        return Err("is called, as the other ends alone say".to_owned());
    }
    if calls.is_empty() {
        return Err(format!(
            "listens; {} s without a call do not show that nobody needs it",
            watched.as_secs()
        ));
    }
    Err("serves clients, and moves only together with a service address".to_owned())
}

/// What would do, if that is enough less than what is given.
fn shrink(machine: &Measured<'_>, context: &Context<'_>) -> Result<Allocation, String> {
    let policy = context.policy;
    // What was too little once is too little for good.
    let once = context.history.memory_floor(machine.vm, None).map_or(0, |floor| floor.memory.0);
    let (by_mix_cpu, by_mix_memory) = by_mixes(machine, context);
    let given = machine.present.allocation;
    if machine.out_of_memory().is_some_and(|times| times > 0) {
        return Err("it ran out of memory and is given no less".to_owned());
    }
    let cpu = given.cpu.zip(machine.cpu_peak()).map(|(given, peak)| {
        let enough = with_margin(peak.0, policy).max(by_mix_cpu);
        let enough = enough.max(CPU_FLOOR.0).next_multiple_of(CPU_STEP);
        Millicores(lowered(given.0, enough, policy))
    });
    // Without a count of the times it ran out, less memory would be a guess.
    let known = machine.out_of_memory().and(machine.memory_peak());
    let memory = given.memory.zip(known).map(|(given, peak)| {
        let floor = Bytes::mebi(policy.memory_floor_mib).0;
        let enough = with_margin(peak.0.max(once), policy).max(by_mix_memory);
        let enough = enough.max(floor).next_multiple_of(MEMORY_STEP);
        Bytes(lowered(given.0, enough, policy))
    });
    let to = Allocation {
        cpu: cpu.or(given.cpu),
        memory: memory.or(given.memory),
        storage: given.storage,
    };
    if to == given {
        return Err("it needs about what it is given, as far as that is known".to_owned());
    }
    Ok(to)
}

/// What the applications of a machine's mix need together, each by its own configuration mix: over the
/// whole cycle that is remembered, where the windows held may be of a quiet hour.
fn by_mixes(machine: &Measured<'_>, context: &Context<'_>) -> (u64, u64) {
    let Some(mix) = machine.mix() else { return (0, 0) };
    let needs = machine.needs().iter();
    let listed = needs.filter(|(name, _)| mix.applications.0.contains_key(*name));
    let mixes = listed.map(|(name, need)| mixes::mix(machine.vm, name, need, context));
    mixes.fold((0, 0), |(cpu, memory): (u64, u64), mix| {
        (cpu.saturating_add(mix.cpu.value), memory.saturating_add(mix.memory.value))
    })
}

/// `enough` if it is so much less than `given` that it is worth it.
fn lowered(given: u64, enough: u64, policy: &Policy) -> u64 {
    if free_share(enough, given) >= policy.shrink_minimum && enough < given {
        enough
    } else {
        given
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates, and no amount has more than 52 bits of truth"
)]
pub(super) fn with_margin(peak: u64, policy: &Policy) -> u64 {
    (peak as f64 * (1.0 + policy.shrink_margin)).ceil() as u64
}

/// What could be done, as one sentence.
pub(super) fn told(found: &[Opportunity]) -> String {
    let each = found.iter().map(|opportunity| match opportunity {
        Opportunity::MixUp { cpu_headroom, memory_headroom } => format!(
            "can carry more: {:.0} % of CPU and {:.0} % of memory are free at peak",
            cpu_headroom * 100.0,
            memory_headroom * 100.0
        ),
        Opportunity::MixDown { application, reason } => {
            format!("{application} could leave it: it {reason}")
        }
        Opportunity::Shrink { to } => {
            let cpu = to.cpu.map_or_else(|| "its CPU".to_owned(), |cpu| cpu.to_string());
            let memory = to.memory.map_or_else(|| "its memory".to_owned(), |m| m.to_string());
            format!("would do with {cpu} and {memory}")
        }
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
