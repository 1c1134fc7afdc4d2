//! What an agent sees: [`Observation`] is everything at one moment, [`Sample`] is what goes up.

mod connections;
mod flows;
mod processes;
mod usage;
mod counters;
mod facts;
mod software;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    connections::{
        Connection, ConnectionKey, ConnectionState, Direction, Holder, Protocol, Transport,
    },
    counters::{Counters, DiskCounters, InterfaceCounters, ProtocolCounters},
    facts::{BlockDevice, Facts, FileSystem, Interface, RemoteStorage, Route},
    flows::{ConnectionReader, Coverage, Flow, FlowKey},
    processes::{Process, ProcessKey, Service, ServiceState, Supervisor},
    software::{
        ConfigurationFile, Package, PackageKey, PackageManager, PackageVersion, Software,
        SoftwareDelta,
    },
    usage::{Accounting, AgentUse, ApplicationUse, DeviceUse, Stalls},
};
use crate::{clock::Timestamp, id::AppName, mix::EffectiveMix};

/// Everything one look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The connection table.
    pub connections: BTreeMap<ConnectionKey, Connection>,
    /// What happened on each edge so far.
    #[serde(default)]
    pub flows: BTreeMap<FlowKey, Flow>,
    /// How much of it was seen; `None` if the reader does not count.
    pub coverage: Option<Coverage>,
    /// The processes.
    pub processes: BTreeMap<ProcessKey, Process>,
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// The applications, listed or not.
    pub applications: BTreeMap<AppName, ApplicationUse>,
    /// The guest's counters.
    pub counters: Counters,
    /// The guest's facts.
    pub facts: Facts,
    /// The mix it runs.
    pub mix: EffectiveMix,
    /// What the agent costs; `None` if it does not say.
    pub agent: Option<AgentUse>,
}

/// Which sample of an agent.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SampleId {
    /// Goes up durably by one whenever the agent starts.
    pub epoch: u64,
    /// Counts the samples of an epoch from 1, without holes.
    pub sequence: u64,
}

/// A stretch of time without samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// Samples dropped in it.
    pub samples: u64,
    /// Why.
    pub reason: String,
}

/// A table as it goes up: what is new or changed, and what is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDelta<K, V> {
    /// New or changed rows.
    pub upserted: Vec<(K, V)>,
    /// Rows that are gone.
    pub removed: Vec<K>,
}

impl<K, V> Default for TableDelta<K, V> {
    fn default() -> Self {
        Self { upserted: Vec::new(), removed: Vec::new() }
    }
}

/// What one agent saw at one moment, as it goes up: tables as changes since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Which one.
    pub id: SampleId,
    /// The guest's clock.
    pub taken_at: Timestamp,
    /// The guest's monotonic clock, in milliseconds.
    pub monotonic_ms: u64,
    /// The tables replace what was known.
    pub full: bool,
    /// Changes of the connection table.
    pub connections: TableDelta<ConnectionKey, Connection>,
    /// Changes of the flows.
    pub flows: TableDelta<FlowKey, Flow>,
    /// How much was seen; `None` if the reader does not count.
    pub coverage: Option<Coverage>,
    /// Changes of the process table.
    pub processes: TableDelta<ProcessKey, Process>,
    /// Changes of the service table.
    pub services: TableDelta<String, Service>,
    /// What each application used so far.
    pub applications: BTreeMap<AppName, ApplicationUse>,
    /// The guest's counters.
    pub counters: Counters,
    /// The guest's facts; `None` if nothing changed.
    pub facts: Option<Facts>,
    /// The mix it runs; `None` if nothing changed.
    pub mix: Option<EffectiveMix>,
    /// Stretches without samples before this one.
    pub gaps: Vec<Gap>,
    /// What the agent costs; `None` if it does not say.
    pub agent: Option<AgentUse>,
    /// Changes of the software; `None` if nothing changed. In a full sample of an agent that reads software
    /// it replaces what was known.
    pub software: Option<SoftwareDelta>,
}
