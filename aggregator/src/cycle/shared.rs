//! What the wheel, its drivers and those who steer it have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{
    clock::{Clock, Timestamp},
    id::{PlanId, VmId},
    task::Chain,
};
use thiserror::Error;
use tokio::{
    sync::{Notify, broadcast, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    AfterEvent, Notice, Settings,
    book::{Book, Filed},
    notices,
    own::Own,
};
use crate::{
    assembly::Surroundings,
    guest::Guests,
    history::{History, Written},
    hypervisor::{Hypervisor, Inventory},
    inference::{Context, Findings},
    join::Joined,
    journal::{Entry, Event, OutOfTurn},
    plan::{Restraint, Situation},
    repository::{Logged, Repository, RepositoryError, StoreError},
    storage::Survey,
};

/// Who acts when nobody asked for it.
pub(super) const OURSELVES: &str = "sinter";

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// How often a write is made again while the disk is full. Somebody makes room by hand.
const ROOM_PERIOD: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    pub(super) repository: Repository,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) guests: Arc<dyn Guests>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started_at: Timestamp,
    pub(super) settings: Mutex<Settings>,
    pub(super) known: Mutex<Known>,
    /// What the windows left behind. It is too large to be copied, so whoever infers holds it.
    pub(super) history: RwLock<History>,
    pub(super) book: Book,
    /// What the machine is known by that this runs on.
    pub(super) own: Own,
    pub(super) notices: broadcast::Sender<Notice>,
    /// Something changed that may let a plan begin or go on.
    pub(super) wake: Notify,
    /// Counts the closed windows.
    pub(super) closed: watch::Sender<u64>,
    pub(super) after_event: Option<AfterEvent>,
    pub(super) written: AtomicU64,
}

/// What is known now.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) inventory: Option<Arc<Inventory>>,
    /// What each array said last, by its name.
    pub(super) arrays: BTreeMap<String, Survey>,
    /// When the hypervisor last answered.
    pub(super) looked_at: Option<Timestamp>,
    pub(super) findings: Arc<Findings>,
    /// The last closed windows, oldest first, those from before the start among them.
    pub(super) recent: Arc<Vec<Arc<Joined>>>,
}

/// Why an event was not written.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    OutOfTurn(#[from] OutOfTurn),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Shared {
    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn surroundings(&self, interrupt: CancellationToken) -> Surroundings {
        Surroundings {
            hypervisor: Arc::clone(&self.hypervisor),
            guests: Arc::clone(&self.guests),
            repository: self.repository.clone(),
            clock: Arc::clone(&self.clock),
            policy: self.settings().policy,
            interrupt,
        }
    }

    pub(super) fn announce(&self, notice: Notice) {
        info!(kind = notice.kind, text = %notice.text, "announced");
        // Nobody needs to watch.
        drop(self.notices.send(notice));
    }

    pub(super) fn tell(&self, kind: &'static str, plan: Option<&PlanId>, text: String) {
        self.announce(Notice { at: self.clock.now(), kind, plan: plan.cloned(), text });
    }

    /// Writes an event of a plan down, then tells of it.
    pub(super) async fn write(
        &self,
        filed: &Filed,
        event: Event,
        actor: &str,
    ) -> Result<(), WriteError> {
        let _turn = filed.turn.lock().await;
        let plan = &filed.plan;
        let number = filed.number_of(&event)?;
        let former = filed.stage();
        let entry = Entry { at: self.clock.now(), event };
        let append = || self.repository.append_entry(&plan.id, number, &entry);
        if let Err(cause) = with_room(append).await {
            // Whether it is stored is known only by reading.
            let entries = self.repository.entries(&plan.id).await?;
            filed.replay(&entries)?;
            return Err(cause.into());
        }
        filed.take(&entry)?;
        if let Event::Judged { compared, .. } = &entry.event {
            let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
            let written = Written { plan: &plan.id, entry: number, at: entry.at };
            history.correct(written, compared);
        }
        let written = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(after_event) = &self.after_event {
            after_event(written);
        }
        let stage = filed.stage();
        let Entry { at, event } = &entry;
        if let Some(notice) = notices::of_event(plan, *at, event) {
            self.announce(notice);
        }
        let has_moved = stage != former;
        let moved = notices::of_stage(plan, *at, event, stage).filter(|_| has_moved);
        if let Some(notice) = moved {
            self.announce(notice);
        }
        let moved = has_moved.then(|| ("plan stage", format!("{former:?} to {stage:?}")));
        for (action, detail) in notices::logged(event).into_iter().chain(moved) {
            self.log(actor, action, plan.id.as_str(), detail).await?;
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Writes a row of the audit log.
    pub(super) async fn log(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: String,
    ) -> Result<(), RepositoryError> {
        let row = Logged {
            at: self.clock.now(),
            actor: actor.into(),
            action: action.into(),
            subject: subject.into(),
            detail,
        };
        with_room(|| self.repository.log(row.clone())).await.map(drop)
    }

    /// Calls `think` with what inference goes by now.
    pub(super) fn in_context<T>(
        &self,
        settings: &Settings,
        think: impl FnOnce(&Context<'_>) -> T,
    ) -> T {
        let (cooldowns, busy) = self.left_alone(settings);
        let former = Arc::clone(&self.known().findings);
        let Settings { policy, catalogue, scope, groups } = settings;
        let (cooldowns, busy, history) = (&cooldowns, &busy, &*self.history());
        let former = &*former;
        think(&Context { policy, catalogue, scope, groups, former, cooldowns, busy, history })
    }

    /// Calls `think` with the situation as it is known; `None` before anything is known.
    pub(super) fn in_situation<T>(
        &self,
        settings: &Settings,
        think: impl FnOnce(&Situation<'_>) -> T,
    ) -> Option<T> {
        let (findings, inventory) = {
            let known = self.known();
            (Arc::clone(&known.findings), known.inventory.clone()?)
        };
        let (_, busy) = self.left_alone(settings);
        let restraint = self.restraint(&inventory);
        let Settings { policy, catalogue, scope, .. } = settings;
        Some(think(&Situation {
            now: self.clock.now(),
            findings: &findings,
            inventory: &inventory,
            catalogue,
            policy,
            scope,
            busy: &busy,
            restraint: &restraint,
        }))
    }

    fn restraint(&self, inventory: &Inventory) -> Restraint {
        let now = self.clock.now();
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(DAY_MS));
        Restraint { own: self.own.among(inventory), ..self.book.begun_since(since) }
    }

    /// Machines that are left alone for a while, and those that are at work on.
    pub(super) fn left_alone(
        &self,
        settings: &Settings,
    ) -> (BTreeMap<VmId, Timestamp>, BTreeSet<VmId>) {
        let policy = &settings.policy;
        let windows = u32::try_from(policy.cooldown_windows).unwrap_or(u32::MAX);
        let length = policy.window().saturating_mul(windows);
        let now = self.clock.now();
        let mut cooldowns = self.book.cooldowns(length);
        cooldowns.retain(|_, until| *until > now);
        (cooldowns, self.book.busy())
    }

    /// Whether what the hypervisor said last is of the present.
    pub(super) fn is_fresh(&self) -> bool {
        let policy = self.settings().policy;
        let oldest = policy.window().max(look_period(&policy) * 3);
        let looked_at = self.known().looked_at;
        looked_at.is_some_and(|at| self.clock.now().since(at) <= oldest)
    }
}

/// How often the hypervisor is asked: as often as the agents speak, but neither so often that it
/// is a load nor so seldom that a machine that comes or goes is missed for long.
pub(super) fn look_period(policy: &crate::policy::Policy) -> Duration {
    policy.sample_period().clamp(Duration::from_secs(1), Duration::from_secs(10))
}

/// Writes, and waits while there is no room: nothing is lost, and nothing happens that is not
/// written.
pub(super) async fn with_room<T, F>(mut write: impl FnMut() -> F) -> Result<T, RepositoryError>
where
    F: Future<Output = Result<T, RepositoryError>>,
{
    loop {
        match write().await {
            Err(RepositoryError::Store(cause @ StoreError::Full { .. })) => {
                error!(cause = %Chain(&cause), "repository could not be written");
                time::sleep(ROOM_PERIOD).await;
            }
            result => return result,
        }
    }
}
