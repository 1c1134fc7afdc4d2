//! Reads the sockets of the guest's network namespace, TCP and UDP, v4 and v6.
//!
//! ```text
//!  Reader ─> dump    the table, by the kernel's socket diagnosis ─┐
//!         ─> ends    sockets that ended, told by the kernel      ─┴─> diag (bytes to values)
//!         ─> netstat the table again, where the first does not answer
//!         ─> openings (tracefs): who opens a connection
//! ```
//!
//! A socket that is missing a right or a kernel's support is one that is not seen; what cannot be seen is said
//! in the source, for people.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use common::{
    sample::{ConnectionReader, Protocol},
    task::Chain,
};

mod diag;
mod dump;
mod ends;
mod netstat;

use dump::{Dump, DumpError, QUESTIONS};
use ends::Ends;

use super::{
    openings::{self, Openings, Untold},
    stack::Stack,
};
use crate::observe::seen::{Row, SocketReader, Sockets, Told};

/// Most rows one look takes. Listeners are kept beyond it: without them no direction can be told.
pub(in crate::observe) const MAX_ROWS: usize = 65_536;

const BY_DIAGNOSIS: &str = "sock_diag: addresses, states, processes, bytes";

/// What the reader may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::observe) struct Setup {
    /// Where tracefs may be mounted; nowhere if openings are not to be told.
    pub(in crate::observe) tracefs: Vec<PathBuf>,
}

impl Setup {
    /// Everything, `openings` if they are wanted.
    pub(in crate::observe) fn new(openings: bool) -> Self {
        let places =
            if openings { openings::PLACES.map(PathBuf::from).to_vec() } else { Vec::new() };
        Self { tracefs: places }
    }
}

/// Reads by the kernel's socket diagnosis, and by netstat2 where that does not answer.
#[derive(Debug)]
pub(in crate::observe) struct Reader {
    dump: Dump,
    ends: Result<Ends, String>,
    openings: Result<Openings, Untold>,
    tracefs: Vec<PathBuf>,
    /// How many rows there were, which is how many there will be.
    rows: usize,
}

impl Reader {
    /// A reader of the calling thread's network namespace.
    pub(in crate::observe) fn new(setup: &Setup) -> Self {
        let ends = Ends::open().map_err(|cause| cause.to_string());
        let tracefs = setup.tracefs.clone();
        let openings = Openings::open(&tracefs);
        Self { dump: Dump::default(), ends, openings, tracefs, rows: 0 }
    }

    fn by_diagnosis(&mut self) -> Result<Sockets, DumpError> {
        let mut table = Table::with_room_for(self.rows);
        let mut source = BY_DIAGNOSIS.to_owned();
        let mut restarts = 0;
        let mut has_tcp = false;
        let mut refusal = None;
        for question in QUESTIONS {
            match self.dump.ask(question, &mut table) {
                Ok(answered) => {
                    has_tcp |= question.protocol == Protocol::Tcp;
                    restarts += answered.restarts;
                    if answered.interrupted {
                        source = format!("{source}; {} changed while it was read", question.name);
                    }
                }
                Err(cause) => {
                    source = format!("{source}; no {}: {}", question.name, Chain(&cause));
                    refusal.get_or_insert(cause);
                }
            }
        }
        if let (false, Some(cause)) = (has_tcp, refusal) {
            return Err(cause);
        }
        self.rows = table.rows.len();
        let rows = table.rows;
        if !has_traffic(&rows) {
            source.push_str("; the kernel is too old to count bytes (4.19 does)");
        }
        let reader = ConnectionReader::SocketDiagnosis;
        Ok(Sockets {
            rows,
            reader,
            source,
            left_out: table.left_out,
            restarts,
            ..Sockets::default()
        })
    }
}

impl SocketReader for Reader {
    fn read(&mut self) -> Sockets {
        let mut sockets = self.by_diagnosis().unwrap_or_else(|cause| {
            let mut sockets = netstat::read();
            sockets.source = format!("{}; sock_diag: {}", sockets.source, Chain(&cause));
            sockets
        });
        sockets.ends_are_told = self.ends.is_ok();
        if let Err(cause) = &self.ends {
            sockets
                .source
                .push_str("; connections that begin and end between two looks are not seen: ");
            sockets.source.push_str(cause);
        }
        sockets.opens_are_told = self.openings.is_ok();
        if let Err(cause) = &self.openings {
            sockets.source.push_str("; who opened a connection that ended since is not told: ");
            sockets.source.push_str(&Chain(cause).to_string());
        }
        let stack = Stack::read();
        sockets.counted = stack.opened;
        sockets.protocols = stack.protocols;
        sockets
    }

    fn told(&mut self) -> Told {
        let mut told = Told::default();
        if let Ok(ends) = &mut self.ends {
            ends.fetch(&mut told);
        }
        if let Ok(openings) = &mut self.openings {
            openings.fetch(&mut told);
        }
        told
    }

    fn want_openings(&mut self, wanted: bool) {
        match &self.openings {
            // Its instance is removed with it, and no attempt costs more than it would without us.
            Ok(_) if !wanted => self.openings = Err(Untold::Off),
            Err(Untold::Off) if wanted && !self.tracefs.is_empty() => {
                self.openings = Openings::open(&self.tracefs);
            }
            _ => {}
        }
    }
}

/// Whether bytes were counted wherever they could be; true of an empty table.
fn has_traffic(rows: &[Row]) -> bool {
    let is_open = |row: &&Row| {
        row.key.protocol == Protocol::Tcp && row.key.remote.is_some() && row.inode != 0
    };
    let mut open = rows.iter().filter(is_open).peekable();
    open.peek().is_none() || open.any(|row| row.traffic.is_some())
}

/// The ports the kernel gives to sockets that ask for none.
pub(in crate::observe) fn ephemeral_ports() -> std::ops::RangeInclusive<u16> {
    let default = 32_768..=60_999;
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map(str::parse::<u16>);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low <= high => low..=high,
        _ => default,
    }
}

/// Rows, with every listener and as many others as there is room for.
#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    others: usize,
    left_out: usize,
}

impl Table {
    fn with_room_for(rows: usize) -> Self {
        // What comes and goes between two looks, without growing.
        Self { rows: Vec::with_capacity(rows + rows / 8), ..Self::default() }
    }

    const fn mark(&self) -> (usize, usize, usize) {
        (self.rows.len(), self.others, self.left_out)
    }

    /// Forgets what came after `mark`.
    fn back_to(&mut self, (rows, others, left_out): (usize, usize, usize)) {
        self.rows.truncate(rows);
        self.others = others;
        self.left_out = left_out;
    }
}

impl Extend<Row> for Table {
    fn extend<I: IntoIterator<Item = Row>>(&mut self, rows: I) {
        for row in rows {
            let listens = row.key.remote.is_none();
            if listens || self.others < MAX_ROWS {
                self.others += usize::from(!listens);
                self.rows.push(row);
            } else {
                self.left_out += 1;
            }
        }
    }
}

/// An IPv4 address in IPv6 clothes is an IPv4 address.
const fn end(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

const fn remote(address: IpAddr, port: u16) -> Option<SocketAddr> {
    if port == 0 && address.is_unspecified() { None } else { Some(end(address, port)) }
}

#[cfg(test)]
mod tests;
