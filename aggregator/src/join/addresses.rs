//! Which machine an address belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use common::id::VmId;

use super::JoinedMachine;
use crate::hypervisor::Power;

/// The owners of addresses. An address that several running machines have is nobody's.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: BTreeMap<IpAddr, VmId>,
    shared: BTreeSet<IpAddr>,
}

impl Owners {
    /// A clone on trial owns nothing: its addresses are its source's. What is off owns what no
    /// running machine claims.
    pub(super) fn of(machines: &BTreeMap<VmId, JoinedMachine>, remarks: &mut Vec<String>) -> Self {
        let mut owners = Self::default();
        let in_production = || machines.iter().filter(|(_, machine)| !machine.on_trial);
        for (vm, machine) in in_production().filter(|(_, m)| m.power != Some(Power::Off)) {
            for address in &machine.addresses {
                if owners.owners.insert(*address, vm.clone()).is_some() {
                    owners.shared.insert(*address);
                }
            }
        }
        for (vm, machine) in in_production().filter(|(_, m)| m.power == Some(Power::Off)) {
            for address in &machine.addresses {
                owners.owners.entry(*address).or_insert_with(|| vm.clone());
            }
        }
        for address in &owners.shared {
            owners.owners.remove(address);
            remarks.push(format!("several machines have the address {address}; it names none"));
        }
        owners
    }

    /// Who has `address`, as `viewer` means it.
    pub(super) fn owner<'a>(&'a self, viewer: &'a VmId, address: IpAddr) -> Option<&'a VmId> {
        if address.is_loopback() { Some(viewer) } else { self.owners.get(&address) }
    }

    /// Who has `address`, as seen from another place in the network.
    pub(super) fn remote(&self, address: IpAddr) -> Option<&VmId> {
        self.owners.get(&address)
    }

    /// Whether `address` means another machine to everyone who uses it, so that the same pair of
    /// ends on two machines is two connections.
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.shared.contains(&address)
    }
}
