//! What works on a machine besides its mix: it would end with the machine, and nobody would have
//! asked for that.

use common::{id::AppName, units::Millicores};

use super::{
    measured::Measured,
    opportunities::{Calls, free_share},
};
use crate::{catalogue::AGENT, policy::Policy};

/// What works on it, as part of a sentence; `None` if nothing does. Talk with infrastructure is
/// housekeeping: every guest asks for names and the time.
pub(super) fn besides(
    machine: &Measured<'_>,
    calls: &Calls<'_>,
    policy: &Policy,
) -> Option<String> {
    let mix = machine.mix()?;
    let is_other =
        |name: &AppName| name.as_str() != AGENT && !mix.applications.0.contains_key(name);
    for edge in calls.inbound.iter().filter(|edge| !edge.infrastructure) {
        let port = edge.key.port;
        match edge.key.server.application() {
            None => return Some(format!("something nobody knows is called on port {port}")),
            Some(name) if is_other(name) => {
                return Some(format!("{name}, which is not of the mix, is called on port {port}"));
            }
            Some(_) => {}
        }
    }
    let outbound = calls.outbound.iter().filter(|edge| !edge.infrastructure);
    let callers = outbound.filter_map(|edge| edge.key.client.application());
    if let Some(name) = callers.into_iter().find(|name| is_other(name)) {
        return Some(format!("{name}, which is not of the mix, talks to others"));
    }
    let needs = machine.needs();
    let others = needs.iter().filter(|(name, _)| is_other(name));
    let used = others.map(|(_, need)| need.cpu_mean.0).sum();
    let given = machine.present.allocation.cpu.unwrap_or(Millicores(1000));
    (1.0 - free_share(used, given.0) > policy.housekeeping_cpu_share)
        .then(|| format!("applications that are not of the mix use {}", Millicores(used)))
}
