//! What is there and what it uses, seen from outside.

use std::{
    collections::BTreeMap, fs, io, net::IpAddr, os::unix::fs::MetadataExt, path::Path, thread,
};

use common::{
    clock::{Clock, SystemClock},
    id::{HostId, NetworkId, StorageId, VmId},
    units::{Bytes, Millicores},
};
use nix::{sys::statvfs::statvfs, unistd::gethostname};

use super::{
    Attempt, LIMITS_NOT_ENFORCED, NamespaceError,
    fabric::{cable, management_end, production_end, shown},
    layout::{Record, UPLINK},
    process,
    world::World,
};
use crate::hypervisor::{Host, Inventory, Machine, Nic, Pool, Power, Telemetry, Volume};

/// Blocks in which the kernel counts what a file takes.
const BLOCK: u64 = 512;

/// Name of the one pool: the folder's file system.
const POOL: &str = "machines";

/// Kind and network of the link to us.
const UPLINK_NAME: &str = "uplink";

/// Names that are ours to give, and good.
fn named<T>(name: &str) -> Result<T, NamespaceError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    name.parse().map_err(io::Error::other).or_could_not(|| format!("name something {name}"))
}

impl World {
    /// The one host: ours.
    pub(super) fn host_id(&self) -> Result<HostId, NamespaceError> {
        let name = gethostname().or_could_not(|| "read the host's name".to_owned())?;
        named(&name.to_string_lossy()).or_else(|_| named("localhost"))
    }

    pub(super) fn inventory(&self) -> Result<Inventory, NamespaceError> {
        let taken_at = SystemClock.now();
        let host = self.host(self.host_id()?)?;
        let mut machines = BTreeMap::new();
        for record in self.layout.records()? {
            machines.insert(record.vm.clone(), self.machine(record, host.id.clone())?);
        }
        Ok(Inventory { taken_at, hosts: BTreeMap::from([(host.id.clone(), host)]), machines })
    }

    fn host(&self, id: HostId) -> Result<Host, NamespaceError> {
        let folder = self.layout.folder();
        let space = statvfs(folder).or_could_not(|| format!("measure {}", folder.display()))?;
        let blocks = |count: u64| Bytes(count.saturating_mul(space.fragment_size()));
        let cpus = thread::available_parallelism().or_could_not(|| "count CPUs".to_owned())?;
        let pool = Pool {
            id: named(POOL)?,
            capacity: blocks(space.blocks()),
            allocated: Some(blocks(space.blocks().saturating_sub(space.blocks_free()))),
            available: Some(blocks(space.blocks_available())),
        };
        Ok(Host {
            name: id.to_string(),
            id,
            addresses: vec![IpAddr::V4(UPLINK)],
            macs: Vec::new(),
            cpu: Millicores(u64::try_from(cpus.get()).unwrap_or(u64::MAX).saturating_mul(1000)),
            memory: memory()?,
            pools: vec![pool],
        })
    }

    fn machine(&self, record: Record, host: HostId) -> Result<Machine, NamespaceError> {
        let runs = self.layout.running(&record.vm).is_some();
        let nics = nics(&record, runs)?;
        let disk = self.layout.machine(&record.vm)?.join("disk");
        let volume = Volume {
            id: named::<StorageId>(record.vm.as_str())?,
            pool: named(POOL)?,
            capacity: record.allocation.storage,
            allocated: taken(&disk).ok().map(Bytes),
        };
        let mut labels = record.labels;
        if !self.groups.holds_limits() {
            labels.insert(LIMITS_NOT_ENFORCED.to_owned());
        }
        Ok(Machine {
            id: record.vm,
            name: record.name,
            host,
            power: if runs { Power::On } else { Power::Off },
            allocation: record.allocation,
            nics,
            volumes: vec![volume],
            cloned_from: record.cloned_from,
            plan: record.plan,
            labels,
        })
    }

    /// Memory a running machine uses.
    pub(super) fn memory_used(&self, vm: &VmId) -> Option<Bytes> {
        let first = self.layout.running(vm)?;
        let grouped = self.groups.memory_used(vm);
        grouped.or_else(|| process::usage(&first.companions()).memory.map(Bytes))
    }

    pub(super) fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, NamespaceError> {
        let taken_at = SystemClock.now();
        let traffic = self.fabric.traffic()?;
        let traffic: BTreeMap<String, (u64, u64)> =
            traffic.into_iter().map(|(name, received, sent)| (name, (received, sent))).collect();
        let mut telemetry = BTreeMap::new();
        for record in self.layout.records()? {
            let vm = record.vm;
            let Some(first) = self.layout.running(&vm) else { continue };
            let usage = process::usage(&first.companions());
            let operations = self.groups.operations(&vm);
            let traffic = traffic.get(&cable(&vm));
            let one = Telemetry {
                taken_at,
                cpu_ms: self.groups.cpu_ms(&vm).or(usage.cpu_ms),
                memory_used: self.groups.memory_used(&vm).or(usage.memory.map(Bytes)),
                received: traffic.map(|(received, _)| Bytes(*received)),
                sent: traffic.map(|(_, sent)| Bytes(*sent)),
                read: usage.read.map(Bytes),
                written: usage.written.map(Bytes),
                read_operations: operations.reads,
                write_operations: operations.writes,
                failed_operations: None,
                out_of_memory: self.groups.out_of_memory(&vm),
            };
            telemetry.insert(vm, one);
        }
        Ok(telemetry)
    }
}

/// A machine's link to its network and the one to us.
fn nics(record: &Record, runs: bool) -> Result<Vec<Nic>, NamespaceError> {
    let (production, uplink) = (production_end(record), management_end(record));
    let network: NetworkId = named(UPLINK_NAME)?;
    Ok(vec![
        Nic {
            mac: shown(production.mac),
            network: record.plug.clone(),
            kind: "bridge".to_owned(),
            addresses: production.addresses,
            up: runs && record.plug.is_some(),
        },
        Nic {
            mac: shown(uplink.mac),
            network: Some(network),
            kind: UPLINK_NAME.to_owned(),
            addresses: uplink.addresses,
            up: runs,
        },
    ])
}

fn memory() -> Result<Bytes, NamespaceError> {
    let what = || "read the host's memory".to_owned();
    let text = fs::read_to_string("/proc/meminfo").or_could_not(what)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| Bytes(kib << 10)).ok_or(io::ErrorKind::InvalidData).or_could_not(what)
}

/// What a folder takes on disk. A file that vanishes while we look takes nothing.
fn taken(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)?.flatten() {
            let Ok(there) = entry.metadata() else { continue };
            total += there.blocks() * BLOCK;
            if there.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_takes_is_what_lies_in_it_and_not_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let empty = taken(folder.path()).unwrap();
        fs::write(folder.path().join("inner/file"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();

        let grown = taken(folder.path()).unwrap() - empty;

        assert!((100_000..200_000).contains(&grown), "{grown}");
    }
}
