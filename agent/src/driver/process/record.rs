//! What is remembered of one application's process: what was ordered, and who came to be.
//!
//! Each application has a folder. `order` says what the agent wants and is written before anything
//! is started; `running` is written by the process itself just before it becomes the application.
//! Both are written under the folder's lock, so whoever holds it knows that nobody is in between.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::mix::ConfigurationMix;
use serde::{Deserialize, Serialize};

use crate::file::{self, FileError, Lock};

/// A process for good: its number is used again, its number, start and boot together are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks from boot to its start.
    pub(super) started: u64,
    /// Of the boot it started in.
    pub(super) boot: String,
}

/// What is wanted of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Goes up with every start; a process that was started under another one does not go on.
    pub(super) instance: u64,
    /// It shall run.
    pub(super) wanted: bool,
    /// Path and arguments.
    pub(super) command: Vec<String>,
    /// Its limits.
    pub(super) mix: ConfigurationMix,
    /// Control groups it enters.
    pub(super) groups: Vec<PathBuf>,
    /// Nice value it has; `None` for the agent's own.
    pub(super) nice: Option<i32>,
    /// OOM score adjustment it has; `None` for the agent's own.
    pub(super) oom_score: Option<i32>,
}

/// Who runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) instance: u64,
    pub(super) process: Identity,
}

impl Identity {
    /// This process.
    pub(super) fn own() -> std::io::Result<Self> {
        let (_, started) = state_and_start("/proc/self/stat")?;
        Ok(Self { pid: nix::unistd::getpid().as_raw(), started, boot: boot_id()? })
    }

    /// Whether it is there and has not ended; one that nobody waited for yet has ended.
    pub(super) fn is_alive(&self) -> bool {
        let stat = state_and_start(&format!("/proc/{}/stat", self.pid));
        let is_it = |(state, started)| started == self.started && !matches!(state, 'Z' | 'X');
        stat.is_ok_and(is_it) && boot_id().is_ok_and(|boot| boot == self.boot)
    }
}

fn boot_id() -> std::io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// State and start of a process. Its name may hold blanks and brackets, so what counts begins
/// after the last bracket.
fn state_and_start(path: &str) -> std::io::Result<(char, u64)> {
    let text = fs::read_to_string(path)?;
    let unreadable = || std::io::Error::other("the kernel's line has another form");
    let (_, after) = text.rsplit_once(')').ok_or_else(unreadable)?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let state = fields.first().and_then(|field| field.chars().next()).ok_or_else(unreadable)?;
    // The 22nd field of all; the first two stand before the bracket.
    let started = fields.get(19).and_then(|field| field.parse().ok()).ok_or_else(unreadable)?;
    Ok((state, started))
}

/// The folder of one application.
#[derive(Debug, Clone)]
pub(super) struct Records(PathBuf);

impl Records {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub(super) fn make(&self) -> Result<(), FileError> {
        file::make_folder(&self.0)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// What the application itself writes.
    pub(super) fn output(&self) -> PathBuf {
        self.0.join("output.log")
    }

    pub(super) fn lock(&self) -> Result<Lock, FileError> {
        file::lock(&self.0.join("lock"))
    }

    pub(super) fn order(&self) -> Result<Option<Order>, FileError> {
        file::read_sealed(&self.0.join("order"), "order")
    }

    pub(super) fn write_order(&self, order: &Order) -> Result<(), FileError> {
        file::write_sealed(&self.0.join("order"), "order", order)
    }

    pub(super) fn write_running(&self, running: &Running) -> Result<(), FileError> {
        file::write_sealed(&self.0.join("running"), "process", running)
    }

    /// Who came to be last, alive or not.
    pub(super) fn last(&self) -> Result<Option<Running>, FileError> {
        file::read_sealed(&self.0.join("running"), "process")
    }

    /// Who runs now.
    pub(super) fn alive(&self) -> Result<Option<Running>, FileError> {
        Ok(self.last()?.filter(|running| running.process.is_alive()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_again_number_is_another_process() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(!Identity { boot: "another".into(), ..own }.is_alive());
    }

    #[test]
    fn a_child_nobody_waited_for_has_ended() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (_, started) = state_and_start(&format!("/proc/{pid}/stat")).unwrap();
        let process = Identity { pid, started, boot: boot_id().unwrap() };
        assert!(process.is_alive());

        child.kill().unwrap();
        while process.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
