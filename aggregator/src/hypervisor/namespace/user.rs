//! The right to make namespaces: root's, or that of a user namespace of our own.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use super::{Attempt, NamespaceError, layout::Layout, process::Process};

/// What to do where user namespaces are not to be had.
pub(super) const REMEDY: &str = "run as root, or allow user namespaces: user.max_user_namespaces \
    above 0 and, where the host has them, kernel.unprivileged_userns_clone = 1 and \
    kernel.apparmor_restrict_unprivileged_userns = 0";

/// Place of the right to make namespaces in the kernel's set of capabilities.
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process may make namespaces as it is.
pub(super) fn may_administer() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Gets this process that right, while it has one thread.
pub(super) fn prepare(folder: &Path) -> Result<(), NamespaceError> {
    if may_administer() {
        return Ok(());
    }
    let keeper = Layout::at(folder).ok().and_then(|layout| layout.keeper());
    match keeper {
        Some(keeper) => join(&keeper),
        None => make(),
    }
}

/// Machines that an earlier process left can only be reached from the namespace they were made in.
fn join(keeper: &Process) -> Result<(), NamespaceError> {
    let path = keeper.file("ns/user");
    let file = File::open(&path).or_could_not(|| format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWUSER)
        .or_could_not(|| "join the user namespace of the machines that run already".to_owned())
}

fn make() -> Result<(), NamespaceError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|cause| NamespaceError::Host {
        missing: format!("a user namespace ({cause})"),
        remedy: REMEDY.to_owned(),
    })?;
    map(user.as_raw(), group.as_raw())
}

/// Makes root of the one user there is in a new user namespace.
fn map(user: u32, group: u32) -> Result<(), NamespaceError> {
    let maps = [
        // Without this no group may be mapped by one without privileges.
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (name, map) in maps {
        fs::write(format!("/proc/self/{name}"), map)
            .or_could_not(|| format!("set {name} of a user namespace"))?;
    }
    Ok(())
}

/// Takes from this process, while it has one thread, every capability over what was set up for it:
/// it stays root, but of a user namespace that owns nothing, and its mounts are locked.
pub(super) fn confine() -> Result<(), NamespaceError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .or_could_not(|| "make a machine's user namespace".to_owned())?;
    map(user.as_raw(), group.as_raw())
}
