//! The verbs of [`Hypervisor`].

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use common::id::{NetworkId, VmId};

use super::LibvirtHypervisor;
use crate::hypervisor::{
    Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, ProbeOrder, ProbeResult,
    Telemetry,
};

#[async_trait]
impl Hypervisor for LibvirtHypervisor {
    fn name(&self) -> &str {
        "libvirt"
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

    async fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        self.put_load(network, order).await
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
