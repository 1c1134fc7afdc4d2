//! Applications outlive the agent, and are found again; one that ends is started again.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use common::{mix::Setup, wire::agent::v1::ApplyStage};
use tokio::time::{self, Instant};
use world::{Aggregator, Applications, Guest, Ways, is, list, told};

const APPLICATIONS: &str = r#"
    [steady]
    driver = "process"
    command = ["/bin/sleep", "9130001"]
    autostart = true
    [other]
    driver = "process"
    command = ["/bin/sleep", "9130002"]
    [wrong]
    driver = "process"
    command = ["/does/not/exist"]
    health = { kind = "running", within_seconds = 3 }
"#;

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited for: {what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

fn only(running: &BTreeMap<String, BTreeSet<i32>>, mark: &str) -> Option<i32> {
    let of_it = running.get(mark)?;
    (running.len() == 1 && of_it.len() == 1).then(|| *of_it.first().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_outlives_the_agent_and_is_found_again() {
    let applications = Applications(vec!["1", "2"], "913000".into());
    let aggregator = Aggregator::start(Ways::default()).await;
    let mut guest = Guest::new(&aggregator, APPLICATIONS);

    guest.start();
    let first = until("the application", || only(&applications.running(), "1")).await;
    aggregator.wait("a hello", |known| !known.hellos.is_empty()).await;
    assert!(guest.terminate(), "{}", guest.log());
    assert_eq!(only(&applications.running(), "1"), Some(first), "it lives on");

    guest.start();
    aggregator.wait("another hello", |known| known.hellos.len() >= 2).await;
    until("the log", || guest.log().contains("application found running").then_some(())).await;
    assert_eq!(only(&applications.running(), "1"), Some(first), "it was not started twice");

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let second =
        until("another process", || only(&applications.running(), "1").filter(|pid| *pid != first))
            .await;
    assert_ne!(second, first);

    // A list that cannot be carried out leaves it untouched.
    let before = told(aggregator.known().hellos[0].mix.clone()).applications;
    let mut after = before.clone();
    after.0.insert("wrong".parse().unwrap(), Setup::default());
    assert!(aggregator.offer(&list(1, &before, &after)).await);
    aggregator
        .wait("the undoing", |known| known.reports.iter().any(|r| is(r, 1, ApplyStage::Undone)))
        .await;
    assert_eq!(only(&applications.running(), "1"), Some(second));
    let reason = aggregator.known().reports.last().unwrap().reason.clone();
    assert!(reason.contains("wrong"), "{reason}");

    // And one that can be is.
    after.0.remove(&"wrong".parse().unwrap());
    after.0.remove(&"steady".parse().unwrap());
    after.0.insert("other".parse().unwrap(), Setup::default());
    assert!(aggregator.offer(&list(2, &before, &after)).await);
    aggregator
        .wait("the applying", |known| known.reports.iter().any(|r| is(r, 2, ApplyStage::Applied)))
        .await;
    assert!(only(&applications.running(), "2").is_some(), "{:?}", applications.running());
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_2_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, "aggregator = \"nowhere\"\nauthority_fingerprint = \"12\"\n").unwrap();
    for command in ["check-config", "run"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sinter-agent"))
            .args([command, "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("aggregator is nowhere; give it as HOST:PORT"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_listens_on_no_port() {
    let aggregator = Aggregator::start(Ways::default()).await;
    let mut guest = Guest::new(&aggregator, "");
    guest.start();
    aggregator.wait("samples", |known| known.samples.len() >= 3).await;
    let known = aggregator.known();
    let seen = known.observation.as_ref().unwrap();
    let own = seen.connections.values().filter(|row| {
        row.direction == common::sample::Direction::Listener
            && row.holder.application().is_some_and(|name| name.as_str() == "sinter-agent")
    });
    assert_eq!(own.count(), 0);
    assert!(seen.processes.values().any(|process| process.name == "sinter-agent"));
}
