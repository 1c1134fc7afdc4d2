//! What one look at a machine gives, whatever system it runs: the values between the readers of a platform
//! and the reasoning that all platforms share.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use common::{
    sample::{
        ConnectionKey, ConnectionReader, ConnectionState, DeviceUse, ProcessKey, ProtocolCounters,
    },
    units::Bytes,
};

/// What one look sees of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which process.
    pub(super) key: ProcessKey,
    /// Its parent.
    pub(super) parent: u32,
    /// The kernel's short name of it.
    pub(super) name: String,
    /// CPU time it used itself.
    pub(super) cpu_ms: u64,
    /// CPU time of the children it waited for, and of theirs.
    pub(super) waited_ms: u64,
    /// Resident memory.
    pub(super) resident: Bytes,
}

/// What hardly changes in the life of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// The file it runs.
    pub(super) executable: Option<String>,
    /// Numeric user.
    pub(super) user: u32,
    /// The service unit it belongs to.
    pub(super) unit: Option<String>,
    /// Its arguments, secrets struck out; `None` if they are not wanted or may not be read.
    pub(super) arguments: Option<Vec<String>>,
    /// The groups it stands in, one for each tree.
    pub(super) groups: Vec<Group>,
}

/// A tree of groups that the kernel keeps accounts by: one for everything, or one for each kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tree {
    /// Everything.
    Whole,
    /// CPU time.
    Cpu,
    /// Limits of CPU time.
    CpuLimit,
    /// Memory.
    Memory,
    /// Storage.
    Storage,
}

/// A group of processes that the kernel keeps an account of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    /// The tree it stands in.
    pub(super) tree: Tree,
    /// Its path from the root of the tree: `/system.slice/nginx.service`.
    pub(super) path: String,
}

/// What the kernel counts for a group, ended processes and groups below it among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Counter {
    /// CPU time, in microseconds.
    Cpu,
    /// Time held back by its CPU limit, in microseconds.
    Throttled,
    /// Processes killed for want of memory.
    Killed,
    /// Time some task waited for CPU, in microseconds.
    WaitedForCpu,
    /// Time some task waited for memory, in microseconds.
    WaitedForMemory,
    /// Time some task waited for storage, in microseconds.
    WaitedForStorage,
}

/// Memory of a group now, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GroupMemory {
    /// All that is charged to it, page cache included.
    pub(super) charged: u64,
    /// What it works with: without page cache that was not used again, which could be given back at once.
    pub(super) working_set: u64,
    /// What is mapped: of its own, and of files.
    pub(super) resident: u64,
}

/// One reading of a group. What is not in it was not told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GroupUse {
    /// Another group under the same path has another one.
    pub(super) identity: u64,
    /// What was counted.
    pub(super) counters: BTreeMap<Counter, u64>,
    /// Memory now.
    pub(super) memory: Option<GroupMemory>,
    /// Most memory that was ever charged, in bytes.
    pub(super) high_water: Option<u64>,
    /// What it did on each block device.
    pub(super) devices: Option<BTreeMap<String, DeviceUse>>,
}

/// Bytes a process read from and wrote to storage, its waited-for children's among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Storage {
    /// Read.
    pub(super) read: u64,
    /// Written.
    pub(super) written: u64,
}

/// What a process did with files so far, its waited-for children's among it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// What of it reached storage.
    pub(super) storage: Storage,
    /// Calls that read.
    pub(super) reads: u64,
    /// Calls that wrote.
    pub(super) writes: u64,
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: ConnectionKey,
    pub(super) state: ConnectionState,
    /// 0 if no process holds it: not accepted yet, or closed.
    pub(super) inode: u32,
    /// Numeric user whose socket it is; `None` if nobody's any more, or the reader cannot tell.
    pub(super) user: Option<u32>,
    /// What names the socket for good, and its end when that is told; 0 if the reader cannot tell.
    pub(super) cookie: u64,
    /// Control group (version 2) that made it; `None` if the kernel does not tell.
    pub(super) cgroup: Option<u64>,
    /// What the kernel counted on it; `None` of listeners, of `TIME_WAIT`, or if the reader cannot tell.
    pub(super) traffic: Option<Traffic>,
}

/// What the kernel counted on a socket so far, in the kernel's own counting: `acknowledged` and `received`
/// have one more for a SYN or FIN that was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Payload bytes sent, each once.
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) received: u64,
    pub(super) segments_sent: u64,
    pub(super) segments_received: u64,
    pub(super) data_segments_sent: u64,
    pub(super) data_segments_received: u64,
    /// Segments sent again.
    pub(super) retransmitted: u64,
    /// Smoothed round trip; 0 before the first measurement.
    pub(super) round_trip_us: u32,
    /// Age of the last data sent; `None` if none was.
    pub(super) since_sent_ms: Option<u32>,
    /// Age of the last data received; `None` if none was.
    pub(super) since_received_ms: Option<u32>,
    /// Received and not read yet: a FIN that nobody read counts one.
    pub(super) unread: u32,
}

/// A socket that ended, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its ends. Of an attempt that failed the kernel forgot the remote port, which is 0 then.
    pub(super) key: ConnectionKey,
    /// See [`Row::cookie`].
    pub(super) cookie: u64,
    /// What it carried; `None` of UDP, and of a connection that was cut off from this side: the kernel forgot
    /// it, and the remote port. Nothing at all of an attempt that failed.
    pub(super) traffic: Option<Traffic>,
}

/// A TCP connection attempt that began here, as the kernel tells it while the process still asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    /// The process, by its number in the guest.
    pub(super) pid: u32,
    /// The kernel's short name of it, for it may be gone already.
    pub(super) name: String,
    /// From which address; `None` if it was not chosen yet.
    pub(super) local: Option<IpAddr>,
    /// Whereto.
    pub(super) remote: SocketAddr,
}

/// Where a process stands that nobody saw, beside the one it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the same unit.
    Inherited,
    /// In this one.
    In(String),
    /// In none.
    Nowhere,
    /// It began in a group of its own, and was not asked in time of which.
    Unknown,
}

/// What is known of a process by its birth, should it be gone before anybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kin {
    /// The nearest process above that lives, or may be known from the last look.
    pub(super) ancestor: u32,
    /// Where it stands.
    pub(super) standing: Standing,
}

/// What the kernel told between two readings of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Sockets that ended, in order.
    pub(super) ended: Vec<Ended>,
    /// Attempts that began, in order.
    pub(super) openings: Vec<Opening>,
    /// Of processes among them that began lately, from whom they came.
    pub(super) kin: HashMap<u32, Kin>,
    /// Times that ends were lost because nobody fetched them soon enough.
    pub(super) ends_lost: u64,
    /// Attempts that were lost likewise.
    pub(super) openings_lost: u64,
}

/// What one reading of the table gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Sockets {
    pub(super) rows: Vec<Row>,
    /// Which reader it was.
    pub(super) reader: ConnectionReader,
    /// How they were read and what that cannot see, for people.
    pub(super) source: String,
    /// Rows beyond the limit.
    pub(super) left_out: usize,
    /// Times the reading was interrupted by a change and begun anew.
    pub(super) restarts: u32,
    /// The kernel tells ends.
    pub(super) ends_are_told: bool,
    /// The kernel tells openings.
    pub(super) opens_are_told: bool,
    /// TCP connections that the kernel counted as opened from here or accepted here since boot; `None` if it
    /// does not say or counts those of other machines too.
    pub(super) counted: Option<u64>,
    /// What the network stack counted besides, at the same moment.
    pub(super) protocols: Option<ProtocolCounters>,
}

/// Reads the sockets of the guest. The portable one is netstat2's; a platform may have a better one.
pub(super) trait SocketReader: std::fmt::Debug + Send {
    /// The table now. What cannot be read is said in the source, and the rest still comes.
    fn read(&mut self) -> Sockets;

    /// What was told since this was last asked. To be asked at every tick, before what is told overflows,
    /// and right after [`Self::read`]: a socket that ended before the table was read is then in neither.
    fn told(&mut self) -> Told;

    /// Whether openings are to be told from now on; asked before every look. A reader that never tells them
    /// has nothing to do.
    fn want_openings(&mut self, _wanted: bool) {}
}
