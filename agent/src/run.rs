//! The whole agent: puts the parts together, and takes them down when it is told to.
//!
//! ```text
//!  applier    resumes, then takes lists and looks at every application's health
//!  supervisor starts again what ended by itself
//!  sampler    looks, and spools what it saw           (once there is an identity)
//!  link       sends it, and brings lists              (once there is an identity)
//! ```
//!
//! Applications run whether or not there is an aggregator, and outlive the agent.

mod applying;
mod budget;
mod parts;
mod restraint;
mod sampler;
mod services;

use std::{path::PathBuf, sync::Arc, time::Duration};

use common::{
    clock::{Clock, SystemClock},
    id::VmId,
    sample::Facts,
    task::Tasks,
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::services::ServicesReader;
use self::{
    applying::Applying,
    restraint::Restrained,
    sampler::{Sampler, SamplerSetup},
};
use crate::{
    apply::{Applier, ApplierSetup, Offer, Report},
    config::{AllowList, Config, ConfigError},
    driver::{self, ApplicationDriver, Drivers, ProcessDriver},
    file::{self, FileError},
    identity::{Found, Identity, IdentityError, IdentityStore},
    link::{self, Link, LinkError, LinkSetup, Sampling},
    observe::{ExtentSource, Inputs, LinuxObserver, Observe as _, ObserveError, Places, Settings},
    platform::{Ending, Former},
    spool::{Spool, SpoolError},
};

/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether an application ended.
const SUPERVISE_EVERY: Duration = Duration::from_millis(500);
/// Lists that wait for the one before them.
const OFFERS_WAITING: usize = 8;
/// Steps of lists that wait for the line.
const REPORTS_WAITING: usize = 64;

/// Why the agent cannot run.
#[derive(Debug, Error)]
pub enum RunError {
    /// It is told what it cannot do.
    #[error("could not use the configuration")]
    Config(#[from] ConfigError),
    /// Its folder cannot be used.
    #[error("could not use the agent's folder")]
    Folder(#[from] FileError),
    /// Another agent uses the folder.
    #[error("another agent works in {}; stop it first", .0.display())]
    Taken(PathBuf),
    /// The machine cannot be seen.
    #[error("could not see the machine")]
    Observe(#[from] ObserveError),
    /// The spool cannot be used.
    #[error("could not use the spool")]
    Spool(#[from] SpoolError),
    /// The identity cannot be used.
    #[error("could not use the identity")]
    Identity(#[from] IdentityError),
    /// The line cannot be kept up.
    #[error("could not keep the line up")]
    Link(#[from] LinkError),
    /// The system gives no threads.
    #[error("could not start threads")]
    Runtime(#[source] std::io::Error),
    /// The system does not tell signals.
    #[error("could not hear signals")]
    Signals(#[source] std::io::Error),
    /// A part of the agent failed; it was said which.
    #[error("a part of the agent failed")]
    Part,
}

/// Runs the agent until it is told to end.
///
/// # Errors
///
/// See [`RunError`].
pub async fn run(config: Config, former: Former) -> Result<(), RunError> {
    let list = Arc::new(config.allow_list()?);
    file::make_folder(&config.folder)?;
    let _lock = parts::only_one(&config)?;
    let tasks = Tasks::default();
    let told_to_end = listen_for_the_end(&tasks)?;
    let done = Agent::start(&tasks, config, list, former).await;
    if done.is_ok() {
        tasks.stop().cancelled().await;
    }
    let was_told = told_to_end.is_cancelled();
    if !tasks.shut_down(GRACE).await {
        warn!("some tasks did not end in time");
    }
    info!("agent ended; applications go on");
    done?;
    if was_told { Ok(()) } else { Err(RunError::Part) }
}

/// Stops all tasks when the agent is told to end; what is given says whether it was.
fn listen_for_the_end(tasks: &Tasks) -> Result<CancellationToken, RunError> {
    let mut ending = Ending::listen().map_err(RunError::Signals)?;
    let (stop, told) = (tasks.stop(), CancellationToken::new());
    let tell = told.clone();
    tasks.spawn("signals", async move {
        tokio::select! {
            () = ending.told() => tell.cancel(),
            () = stop.cancelled() => {}
        }
        stop.cancel();
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(told)
}

/// The parts that are there from the start.
struct Agent<'a> {
    tasks: &'a Tasks,
    config: Config,
    clock: Arc<dyn Clock>,
    drivers: Arc<Drivers>,
    process: Arc<ProcessDriver>,
}

/// The applier's ends that the line holds.
struct Ends {
    offers: mpsc::Sender<Offer>,
    reports: mpsc::Receiver<Report>,
    last_report: watch::Receiver<Option<Report>>,
    mix: watch::Receiver<common::mix::EffectiveMix>,
    vm: watch::Sender<Option<VmId>>,
}

impl<'a> Agent<'a> {
    async fn start(
        tasks: &'a Tasks,
        config: Config,
        list: Arc<AllowList>,
        former: Former,
    ) -> Result<(), RunError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let process = Arc::new(ProcessDriver::open(parts::process_setup(&config, former))?);
        let systemd = driver::systemd().await;
        let drivers = Arc::new(Drivers::new(Arc::clone(&list), Arc::clone(&process), systemd));
        let agent = Self { tasks, config, clock, drivers, process };
        agent.supervise();
        let ends = agent.apply(list);
        let mut services = ServicesReader::new(agent.config.services);
        let settings = Settings {
            places: Places {
                dmi: agent.config.dmi.clone(),
                machine_id: agent.config.machine_id.clone(),
            },
            extent: ExtentSource::default(),
            scope: agent.config.scope.clone(),
        };
        let mut observer = LinuxObserver::new(settings);
        let inputs = Inputs { services: services.read().await, ..Inputs::default() };
        let facts = observer.observe(&inputs, agent.clock.now())?.facts;
        let store = IdentityStore::new(&agent.config);
        let Some(identity) = agent.identity(&store, &facts).await? else { return Ok(()) };
        ends.vm.send_replace(Some(identity.vm().clone()));
        agent.go_on(identity, ends, (Box::new(observer), services, store, facts))
    }

    /// The identity of this machine, by enrolment if there is none; `None` if the agent ends.
    async fn identity(
        &self,
        store: &IdentityStore,
        facts: &Facts,
    ) -> Result<Option<Identity>, RunError> {
        let is_clone = match store.find()? {
            Found::Own(identity) if !identity.has_ended(self.clock.now()) => {
                return Ok(Some(*identity));
            }
            Found::Own(_) => {
                warn!("certificate ended while the agent was away; enrolling anew");
                false
            }
            Found::None => false,
            Found::Clone => {
                Spool::wipe(&self.spool_folder())?;
                true
            }
        };
        let (address, stop) = (self.config.aggregator.as_str(), self.tasks.stop());
        Ok(link::enrol((address, store), facts, is_clone, &stop).await?)
    }

    fn spool_folder(&self) -> PathBuf {
        self.config.folder.join("spool")
    }

    /// Starts what needs an identity.
    fn go_on(
        &self,
        identity: Identity,
        ends: Ends,
        (observer, services, store, first): (
            Box<LinuxObserver>,
            ServicesReader,
            IdentityStore,
            Facts,
        ),
    ) -> Result<(), RunError> {
        let now = self.clock.now();
        let spool = Spool::open(&self.spool_folder(), self.config.spool_bytes, now)?;
        let (sampling_sender, sampling) = watch::channel(Sampling::default());
        let (resynchronise, asked) = watch::channel(0);
        let (facts_sender, facts) = watch::channel(first);
        let sampler = Sampler::new(SamplerSetup {
            observer,
            services,
            spool: spool.clone(),
            clock: Arc::clone(&self.clock),
            sampling,
            asked,
            mix: ends.mix.clone(),
            drivers: Arc::clone(&self.drivers),
            process: Arc::clone(&self.process),
            facts: facts_sender,
            restrained: Restrained::new(self.config.budget),
        });
        self.tasks.spawn("sampler", sampler.run(self.tasks.stop()));
        let setup = LinkSetup {
            address: self.config.aggregator.clone(),
            store,
            facts,
            mix: ends.mix,
            spool,
            reports: ends.reports,
            last_report: ends.last_report,
            offers: ends.offers,
            sampling: sampling_sender,
            resynchronise,
        };
        let link = Link::new(setup, identity, Arc::clone(&self.clock), self.tasks.stop());
        self.tasks.spawn("link", link.run());
        Ok(())
    }

    fn supervise(&self) {
        let (process, stop) = (Arc::clone(&self.process), self.tasks.stop());
        self.tasks.spawn("supervisor", async move {
            let mut tick = time::interval(SUPERVISE_EVERY);
            tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), tokio::task::JoinError>(()),
                    _ = tick.tick() => {}
                }
                let process = Arc::clone(&process);
                tokio::task::spawn_blocking(move || process.tick()).await?;
            }
        });
    }

    fn apply(&self, list: Arc<AllowList>) -> Ends {
        let (reports_sender, reports) = mpsc::channel(REPORTS_WAITING);
        let (offers, offered) = mpsc::channel(OFFERS_WAITING);
        let (vm, bound) = watch::channel(None);
        let (ledger, damage) = parts::open_ledger(&self.config);
        let observes_only = "it only observes; set apply = true in agent.toml";
        let forbidden = damage.or_else(|| (!self.config.apply).then(|| observes_only.to_owned()));
        let applier = Applier::new(ApplierSetup {
            ledger,
            list,
            driver: Arc::clone(&self.drivers) as Arc<dyn ApplicationDriver>,
            clock: Arc::clone(&self.clock),
            forbidden,
            reports: reports_sender,
        });
        let (last_report, mix) = (applier.last_report(), applier.mix());
        let applying = Applying { applier, offered, bound };
        self.tasks.spawn("applier", applying.run(self.tasks.stop()));
        Ends { offers, reports, last_report, mix, vm }
    }
}
