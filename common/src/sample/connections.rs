//! Rows of the connection table.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ProcessKey;
use crate::{clock::Timestamp, id::AppName, units::Bytes};

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
    /// Some process of a group that the kernel accounts together: a service unit or a container.
    Group {
        /// The unit's or container's name.
        group: String,
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
            Self::Process { application, .. }
            | Self::Group { application, .. }
            | Self::Unknown { application, .. } => application.as_ref(),
        }
    }
}

/// What the transport counted on a connection so far, beyond its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// Bytes the far end acknowledged.
    pub acknowledged: Bytes,
    /// Segments sent.
    pub segments_sent: u64,
    /// Segments received.
    pub segments_received: u64,
    /// Segments sent that carried data: on a pooled connection, the requests or answers.
    pub data_segments_sent: u64,
    /// Segments received that carried data.
    pub data_segments_received: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Smoothed round trip, in microseconds; `None` before the first measurement.
    pub round_trip_us: Option<u32>,
    /// When data was last sent. Steady while nothing is sent, though the kernel tells it as an age.
    pub last_sent: Option<Timestamp>,
    /// When data was last received; steady likewise.
    pub last_received: Option<Timestamp>,
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
    /// Numeric user whose socket it is; `None` if nobody's any more.
    pub user: Option<u32>,
    /// The socket's inode; `None` if no process holds it.
    pub inode: Option<u64>,
    /// The far end that this machine's own address translation puts in place of the key's.
    pub translated: Option<SocketAddr>,
    /// When the agent first saw it.
    pub first_seen: Timestamp,
    /// Payload bytes sent so far, what was sent again left out; `None` where the reader cannot tell.
    pub sent: Option<Bytes>,
    /// Payload bytes received so far; `None` where the reader cannot tell.
    pub received: Option<Bytes>,
    /// What else the transport counted; `None` where the reader cannot tell.
    pub transport: Option<Transport>,
}
