//! Rows of the table: what each is to the look before, who holds it, and what of it is to be counted.

use common::{
    sample::{Connection, ConnectionKey, ConnectionState, Direction, FlowKey, Holder, Protocol},
    units::Bytes,
};

use super::{
    super::seen::Row,
    Connections, Look, SAME_WITHIN,
    books::{Books, Decision},
    ends::Late,
    listeners::{Listeners, direction},
    openings::Posterior,
    payload::{Payload, opener, transport},
    track::{self, Relation, Stage, Track},
};

const AMBIGUOUS: &str = "ambiguous: several applications talk to its far end";

impl Connections {
    /// Takes a row in, and says whether it is not what it was at the look before.
    pub(super) fn see(&mut self, row: &Row, look: &Look<'_>) -> (Connection, bool) {
        let is_recent = look.now.since(self.looked_at) <= SAME_WITHIN;
        let Some(track) = self.tracks.get_mut(&row.key) else {
            return (self.begin_with(row, look), true);
        };
        match track.relation(row, is_recent) {
            // Most rows are, and they are looked up once.
            Relation::Same => {
                // Its end was told since the look before.
                let is_fresh = track.state != row.state;
                track.look = self.looks;
                (go_on(track, row, look, &self.listeners, &mut self.books), is_fresh)
            }
            Relation::Remains => (self.go_on_as_remains(row, look), true),
            Relation::Other => (self.begin_with(row, look), true),
        }
    }

    /// Takes in a row of a socket that was not seen before.
    fn begin_with(&mut self, row: &Row, look: &Look<'_>) -> Connection {
        self.near.note(&row.key);
        self.lose(&row.key, look);
        if row.cookie != 0 {
            self.by_cookie.insert(row.cookie, row.key);
        }
        let mut track = self.first_sight(row, look);
        let holder = holder_of(row, &track, &self.listeners, look);
        count(&mut track, row, &holder, true, &mut self.books);
        let connection = connection(&mut track, row, holder, look);
        self.tracks.insert(row.key, track);
        connection
    }

    /// The edge that decides whose `connection` is, if that is to be decided at this look.
    pub(super) fn undecided(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> Option<FlowKey> {
        let is_open = connection.holder.application().is_some()
            || connection.direction != Direction::Outbound
            || connection.inode.is_some();
        if is_open {
            return None;
        }
        let edge = self.books.edge(key, connection.direction, None)?;
        self.books.is_undecided(&edge).then_some(edge)
    }

    /// Writes a decision into the row it was made for.
    pub(super) fn note_decision(
        &mut self,
        key: &ConnectionKey,
        connection: &mut Connection,
        decision: Option<&Decision>,
    ) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        match decision {
            Some(Decision::One(application)) => track.application = Some(application.clone()),
            Some(Decision::Ambiguous) => track.ambiguous = true,
            Some(Decision::Nobody) | None => return,
        }
        if let Holder::Unknown { reason, application } = &mut connection.holder {
            application.clone_from(&track.application);
            if track.ambiguous {
                AMBIGUOUS.clone_into(reason);
            }
        }
    }

    /// The row of a socket that is gone, and whose end may be told already.
    fn go_on_as_remains(&mut self, row: &Row, look: &Look<'_>) -> Connection {
        self.note_remains(row, look);
        let Some(track) = self.tracks.get_mut(&row.key) else { return self.begin_with(row, look) };
        track.look = self.looks;
        go_on(track, row, look, &self.listeners, &mut self.books)
    }

    fn note_remains(&mut self, row: &Row, look: &Look<'_>) {
        let Some(track) = self.tracks.get_mut(&row.key) else { return };
        let is_told = track.stage == Stage::Over;
        let awaited = track.cookie;
        if !is_told {
            track.end(&row.key, None, false, &mut self.books);
        }
        track.state = ConnectionState::TimeWait;
        let late = Late::of(&row.key, track, true, look.now);
        track.cookie = row.cookie;
        self.by_cookie.remove(&awaited);
        if !is_told {
            self.await_end(awaited, late, look);
        }
    }

    fn first_sight(&mut self, row: &Row, look: &Look<'_>) -> Track {
        let listener = self.listeners.of(&row.key, &look.ephemeral, look.now);
        let opener = row.traffic.as_ref().and_then(|traffic| opener(traffic, row.state));
        let direction = if row.listens(&look.ephemeral) {
            Direction::Listener
        } else {
            direction(&row.key, listener.is_some(), opener, &look.ephemeral)
        };
        let is_first_look = self.looks == 1;
        let existed = is_first_look && row.state != ConnectionState::SynReceived;
        let of_listener = listener.filter(|_| direction == Direction::Inbound);
        let certain = look.certain(row).and_then(|holder| holder.application().cloned());
        let application = certain.or_else(|| of_listener.and_then(|l| l.application.clone()));
        let mut track = Track {
            look: self.looks,
            cookie: row.cookie,
            inode: row.inode,
            state: row.state,
            direction,
            application,
            ambiguous: false,
            first_seen: look.now,
            stage: Stage::Unplaced,
            existed,
            noted: false,
            counted: None,
            transport: None,
        };
        self.begin_account(&mut track, row, look);
        track
    }

    /// Sets how far the account of a socket is that is seen for the first time.
    fn begin_account(&mut self, track: &mut Track, row: &Row, look: &Look<'_>) {
        let asks = matches!(row.state, ConnectionState::SynSent | ConnectionState::SynReceived);
        if row.key.remote.is_none() {
            track.stage = Stage::Aside;
        } else if track::remains(row) {
            // Where ends are told, that of a connection never seen is still to come, unless it was lost.
            let is_still_told = look.ends_are_told && !self.tally.lost;
            if !track.existed && !is_still_told {
                track.end(&row.key, None, false, &mut self.books);
            }
            track.stage = Stage::Over;
        } else if asks {
            track.stage = Stage::Asking;
        } else if track.existed {
            track.counted = row.traffic.as_ref().map(|t| Payload::of_living(t, row.state));
            track.open(&row.key, &mut self.books);
        }
    }
}

/// The row of a socket that was seen before.
fn go_on(
    track: &mut Track,
    row: &Row,
    look: &Look<'_>,
    listeners: &Listeners,
    books: &mut Books,
) -> Connection {
    let holder = holder_of(row, track, listeners, look);
    track.inode = row.inode;
    track.state = row.state;
    name(track, row, &holder, listeners, books);
    count(track, row, &holder, false, books);
    connection(track, row, holder, look)
}

/// Who holds `row`. Without a process it is whose it was when it was open, or its listener's.
fn holder_of(row: &Row, track: &Track, listeners: &Listeners, look: &Look<'_>) -> Holder {
    let certain = look.certain(row);
    if let Some(holder) = certain.as_ref().filter(|holder| holder.application().is_some()) {
        return holder.clone();
    }
    let application = track.application.clone().or_else(|| {
        let listener = listeners.of(&row.key, &look.ephemeral, look.now);
        let accepts = matches!(track.direction, Direction::Inbound | Direction::Listener);
        listener.filter(|_| accepts).and_then(|listener| listener.application.clone())
    });
    if let Some(Holder::Group { group, .. }) = certain {
        return Holder::Group { group, application };
    }
    let reason = if track.ambiguous { AMBIGUOUS } else { why_nobody(row, look.holders.denied()) };
    Holder::Unknown { reason: reason.to_owned(), application }
}

/// Gives a socket that was seen before the direction and application it has now.
fn name(track: &mut Track, row: &Row, holder: &Holder, listeners: &Listeners, books: &mut Books) {
    let mut way = track.direction;
    if way == Direction::Unknown && row.key.remote.is_some() {
        let opener = row.traffic.as_ref().and_then(|traffic| opener(traffic, row.state));
        let listener = listeners.of(&row.key, &books.ephemeral, books.now);
        way = direction(&row.key, listener.is_some(), opener, &books.ephemeral);
    }
    if way != track.direction || holder.application() != track.application.as_ref() {
        let application = holder.application().cloned().or_else(|| track.application.clone());
        track.go_on_as(&row.key, way, application, books);
    }
}

/// Counts what is new of a living socket.
fn count(track: &mut Track, row: &Row, holder: &Holder, is_new: bool, books: &mut Books) {
    if matches!(track.stage, Stage::Aside | Stage::Over) {
        return;
    }
    if !track.noted && track.direction == Direction::Outbound {
        note(track, row, holder, books);
    }
    let asks = matches!(row.state, ConnectionState::SynSent | ConnectionState::SynReceived);
    if track.stage == Stage::Asking && !asks {
        track.stage = Stage::Unplaced;
    }
    if track.stage == Stage::Unplaced {
        if track.application.is_none() && is_new {
            return;
        }
        if track.application.is_none()
            && let Some(remote) = row.key.remote.filter(|_| track.direction == Direction::Outbound)
            && let Posterior::Sure(application) = books.sightings.of(row.key.protocol, remote)
        {
            track.application = Some(application);
        }
        track.open(&row.key, books);
    }
    if let Some(traffic) = &row.traffic {
        track.carry(&row.key, Payload::of_living(traffic, row.state), books);
    }
}

/// Notes whose attempt it was.
fn note(track: &mut Track, row: &Row, holder: &Holder, books: &mut Books) {
    let (process, application) = match holder {
        Holder::Process { process, application: Some(application) } => {
            (Some(*process), application)
        }
        Holder::Group { application: Some(application), .. } => (None, application),
        _ => return,
    };
    let Some(remote) = row.key.remote else { return };
    if row.key.protocol == Protocol::Tcp && !track.existed {
        books.openings.match_one(remote, process, application);
    }
    books.sightings.note(row.key.protocol, remote, application);
    track.noted = true;
}

fn connection(track: &mut Track, row: &Row, holder: Holder, look: &Look<'_>) -> Connection {
    let payload = row.traffic.as_ref().map(|t| Payload::of_living(t, row.state)).or(track.counted);
    let former = track.transport.as_ref();
    let transport = row.traffic.as_ref().map(|t| transport(t, track.direction, former, look.now));
    track.transport = transport;
    Connection {
        state: row.state,
        direction: track.direction,
        holder,
        user: row.user,
        inode: Some(u64::from(row.inode)).filter(|inode| *inode != 0),
        translated: None,
        first_seen: track.first_seen,
        sent: payload.map(|payload| Bytes(payload.sent)),
        received: payload.map(|payload| Bytes(payload.received)),
        transport,
    }
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
