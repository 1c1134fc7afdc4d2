//! Limits CPU and memory of an application by a control group of its own, where one may be made.
//!
//! Version 2 has one tree, version 1 one for each of `cpu` and `memory`. Where a group may not be
//! made the application runs all the same, and what is not limited is said.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use common::{
    id::AppName,
    mix::ConfigurationMix,
    units::{Bytes, Millicores},
};
use sha2::{Digest as _, Sha256};

/// Where control groups are mounted if nothing else is said.
const MOUNTED: &str = "/sys/fs/cgroup";
/// Length of the period a share of CPU is counted over, in microseconds; the kernel's own.
const PERIOD_US: u64 = 100_000;
/// Least CPU the kernel lets a group have, in thousandths of a core.
const LEAST_CPU: u64 = 10;

/// Makes a group for each application, under a name that no other agent on this host has: whoever
/// is in a group when its application is stopped is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    place: Place,
    tag: String,
}

/// Where groups for applications can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Below one folder, for CPU and memory both.
    Unified(PathBuf),
    /// Below one folder each; what has none is not limited.
    Split {
        /// For CPU.
        cpu: Option<PathBuf>,
        /// For memory.
        memory: Option<PathBuf>,
    },
    /// Nowhere, and why.
    None(String),
}

impl Place {
    fn find(given: Option<&Path>) -> Self {
        let root = given.unwrap_or(Path::new(MOUNTED));
        let own = if given.is_some() { String::new() } else { own_groups() };
        if root.join("cgroup.controllers").exists() {
            let base = below(root, &own, "");
            return match delegate(&base, given.is_none()) {
                Ok(()) => Self::Unified(base),
                Err(cause) => Self::None(format!("{}: {cause}", base.display())),
            };
        }
        let split = |controller: &str| {
            let base = below(&root.join(controller), &own, controller);
            base.join("cgroup.procs").exists().then_some(base)
        };
        match (split("cpu"), split("memory")) {
            (None, None) => Self::None(format!("no control groups at {}", root.display())),
            (cpu, memory) => Self::Split { cpu, memory },
        }
    }
}

/// Sets the limit of one controller in a group.
type Limit<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

/// The groups made for one application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Folders; whoever shall be in them writes itself into their `cgroup.procs`.
    pub(super) folders: Vec<PathBuf>,
    /// What is not limited, and why; empty if all is.
    pub(super) unlimited: Vec<String>,
}

impl Groups {
    /// None for anybody, and why.
    #[must_use]
    pub fn none(reason: impl Into<String>) -> Self {
        Self { place: Place::None(reason.into()), tag: String::new() }
    }

    /// Finds out what this machine permits: below `given`, or below the agent's own group. `whose`
    /// tells this agent from every other one on the host.
    #[must_use]
    pub fn find(given: Option<&Path>, whose: &str) -> Self {
        let tag = hex::encode(&Sha256::digest(whose)[..4]);
        Self { place: Place::find(given), tag }
    }

    /// Why nothing can be limited; `None` if something can.
    #[must_use]
    pub fn nowhere(&self) -> Option<&str> {
        match &self.place {
            Place::None(reason) => Some(reason),
            _ => None,
        }
    }

    fn folder_name(&self, name: &AppName) -> String {
        format!("sinter-{}-{name}", self.tag)
    }
    /// Makes the groups of an application, or finds them, and sets their limits.
    pub(super) fn set(&self, name: &AppName, mix: &ConfigurationMix) -> Group {
        let mut group = Group::default();
        let folder = self.folder_name(name);
        let name = folder.as_str();
        match &self.place {
            Place::Unified(base) => {
                group.add(base, name, |folder, unlimited| {
                    note(unlimited, "cpu", mix.cpu.is_some(), cpu_v2(folder, mix.cpu));
                    note(unlimited, "memory", mix.memory.is_some(), memory_v2(folder, mix.memory));
                });
            }
            Place::Split { cpu, memory } => {
                group.add_split(
                    cpu.as_deref(),
                    "cpu",
                    mix.cpu.is_some(),
                    (name, &|folder| cpu_v1(folder, mix.cpu)),
                );
                group.add_split(
                    memory.as_deref(),
                    "memory",
                    mix.memory.is_some(),
                    (name, &|folder| memory_v1(folder, mix.memory)),
                );
            }
            Place::None(reason) => {
                for (what, wanted) in [("cpu", mix.cpu.is_some()), ("memory", mix.memory.is_some())]
                {
                    if wanted {
                        group.unlimited.push(format!("{what} is not limited: {reason}"));
                    }
                }
            }
        }
        if mix.storage.is_some() {
            group.unlimited.push("storage is not limited: it is the hypervisor's to limit".into());
        }
        group
    }

    /// Takes the groups of an application away; they are empty by now.
    pub(super) fn remove(&self, name: &AppName) {
        let bases: Vec<&PathBuf> = match &self.place {
            Place::Unified(base) => vec![base],
            Place::Split { cpu, memory } => cpu.iter().chain(memory).collect(),
            Place::None(_) => Vec::new(),
        };
        for base in bases {
            // The kernel lets go of the last process a moment after it ended.
            for _ in 0..20 {
                match fs::remove_dir(base.join(self.folder_name(name))) {
                    Err(cause) if cause.raw_os_error() == Some(nix::libc::EBUSY) => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    _ => break,
                }
            }
        }
    }
}

impl Group {
    fn add(&mut self, base: &Path, name: &str, limit: impl FnOnce(&Path, &mut Vec<String>)) {
        let folder = base.join(name);
        match make(&folder) {
            Ok(()) => {
                limit(&folder, &mut self.unlimited);
                self.folders.push(folder);
            }
            Err(cause) => {
                let what = format!("nothing is limited: {}: {cause}", folder.display());
                self.unlimited.push(what);
            }
        }
    }

    fn add_split(
        &mut self,
        base: Option<&Path>,
        what: &str,
        wanted: bool,
        (name, limit): (&str, Limit<'_>),
    ) {
        let Some(base) = base else {
            let absent = Err(io::Error::other("that controller is not mounted"));
            return note(&mut self.unlimited, what, wanted, absent);
        };
        let folder = base.join(name);
        let made = make(&folder);
        if made.is_ok() {
            self.folders.push(folder.clone());
        }
        note(&mut self.unlimited, what, wanted, made.and_then(|()| limit(&folder)));
    }

    /// Notes if a process that should be in the groups is not.
    pub(super) fn check(&mut self, pid: i32) {
        if !self.folders.is_empty() && !self.members().contains(&pid) {
            self.unlimited.push("nothing is limited: it is not in its control group".into());
        }
    }

    /// Every process that is in one of the groups.
    pub(super) fn members(&self) -> Vec<i32> {
        let members = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs"));
        let texts: Vec<String> = self.folders.iter().filter_map(|f| members(f).ok()).collect();
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok()).collect()
    }
}

fn note(unlimited: &mut Vec<String>, what: &str, wanted: bool, done: io::Result<()>) {
    if let (true, Err(cause)) = (wanted, done) {
        unlimited.push(format!("{what} is not limited: {cause}"));
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The agent's own group in the hierarchy with that controller; the root if it is in none.
fn below(root: &Path, own: &str, controller: &str) -> PathBuf {
    let is_it = |names: &str| names.split(',').any(|name| name == controller);
    let mut lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let path = lines.find(|(names, _)| is_it(names)).map_or("/", |(_, path)| path);
    root.join(path.trim_start_matches('/'))
}

/// Lets groups below `base` be limited. A group with members cannot hand controllers down, so the
/// agent first moves into one of its own, if the group is its.
fn delegate(base: &Path, is_own: bool) -> io::Result<()> {
    if is_own && base != Path::new(MOUNTED) {
        let leaf = base.join("sinter-agent");
        make(&leaf)?;
        fs::write(leaf.join("cgroup.procs"), "0")?;
    }
    fs::write(base.join("cgroup.subtree_control"), "+cpu +memory")
}

fn quota(cpu: Millicores) -> u64 {
    cpu.0.max(LEAST_CPU).saturating_mul(PERIOD_US / 1000)
}

fn cpu_v2(folder: &Path, cpu: Option<Millicores>) -> io::Result<()> {
    let quota = cpu.map_or_else(|| "max".to_owned(), |cpu| quota(cpu).to_string());
    fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))
}

fn memory_v2(folder: &Path, memory: Option<Bytes>) -> io::Result<()> {
    let most = memory.map_or_else(|| "max".to_owned(), |memory| memory.0.to_string());
    fs::write(folder.join("memory.max"), most)
}

fn cpu_v1(folder: &Path, cpu: Option<Millicores>) -> io::Result<()> {
    fs::write(folder.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
    let quota = cpu.map_or_else(|| "-1".to_owned(), |cpu| quota(cpu).to_string());
    fs::write(folder.join("cpu.cfs_quota_us"), quota)
}

fn memory_v1(folder: &Path, memory: Option<Bytes>) -> io::Result<()> {
    let most = memory.map_or_else(|| "-1".to_owned(), |memory| memory.0.to_string());
    fs::write(folder.join("memory.limit_in_bytes"), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_group_is_found_per_hierarchy() {
        let own = "5:cpu,cpuacct:/a/b\n4:memory:/m\n0::/u\n";
        assert_eq!(below(Path::new("/g/cpu"), own, "cpu"), Path::new("/g/cpu/a/b"));
        assert_eq!(below(Path::new("/g/memory"), own, "memory"), Path::new("/g/memory/m"));
        assert_eq!(below(Path::new("/g"), own, ""), Path::new("/g/u"));
        assert_eq!(below(Path::new("/g"), "", ""), Path::new("/g/"));
    }

    #[test]
    fn what_cannot_be_limited_is_said() {
        let mix = ConfigurationMix {
            cpu: Some(Millicores(500)),
            memory: None,
            storage: Some(Bytes::mebi(1)),
        };
        let group = Groups::none("nothing is mounted").set(&"web".parse().unwrap(), &mix);
        assert_eq!(group.folders, Vec::<PathBuf>::new());
        assert_eq!(group.unlimited.len(), 2, "{:?}", group.unlimited);
    }

    #[test]
    fn limits_are_written_in_the_kernels_words() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::Unified(base.path().to_owned());
        let groups = Groups { place, tag: "0a".into() };
        let mix = ConfigurationMix {
            cpu: Some(Millicores(250)),
            memory: Some(Bytes::mebi(64)),
            storage: None,
        };
        let name = "web".parse().unwrap();

        let group = groups.set(&name, &mix);
        assert_eq!(group.unlimited, Vec::<String>::new());
        let read = |file: &str| fs::read_to_string(group.folders[0].join(file)).unwrap();
        assert_eq!(
            (read("cpu.max"), read("memory.max")),
            ("25000 100000".into(), "67108864".into())
        );

        groups.set(&name, &ConfigurationMix::default());
        assert_eq!((read("cpu.max"), read("memory.max")), ("max 100000".into(), "max".into()));
    }
}
