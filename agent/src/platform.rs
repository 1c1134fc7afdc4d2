//! What the agent asks of the system about itself: what it costs, what it may do, how it stands back, when
//! it is told to end, how large its terminal is.
//!
//! Another system is another module beside `linux` with the same names. What else is of one system stands in
//! modules of its own: `observe::linux` (all readers), `doctor::linux`, `driver::systemd`, `driver::cgroup`.
//! Still to be parted for another system: `driver::process` (sessions, signals, control groups) and the
//! modes and locks of `file`.

use std::time::Duration;

use common::units::Bytes;

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::{
    Ending, become_humble, keep_to_one_heap, own_use, rights, room_at, terminal,
    without_own_settings,
};

/// What the agent itself used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnUse {
    /// CPU time of all its threads so far; the applications it started are not in it.
    pub cpu: Duration,
    /// Resident memory now.
    pub resident: Bytes,
}

/// What a process had before it stood back, for the applications it starts; `None` where it still has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Former {
    /// Nice value.
    pub nice: Option<i32>,
    /// OOM score adjustment.
    pub oom_score: Option<i32>,
}

/// A right beyond those of an ordinary user that some look takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read files and folders of all users.
    ReadFiles,
    /// Have as much room as one wants for what the kernel tells of the network.
    Network,
    /// Look into processes of other users.
    Processes,
}

/// What this process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Its user.
    pub user: u32,
    /// Rights it has.
    held: Vec<Right>,
}

impl Rights {
    /// Whether it has that right.
    #[must_use]
    pub fn has(&self, right: Right) -> bool {
        self.held.contains(&right)
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub lines: u16,
}
