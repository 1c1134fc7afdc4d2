//! What is there: hosts, machines, their links and disks.

use std::collections::BTreeMap;

use common::{
    clock::{Clock as _, SystemClock},
    id::{NetworkId, StorageId, VmId},
    task::Chain,
    units::{Bytes, Millicores},
};
use futures::future::join_all;
use tracing::warn;
use vsphere_soap::{Error, Moref};

use super::{
    VsphereHypervisor,
    device::{Disk, Link, Plug},
    facts::{DatastoreFacts, HostFacts, MachineFacts},
    known::Known,
    mark, resize,
    site::Site,
};
use crate::hypervisor::{
    Allocation, Host, HypervisorError, Inventory, Machine, Nic, Pool, Power, Volume,
};

impl VsphereHypervisor {
    pub(super) async fn all(&self) -> Result<Inventory, HypervisorError> {
        let asked = self.sites.iter().map(|site| async move { (site, site.all().await) });
        let mut inventory = Inventory { taken_at: SystemClock.now(), ..Inventory::default() };
        let mut failed = None;
        for (site, answer) in join_all(asked).await {
            match answer {
                Ok((hosts, machines)) => {
                    inventory.hosts.extend(hosts.into_iter().map(|host| (host.id.clone(), host)));
                    machines.into_iter().for_each(|machine| add(&mut inventory, machine));
                }
                Err(error) => {
                    let cause = Chain(&error).to_string();
                    warn!(centre = site.name, cause, "centre not in the inventory");
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if inventory.hosts.is_empty() => Err(error),
            _ => Ok(inventory),
        }
    }
}

/// Of two machines with one uuid the one that runs counts.
fn add(inventory: &mut Inventory, machine: Machine) {
    if let Some(other) = inventory.machines.get(&machine.id) {
        warn!(vm = %machine.id, one = other.name, other = machine.name, "two machines have one uuid");
        if other.power == Power::On {
            return;
        }
    }
    inventory.machines.insert(machine.id.clone(), machine);
}

/// A name where it is an id, else the reference, which always is one.
fn id_of(name: &str, value: &str) -> Option<StorageId> {
    name.parse().or_else(|_| value.parse()).ok()
}

impl Site {
    async fn all(&self) -> Result<(Vec<Host>, Vec<Machine>), HypervisorError> {
        self.refresh().await?;
        let attribute = self.label_attribute().await?;
        let known = self.known.lock().await;
        let Some(known) = known.as_ref() else { return Ok((Vec::new(), Vec::new())) };
        let hosts = known.hosts.iter().filter_map(|(of, host)| self.host(of, host, known));
        let machines = known.machines.values().filter(|machine| !machine.is_template);
        let machines = machines.filter_map(|machine| self.machine(machine, known, attribute));
        Ok((hosts.collect(), machines.collect()))
    }

    /// The number of the custom attribute that holds labels; `None` if nobody made it yet, or on a
    /// host without a centre, which has none.
    pub(super) async fn label_attribute(&self) -> Result<Option<i32>, HypervisorError> {
        let manager = match self.client.session().await?.content.object("customFieldsManager") {
            Err(Error::Lacking { .. }) => return Ok(None),
            manager => manager?,
        };
        let told = self.client.object(&manager, &["field"]).await?;
        let fields = told.as_ref().and_then(|told| told.properties.get("field"));
        let mut fields = fields.into_iter().flat_map(|list| &list.children);
        let labels = fields.find(|field| field.text_at("name") == Some(mark::LABELS));
        Ok(labels.and_then(|field| field.number_at("key")))
    }

    fn host(&self, of: &Moref, host: &HostFacts, known: &Known) -> Option<Host> {
        let id = self.host_id(of).ok()?;
        let (Some(cores), Some(memory)) = (host.cores, host.memory) else {
            warn!(host = %id, name = host.name, "host left out, it does not say what it has");
            return None;
        };
        let pools = host
            .datastores
            .iter()
            .filter_map(|store| known.datastores.get(store).and_then(|facts| pool(store, facts)));
        Some(Host {
            id,
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            macs: host.virtual_macs.union(&host.physical_macs).cloned().collect(),
            cpu: Millicores(cores.saturating_mul(1000)),
            memory: Bytes(memory),
            pools: pools.collect(),
        })
    }

    fn machine(
        &self,
        machine: &MachineFacts,
        known: &Known,
        attribute: Option<i32>,
    ) -> Option<Machine> {
        let id = machine.uuid.clone()?;
        let on = machine.host.as_ref()?;
        let hz = known.hosts.get(on).and_then(|host| host.hz);
        let volumes: Vec<_> =
            machine.disks.iter().filter_map(|disk| volume(&id, disk, machine, known)).collect();
        let mut sizes = machine.disks.iter().map(|disk| disk.capacity);
        // Of a disk whose size is not told the sum is not known either.
        let storage = sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?)).map(Bytes);
        let mark = machine.mark();
        let written = attribute.and_then(|key| machine.attributes.get(&key));
        Some(Machine {
            name: machine.name.clone(),
            host: self.host_id(on).ok()?,
            power: machine.power(),
            allocation: Allocation { storage, ..resize::given(machine, hz) },
            nics: machine.links.iter().map(|link| nic(link, machine, &known.networks)).collect(),
            volumes,
            cloned_from: mark.map(|mark| mark.cloned_from.clone()),
            plan: mark.map(|mark| mark.plan.clone()),
            labels: mark::labels(written.map(String::as_str), &machine.notes),
            id,
        })
    }
}

fn pool(of: &Moref, facts: &DatastoreFacts) -> Option<Pool> {
    let capacity = facts.capacity?;
    let taken = facts.free.and_then(|free| capacity.checked_sub(free));
    let promised = taken.zip(facts.uncommitted).and_then(|(taken, more)| taken.checked_add(more));
    Some(Pool {
        id: id_of(&facts.name, &of.value)?,
        capacity: Bytes(capacity),
        allocated: promised.map(Bytes),
        available: facts.free.map(Bytes),
    })
}

fn volume(vm: &VmId, disk: &Disk, machine: &MachineFacts, known: &Known) -> Option<Volume> {
    let store = disk.datastore.as_deref().unwrap_or("unknown");
    let facts = known.datastores.get(&Moref::new("Datastore", store));
    Some(Volume {
        // Its file's name may hold what no id does, and changes when it is moved.
        id: format!("{vm}/{}", disk.key).parse().ok()?,
        pool: id_of(facts.map_or(store, |facts| facts.name.as_str()), store)?,
        capacity: disk.capacity.map(Bytes),
        allocated: machine.taken.get(&disk.key).copied().map(Bytes),
    })
}

/// A network's name, if it is an id, else its reference.
pub(super) fn network_of(plug: &Plug, names: &BTreeMap<String, String>) -> Option<NetworkId> {
    let (name, value) = match plug {
        Plug::Standard(name, value) => (Some(name.as_str()), value.as_deref()),
        Plug::Distributed(key) => (names.get(key).map(String::as_str), Some(key.as_str())),
        Plug::Opaque(id) => (None, Some(id.as_str())),
        Plug::Unknown => (None, None),
    };
    let by_name = name.and_then(|name| name.parse().ok());
    by_name.or_else(|| value.and_then(|value| value.parse().ok()))
}

fn nic(link: &Link, machine: &MachineFacts, names: &BTreeMap<String, String>) -> Nic {
    let kind = match link.plug {
        Plug::Standard(..) => "port group",
        Plug::Distributed(_) => "distributed port group",
        Plug::Opaque(_) => "opaque network",
        Plug::Unknown => "unknown",
    };
    Nic {
        mac: link.mac.clone(),
        network: network_of(&link.plug, names),
        kind: kind.to_owned(),
        addresses: machine.addresses.get(&link.mac).cloned().unwrap_or_default(),
        up: machine.is_on && link.is_connected,
    }
}
