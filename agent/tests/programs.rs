//! What a person asks the program for: what it sees, and what keeps it from its work.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use world::{Aggregator, Guest, Ways};

async fn ask(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    // The aggregator of these tests lives in this process and must go on meanwhile.
    let asked = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_sinter-agent")).args(arguments).output().unwrap()
    });
    asked.await.unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn doctor(config: &Path) -> (Option<i32>, Value) {
    let output = ask(&["doctor", "-o", "json", "--config", config.to_str().unwrap()]).await;
    (output.status.code(), json(&output))
}

/// The verdict of one check, and what was found.
fn check<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    (check["verdict"].as_str().unwrap(), check["found"].as_str().unwrap())
}

#[tokio::test]
async fn observe_shows_an_own_connection_without_any_configuration() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap().to_string();

    let output = ask(&["observe", "-o", "json", "--only", "connections,coverage"]).await;

    assert!(output.status.success() && output.stderr.is_empty());
    let seen = json(&output);
    let rows = seen["connections"].as_array().unwrap();
    let own = rows.iter().find(|row| row["local"] == local.as_str()).unwrap();
    assert_eq!(own["holder"]["process"]["process"]["pid"], std::process::id());
    assert!(seen.get("coverage").is_some() && seen.get("processes").is_none());
}

#[tokio::test]
async fn observe_after_a_while_tells_what_happened_since() {
    let output = ask(&["observe", "--after", "1", "-o", "json", "--only", "applications"]).await;
    let seen = json(&output);
    assert!(seen["over_ms"].as_u64().unwrap() >= 1000);
    assert!(!seen["applications"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn tables_that_go_into_a_file_have_no_colours() {
    let output = ask(&["observe", "--only", "applications,facts"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nAPPLICATION ") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn a_configuration_that_was_named_must_be_there() {
    let output = ask(&["observe", "--config", "/nowhere/agent.toml"]).await;
    assert_eq!(output.status.code(), Some(2));
    let (code, report) = doctor(Path::new("/nowhere/agent.toml")).await;
    assert_eq!(code, Some(2));
    assert_eq!(check(&report, "configuration").0, "fail");
    assert!(report["bad_configuration"].as_bool().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_a_guest_well_before_and_while_its_agent_runs() {
    let aggregator = Aggregator::start(Ways::default()).await;
    let mut guest = Guest::new(&aggregator, "");
    let config = guest.path("agent.toml");

    let (code, report) = doctor(&config).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(check(&report, "certificate"), ("warn", "none yet"));
    assert_eq!(check(&report, "aggregator's authority").0, "pass");
    assert!(check(&report, "clock").1.starts_with("agrees with the aggregator's"), "{report:#}");
    assert!(!guest.path("state").exists(), "it leaves nothing behind");

    guest.start();
    aggregator.wait("samples", |known| known.samples.len() > 2).await;
    let (code, report) = doctor(&config).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert!(check(&report, "spool").1.starts_with("in use by the running agent"));
    assert!(check(&report, "certificate").1.starts_with("agent a-1, good for 23 hours"));
    let seen = aggregator.known().samples.len();
    aggregator.wait("more samples", |known| known.samples.len() > seen + 2).await;

    assert!(guest.terminate());
    let (code, report) = doctor(&config).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert!(check(&report, "spool").1.contains("samples wait"));
    assert_eq!(aggregator.known().hellos.len(), 1, "the doctor opens no stream");
}

#[tokio::test]
async fn the_doctor_says_what_fails_and_what_to_do() {
    let aggregator = Aggregator::start(Ways::default()).await;
    let guest = Guest::new(&aggregator, "");
    let config = guest.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();

    let other = text.replace(&aggregator.fingerprint(), &"ab".repeat(32));
    fs::write(&config, other.replace("token = ", "token_file = \"/nowhere/token\"\n#")).unwrap();
    let (code, report) = doctor(&config).await;

    assert_eq!(code, Some(1));
    assert_eq!(check(&report, "aggregator's port").0, "pass");
    assert_eq!(check(&report, "aggregator's authority").0, "fail");
    assert_eq!(check(&report, "join token").0, "fail");

    fs::create_dir(guest.path("state")).unwrap();
    fs::write(guest.path("state/ledger"), "no ledger").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(&config, text.replace(&aggregator.address.to_string(), &nobody.to_string())).unwrap();
    let (code, report) = doctor(&config).await;
    assert_eq!(code, Some(1));
    assert_eq!(check(&report, "aggregator's port").0, "fail");
    assert_eq!(check(&report, "ledger").0, "fail");
    for check in report["checks"].as_array().unwrap() {
        let is_passed = check["verdict"] == "pass";
        assert_eq!(check["remedy"].is_null(), is_passed, "{check:#}");
    }
}
