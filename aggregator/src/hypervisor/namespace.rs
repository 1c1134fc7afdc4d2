//! Machines made of Linux namespaces and control groups on our own host.
//!
//! ```text
//!  host ── keeper (PID 1 of an own PID namespace; holds the private network)
//!            │  production ─┬─ p… ══ eth0 ┐
//!            │  trial i…    │             ├ machine: init ─ agent ─ applications
//!            │  uplink (lo) └─ m… ══ mgmt0┘
//!            └─ machines, visitors, probes: all die with the keeper
//! ```
//!
//! Everything that runs lives below the keeper, so that one SIGKILL ends all of it; everything
//! that is kept lies in one folder. A machine sees the host's programs read-only and nothing else
//! of it, and its processes hold no capability over the host. What is needed of the host are its
//! kernel and, for limits, a control group that we may divide.
//!
//! Verbs are plain blocking code on threads of their own; a lock file per machine keeps two verbs
//! on one machine apart, also those of two processes.

mod process;
mod layout;
mod group;
mod link;
mod user;
mod launch;
mod inner;
mod fabric;
mod world;
mod make;
mod machine;
mod copy;
mod swap;
mod visit;
mod probe;
pub(super) mod beside;
mod account;
mod verbs;
mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use common::id::VmId;
use ipnet::IpNet;
use thiserror::Error;
use tokio::task;

pub use self::rights::Ground;
use self::{launch::Program, world::World};
use super::{Allocation, HypervisorError};

/// On a machine whose limits this host does not let us enforce.
pub const LIMITS_NOT_ENFORCED: &str = "sinter:limits-not-enforced";

/// Why machines cannot be made here.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The host does not allow it.
    #[error("cannot make machines on this host: {missing}; {remedy}")]
    Host {
        /// What is missing.
        missing: String,
        /// What would help.
        remedy: String,
    },
    /// The system refused something.
    #[error("could not {what}")]
    System {
        /// What.
        what: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The order cannot be carried out, now or later.
    #[error("{reason}")]
    Refused {
        /// Why not.
        reason: String,
    },
}

impl NamespaceError {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    fn system(what: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), cause: cause.into() }
    }
}

impl From<NamespaceError> for HypervisorError {
    fn from(error: NamespaceError) -> Self {
        match error {
            NamespaceError::System { .. } => Self::Unreachable(Box::new(error)),
            NamespaceError::Host { .. } | NamespaceError::Refused { .. } => {
                Self::Refused { reason: error.to_string() }
            }
        }
    }
}

/// Names what was attempted when it fails.
trait Attempt<T> {
    fn or_could_not(self, what: impl FnOnce() -> String) -> Result<T, NamespaceError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn or_could_not(self, what: impl FnOnce() -> String) -> Result<T, NamespaceError> {
        self.map_err(|cause| NamespaceError::system(what(), cause))
    }
}

/// A machine to be made from nothing.
#[derive(Debug, Clone)]
pub struct MachineOrder {
    /// Its uuid, which its agent finds as SMBIOS product uuid.
    pub vm: VmId,
    /// Its name and host name.
    pub name: String,
    /// Its address on the production network.
    pub address: IpNet,
    /// What it is given.
    pub allocation: Allocation,
    /// Files in it, by absolute path as the machine sees them, with mode and contents. They lie
    /// below /etc, /var, /opt, /srv, /home or /root: the rest is the host's or empty at each start.
    pub files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    /// Labels.
    pub labels: BTreeSet<String>,
}

/// Machines made of namespaces, and the private network they are on. Cheap to clone.
///
/// Machines outlive this value and its process, as those of any hypervisor do; [`Self::destroy`]
/// ends them.
#[derive(Debug, Clone)]
pub struct NamespaceHypervisor {
    world: Arc<World>,
}

impl NamespaceHypervisor {
    /// To be called first thing in `main`, while there is one thread: without root this process
    /// gets a user namespace of its own, the one the machines in `folder` are in already, if there
    /// are any.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Host`] with what is missing.
    pub fn prepare_process(folder: &Path) -> Result<(), NamespaceError> {
        user::prepare(folder)
    }

    /// The inner parts (a machine's first process, the network's keeper, a probe) are this program
    /// again under a hidden first argument. To be called in `main` before arguments are parsed;
    /// `None` if it was called as itself.
    #[must_use]
    pub fn inner_main() -> Option<ExitCode> {
        inner::main()
    }

    /// The machines kept in `folder`; makes the private network if it is not there, and starts
    /// again what should run and does not. `agent` is the program that each machine runs.
    ///
    /// # Errors
    ///
    /// See [`NamespaceError`].
    pub async fn open(folder: &Path, agent: &Path) -> Result<Self, NamespaceError> {
        Self::opened(folder, agent, Program::own()?).await
    }

    /// As [`Self::open`], for a process that is not the program whose `main` calls
    /// [`Self::inner_main`]: `program` is.
    ///
    /// # Errors
    ///
    /// See [`NamespaceError`].
    pub async fn open_with(
        folder: &Path,
        agent: &Path,
        program: &Path,
    ) -> Result<Self, NamespaceError> {
        Self::opened(folder, agent, Program::at(program)?).await
    }

    async fn opened(folder: &Path, agent: &Path, program: Program) -> Result<Self, NamespaceError> {
        let (folder, agent) = (folder.to_owned(), agent.to_owned());
        let world = apart(move || World::open(&folder, &agent, program)).await?;
        Ok(Self { world: Arc::new(world) })
    }

    /// Where machines reach the aggregator, on a link that no trial takes away.
    #[must_use]
    pub fn uplink_address(&self) -> IpAddr {
        IpAddr::V4(layout::UPLINK)
    }

    /// A socket that listens at the uplink address; served by this process like any other. It
    /// does not block, as an async runtime wants it.
    ///
    /// # Errors
    ///
    /// If the port is taken there.
    pub fn uplink(&self, port: u16) -> Result<TcpListener, NamespaceError> {
        self.world.fabric.listen(port)
    }

    /// Makes a machine, stopped. One that is there already under that uuid is success.
    ///
    /// # Errors
    ///
    /// See [`NamespaceError`].
    pub async fn create(&self, order: &MachineOrder) -> Result<(), NamespaceError> {
        let order = order.clone();
        self.with(move |world| world.create(&order)).await
    }

    /// Runs a program on the production network that is no machine: a visitor from outside. It
    /// ends with [`Self::destroy`]; one of that name that runs already is success.
    ///
    /// # Errors
    ///
    /// See [`NamespaceError`].
    pub async fn visit(
        &self,
        name: &str,
        address: IpNet,
        command: &[String],
    ) -> Result<(), NamespaceError> {
        let (name, command) = (name.to_owned(), command.to_vec());
        self.with(move |world| world.visit(&name, address, &command)).await
    }

    /// Path on the host of a file inside a machine, so that tests and `dev` may put a fault there.
    /// What the host lends (`/usr` and the like) has no such path.
    #[must_use]
    pub fn path_in(&self, vm: &VmId, path: &Path) -> PathBuf {
        self.world.layout.path_in(vm, path)
    }

    /// Ends all machines, the private network and everything else of this folder; also what an
    /// earlier process that was killed left behind.
    ///
    /// # Errors
    ///
    /// See [`NamespaceError`].
    pub async fn destroy(folder: &Path) -> Result<(), NamespaceError> {
        let folder = folder.to_owned();
        apart(move || world::destroy(&folder)).await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&World) -> Result<T, NamespaceError> + Send + 'static,
    ) -> Result<T, NamespaceError> {
        let world = Arc::clone(&self.world);
        apart(move || work(&world)).await
    }
}

/// Runs blocking work beside the runtime. It goes on to its end if nobody waits for it any more:
/// a verb is never left half done by a caller who lost patience.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NamespaceError> + Send + 'static,
) -> Result<T, NamespaceError> {
    let span = tracing::Span::current();
    let outcome = task::spawn_blocking(move || span.in_scope(work)).await;
    outcome.map_err(|cause| NamespaceError::system("finish", io::Error::other(cause)))?
}
