//! What a Linux guest lets the agent see.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::task::Chain;
use nix::unistd::{AccessFlags, access};

use super::Check;
use crate::{
    observe::services::{EnabledFiles, SYSTEMD_FOLDER, connect, has_systemd, systemd_services},
    platform::{Right, Rights, rights},
};

/// Where the kernel's trace may be mounted.
const TRACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
const MOUNTS: &str = "/proc/mounts";

pub(super) async fn checks() -> Vec<Check> {
    let mut checks = rights().map_or_else(unknown_rights, |rights| of_rights(&rights));
    let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
    checks.push(processes(&mounts));
    checks.push(trace());
    checks.push(groups(Path::new(GROUPS), &mounts));
    checks.push(services().await);
    checks
}

fn unknown_rights() -> Vec<Check> {
    let cost = "nothing can be observed without /proc";
    vec![Check::fail("rights", "could not read /proc/self/status", cost, "mount /proc")]
}

fn of_rights(rights: &Rights) -> Vec<Check> {
    let right = |name, right, capability: &str, cost: &str| {
        if rights.has(right) {
            return Check::pass(name, format!("user {} has {capability}", rights.user));
        }
        let remedy = format!("run as root, or give it {capability}, as sinter-agent.service does");
        Check::warn(name, format!("user {} lacks {capability}", rights.user), cost, &remedy)
    };
    let ends = "what the kernel tells of ends of connections has little room: under load some are lost, \
                which coverage says";
    let others = "executables, sockets and I/O of other users' processes are unknown: connections \
                  have no application";
    let files = "the SMBIOS uuid, the trace and configuration files of others may not be readable";
    vec![
        right("right to hear of the network", Right::Network, "CAP_NET_ADMIN", ends),
        right("right to see processes", Right::Processes, "CAP_SYS_PTRACE", others),
        right("right to read files", Right::ReadFiles, "CAP_DAC_READ_SEARCH", files),
    ]
}

/// Whether /proc shows the processes of all users.
fn processes(mounts: &str) -> Check {
    let name = "process table";
    let Some(options) = options_of(mounts, "/proc") else {
        let cost = "nothing can be observed";
        return Check::fail(name, "/proc is not mounted", cost, "mount -t proc proc /proc");
    };
    let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    match hidden {
        None | Some("0" | "off") => Check::pass(name, "/proc shows all processes"),
        Some(level) => {
            let found = format!("/proc is mounted with hidepid={level}");
            let cost = "processes of other users are not seen unless CAP_SYS_PTRACE is there";
            Check::warn(
                name,
                found,
                cost,
                "give CAP_SYS_PTRACE, or mount /proc with gid= of the agent",
            )
        }
    }
}

/// The options of the last thing mounted at `place`.
fn options_of<'a>(mounts: &'a str, place: &str) -> Option<&'a str> {
    let lines = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(|fields| fields.len() > 3 && fields[1] == place).map(|fields| fields[3]).next()
}

fn may(path: &Path, how: AccessFlags) -> bool {
    access(path, how).is_ok()
}

fn trace() -> Check {
    let name = "trace of openings";
    let cost = "an outbound connection shorter than a sample may have no application";
    let places = TRACES.iter().map(Path::new);
    let Some(place) = places.into_iter().find(|place| place.join("instances").is_dir()) else {
        let remedy = "mount -t tracefs tracefs /sys/kernel/tracing; as another user CAP_DAC_READ_SEARCH \
                      is needed";
        return Check::warn(name, "no trace at /sys/kernel/tracing that may be read", cost, remedy);
    };
    let event: PathBuf = place.join("events/sock/inet_sock_set_state");
    if !event.is_dir() {
        let found = "the kernel has no event sock:inet_sock_set_state";
        return Check::warn(name, found, cost, "none; kernels from 4.16 on have it");
    }
    let instances = place.join("instances");
    if !may(&instances, AccessFlags::W_OK) {
        let found = format!("{} may not be written", instances.display());
        let remedy = "run as root; in a unit with ProtectKernelTunables add \
                      ReadWritePaths=/sys/kernel/tracing";
        return Check::warn(name, found, cost, remedy);
    }
    Check::pass(name, format!("an instance can be made in {}", instances.display()))
}

fn groups(root: &Path, mounts: &str) -> Check {
    let name = "control groups";
    let cost = "use of applications is summed up from their processes: short ones are missed, and page \
                cache, stalls and limits are unknown";
    if root.join("cgroup.controllers").is_file() {
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        return Check::pass(name, format!("version 2, with {}", controllers.trim()));
    }
    let is_first = |line: &str| line.split(' ').nth(2) == Some("cgroup");
    if mounts.lines().any(is_first) {
        let found = format!("version 1 at {}", root.display());
        let cost =
            "stalls per application are unknown, and connections are not told by their group";
        return Check::warn(name, found, cost, "boot with systemd.unified_cgroup_hierarchy=1");
    }
    Check::warn(name, format!("none at {}", root.display()), cost, "mount cgroup2 there")
}

async fn services() -> Check {
    let name = "systemd";
    let cost = "services and their main processes are unknown; applications go by their files";
    if !has_systemd(Path::new(SYSTEMD_FOLDER)) {
        return Check::pass(name, "it does not run this machine; services are the agent's own");
    }
    let read = match connect().await {
        Ok(connection) => systemd_services(&connection, &mut EnabledFiles::default()).await,
        Err(cause) => Err(cause),
    };
    match read {
        Ok(services) => Check::pass(name, format!("{} services", services.rows.len())),
        Err(cause) => {
            let remedy = "let the agent reach /run/dbus/system_bus_socket";
            Check::warn(name, Chain(&cause).to_string(), cost, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_table_of_processes_that_is_hidden_or_missing_is_said() {
        let check = |mounts: &str| processes(mounts).verdict;
        assert_eq!(check("proc /proc proc rw,nosuid 0 0\n"), Verdict::Pass);
        assert_eq!(check("proc /proc proc rw,hidepid=0 0 0\n"), Verdict::Pass);
        assert_eq!(check("proc /proc proc rw,hidepid=invisible 0 0\n"), Verdict::Warn);
        assert_eq!(check("sysfs /sys sysfs rw 0 0\n"), Verdict::Fail);
    }

    #[test]
    fn the_version_of_control_groups_is_told_by_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let none = groups(folder.path(), "");
        assert!(none.verdict == Verdict::Warn && none.found.starts_with("none"));
        let first = groups(folder.path(), "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n");
        assert!(first.verdict == Verdict::Warn && first.found.starts_with("version 1"));
        fs::write(folder.path().join("cgroup.controllers"), "cpu io memory\n").unwrap();
        assert_eq!(groups(folder.path(), "").found, "version 2, with cpu io memory");
    }
}
