//! The state of the fleet, as far as a plan may change it, asked past the aggregator: of libvirt what
//! each machine is given and plugged into, of each guest's own systemd and kernel what runs there.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::hypervisor::{
    Hypervisor as _, Machine, Power,
    libvirt::{LibvirtHost, LibvirtHypervisor},
};
use libvirt_rpc::{Address, Credentials};
use sha2::{Digest as _, Sha256};

use super::Farm;

/// Asks a guest: units as they are and shall be, and its addresses on the production network.
const ASK: &str = "systemctl show -p Id -p ActiveState -p UnitFileState -p MemoryMax \
     -p CPUQuotaPerSecUSec nginx redis-server shop cart report sinter-agent; \
     ip -4 -o addr show dev eth0 | awk '{ print $4 }'; hostname";

/// Lines of text by machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(BTreeMap<String, Vec<String>>);

/// The machines as libvirt tells them.
pub async fn machines(farm: &Farm) -> Vec<Machine> {
    let host = LibvirtHost {
        name: "lab".to_owned(),
        address: Address::of_socket(&farm.vmlab.socket()),
        credentials: Credentials::default(),
        uplinks: BTreeSet::from(["management".to_owned()]),
    };
    let inventory = LibvirtHypervisor::new(vec![host]).inventory().await.unwrap();
    inventory.machines.into_values().collect()
}

impl State {
    /// The state now; `None` while a guest that runs does not answer.
    pub async fn now(farm: &Farm) -> Option<Self> {
        let mut state = BTreeMap::new();
        for machine in machines(farm).await {
            let mut lines = outside(&machine);
            if machine.power == Power::On {
                let inside = farm.run(&machine.name, ASK).ok()?;
                lines.extend(inside.lines().map(str::to_owned));
            }
            state.insert(machine.name, lines);
        }
        Some(Self(state))
    }

    /// First digits of a hash over all of it.
    pub fn hash(&self) -> String {
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
    pub fn difference(&self, then: &Self) -> String {
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

/// What libvirt says: power, what it is given, links, disks.
fn outside(machine: &Machine) -> Vec<String> {
    let mut lines =
        vec![format!("power {:?}", machine.power), format!("given {:?}", machine.allocation)];
    for nic in &machine.nics {
        lines.push(format!("link {} in {:?}, up {}", nic.mac, nic.network, nic.up));
    }
    lines.extend(machine.volumes.iter().map(|volume| format!("disk {}", volume.id)));
    lines
}
