//! The aggregator as one service: everything opened, two ports, one cycle, stopped in order.
//!
//! ```text
//!  agents' port ─> hub ─> cycle ─> hypervisor
//!                   └──────┴─────> repository
//!  operators' port ─> admin ─> (all of them)
//! ```
//!
//! A task that fails ends the service: half of it that looks alive is worse than a restart. All
//! that was acknowledged is on the disk by then.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use common::{clock::Clock, task::Tasks};
use thiserror::Error;

use crate::{
    admin::{Admin, AdminSetup, ReflectionError},
    cycle::{AfterEvent, Cycle, CycleError, CycleSetup, Settings, Steering},
    guest::{AgentHub, HubSetup},
    hypervisor::{Hypervisor, namespace::NamespaceError},
    listener::{self, Certificates, Limits, Port},
    repository::{Repository, RepositoryError},
    storage::{StorageArray, pushed::PushedArrays},
    vendor::AddressError,
};

mod home;
mod operator;
mod programs;
mod records;
mod run;

pub use home::{Home, HomeError, authority_of, fingerprint};
pub use operator::{Operator, reachable, write_operator};
pub use programs::{ProgramError, agent as agent_program, workload as workload_program};
pub use records::{ExportError, export};
pub use run::{StopSignals, opened, run};

/// How long tasks have to end: a hypervisor call under way, the open commits.
const GRACE: Duration = Duration::from_secs(30);
/// File descriptors that are kept for the store, the hypervisor and the operators.
const KEPT_FILES: u64 = 256;
/// Agents at once, however many files may be open.
const MOST_AGENTS: u64 = 50_000;
/// Agents behind one address, such as those of a site.
const MOST_AGENTS_OF_ONE_ADDRESS: usize = 4_096;
const MOST_OPERATORS: usize = 128;

/// Why the service cannot run.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Its folder cannot be worked with.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Machines cannot be made or reached.
    #[error("could not open the hypervisor")]
    Hypervisor(#[from] NamespaceError),
    /// An array cannot be reached safely.
    #[error("could not open the storage array {name}")]
    Array {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        cause: AddressError,
    },
    /// A vCenter cannot be reached safely.
    #[error("could not open a vCenter")]
    Centre(#[source] AddressError),
    /// A program is missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A port is taken, or not ours to take.
    #[error("could not listen on {address}; stop what listens there or name another port")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// What is set cannot be read.
    #[error("could not read what is set")]
    Repository(#[from] RepositoryError),
    /// The cycle cannot begin.
    #[error("could not begin the cycle")]
    Cycle(#[from] CycleError),
    /// The operators' port cannot be served.
    #[error(transparent)]
    Reflection(#[from] ReflectionError),
    /// The system does not tell us its signals.
    #[error("could not hear signals")]
    Signals(#[source] io::Error),
    /// A task failed; the log says which and why.
    #[error("a part of the aggregator failed; the log says which")]
    Failed,
    /// A task did not end in time.
    #[error("a part of the aggregator did not stop within {} s", GRACE.as_secs())]
    Stuck,
}

/// What a service stands on.
pub struct ServiceSetup {
    /// Its folder.
    pub home: Home,
    /// Who runs the machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Who keeps their storage.
    pub arrays: Vec<Arc<dyn StorageArray>>,
    /// The arrays that collectors of others tell of; they stand beside those.
    pub pushed: PushedArrays,
    /// What holds while the operator set nothing else.
    pub defaults: Settings,
    /// Where agents connect.
    pub agents: Vec<TcpListener>,
    /// Where operators connect.
    pub admin: Vec<TcpListener>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Called after every event that was written to a journal, for those who test crashes.
    pub after_event: Option<AfterEvent>,
}

impl std::fmt::Debug for ServiceSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceSetup").field("folder", &self.home.folder).finish_non_exhaustive()
    }
}

/// A service that runs.
pub struct Service {
    /// What it remembers.
    pub repository: Repository,
    /// How its cycle is steered.
    pub steering: Steering,
    /// Its agents.
    pub hub: AgentHub,
    tasks: Tasks,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Starts everything; when this returns both ports are served.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn start(setup: ServiceSetup) -> Result<Self, ServiceError> {
        let ServiceSetup { home, hypervisor, mut arrays, pushed, .. } = setup;
        let ServiceSetup { defaults, agents, admin, clock, after_event, .. } = setup;
        arrays.extend(pushed.values().map(|array| Arc::clone(array) as Arc<dyn StorageArray>));
        let token_key = home.token_key();
        let Home { repository, authority, list_key, .. } = home;
        let policy = repository.policy().await?.unwrap_or_else(|| defaults.policy.clone());
        let catalogue = repository.catalogue().await?;
        let (hub, seen) = AgentHub::new(HubSetup {
            repository: repository.clone(),
            authority: Arc::clone(&authority),
            list_key,
            clock: Arc::clone(&clock),
            hypervisor: Arc::clone(&hypervisor),
            policy,
            catalogue: catalogue.unwrap_or_else(|| defaults.catalogue.clone()),
        });
        let (cycle, steering) = Cycle::new(CycleSetup {
            repository: repository.clone(),
            hypervisor,
            arrays,
            guests: Arc::new(hub.clone()),
            clock: Arc::clone(&clock),
            seen,
            defaults,
            after_event,
        })
        .await?;
        let tasks = Tasks::default();
        let services = Admin::new(AdminSetup {
            repository: repository.clone(),
            steering: steering.clone(),
            hub: hub.clone(),
            pushed,
            clock: Arc::clone(&clock),
            token_key,
            stop: tasks.stop(),
        });
        let ports = [
            ("agents", agents_port(agents, &hub)),
            ("operators", operators_port(admin, services.routes()?)),
        ];
        for (name, port) in ports {
            let (authority, clock) = (Arc::clone(&authority), Arc::clone(&clock));
            tasks.spawn(name, listener::serve(port, authority, clock, tasks.stop()));
        }
        tasks.spawn("cycle", cycle.run(tasks.stop()));
        Ok(Self { repository, steering, hub, tasks })
    }

    /// Ends when a task failed.
    pub async fn failed(&self) {
        self.tasks.stop().cancelled().await;
    }

    /// Stops in order.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Stuck`] if a task does not end.
    pub async fn shut_down(self) -> Result<(), ServiceError> {
        if self.tasks.shut_down(GRACE).await { Ok(()) } else { Err(ServiceError::Stuck) }
    }
}

fn agents_port(sockets: Vec<TcpListener>, hub: &AgentHub) -> Port {
    let connections = files_at_once().saturating_sub(KEPT_FILES).clamp(64, MOST_AGENTS);
    let connections = usize::try_from(connections).unwrap_or(64);
    Port {
        sockets,
        certificates: Certificates::Optional,
        routes: hub.routes(),
        limits: Limits { connections, per_source: MOST_AGENTS_OF_ONE_ADDRESS.min(connections) },
    }
}

fn operators_port(sockets: Vec<TcpListener>, routes: tonic::service::Routes) -> Port {
    Port {
        sockets,
        certificates: Certificates::Required,
        routes,
        limits: Limits { connections: MOST_OPERATORS, per_source: MOST_OPERATORS / 2 },
    }
}

/// How many files may be open at once, once that is as many as we may ask for.
fn files_at_once() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Listens on an address.
///
/// # Errors
///
/// [`ServiceError::Listen`].
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address).map_err(|cause| ServiceError::Listen { address, cause })
}
