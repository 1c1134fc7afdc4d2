//! The adapter to the virtualization vendor: what is there, and what may be done to it.
//!
//! Every call that changes something takes the ids it shall use, so that the same call made again
//! after a crash finds its own work done and says so.

mod sites;
pub mod check;
pub mod libvirt;
pub mod namespace;
pub mod vsphere;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use common::{
    clock::Timestamp,
    id::{HostId, NetworkId, PlanId, StorageId, VmId},
    units::{Bytes, Millicores},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What operators write on a machine that no plan may touch.
pub const NEVER_TOUCH: &str = "sinter:never-touch";

/// What can go wrong at this adapter.
#[derive(Debug, Error)]
pub enum HypervisorError {
    /// The vendor did not answer; the same call may succeed later.
    #[error("hypervisor did not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The vendor refused, and will refuse again.
    #[error("hypervisor refused: {reason}")]
    Refused {
        /// In the vendor's words.
        reason: String,
    },
}

/// What a machine is given; `None` where the vendor does not say, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// CPU it may use.
    pub cpu: Option<Millicores>,
    /// Memory it may use.
    pub memory: Option<Bytes>,
    /// Storage it may use.
    pub storage: Option<Bytes>,
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It runs.
    On,
    /// It does not.
    Off,
}

/// A machine's link to a virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its MAC, lower case with colons.
    pub mac: String,
    /// The network it is plugged into; `None` if unplugged.
    pub network: Option<NetworkId>,
    /// Kind of that network, such as `bridge`.
    pub kind: String,
    /// Its addresses as the hypervisor knows them.
    pub addresses: Vec<IpNet>,
    /// Whether the link is up.
    pub up: bool,
}

/// A virtual disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The vendor's name of it.
    pub id: StorageId,
    /// The pool it lies in.
    pub pool: StorageId,
    /// What it may grow to.
    pub capacity: Option<Bytes>,
    /// What it takes now.
    pub allocated: Option<Bytes>,
}

/// One virtual machine, as the hypervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its uuid.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub host: HostId,
    /// Whether it runs.
    pub power: Power,
    /// What it is given.
    pub allocation: Allocation,
    /// Its links.
    pub nics: Vec<Nic>,
    /// Its disks.
    pub volumes: Vec<Volume>,
    /// The machine it was cloned from, if we cloned it.
    pub cloned_from: Option<VmId>,
    /// The plan it was cloned for.
    pub plan: Option<PlanId>,
    /// Labels the operator put on it at the vendor's; `sinter:never-touch` is honoured.
    pub labels: BTreeSet<String>,
}

/// A pool of storage on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub id: StorageId,
    /// Its size.
    pub capacity: Bytes,
    /// What is promised to volumes.
    pub allocated: Option<Bytes>,
    /// What is free.
    pub available: Option<Bytes>,
}

/// One physical virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MACs.
    pub macs: Vec<String>,
    /// Its CPU.
    pub cpu: Millicores,
    /// Its memory.
    pub memory: Bytes,
    /// Its storage.
    pub pools: Vec<Pool>,
}

/// All that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// When it was asked.
    pub taken_at: Timestamp,
    /// The hosts.
    pub hosts: BTreeMap<HostId, Host>,
    /// The machines, running or not.
    pub machines: BTreeMap<VmId, Machine>,
}

/// Running totals of one machine, seen from outside; `None` is not known, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// When they were read.
    pub taken_at: Timestamp,
    /// CPU time used, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Memory in use, the page cache left out.
    pub memory_used: Option<Bytes>,
    /// Bytes its links received.
    pub received: Option<Bytes>,
    /// Bytes its links sent.
    pub sent: Option<Bytes>,
    /// Bytes read from its disks.
    pub read: Option<Bytes>,
    /// Bytes written to its disks.
    pub written: Option<Bytes>,
    /// Read operations completed.
    pub read_operations: Option<u64>,
    /// Write operations completed.
    pub write_operations: Option<u64>,
    /// Operations that failed.
    pub failed_operations: Option<u64>,
    /// Times the kernel killed something in it for want of memory.
    pub out_of_memory: Option<u64>,
}

/// A clone to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneOrder {
    /// What to copy.
    pub source: VmId,
    /// The uuid the copy shall have.
    pub clone: VmId,
    /// The name the copy shall have.
    pub name: String,
    /// Where the copy shall be.
    pub host: HostId,
    /// The plan it is made for.
    pub plan: PlanId,
    /// What the copy is given.
    pub allocation: Allocation,
    /// Enrolment ticket that the copy's agent shall find as its SMBIOS serial, or its like.
    pub ticket: String,
}

/// How one address is asked whether it serves. There is no kind that runs a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A connection that is accepted is a success.
    TcpConnect,
    /// A 2xx answer to `GET path` is a success.
    HttpGet {
        /// The path.
        path: String,
    },
}

/// Load on one port of the machine on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// Where it serves.
    pub address: SocketAddr,
    /// How to ask.
    pub kind: ProbeKind,
    /// How often, in requests per second: the rate that was observed in production.
    pub rate_per_second: f64,
}

/// What the trial's network holds besides the machine on trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Where load is put on.
    pub targets: Vec<ProbeTarget>,
    /// Addresses the machine calls in production; stand-ins answer there, so that it can work
    /// without reaching production. HTTP requests get an empty 200, all else is accepted and read.
    pub stand_ins: Vec<SocketAddr>,
    /// How long.
    pub duration: Duration,
}

/// What one target answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Which target.
    pub target: ProbeTarget,
    /// Requests made.
    pub attempts: u64,
    /// Requests answered as they should be.
    pub successes: u64,
    /// The others, by what was wrong with them.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// Median time to answer, in microseconds; `None` without a success.
    pub median_us: Option<u64>,
    /// 95th percentile of the time to answer, in microseconds; `None` without a success.
    pub p95_us: Option<u64>,
}

/// Why a machine is none of our business, by the labels it bears now.
fn why_not_touch(vm: &VmId, labels: &BTreeSet<String>) -> Option<String> {
    labels.contains(NEVER_TOUCH).then(|| format!("{vm} is labelled {NEVER_TOUCH}"))
}

/// Refuses what operators keep for themselves.
fn may_touch(vm: &VmId, labels: &BTreeSet<String>) -> Result<(), HypervisorError> {
    match why_not_touch(vm, labels) {
        Some(reason) => Err(HypervisorError::Refused { reason }),
        None => Ok(()),
    }
}

/// How far a first look is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstLook {
    /// Objects that were read.
    pub read: u64,
    /// Objects that there are.
    pub all: u64,
}

/// Orchestrates one vendor's hosts. Every verb may be called twice: finding the work done is success.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// What this adapter is called in logs and reasons.
    fn name(&self) -> &str;

    /// How far a first look is that is under way still: it may take longer than anybody waits for
    /// an answer, and goes on.
    fn first_look(&self) -> Option<FirstLook> {
        None
    }

    /// All hosts and machines.
    async fn inventory(&self) -> Result<Inventory, HypervisorError>;

    /// Running totals of every machine that runs, from one bulk question.
    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError>;

    /// Copies a machine to a stopped one. Finding the clone there, made from the source for the
    /// same plan, is success; finding another machine under that uuid is refused.
    async fn clone_vm(&self, order: &CloneOrder) -> Result<(), HypervisorError>;

    /// Changes what a machine is given; a part that is `None` stays as it is.
    async fn configure(&self, vm: &VmId, allocation: &Allocation) -> Result<(), HypervisorError>;

    /// Starts a machine; one that runs already is success.
    async fn start(&self, vm: &VmId) -> Result<(), HypervisorError>;

    /// Stops a machine, gently until `deadline` is over, then by force. A stopped or absent one is
    /// success.
    async fn stop(&self, vm: &VmId, deadline: Duration) -> Result<(), HypervisorError>;

    /// Moves all production links of a machine into `network`, made for it alone if it is not
    /// there: the machine keeps its addresses, and nothing in it can be reached from production
    /// or reach it. The way to the aggregator stays.
    async fn isolate(&self, vm: &VmId, network: &NetworkId) -> Result<(), HypervisorError>;

    /// Puts load on an isolated machine from inside its network and reports what it answered.
    async fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError>;

    /// Lets `clone` take the place of `source`: the source is stopped and unplugged but kept, the
    /// clone is plugged into the production networks under the source's addresses.
    async fn promote(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError>;

    /// The way back of [`Hypervisor::promote`]: the clone is stopped and unplugged, the source is
    /// plugged in and runs.
    async fn restore(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError>;

    /// Removes a machine that we cloned, its disks, and its trial network if nothing else is in
    /// it. An absent machine is success; one that we did not clone is refused.
    async fn remove(&self, vm: &VmId) -> Result<(), HypervisorError>;
}
