//! One socket from look to look: whether a row still is it, and what of it is counted already.

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ConnectionKey, ConnectionState, Direction, Flow, Transport},
};

use super::{super::seen::Row, books::Books, payload::Payload};

/// What is remembered of a socket.
#[derive(Debug)]
pub(super) struct Track {
    /// The look whose table had it last.
    pub(super) look: u64,
    pub(super) cookie: u64,
    pub(super) inode: u32,
    pub(super) state: ConnectionState,
    pub(super) direction: Direction,
    /// Under which it is counted.
    pub(super) application: Option<AppName>,
    /// Nobody is named because several could be.
    pub(super) ambiguous: bool,
    pub(super) first_seen: Timestamp,
    pub(super) stage: Stage,
    /// It was there before the agent was: neither opened nor closed in this epoch.
    pub(super) existed: bool,
    /// Its attempt and its application are noted.
    pub(super) noted: bool,
    /// What of its payload is counted.
    pub(super) counted: Option<Payload>,
    pub(super) transport: Option<Transport>,
}

/// How far a socket's account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is no connection.
    Aside,
    /// It asks, or is asked, and is not established.
    Asking,
    /// It is established and nobody known holds it; it is counted at the next look, when its process may be
    /// known.
    Unplaced,
    /// It is counted as opened.
    Open,
    /// It is counted as ended, or shall be when its end is told; what is left is its row.
    Over,
}

/// What a row is to the socket that had its key at the look before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// The same socket.
    Same,
    /// What remains of it.
    Remains,
    /// Another one.
    Other,
}

/// Whether `row` is all that the kernel keeps of a connection whose socket is gone.
pub(super) const fn remains(row: &Row) -> bool {
    let is_short = matches!(row.state, ConnectionState::FinWait2)
        && row.inode == 0
        && row.cookie != 0
        && row.traffic.is_none();
    is_short || matches!(row.state, ConnectionState::TimeWait)
}

/// Nobody will read or write through it again.
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

impl Track {
    /// What `row`, which has its key, is to it. `is_recent`: the look before was not so long ago that its
    /// ends may have been used again. A key can be used again; a socket cannot, and one that closes does not
    /// open any more.
    pub(super) const fn relation(&self, row: &Row, is_recent: bool) -> Relation {
        let are_named = self.cookie != 0 && row.cookie != 0;
        let is_same = are_named && self.cookie == row.cookie;
        if remains(row) {
            let is_known_as_such =
                self.is_over() && matches!(self.state, ConnectionState::TimeWait);
            return match (is_same, self.is_over()) {
                (true, true) => Relation::Same,
                (true, false) => Relation::Remains,
                // The kernel names a socket when it is first asked for, and what remains of it has that
                // name; of one that was never in a table it gets another.
                (false, over) if !is_recent || (are_named && (!over || is_known_as_such)) => {
                    Relation::Other
                }
                (false, true) if is_known_as_such => Relation::Same,
                (false, _) => Relation::Remains,
            };
        }
        if is_same {
            return Relation::Same;
        }
        if are_named || (self.is_over() && row.inode != 0) {
            return Relation::Other;
        }
        if self.inode != 0 && row.inode != 0 {
            return if self.inode == row.inode { Relation::Same } else { Relation::Other };
        }
        let was_let_go = self.inode == 0 && is_closing(self.state);
        let goes_on = !was_let_go || (is_closing(row.state) && row.inode == 0);
        if goes_on { Relation::Same } else { Relation::Other }
    }

    /// It is counted as opened, if it was.
    pub(super) fn open(&mut self, key: &ConnectionKey, books: &mut Books) {
        self.stage = Stage::Open;
        let opened = u64::from(!self.existed);
        books.add(
            key,
            self.direction,
            self.application.as_ref(),
            &Flow { opened, ..Flow::default() },
        );
        books.enter(key, self.direction, self.application.as_ref());
    }

    /// Counts what it carried since that was last counted.
    pub(super) fn carry(&mut self, key: &ConnectionKey, payload: Payload, books: &mut Books) {
        if self.counted == Some(payload) || self.stage != Stage::Open {
            return;
        }
        let change = payload.since(self.counted.as_ref());
        books.add(key, self.direction, self.application.as_ref(), &change);
        self.counted = Some(payload.or_more(self.counted.as_ref()));
    }

    /// It ended, with all it carried, if that is known.
    pub(super) fn end(
        &mut self,
        key: &ConnectionKey,
        payload: Option<Payload>,
        is_reset: bool,
        books: &mut Books,
    ) {
        let mut change = payload.map_or_else(Flow::default, |p| p.since(self.counted.as_ref()));
        let count = u64::from(!self.existed);
        change.closed = count;
        change.reset = if is_reset { count } else { 0 };
        if self.stage == Stage::Open {
            books.add(key, self.direction, self.application.as_ref(), &change);
            books.leave(key, self.direction, self.application.as_ref());
        } else {
            change.opened = count;
            books.add_of_somebody(key, self.direction, self.application.as_ref(), &change);
        }
        self.counted = payload.map(|p| p.or_more(self.counted.as_ref())).or(self.counted);
        self.stage = Stage::Over;
    }

    /// It never became a connection.
    pub(super) fn fail(&mut self, key: &ConnectionKey, books: &mut Books) {
        let failed = u64::from(!self.existed);
        let change = Flow { failed, ..Flow::default() };
        books.add_of_somebody(key, self.direction, self.application.as_ref(), &change);
        self.stage = Stage::Over;
    }

    /// Its direction or application came to be known, or is another now: it goes on there.
    pub(super) fn go_on_as(
        &mut self,
        key: &ConnectionKey,
        direction: Direction,
        application: Option<AppName>,
        books: &mut Books,
    ) {
        if self.direction == direction && self.application == application {
            return;
        }
        let is_counted = self.stage == Stage::Open;
        if is_counted {
            books.leave(key, self.direction, self.application.as_ref());
            books.enter(key, direction, application.as_ref());
            if self.application.is_none() && application.is_some() && !self.existed {
                books.attribute(key);
            }
        }
        self.direction = direction;
        self.application = application;
    }

    const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}
