//! Against a world of applications in memory that can refuse, stall and forget at each step.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use common::{
    list::{Action, ConfigurationList, Form, Listed, changes},
    mix::Setup,
    signing::ListKey,
};
use tempfile::TempDir;
use tokio::time;

use super::*;
use crate::{
    config::Wanted,
    driver::{DriverError, Unhealthy},
};

const APPLICATIONS: &str = r#"
    [store]
    driver = "process"
    command = ["/bin/store"]
    autostart = true
    [api]
    driver = "process"
    command = ["/bin/api", "${every}"]
    settings = { every = "2" }
    after = ["store"]
    autostart = true
    [report]
    driver = "process"
    command = ["/bin/report"]
    after = ["api"]
    [batch]
    driver = "process"
    command = ["/bin/batch"]
    autostart = true
"#;

/// What goes wrong, at which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It refuses and does nothing.
    Refuses,
    /// It does it and says it did not.
    Lies,
    /// It never answers, and has done nothing.
    StallsBefore,
    /// It never answers, and has done it.
    StallsAfter,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<AppName, (Vec<String>, common::mix::ConfigurationMix)>,
    sick: BTreeSet<AppName>,
    calls: usize,
    starts: usize,
    fault: Option<(usize, Fault)>,
    broken: bool,
}

/// The applications of a guest. They outlive every applier.
#[derive(Debug, Default)]
struct World(Mutex<State>);

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn running(&self) -> BTreeMap<AppName, (Vec<String>, common::mix::ConfigurationMix)> {
        self.state().running.clone()
    }

    /// What is to go wrong with this call.
    fn next_call(&self) -> Option<Fault> {
        let mut state = self.state();
        state.calls += 1;
        if state.broken {
            return Some(Fault::Refuses);
        }
        let (calls, fault) = (state.calls, state.fault);
        fault.filter(|(at, _)| *at == calls).map(|(_, fault)| fault)
    }

    async fn act(&self, name: &AppName, act: impl FnOnce(&mut State)) -> Result<(), DriverError> {
        let fault = self.next_call();
        if !matches!(fault, Some(Fault::Refuses | Fault::StallsBefore)) {
            act(&mut self.state());
        }
        match fault {
            None => Ok(()),
            Some(Fault::Refuses | Fault::Lies) => Err(DriverError::Lasting(name.clone())),
            Some(Fault::StallsBefore | Fault::StallsAfter) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ApplicationDriver for World {
    async fn start(&self, wanted: &Wanted) -> Result<(), DriverError> {
        self.act(&wanted.name, |state| {
            let so = (wanted.command(), wanted.setup.mix);
            if state.running.insert(wanted.name.clone(), so.clone()) != Some(so) {
                state.starts += 1;
            }
        })
        .await
    }

    async fn stop(&self, application: &AppName) -> Result<(), DriverError> {
        self.act(application, |state| drop(state.running.remove(application))).await
    }

    async fn check(&self, wanted: &Wanted) -> Result<(), Unhealthy> {
        let state = self.state();
        if state.running.contains_key(&wanted.name) && !state.sick.contains(&wanted.name) {
            return Ok(());
        }
        Err(Unhealthy { application: wanted.name.clone(), reason: "it does not serve".into() })
    }

    async fn kept(&self) -> BTreeSet<AppName> {
        self.state().running.keys().cloned().collect()
    }
}

#[derive(Debug)]
struct StandingClock(Mutex<u64>);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(*self.0.lock().unwrap())
    }
}

/// A guest whose agent can end and start again.
struct Guest {
    folder: TempDir,
    world: Arc<World>,
    key: ListKey,
    clock: Arc<StandingClock>,
}

fn name(name: &str) -> AppName {
    name.parse().unwrap()
}

fn list() -> Arc<AllowList> {
    Arc::new(AllowList::parse(APPLICATIONS).unwrap())
}

/// `batch` goes, `api` gets another setting, `report` comes.
fn target() -> ApplicationMix {
    let mut mix = list().autostarted();
    mix.0.remove(&name("batch"));
    mix.0.insert(name("report"), Setup::default());
    let settings = [("every".to_owned(), "9".to_owned())].into();
    mix.0.insert(name("api"), Setup { settings, ..Setup::default() });
    mix
}

impl Guest {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            world: Arc::default(),
            key: ListKey::generate().unwrap(),
            clock: Arc::new(StandingClock(Mutex::new(1_000))),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn applier(&self) -> (Applier, mpsc::Receiver<Report>) {
        let (reports, told) = mpsc::channel(64);
        let applier = Applier::new(ApplierSetup {
            ledger: Ledger::open(self.path()).unwrap(),
            list: list(),
            driver: Arc::clone(&self.world) as Arc<dyn ApplicationDriver>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            forbidden: None,
            reports,
        });
        (applier, told)
    }

    async fn started(&self) -> (Applier, mpsc::Receiver<Report>) {
        let (mut applier, told) = self.applier();
        applier.resume().await.unwrap();
        applier.bind(&"vm-1".parse().unwrap()).unwrap();
        (applier, told)
    }

    fn list(
        &self,
        generation: u64,
        from: &ApplicationMix,
        to: &ApplicationMix,
    ) -> ConfigurationList {
        ConfigurationList {
            generation,
            vm: "vm-1".parse().unwrap(),
            plan: "plan-1".parse().unwrap(),
            base: from.hash(),
            expires_at: Timestamp::from_millis(2_000),
            form: Form::Delta,
            applications: changes(from, to),
            baseline: None,
        }
    }

    fn signed(&self, list: &ConfigurationList) -> Offer {
        let (signed, keys) = (self.key.sign(list).unwrap(), vec![self.key.public()]);
        Offer { signed, keys, server_time: Timestamp::from_millis(1_000) }
    }

    fn offer(&self) -> Offer {
        self.signed(&self.list(1, &list().autostarted(), &target()))
    }
}

fn last(told: &mut mpsc::Receiver<Report>) -> Report {
    std::iter::from_fn(|| told.try_recv().ok()).last().unwrap()
}

/// What the world looks like when that mix runs.
fn world_of(
    mix: &ApplicationMix,
) -> BTreeMap<AppName, (Vec<String>, common::mix::ConfigurationMix)> {
    let of = |(name, setup): (&AppName, &Setup)| {
        let wanted = list().wanted(name, setup).unwrap();
        (name.clone(), (wanted.command(), setup.mix))
    };
    mix.0.iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn a_good_list_is_applied_and_told_step_by_step() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    assert_eq!(guest.world.running(), world_of(&list().autostarted()));

    applier.offer(&guest.offer()).await;

    assert_eq!(guest.world.running(), world_of(&target()));
    let steps: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    let standings: Vec<_> = steps.iter().map(|step| step.standing).collect();
    assert_eq!(standings, [Standing::Verified, Standing::Applying, Standing::Applied]);
    let mix = &steps[2].mix;
    assert_eq!((mix.generation, mix.attempted_generation), (1, 1));
    assert_eq!(mix.applications, target());
    assert_eq!(mix.healthy, target().0.into_keys().collect());
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_exact_whichever_step_fails() {
    // Two calls stop and start, more come with the way back: each is made to fail in turn.
    let mut undone = 0;
    for at in 1..=20 {
        for fault in [Fault::Refuses, Fault::Lies] {
            let guest = Guest::new();
            let (mut applier, mut told) = guest.started().await;
            let before = guest.world.state().calls;
            guest.world.state().fault = Some((before + at, fault));

            applier.offer(&guest.offer()).await;

            let report = last(&mut told);
            let (mix, standing) = match report.standing {
                Standing::Applied => (target(), Standing::Applied),
                _ => (list().autostarted(), Standing::Undone),
            };
            assert_eq!(report.standing, standing, "call {at}, {fault:?}");
            assert_eq!(guest.world.running(), world_of(&mix), "call {at}, {fault:?}");
            assert_eq!(report.mix.applications, mix);
            assert_eq!(report.mix.attempted_generation, 1);
            undone += usize::from(standing == Standing::Undone);
        }
    }
    assert!(undone >= 8, "{undone} lists were undone");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_at_any_step_leaves_one_mix_whole() {
    let mut found = BTreeSet::new();
    for at in 1..=12 {
        for fault in [Fault::StallsBefore, Fault::StallsAfter] {
            let guest = Guest::new();
            let (mut applier, _told) = guest.started().await;
            let before = guest.world.state().calls;
            guest.world.state().fault = Some((before + at, fault));
            // The agent ends in the middle of that call.
            let offer = guest.offer();
            drop(time::timeout(Duration::from_secs(3600), applier.offer(&offer)).await);
            drop(applier);
            guest.world.state().fault = None;

            let (mut applier, mut told) = guest.started().await;
            applier.offer(&offer).await;

            let report = last(&mut told);
            let mix = match report.standing {
                Standing::Applied => target(),
                Standing::Undone => list().autostarted(),
                other => panic!("call {at}, {fault:?}: {other:?}"),
            };
            assert_eq!(guest.world.running(), world_of(&mix), "call {at}, {fault:?}");
            assert_eq!(report.mix.applications, mix);
            found.insert(format!("{:?}", report.standing));
        }
    }
    assert_eq!(found.len(), 2, "both ends were seen");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_never_healthy_undoes_the_list() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    guest.world.state().sick.insert(name("report"));

    applier.offer(&guest.offer()).await;

    let report = last(&mut told);
    assert_eq!(report.standing, Standing::Undone);
    assert!(report.reason.contains("report is not healthy"), "{}", report.reason);
    assert_eq!(guest.world.running(), world_of(&list().autostarted()));
    assert_eq!(report.mix.generation, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_sick_before_does_not_stand_in_the_way_back() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    guest.world.state().sick.extend([name("store"), name("report")]);
    applier.offer(&guest.offer()).await;
    assert_eq!(last(&mut told).standing, Standing::Undone);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_cannot_go_back_is_stranded_until_it_can() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    guest.world.state().broken = true;
    applier.offer(&guest.offer()).await;
    assert_eq!(last(&mut told).standing, Standing::Stranded);

    // Still broken: a newer list is refused, and it says why.
    let newer = guest.signed(&guest.list(2, &list().autostarted(), &target()));
    applier.offer(&newer).await;
    let report = last(&mut told);
    assert_eq!((report.standing, report.generation), (Standing::Refused, 2));
    assert!(report.reason.contains("stranded"), "{}", report.reason);

    guest.world.state().broken = false;
    applier.offer(&newer).await;
    assert_eq!(last(&mut told).standing, Standing::Applied);
    assert_eq!(guest.world.running(), world_of(&target()));
}

#[tokio::test(start_paused = true)]
async fn a_list_offered_again_is_answered_and_not_carried_out_again() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    applier.offer(&guest.offer()).await;
    let starts = guest.world.state().starts;

    applier.offer(&guest.offer()).await;
    let (mut restarted, mut told_again) = guest.started().await;
    restarted.offer(&guest.offer()).await;

    assert_eq!(last(&mut told).standing, Standing::Applied);
    assert_eq!(last(&mut told_again).standing, Standing::Applied);
    assert_eq!(guest.world.state().starts, starts);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_failed_is_not_tried_again() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    guest.world.state().sick.insert(name("report"));
    applier.offer(&guest.offer()).await;
    guest.world.state().sick.clear();
    let starts = guest.world.state().starts;

    applier.offer(&guest.offer()).await;

    let report = last(&mut told);
    assert_eq!(report.standing, Standing::Undone);
    assert!(report.reason.contains("not healthy"), "{}", report.reason);
    assert_eq!(guest.world.state().starts, starts);
}

#[tokio::test(start_paused = true)]
async fn what_an_application_cannot_start_is_tried_again_and_holds_up_nobody() {
    let guest = Guest::new();
    guest.world.state().fault = Some((1, Fault::Refuses));
    let (mut applier, _told) = guest.applier();
    applier.resume().await.unwrap();
    // What is looked at next is what was left out.
    assert_eq!(guest.world.running(), world_of(&list().autostarted()));
}

struct Case {
    why: &'static str,
    change: fn(&Guest, &mut ConfigurationList),
}

/// Every list here is signed, and wrong in one thing.
const WRONG: &[Case] = &[
    Case { why: "is meant for vm-2", change: |_, list| list.vm = "vm-2".parse().unwrap() },
    Case { why: "written against the mix", change: |_, list| list.base = target().hash() },
    Case { why: "expired", change: |_, list| list.expires_at = Timestamp::from_millis(999) },
    Case { why: "generation 3 was tried", change: |_, list| list.generation = 2 },
    Case {
        why: "not in this guest's allow-list",
        change: |_, list| {
            list.applications.push(Listed {
                name: name("shell"),
                action: Action::Add,
                settings: BTreeMap::new(),
                mix: common::mix::ConfigurationMix::default(),
            });
        },
    },
    Case {
        why: "has no setting \"path\"",
        change: |_, list| {
            let report = list.applications.iter_mut().find(|app| app.name == name("report"));
            report.unwrap().settings.insert("path".into(), "/etc".into());
        },
    },
    Case {
        why: "does not run",
        change: |_, list| {
            let report = list.applications.iter_mut().find(|app| app.name == name("report"));
            report.unwrap().action = Action::Keep;
        },
    },
    Case { why: "changes nothing", change: |_, list| list.applications.clear() },
];

#[tokio::test(start_paused = true)]
async fn a_list_that_is_wrong_in_one_thing_is_refused_before_anything_is_touched() {
    for Case { why, change } in WRONG {
        let guest = Guest::new();
        let (mut applier, mut told) = guest.started().await;
        // Something was tried and undone before, so that there is an older generation.
        guest.world.state().sick.insert(name("report"));
        applier.offer(&guest.signed(&guest.list(3, &list().autostarted(), &target()))).await;
        guest.world.state().sick.clear();
        let calls = guest.world.state().calls;

        let mut list = guest.list(4, &list().autostarted(), &target());
        change(&guest, &mut list);
        applier.offer(&guest.signed(&list)).await;

        let report = last(&mut told);
        assert_eq!(report.standing, Standing::Refused, "{why}");
        assert_eq!(report.generation, list.generation, "{why}");
        assert!(report.reason.contains(why), "{why}: {}", report.reason);
        assert_eq!(guest.world.state().calls, calls, "{why}");
        assert_eq!(report.mix.attempted_generation, 3, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_nobody_one_trusts_has_signed_is_refused_unread() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    let good = guest.offer();
    let mut changed = good.clone();
    changed.signed.list[10] ^= 1;
    let stranger = Offer { keys: vec![ListKey::generate().unwrap().public()], ..good };
    for (offer, why) in [(changed, "does not fit the list"), (stranger, "not trusted here")] {
        applier.offer(&offer).await;
        let report = last(&mut told);
        assert_eq!((report.standing, report.generation), (Standing::Refused, 0));
        assert!(report.reason.contains(why), "{}", report.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_bring_an_expired_list_to_life() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.started().await;
    *guest.clock.0.lock().unwrap() = 1;
    let late = Offer { server_time: Timestamp::from_millis(2_001), ..guest.offer() };
    applier.offer(&late).await;
    assert!(last(&mut told).reason.contains("expired"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_only_observes_touches_nothing() {
    let guest = Guest::new();
    let (mut applier, mut told) = guest.applier();
    applier.forbidden = Some("apply is not set".into());
    applier.resume().await.unwrap();
    applier.bind(&"vm-1".parse().unwrap()).unwrap();
    applier.offer(&guest.offer()).await;
    let report = last(&mut told);
    assert_eq!((report.standing, report.generation), (Standing::Refused, 1));
    assert!(report.reason.contains("apply is not set"));
    assert_eq!(guest.world.state().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clone_runs_its_sources_mix_and_takes_a_list_of_its_own() {
    let guest = Guest::new();
    let (mut applier, _told) = guest.started().await;
    applier.offer(&guest.offer()).await;

    let (mut clone, mut told) = guest.applier();
    clone.resume().await.unwrap();
    clone.bind(&"vm-2".parse().unwrap()).unwrap();
    assert_eq!(clone.mix().borrow().applications, target());
    assert_eq!(clone.mix().borrow().generation, 0);
    let list = guest.list(1, &target(), &list().autostarted());
    clone.offer(&guest.signed(&ConfigurationList { vm: "vm-2".parse().unwrap(), ..list })).await;
    assert_eq!(last(&mut told).standing, Standing::Applied);
}
