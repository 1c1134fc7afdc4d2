//! Joins what the guests said of a window with what the hypervisor said: one table, each line with
//! its source. What cannot be matched is a remark, never a guess.
//!
//! Two kinds of connections are left out, for they are no business of the fleet: those of the
//! agents themselves, and those of a clone on trial, which bears its source's addresses.

mod addresses;
mod arrays;
mod connections;
mod flows;
mod links;
mod machines;
mod outside;
mod records;
mod translations;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AppName, HostId, StorageId, VmId, WindowId},
    mix::EffectiveMix,
    sketch::Sketch,
    units::{Bytes, Millicores},
};
use serde::{Deserialize, Serialize};

use crate::{
    hypervisor::{Allocation, Power},
    window::SamplingWindow,
};

/// Sightings needed before what was not seen is put down to the same.
const SIGHTINGS_NEEDED: u64 = 5;

/// One end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// An application on a machine in the inventory; `None` if the application is not known.
    Machine {
        /// The machine.
        vm: VmId,
        /// The application.
        application: Option<AppName>,
    },
    /// An address outside the inventory: a physical peer, a visitor.
    External {
        /// The address, without a port that changes with every connection.
        address: IpAddr,
    },
}

impl Party {
    /// Its machine, if it is one.
    #[must_use]
    pub const fn vm(&self) -> Option<&VmId> {
        match self {
            Self::Machine { vm, .. } => Some(vm),
            Self::External { .. } => None,
        }
    }

    /// Its application, if it is known.
    #[must_use]
    pub const fn application(&self) -> Option<&AppName> {
        match self {
            Self::Machine { application, .. } => application.as_ref(),
            Self::External { .. } => None,
        }
    }
}

/// Who calls whom, on which port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeKey {
    /// Who opened the connections.
    pub client: Party,
    /// Who answered.
    pub server: Party,
    /// The port that answered.
    pub port: u16,
}

/// How an operation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It was not.
    Failed,
    /// Nobody saw how it went.
    Unknown,
}

/// One line of the joined table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What evidence calls it by; no two of a window have the same.
    pub key: String,
    /// The machine.
    pub vm: VmId,
    /// The application; `None` if not known.
    pub application: Option<AppName>,
    /// What was done: `connect`, `answer`, `exchange`, `read`, `write`, `discard`, `compute`;
    /// `read or write` where the hypervisor does not tell them apart.
    pub operation: String,
    /// To what.
    pub target: String,
    /// `floor(log2(bytes per operation))`; `None` if sizes are not known.
    pub size_class: Option<u32>,
    /// How it went.
    pub outcome: Outcome,
    /// How often; for `compute`, milliseconds. 0 for what an application read and wrote where its
    /// agent knows bytes only.
    pub count: u64,
    /// How many bytes; `None` if not known.
    pub bytes: Option<u64>,
    /// Who says so: `agent`, `both agents`, `hypervisor` or `array`.
    pub source: String,
}

/// What one end counted of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndCount {
    /// Connections that came to be.
    pub opened: u64,
    /// Bytes both ways; `None` if not known.
    pub bytes: Option<u64>,
}

/// What either end told of an edge by itself, of TCP alone: of what has no connections the end that
/// answers need not know who asked. `None` if that end told nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Who opened the connections.
    pub by_client: Option<EndCount>,
    /// Who answered.
    pub by_server: Option<EndCount>,
}

/// What an agent's count of its machine's edges comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnCount {
    /// No connection is too short for it, and none was left out: what it does not tell of, it denies.
    pub complete: bool,
    /// Bytes received from other machines per second; `None` if unknown.
    pub received_per_second: Option<f64>,
    /// Bytes sent to other machines per second; `None` if unknown.
    pub sent_per_second: Option<f64>,
    /// What its links received of them; `None` if unknown.
    #[serde(default)]
    pub received_on_links: Option<OnLinks>,
    /// What its links sent of them; `None` if unknown.
    #[serde(default)]
    pub sent_on_links: Option<OnLinks>,
}

/// Bytes per second that connections bring about on links, headers and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OnLinks {
    /// At least.
    pub least: f64,
    /// At most.
    pub most: f64,
}

/// What one edge carried in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections that came to be, each once.
    pub opened: u64,
    /// Attempts that never became a connection.
    pub failed: u64,
    /// Connections that were reset; 0 where nobody counts.
    pub reset: u64,
    /// Requests and answers, as segments with data tell them: on connections that stay open this is
    /// the frequency that counts. `None` where nobody counts.
    pub exchanges: Option<u64>,
    /// When connections came to be, as far as samples tell them apart: in order, each moment once,
    /// the newest 256 of them.
    #[serde(default)]
    pub starts: Vec<Timestamp>,
    /// Connections that came to be at a moment nobody knows.
    #[serde(default)]
    pub starts_missing: u64,
    /// Share of the connections that came to be while it was watched that were seen; `None` if none
    /// came to be.
    #[serde(default)]
    pub detected: Option<f64>,
    /// Connections seen, each once.
    pub seen: u64,
    /// Those of them that were open both ways, or had been: what only waits to be closed is none.
    pub alive: u64,
    /// Connections open on average.
    pub open_mean: f64,
    /// Both ends reported it.
    pub both_ends: bool,
    /// Coverage of the end that saw more.
    pub coverage: f64,
    /// Time over which it was watched.
    pub watched: Duration,
    /// Bytes both ways; `None` if not known.
    pub bytes: Option<u64>,
    /// Where it was answered.
    pub answered_at: BTreeSet<SocketAddr>,
    /// Its records.
    pub records: Vec<String>,
    /// What either end told of it by itself.
    #[serde(default)]
    pub told: Told,
}

/// What one application used of its machine in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// Whether the catalogue lists it.
    pub listed: bool,
    /// Samples that show it with a process.
    pub seen: u64,
    /// CPU on average; `None` if it was never watched.
    pub cpu_mean: Option<Millicores>,
    /// CPU at its peak.
    pub cpu_peak: Millicores,
    /// Resident memory at its peak.
    pub memory_peak: Bytes,
    /// CPU over its agent's inner cadence, in thousandths of a core; empty if not told.
    pub cpu_quantiles: Sketch,
    /// Memory it worked with over the same cadence, in bytes; empty if not told.
    pub memory_quantiles: Sketch,
    /// Bytes written to storage per second; `None` if unknown.
    pub written_per_second: Option<f64>,
    /// Ports it listened on.
    pub listens: BTreeSet<u16>,
    /// Its records.
    pub records: Vec<String>,
}

/// What one side says of a machine's use; `None` is not known, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// Time over which it was watched.
    pub watched: Duration,
    /// CPU on average.
    pub cpu_mean: Option<Millicores>,
    /// CPU at its peak.
    pub cpu_peak: Option<Millicores>,
    /// Memory at its peak.
    pub memory_peak: Option<Bytes>,
    /// Bytes received per second.
    pub received_per_second: Option<f64>,
    /// Bytes sent per second.
    pub sent_per_second: Option<f64>,
    /// Bytes written to disk per second.
    pub written_per_second: Option<f64>,
}

/// One machine of a window, from both sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JoinedMachine {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub host: Option<HostId>,
    /// Whether it runs; `None` if the hypervisor does not know it.
    pub power: Option<Power>,
    /// What it is given.
    pub allocation: Allocation,
    /// The pools its disks lie in.
    pub pools: BTreeSet<StorageId>,
    /// Labels the operator put on it at the vendor's.
    pub labels: BTreeSet<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// It is a clone beside its running source: what it does is no production.
    pub on_trial: bool,
    /// An agent reports from it, or should.
    pub has_agent: bool,
    /// Share of the samples due that came.
    pub coverage: f64,
    /// Use as the guest says.
    pub guest: Use,
    /// Use as the hypervisor says.
    pub outside: Use,
    /// Times the kernel killed something in it for want of memory.
    pub out_of_memory: Option<u64>,
    /// What it runs; `None` if not known.
    pub mix: Option<EffectiveMix>,
    /// What each application used.
    pub applications: BTreeMap<AppName, Used>,
    /// Connections that only wait to be closed here.
    pub half_closed: u64,
    /// Why guest and hypervisor do not agree about who it is; empty if they do.
    pub contradictions: Vec<String>,
    /// The records of what the hypervisor counted of it.
    #[serde(default)]
    pub records: Vec<String>,
    /// What its agent's count of its edges comes to; `None` if it does not count.
    #[serde(default)]
    pub counted: Option<OwnCount>,
    /// CPU from look to look of the hypervisor, in thousandths of a core; empty if not told.
    #[serde(default)]
    pub cpu_looks: Sketch,
    /// The operating system, as it names itself; `None` if unknown.
    #[serde(default)]
    pub operating_system: Option<String>,
    /// The instruction set; `None` if unknown.
    #[serde(default)]
    pub architecture: Option<String>,
}

/// One window, joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// The window.
    pub window: WindowId,
    /// When it opened.
    pub from: Timestamp,
    /// When it closed.
    pub to: Timestamp,
    /// Time between two samples of an agent, within which moments are known; nought if there is none.
    #[serde(default)]
    pub sampled_every: Duration,
    /// The machines, by inventory and by agents.
    pub machines: BTreeMap<VmId, JoinedMachine>,
    /// Who talks to whom.
    pub edges: BTreeMap<EdgeKey, Traffic>,
    /// The table.
    pub records: Vec<Record>,
    /// Disagreements and oddities a person may like to know.
    pub remarks: Vec<String>,
}

/// Joins one window.
#[must_use]
pub fn join(window: &SamplingWindow) -> Joined {
    let mut remarks = Vec::new();
    let mut machines = machines::machines(window, &mut remarks);
    let owners = addresses::Owners::of(&machines, &mut remarks);
    let merged = connections::merge(window, &machines, &owners, &mut remarks);
    let mut book = records::Book::new(window, &machines);
    let edges: BTreeMap<EdgeKey, Traffic> =
        merged.into_iter().map(|(key, carried)| book.edge(key, carried)).collect();
    let used = book.uses();
    book.arrays(arrays::counted(window, &owners, &mut remarks));
    for (vm, keys) in book.outside() {
        if let Some(known) = machines.get_mut(&vm) {
            known.records = keys;
        }
    }
    let records = book.close();
    for (vm, application, keys) in used {
        let known = machines.get_mut(&vm);
        if let Some(used) = known.and_then(|known| known.applications.get_mut(&application)) {
            used.records = keys;
        }
    }
    Joined {
        window: window.id.clone(),
        from: window.from,
        to: window.to,
        sampled_every: sampled_every(window),
        machines,
        edges,
        records,
        remarks,
    }
}

/// Time between two samples, by how many were due.
fn sampled_every(window: &SamplingWindow) -> Duration {
    let due = window.guests.values().map(|guest| guest.due).max().unwrap_or(0);
    let due = u32::try_from(due).unwrap_or(u32::MAX);
    window.length().checked_div(due).unwrap_or_default()
}
