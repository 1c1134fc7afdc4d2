//! The verbs of [`Hypervisor`], each handed to a thread where it may block.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use common::id::{NetworkId, VmId};

use super::{NamespaceHypervisor, world::World};
use crate::hypervisor::{
    Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, ProbeOrder, ProbeResult,
    Telemetry,
};

#[async_trait]
impl Hypervisor for NamespaceHypervisor {
    fn name(&self) -> &str {
        "namespace"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        Ok(self.with(World::inventory).await?)
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        Ok(self.with(World::telemetry).await?)
    }

    async fn clone_vm(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        let order = order.clone();
        Ok(self.with(move |world| world.clone_vm(&order)).await?)
    }

    async fn configure(&self, vm: &VmId, allocation: &Allocation) -> Result<(), HypervisorError> {
        let (vm, allocation) = (vm.clone(), *allocation);
        Ok(self.with(move |world| world.configure(&vm, &allocation)).await?)
    }

    async fn start(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let vm = vm.clone();
        Ok(self.with(move |world| world.start(&vm)).await?)
    }

    async fn stop(&self, vm: &VmId, deadline: Duration) -> Result<(), HypervisorError> {
        let vm = vm.clone();
        Ok(self.with(move |world| world.stop(&vm, deadline)).await?)
    }

    async fn isolate(&self, vm: &VmId, network: &NetworkId) -> Result<(), HypervisorError> {
        let (vm, network) = (vm.clone(), network.clone());
        Ok(self.with(move |world| world.isolate(&vm, &network)).await?)
    }

    async fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        let (network, order) = (network.clone(), order.clone());
        Ok(self.with(move |world| world.probe(&network, &order)).await?)
    }

    async fn promote(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let (source, clone) = (source.clone(), clone.clone());
        Ok(self.with(move |world| world.promote(&source, &clone)).await?)
    }

    async fn restore(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let (source, clone) = (source.clone(), clone.clone());
        Ok(self.with(move |world| world.restore(&source, &clone)).await?)
    }

    async fn remove(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let vm = vm.clone();
        Ok(self.with(move |world| world.remove(&vm)).await?)
    }
}
