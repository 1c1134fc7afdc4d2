//! Whose an address is, by the hypervisor: a guest may speak of its own only.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    id::VmId,
    sample::Sample,
    task::{Chain, Tasks},
};
use ipnet::IpNet;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::hypervisor::{Hypervisor, Inventory};

/// How old the inventory may be that claims are held against.
const FRESH: Duration = Duration::from_secs(30);
/// How old it may be for a machine that is not in it: a clone that has just come to be.
const FRESH_FOR_NEW: Duration = Duration::from_secs(1);
/// How long the hypervisor may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The machines behind each address, asked anew now and then. Nobody waits for the answer: samples
/// are held against the last one.
pub(super) struct Owners(Arc<Asked>);

struct Asked {
    hypervisor: Arc<dyn Hypervisor>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    asked_at: Option<Instant>,
    addresses: Arc<Addresses>,
}

/// The machines behind each address. A clone on trial has those of its source.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    machines: BTreeSet<VmId>,
    owners: BTreeMap<IpAddr, BTreeSet<VmId>>,
    sources: BTreeMap<VmId, VmId>,
}

impl Owners {
    pub(super) fn new(hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self(Arc::new(Asked { hypervisor, known: Mutex::default() }))
    }

    /// The addresses as the hypervisor knew them last; it is asked again if that is long ago, or
    /// if it did not know `vm` then.
    pub(super) fn addresses(&self, vm: &VmId, tasks: &Tasks) -> Arc<Addresses> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !known.addresses.machines.contains(vm);
        let fresh = if is_new { FRESH_FOR_NEW } else { FRESH };
        if known.asked_at.is_none_or(|at| at.elapsed() >= fresh) {
            known.asked_at = Some(Instant::now());
            let asked = Arc::clone(&self.0);
            tasks.spawn("owners of addresses", async move { asked.ask().await });
        }
        Arc::clone(&known.addresses)
    }
}

impl Asked {
    async fn ask(&self) -> Result<(), Infallible> {
        match time::timeout(PATIENCE, self.hypervisor.inventory()).await {
            Ok(Ok(inventory)) => {
                let addresses = Arc::new(Addresses::of(&inventory));
                self.known.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
            }
            Ok(Err(cause)) => {
                debug!(cause = %Chain(&cause), "claims held against an old inventory");
            }
            Err(_) => debug!("claims held against an old inventory: no answer in time"),
        }
        Ok(())
    }
}

impl Addresses {
    fn of(inventory: &Inventory) -> Self {
        let mut all = Self::default();
        for (id, machine) in &inventory.machines {
            all.machines.insert(id.clone());
            for address in machine.nics.iter().flat_map(|nic| &nic.addresses) {
                all.owners.entry(address.addr()).or_default().insert(id.clone());
            }
            if let Some(source) = &machine.cloned_from {
                all.sources.insert(id.clone(), source.clone());
            }
        }
        all
    }

    /// An address that `vm` reports as its own and the hypervisor gave to others. Of a machine
    /// that came to be after the hypervisor was asked, nothing can be said: it may be a clone.
    pub(super) fn foreign(&self, vm: &VmId, sample: &Sample) -> Option<IpAddr> {
        if !self.machines.contains(vm) {
            return None;
        }
        let stated = sample.facts.iter().flat_map(|facts| &facts.interfaces);
        let stated = stated.flat_map(|interface| interface.addresses.iter().map(IpNet::addr));
        let used = sample.connections.upserted.iter().map(|(key, _)| key.local.ip());
        stated.chain(used).find(|address| self.is_foreign(vm, *address))
    }

    fn is_foreign(&self, vm: &VmId, address: IpAddr) -> bool {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return false;
        }
        let Some(owners) = self.owners.get(&address) else { return false };
        let is_kin = |other: &VmId| {
            other == vm
                || self.sources.get(vm) == Some(other)
                || self.sources.get(other) == Some(vm)
        };
        !owners.iter().any(is_kin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str) -> VmId {
        name.parse().unwrap()
    }

    fn addresses() -> Addresses {
        let owner = |address: &str, name| (address.parse().unwrap(), [vm(name)].into());
        Addresses {
            machines: [vm("web"), vm("store"), vm("clone")].into(),
            owners: [owner("10.0.0.1", "web"), owner("10.0.0.2", "store")].into(),
            sources: [(vm("clone"), vm("web"))].into(),
        }
    }

    #[test]
    fn anothers_address_is_foreign_and_an_unknown_one_is_not() {
        let known = addresses();
        assert!(known.is_foreign(&vm("web"), "10.0.0.2".parse().unwrap()));
        assert!(!known.is_foreign(&vm("web"), "10.0.0.1".parse().unwrap()));
        assert!(!known.is_foreign(&vm("web"), "192.168.7.7".parse().unwrap()));
    }

    #[test]
    fn of_a_machine_that_just_came_to_be_nothing_is_said() {
        let key = common::sample::ConnectionKey {
            protocol: common::sample::Protocol::Tcp,
            local: "10.0.0.2:80".parse().unwrap(),
            remote: None,
        };
        let row = common::sample::Connection {
            state: common::sample::ConnectionState::Listen,
            direction: common::sample::Direction::Listener,
            holder: common::sample::Holder::Unknown { reason: "test".into(), application: None },
            first_seen: common::clock::Timestamp::default(),
            sent: None,
            received: None,
            user: None,
            inode: None,
            translated: None,
            transport: None,
        };
        let mut sample = Sample::default();
        sample.connections.upserted.push((key, row));
        assert_eq!(addresses().foreign(&vm("new"), &sample), None);
        assert_eq!(addresses().foreign(&vm("web"), &sample), Some(key.local.ip()));
    }

    #[test]
    fn a_clone_may_have_the_addresses_of_its_source() {
        let known = addresses();
        assert!(!known.is_foreign(&vm("clone"), "10.0.0.1".parse().unwrap()));
        assert!(known.is_foreign(&vm("clone"), "10.0.0.2".parse().unwrap()));
    }
}
