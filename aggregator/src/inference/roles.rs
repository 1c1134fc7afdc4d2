//! What each application does where it runs: it calls, is called, keeps data, or works by itself.

use std::collections::{BTreeMap, BTreeSet};

use common::{id::AppName, units::Millicores};
use serde::{Deserialize, Serialize};

use super::{
    Context, Need,
    measured::Measured,
    opportunities::{Calls, free_share},
};
use crate::catalogue::AGENT;

/// Share of its machine's CPU above which an application that nobody calls is at work.
const AT_WORK: f64 = 0.01;
/// Bytes written per second from which a server that the catalogue does not know keeps data.
const KEEPS_FROM: f64 = 4096.0;
/// A peak so many times the mean is a burst.
const BURST: u64 = 3;

/// What an application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It calls others.
    Client,
    /// It is called.
    Server,
    /// It is called, and keeps data.
    Store,
    /// It works though nobody calls it.
    Batch,
}

/// One role, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playing {
    /// The role.
    pub role: Role,
    /// Why, for people.
    pub reason: String,
}

/// The roles of each application of a machine; one that does nothing has none. The agent is left
/// out.
pub(super) fn roles(
    machine: &Measured<'_>,
    calls: &Calls<'_>,
    context: &Context<'_>,
) -> BTreeMap<AppName, Vec<Playing>> {
    let capacity = machine.present.allocation.cpu.unwrap_or(Millicores(1000));
    let mut roles = BTreeMap::new();
    for (name, need) in machine.needs().iter().filter(|(name, _)| name.as_str() != AGENT) {
        let playing = of_one(name, need, calls, (capacity, context));
        if !playing.is_empty() {
            roles.insert(name.clone(), playing);
        }
    }
    roles
}

fn of_one(
    name: &AppName,
    need: &Need,
    calls: &Calls<'_>,
    (capacity, context): (Millicores, &Context<'_>),
) -> Vec<Playing> {
    let called = calls.inbound.iter().filter(|edge| edge.key.server.application() == Some(name));
    let ports: BTreeSet<u16> = called.clone().map(|edge| edge.key.port).collect();
    let callers = called.count();
    let calling = calls.outbound.iter().filter(|edge| edge.key.client.application() == Some(name));
    let callees = calling.count();
    let mut playing = Vec::new();
    let mut plays = |role, reason| playing.push(Playing { role, reason });
    if callees > 0 {
        plays(Role::Client, format!("calls {}", counted(callees, "service")));
    }
    if callers > 0 {
        let ports: Vec<_> = ports.iter().take(4).map(u16::to_string).collect();
        let told = format!("{} on {}", counted(callers, "caller"), ports.join(", "));
        plays(Role::Server, format!("is called by {told}"));
        if let Some(reason) = keeps(name, need, context) {
            plays(Role::Store, reason);
        }
    } else if free_share(need.cpu_mean.0, capacity.0) < 1.0 - AT_WORK {
        let is_burst = need.cpu_peak.0 >= need.cpu_mean.0.max(1) * BURST;
        let how = if is_burst { ", in bursts" } else { "" };
        plays(Role::Batch, format!("uses {} though nobody calls it{how}", need.cpu_mean));
    }
    playing
}

/// Why a server is a store, if it is one.
fn keeps(name: &AppName, need: &Need, context: &Context<'_>) -> Option<String> {
    if context.catalogue.0.get(name).is_some_and(|known| known.keeps_data) {
        return Some("keeps data, by the catalogue".to_owned());
    }
    let written = need.written_per_second.filter(|written| *written >= KEEPS_FROM)?;
    Some(format!("serves and writes {:.0} KiB per second", written / 1024.0))
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
