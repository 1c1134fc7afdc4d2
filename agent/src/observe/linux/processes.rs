//! Reads the process table from /proc: one cheap file per process and look, the rest once per process.
//!
//! The environment is never opened, arguments only where the guest's own configuration asks for them, and then
//! secrets are struck out before they go any further. A process that vanishes while it is read is left out;
//! that is what processes do. Kernel threads are left out: they belong to no application.

use std::{
    fs::File,
    io::{self, Read as _},
    time::Duration,
};

use ahash::HashSet;
use common::{
    clock::Timestamp,
    sample::ProcessKey,
    units::{Bytes, Millicores},
};
use procfs::{CurrentSI, ProcError, process};

use crate::observe::{
    arguments,
    seen::{Group, Moved, Seen, Traits},
};

pub(super) mod text;

/// `PF_KTHREAD` of the kernel's sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Most processes one look takes; a guest with more is shown as far as that.
pub(in crate::observe) const MAX_PROCESSES: usize = 32_768;

/// Most bytes of arguments read; what is told of them is far less.
const LONGEST_ARGUMENTS: u64 = 32 << 10;
/// Most bytes read of a line about a process; the kernel's are shorter.
const MAX_LINE: usize = 1024;

/// One pass over the table.
#[derive(Debug, Default)]
pub(in crate::observe) struct Table {
    /// The processes.
    pub(in crate::observe) processes: Vec<Seen>,
    /// How many were left out because there are too many.
    pub(in crate::observe) left_out: usize,
}

/// Turns the kernel's units into ours. The time of boot is fixed when this is made: the kernel's own
/// figure moves with the wall clock, and a process would get another key with every step of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Units {
    booted_at: Timestamp,
    ticks_per_second: u64,
    page: u64,
}

impl Units {
    /// Asks the kernel. A time of boot that cannot be read becomes the epoch, which still tells
    /// processes apart.
    pub(in crate::observe) fn read() -> Self {
        let booted = procfs::boot_time_secs().unwrap_or(0);
        Self {
            booted_at: Timestamp::from_millis(booted.saturating_mul(1000)),
            ticks_per_second: procfs::ticks_per_second().max(1),
            page: procfs::page_size(),
        }
    }

    /// When the machine booted.
    pub(in crate::observe) const fn booted_at(self) -> Timestamp {
        self.booted_at
    }

    fn millis(self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }

    fn seen(self, stat: text::Stat) -> Seen {
        let started_at = self.booted_at + Duration::from_millis(self.millis(stat.started));
        Seen {
            key: ProcessKey { pid: stat.pid, started_at },
            parent: stat.parent,
            name: stat.name,
            cpu_ms: self.millis(stat.used),
            waited_ms: self.millis(stat.waited),
            resident: Bytes(stat.resident.saturating_mul(self.page)),
        }
    }
}

/// Reads every process that is not a kernel thread.
///
/// # Errors
///
/// Only if the table itself cannot be listed.
pub(in crate::observe) fn table(units: Units) -> Result<Table, ProcError> {
    let mut table = Table::default();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(stat) = stat_of(pid) else { continue };
        if stat.flags & KERNEL_THREAD != 0 {
            continue;
        }
        if table.processes.len() >= MAX_PROCESSES {
            table.left_out += 1;
            continue;
        }
        table.processes.push(units.seen(stat));
    }
    Ok(table)
}

/// Reads processes again that were seen before; those that are gone are left out.
pub(in crate::observe) fn again(units: Units, known: &HashSet<ProcessKey>) -> Vec<Seen> {
    let seen = known.iter().filter_map(|key| Some(units.seen(stat_of(key.pid)?)));
    seen.filter(|seen| known.contains(&seen.key)).collect()
}

/// One process; `None` if it is gone.
pub(in crate::observe) fn one(units: Units, pid: u32) -> Option<Seen> {
    stat_of(pid).map(|stat| units.seen(stat))
}

/// The agent itself.
pub(in crate::observe) fn own(units: Units) -> Option<Seen> {
    let mut buffer = [0; MAX_LINE];
    text::stat(head("/proc/self/stat", &mut buffer)?).map(|stat| units.seen(stat))
}

/// Reads what hardly changes, arguments only if they are wanted; `None` if it ended before all was read.
pub(in crate::observe) fn traits(pid: u32, wants_arguments: bool) -> Option<Traits> {
    let process = open(pid)?;
    // The owner of the folder is root's for every process that changed its user after it started,
    // so the status file is asked.
    let user = process.status().map(|status| status.ruid).or_else(|_| process.uid());
    let (unit, groups) = groups(pid).unwrap_or_default();
    let traits = Traits {
        executable: process.exe().ok().map(|path| {
            let path = path.to_string_lossy();
            path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
        }),
        user: user.unwrap_or_default(),
        unit,
        groups,
        arguments: if wants_arguments { arguments_of(pid) } else { None },
    };
    // Of one that is gone no unit could be read; of one that has none there is nothing to read.
    (traits.unit.is_some() || stat_of(pid).is_some()).then_some(traits)
}

/// The arguments of a process without their secrets; `None` if they may not be read.
fn arguments_of(pid: u32) -> Option<Vec<String>> {
    let mut text = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(LONGEST_ARGUMENTS).read_to_end(&mut text).ok()?;
    Some(arguments::told(&text))
}

/// Reads which service unit and which groups a process belongs to; `None` if it is gone.
pub(in crate::observe) fn groups(pid: u32) -> Option<(Option<String>, Vec<Group>)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    // Of a process that ended and was not waited for yet the kernel may say nothing.
    (!text.is_empty()).then(|| (text::unit(&text).map(str::to_owned), text::groups(&text)))
}

/// Reads what a process moved to and from storage; `None` if it may not be read.
pub(in crate::observe) fn moved(pid: u32) -> Option<Moved> {
    let mut buffer = [0; MAX_LINE];
    text::io(head(&format!("/proc/{pid}/io"), &mut buffer)?)
}

fn stat_of(pid: u32) -> Option<text::Stat> {
    let mut buffer = [0; MAX_LINE];
    text::stat(head(&format!("/proc/{pid}/stat"), &mut buffer)?)
}

/// The beginning of a file of /proc, which gives all it has to one call.
fn head<'a>(path: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = File::open(path).ok()?.read(buffer).ok()?;
    buffer.get(..length)
}

/// Inodes of the sockets a process holds.
///
/// # Errors
///
/// If its descriptors may not be read, or it is gone.
pub(in crate::observe) fn sockets_of(pid: u32) -> io::Result<Vec<u32>> {
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

/// What the kernel says of its processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::observe) struct Kernel {
    /// How many cores it runs.
    pub(in crate::observe) cores: Option<u32>,
    /// Time since boot over all of them that was not idle, not waiting for storage, not taken by the host.
    pub(in crate::observe) busy_ms: Option<u64>,
}

/// Asks the kernel for its processors. To make this file costs the kernel more than all others, so that one
/// look reads it once.
pub(in crate::observe) fn kernel() -> Kernel {
    let Ok(stats) = procfs::KernelStats::current() else { return Kernel::default() };
    let total = &stats.total;
    let interrupts = total.irq_ms().unwrap_or(0) + total.softirq_ms().unwrap_or(0);
    Kernel {
        cores: u32::try_from(stats.cpu_time.len()).ok().filter(|cores| *cores > 0),
        busy_ms: Some(total.user_ms() + total.nice_ms() + total.system_ms() + interrupts),
    }
}

/// The most CPU that so many cores can give.
pub(in crate::observe) fn all_of(cores: Option<u32>) -> Millicores {
    cores.map_or(Millicores(u64::MAX), |cores| Millicores(u64::from(cores) * 1000))
}

fn open(pid: u32) -> Option<process::Process> {
    process::Process::new(i32::try_from(pid).ok()?).ok()
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
        assert_eq!(traits(u32::MAX, true), None);
        assert_eq!(moved(u32::MAX), None);
        assert!(sockets_of(u32::MAX).is_err());
    }
}
