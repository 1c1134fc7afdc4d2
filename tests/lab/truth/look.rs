//! The process that looks: the agent's own observer inside one machine, as the agent drives it (a
//! tick every second, a look every so often), and plain pollers beside it at the same moments.
//!
//! It says `ready` after its first look, and at the end of its input looks once more, reports and
//! ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use agent::observe::{Inputs, LinuxObserver, Observe as _, Settings};
use common::{
    clock::{Clock as _, SystemClock},
    sample::{Coverage, Flow, FlowKey, Holder, Observation},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde::{Deserialize, Serialize};

use super::{
    act,
    pollers::{POLLERS, Sighting},
};
use crate::figure::Failure;

/// How long sockets may take to close after everything is done.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// Long enough for an acknowledgement that the kernel put off.
const BETWEEN_LAST_LOOKS: Duration = Duration::from_millis(200);

/// What a looking process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The network namespace it enters.
    pub namespace: PathBuf,
    /// Time between two looks, in milliseconds.
    pub every_ms: u64,
    /// Plain pollers look too.
    pub pollers: bool,
}

/// What one application did on disks, as the agent says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes read.
    pub read: Option<u64>,
    /// Bytes written.
    pub written: Option<u64>,
}

/// Everything a looking process saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The flows at the end.
    pub flows: Vec<(FlowKey, Flow)>,
    /// The coverage at the end.
    pub coverage: Option<Coverage>,
    /// How the connections were read.
    pub source: String,
    /// Every row of every look, with the best that was known of its holder.
    pub rows: BTreeSet<Sighting>,
    /// Groups, and not processes, that rows were given to.
    pub groups: BTreeSet<String>,
    /// What the applications did on disks, at the end.
    pub disks: BTreeMap<String, Disk>,
    /// Every row of every look of each plain poller.
    pub polled: BTreeMap<String, BTreeSet<Sighting>>,
    /// How many looks there were.
    pub looks: u32,
    /// The longest look, in microseconds.
    pub longest_us: u64,
}

/// Looks as the order in `file` says, and prints the report.
///
/// # Errors
///
/// If the machine cannot be entered, or nothing at all can be seen in it.
pub fn look(file: &Path) -> Result<(), Failure> {
    let order: Order = serde_json::from_slice(&fs::read(file)?)?;
    let tracing = with_tracing();
    act::enter(&order.namespace)?;
    let mut looker = Looker::default();
    looker.look(&order)?;
    if let Err(cause) = tracing {
        looker.report.source = format!("{} (no tracefs here: {cause})", looker.report.source);
    }
    writeln!(io::stdout(), "ready")?;
    looker.until(&end_of_input(), &order)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&looker.report)?)?;
    Ok(())
}

/// A guest has tracefs where systemd mounts it. Here it is mounted for this process only.
fn with_tracing() -> nix::Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if fs::read_dir(PLACE).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("tracefs"), PLACE, Some("tracefs"), MsFlags::empty(), None::<&str>)
}

fn end_of_input() -> Receiver<()> {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut rest = Vec::new();
        drop(io::stdin().lock().read_to_end(&mut rest));
        drop(tell);
    });
    told
}

struct Looker {
    observer: LinuxObserver,
    inputs: Inputs,
    known: BTreeMap<common::sample::ConnectionKey, Option<String>>,
    report: Report,
}

impl Default for Looker {
    fn default() -> Self {
        Self {
            observer: LinuxObserver::new(Settings::default()),
            inputs: Inputs::default(),
            known: BTreeMap::new(),
            report: Report::default(),
        }
    }
}

impl Looker {
    /// Ticks and looks until nobody can end it any more but itself; one look is the last.
    fn until(&mut self, end: &Receiver<()>, order: &Order) -> Result<(), Failure> {
        let every = Duration::from_millis(order.every_ms);
        let tick = Duration::from_secs(1).min(every);
        let mut next_look = Instant::now() + every;
        while end.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() >= next_look {
                next_look += every;
                self.look(order)?;
            } else {
                self.observer.tick(&self.inputs)?;
            }
        }
        self.settle(order)?;
        self.report.rows = self
            .known
            .iter()
            .map(|(key, application)| Sighting {
                protocol: key.protocol,
                local: key.local,
                remote: key.remote,
                application: application.clone(),
            })
            .collect();
        Ok(())
    }

    /// Looks until nothing changes any more: a socket takes a moment to close.
    fn settle(&mut self, order: &Order) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            let before = std::mem::take(&mut self.report.flows);
            self.look(order)?;
            if before == self.report.flows || Instant::now() >= deadline {
                return Ok(());
            }
            thread::sleep(BETWEEN_LAST_LOOKS);
        }
    }

    fn look(&mut self, order: &Order) -> Result<(), Failure> {
        let began = Instant::now();
        let seen = self.observer.observe(&self.inputs, SystemClock.now())?;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.report.looks += 1;
        self.report.longest_us = self.report.longest_us.max(took);
        self.keep(seen);
        for poller in POLLERS.iter().filter(|_| order.pollers) {
            let seen = (poller.look)()?;
            self.report.polled.entry(poller.name.to_owned()).or_default().extend(seen);
        }
        Ok(())
    }

    fn keep(&mut self, seen: Observation) {
        for (key, row) in seen.connections {
            if let Holder::Group { group, .. } = &row.holder {
                self.report.groups.insert(group.clone());
            }
            let named = row.holder.application().map(|name| name.as_str().to_owned());
            let known = self.known.entry(key).or_default();
            *known = named.or(known.take());
        }
        self.report.flows = seen.flows.into_iter().collect();
        self.report.coverage = seen.coverage;
        self.report.source = seen.facts.connections_source;
        let disk = |bytes: Option<common::units::Bytes>| bytes.map(|bytes| bytes.0);
        self.report.disks = seen
            .applications
            .into_iter()
            .map(|(name, usage)| {
                let disk = Disk { read: disk(usage.read), written: disk(usage.written) };
                (name.as_str().to_owned(), disk)
            })
            .collect();
    }
}
