//! What applications used, and what the agent itself does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    sketch::Sketch,
    units::{Bytes, Millicores},
};

/// What one application did on one block device so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Operations that read.
    pub reads: u64,
    /// Operations that wrote.
    pub writes: u64,
    /// Operations that discarded.
    pub discards: u64,
    /// Bytes read.
    pub read: Bytes,
    /// Bytes written.
    pub written: Bytes,
}

/// Time that some task stood still for want of something, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Waited for CPU, in microseconds; `None` if not known.
    pub cpu_us: Option<u64>,
    /// Waited for memory, in microseconds; `None` if not known.
    pub memory_us: Option<u64>,
    /// Waited for storage, in microseconds; `None` if not known.
    pub storage_us: Option<u64>,
}

/// Who kept the account of what an application used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounting {
    /// The kernel, in a control group of version 2 that is the application's alone.
    Cgroup2,
    /// The kernel, in control groups of version 1.
    Cgroup1,
    /// The agent, summed up over the application's processes.
    #[default]
    Processes,
}

/// What one application used so far in this guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationUse {
    /// Whether the catalogue lists it. An unlisted one is observed, never moved.
    pub listed: bool,
    /// How many processes it has now.
    pub processes: u32,
    /// CPU time of its processes so far, living and ended, in milliseconds.
    pub cpu_ms: u64,
    /// Most CPU over the agent's inner cadence since the sample before.
    pub peak_cpu: Millicores,
    /// Resident memory now.
    pub resident: Bytes,
    /// Most resident memory seen since the sample before.
    pub peak_resident: Bytes,
    /// Bytes read from storage so far.
    pub read: Option<Bytes>,
    /// Bytes written to storage so far.
    pub written: Option<Bytes>,
    /// Ports it listens on, ascending.
    pub listening_ports: Vec<u16>,
    /// Who kept the account.
    #[serde(default)]
    pub accounting: Accounting,
    /// Memory it works with: without page cache that could be given back at once; `None` if not known.
    pub working_set: Option<Bytes>,
    /// Most memory ever charged to it, as the kernel remembers it; `None` if it does not.
    pub memory_high_water: Option<Bytes>,
    /// What it did on each block device, by the device's name.
    #[serde(default)]
    pub devices: BTreeMap<String, DeviceUse>,
    /// Time its tasks stood still.
    #[serde(default)]
    pub stalls: Stalls,
    /// Time it was held back by its CPU limit, in microseconds; `None` if not known.
    pub throttled_us: Option<u64>,
    /// Times the kernel killed a process of it for want of memory; `None` if not known.
    pub out_of_memory_kills: Option<u64>,
    /// CPU over the agent's inner cadence since the sample before, in thousandths of a core.
    #[serde(default)]
    pub cpu_quantiles: Sketch,
    /// Memory it works with (resident memory where that is not known) likewise, in bytes.
    #[serde(default)]
    pub memory_quantiles: Sketch,
}

/// What the agent itself costs, and what it leaves out to keep to its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUse {
    /// CPU it may use, in thousandths of a core; `None` if not said.
    pub cpu_limit: Option<Millicores>,
    /// Memory it may use; `None` if not said.
    pub memory_limit: Option<Bytes>,
    /// What it leaves out now, the first measure first; empty if nothing.
    pub left_out: Vec<String>,
}
