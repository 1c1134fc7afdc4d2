//! Ends: those that were told, and sockets that are gone from the table without a word.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ConnectionKey, ConnectionState, Direction, Flow, Protocol},
};

use super::{
    super::seen::{Ended, Traffic},
    Connections, Look,
    listeners::direction,
    payload::{Payload, fin_was_acknowledged, opener_of_ended},
    track::{Stage, Track},
};

/// How long the end of a socket is awaited that is gone from the table: a process may keep a dead one as
/// long as it likes.
const LATE_WITHIN: Duration = Duration::from_secs(3600);

/// Most such sockets remembered. Of more, the last bytes are not counted.
const MAX_LATE: usize = 16_384;

/// A connection counted as ended whose socket is still held, so that its end is yet to be told.
#[derive(Debug)]
pub(super) struct Late {
    key: ConnectionKey,
    direction: Direction,
    application: Option<AppName>,
    counted: Option<Payload>,
    last: ConnectionState,
    was_established: bool,
    existed: bool,
    since: Timestamp,
}

/// How a connection ended.
struct Final {
    payload: Option<Payload>,
    is_reset: bool,
}

impl Final {
    fn of(
        ended: &Ended,
        direction: Direction,
        last: Option<ConnectionState>,
        remains: Option<bool>,
    ) -> Self {
        let payload = |traffic| Payload::of_ended(traffic, direction, last, remains);
        let stays = remains == Some(true);
        let is_cut = |traffic: &Traffic| !stays && !fin_was_acknowledged(traffic, direction);
        Self {
            payload: ended.traffic.as_ref().map(payload),
            // Of one that was cut off from this side the kernel forgot all, the far port too.
            is_reset: ended.key.protocol == Protocol::Tcp
                && ended.traffic.as_ref().map_or_else(|| has_no_far_port(&ended.key), is_cut),
        }
    }
}

fn has_no_far_port(key: &ConnectionKey) -> bool {
    key.remote.is_none_or(|remote| remote.port() == 0)
}

impl Connections {
    /// Counts an end. `remains`: its ends are still in the table; `None` if nobody looked.
    pub(super) fn settle(&mut self, ended: &Ended, remains: Option<bool>) {
        let late = self.late.remove(&ended.cookie);
        let key = self.by_cookie.remove(&ended.cookie).unwrap_or(ended.key);
        let track = self.tracks.get_mut(&key).filter(|track| track.cookie == ended.cookie);
        match (track, late) {
            (Some(track), _) if track.stage != Stage::Over => {
                Self::end(&mut self.books, &key, track, ended, remains);
            }
            (_, Some(late)) => self.add_late(&late, ended),
            (Some(_), None) => {}
            (None, None) => self.end_of_unseen(ended, remains),
        }
    }

    fn end(
        books: &mut super::Books,
        key: &ConnectionKey,
        track: &mut Track,
        ended: &Ended,
        remains: Option<bool>,
    ) {
        if track.stage == Stage::Aside {
            track.stage = Stage::Over;
            return;
        }
        let got_through = ended.traffic.is_none_or(|traffic| traffic.acknowledged > 0);
        let was_asked = track.state == ConnectionState::SynReceived;
        if track.stage == Stage::Asking && !got_through && !was_asked {
            return track.fail(key, books);
        }
        let last = Final::of(ended, track.direction, Some(track.state), remains);
        track.end(key, last.payload, last.is_reset, books);
    }

    /// A socket that was opened and ended between two looks.
    fn end_of_unseen(&mut self, ended: &Ended, remains: Option<bool>) {
        let mut key = ended.key;
        let Some(remote) = key.remote else { return };
        self.near.note(&key);
        if key.local.ip().is_unspecified()
            && let Some(near) = self.near_end(&key, remote.ip())
        {
            key.local.set_ip(near);
        }
        let is_forgotten = remote.port() == 0;
        if is_forgotten && key.protocol == Protocol::Udp {
            return;
        }
        let listener = self.listeners.of(&key, &self.books.ephemeral, self.books.now);
        let opener = ended.traffic.as_ref().and_then(opener_of_ended);
        let direction = direction(&key, listener.is_some(), opener, &self.books.ephemeral);
        let is_inbound = direction == Direction::Inbound;
        let application =
            listener.filter(|_| is_inbound).and_then(|listener| listener.application.clone());
        let mut track = Track {
            look: self.looks.saturating_sub(1),
            cookie: ended.cookie,
            inode: 0,
            state: ConnectionState::Closed,
            direction,
            application,
            ambiguous: false,
            first_seen: self.books.now,
            stage: Stage::Unplaced,
            existed: false,
            noted: true,
            counted: None,
            transport: None,
        };
        let was_refused = direction == Direction::Outbound
            && ended.traffic.is_some_and(|traffic| traffic.acknowledged == 0);
        if was_refused {
            return track.fail(&key, &mut self.books);
        }
        let last = Final::of(ended, direction, None, remains);
        track.end(&key, last.payload, last.is_reset, &mut self.books);
        if remains == Some(true) {
            let former = self.tracks.get(&key);
            track.first_seen = former.map_or(track.first_seen, |former| former.first_seen);
            let replaced = self.tracks.insert(key, track);
            let lost =
                replaced.filter(|former| matches!(former.stage, Stage::Unplaced | Stage::Open));
            if let Some(mut former) = lost {
                former.end(&key, None, false, &mut self.books);
            }
        }
    }

    /// From which address a connection went to `far` of which the kernel forgot that: the one that attempts
    /// were told to go out from, else the one that was seen in use. Of several told the books say whose was
    /// which.
    fn near_end(&self, key: &ConnectionKey, far: IpAddr) -> Option<IpAddr> {
        let told = match key.protocol {
            Protocol::Tcp => self.books.openings.locals(far),
            Protocol::Udp => BTreeSet::new(),
        };
        match (told.first(), told.len()) {
            (Some(only), 1) => Some(*only),
            (Some(_), _) => None,
            (None, _) => self.near.of(far),
        }
    }

    fn add_late(&mut self, late: &Late, ended: &Ended) {
        if !late.was_established {
            return;
        }
        // The socket outlived what remained of it in the table only because it heard the FIN itself.
        let (last, remains) = match late.last {
            ConnectionState::TimeWait => (ConnectionState::Closing, None),
            last => (last, Some(false)),
        };
        let end = Final::of(ended, late.direction, Some(last), remains);
        let mut change =
            end.payload.map_or_else(Flow::default, |payload| payload.since(late.counted.as_ref()));
        let is_reset = remains.is_some() && end.is_reset && !late.existed;
        change.reset = u64::from(is_reset);
        self.books.add(&late.key, late.direction, late.application.as_ref(), &change);
    }

    /// Counts as ended what the table has no more. What was told to have ended after the table was read is
    /// not settled yet, and stays.
    pub(super) fn let_go(&mut self, look: &Look<'_>) {
        let awaited: ahash::HashSet<u64> = self.heard.iter().map(|ended| ended.cookie).collect();
        let gone = self.tracks.iter().filter(|(_, track)| {
            track.look != self.looks && (track.cookie == 0 || !awaited.contains(&track.cookie))
        });
        let gone: Vec<ConnectionKey> = gone.map(|(key, _)| *key).collect();
        for key in gone {
            self.lose(&key, look);
        }
    }

    /// Awaits no end any more that is too long in coming.
    pub(super) fn forget_late(&mut self, look: &Look<'_>) {
        self.late.retain(|_, late| look.now.since(late.since) < LATE_WITHIN);
    }

    /// The socket of `key` is gone from the table.
    pub(super) fn lose(&mut self, key: &ConnectionKey, look: &Look<'_>) {
        let Some(mut track) = self.tracks.remove(key) else { return };
        self.by_cookie.remove(&track.cookie);
        let was_established = matches!(track.stage, Stage::Unplaced | Stage::Open);
        let asked = track.stage == Stage::Asking && track.state == ConnectionState::SynSent;
        match track.stage {
            Stage::Aside | Stage::Over => return,
            Stage::Asking if asked => track.fail(key, &mut self.books),
            Stage::Asking => return,
            Stage::Unplaced | Stage::Open => track.end(key, None, false, &mut self.books),
        }
        let late = Late::of(key, &track, was_established, look.now);
        self.await_end(track.cookie, late, look);
    }

    /// Remembers a connection that ended while its socket did not.
    pub(super) fn await_end(&mut self, cookie: u64, late: Late, look: &Look<'_>) {
        if look.ends_are_told && cookie != 0 && self.late.len() < MAX_LATE {
            self.late.insert(cookie, late);
        }
    }
}

impl Late {
    pub(super) fn of(
        key: &ConnectionKey,
        track: &Track,
        was_established: bool,
        since: Timestamp,
    ) -> Self {
        Self {
            key: *key,
            direction: track.direction,
            application: track.application.clone(),
            counted: track.counted,
            last: track.state,
            was_established,
            existed: track.existed,
            since,
        }
    }
}
