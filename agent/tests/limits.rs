//! Limits by control groups on the very machine the tests run on, and what a stop leaves behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent::{
    config::{AllowList, Wanted},
    driver::{Groups, ProcessDriver, ProcessSetup},
};
use common::{
    mix::{ConfigurationMix, Setup},
    units::{Bytes, Millicores},
};

const APPLICATIONS: &str = r#"
    [family]
    driver = "process"
    command = ["/bin/sh", "-c", "/bin/sleep 9140001 & exec /bin/sleep 9140002"]
"#;

fn wanted(cpu: Option<u64>, memory: Option<u64>) -> Wanted {
    let mix = ConfigurationMix {
        cpu: cpu.map(Millicores),
        memory: memory.map(Bytes),
        ..ConfigurationMix::default()
    };
    let list = AllowList::parse(APPLICATIONS).unwrap();
    list.wanted(&"family".parse().unwrap(), &Setup { mix, ..Setup::default() }).unwrap()
}

fn driver(folder: &Path, groups: Groups) -> Arc<ProcessDriver> {
    let setup = ProcessSetup {
        folder: folder.to_owned(),
        launcher: env!("CARGO_BIN_EXE_sinter-agent").into(),
        groups,
        nice: None,
        oom_score: None,
    };
    Arc::new(ProcessDriver::open(setup).unwrap())
}

/// The groups whose names end so.
fn groups_of(name: &str) -> Vec<PathBuf> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"];
    let entries = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(name))
        .collect()
}

fn read(groups: &[PathBuf], file: &str) -> Option<String> {
    groups.iter().find_map(|group| fs::read_to_string(group.join(file)).ok())
}

#[expect(clippy::print_stdout, reason = "what is left out is said")]
fn is_left_out(groups: &Groups) -> bool {
    let can_write = fs::create_dir("/sys/fs/cgroup/memory/sinter-can-write")
        .or_else(|_| fs::create_dir("/sys/fs/cgroup/sinter-can-write"));
    for root in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"] {
        let made = Path::new(root).join("sinter-can-write");
        if made.exists() {
            fs::remove_dir(made).unwrap();
        }
    }
    if groups.nowhere().is_none() && can_write.is_ok() {
        return false;
    }
    println!("LEFT OUT: no control group may be made here");
    assert!(std::env::var("SINTER_REQUIRE_ALL").is_err(), "limits must be tested");
    true
}

#[tokio::test]
async fn an_application_is_limited_and_all_of_it_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let whose = folder.path().to_string_lossy().into_owned();
    let groups = Groups::find(Some(Path::new("/sys/fs/cgroup")), &whose);
    if is_left_out(&groups) {
        return;
    }
    let driver = driver(folder.path(), groups);
    let before = groups_of("-family");

    driver.start(&wanted(Some(500), Some(64 << 20))).await.unwrap();
    let mut made = groups_of("-family");
    made.retain(|group| !before.contains(group));
    assert_eq!(driver.unlimited(), [].into());
    let cpu = read(&made, "cpu.cfs_quota_us").or_else(|| read(&made, "cpu.max")).unwrap();
    assert!(cpu.starts_with("50000"), "{cpu}");
    let memory = read(&made, "memory.limit_in_bytes").or_else(|| read(&made, "memory.max"));
    assert_eq!(memory.unwrap().trim(), "67108864");
    let pid = driver.supervised().into_values().next().unwrap().pid;

    // Other limits need no other process.
    driver.start(&wanted(None, None)).await.unwrap();
    assert_eq!(driver.supervised().into_values().next().unwrap().pid, pid);
    let cpu = read(&made, "cpu.cfs_quota_us").or_else(|| read(&made, "cpu.max")).unwrap();
    assert!(cpu.starts_with("-1") || cpu.starts_with("max"), "{cpu}");

    driver.stop(&wanted(None, None).name).await.unwrap();
    assert!(made.iter().all(|group| !group.exists()), "its groups are gone, and so is all of it");
    assert_eq!(driver.supervised(), [].into());
}

#[tokio::test]
async fn where_nothing_can_be_limited_it_runs_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let driver = driver(folder.path(), Groups::none("nothing is mounted"));
    let wanted = wanted(Some(500), None);
    driver.start(&wanted).await.unwrap();
    assert!(driver.unlimited()[&wanted.name].contains("cpu is not limited: nothing is mounted"));
    driver.stop(&wanted.name).await.unwrap();
}
