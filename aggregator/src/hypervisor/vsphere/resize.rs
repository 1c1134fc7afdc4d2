//! Changes what a machine is given.
//!
//! CPU: as many virtual CPUs as it takes, and a limit in MHz where the order is no whole number of
//! them. Memory: its size, and a limit where the size cannot follow. A running machine is only ever
//! given more of both where it allows that; less is a limit, which needs nothing of the guest.

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};
use tracing::info;
use vsphere_soap::ConfigSpec;

use super::{VsphereHypervisor, facts::MachineFacts, machine::Found, refused};
use crate::hypervisor::{Allocation, HypervisorError};

/// vSphere gives memory in steps of so many MB.
const MEMORY_STEP_MB: u64 = 4;
/// No limit.
const UNLIMITED: i64 = -1;

/// The least number of MHz that is so much CPU: reading it back rounds down.
fn mhz(cpu: Millicores, hz: u64) -> i64 {
    i64::try_from(cpu.0.saturating_mul(hz / 1_000_000).div_ceil(1000)).unwrap_or(i64::MAX)
}

/// What a machine is given, disks left out. A limit in MHz says nothing without its host's speed.
pub(super) fn given(machine: &MachineFacts, hz: Option<u64>) -> Allocation {
    let limit = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    let cpu = machine.cpus.map(|cpus| cpus.saturating_mul(1000)).and_then(|all| {
        let Some(limit) = limit(machine.cpu_limit) else { return Some(all) };
        let mhz = hz.map(|hz| hz / 1_000_000).filter(|mhz| *mhz > 0)?;
        Some(all.min(limit.saturating_mul(1000) / mhz))
    });
    let memory = machine.memory_mb.map(|all| match limit(machine.memory_limit) {
        Some(limit) => all.min(limit),
        None => all,
    });
    Allocation {
        cpu: cpu.map(Millicores),
        memory: memory.map(|mb| Bytes(mb.saturating_mul(1 << 20))),
        storage: None,
    }
}

impl VsphereHypervisor {
    pub(super) async fn give(
        &self,
        vm: &VmId,
        allocation: &Allocation,
    ) -> Result<(), HypervisorError> {
        let found = self.the(vm).await?;
        found.may_touch(vm).await?;
        let spec = found.spec_for(vm, allocation).await?;
        found.reconfigure(&spec).await?;
        info!(%vm, cpu = ?allocation.cpu, memory = ?allocation.memory, "machine given");
        Ok(())
    }
}

impl Found<'_> {
    /// What is to be changed so that the machine is given that much.
    pub(super) async fn spec_for(
        &self,
        vm: &VmId,
        wanted: &Allocation,
    ) -> Result<ConfigSpec, HypervisorError> {
        self.is_storage(vm, wanted.storage)?;
        let mut spec = ConfigSpec::default();
        if let Some(cpu) = wanted.cpu {
            let hz = self.host_hz().await?;
            self.give_cpu(cpu, hz, &mut spec)?;
        }
        if let Some(memory) = wanted.memory {
            self.give_memory(memory, &mut spec)?;
        }
        Ok(spec)
    }

    /// Disks stay as they are: one cannot be made smaller under its file system, and one made
    /// larger is of no use before the guest takes it.
    fn is_storage(&self, vm: &VmId, wanted: Option<Bytes>) -> Result<(), HypervisorError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let mut sizes = self.facts.disks.iter().map(|disk| disk.capacity);
        let present = sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?)).map(Bytes);
        if present == Some(wanted) {
            return Ok(());
        }
        let present = present.map_or_else(|| "of unknown size".to_owned(), |size| size.to_string());
        Err(refused(format!("disks of {vm} are {present} and stay so; {wanted} was asked for")))
    }

    fn give_cpu(
        &self,
        cpu: Millicores,
        hz: Option<u64>,
        spec: &mut ConfigSpec,
    ) -> Result<(), HypervisorError> {
        let facts = &self.facts;
        let now = facts.cpus.unwrap_or(0);
        let wanted = cpu.0.div_ceil(1000).max(1);
        let is_off = !facts.is_on;
        let is_more = wanted > now;
        if is_more && !is_off && !self.adds_cpus {
            let remedy = "let it add CPUs while it runs, or change it while it is off";
            return Err(refused(format!("{} has {now} CPUs; {remedy}", facts.name)));
        }
        let count = if is_off || is_more { wanted } else { now };
        if count != now {
            spec.cpus = Some(u32::try_from(count).map_err(|_| refused("too many CPUs"))?);
        }
        // With more CPUs than are wanted the limit does the rest.
        let limit = if cpu.0 == count.saturating_mul(1000) {
            UNLIMITED
        } else {
            let unknown = || refused(format!("the host of {} tells no speed", facts.name));
            mhz(cpu, hz.ok_or_else(unknown)?)
        };
        spec.cpu_limit_mhz = (facts.cpu_limit != Some(limit)).then_some(limit);
        Ok(())
    }

    fn give_memory(&self, memory: Bytes, spec: &mut ConfigSpec) -> Result<(), HypervisorError> {
        let facts = &self.facts;
        let now = facts.memory_mb.unwrap_or(0);
        let wanted = memory.0.div_ceil(1 << 20).max(MEMORY_STEP_MB);
        let size = wanted.next_multiple_of(MEMORY_STEP_MB);
        let is_more = size > now;
        if is_more && facts.is_on && !self.adds_memory {
            let remedy = "let it add memory while it runs, or change it while it is off";
            return Err(refused(format!("{} has {now} MB; {remedy}", facts.name)));
        }
        let size = if !facts.is_on || is_more { size } else { now };
        spec.memory_mb = (size != now).then_some(size);
        let limit =
            if wanted == size { UNLIMITED } else { i64::try_from(wanted).unwrap_or(i64::MAX) };
        spec.memory_limit_mb = (facts.memory_limit != Some(limit)).then_some(limit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vsphere_soap::Element;

    use super::*;

    fn machine(properties: &[(&str, i64)]) -> MachineFacts {
        let mut machine = MachineFacts::default();
        for (path, value) in properties {
            machine.take(path, Some(&Element::text("val", value)));
        }
        machine
    }

    #[test]
    fn a_share_of_a_core_is_read_back_as_it_was_ordered() {
        for hz in [1_995_312_345, 2_294_000_000, 3_900_000_000] {
            for cpu in [1, 10, 250, 333, 500, 999, 1001, 1500, 15_999] {
                let limit = mhz(Millicores(cpu), hz);
                let limited =
                    [("config.hardware.numCPU", 16), ("config.cpuAllocation.limit", limit)];
                let cpu = Some(Millicores(cpu));
                assert_eq!(given(&machine(&limited), Some(hz)).cpu, cpu, "{hz}");
            }
        }
    }

    #[test]
    fn without_a_limit_all_is_given_and_without_a_speed_a_limit_says_nothing() {
        let mut machine = machine(&[
            ("config.hardware.numCPU", 2),
            ("config.hardware.memoryMB", 512),
            ("config.cpuAllocation.limit", UNLIMITED),
            ("config.memoryAllocation.limit", 400),
        ]);
        let all = given(&machine, None);
        assert_eq!((all.cpu, all.memory), (Some(Millicores(2000)), Some(Bytes::mebi(400))));
        machine.take("config.cpuAllocation.limit", Some(&Element::text("val", 500)));
        assert_eq!(given(&machine, None).cpu, None);
    }
}
