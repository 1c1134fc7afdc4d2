//! A world, and the aggregators that come and go in it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aggregator::{
    cycle::{AfterEvent, Cycle, CycleError, CycleSetup, Notice, Settings, Steering},
    journal::{Course, Entry, Stage},
    plan::{self, Plan, Restraint, Situation},
    policy::Policy,
    repository::Repository,
};
use common::{clock::Clock as _, id::PlanId};
use tokio::{sync::mpsc, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

use super::{Line, SimClock, SimGuests, SimHypervisor, SimStore, World, guests::PERIOD};

/// Nothing in the simulation takes longer than this.
const LONGEST: Duration = Duration::from_secs(3 * 3600);

/// A world, and what every aggregator in it starts with.
#[derive(Debug, Clone)]
pub struct Rig {
    /// The world.
    pub world: Arc<World>,
    /// What is remembered.
    pub store: SimStore,
    /// The time.
    pub clock: SimClock,
    /// What holds while nothing is set.
    pub settings: Settings,
    sequence: Arc<AtomicU64>,
}

/// An aggregator that runs.
#[derive(Debug)]
pub struct Aggregator {
    /// How it is steered.
    pub steering: Steering,
    /// What it reaches the world through.
    pub line: Line,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), CycleError>>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

/// When an aggregator dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Death {
    /// When it is told to.
    #[default]
    Natural,
    /// Right after so many events were written.
    AfterEvents(u64),
    /// Right after so many deeds were done to the world, before any reply.
    AfterDeeds(usize),
}

impl Rig {
    /// Over a fleet at rest.
    #[must_use]
    pub fn new() -> Self {
        let policy = Policy { shrink_minimum: 1.0, ..Policy::demonstration() };
        Self {
            world: Arc::new(World::fleet()),
            store: SimStore::default(),
            clock: SimClock::default(),
            settings: Settings { policy, ..Settings::default() },
            sequence: Arc::default(),
        }
    }

    /// What is remembered, whoever lives.
    #[must_use]
    pub fn repository(&self) -> Repository {
        Repository::new(Arc::new(self.store.clone()))
    }

    /// Starts an aggregator.
    pub async fn start(&self) -> Aggregator {
        self.start_to_die(Death::Natural).await
    }

    /// Starts an aggregator that dies.
    pub async fn start_to_die(&self, death: Death) -> Aggregator {
        let line = Line::default();
        let repository = Repository::new(Arc::new(self.store.through(&line)));
        let cut_after = match death {
            Death::AfterDeeds(deeds) => Some(deeds),
            _ => None,
        };
        let (world, clock) = (Arc::clone(&self.world), self.clock);
        let hypervisor = SimHypervisor { world, line: line.clone(), clock, cut_after };
        let guests = SimGuests { hypervisor: hypervisor.clone(), repository: repository.clone() };
        let (sender, seen) = mpsc::channel(64);
        let setup = CycleSetup {
            repository,
            hypervisor: Arc::new(hypervisor),
            arrays: Vec::new(),
            guests: Arc::new(guests),
            clock: Arc::new(self.clock),
            seen,
            defaults: self.settings.clone(),
            after_event: after_event(death, &line),
        };
        let (cycle, steering) = Cycle::new(setup).await.unwrap();
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let notices = Arc::new(Mutex::new(Vec::new()));
        tasks.spawn(listen(steering.subscribe(), Arc::clone(&notices), stop.clone()));
        tasks.spawn(cycle.run(stop.clone()));
        tasks.spawn(self.clone().speak(sender));
        Aggregator { steering, line, stop, tasks, notices }
    }

    /// All agents speak, once a period.
    async fn speak(self, to: mpsc::Sender<aggregator::window::Seen>) -> Result<(), CycleError> {
        loop {
            time::sleep(PERIOD).await;
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            let samples = self.world.state().samples(self.clock.now(), sequence);
            for seen in samples {
                if to.send(seen).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Files a plan that rests on how things are now.
    pub async fn file(&self, plan: Plan) -> Plan {
        let aggregator = self.start().await;
        self.until("the fleet is known", async || {
            let findings = self.repository().latest_findings().await.unwrap();
            let is_watched = aggregator.count("window_closed") >= 2;
            is_watched.then_some(findings).flatten()
        })
        .await;
        let findings = self.repository().latest_findings().await.unwrap().unwrap();
        let inventory = aggregator.steering.inventory().unwrap();
        let settings = aggregator.steering.settings();
        aggregator.stop().await;
        let situation = Situation {
            now: self.clock.now(),
            findings: &findings,
            inventory: &inventory,
            catalogue: &settings.catalogue,
            policy: &settings.policy,
            scope: &settings.scope,
            busy: &[].into(),
            restraint: Restraint::NONE,
        };
        let basis = plan::basis(&plan, &situation);
        let plan = Plan { basis, ..plan };
        self.repository().put_plan(&plan).await.unwrap();
        plan
    }

    /// What was written of a plan.
    pub async fn entries(&self, plan: &PlanId) -> Vec<Entry> {
        self.repository().entries(plan).await.unwrap()
    }

    /// Where a plan stands, by what was written.
    pub async fn stage(&self, id: &PlanId) -> Stage {
        let plan = self.repository().plan(id).await.unwrap().expect("the plan is filed");
        Course::replay(&plan, &self.entries(id).await).unwrap().stage()
    }

    /// Waits until a plan stands there.
    pub async fn until_stage(&self, id: &PlanId, stage: Stage) {
        let what = format!("{id} is {stage:?}");
        self.until(&what, async || (self.stage(id).await == stage).then_some(())).await;
    }

    /// Waits until nothing more happens to a plan, and says where it stands then.
    pub async fn until_final(&self, id: &PlanId) -> Stage {
        let what = format!("{id} is over");
        self.until(&what, async || Some(self.stage(id).await).filter(|stage| stage.is_final()))
            .await
    }

    /// Waits for something.
    ///
    /// # Panics
    ///
    /// If it takes too long.
    pub async fn until<T>(&self, what: &str, is_so: impl AsyncFn() -> Option<T>) -> T {
        let begun = time::Instant::now();
        loop {
            if let Some(found) = is_so().await {
                return found;
            }
            assert!(
                begun.elapsed() < LONGEST,
                "waited in vain until {what}\n{}",
                self.world.picture()
            );
            time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Aggregator {
    /// Stops it as an operator does.
    pub async fn stop(mut self) {
        self.stop.cancel();
        drop(self.steering);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// Stops it as a power cut does.
    pub async fn kill(mut self) {
        self.line.cut();
        self.tasks.shutdown().await;
    }

    /// What it told of so far.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }

    /// How often it told of such a thing.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.notices().iter().filter(|notice| notice.kind == kind).count()
    }
}

fn after_event(death: Death, line: &Line) -> Option<AfterEvent> {
    let Death::AfterEvents(most) = death else { return None };
    let line = line.clone();
    Some(Arc::new(move |written| {
        if written >= most {
            line.cut();
        }
    }))
}

async fn listen(
    mut from: tokio::sync::broadcast::Receiver<Notice>,
    into: Arc<Mutex<Vec<Notice>>>,
    stop: CancellationToken,
) -> Result<(), CycleError> {
    while let Some(Ok(notice)) = stop.run_until_cancelled(from.recv()).await {
        into.lock().unwrap().push(notice);
    }
    Ok(())
}
