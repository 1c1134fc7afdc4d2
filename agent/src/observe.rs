//! Sees the guest the agent lives in: connections, processes, applications, services, counters, facts.
//!
//! ```text
//!  every second      tick     CPU and memory of listed applications ─> accounts, so that peaks are kept
//!  every sample      observe  processes, sockets ─> holders ─> names ─> connections,
//!                             control groups ─> accounts, counters, facts, services ─> Observation
//!  now and then      software packages, configuration files, a slice at a time
//! ```
//!
//! It never reads payload or environment, arguments only where the guest's own configuration asks for them,
//! and never executes anything. What may not be read or vanishes meanwhile costs its own row; a section that
//! cannot be read leaves the others whole and says so in the facts. Unknown is `None`, never zero.

use std::sync::Arc;

use common::{
    clock::Timestamp,
    mix::EffectiveMix,
    sample::{Observation, Software},
};
use thiserror::Error;

use crate::config::Scope;

mod accounts;
mod arguments;
mod connections;
mod flows;
mod holders;
mod linux;
mod naming;
mod population;
mod seen;
pub mod services;
mod thrift;

pub use linux::{Extent, ExtentSource, LIMITS_FILE, LinuxObserver, Places};
pub use naming::{Rule, Rules};
pub use population::Supervised;
pub use thrift::{Measure, Thrift};

use services::Services;

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
    /// What to leave out.
    pub thrift: Thrift,
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

    /// Looks at what listed applications use just now, so that a peak between two samples is not lost.
    ///
    /// # Errors
    ///
    /// Only if nothing can be seen.
    fn tick(&mut self, inputs: &Inputs) -> Result<(), ObserveError>;

    /// Looks a little further at what is installed and how it is configured, for some milliseconds at most.
    /// Gives what is known once everything was seen; the same value as long as nothing changed; `None`
    /// before that, or where software is not read. How it was read is in the facts.
    fn software(&mut self, now: Timestamp) -> Option<Arc<Software>>;

    /// The last observation could not be kept: what happened between it and the one before, which it alone
    /// told, goes into the next one.
    fn lost(&mut self);
}

/// Where to look and how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the guest's names stand.
    pub places: Places,
    /// How far the guest reaches.
    pub extent: ExtentSource,
    /// What of the guest may be told.
    pub scope: Scope,
}
