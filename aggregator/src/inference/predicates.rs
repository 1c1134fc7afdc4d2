//! The claims about one machine, each with the reason a person can read.

use std::collections::BTreeSet;

use common::{
    clock::Timestamp,
    id::VmId,
    units::{Bytes, Millicores},
};

use super::{
    Claim, Context,
    measured::{Measured, mean_cpu, weighted},
};
use crate::{catalogue::AGENT, hypervisor::Power, join::JoinedMachine};

/// Label by which an operator says at the vendor's that a machine is none of our business.
pub(crate) const NEVER_TOUCH: &str = "sinter:never-touch";
/// Differences in CPU below this are the noise of two clocks that read at different moments.
const CPU_NOISE: Millicores = Millicores(20);
/// Differences in traffic below this, in bytes per second, are the agent's own reports, which
/// may leave by a link that the hypervisor does not count.
const TRAFFIC_NOISE: f64 = 65_536.0;
/// Bytes written per second above which a machine is active however little CPU it uses.
const ACTIVE_WRITES: f64 = 4096.0;

pub(super) fn yes(reason: impl Into<String>) -> Claim {
    Claim { holds: true, reason: reason.into() }
}

pub(super) fn no(reason: impl Into<String>) -> Claim {
    Claim { holds: false, reason: reason.into() }
}

/// Whether it uses resources of its host, by the hypervisor's figures and without the agent's own
/// share. Network traffic is not asked: every machine that reports has some, and none goes
/// through a guest without CPU.
pub(super) fn active(machine: &Measured<'_>, context: &Context<'_>) -> Claim {
    match machine.present.power {
        Some(Power::Off) => return no("is powered off"),
        None => return no("the hypervisor does not know it"),
        Some(Power::On) => {}
    }
    let capacity = machine.present.allocation.cpu.unwrap_or(Millicores(1000));
    let shares: Vec<(f64, bool)> =
        machine.recent().iter().filter_map(|window| busy_share(window, capacity)).collect();
    if shares.is_empty() {
        return no("the hypervisor does not say what it uses");
    }
    let least = context.policy.active_cpu_share;
    let busy = shares.iter().filter(|(share, writes)| *share >= least || *writes).count();
    let most = shares.iter().map(|(share, _)| *share).fold(0.0, f64::max);
    let told = format!(
        "uses up to {:.2} % of its CPU besides the agent, in {busy} of {} windows at least {:.2} %",
        most * 100.0,
        shares.len(),
        least * 100.0
    );
    if busy * 2 >= shares.len() { yes(told) } else { no(told) }
}

/// Share of its CPU that a machine used without the agent, and whether it wrote a lot.
#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
fn busy_share(window: &JoinedMachine, capacity: Millicores) -> Option<(f64, bool)> {
    let used = window.outside.cpu_mean?;
    let agent = window.applications.iter().find(|(name, _)| name.as_str() == AGENT);
    let agent = agent.map(|(_, used)| used);
    let own = agent.and_then(|agent| agent.cpu_mean).unwrap_or_default();
    let share = used.0.saturating_sub(own.0) as f64 / capacity.0.max(1) as f64;
    let own_writes = agent.and_then(|agent| agent.written_per_second).unwrap_or(0.0);
    let writes = window.outside.written_per_second.unwrap_or(0.0) - own_writes > ACTIVE_WRITES;
    Some((share, writes))
}

/// Whether it works in concert with others: `peers` are the names of those it communicates or shares
/// a volume with, and it stands in a business group with others.
pub(super) fn participating(
    machine: &Measured<'_>,
    active: &Claim,
    (peers, in_company): (&BTreeSet<&str>, bool),
) -> Claim {
    if !active.holds {
        return no("is not active");
    }
    if peers.is_empty() {
        let waiting = match machine.present.half_closed {
            0 => String::new(),
            1 => ", 1 connection only waits to be closed".to_owned(),
            more => format!(", {more} connections only wait to be closed"),
        };
        return no(format!("works with no other machine of the inventory{waiting}"));
    }
    let shown: Vec<&str> = peers.iter().take(4).copied().collect();
    let more = if peers.len() > shown.len() { " and others" } else { "" };
    let told = format!("works with {}{more}", shown.join(", "));
    if in_company { yes(told) } else { no(format!("{told}, but stands alone in its group")) }
}

/// Whether guest and hypervisor agree about it. A machine of which only one side speaks cannot be
/// held against anything, and is not trusted with a change.
pub(super) fn trusted(machine: &Measured<'_>, context: &Context<'_>) -> Claim {
    if let Some(contradiction) = machine.present.contradictions.first() {
        return no(contradiction.clone());
    }
    if !machine.present.has_agent {
        return no("no agent reports from it, so the hypervisor stands alone");
    }
    let tolerance = context.policy.trust_tolerance;
    let outside = mean_cpu(machine.recent().iter().map(|window| &window.outside));
    let Some(outside) = outside else { return no("the hypervisor does not say what CPU it uses") };
    let guest = mean_cpu(machine.recent().iter().map(|window| &window.guest));
    let applications = applications_cpu(machine);
    let differ = |guest: Millicores, outside: Millicores| {
        let off = guest.0.abs_diff(outside.0);
        off > CPU_NOISE.0 && as_float(off) > tolerance * as_float(guest.0.max(outside.0))
    };
    if let Some(guest) = guest.filter(|guest| differ(*guest, outside)) {
        return no(format!("the guest says it uses {guest}, the hypervisor says {outside}"));
    }
    if applications > outside && differ(applications, outside) {
        let told = "its applications say they use";
        return no(format!("{told} {applications}, the hypervisor says {outside} of the whole"));
    }
    traffic_agrees(machine, tolerance).unwrap_or_else(|| {
        yes(format!("guest and hypervisor agree within {:.0} %", tolerance * 100.0))
    })
}

/// Why the traffic that both sides count does not agree; `None` if it does or cannot be held
/// against each other.
fn traffic_agrees(machine: &Measured<'_>, tolerance: f64) -> Option<Claim> {
    type Side = fn(&crate::join::Use) -> Option<f64>;
    let sides: [(&str, Side); 2] =
        [("receives", |side| side.received_per_second), ("sends", |side| side.sent_per_second)];
    for (verb, side) in sides {
        let recent = machine.recent().iter();
        let guest = weighted(recent.clone().map(|w| (side(&w.guest), w.guest.watched)));
        let outside = weighted(recent.map(|w| (side(&w.outside), w.outside.watched)));
        let Some((guest, outside)) = guest.zip(outside) else { continue };
        let off = (guest - outside).abs();
        if off > TRAFFIC_NOISE && off > tolerance * guest.max(outside) {
            let told = format!("the guest says it {verb} {} per second", bytes(guest));
            return Some(no(format!("{told}, the hypervisor says {}", bytes(outside))));
        }
    }
    None
}

/// CPU of all applications of a guest, over the windows needed to act.
fn applications_cpu(machine: &Measured<'_>) -> Millicores {
    let sums = machine.recent().iter().map(|window| {
        window.applications.values().filter_map(|used| used.cpu_mean).map(|cpu| cpu.0).sum()
    });
    let sums: Vec<u64> = sums.collect();
    Millicores(sums.iter().sum::<u64>() / (sums.len() as u64).max(1))
}

/// What keeps a machine from being changed, whatever could be gained; `None` if nothing does.
pub(super) fn obstacle(
    machine: &Measured<'_>,
    trusted: &Claim,
    now: Timestamp,
    context: &Context<'_>,
) -> Option<String> {
    let present = machine.present;
    if present.on_trial {
        return Some("is a clone on trial".to_owned());
    }
    match present.power {
        None => return Some("the hypervisor does not know it".to_owned()),
        Some(Power::Off) => return Some("is powered off".to_owned()),
        Some(Power::On) => {}
    }
    if let Some(why) = context.scope.opted_out.get(machine.vm) {
        return Some(format!("is left out by the operator: {why}"));
    }
    if present.labels.contains(NEVER_TOUCH) {
        return Some(format!("bears the label {NEVER_TOUCH}"));
    }
    if !present.has_agent {
        return Some("no agent reports from it".to_owned());
    }
    if context.busy.contains(machine.vm) {
        return Some("a plan under way touches it".to_owned());
    }
    if let Some(until) = context.cooldowns.get(machine.vm).filter(|until| **until > now) {
        let left = until.since(now).as_secs();
        return Some(format!("a plan touched it, it is left alone for another {left} s"));
    }
    unproven(machine, context)
        .or_else(|| (!trusted.holds).then(|| trusted.reason.clone()))
        .or_else(|| machine.mix().is_none().then(|| "its application mix is not known".to_owned()))
}

/// What the windows held do not cover.
fn unproven(machine: &Measured<'_>, context: &Context<'_>) -> Option<String> {
    let needed = context.policy.windows_needed;
    let recent = machine.recent();
    if recent.len() < needed {
        return Some(format!("{} of {needed} windows needed know it", recent.len()));
    }
    let least = context.policy.coverage_minimum;
    let worst = recent.iter().map(|window| window.coverage).fold(f64::MAX, f64::min);
    (worst < least).then(|| {
        let (worst, least) = (worst * 100.0, least * 100.0);
        format!(
            "its coverage was {worst:.0} % in one of the last {needed} windows, {least:.0} % is needed"
        )
    })
}

/// Whether a machine of the same group is being changed: one change per group at a time.
pub(super) fn busy_neighbour<'a>(
    vm: &VmId,
    group: &VmId,
    busy_groups: &'a BTreeSet<(&'a VmId, &'a VmId)>,
) -> bool {
    busy_groups.iter().any(|(of, busy)| *of == group && *busy != vm)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are compared")]
fn as_float(amount: u64) -> f64 {
    amount as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is none below zero, and a float to u64 saturates"
)]
fn bytes(amount: f64) -> Bytes {
    Bytes(amount.round() as u64)
}
