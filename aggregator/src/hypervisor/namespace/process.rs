//! Processes as /proc shows them, told apart from later ones under the same number.

use std::{
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// How often a process is looked at that is about to end.
const LOOK: Duration = Duration::from_millis(10);

/// Ticks per second of the times in /proc; the same on every Linux architecture we know.
const TICKS_PER_SECOND: u64 = 100;

/// One process. Its number alone would be given to another after it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Ticks after boot when it started.
    started: u64,
    /// Which boot.
    boot: String,
}

/// The fields of `/proc/PID/stat` after the command, which may hold any character.
fn stat(pid: i32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], index: usize) -> io::Result<u64> {
    let field = fields.get(index).ok_or(io::ErrorKind::InvalidData)?;
    field.parse().map_err(io::Error::other)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

impl Process {
    /// The process that has this number now.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, started: number(&stat(pid)?, 19)?, boot: boot()? })
    }

    /// This process, as the host counts.
    pub(super) fn own() -> io::Result<Self> {
        Self::of(own_pid()?)
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs; one that only waits to be reaped does not.
    pub(super) fn lives(&self) -> bool {
        let Ok(fields) = stat(self.pid) else { return false };
        let is_dead = fields.first().is_none_or(|state| state == "Z" || state == "X");
        let is_same = number(&fields, 19).is_ok_and(|started| started == self.started)
            && boot().is_ok_and(|boot| boot == self.boot);
        is_same && !is_dead
    }

    /// One that has ended already is success.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.lives() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Waits for its end; `false` if it still runs after `patience`.
    pub(super) fn ends_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if !self.lives() {
                return true;
            }
            if begun.elapsed() >= patience {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    /// A file of its folder in /proc.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// All processes in its PID namespace.
    pub(super) fn companions(&self) -> Vec<i32> {
        let Ok(own) = fs::read_link(self.file("ns/pid")) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == own)
        })
        .collect()
    }
}

/// Number of this process in the PID namespace that /proc was mounted for: the host's, also in a
/// process that has a smaller number in a namespace of its own.
pub(super) fn own_pid() -> io::Result<i32> {
    let link = fs::read_link("/proc/self")?;
    let name = link.to_str().ok_or(io::ErrorKind::InvalidData)?;
    name.parse().map_err(io::Error::other)
}

/// Whether a process stands still, or has ended.
pub(super) fn is_stopped(pid: i32) -> bool {
    stat(pid).map_or(true, |fields| {
        fields.first().is_some_and(|state| ["T", "t", "Z", "X"].contains(&state.as_str()))
    })
}

/// Running totals of some processes and of those they have reaped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu_ms: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) read: Option<u64>,
    pub(super) written: Option<u64>,
}

fn add(total: &mut Option<u64>, part: Option<u64>) {
    if let Some(part) = part {
        *total = Some(total.unwrap_or(0).saturating_add(part));
    }
}

/// A line such as `read_bytes: 4096` or `RssAnon:  12 kB`.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sums over processes; a process that ended meanwhile is counted by its parent.
pub(super) fn usage(pids: &[i32]) -> Usage {
    let mut usage = Usage::default();
    for pid in pids {
        let times = stat(*pid).ok().and_then(|fields| {
            (11..15).map(|index| number(&fields, index).ok()).sum::<Option<u64>>()
        });
        add(&mut usage.cpu_ms, times.map(|ticks| ticks * 1000 / TICKS_PER_SECOND));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        for label in ["RssAnon", "RssShmem"] {
            add(&mut usage.memory, labelled(&status, label).map(|kib| kib << 10));
        }
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        add(&mut usage.read, labelled(&io, "read_bytes"));
        add(&mut usage.written, labelled(&io, "write_bytes"));
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_to_another_process_is_not_taken_for_the_first() {
        let own = Process::own().unwrap();

        let earlier = Process { started: own.started - 1, ..own.clone() };
        let before_boot = Process { boot: "another".to_owned(), ..own.clone() };

        assert!(own.lives());
        assert!(!earlier.lives());
        assert!(!before_boot.lives());
    }

    #[test]
    fn a_label_that_begins_like_another_is_not_taken_for_it() {
        let text = "cancelled_write_bytes: 7\nread_bytes: 4096\nwrite_bytes: 12\n";

        assert_eq!(labelled(text, "write_bytes"), Some(12));
        assert_eq!(labelled(text, "syscr"), None);
    }
}
