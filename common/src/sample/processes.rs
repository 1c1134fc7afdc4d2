//! Rows of the process and service tables.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, id::AppName, units::Bytes};

/// What names a process for good: a number is used again, a number with its start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The process number.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its parent.
    pub parent: u32,
    /// The kernel's short name of it.
    pub name: String,
    /// The file it runs; `None` if it may not be read.
    pub executable: Option<String>,
    /// Numeric user.
    pub user: u32,
    /// The service unit it belongs to.
    pub unit: Option<String>,
    /// The application it belongs to.
    pub application: Option<AppName>,
    /// CPU time used so far, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory.
    pub resident: Bytes,
    /// Bytes read from storage so far; `None` where it may not be read.
    pub read: Option<Bytes>,
    /// Bytes written to storage so far; `None` where it may not be read.
    pub written: Option<Bytes>,
    /// Calls that read so far; `None` where it may not be read.
    pub reads: Option<u64>,
    /// Calls that wrote so far; `None` where it may not be read.
    pub writes: Option<u64>,
    /// Its arguments, secrets struck out; `None` unless the guest's own configuration asks for them.
    pub arguments: Option<Vec<String>>,
}

/// Who keeps a service running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervisor {
    /// systemd.
    Systemd,
    /// The agent's process driver.
    Agent,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It runs.
    Active,
    /// It does not, and nobody wants it to.
    Inactive,
    /// It should and does not.
    Failed,
    /// It is starting or stopping.
    Changing,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Who keeps it.
    pub supervisor: Supervisor,
    /// Whether it runs.
    pub state: ServiceState,
    /// Whether it starts with the machine.
    pub enabled: bool,
    /// Its main process.
    pub main_pid: Option<u32>,
}
