//! A simulated vCenter, with somebody between it and us.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::hypervisor::{Hypervisor, vsphere::VsphereHypervisor};
use async_trait::async_trait;
use common::id::VmId;

use super::{Bench, Held};
use crate::centre::{Between, Centre};

/// The machine that is cloned, and the one that is kept.
const MACHINES: [&str; 2] = ["DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1"];
/// Every call that changes something.
const CHANGES: [&str; 10] = [
    "CloneVM_Task",
    "ReconfigVM_Task",
    "AddVirtualSwitch",
    "AddPortGroup",
    "PowerOnVM_Task",
    "PowerOffVM_Task",
    "ShutdownGuest",
    "RemovePortGroup",
    "RemoveVirtualSwitch",
    "Destroy_Task",
];

/// A simulated vCenter. It ends with this.
#[derive(Debug)]
pub struct VsphereBench {
    centre: Centre,
    between: Between,
    hypervisor: VsphereHypervisor,
    source: VmId,
}

impl VsphereBench {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// What it takes.
    pub async fn up() -> Result<Self, String> {
        let centre = Centre::up(&["-machines", "3", "-plain"]).await?;
        let between = Between::open(centre.address()).await;
        let described = centre.described_at(between.address());
        let hypervisor = VsphereHypervisor::new(vec![described]).unwrap();
        let source = centre.uuid_of(MACHINES[0]).await.parse().unwrap();
        Ok(Self { centre, between, hypervisor, source })
    }
}

#[async_trait(?Send)]
impl Bench for VsphereBench {
    fn adapter(&self) -> &'static str {
        "vsphere"
    }

    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.hypervisor
    }

    fn source(&self) -> &VmId {
        &self.source
    }

    async fn machines(&self) -> BTreeMap<String, bool> {
        let paths = ["name", "runtime.powerState"];
        let told = self.centre.all("VirtualMachine", &paths).await;
        let one = |vm: &vsphere_soap::Object| {
            (vm.text(paths[0]).unwrap().to_owned(), vm.text(paths[1]) == Some("poweredOn"))
        };
        told.iter().map(one).collect()
    }

    async fn things(&self) -> BTreeSet<String> {
        let mut things: BTreeSet<String> = self.machines().await.into_keys().collect();
        let networks = self.centre.all("Network", &["name"]).await;
        things.extend(networks.iter().map(|network| network.text("name").unwrap().to_owned()));
        things.extend(self.centre.switches().await);
        things
    }

    async fn keep(&mut self) -> VmId {
        self.centre.label(MACHINES[1], "gold sinter:never-touch").await;
        self.centre.uuid_of(MACHINES[1]).await.parse().unwrap()
    }

    /// The simulator lets an attribute be made once; it goes with the simulator.
    async fn give_free(&mut self) {}

    async fn go(&mut self) -> Held {
        self.centre.end();
        Ok(())
    }

    async fn come_back(&mut self) {
        self.centre.begin_again().await;
    }

    fn lose_next_answer(&mut self) -> Held {
        self.between.lose_answer_to_one_of(&CHANGES);
        Ok(())
    }

    fn was_lost(&mut self) -> bool {
        let was_lost = self.between.lost() > 0;
        self.between.lose_answer_to_one_of(&[]);
        was_lost
    }
}
