//! The claims about one machine, each with the reason a person can read.

use std::collections::BTreeSet;

use common::{clock::Timestamp, id::VmId, units::Millicores};

use super::{Claim, Context, measured::Measured};
pub(crate) use crate::hypervisor::NEVER_TOUCH;
use crate::{catalogue::AGENT, hypervisor::Power, join::JoinedMachine};

/// Bytes written per second above which a machine is active however little CPU it uses.
const ACTIVE_WRITES: f64 = 4096.0;

pub(super) fn yes(reason: impl Into<String>) -> Claim {
    Claim { holds: true, reason: reason.into() }
}

pub(super) fn no(reason: impl Into<String>) -> Claim {
    Claim { holds: false, reason: reason.into() }
}

/// Whether it uses resources of its host in half of the hypervisor's looks, by the hypervisor's figures
/// and without the agent's own share. Network traffic is not asked: every machine that reports has some,
/// and none goes through a guest without CPU.
pub(super) fn active(machine: &Measured<'_>, context: &Context<'_>) -> Claim {
    match machine.present.power {
        Some(Power::Off) => return no("is powered off"),
        None => return no("the hypervisor does not know it"),
        Some(Power::On) => {}
    }
    let capacity = machine.present.allocation.cpu.unwrap_or(Millicores(1000));
    let least = context.policy.active_cpu_share;
    let windows: Vec<Busy> =
        machine.recent().iter().filter_map(|window| busy(window, capacity, least)).collect();
    if windows.is_empty() {
        return no("the hypervisor does not say what it uses");
    }
    let sum = |part: fn(&Busy) -> u64| windows.iter().map(part).sum::<u64>();
    let (busy, looks) = (sum(|window| window.looks_busy), sum(|window| window.looks));
    let most = windows.iter().map(|window| window.share).fold(0.0, f64::max);
    let told = format!(
        "uses up to {:.2} % of its CPU besides the agent, in {busy} of {looks} looks at least {:.2} %",
        most * 100.0,
        least * 100.0
    );
    if busy * 2 >= looks { yes(told) } else { no(told) }
}

/// How busy a machine was in a window.
#[derive(Debug, Clone, Copy)]
struct Busy {
    /// Share of its CPU that it used without the agent, on average.
    share: f64,
    looks: u64,
    looks_busy: u64,
}

/// How busy a machine was; where single looks are not known its average is one. What wrote a lot was
/// busy all along, however little CPU that took.
#[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of an amount is one, and a float to u64 saturates"
)]
fn busy(window: &JoinedMachine, capacity: Millicores, least: f64) -> Option<Busy> {
    let used = window.outside.cpu_mean?;
    let agent = window.applications.iter().find(|(name, _)| name.as_str() == AGENT);
    let agent = agent.map(|(_, used)| used);
    let own = agent.and_then(|agent| agent.cpu_mean).unwrap_or_default();
    let share = used.0.saturating_sub(own.0) as f64 / capacity.0.max(1) as f64;
    let own_writes = agent.and_then(|agent| agent.written_per_second).unwrap_or(0.0);
    let writes = window.outside.written_per_second.unwrap_or(0.0) - own_writes > ACTIVE_WRITES;
    let known = window.cpu_looks.count();
    let from = own.0 + ((least * capacity.0 as f64).ceil() as u64).max(1);
    let (looks, looks_busy) = match known {
        0 => (1, u64::from(share >= least)),
        known => (known, window.cpu_looks.count_from(from)),
    };
    Some(Busy { share, looks, looks_busy: if writes { looks } else { looks_busy } })
}

/// Whether it works in concert with others: `peers` are the names of those it communicates or shares
/// one of the `volumes` with, and it stands in a business group with others.
pub(super) fn participating(
    machine: &Measured<'_>,
    active: &Claim,
    (peers, volumes, in_company): (&BTreeSet<&str>, &BTreeSet<&str>, bool),
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
    let through = match volumes.first() {
        Some(volume) => format!("; uses the volume {volume}"),
        None => String::new(),
    };
    let told = format!("works with {}{more}{through}", shown.join(", "));
    if in_company { yes(told) } else { no(format!("{told}, but stands alone in its group")) }
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

#[cfg(test)]
mod tests;
