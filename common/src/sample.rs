//! What an agent sees: [`Observation`] is everything at one moment, [`Sample`] is what goes up.

use std::{collections::BTreeMap, net::SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::AppName,
    mix::EffectiveMix,
    units::{Bytes, Millicores},
};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP, v4-mapped addresses folded to IPv4.
    Tcp,
    /// UDP.
    Udp,
}

/// The state of a connection row, as NETSTAT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the states of RFC 9293 under their own names")]
pub enum ConnectionState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Closed,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// A protocol without states, such as UDP.
    Stateless,
}

/// Which side opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The local port has a listener.
    Inbound,
    /// It has none.
    Outbound,
    /// The row is the listener itself.
    Listener,
    /// It cannot be told.
    Unknown,
}

/// What names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionKey {
    /// The protocol.
    pub protocol: Protocol,
    /// The local end.
    pub local: SocketAddr,
    /// The remote end; `None` for a listener or an unconnected socket.
    pub remote: Option<SocketAddr>,
}

/// What names a process for good: a number is used again, a number with its start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The process number.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
}

/// Who holds a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A process, and the application it belongs to.
    Process {
        /// The process.
        process: ProcessKey,
        /// Its application, listed or not.
        application: Option<AppName>,
    },
    /// Not known, with the reason; a `TIME_WAIT` row, for one, has no process any more.
    Unknown {
        /// Why.
        reason: String,
        /// The application, where it is certain without the process (a listener's port).
        application: Option<AppName>,
    },
}

impl Holder {
    /// The application, if it is known.
    #[must_use]
    pub const fn application(&self) -> Option<&AppName> {
        match self {
            Self::Process { application, .. } | Self::Unknown { application, .. } => {
                application.as_ref()
            }
        }
    }
}

/// A row of the connection table, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its state.
    pub state: ConnectionState,
    /// Which side opened it.
    pub direction: Direction,
    /// Who holds it.
    pub holder: Holder,
    /// When the agent first saw it.
    pub first_seen: Timestamp,
    /// Bytes sent so far; `None` where the reader cannot tell.
    pub sent: Option<Bytes>,
    /// Bytes received so far; `None` where the reader cannot tell.
    pub received: Option<Bytes>,
}

/// One process. Its arguments are never read.
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
}

/// Counters of one network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct InterfaceCounters {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub sent_packets: u64,
    pub received_dropped: u64,
    pub sent_dropped: u64,
    pub errors: u64,
}

/// Protocol statistics of the network stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub struct ProtocolCounters {
    pub tcp_active_opens: u64,
    pub tcp_passive_opens: u64,
    pub tcp_attempt_failures: u64,
    pub tcp_resets: u64,
    pub tcp_segments_received: u64,
    pub tcp_segments_sent: u64,
    pub tcp_segments_retransmitted: u64,
    pub udp_datagrams_received: u64,
    pub udp_datagrams_sent: u64,
}

/// Counters of the whole guest; `None` is not known, never zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// CPU time in use over all cores since boot, in milliseconds.
    pub cpu_busy_ms: Option<u64>,
    /// Cores the guest sees.
    pub cpus: Option<u32>,
    /// One-minute load, in thousandths.
    pub load_1_milli: Option<u32>,
    /// Memory the guest has.
    pub memory_total: Option<Bytes>,
    /// Memory applications could still have, the page cache counted as free.
    pub memory_available: Option<Bytes>,
    /// Swap in use.
    pub swap_used: Option<Bytes>,
    /// Share of the last ten seconds some task waited for CPU, in hundredths of a per cent.
    pub cpu_pressure_10: Option<u32>,
    /// Share of the last ten seconds some task waited for memory, in hundredths of a per cent.
    pub memory_pressure_10: Option<u32>,
    /// Interfaces but loopback, by name.
    pub interfaces: BTreeMap<String, InterfaceCounters>,
    /// Protocol statistics.
    pub protocols: Option<ProtocolCounters>,
    /// Bytes read from block devices since boot.
    pub disk_read: Option<Bytes>,
    /// Bytes written to block devices since boot.
    pub disk_written: Option<Bytes>,
    /// The agent's own CPU time so far, in milliseconds.
    pub agent_cpu_ms: Option<u64>,
    /// The agent's own resident memory.
    pub agent_resident: Option<Bytes>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, lower case with colons.
    pub mac: Option<String>,
    /// Its addresses with prefix length.
    pub addresses: Vec<IpNet>,
    /// Whether it is up.
    pub up: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; `None` if the network is attached.
    pub gateway: Option<std::net::IpAddr>,
    /// The interface it leaves by.
    pub interface: String,
    /// Its metric.
    pub metric: u32,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The device or server it comes from.
    pub device: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Its kind.
    pub kind: String,
    /// Its size.
    pub total: Bytes,
    /// What is free.
    pub available: Bytes,
}

/// What names the guest and what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// SMBIOS product uuid, lower case.
    pub product_uuid: Option<String>,
    /// SMBIOS product serial.
    pub product_serial: Option<String>,
    /// `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// The kernel's boot id.
    pub boot_id: Option<String>,
    /// The host name.
    pub hostname: String,
    /// Operating system as it names itself.
    pub operating_system: String,
    /// Kernel release.
    pub kernel: String,
    /// Instruction set.
    pub architecture: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Interfaces but loopback.
    pub interfaces: Vec<Interface>,
    /// Routes.
    pub routes: Vec<Route>,
    /// File systems.
    pub file_systems: Vec<FileSystem>,
    /// When it booted.
    pub booted_at: Timestamp,
    /// Where services were read from, or why they could not be.
    pub services_source: String,
    /// How connections were read, and what that reader cannot see.
    pub connections_source: String,
    /// Anything else worth knowing.
    pub other: BTreeMap<String, String>,
}

/// Everything one look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The connection table.
    pub connections: BTreeMap<ConnectionKey, Connection>,
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
}
