//! From socket rows to the connection table: direction, holder, application, first seen.
//!
//! Pure but for what it remembers of the look before. A row that no process holds is said to be so, with
//! the reason; its application is named only where it is certain without the process: the port has a
//! listener of one application, or the same connection was seen while it was open.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{Connection, ConnectionKey, ConnectionState, Direction, Holder, ProcessKey, Protocol},
};

use super::{holders::Holders, sockets::Row};

/// How long a listener that is gone still tells the direction of what it accepted. `TIME_WAIT` takes 60 s,
/// and a connection may outlive its listener a little before that.
const LISTENER_REMEMBERED: Duration = Duration::from_secs(120);

/// Longest time between two looks over which a closed connection is taken for the one that was open:
/// within `TIME_WAIT` the same pair of ends is not used again.
const SAME_WITHIN: Duration = Duration::from_secs(60);

/// Everything of one look that the table is made from.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) rows: &'a [Row],
    pub(super) holders: &'a Holders,
    pub(super) applications: &'a HashMap<ProcessKey, AppName>,
    pub(super) ephemeral: RangeInclusive<u16>,
    pub(super) now: Timestamp,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Connections {
    before: HashMap<ConnectionKey, Track>,
    looked_at: Timestamp,
    listeners: HashMap<(Protocol, SocketAddr), Listener>,
}

#[derive(Debug)]
struct Track {
    inode: u32,
    state: ConnectionState,
    direction: Direction,
    application: Option<AppName>,
    first_seen: Timestamp,
}

#[derive(Debug)]
struct Listener {
    seen_at: Timestamp,
    /// `None` if nobody known holds it, or several do.
    application: Option<AppName>,
}

/// Ports that each process listens on.
pub(super) fn listening(
    rows: &[Row],
    holders: &Holders,
    ephemeral: &RangeInclusive<u16>,
) -> HashMap<ProcessKey, BTreeSet<u16>> {
    let mut ports: HashMap<ProcessKey, BTreeSet<u16>> = HashMap::new();
    for row in rows.iter().filter(|row| row.listens(ephemeral)) {
        for holder in holders.of(row.inode) {
            ports.entry(*holder).or_default().insert(row.key.local.port());
        }
    }
    ports
}

impl Row {
    /// Whether it waits for others. UDP does not say so itself: an unconnected socket does if it has a
    /// port that somebody chose.
    fn listens(&self, ephemeral: &RangeInclusive<u16>) -> bool {
        let port = self.key.local.port();
        match self.key.protocol {
            Protocol::Tcp => self.state == ConnectionState::Listen,
            Protocol::Udp => self.key.remote.is_none() && port != 0 && !ephemeral.contains(&port),
        }
    }

    /// Nobody will read or write through it again.
    const fn is_closing(&self) -> bool {
        is_closing(self.state)
    }
}

impl Connections {
    /// Makes the table of this look and remembers it for the next.
    pub(super) fn table(&mut self, look: &Look<'_>) -> BTreeMap<ConnectionKey, Connection> {
        self.note_listeners(look);
        let mut rows: Vec<&Row> = look.rows.iter().collect();
        // Sockets that share a port have one key; the oldest one speaks for them.
        rows.sort_by_key(|row| (row.key, row.inode == 0, row.inode));
        rows.dedup_by_key(|row| row.key);
        let mut table = BTreeMap::new();
        let mut tracks = HashMap::with_capacity(rows.len());
        for row in rows {
            let former = self.before.get(&row.key).filter(|track| track.goes_on_as(row));
            let connection = self.connection(row, former, look);
            tracks.insert(row.key, Track::of(row, &connection));
            table.insert(row.key, connection);
        }
        self.before = tracks;
        self.looked_at = look.now;
        table
    }

    fn connection(&self, row: &Row, former: Option<&Track>, look: &Look<'_>) -> Connection {
        let listener = self.listener_of(row, look);
        Connection {
            state: row.state,
            direction: direction(row, former, listener.is_some(), &look.ephemeral),
            holder: self.holder(row, former, listener, look),
            first_seen: former.map_or(look.now, |former| former.first_seen),
            sent: None,
            received: None,
        }
    }

    fn holder(
        &self,
        row: &Row,
        former: Option<&Track>,
        listener: Option<&Listener>,
        look: &Look<'_>,
    ) -> Holder {
        for process in look.holders.of(row.inode) {
            if let Some(application) = look.applications.get(process) {
                return Holder::Process {
                    process: *process,
                    application: Some(application.clone()),
                };
            }
        }
        let of_listener = listener.and_then(|listener| listener.application.clone());
        let is_recent = look.now.since(self.looked_at) <= SAME_WITHIN;
        let of_former = former.filter(|_| is_recent).and_then(|former| former.application.clone());
        let reason = why_nobody(row, look.holders.denied()).to_owned();
        Holder::Unknown { reason, application: of_listener.or(of_former) }
    }

    fn note_listeners(&mut self, look: &Look<'_>) {
        for row in look.rows.iter().filter(|row| row.listens(&look.ephemeral)) {
            let mut holders = look.holders.of(row.inode).iter();
            let application = holders.find_map(|process| look.applications.get(process)).cloned();
            let fresh = Listener { seen_at: look.now, application };
            let known = self.listeners.get_mut(&(row.key.protocol, row.key.local));
            match known.filter(|known| known.seen_at == look.now) {
                Some(known) if known.application != fresh.application => known.application = None,
                Some(_) => {}
                None => {
                    self.listeners.insert((row.key.protocol, row.key.local), fresh);
                }
            }
        }
        let now = look.now;
        self.listeners.retain(|_, listener| now.since(listener.seen_at) < LISTENER_REMEMBERED);
    }

    /// The listener that accepted `row`, or would: the one on its address, else the one on every address.
    fn listener_of(&self, row: &Row, look: &Look<'_>) -> Option<&Listener> {
        let local = row.key.local;
        let everywhere_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port());
        let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), local.port());
        let addresses: &[SocketAddr] = match local.ip() {
            IpAddr::V4(_) => &[local, everywhere_v4, everywhere],
            IpAddr::V6(_) => &[local, everywhere],
        };
        // A port that the kernel gives out may be somebody's outgoing one the moment its listener is gone.
        let outlives = !look.ephemeral.contains(&local.port());
        let listeners = addresses
            .iter()
            .filter_map(|address| self.listeners.get(&(row.key.protocol, *address)))
            .filter(|listener| listener.seen_at == look.now || outlives);
        listeners.max_by_key(|listener| listener.seen_at == look.now)
    }
}

impl Track {
    fn of(row: &Row, connection: &Connection) -> Self {
        Self {
            inode: row.inode,
            state: row.state,
            direction: connection.direction,
            application: connection.holder.application().cloned(),
            first_seen: connection.first_seen,
        }
    }

    /// Whether `row` is still this connection. A key can be used again; a socket cannot, and one that
    /// closes does not open any more.
    const fn goes_on_as(&self, row: &Row) -> bool {
        if self.inode != 0 && row.inode != 0 {
            return self.inode == row.inode;
        }
        let was_let_go = self.inode == 0 && is_closing(self.state);
        !was_let_go || (row.is_closing() && row.inode == 0)
    }
}

const fn is_closing(state: ConnectionState) -> bool {
    matches!(
        state,
        ConnectionState::FinWait1
            | ConnectionState::FinWait2
            | ConnectionState::TimeWait
            | ConnectionState::LastAck
            | ConnectionState::Closing
            | ConnectionState::Closed
    )
}

fn direction(
    row: &Row,
    former: Option<&Track>,
    has_listener: bool,
    ephemeral: &RangeInclusive<u16>,
) -> Direction {
    if row.listens(ephemeral) {
        return Direction::Listener;
    }
    let Some(remote) = row.key.remote else { return Direction::Unknown };
    let was_inbound = former.is_some_and(|former| former.direction == Direction::Inbound);
    if has_listener || was_inbound {
        return Direction::Inbound;
    }
    // A port that nobody gave out on this side, and one given out on the other: its listener went before
    // the first look, or the program chose its port itself.
    let looks_accepted =
        !ephemeral.contains(&row.key.local.port()) && ephemeral.contains(&remote.port());
    if looks_accepted { Direction::Unknown } else { Direction::Outbound }
}

const fn why_nobody(row: &Row, denied: bool) -> &'static str {
    match (row.inode, row.state) {
        (0, ConnectionState::TimeWait) => "TIME_WAIT: no process holds it any more",
        (0, ConnectionState::Established | ConnectionState::SynReceived) => "not accepted yet",
        (0, ConnectionState::CloseWait) => "closed by the far end before it was accepted",
        (0, _) => "let go by its process",
        (_, _) if denied => "the agent may not read who holds it",
        (_, _) => "held by no process that the agent can see",
    }
}

#[cfg(test)]
mod tests;
