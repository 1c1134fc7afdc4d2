//! Reads the process table from /proc: one cheap file per process and look, the rest once per process.
//!
//! Arguments and environment are never opened. A process that vanishes while it is read is left out;
//! that is what processes do. Kernel threads are left out: they belong to no application.

use std::{io, time::Duration};

use common::{
    clock::Timestamp,
    sample::ProcessKey,
    units::{Bytes, Millicores},
};
use procfs::{CurrentSI, ProcError, process};

/// `PF_KTHREAD` of the kernel's sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Most processes one look takes; a guest with more is shown as far as that.
pub(super) const MAX_PROCESSES: usize = 32_768;

/// What one look sees of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which process.
    pub(super) key: ProcessKey,
    /// Its parent.
    pub(super) parent: u32,
    /// The kernel's short name of it.
    pub(super) name: String,
    /// CPU time it used itself.
    pub(super) cpu_ms: u64,
    /// CPU time of the children it waited for, and of theirs.
    pub(super) waited_ms: u64,
    /// Resident memory.
    pub(super) resident: Bytes,
}

/// What hardly changes in the life of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// The file it runs.
    pub(super) executable: Option<String>,
    /// Numeric user.
    pub(super) user: u32,
    /// The service unit it belongs to.
    pub(super) unit: Option<String>,
}

/// Bytes a process read from and wrote to storage, its waited-for children's among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Storage {
    /// Read.
    pub(super) read: u64,
    /// Written.
    pub(super) written: u64,
}

/// One pass over the table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The processes.
    pub(super) processes: Vec<Seen>,
    /// How many were left out because there are too many.
    pub(super) left_out: usize,
}

/// Turns the kernel's units into ours. The time of boot is fixed when this is made: the kernel's own
/// figure moves with the wall clock, and a process would get another key with every step of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    booted_at: Timestamp,
    ticks_per_second: u64,
    page: u64,
}

impl Units {
    /// Asks the kernel. A time of boot that cannot be read becomes the epoch, which still tells
    /// processes apart.
    pub(super) fn read() -> Self {
        let booted = procfs::boot_time_secs().unwrap_or(0);
        Self {
            booted_at: Timestamp::from_millis(booted.saturating_mul(1000)),
            ticks_per_second: procfs::ticks_per_second().max(1),
            page: procfs::page_size(),
        }
    }

    /// When the machine booted.
    pub(super) const fn booted_at(self) -> Timestamp {
        self.booted_at
    }

    fn millis(self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }

    fn seen(self, stat: process::Stat) -> Option<Seen> {
        let pid = u32::try_from(stat.pid).ok()?;
        let waited = stat.cutime.saturating_add(stat.cstime);
        let started_at = self.booted_at + Duration::from_millis(self.millis(stat.starttime));
        Some(Seen {
            key: ProcessKey { pid, started_at },
            parent: u32::try_from(stat.ppid).unwrap_or(0),
            name: stat.comm,
            cpu_ms: self.millis(stat.utime.saturating_add(stat.stime)),
            waited_ms: self.millis(u64::try_from(waited).unwrap_or(0)),
            resident: Bytes(stat.rss.saturating_mul(self.page)),
        })
    }
}

/// Reads every process that is not a kernel thread.
///
/// # Errors
///
/// Only if the table itself cannot be listed.
pub(super) fn table(units: Units) -> Result<Table, ProcError> {
    let mut table = Table::default();
    for process in process::all_processes()? {
        let Ok(stat) = process.and_then(|process| process.stat()) else { continue };
        if stat.flags & KERNEL_THREAD != 0 {
            continue;
        }
        if table.processes.len() >= MAX_PROCESSES {
            table.left_out += 1;
            continue;
        }
        table.processes.extend(units.seen(stat));
    }
    Ok(table)
}

/// The agent itself.
pub(super) fn own(units: Units) -> Option<Seen> {
    units.seen(process::Process::myself().and_then(|own| own.stat()).ok()?)
}

/// Reads what hardly changes; empty if the process is gone.
pub(super) fn traits(pid: u32) -> Traits {
    let Some(process) = open(pid) else { return Traits::default() };
    // The owner of the folder is root's for every process that changed its user after it started,
    // so the status file is asked.
    let user = process.status().map(|status| status.ruid).or_else(|_| process.uid());
    Traits {
        executable: process.exe().ok().map(|path| {
            let path = path.to_string_lossy();
            path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
        }),
        user: user.unwrap_or_default(),
        unit: process.cgroups().ok().and_then(|groups| {
            groups.0.iter().find_map(|group| unit_of(&group.pathname)).map(str::to_owned)
        }),
    }
}

/// Reads what a process moved to and from storage; `None` if it may not be read.
pub(super) fn storage(pid: u32) -> Option<Storage> {
    let io = open(pid)?.io().ok()?;
    Some(Storage { read: io.read_bytes, written: io.write_bytes })
}

/// Inodes of the sockets a process holds.
///
/// # Errors
///
/// If its descriptors may not be read, or it is gone.
pub(super) fn sockets_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = entry.and_then(|entry| std::fs::read_link(entry.path())) else { continue };
        let inode = target
            .to_str()
            .and_then(|target| target.strip_prefix("socket:["))
            .and_then(|target| target.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
    }
    Ok(inodes)
}

/// How many cores the kernel runs.
pub(super) fn cores() -> Option<u32> {
    let stats = procfs::KernelStats::current().ok()?;
    u32::try_from(stats.cpu_time.len()).ok().filter(|cores| *cores > 0)
}

/// The most CPU that so many cores can give.
pub(super) fn all_of(cores: Option<u32>) -> Millicores {
    cores.map_or(Millicores(u64::MAX), |cores| Millicores(u64::from(cores) * 1000))
}

fn open(pid: u32) -> Option<process::Process> {
    process::Process::new(i32::try_from(pid).ok()?).ok()
}

/// The innermost service of a control group's path: `/system.slice/nginx.service` is `nginx.service`.
fn unit_of(path: &str) -> Option<&str> {
    path.rsplit('/').find(|part| part.len() > ".service".len() && part.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_in_the_table() {
        let units = Units::read();
        let own = own(units).unwrap();

        let table = table(units).unwrap();

        let row = table.processes.iter().find(|seen| seen.key.pid == own.key.pid).unwrap();
        assert_eq!((row.key, row.parent), (own.key, own.parent));
        assert!(row.resident > Bytes(0));
    }

    #[test]
    fn a_pid_that_is_nobodys_costs_nothing() {
        assert_eq!(traits(u32::MAX), Traits::default());
        assert_eq!(storage(u32::MAX), None);
        assert!(sockets_of(u32::MAX).is_err());
    }

    #[test]
    fn a_unit_is_the_innermost_service_of_the_path() {
        assert_eq!(unit_of("/system.slice/nginx.service"), Some("nginx.service"));
        let nested = "/user.slice/user-1000.slice/user@1000.service/app.slice/chat.service/inner";
        assert_eq!(unit_of(nested), Some("chat.service"));
        assert_eq!(unit_of("/user.slice/session-2.scope"), None);
        assert_eq!(unit_of("/.service"), None);
    }
}
