//! What one process of the ground truth is told to do, and what it says it did. Values only.

use std::{net::SocketAddr, path::PathBuf};

use common::sample::Protocol;
use serde::{Deserialize, Serialize};

/// Everything one process does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Script {
    /// The network namespace it enters; `None` to stay where it is.
    pub namespace: Option<PathBuf>,
    /// The control group it enters, by its folder; `None` to stay.
    pub group: Option<PathBuf>,
    /// Where it listens.
    pub serves: Vec<Serving>,
    /// What it opens; each in a thread of its own, one connection after another.
    pub calls: Vec<Calling>,
    /// What it does on a disk.
    pub stores: Option<Storing>,
    /// Programs it starts, one after another.
    pub spawns: Vec<Spawning>,
}

/// A program that is started again and again, each time for one connection, after which it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawning {
    /// The name of its file.
    pub program: String,
    /// What it opens.
    pub call: Calling,
    /// How often it is started.
    pub times: u32,
    /// Pause between two of them, in milliseconds.
    pub gap_ms: u64,
}

/// One place to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The protocol.
    pub protocol: Protocol,
    /// Where.
    pub listen: SocketAddr,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The client closes, the server after it.
    ClientFirst,
    /// The server closes, the client after it.
    ServerFirst,
    /// The client resets it.
    Reset,
    /// It stays open until the process ends.
    Stays,
}

/// Connections to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calling {
    /// The protocol.
    pub protocol: Protocol,
    /// Whereto. A v4-mapped address makes a socket of IPv6 that speaks IPv4.
    pub to: SocketAddr,
    /// How many connections.
    pub connections: u32,
    /// Exchanges on each of them.
    pub exchanges: u32,
    /// Bytes of a request, at least [`HEADER`].
    pub request: u32,
    /// Bytes of an answer.
    pub answer: u32,
    /// Pause after each exchange, in milliseconds.
    pub pause_ms: u64,
    /// Pause between two connections, in milliseconds.
    pub gap_ms: u64,
    /// How each ends.
    pub ending: Ending,
}

impl Calling {
    /// `connections` of one exchange each that take as long as an exchange takes: about a millisecond.
    #[must_use]
    pub const fn short(to: SocketAddr, connections: u32, gap_ms: u64) -> Self {
        Self {
            protocol: Protocol::Tcp,
            to,
            connections,
            exchanges: 1,
            request: 200,
            answer: 1_000,
            pause_ms: 0,
            gap_ms,
            ending: Ending::ClientFirst,
        }
    }

    /// `connections` that carry `exchanges` each, a pause after every one.
    #[must_use]
    pub const fn pooled(to: SocketAddr, exchanges: u32, pause_ms: u64) -> Self {
        Self { exchanges, pause_ms, ..Self::short(to, 1, 0) }
    }

    /// The same with another end.
    #[must_use]
    pub const fn ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// The same over UDP.
    #[must_use]
    pub const fn over_udp(self) -> Self {
        Self { protocol: Protocol::Udp, ..self }
    }
}

/// Bytes that begin a request and tell the server what to do.
pub const HEADER: usize = 16;

/// Operations on a disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Storing {
    /// The file, written and then read; removed afterwards.
    pub file: PathBuf,
    /// Writes, each of [`BLOCK`] bytes and flushed.
    pub writes: u32,
    /// Reads past the page cache, each of [`BLOCK`] bytes.
    pub reads: u32,
}

/// Bytes of one operation on a disk.
pub const BLOCK: usize = 65_536;

/// How a connection ended, as its own process saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By a close.
    Closed,
    /// By a reset.
    Reset,
    /// It never came to be.
    Failed,
    /// It has not.
    Open,
}

/// One connection, as the process that opened or accepted it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The protocol.
    pub protocol: Protocol,
    /// The own end; of an attempt that failed only the family is known.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
    /// Bytes written.
    pub sent: u64,
    /// Bytes read.
    pub received: u64,
    /// How it ended.
    pub end: End,
    /// How long it lived, in microseconds.
    pub lived_us: u64,
}

/// What a process did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Done {
    /// What it opened.
    pub opened: Vec<Connected>,
    /// What it accepted; TCP only, since a datagram is nobody's connection.
    pub accepted: Vec<Connected>,
    /// Bytes it had read from a disk.
    pub read: u64,
    /// Bytes it had written to a disk.
    pub written: u64,
    /// What went otherwise than the script has it.
    pub troubles: Vec<String>,
}

/// What a process did, with its name and machine.
#[derive(Debug, Clone)]
pub struct Told {
    /// The machine.
    pub machine: String,
    /// The application, which is the name of the file it runs.
    pub application: String,
    /// Where it listened.
    pub serves: Vec<Serving>,
    /// What it did.
    pub done: Done,
}
