//! SIGKILL of a real agent while it applies a list: afterwards one of the two mixes runs, whole.
//!
//! What runs is looked at from outside, in the process table; what the agent believes, in its
//! ledger and in what it tells.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use agent::ledger::Ledger;
use common::mix::{ApplicationMix, Setup};
use futures::future::join_all;
use rand::Rng as _;
use tokio::time::{self, Instant};
use world::{Aggregator, Applications, Guest, Ways, list, told};

/// Guests at once, and kills in each.
const GUESTS: usize = 5;
const KILLS: usize = 10;

/// One application changes a setting, one goes, one comes, one stays.
fn applications(prefix: &str) -> String {
    format!(
        r#"
        [stays]
        driver = "process"
        command = ["/bin/sleep", "{prefix}1"]
        autostart = true
        [changes]
        driver = "process"
        command = ["/bin/sleep", "{prefix}${{last}}"]
        settings = {{ last = "2" }}
        after = ["stays"]
        autostart = true
        [goes]
        driver = "process"
        command = ["/bin/sleep", "{prefix}4"]
        after = ["changes"]
        autostart = true
        [comes]
        driver = "process"
        command = ["/bin/sleep", "{prefix}5"]
        after = ["changes"]
        "#
    )
}

fn one() -> ApplicationMix {
    let names = ["stays", "changes", "goes"];
    ApplicationMix(names.map(|name| (name.parse().unwrap(), Setup::default())).into())
}

fn other() -> ApplicationMix {
    let settings = [("last".to_owned(), "3".to_owned())].into();
    let changes = Setup { settings, ..Setup::default() };
    ApplicationMix(
        [("stays", Setup::default()), ("changes", changes), ("comes", Setup::default())]
            .map(|(name, setup)| (name.parse().unwrap(), setup))
            .into(),
    )
}

/// The marks of the processes of a mix.
fn marks(mix: &ApplicationMix) -> BTreeSet<String> {
    let marks = if *mix == one() { ["1", "2", "4"] } else { ["1", "3", "5"] };
    marks.map(str::to_owned).into()
}

/// The mix that runs whole, if one does: each of its applications once, and nothing else.
fn whole(running: &BTreeMap<String, BTreeSet<i32>>) -> Option<ApplicationMix> {
    let is_single = running.values().all(|processes| processes.len() == 1);
    let marks_of: BTreeSet<String> = running.keys().cloned().collect();
    [one(), other()].into_iter().find(|mix| is_single && marks(mix) == marks_of)
}

async fn settled(guest: &Guest, applications: &Applications) -> ApplicationMix {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let running = whole(&applications.running());
        let ledger = Ledger::open(&guest.path("state")).unwrap();
        let account = ledger.account();
        if account.change.is_none() && running.as_ref() == Some(&account.mix) {
            return account.mix.clone();
        }
        assert!(
            Instant::now() < until,
            "after 30 s neither mix is whole: {:?}, ledger {account:?}",
            applications.running()
        );
        time::sleep(Duration::from_millis(20)).await;
    }
}

async fn kill_over_and_over(number: usize) -> BTreeSet<bool> {
    let prefix = format!("92{number}00");
    let applications_seen = Applications(vec!["1", "2", "3", "4", "5"], prefix.clone());
    let aggregator = Aggregator::start(Ways::default()).await;
    let mut guest = Guest::new(&aggregator, &applications(&prefix));
    let mut ends = BTreeSet::new();
    guest.start();
    for kill in 1..=KILLS {
        aggregator.wait("a hello", |known| known.hellos.len() >= kill).await;
        let before = settled(&guest, &applications_seen).await;
        let after = if before == one() { other() } else { one() };
        let generation = u64::try_from(kill).unwrap();
        assert!(aggregator.offer(&list(generation, &before, &after)).await);
        // Up to three times as long now and then, so that some lists are through.
        let most = if kill % 3 == 0 { 3_500 } else { 300 };
        time::sleep(Duration::from_millis(rand::rng().random_range(0..most))).await;
        guest.kill();

        guest.start();
        let found = settled(&guest, &applications_seen).await;
        aggregator.wait("a hello", |known| known.hellos.len() > kill).await;
        let hello = aggregator.known().hellos.last().unwrap().clone();
        assert!([&before, &after].contains(&&found));
        let told = told(hello.mix);
        assert!([&before, &after].contains(&&told.applications), "kill {kill}: {told:?}");
        ends.insert(found == after);
    }
    assert!(!guest.log().contains("runs already"), "{}", guest.log());
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_while_a_list_is_applied_leave_one_mix_whole() {
    let ends = join_all((1..=GUESTS).map(kill_over_and_over)).await;
    let ends: BTreeSet<bool> = ends.into_iter().flatten().collect();
    assert!(ends.contains(&false), "at least one list was broken off");
}
