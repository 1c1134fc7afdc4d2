//! Finds the control groups that this process may divide.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{Groups, Hierarchy, Version};
use crate::hypervisor::namespace::{Attempt, NamespaceError, process};

/// Controllers of version 1 that we know what to do with.
const V1: [&str; 6] = ["blkio", "cpu", "cpuacct", "freezer", "memory", "pids"];

/// What version 2 calls them.
const V2: [(&str, &str); 4] =
    [("blkio", "io"), ("cpu", "cpu"), ("memory", "memory"), ("pids", "pids")];

/// A mounted tree of groups and the group in it that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    path: PathBuf,
    version: Version,
    controllers: BTreeSet<String>,
}

/// Makes a group called `name` wherever that is allowed.
pub(super) fn find(name: &str) -> Groups {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let member = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own(&mounts, &member);
    let v1 = own.iter().filter(|one| one.version == Version::V1);
    let hierarchies: Vec<Hierarchy> = v1.filter_map(|one| divide_v1(one, name)).collect();
    if !hierarchies.is_empty() {
        return Groups { hierarchies, aside: None };
    }
    let v2 = own.iter().find(|one| one.version == Version::V2);
    v2.and_then(|one| divide_v2(&one.path, name)).unwrap_or_default()
}

fn own(mounts: &str, member: &str) -> Vec<Own> {
    let mut found: BTreeMap<PathBuf, Own> = BTreeMap::new();
    for line in mounts.lines() {
        let Some((mount, system)) = line.split_once(" - ") else { continue };
        let mount: Vec<&str> = mount.split(' ').collect();
        let system: Vec<&str> = system.split(' ').collect();
        let (Some(root), Some(point)) = (mount.get(3), mount.get(4)) else { continue };
        let (version, controllers) = match system.first() {
            Some(&"cgroup") => (Version::V1, v1_controllers(system.get(2).unwrap_or(&""))),
            Some(&"cgroup2") => (Version::V2, BTreeSet::new()),
            _ => continue,
        };
        let Some(group) = membership(member, controllers.first()) else { continue };
        // A container's mount may begin deeper than its groups are counted from.
        let group = Path::new(&group);
        let inside = group.strip_prefix(root).or_else(|_| group.strip_prefix("/"));
        let path = Path::new(point).join(inside.unwrap_or(Path::new("")));
        let is_of_use = version == Version::V2 || !controllers.is_empty();
        if is_of_use && path.is_dir() {
            found.entry(path.clone()).or_insert(Own { path, version, controllers });
        }
    }
    found.into_values().collect()
}

fn v1_controllers(options: &str) -> BTreeSet<String> {
    options.split(',').filter(|option| V1.contains(option)).map(str::to_owned).collect()
}

/// The group this process is in: a line such as `4:memory:/a/b`, or `0::/a/b` for version 2.
fn membership(member: &str, controller: Option<&String>) -> Option<String> {
    member.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, group) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match controller {
            Some(controller) => names.split(',').any(|name| name == controller),
            None => names.is_empty(),
        };
        is_it.then(|| group.to_owned())
    })
}

/// Whether we may make groups there, tried out.
fn is_ours(base: &Path) -> bool {
    let trial = base.join("trial");
    let made = fs::create_dir_all(&trial).is_ok();
    made && fs::remove_dir(&trial).is_ok()
}

fn divide_v1(own: &Own, name: &str) -> Option<Hierarchy> {
    let base = own.path.join(name);
    let controllers = own.controllers.clone();
    is_ours(&base).then_some(Hierarchy { base, version: Version::V1, controllers })
}

/// Hands a controller down; what is not there to be handed is left out.
fn hand_down(group: &Path) {
    for (_, name) in V2 {
        let order = fs::write(group.join("cgroup.subtree_control"), format!("+{name}"));
        if let Err(cause) = order {
            tracing::debug!(group = %group.display(), name, %cause, "controller not handed down");
        }
    }
}

fn controllers(group: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| text.split_whitespace().any(|one| one == name);
    let named = V2.iter().filter(|(_, name)| has(name)).map(|(ours, _)| (*ours).to_owned());
    // These two come with every group of version 2.
    named.chain(["cpuacct".to_owned(), "freezer".to_owned()]).collect()
}

fn divide_v2(own: &Path, name: &str) -> Option<Groups> {
    let base = own.join(name);
    if !is_ours(&base) {
        return None;
    }
    hand_down(own);
    let mut aside = None;
    if !controllers(&base).contains("cpu") && is_alone(own) {
        // A group with processes of its own cannot hand down: go one deeper, if nobody else is here.
        aside = Some(own.join(format!("{name}-aggregator"))).filter(|leaf| step_aside(leaf));
        hand_down(own);
    }
    hand_down(&base);
    let hierarchy = Hierarchy { controllers: controllers(&base), base, version: Version::V2 };
    Some(Groups { hierarchies: vec![hierarchy], aside })
}

fn is_alone(group: &Path) -> bool {
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    process::own_pid().is_ok_and(|own| pids.trim() == own.to_string())
}

fn step_aside(leaf: &Path) -> bool {
    let is_made = fs::create_dir_all(leaf).is_ok();
    is_made && process::own_pid().is_ok_and(|own| move_to(leaf, own))
}

fn move_to(group: &Path, pid: i32) -> bool {
    fs::write(group.join("cgroup.procs"), pid.to_string()).is_ok()
}

/// The way back of stepping aside, as far as another process did not meanwhile make use of it.
pub(super) fn come_back(leaf: &Path) -> Result<(), NamespaceError> {
    let Some(own) = leaf.parent() else { return Ok(()) };
    for (_, name) in V2 {
        let order = fs::write(own.join("cgroup.subtree_control"), format!("-{name}"));
        if let Err(cause) = order {
            tracing::debug!(group = %own.display(), name, %cause, "controller not taken back");
        }
    }
    let inside = fs::read_to_string(leaf.join("cgroup.procs")).unwrap_or_default();
    for pid in inside.lines().filter_map(|line| line.parse().ok()) {
        if !move_to(own, pid) {
            tracing::debug!(pid, "process not moved back");
        }
    }
    if leaf.exists() {
        fs::remove_dir(leaf).or_could_not(|| format!("remove the group {}", leaf.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_below_a_mount_that_begins_deeper() {
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().display();
        fs::create_dir_all(folder.path().join("memory/unit")).unwrap();
        let mounts = format!(
            "36 25 0:31 /box {point}/memory rw - cgroup cgroup rw,memory\n\
             37 25 0:32 / {point}/named rw - cgroup cgroup rw,name=systemd\n\
             38 25 0:33 / / rw - ext4 /dev/vda rw\n"
        );

        let found = own(&mounts, "4:memory:/box/unit\n1:name=systemd:/\n");

        let path = folder.path().join("memory/unit");
        let controllers = BTreeSet::from(["memory".to_owned()]);
        assert_eq!(found, [Own { path, version: Version::V1, controllers }]);
    }

    #[test]
    fn version_2_is_the_line_without_a_name() {
        let member = "4:memory:/a\n0::/user.slice\n";

        assert_eq!(membership(member, None).unwrap(), "/user.slice");
    }
}
