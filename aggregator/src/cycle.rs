//! Drives the rounds: the only module that knows both the reasoning and the adapters.
//!
//! ```text
//!  samples ──┐                                          ┌─> driver of a plan ─┐
//!  hypervisor┼─> windows ─> findings ─> proposals ─> book                     ├─> journal
//!  operators ┘      └─> one commit ─> sealed            └─> driver of a plan ─┘
//! ```
//!
//! The wheel does one thing after the other: it takes samples in, closes windows, commits each with
//! all that follows from it, proposes, and obeys operators. Plans are carried out beside it, each by
//! a driver of its own, so that no clone that takes long keeps a window from closing.
//!
//! Findings rest on the windows held, those of before a restart among them; yet nothing is proposed
//! before a full window since the start, and no approved plan begins before as many of them as the
//! policy needs. What had
//! begun goes on at once. While the hypervisor does not answer, windows close and no plan begins.

mod arrays;
mod book;
mod driver;
mod looks;
mod memory;
mod notices;
mod orders;
mod own;
mod proposals;
mod recovery;
mod shared;
mod steering;
mod steps;
mod supposing;
mod windows;

use std::{fmt, sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    id::{PlanId, WindowId},
    mix::MixHash,
    task::Chain,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::{arrays::Arrays, looks::Looked, shared::Shared, steering::Command};
pub use self::{
    steering::Steering,
    supposing::{Answer, At, Ground, Hearer, WhatIf},
};
use crate::{
    catalogue::Catalogue,
    grouping::{BadRules, GroupRules},
    guest::Guests,
    hypervisor::Hypervisor,
    journal::Stage,
    plan::{BadSupposition, Scope},
    policy::{BadPolicy, Policy},
    repository::{Repository, RepositoryError},
    storage::StorageArray,
    window::{Seen, Windows},
};

/// Something that happened, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// What kind of thing: `window_closed`, `plan_proposed`, `plan_superseded`, `plan_waits`, `stage_changed`,
    /// `step_asked`, `step_done`, `step_undone`, `judged`, `machine_appeared`, `machine_gone`,
    /// `hypervisor_unreachable`, `hypervisor_reachable`, `hypervisor_first_look`,
    /// `storage_unreachable`, `storage_reachable`, `settings_changed`.
    pub kind: &'static str,
    /// The plan it is about.
    pub plan: Option<PlanId>,
    /// What happened, for people.
    pub text: String,
}

/// What the operator set, as it is now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Thresholds and lengths.
    pub policy: Policy,
    /// The applications.
    pub catalogue: Catalogue,
    /// Machines left out.
    pub scope: Scope,
    /// What belongs together and apart.
    pub groups: GroupRules,
}

fn kept(oldest: Option<&WindowId>) -> String {
    match oldest {
        Some(oldest) => {
            format!("the oldest that is kept is {oldest}, `sinterctl windows` lists them")
        }
        None => "none is kept yet".to_owned(),
    }
}

/// Why something an operator asked for was not done.
#[derive(Debug, Error)]
pub enum SteeringError {
    /// There is no such plan.
    #[error("there is no plan {0}; `sinterctl plans` lists them")]
    NoPlan(PlanId),
    /// The plan is past that, or not that far.
    #[error("plan {plan} is {stage:?}; {remedy}")]
    Stage {
        /// Which plan.
        plan: PlanId,
        /// Where it stands.
        stage: Stage,
        /// What can be done instead.
        remedy: &'static str,
    },
    /// Another plan was looked at than the one that is there.
    #[error("plan {plan} has basis {present}, not {given}; look at it again")]
    Basis {
        /// Which plan.
        plan: PlanId,
        /// What was given.
        given: String,
        /// What it has.
        present: MixHash,
    },
    /// A value of the policy nobody can work with.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// A rule of grouping nobody can work with.
    #[error(transparent)]
    Groups(#[from] BadRules),
    /// The rules of grouping were changed since they were read.
    #[error("version is {given}, the rules are at {present}; read them again and change those")]
    GroupsVersion {
        /// What was given.
        given: u64,
        /// What it is.
        present: u64,
    },
    /// Nobody can plan on what was supposed.
    #[error(transparent)]
    Supposition(#[from] BadSupposition),
    /// The moment asked about is not kept.
    #[error("{at}; {}", kept(.oldest.as_ref()))]
    NoWindow {
        /// What was asked for.
        at: At,
        /// The oldest window that is kept.
        oldest: Option<WindowId>,
    },
    /// The window asked about was kept by a version that kept less, or its joining broke down.
    #[error("window {0} is kept without the rows that planning needs; name another one")]
    NotJoined(WindowId),
    /// It could not be remembered.
    #[error("could not remember it")]
    Repository(#[from] RepositoryError),
    /// The cycle has ended.
    #[error("the aggregator is shutting down; try again")]
    Ended,
}

/// Why the wheel stands still.
#[derive(Debug, Error)]
pub enum CycleError {
    /// What is not remembered must not be done.
    #[error("could not remember what happens")]
    Repository(#[from] RepositoryError),
}

/// Hears how many journal events were written since the start, after each: where a crash is to be
/// made for a test, it is made there.
pub type AfterEvent = Arc<dyn Fn(u64) + Send + Sync>;

/// What a cycle stands on.
pub struct CycleSetup {
    /// Where all is remembered.
    pub repository: Repository,
    /// Who runs the machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Who keeps their storage.
    pub arrays: Vec<Arc<dyn StorageArray>>,
    /// The agents.
    pub guests: Arc<dyn Guests>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Samples as they become durable.
    pub seen: mpsc::Receiver<Seen>,
    /// What holds while nothing else is set.
    pub defaults: Settings,
    /// Hears of every event written.
    pub after_event: Option<AfterEvent>,
}

impl fmt::Debug for CycleSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CycleSetup").field("defaults", &self.defaults).finish_non_exhaustive()
    }
}

/// The wheel: windows close, findings and plans come of them, approved plans are carried out.
pub struct Cycle {
    shared: Arc<Shared>,
    windows: Windows,
    seen: mpsc::Receiver<Seen>,
    commands: mpsc::Receiver<Command>,
    /// When old windows were last forgotten.
    swept_at: Option<Timestamp>,
    /// Up to when the windows are that the history kept last holds.
    kept_at: Timestamp,
    /// The hypervisor is being asked; never twice at a time.
    looks: JoinSet<Looked>,
    next_look: Instant,
    is_reachable: bool,
    arrays: Arrays,
    drivers: JoinSet<(PlanId, Result<(), RepositoryError>)>,
}

impl fmt::Debug for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cycle").field("started_at", &self.shared.started_at).finish_non_exhaustive()
    }
}

/// The wheel looks up at least this often, so that a clock that was set finds its window closed.
const LONGEST_NAP: Duration = Duration::from_secs(1);

impl Cycle {
    /// A cycle that goes on where the repository says the last one stopped.
    ///
    /// # Errors
    ///
    /// If the repository does not answer.
    pub async fn new(setup: CycleSetup) -> Result<(Self, Steering), CycleError> {
        recovery::recover(setup).await
    }

    /// Turns until `stop`. A call under way is finished, never cut.
    ///
    /// # Errors
    ///
    /// When the repository can no longer be written.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), CycleError> {
        let stop = stop.child_token();
        let outcome = self.turn(&stop).await;
        // Drivers end their waiting and finish their calls; what is left of their plans is done
        // after the next start.
        stop.cancel();
        for filed in self.shared.book.all() {
            filed.interrupt().cancel();
        }
        self.commands.close();
        self.looks.abort_all();
        let mut ended = outcome;
        while let Some(driver) = self.drivers.join_next().await {
            if let Ok((_, Err(cause))) = driver {
                ended = ended.and(Err(cause.into()));
            }
        }
        ended
    }

    async fn turn(&mut self, stop: &CancellationToken) -> Result<(), CycleError> {
        self.begin_plans(stop).await?;
        let mut is_fed = true;
        loop {
            let nap = self.nap();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                seen = self.seen.recv(), if is_fed => match seen {
                    Some(seen) => self.take_in(seen),
                    None => is_fed = false,
                },
                () = time::sleep_until(self.next_look), if self.looks.is_empty() => self.look(),
                Some(looked) = self.looks.join_next() => {
                    self.take_look(looked.unwrap_or_else(looks::broken));
                }
                () = time::sleep(nap) => {
                    if self.close_windows().await? {
                        self.begin_plans(stop).await?;
                    }
                }
                Some(command) = self.commands.recv() => {
                    self.obey(command).await;
                    self.begin_plans(stop).await?;
                }
                Some(driver) = self.drivers.join_next() => {
                    self.driver_ended(driver)?;
                    self.begin_plans(stop).await?;
                }
                () = self.shared.wake.notified() => self.begin_plans(stop).await?,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let Command { order, reply } = command;
        let outcome = self.shared.obey(order).await;
        self.windows.set_timing(crate::window::Timing::of(&self.shared.settings().policy));
        // Whoever asked may have gone away; what was ordered is done all the same.
        drop(reply.send(outcome));
    }

    fn driver_ended(
        &mut self,
        driver: Result<(PlanId, Result<(), RepositoryError>), tokio::task::JoinError>,
    ) -> Result<(), CycleError> {
        match driver {
            Ok((plan, outcome)) => {
                if let Some(filed) = self.shared.book.get(&plan) {
                    filed.set_driven(false);
                }
                Ok(outcome?)
            }
            // Its plan stays busy: nobody else touches its machines until the next start.
            Err(cause) => {
                error!(cause = %Chain(&cause), "driver of a plan broke down, start again");
                Ok(())
            }
        }
    }

    fn nap(&self) -> Duration {
        let now = self.shared.clock.now();
        self.windows.due_at().map_or(LONGEST_NAP, |due| due.since(now)).min(LONGEST_NAP)
    }
}
