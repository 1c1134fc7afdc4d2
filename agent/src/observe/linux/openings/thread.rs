//! Whose a thread is that opens a connection: that of a process of the own network namespace, alive, or known by
//! those it came from.

use std::{fs, io, path::PathBuf};

use super::{
    births::{Births, Origin},
    line::Started,
};
use crate::observe::seen::{Kin, Opening, Told};

/// The network namespace whose processes are ours.
#[derive(Debug)]
pub(super) struct Network {
    own: PathBuf,
    is_first: bool,
}

/// Whose a thread is.
#[derive(Debug)]
pub(super) enum Thread {
    Ours {
        process: u32,
        name: String,
    },
    /// Ended meanwhile; it came from this one.
    Known {
        process: u32,
        kin: Option<Kin>,
    },
    /// Ended meanwhile, and nobody knows more of it than its line.
    Gone,
    Others,
}

/// Whose `thread` is, or was.
pub(super) fn whose(network: &Network, births: &Births, thread: u32) -> Thread {
    let found = network.thread(thread);
    if !matches!(found, Thread::Gone) {
        return found;
    }
    let lives = |above| !matches!(network.thread(above), Thread::Gone);
    let origin = births.origin(thread, lives);
    match origin.map(|origin| (network.thread(origin.thread), origin)) {
        Some((Thread::Others, _)) => Thread::Others,
        Some((Thread::Ours { process, .. }, origin)) => Thread::known(origin, process),
        // What is gone was most likely of the first namespace, for most are.
        _ if !network.is_first => Thread::Others,
        // It may be known from the last look.
        Some((_, origin)) => {
            let above = origin.thread;
            Thread::known(origin, above)
        }
        None => Thread::Gone,
    }
}

impl Network {
    pub(super) fn own() -> io::Result<Self> {
        let own = fs::read_link("/proc/thread-self/ns/net")?;
        let is_first = fs::read_link("/proc/1/ns/net").is_ok_and(|first| first == own);
        Ok(Self { own, is_first })
    }

    fn thread(&self, number: u32) -> Thread {
        let Ok(network) = fs::read_link(format!("/proc/{number}/ns/net")) else {
            return Thread::Gone;
        };
        if network != self.own {
            return Thread::Others;
        }
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let value = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
        };
        let process = value("Tgid:").parse().unwrap_or(number);
        Thread::Ours { process, name: value("Name:").to_owned() }
    }
}

impl Thread {
    fn known(origin: Origin, ancestor: u32) -> Self {
        let (process, kin) = origin.told(ancestor);
        Self::Known { process, kin }
    }

    pub(super) fn tell(&self, started: Started<'_>, told: &mut Told) {
        let Started { thread, name, local, remote } = started;
        let (pid, other_name) = match self {
            Self::Ours { process, name } => (*process, name.as_str()),
            Self::Known { process, kin } => {
                told.kin.extend(kin.clone().map(|kin| (*process, kin)));
                (*process, "")
            }
            // The first thread of a process has its number; most processes have no other.
            Self::Gone => (thread, ""),
            Self::Others => return,
        };
        let name = name.unwrap_or(other_name).to_owned();
        told.openings.push(Opening { pid, name, local, remote });
    }
}
