//! A hypervisor that only counts its machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aggregator::hypervisor::{
    Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, Machine, Nic, Power,
    ProbeOrder, ProbeResult, Telemetry,
};
use async_trait::async_trait;
use common::id::{NetworkId, VmId};

/// Machines `vm-1` to `vm-9`, with the addresses 10.0.0.1 to 10.0.0.9.
#[derive(Debug, Clone, Copy)]
pub struct Machines;

fn nobody_asks() -> HypervisorError {
    HypervisorError::Refused { reason: "this one has only an inventory".into() }
}

/// The MAC of `vm-NUMBER`.
pub fn mac(number: u8) -> String {
    format!("02:00:00:00:00:0{number}")
}

#[async_trait]
impl Hypervisor for Machines {
    fn name(&self) -> &str {
        "machines"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        let machine = |number: u8| {
            let id: VmId = format!("vm-{number}").parse().unwrap();
            let nic = Nic {
                mac: mac(number),
                network: None,
                kind: "bridge".into(),
                addresses: vec![format!("10.0.0.{number}/24").parse().unwrap()],
                up: true,
            };
            let machine = Machine {
                id: id.clone(),
                name: id.as_str().to_owned(),
                host: "host-1".parse().unwrap(),
                power: Power::On,
                allocation: Allocation::default(),
                nics: vec![nic],
                volumes: Vec::new(),
                cloned_from: None,
                plan: None,
                labels: BTreeSet::new(),
            };
            (id, machine)
        };
        Ok(Inventory { machines: (1..10).map(machine).collect(), ..Inventory::default() })
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        Err(nobody_asks())
    }

    async fn clone_vm(&self, _: &CloneOrder) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn configure(&self, _: &VmId, _: &Allocation) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn start(&self, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn stop(&self, _: &VmId, _: Duration) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn isolate(&self, _: &VmId, _: &NetworkId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn probe(
        &self,
        _: &NetworkId,
        _: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        Err(nobody_asks())
    }

    async fn promote(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn restore(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }

    async fn remove(&self, _: &VmId) -> Result<(), HypervisorError> {
        Err(nobody_asks())
    }
}
