//! What a collector in another language hands in, over the reflection API and its own certificate.

use std::{env, path::Path};

use super::world::{Answer, World};

/// The interpreter that has grpcio and grpcio-reflection.
fn interpreter() -> Result<String, String> {
    let python = env::var("SINTER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_all = std::process::Command::new(&python)
        .args(["-c", "import grpc, grpc_reflection"])
        .output()
        .is_ok_and(|output| output.status.success());
    let lacking = "python3 with grpcio and grpcio-reflection; SINTER_PYTHON names one";
    if has_all { Ok(python) } else { Err(format!("it takes {lacking}")) }
}

async fn push(python: &str, world: &World, who: &str, array: &str) -> Answer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples/push_storage.py");
    let mut command = tokio::process::Command::new(python);
    command.arg(script).arg("--contexts").arg(world.context(who)).args(["--array", array]);
    command.kill_on_drop(true).output().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_in_python_hands_in_an_array_and_looks_at_nothing() {
    let python = match interpreter() {
        Ok(python) => python,
        Err(lacking) => return lab::demonstration::left_out("intake", &lacking),
    };
    let world = World::new().await;

    let taken = push(&python, &world, "collector", "filer").await;

    assert_eq!(taken.code, 0, "{taken:?}");
    assert!(taken.out.contains("within 300 s"), "{taken:?}");
    let mut devices = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while devices.is_empty() && std::time::Instant::now() < deadline {
        let shown = world.ctl_as("viewer", &["storage", "-o", "json"]).await.json();
        devices = shown["devices"].as_array().cloned().unwrap_or_default();
    }
    let is_told = |device: &serde_json::Value| {
        device["array"] == "filer" && device["absent"]["macs"] == "a block device has none"
    };
    assert!(!devices.is_empty() && devices.iter().all(is_told), "{devices:?}");
    let looked = world.ctl_as("collector", &["vms"]).await;
    assert!(looked.err.contains("is collector; this rpc is for viewer and above"), "{looked:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_on_plans_hands_in_no_evidence() {
    let python = match interpreter() {
        Ok(python) => python,
        Err(lacking) => return lab::demonstration::left_out("intake", &lacking),
    };
    let world = World::new().await;
    let by_operator = push(&python, &world, "operator", "filer").await;
    assert_eq!(by_operator.code, 1);
    assert!(by_operator.err.contains("this rpc is for collectors"), "{by_operator:?}");
    let not_its = push(&python, &world, "collector", "vault").await;
    assert_eq!(not_its.code, 1);
    assert!(not_its.err.contains("vault is told of by others"), "{not_its:?}");
    let log = world.ctl_as("admin", &["audit", "-o", "json"]).await.out;
    assert!(log.contains("storage push refused") && !log.contains("\"storage push\""), "{log}");
    let elsewhere = push(&python, &world, "collector", "nowhere").await;
    assert_eq!(elsewhere.code, 1);
    assert!(elsewhere.err.contains("NOT_FOUND"), "{elsewhere:?}");
    world.close().await;
}
