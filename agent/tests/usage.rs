//! Accounts by control groups, on the groups of the very machine the tests run on.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agent::observe::{Inputs, LinuxObserver, Observe, Settings, Supervised};
use common::{
    clock::{Clock, SystemClock},
    id::AppName,
    sample::{Accounting, ApplicationUse, ServiceState},
    units::Bytes,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROOT: &str = "/sys/fs/cgroup";

/// What the child does, one line at a time, and tells when it is done.
const WORK: &str = r#"while read -r line; do eval "$line"; echo done; done"#;

/// A group made for one test, in every tree there is.
struct Group {
    folders: Vec<PathBuf>,
    version: Accounting,
}

impl Group {
    /// `None` where none may be made.
    fn make(name: &str) -> Option<Self> {
        let name = format!("sinter-usage-{name}-{}", std::process::id());
        let root = Path::new(ROOT);
        let (roots, version) = if root.join("cgroup.controllers").exists() {
            (vec![root.to_owned()], Accounting::Cgroup2)
        } else {
            let trees = ["cpuacct", "cpu", "memory"].map(|tree| root.join(tree));
            (trees.to_vec(), Accounting::Cgroup1)
        };
        let mut group = Self { folders: Vec::new(), version };
        for root in roots {
            let folder = root.join(&name);
            fs::create_dir(&folder).ok()?;
            group.folders.push(folder);
        }
        group.folders.iter().all(|folder| folder.join("cgroup.procs").exists()).then_some(group)
    }

    fn take(&self, pid: u32) {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    fn text(&self, files: [&str; 2]) -> String {
        let paths = self.folders.iter().flat_map(|folder| files.map(|file| folder.join(file)));
        paths.into_iter().find_map(|path| fs::read_to_string(path).ok()).unwrap()
    }

    /// Sets a limit by the names of both versions.
    fn limit(&self, by_name: &[(&str, &str)]) {
        for (file, value) in by_name {
            for folder in &self.folders {
                if folder.join(file).exists() {
                    fs::write(folder.join(file), value).unwrap();
                }
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        for folder in &self.folders {
            // The kernel lets go of the last process a moment after it ended.
            while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }
}

/// A child in a group that does what it is told.
struct Worker {
    child: Child,
    told: std::io::BufReader<std::process::ChildStdout>,
    application: AppName,
    observer: LinuxObserver,
}

impl Worker {
    fn in_group(group: &Group) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", WORK]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        group.take(child.id());
        let told = std::io::BufReader::new(child.stdout.take().unwrap());
        let application = "worker".parse().unwrap();
        let observer = LinuxObserver::new(Settings::default());
        Self { child, told, application, observer }
    }

    fn does(&mut self, line: &str) {
        use std::io::BufRead as _;
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.told.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{line}");
    }

    fn inputs(&self) -> Inputs {
        let one = Supervised {
            application: self.application.clone(),
            pid: Some(self.child.id()),
            state: ServiceState::Active,
            enabled: true,
        };
        Inputs { supervised: vec![one], ..Inputs::default() }
    }

    fn seen(&mut self) -> ApplicationUse {
        let seen = self.observer.observe(&self.inputs(), SystemClock.now()).unwrap();
        seen.applications[&self.application].clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::print_stdout, reason = "what is left out is said")]
fn left_out(why: &str) {
    println!("LEFT OUT: {why}");
    let required = std::env::var("SINTER_REQUIRE_ALL").is_ok();
    assert!(!required, "accounts by control groups must be tested");
}

fn made(name: &str) -> Option<Group> {
    let group = Group::make(name);
    if group.is_none() {
        left_out("no control group may be made here");
    }
    group
}

#[test]
fn the_account_is_the_kernels_and_holds_what_nobody_waited_for() {
    let Some(group) = made("cpu") else { return };
    let mut worker = Worker::in_group(&group);
    let before = worker.seen();
    assert_eq!(before.accounting, group.version, "{before:?}");

    // Orphans: no process of the application ever shows what they used.
    let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    worker.does(&format!("for n in 1 2 3; do (sh -c '{burn}' &) ; done"));
    let deadline = Instant::now() + PATIENCE;
    while group.text(["cgroup.procs", "cgroup.procs"]).lines().count() > 1 {
        assert!(Instant::now() < deadline, "the orphans do not end");
        std::thread::yield_now();
    }
    let usage = |group: &Group| -> u64 {
        let text = group.text(["cpuacct.usage", "cpu.stat"]);
        match text.trim().parse::<u64>() {
            Ok(nanoseconds) => nanoseconds / 1_000_000,
            Err(_) => text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1000,
        }
    };
    let at_once = usage(&group);
    let after = worker.seen();
    let later = usage(&group);

    assert!((at_once..=later).contains(&after.cpu_ms), "{at_once} {} {later}", after.cpu_ms);
    assert!(after.cpu_ms >= before.cpu_ms + 50, "{after:?}");
}

#[test]
fn memory_is_the_kernels_with_its_mark() {
    let Some(group) = made("memory") else { return };
    let mut worker = Worker::in_group(&group);
    let before = worker.seen();

    // 64 MiB for a moment, 16 MiB to keep.
    worker.does("dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null");
    worker.does("kept=$(head -c 16777216 /dev/zero | tr '\\0' a)");
    let after = worker.seen();

    let (small, large) = (before.working_set.unwrap(), after.working_set.unwrap());
    assert!(large.0 >= small.0 + (16 << 20), "{small:?} {large:?}");
    let charged = group.text(["memory.usage_in_bytes", "memory.current"]);
    assert!(large.0 <= charged.trim().parse::<u64>().unwrap() + (4 << 20), "{large:?} {charged}");
    assert!(after.memory_high_water.unwrap() >= Bytes::mebi(64), "{after:?}");
    let until = Instant::now() + Duration::from_secs(10);
    while worker.seen().memory_quantiles.is_empty() {
        assert!(Instant::now() < until, "no look is far enough from the one before for a rate");
    }
}

#[test]
fn what_is_held_back_and_what_is_killed_is_counted() {
    let Some(group) = made("limits") else { return };
    let mut worker = Worker::in_group(&group);
    let before = worker.seen();
    assert_eq!(before.out_of_memory_kills, Some(0), "{before:?}");
    assert_eq!(before.throttled_us, Some(0), "{before:?}");

    group.limit(&[("cpu.cfs_quota_us", "5000"), ("cpu.max", "5000 100000")]);
    worker.does("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    group.limit(&[("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000")]);
    group.limit(&[("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432")]);
    group.limit(&[("memory.memsw.limit_in_bytes", "33554432"), ("memory.swap.max", "0")]);
    worker.does("dd if=/dev/zero of=/dev/null bs=96M count=1 2>/dev/null");
    let after = worker.seen();

    assert!(after.throttled_us.unwrap() > 10_000, "{after:?}");
    assert_eq!(after.out_of_memory_kills, Some(1), "{after:?}");
}

#[test]
fn a_kill_that_took_the_whole_group_along_is_counted() {
    let Some(group) = made("killed") else { return };
    if fs::File::open("/dev/kmsg").is_err() {
        left_out("the kernel's log may not be read here");
        return;
    }
    let mut worker = Worker::in_group(&group);
    assert_eq!(worker.seen().out_of_memory_kills, Some(0));

    group.limit(&[("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432")]);
    group.limit(&[("memory.memsw.limit_in_bytes", "33554432"), ("memory.swap.max", "0")]);
    let line = "kept=$(head -c 67108864 /dev/zero | tr '\\0' a)";
    writeln!(worker.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    worker.child.wait().unwrap();
    drop(group);
    let after = worker.seen();

    assert_eq!((after.processes, after.out_of_memory_kills), (0, Some(1)), "{after:?}");
}

#[test]
fn bytes_written_to_a_real_device_are_counted() {
    let Some(group) = made("storage") else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("written");
    let mut worker = Worker::in_group(&group);
    let before = worker.seen();

    let dd =
        format!("dd if=/dev/zero of={} bs=1M count=16 oflag=direct 2>/dev/null", file.display());
    worker.does(&dd);
    let is_there = fs::metadata(&file).is_ok_and(|file| file.len() == 16 << 20);
    assert!(
        is_there,
        "the file system takes no direct writes; set CARGO_TARGET_DIR to one that does"
    );
    let after = worker.seen();

    let written = after.written.unwrap().0 - before.written.unwrap().0;
    assert!((16 << 20..17 << 20).contains(&written), "{written}");
    let on_devices: u64 = after.devices.values().map(|device| device.written.0).sum();
    assert!(on_devices == 0 || on_devices.abs_diff(16 << 20) < 1 << 20, "{:?}", after.devices);
}
