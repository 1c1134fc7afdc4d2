//! Sees the guest the agent lives in: connections, processes, applications, services, counters, facts.
//!
//! ```text
//!  every second      tick     /proc/PID/stat ─> accounts (CPU and memory, so that peaks are kept)
//!  every sample      observe  the same, then sockets ─> holders ─> names ─> connections
//!                             and counters, facts, services ─> Observation
//! ```
//!
//! It never reads payload, arguments or environment, and never executes anything. What may not be read or
//! vanishes meanwhile costs its own row; a section that cannot be read leaves the others whole and says so
//! in the facts. Unknown is `None`, never zero.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use common::{
    clock::Timestamp,
    id::AppName,
    mix::EffectiveMix,
    sample::{ApplicationUse, Connection, ConnectionKey, Observation, ProcessKey},
};
use thiserror::Error;

mod accounts;
mod connections;
mod counters;
mod extent;
mod facts;
mod holders;
mod naming;
mod network;
mod population;
mod processes;
pub mod services;
mod sockets;

pub use extent::{Extent, ExtentSource, LIMITS_FILE};
pub use facts::Places;
pub use naming::{Rule, Rules};
pub use population::Supervised;

use accounts::Accounts;
use connections::{Connections, Look};
use counters::Sums;
use facts::{FactsReader, Remarks};
use holders::Holders;
use population::Population;
use processes::{Storage, Units};
use services::Services;

/// Of the time between two ticks, the part that the pass over the processes may take. Where there are so many
/// processes that it takes more, ticks are left out, and peaks are means over a longer time.
const TICK_SHARE: u32 = 20;

/// What the observer cannot see for itself.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The catalogue's rules.
    pub rules: Rules,
    /// What the agent's drivers keep.
    pub supervised: Vec<Supervised>,
    /// The mix the guest runs, passed on as it is.
    pub mix: EffectiveMix,
    /// Services outside the agent; see [`services`].
    pub services: Services,
}

/// Why a look saw nothing at all.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The table of processes, on which everything else hangs, cannot be listed.
    #[error("processes could not be listed; is /proc mounted?")]
    Processes(#[source] procfs::ProcError),
}

/// Looks at a guest. Every call blocks: make it where blocking is allowed.
pub trait Observe: Send {
    /// Looks at everything. Peaks start again from here.
    ///
    /// # Errors
    ///
    /// Only if nothing can be seen; a section that cannot be read is left out and named in the facts.
    fn observe(&mut self, inputs: &Inputs, now: Timestamp) -> Result<Observation, ObserveError>;

    /// Looks at what each application uses just now, so that a peak between two samples is not lost.
    ///
    /// # Errors
    ///
    /// Only if nothing can be seen.
    fn tick(&mut self, inputs: &Inputs) -> Result<(), ObserveError>;
}

/// Where to look and how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the guest's names stand.
    pub places: Places,
    /// How far the guest reaches.
    pub extent: ExtentSource,
}

/// Looks at a Linux guest.
#[derive(Debug)]
pub struct LinuxObserver {
    units: Units,
    extent: ExtentSource,
    cores: Option<u32>,
    population: Population,
    accounts: Accounts,
    holders: Holders,
    connections: Connections,
    facts: FactsReader,
    passed: Option<Pass>,
}

/// The last pass over the processes.
#[derive(Debug, Clone, Copy)]
struct Pass {
    began: Instant,
    took: Duration,
    left_out: usize,
}

impl LinuxObserver {
    /// An observer that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let units = Units::read();
        Self {
            units,
            extent: settings.extent,
            cores: processes::cores(),
            population: Population::default(),
            accounts: Accounts::default(),
            holders: Holders::default(),
            connections: Connections::default(),
            facts: FactsReader::new(settings.places, units.booted_at()),
            passed: None,
        }
    }

    /// Reads the process table; gives the time since the pass before.
    fn pass(&mut self) -> Result<Option<Duration>, ObserveError> {
        let began = Instant::now();
        let elapsed = self.passed.map(|pass| began.duration_since(pass.began));
        let table = processes::table(self.units).map_err(ObserveError::Processes)?;
        self.population.update(table.processes, processes::traits);
        self.passed = Some(Pass { began, took: began.elapsed(), left_out: table.left_out });
        Ok(elapsed)
    }

    fn charge(&mut self, elapsed: Option<Duration>) {
        let most = processes::all_of(self.cores);
        self.accounts.look(&self.population.charges(), elapsed, most);
    }

    fn storage(&mut self) -> Vec<(ProcessKey, Option<Storage>)> {
        let living = self.population.living().into_iter();
        let storage: Vec<_> = living.map(|key| (key, processes::storage(key.pid))).collect();
        self.accounts.look_at_storage(&storage);
        storage
    }

    /// Reads the sockets, names the processes by what they listen on, and makes the table.
    fn connections(
        &mut self,
        inputs: &Inputs,
        remarks: &mut Remarks,
        now: Timestamp,
    ) -> BTreeMap<ConnectionKey, Connection> {
        let sockets = sockets::read();
        let ephemeral = sockets::ephemeral_ports();
        let held = sockets.rows.iter().map(|row| row.inode).filter(|inode| *inode != 0);
        let inodes: HashSet<u32> = held.collect();
        self.holders.update(&inodes, &self.population.living(), processes::sockets_of);
        self.population.listen(connections::listening(&sockets.rows, &self.holders, &ephemeral));
        self.population.name(&inputs.rules, &inputs.supervised);
        remarks.connections = sockets.source;
        if sockets.left_out > 0 {
            let text = format!("{} rows beyond {}", sockets.left_out, sockets::MAX_ROWS);
            remarks.other.insert("connections_left_out".to_owned(), text);
        }
        self.connections.table(&Look {
            rows: &sockets.rows,
            holders: &self.holders,
            applications: &self.population.applications(),
            ephemeral,
            now,
        })
    }

    fn applications(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        let mut uses = self.accounts.take_uses();
        for (application, ports) in self.population.ports() {
            if let Some(usage) = uses.get_mut(&application) {
                usage.listening_ports = ports.into_iter().collect();
            }
        }
        uses
    }

    fn remark_on_processes(&self, remarks: &mut Remarks) {
        let beyond = self.passed.map_or(0, |pass| pass.left_out);
        let mut text = "kernel threads".to_owned();
        if beyond > 0 {
            text = format!("{text}, and {beyond} processes beyond {}", processes::MAX_PROCESSES);
        }
        remarks.other.insert("processes_left_out".to_owned(), text);
    }
}

impl Observe for LinuxObserver {
    fn observe(&mut self, inputs: &Inputs, now: Timestamp) -> Result<Observation, ObserveError> {
        let elapsed = self.pass()?;
        // Cores come and go while a machine runs.
        self.cores = processes::cores();
        let services = inputs.services.source.to_string();
        let mut remarks = Remarks { services, ..Remarks::default() };
        let connections = self.connections(inputs, &mut remarks, now);
        self.charge(elapsed);
        let storage = self.storage();
        self.remark_on_processes(&mut remarks);
        let (extent, trouble) = self.extent.read();
        if let Some(trouble) = trouble {
            remarks.other.insert("limits_not_read".to_owned(), trouble);
        }
        let sums = Sums {
            busy_ms: self.accounts.busy_ms(),
            resident: self.accounts.resident(),
            storage: self.accounts.storage(),
        };
        let own = processes::own(self.units);
        Ok(Observation {
            connections,
            processes: self.population.rows(&storage),
            services: inputs.services.with(&inputs.supervised),
            applications: self.applications(),
            counters: counters::read(extent, self.cores, sums, own.as_ref()),
            facts: self.facts.read(extent, remarks, now),
            mix: inputs.mix.clone(),
        })
    }

    fn tick(&mut self, inputs: &Inputs) -> Result<(), ObserveError> {
        let is_too_soon = |pass: Pass| pass.began.elapsed() < pass.took * TICK_SHARE;
        if self.passed.is_some_and(is_too_soon) {
            return Ok(());
        }
        let elapsed = self.pass()?;
        self.population.name(&inputs.rules, &inputs.supervised);
        self.charge(elapsed);
        Ok(())
    }
}
