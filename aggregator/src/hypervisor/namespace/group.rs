//! Control groups: a machine's limits, what it uses, and holding it still.
//!
//! Both versions are spoken, since either may be what the host delegates to us. A group is named
//! after our folder and the machine, and lies below the group that this process is in, so that
//! machines never get more than the aggregator was given.

mod find;
mod freeze;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use common::{
    id::VmId,
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use super::{Attempt, NamespaceError, layout};
use crate::hypervisor::Allocation;

/// Over which time the kernel divides CPU: its own default.
const PERIOD_US: u64 = 100_000;

/// Least CPU time per period that the kernel takes.
const MIN_QUOTA_US: u64 = 1_000;

/// Processes and threads a machine may have; far above what one needs, far below what the host
/// bears.
const MAX_TASKS: u64 = 4_096;

/// How long a group may take to freeze, or to lose its last process.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Version {
    V1,
    V2,
}

/// A tree of groups that we may divide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hierarchy {
    /// The group that holds the machines' groups.
    base: PathBuf,
    version: Version,
    /// What it controls, `freezer` and `cpuacct` also where version 2 has them without a name.
    controllers: BTreeSet<String>,
}

/// The groups of one folder's machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    hierarchies: Vec<Hierarchy>,
    /// Where this process went to make room, if it had to.
    aside: Option<PathBuf>,
}

/// Operations that reached the disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Operations {
    pub(super) reads: Option<u64>,
    pub(super) writes: Option<u64>,
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line such as `total_cache 4096`.
fn read_keyed(path: &Path, key: &str) -> Option<u64> {
    keyed(&fs::read_to_string(path).ok()?, key)
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    rest.trim().parse().ok()
}

fn set(path: &Path, value: &str) -> Result<(), NamespaceError> {
    fs::write(path, value).or_could_not(|| format!("write {value} to {}", path.display()))
}

impl Groups {
    /// What this process may use, for the machines of `folder`.
    pub(super) fn find(folder: &Path) -> Self {
        find::find(&format!("sinter-{}", layout::digest(&folder.display().to_string(), 12)))
    }

    fn control(&self, controller: &str) -> bool {
        self.hierarchies.iter().any(|one| one.controllers.contains(controller))
    }

    /// Whether CPU and memory of a machine can be limited.
    pub(super) fn holds_limits(&self) -> bool {
        self.control("cpu") && self.control("memory")
    }

    /// Whether what a machine uses can be known.
    pub(super) fn counts(&self) -> bool {
        self.control("cpuacct") && self.control("memory")
    }

    fn group(&self, controller: &str, vm: &VmId) -> Option<(PathBuf, Version)> {
        let found = self.hierarchies.iter().find(|one| one.controllers.contains(controller))?;
        Some((found.base.join(vm.as_str()), found.version))
    }

    /// Makes a machine's groups; those that are there stay.
    pub(super) fn make(&self, vm: &VmId) -> Result<(), NamespaceError> {
        for hierarchy in &self.hierarchies {
            let path = hierarchy.base.join(vm.as_str());
            let made = fs::create_dir_all(&path);
            made.or_could_not(|| format!("make the control group {}", path.display()))?;
        }
        if let Some((path, _)) = self.group("pids", vm) {
            set(&path.join("pids.max"), &MAX_TASKS.to_string())?;
        }
        Ok(())
    }

    /// Puts a process, and all that it starts from now on, under a machine's limits.
    pub(super) fn admit(&self, vm: &VmId, pid: i32) -> Result<(), NamespaceError> {
        for hierarchy in &self.hierarchies {
            set(&hierarchy.base.join(vm.as_str()).join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Sets what is given; a part that is `None` stays as it is.
    pub(super) fn limit(&self, vm: &VmId, allocation: &Allocation) -> Result<(), NamespaceError> {
        if let (Some(cpu), Some((path, version))) = (allocation.cpu, self.group("cpu", vm)) {
            let quota = quota_us(cpu);
            match version {
                Version::V1 => {
                    set(&path.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                    set(&path.join("cpu.cfs_quota_us"), &quota.to_string())?;
                }
                Version::V2 => set(&path.join("cpu.max"), &format!("{quota} {PERIOD_US}"))?,
            }
        }
        if let (Some(memory), Some((path, version))) = (allocation.memory, self.group("memory", vm))
        {
            let name = match version {
                Version::V1 => "memory.limit_in_bytes",
                Version::V2 => "memory.max",
            };
            set(&path.join(name), &memory.0.to_string())?;
        }
        Ok(())
    }

    /// CPU time used, in milliseconds.
    pub(super) fn cpu_ms(&self, vm: &VmId) -> Option<u64> {
        let (path, version) = self.group("cpuacct", vm)?;
        match version {
            Version::V1 => Some(read_number(&path.join("cpuacct.usage"))? / 1_000_000),
            Version::V2 => Some(read_keyed(&path.join("cpu.stat"), "usage_usec")? / 1_000),
        }
    }

    /// Memory used, files that the kernel could drop left out.
    pub(super) fn memory_used(&self, vm: &VmId) -> Option<Bytes> {
        let (path, version) = self.group("memory", vm)?;
        let (total, cache, shared) = match version {
            Version::V1 => ("memory.usage_in_bytes", "total_cache", "total_shmem"),
            Version::V2 => ("memory.current", "file", "shmem"),
        };
        let text = fs::read_to_string(path.join("memory.stat")).ok()?;
        // Shared memory is counted as cache, but nothing can be dropped of it.
        let droppable = keyed(&text, cache)?.saturating_sub(keyed(&text, shared).unwrap_or(0));
        Some(Bytes(read_number(&path.join(total))?.saturating_sub(droppable)))
    }

    /// Times something was killed for want of memory.
    pub(super) fn out_of_memory(&self, vm: &VmId) -> Option<u64> {
        let (path, version) = self.group("memory", vm)?;
        let name = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        read_keyed(&path.join(name), "oom_kill")
    }

    /// Operations on disks. Version 1 does not count what the kernel writes on its own later, and
    /// is therefore not asked for writes.
    pub(super) fn operations(&self, vm: &VmId) -> Operations {
        let Some((path, version)) = self.group("blkio", vm) else { return Operations::default() };
        match version {
            Version::V1 => {
                let text = fs::read_to_string(path.join("blkio.throttle.io_serviced"));
                Operations { reads: text.ok().map(|text| sum_v1(&text, "Read")), writes: None }
            }
            Version::V2 => {
                let text = fs::read_to_string(path.join("io.stat")).ok();
                let sum = |key| text.as_ref().map(|text| sum_v2(text, key));
                Operations { reads: sum("rios="), writes: sum("wios=") }
            }
        }
    }

    /// Removes a machine's groups, which must have lost their last process or be about to.
    pub(super) fn remove(&self, vm: &VmId) -> Result<(), NamespaceError> {
        self.hierarchies.iter().try_for_each(|one| remove(&one.base.join(vm.as_str())))
    }

    /// Removes all that [`Self::find`] and [`Self::make`] made.
    pub(super) fn remove_all(&self) -> Result<(), NamespaceError> {
        for hierarchy in &self.hierarchies {
            for name in layout::names(&hierarchy.base)? {
                let path = hierarchy.base.join(name);
                if path.is_dir() {
                    remove(&path)?;
                }
            }
            remove(&hierarchy.base)?;
        }
        self.aside.as_deref().map_or(Ok(()), find::come_back)
    }
}

fn quota_us(cpu: Millicores) -> u64 {
    (cpu.0.saturating_mul(PERIOD_US) / 1_000).max(MIN_QUOTA_US)
}

fn remove(path: &Path) -> Result<(), NamespaceError> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The kernel lets go of an ended process a little after it tells its parent.
            Err(cause)
                if cause.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < PATIENCE =>
            {
                thread::sleep(LOOK);
            }
            outcome => {
                return outcome.or_could_not(|| format!("remove the group {}", path.display()));
            }
        }
    }
}

/// Lines such as `254:0 Read 12`.
fn sum_v1(text: &str, kind: &str) -> u64 {
    let counts = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, named, count) = (words.next()?, words.next()?, words.next()?);
        (named == kind).then(|| count.parse::<u64>().ok())?
    });
    counts.sum()
}

/// Lines such as `254:0 rbytes=4096 wbytes=0 rios=1 wios=0`.
fn sum_v2(text: &str, key: &str) -> u64 {
    let words = text.split_whitespace();
    words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> VmId {
        "0b6f3b0e-0000-4000-8000-000000000001".parse().unwrap()
    }

    fn version_2(base: &Path) -> Groups {
        let controllers = ["cpu", "cpuacct", "memory", "pids", "freezer", "blkio"];
        let controllers = controllers.map(str::to_owned).into();
        let hierarchy = Hierarchy { base: base.to_owned(), version: Version::V2, controllers };
        Groups { hierarchies: vec![hierarchy], aside: None }
    }

    #[test]
    fn version_2_is_told_limits_in_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let groups = version_2(folder.path());
        let allocation =
            Allocation { cpu: Some(Millicores(250)), memory: Some(Bytes::mebi(64)), storage: None };

        groups.make(&vm()).unwrap();
        groups.limit(&vm(), &allocation).unwrap();

        let written = |name| fs::read_to_string(folder.path().join(vm().as_str()).join(name));
        assert_eq!(written("cpu.max").unwrap(), "25000 100000");
        assert_eq!(written("memory.max").unwrap(), "67108864");
        assert_eq!(written("pids.max").unwrap(), "4096");
    }

    #[test]
    fn version_2_is_read_with_the_cache_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let groups = version_2(folder.path());
        groups.make(&vm()).unwrap();
        let group = folder.path().join(vm().as_str());

        fs::write(group.join("memory.current"), "1000\n").unwrap();
        fs::write(group.join("memory.stat"), "anon 300\nfile 600\nshmem 100\n").unwrap();
        fs::write(group.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        fs::write(group.join("cpu.stat"), "usage_usec 5000\n").unwrap();
        fs::write(group.join("io.stat"), "8:0 rios=2 wios=3\n8:1 rios=1 wios=1\n").unwrap();

        assert_eq!(groups.memory_used(&vm()), Some(Bytes(500)));
        assert_eq!(groups.out_of_memory(&vm()), Some(2));
        assert_eq!(groups.cpu_ms(&vm()), Some(5));
        let operations = Operations { reads: Some(3), writes: Some(4) };
        assert_eq!(groups.operations(&vm()), operations);
    }

    #[test]
    fn without_groups_nothing_is_known_and_nothing_is_zero() {
        let groups = Groups::default();

        assert!(!groups.holds_limits());
        assert_eq!(groups.cpu_ms(&vm()), None);
        assert_eq!(groups.memory_used(&vm()), None);
        assert_eq!(groups.operations(&vm()), Operations::default());
        assert!(!groups.freeze(&vm()).unwrap());
    }
}
