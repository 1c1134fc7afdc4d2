//! Whether a host has room for a clone beside what it runs.

use std::collections::BTreeMap;

use common::{
    id::{HostId, StorageId, VmId},
    units::Bytes,
};

use super::model::Model;
use crate::hypervisor::{Allocation, Machine, Power};

/// What is left on each host; a clone of an earlier plan of the same round is counted already.
pub(super) struct Hosts {
    left: BTreeMap<HostId, Left>,
    pools: BTreeMap<(HostId, StorageId), u64>,
}

struct Left {
    cpu: u64,
    memory: u64,
}

impl Hosts {
    /// CPU is counted as it is used on average, for hosts share it out anew at every tick; memory
    /// as it is given, for what is given away twice ends a machine.
    pub(super) fn of(model: &Model<'_>) -> Self {
        let inventory = model.situation.inventory;
        let mut left = BTreeMap::new();
        let mut pools = BTreeMap::new();
        for (id, host) in &inventory.hosts {
            left.insert(id.clone(), Left { cpu: host.cpu.0, memory: host.memory.0 });
            for pool in &host.pools {
                if let Some(available) = pool.available {
                    pools.insert((id.clone(), pool.id.clone()), available.0);
                }
            }
        }
        for (vm, machine) in inventory.machines.iter().filter(|(_, m)| m.power == Power::On) {
            if let Some(left) = left.get_mut(&machine.host) {
                let memory = given_or_used(model, vm, machine);
                left.cpu = left.cpu.saturating_sub(cpu_of(model, vm, machine));
                left.memory = left.memory.saturating_sub(memory);
            }
        }
        Self { left, pools }
    }

    /// Memory that is given to nobody; `None` for a host that the inventory does not list.
    pub(super) fn memory_left(&self, host: &HostId) -> Option<Bytes> {
        self.left.get(host).map(|left| Bytes(left.memory))
    }

    /// Takes room for a clone of a machine; takes nothing if there is too little.
    pub(super) fn reserve(
        &mut self,
        model: &Model<'_>,
        (vm, machine): (&VmId, &Machine),
        allocation: &Allocation,
    ) -> Result<(), String> {
        let host = &machine.host;
        let disks = machine
            .volumes
            .iter()
            .filter_map(|volume| Some(((host.clone(), volume.pool.clone()), volume.allocated?.0)));
        let mut needed: BTreeMap<(HostId, StorageId), u64> = BTreeMap::new();
        for (pool, bytes) in disks {
            *needed.entry(pool).or_default() += bytes;
        }
        let full = needed.iter().find(|(pool, bytes)| {
            self.pools.get(*pool).is_some_and(|available| available < *bytes)
        });
        if let Some(((_, pool), _)) = full {
            return Err(format!("pool {pool} has no room for the clone's disks"));
        }
        // A host that the inventory does not list says nothing against it.
        if let Some(left) = self.left.get_mut(host) {
            let cpu = cpu_of(model, vm, machine);
            let memory = allocation.memory.map_or(0, |memory| memory.0);
            if left.memory < memory {
                return Err(format!("host {host} has no memory left for a clone"));
            }
            if left.cpu < cpu {
                return Err(format!("host {host} has no CPU left for a clone"));
            }
            left.cpu -= cpu;
            left.memory -= memory;
        }
        for (pool, bytes) in needed {
            if let Some(available) = self.pools.get_mut(&pool) {
                *available -= bytes;
            }
        }
        Ok(())
    }
}

fn cpu_of(model: &Model<'_>, vm: &VmId, machine: &Machine) -> u64 {
    let used = model.standing(vm).and_then(|standing| standing.cpu_mean);
    used.or(machine.allocation.cpu).map_or(0, |cpu| cpu.0)
}

fn given_or_used(model: &Model<'_>, vm: &VmId, machine: &Machine) -> u64 {
    let used = || model.standing(vm).and_then(|standing| standing.memory_peak);
    machine.allocation.memory.or_else(used).map_or(0, |memory| memory.0)
}
