//! Reads the connection tables of machines without an agent: the text that `netstat` (of Linux,
//! Windows, BSD and macOS) and `ss` print, into rows as agents send them.
//!
//! ```text
//!  text ─> lines ─┬─> head, section, blank, sockets that never leave the machine: left out
//!                 ├─> a row ──> Listed { ends, state, who holds it, what it carried }
//!                 └─> neither: BadLine { number, text, why }, and only that line is lost
//! ```
//!
//! A name in place of an address is kept as it is written and never looked up: who it meant was
//! known to the machine that printed it. Whatever the text, nothing panics and nothing is guessed.

mod ends;
mod ports;
mod row;
mod words;

use std::collections::BTreeSet;

pub use self::ends::{End, Host};
use crate::{
    clock::Timestamp,
    sample::{
        Connection, ConnectionKey, ConnectionState, Direction, Holder, ProcessKey, Protocol,
        Transport,
    },
    units::Bytes,
};

/// Longest line, in bytes: a row of any of the programs is far below it.
const LONGEST_LINE: usize = 4096;
/// Characters of a bad line that are shown.
const SHOWN: usize = 120;

/// One row as the text tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its line, counted from 1.
    pub line: usize,
    /// The protocol.
    pub protocol: Protocol,
    /// The local end.
    pub local: End,
    /// The remote end; `None` for a listener or an unconnected socket.
    pub remote: Option<End>,
    /// Its state.
    pub state: ConnectionState,
    /// Which side opened it, as far as the other rows tell.
    pub direction: Direction,
    /// The process that holds it.
    pub process: Option<u32>,
    /// That process's name.
    pub program: Option<String>,
    /// Numeric user whose socket it is.
    pub user: Option<u32>,
    /// The socket's inode.
    pub inode: Option<u64>,
    /// Payload bytes sent so far, what was sent again left out.
    pub sent: Option<Bytes>,
    /// Payload bytes received so far.
    pub received: Option<Bytes>,
    /// What else the transport counted.
    pub transport: Option<Transport>,
}

/// A line that is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: usize,
    /// What it says, cut, safe to print.
    pub text: String,
    /// Why it is none, and what may stand there.
    pub why: String,
}

/// What a text has in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The rows, in the order of the text.
    pub rows: Vec<Listed>,
    /// The lines that are none.
    pub bad: Vec<BadLine>,
    /// Sockets that never leave the machine, or of protocols without ports.
    pub left_out: usize,
}

impl Listed {
    /// Whether both ends talk: what only waits to be closed, or was never answered, does not.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        match self.state {
            ConnectionState::Established => true,
            ConnectionState::Stateless => self.remote.is_some(),
            _ => false,
        }
    }

    /// As a row of a connection table; `None` if an end has a name or no port, so that it is
    /// nobody's address.
    #[must_use]
    pub fn row(&self, seen_at: Timestamp) -> Option<(ConnectionKey, Connection)> {
        let remote = match &self.remote {
            Some(end) => Some(end.address()?),
            None => None,
        };
        let key = ConnectionKey { protocol: self.protocol, local: self.local.address()?, remote };
        let holder = match self.process {
            // When it started is not told, and a number alone may be another's by now.
            Some(pid) => Holder::Process {
                process: ProcessKey { pid, started_at: Timestamp::default() },
                application: self.program.as_deref().and_then(|program| program.parse().ok()),
            },
            None => Holder::Unknown { reason: "the text does not say".into(), application: None },
        };
        let row = Connection {
            state: self.state,
            direction: self.direction,
            holder,
            user: self.user,
            inode: self.inode,
            translated: None,
            first_seen: seen_at,
            sent: self.sent,
            received: self.received,
            transport: self.transport,
        };
        Some((key, row))
    }
}

/// What one line is.
enum Line {
    /// A row of the table.
    Row(Box<Listed>),
    /// What belongs to the row before.
    More(words::More),
    /// A head, a section, an empty line.
    Nothing,
    /// A socket that is no business of a network.
    LeftOut,
}

/// Reads a text.
#[must_use]
pub fn read(text: &str) -> Listing {
    let mut listing = Listing::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.len() > LONGEST_LINE {
            listing.refuse(number, line, format!("it has {} bytes; a row has fewer", line.len()));
            continue;
        }
        match row::line(number, line) {
            Ok(Line::Row(row)) => listing.rows.push(*row),
            Ok(Line::More(more)) => match listing.rows.last_mut() {
                Some(row) => more.add_to(row),
                None => listing.refuse(number, line, "it belongs to no row".into()),
            },
            Ok(Line::Nothing) => {}
            Ok(Line::LeftOut) => listing.left_out += 1,
            Err(why) => listing.refuse(number, line, why),
        }
    }
    listing.orient();
    listing
}

impl Listing {
    fn refuse(&mut self, line: usize, text: &str, why: String) {
        let text = text.trim();
        let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if text.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        self.bad.push(BadLine { line, text: shown, why });
    }

    /// Tells who opened each connection by the listeners of the same text; without any, nobody can.
    fn orient(&mut self) {
        let listens = |row: &Listed| {
            row.remote.is_none()
                && matches!(row.state, ConnectionState::Listen | ConnectionState::Stateless)
        };
        let listeners = self.rows.iter().filter(|row| listens(row));
        let ports: BTreeSet<(Protocol, u16)> =
            listeners.filter_map(|row| Some((row.protocol, row.local.port?))).collect();
        for row in &mut self.rows {
            let is_listened = row.local.port.map(|port| ports.contains(&(row.protocol, port)));
            row.direction = match is_listened {
                _ if listens(row) => Direction::Listener,
                Some(true) => Direction::Inbound,
                Some(false) if !ports.is_empty() => Direction::Outbound,
                _ => Direction::Unknown,
            };
        }
    }
}

#[cfg(test)]
mod tests;
