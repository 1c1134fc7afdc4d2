//! Changes what a machine is given.
//!
//! CPU: as many virtual CPUs as it takes, and a quota where the order is no whole number of them.
//! A running machine is only ever given more virtual CPUs; less CPU is a quota, which needs
//! nothing of the guest. Memory: the balloon, up to what the machine was started with.

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};
use libvirt_rpc::{Change, Domain, XmlKind, code, xml::Element};
use tracing::info;

use super::{
    Found, LibvirtHypervisor, description,
    draft::{self, PERIOD_US},
    refused,
    site::Site,
};
use crate::hypervisor::{Allocation, HypervisorError};

impl LibvirtHypervisor {
    pub(super) async fn give(
        &self,
        vm: &VmId,
        allocation: &Allocation,
    ) -> Result<(), HypervisorError> {
        let found = self.the(vm).await?;
        found.may_touch(vm).await?;
        let Found { site, domain } = found;
        if let Some(storage) = allocation.storage {
            self.is_storage(vm, storage).await?;
        }
        if !domain.is_active() {
            let mut told = site.describe(&domain, XmlKind::Secret).await?;
            draft::give(&mut told, allocation);
            site.client.define_domain(&told.write()).await?;
        } else {
            let told = site.describe(&domain, XmlKind::Present).await?;
            if let Some(cpu) = allocation.cpu {
                site.give_cpu(&domain, &told, cpu).await?;
            }
            if let Some(memory) = allocation.memory {
                site.give_memory(&domain, &told, memory).await?;
            }
        }
        info!(%vm, cpu = ?allocation.cpu, memory = ?allocation.memory, "machine given");
        Ok(())
    }

    /// Disks stay as they are: one cannot be made smaller under its file system, and one made
    /// larger is of no use before the guest takes it.
    async fn is_storage(&self, vm: &VmId, wanted: Bytes) -> Result<(), HypervisorError> {
        let inventory = self.all().await?;
        let machine = inventory.machines.get(vm);
        let present = machine.and_then(|machine| machine.allocation.storage);
        if present == Some(wanted) {
            return Ok(());
        }
        let present = present.map_or_else(|| "of unknown size".to_owned(), |size| size.to_string());
        Err(refused(format!("disks of {vm} are {present} and stay so; {wanted} was asked for")))
    }
}

impl Site {
    async fn give_cpu(
        &self,
        domain: &Domain,
        told: &Element,
        cpu: Millicores,
    ) -> Result<(), HypervisorError> {
        if description::cpu(told) == Some(cpu) {
            return Ok(());
        }
        let (now, most) = description::vcpus(told)
            .ok_or_else(|| refused(format!("{} does not say how many CPUs it has", domain.name)))?;
        let wanted = cpu.0.div_ceil(1000).max(1);
        if wanted > most {
            let remedy = "raise its maximum while it is off";
            let name = &domain.name;
            return Err(refused(format!("{name} may have {most} CPUs at most; {remedy}")));
        }
        if wanted > now {
            let count = u32::try_from(wanted).map_err(|_| refused("too many CPUs"))?;
            self.client.set_vcpus(domain, count, Change::Both).await?;
        }
        // With more CPUs than are wanted the quota does the rest.
        let is_whole = cpu.0 == wanted.max(now).saturating_mul(1000);
        let quota = cpu.0.saturating_mul(PERIOD_US) / 1000;
        let quota = if is_whole { -1 } else { i64::try_from(quota).unwrap_or(i64::MAX) };
        match self.client.set_cpu_quota(domain, (PERIOD_US, quota), Change::Both).await {
            // Without a quota all is given already.
            Err(error) if is_whole && error.is(&[code::OPERATION_INVALID]) => Ok(()),
            done => Ok(done?),
        }
    }

    async fn give_memory(
        &self,
        domain: &Domain,
        told: &Element,
        memory: Bytes,
    ) -> Result<(), HypervisorError> {
        let name = &domain.name;
        let most = description::most_memory(told)
            .ok_or_else(|| refused(format!("{name} does not say how much memory it has")))?;
        if memory > most {
            let remedy = "raise its maximum while it is off";
            return Err(refused(format!("{name} may have {most} of memory at most; {remedy}")));
        }
        if memory < most && !description::has_balloon(told) {
            let remedy = "it has no balloon; change it while it is off";
            return Err(refused(format!("memory of {name} cannot be changed: {remedy}")));
        }
        let kib = memory.0.div_ceil(1024);
        Ok(self.client.set_memory(domain, kib, Change::Both).await?)
    }
}
