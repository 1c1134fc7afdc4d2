//! The state of the fleet, as far as a plan may change it: applications, processes, limits and
//! addresses. The way back is right if it is the same before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use common::{
    clock::{Clock, Timestamp},
    id::VmId,
    sample::Observation,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time;

use super::{DevError, io};
use crate::{
    guest::{AgentHub, Guests as _},
    hypervisor::{Hypervisor as _, Inventory, Machine, Power, namespace::NamespaceHypervisor},
};

/// Where it is kept.
const KEPT: &str = "state-before.json";
/// How often it is looked whether all agents have spoken.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is compared: lines of text by machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State(BTreeMap<String, Vec<String>>);

impl State {
    /// The state now, by samples that came after `since`; `None` if some agent has not spoken
    /// since then within `patience`.
    pub(super) async fn now(
        hypervisor: &NamespaceHypervisor,
        hub: &AgentHub,
        clock: &dyn Clock,
        patience: Duration,
    ) -> Result<Option<Self>, DevError> {
        let since = clock.now();
        let deadline = time::Instant::now() + patience;
        loop {
            let inventory = hypervisor.inventory().await?;
            if let Some(state) = Self::of(&inventory, hub, since).await {
                return Ok(Some(state));
            }
            if time::Instant::now() > deadline {
                return Ok(None);
            }
            time::sleep(LOOK_EVERY).await;
        }
    }

    async fn of(inventory: &Inventory, hub: &AgentHub, since: Timestamp) -> Option<Self> {
        let mut machines = BTreeMap::new();
        for (vm, machine) in &inventory.machines {
            let mut lines = outside(machine);
            if machine.power == Power::On {
                lines.extend(inside(&seen(hub, vm, since).await?));
            }
            machines.insert(machine.name.clone(), lines);
        }
        Some(Self(machines))
    }

    /// Keeps it for a demonstration that goes on where this one was killed.
    pub(super) fn keep(&self, folder: &Path) -> Result<(), DevError> {
        let path = folder.join(KEPT);
        let kept = serde_json::to_vec(self).map_err(std::io::Error::from);
        kept.and_then(|bytes| fs::write(&path, bytes)).map_err(io("write", &path))
    }

    /// The state that was kept; `None` if none was.
    pub(super) fn kept(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(KEPT)).ok()?).ok()
    }

    /// First digits of a hash over all of it.
    pub(super) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, lines) in &self.0 {
            for line in std::iter::once(name).chain(lines) {
                hash.update((line.len() as u64).to_be_bytes());
                hash.update(line);
            }
        }
        hex::encode(&hash.finalize()[..8])
    }

    /// What is here and not there, and the other way round.
    pub(super) fn difference(&self, then: &Self) -> String {
        let names: BTreeSet<_> = self.0.keys().chain(then.0.keys()).collect();
        let none = Vec::new();
        let mut text = String::new();
        for name in names {
            let (was, is) = (self.0.get(name).unwrap_or(&none), then.0.get(name).unwrap_or(&none));
            let gone = was.iter().filter(|line| !is.contains(line)).map(|line| ("-", line));
            let new = is.iter().filter(|line| !was.contains(line)).map(|line| ("+", line));
            text.extend(gone.chain(new).map(|(sign, line)| format!("{sign} {name}: {line}\n")));
        }
        text
    }
}

async fn seen(hub: &AgentHub, vm: &VmId, since: Timestamp) -> Option<Observation> {
    let seen = hub.last_seen(vm).await?;
    (seen.received_at > since).then_some(seen.observation)
}

/// What the hypervisor says: power, limits, addresses.
fn outside(machine: &Machine) -> Vec<String> {
    let mut lines =
        vec![format!("power {:?}", machine.power), format!("given {:?}", machine.allocation)];
    for nic in &machine.nics {
        lines.push(format!("link {} at {:?} in {:?}", nic.mac, nic.addresses, nic.network));
    }
    lines
}

/// What the guest says: applications with settings and limits, processes, addresses.
fn inside(seen: &Observation) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, setup) in &seen.mix.applications.0 {
        let is_healthy = seen.mix.healthy.contains(name);
        lines.push(format!("application {name} healthy {is_healthy} {setup:?}"));
    }
    // Numbers and starts differ after a restart; what runs does not.
    let mut processes: BTreeMap<String, usize> = BTreeMap::new();
    for process in seen.processes.values() {
        let runs = process.executable.as_ref().unwrap_or(&process.name);
        let of = process.application.as_ref().map_or("-", |name| name.as_str());
        *processes.entry(format!("{runs} of {of} as {}", process.user)).or_default() += 1;
    }
    lines.extend(processes.iter().map(|(process, count)| format!("process {count} x {process}")));
    for interface in &seen.facts.interfaces {
        lines.push(format!("interface {} {:?}", interface.name, interface.addresses));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: &[&str]) -> State {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        State([("web".to_owned(), lines)].into())
    }

    #[test]
    fn a_difference_is_named_from_both_sides() {
        let (was, is) = (state(&["power On", "a"]), state(&["power On", "b"]));
        assert_eq!(was.difference(&is), "- web: a\n+ web: b\n");
        assert_ne!(was.hash(), is.hash());
        assert_eq!(was.hash(), was.clone().hash());
    }
}
