//! What happened on each edge, and how much of it was seen.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Direction, Protocol};
use crate::{id::AppName, units::Bytes};

/// What names an edge as one machine sees it: the port that a service listens on, and the far end without
/// the port that changes with every connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// The protocol.
    pub protocol: Protocol,
    /// Inbound or outbound; unknown where it could not be told.
    pub direction: Direction,
    /// The local address.
    pub local: IpAddr,
    /// The remote address.
    pub remote: IpAddr,
    /// The service's port: the local one if inbound, else the remote one.
    pub port: u16,
    /// The local application; `None` if it is not known.
    pub application: Option<AppName>,
}

/// What happened on one edge since the agent's epoch began. Every connection is in it, however short: those
/// that opened and closed between two samples too. Totals never go down while the row is there; a row that
/// goes and comes back begins at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Connections that came to be: established, or for UDP sockets made.
    pub opened: u64,
    /// Those of them that ended.
    pub closed: u64,
    /// Those that ended by a reset.
    pub reset: u64,
    /// Attempts that never became a connection. They are not among the opened.
    pub failed: u64,
    /// Payload bytes sent; `None` where the reader cannot tell.
    pub sent: Option<Bytes>,
    /// Payload bytes received; `None` where the reader cannot tell.
    pub received: Option<Bytes>,
    /// Segments with data sent; `None` where the reader cannot tell.
    pub data_segments_sent: Option<u64>,
    /// Segments with data received; `None` where the reader cannot tell.
    pub data_segments_received: Option<u64>,
    /// Segments sent again; `None` where the reader cannot tell.
    pub retransmitted: Option<u64>,
}

impl Flow {
    /// Takes in what happened besides; what is known of either is known of both.
    pub fn add(&mut self, more: &Self) {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        let bytes = |one: Option<Bytes>, other: Option<Bytes>| {
            sum(one.map(|bytes| bytes.0), other.map(|bytes| bytes.0)).map(Bytes)
        };
        *self = Self {
            opened: self.opened.saturating_add(more.opened),
            closed: self.closed.saturating_add(more.closed),
            reset: self.reset.saturating_add(more.reset),
            failed: self.failed.saturating_add(more.failed),
            sent: bytes(self.sent, more.sent),
            received: bytes(self.received, more.received),
            data_segments_sent: sum(self.data_segments_sent, more.data_segments_sent),
            data_segments_received: sum(self.data_segments_received, more.data_segments_received),
            retransmitted: sum(self.retransmitted, more.retransmitted),
        };
    }
}

/// How connections are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionReader {
    /// The agent's own reader of the kernel's socket diagnosis: everything.
    SocketDiagnosis,
    /// netstat2: addresses, states and processes; no bytes.
    Netstat,
    /// Not said, as by an agent that does not know the field.
    #[default]
    Unknown,
}

/// How much of what happened on connections was seen, since the agent's epoch began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// How connections are read.
    pub reader: ConnectionReader,
    /// The kernel tells of every socket that ends, so that none is too short to be seen.
    pub ends_are_told: bool,
    /// The kernel tells which process opens a connection, so that none is too short to be attributed.
    pub opens_are_told: bool,
    /// TCP connections that the kernel counted as opened from here or accepted here; `None` if it does not
    /// say, or counts those of other machines too.
    pub due: Option<u64>,
    /// TCP connections in the flows.
    pub seen: u64,
    /// Those of them whose application is known.
    pub attributed: u64,
    /// Times the kernel had to drop what it wanted to tell.
    pub overruns: u64,
    /// Readings of the table that were interrupted by a change and begun anew.
    pub restarts: u64,
    /// Edges that were merged into one because there are too many.
    pub merged_edges: u64,
}

impl Coverage {
    /// Share of the connections due that were seen, in hundredths of a per cent; `None` if none were due or
    /// the kernel does not say how many.
    #[must_use]
    pub fn share(&self) -> Option<u32> {
        let due = self.due.filter(|due| *due > 0)?;
        u32::try_from(self.seen.min(due).saturating_mul(10_000) / due).ok()
    }
}
