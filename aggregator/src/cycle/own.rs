//! Which machine of the fleet this aggregator runs on, if any: no plan may touch it, or nobody would
//! be there to finish the plan.
//!
//! It is known by what the hypervisor gave it: the uuid of its firmware, and the MACs of its links.

use std::{collections::BTreeSet, fs};

use common::id::VmId;

use crate::hypervisor::{Inventory, Machine};

/// A link that has no MAC of its own.
const NO_MAC: &str = "00:00:00:00:00:00";

/// What a machine is known by from within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    uuid: Option<String>,
    macs: BTreeSet<String>,
}

impl Own {
    /// As the kernel tells it. What it does not tell (the uuid, to users without rights) is not known.
    pub(super) fn read() -> Self {
        let line = |path: &std::path::Path| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_lowercase()).filter(|text| !text.is_empty())
        };
        let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let macs = links.filter_map(|link| line(&link.path().join("address")));
        Self {
            uuid: line("/sys/class/dmi/id/product_uuid".as_ref()),
            macs: macs.filter(|mac| mac != NO_MAC).collect(),
        }
    }

    /// The machines of an inventory that are this one.
    pub(super) fn among(&self, inventory: &Inventory) -> BTreeSet<VmId> {
        let machines = inventory.machines.iter().filter(|(vm, machine)| self.is(vm, machine));
        machines.map(|(vm, _)| vm.clone()).collect()
    }

    fn is(&self, vm: &VmId, machine: &Machine) -> bool {
        let bears_uuid =
            self.uuid.as_deref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(vm.as_str()));
        let has_link = machine.nics.iter().any(|nic| self.macs.contains(&nic.mac.to_lowercase()));
        bears_uuid || has_link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::tests::fleet::{demonstration, vm};

    #[test]
    fn the_own_machine_is_known_by_uuid_and_by_mac_and_no_other_is() {
        let inventory = demonstration().inventory();
        let mac = inventory.machines[&vm("web-1")].nics[0].mac.clone();
        let by_mac = Own { uuid: None, macs: [mac].into() };
        assert_eq!(by_mac.among(&inventory), [vm("web-1")].into());
        let by_uuid = Own { uuid: Some(vm("api-1").to_string()), macs: BTreeSet::new() };
        assert_eq!(by_uuid.among(&inventory), [vm("api-1")].into());
        assert!(Own::default().among(&inventory).is_empty());
    }

    #[test]
    fn a_link_without_a_mac_is_nobodys() {
        assert!(!Own::read().macs.contains(NO_MAC));
    }
}
