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
        /// Empty if it ended meanwhile.
        name: String,
        /// From whom it came, as far as that was told: one that lives may be gone before it is asked for more.
        kin: Option<Kin>,
    },
    /// Ended meanwhile, and nobody knows more of it than its line.
    Gone,
    Others,
}

/// Whose `thread` is, or was.
pub(super) fn whose(network: &Network, births: &Births, thread: u32) -> Thread {
    match network.thread(thread) {
        Found::Others => Thread::Others,
        Found::Ours { process, name } => {
            let origin = births.origin(process, lives);
            let kin = origin.and_then(|origin| network.told(origin)).and_then(|(_, kin)| kin);
            Thread::Ours { process, name, kin }
        }
        Found::Gone => match births.origin(thread, lives) {
            Some(origin) => network.told(origin).map_or(Thread::Others, |(process, kin)| {
                Thread::Ours { process, name: String::new(), kin }
            }),
            None if network.is_first => Thread::Gone,
            None => Thread::Others,
        },
    }
}

/// The network namespace of a thread; `None` if the thread is gone.
fn namespace(thread: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{thread}/ns/net")).ok()
}

fn lives(thread: u32) -> bool {
    namespace(thread).is_some()
}

/// What the kernel shows of a thread.
enum Found {
    Ours { process: u32, name: String },
    Gone,
    Others,
}

impl Network {
    pub(super) fn own() -> io::Result<Self> {
        let own = fs::read_link("/proc/thread-self/ns/net")?;
        let is_first = fs::read_link("/proc/1/ns/net").is_ok_and(|first| first == own);
        Ok(Self { own, is_first })
    }

    /// The process of an origin and its kin; `None` if it is of another namespace.
    fn told(&self, origin: Origin) -> Option<(u32, Option<Kin>)> {
        let above = match self.thread(origin.thread) {
            Found::Others => return None,
            Found::Ours { process, .. } => process,
            // What is gone was most likely of the first namespace, for most are. It may be known from the
            // last look.
            Found::Gone if self.is_first => origin.thread,
            Found::Gone => return None,
        };
        Some(origin.told(above))
    }

    fn thread(&self, number: u32) -> Found {
        let Some(network) = namespace(number) else { return Found::Gone };
        if network != self.own {
            return Found::Others;
        }
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let value = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
        };
        let process = value("Tgid:").parse().unwrap_or(number);
        Found::Ours { process, name: value("Name:").to_owned() }
    }
}

impl Thread {
    pub(super) fn tell(&self, started: Started<'_>, told: &mut Told) {
        let Started { thread, name, local, remote } = started;
        let (pid, other_name) = match self {
            Self::Ours { process, name, kin } => {
                told.kin.extend(kin.clone().map(|kin| (*process, kin)));
                (*process, name.as_str())
            }
            // The first thread of a process has its number; most processes have no other.
            Self::Gone => (thread, ""),
            Self::Others => return,
        };
        let name = name.unwrap_or(other_name).to_owned();
        told.openings.push(Opening { pid, name, local, remote });
    }
}
