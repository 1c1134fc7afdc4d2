//! The verbs of [`Hypervisor`].

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use common::id::{NetworkId, VmId};

use super::{VsphereHypervisor, refused};
use crate::hypervisor::{
    Allocation, CloneOrder, FirstLook, Hypervisor, HypervisorError, Inventory, ProbeOrder,
    ProbeResult, Telemetry,
};

#[async_trait]
impl Hypervisor for VsphereHypervisor {
    fn name(&self) -> &str {
        "vsphere"
    }

    fn first_look(&self) -> Option<FirstLook> {
        let looks = self.sites.iter().filter_map(|site| site.progress.now());
        looks.reduce(|one, other| FirstLook {
            read: one.read.saturating_add(other.read),
            all: one.all.saturating_add(other.all),
        })
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        self.all().await
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        self.totals().await
    }

    async fn clone_vm(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        self.clone_machine(order).await
    }

    async fn configure(&self, vm: &VmId, allocation: &Allocation) -> Result<(), HypervisorError> {
        self.give(vm, allocation).await
    }

    async fn start(&self, vm: &VmId) -> Result<(), HypervisorError> {
        self.start_machine(vm).await
    }

    async fn stop(&self, vm: &VmId, deadline: Duration) -> Result<(), HypervisorError> {
        self.stop_machine(vm, deadline).await
    }

    async fn isolate(&self, vm: &VmId, network: &NetworkId) -> Result<(), HypervisorError> {
        self.isolate_machine(vm, network).await
    }

    /// Nothing of ours runs on a host that is only reached by vSphere, so that nobody there could
    /// put load on a machine from inside its network.
    async fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        if order.targets.is_empty() {
            return Ok(Vec::new());
        }
        let count = order.targets.len();
        Err(refused(format!(
            "nobody can call the {count} ports to be probed in {network}: vSphere runs no prober"
        )))
    }

    async fn promote(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        self.swap(source, clone).await
    }

    async fn restore(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        self.swap_back(source, clone).await
    }

    async fn remove(&self, vm: &VmId) -> Result<(), HypervisorError> {
        self.remove_clone(vm).await
    }
}
