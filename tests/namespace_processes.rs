//! Machines outlive the process that made them, also one that is killed, and a later process finds
//! and ends them: as root, and as a user without any privilege.
//!
//! This program calls itself as the process that is killed, since the right to make namespaces can
//! be taken only by a process of one thread.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use aggregator::hypervisor::{
    Allocation, CloneOrder, Hypervisor, Power,
    namespace::{MachineOrder, NamespaceHypervisor},
};
use common::{
    id::{HostId, VmId},
    task::Chain,
};
use lab::programs::program;
use tempfile::TempDir;

/// First argument of this program as another process.
const HELPER: &str = "helper";

const VM: &str = "0b6f3b0e-5a53-4000-8000-000000000001";

const AGENT: &str = "#!/bin/sh\nexec /bin/sh /etc/sinter/start\n";

const START: &str = "id -u > /var/user; echo up >> /var/starts
    i=0; while true; do i=$((i+1)); echo $i > /var/count; sleep 0.02; done";

const PATIENCE: Duration = Duration::from_secs(30);

/// A user that owns nothing, on every Linux.
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == HELPER) {
        return help(&arguments[1..]);
    }
    let tests: [(&str, fn()); 2] = [
        ("machines_outlive_a_killed_owner", || owner_is_killed(None)),
        ("machines_need_no_privilege", || owner_is_killed(Some(NOBODY))),
    ];
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// The other process: `build`, `look` or `destroy`, in a folder.
fn help(arguments: &[String]) -> ExitCode {
    let [task, folder, inner] = arguments else { return ExitCode::from(2) };
    let state = Path::new(folder).join("state");
    if let Err(error) = NamespaceHypervisor::prepare_process(&state) {
        println!("failed: {}", Chain(&error));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if task == "destroy" {
            return match NamespaceHypervisor::destroy(&state).await {
                Ok(()) => said("destroyed"),
                Err(error) => said(&format!("failed: {}", Chain(&error))),
            };
        }
        let agent = Path::new(folder).join("agent.sh");
        match NamespaceHypervisor::open_with(&state, &agent, Path::new(inner)).await {
            Ok(hypervisor) if task == "build" => build(&hypervisor).await,
            Ok(hypervisor) => look(&hypervisor).await,
            Err(error) => said(&format!("failed: {}", Chain(&error))),
        }
    })
}

fn said(line: &str) -> ExitCode {
    println!("{line}");
    ExitCode::SUCCESS
}

async fn build(hypervisor: &NamespaceHypervisor) -> ExitCode {
    let vm: VmId = VM.parse().unwrap();
    let start = (0o644, START.as_bytes().to_vec());
    let order = MachineOrder {
        vm: vm.clone(),
        name: "web".to_owned(),
        address: "10.77.0.1/24".parse().unwrap(),
        allocation: Allocation::default(),
        files: BTreeMap::from([(PathBuf::from("/etc/sinter/start"), start)]),
        labels: [].into(),
    };
    hypervisor.create(&order).await.unwrap();
    hypervisor.start(&vm).await.unwrap();
    let command = ["/bin/sleep", "1000"].map(str::to_owned);
    hypervisor.visit("visitor", "10.77.0.9/24".parse().unwrap(), &command).await.unwrap();
    let path = hypervisor.path_in(&vm, Path::new("/var/starts"));
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("built");
    // Until it is killed.
    std::future::pending().await
}

async fn look(hypervisor: &NamespaceHypervisor) -> ExitCode {
    let vm: VmId = VM.parse().unwrap();
    let inventory = hypervisor.inventory().await.unwrap();
    let machine = &inventory.machines[&vm];
    assert_eq!(machine.power, Power::On);
    println!("labels {:?}", machine.labels);
    let telemetry = hypervisor.telemetry().await.unwrap();
    assert!(telemetry[&vm].memory_used.is_some() && telemetry[&vm].cpu_ms.is_some());
    let starts = || fs::read_to_string(hypervisor.path_in(&vm, Path::new("/var/starts"))).unwrap();
    assert_eq!(starts().lines().count(), 1, "it was started again instead of found");
    drop(hypervisor.uplink(7401).unwrap());
    clone_and_remove(hypervisor, &vm, machine.host.clone()).await;
    hypervisor.stop(&vm, PATIENCE).await.unwrap();
    hypervisor.start(&vm).await.unwrap();
    let begun = Instant::now();
    while starts().lines().count() < 2 {
        assert!(begun.elapsed() < PATIENCE, "it did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let user = fs::read_to_string(hypervisor.path_in(&vm, Path::new("/var/user"))).unwrap();
    assert_eq!(user.trim(), "0", "root in the machine, whoever it is outside");
    said("looked")
}

/// Without groups the source is held still by signals.
async fn clone_and_remove(hypervisor: &NamespaceHypervisor, source: &VmId, host: HostId) {
    let clone: VmId = "0b6f3b0e-5a53-4000-8000-000000000002".parse().unwrap();
    let order = CloneOrder {
        source: source.clone(),
        clone: clone.clone(),
        name: "copy".to_owned(),
        host,
        plan: "plan-1".parse().unwrap(),
        allocation: Allocation::default(),
        ticket: "ticket-1".to_owned(),
    };
    let count = |vm: &VmId| {
        fs::read_to_string(hypervisor.path_in(vm, Path::new("/var/count"))).unwrap_or_default()
    };
    if let Err(error) = hypervisor.clone_vm(&order).await {
        panic!("{}", Chain(&error));
    }
    let at_clone = count(&clone);
    let before = count(source);
    let begun = Instant::now();
    while count(source) == before || count(source).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "the source does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hypervisor.isolate(&clone, &"trial-1".parse().unwrap()).await.unwrap();
    hypervisor.start(&clone).await.unwrap();
    while count(&clone) == at_clone || count(&clone).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "the clone does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hypervisor.remove(&clone).await.unwrap();
}

/// Copies of this program and of the inner one, where any user may run them: the folder that Cargo
/// builds into may lie in a home that is closed to others.
struct Programs {
    folder: TempDir,
    user: Option<u32>,
}

impl Programs {
    fn copied(user: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("sinter-programs-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env::current_exe().unwrap(), folder.path().join(HELPER)).unwrap();
        let inner = program("sinter-aggregator").unwrap();
        fs::copy(inner, folder.path().join("sinter-aggregator")).unwrap();
        Self { folder, user }
    }
}

/// Starts this program as another process and gives what it says up to `word`.
fn helper(task: &str, folder: &Path, programs: &Programs, word: &str) -> (Child, String) {
    let of = |name: &str| programs.folder.path().join(name);
    let mut command = Command::new(of(HELPER));
    command.args([HELPER, task]).arg(folder).arg(of("sinter-aggregator")).stdout(Stdio::piped());
    if let Some(user) = programs.user {
        command.uid(user).gid(user);
    }
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        said += &format!("{line}\n");
        if line == word {
            break;
        }
    }
    (child, said)
}

/// Ends what a failed test would leave.
struct Cleared<'a> {
    folder: &'a Path,
    programs: &'a Programs,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        let (mut last, said) = helper("destroy", self.folder, self.programs, "destroyed");
        if !last.wait().is_ok_and(|status| status.success()) {
            println!("not cleared: {said}");
        }
    }
}

fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(&folder) || mounts.contains(&folder)).then_some(line)
    });
    lines.collect()
}

fn owner_is_killed(user: Option<u32>) {
    let folder = tempfile::Builder::new().prefix("sinter-owner-").tempdir().unwrap();
    fs::write(folder.path().join("agent.sh"), AGENT).unwrap();
    for (path, mode) in [("agent.sh", 0o755), ("", 0o755)] {
        let path = folder.path().join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    if let Some(user) = user {
        if !nix::unistd::geteuid().is_root() {
            return left_out("only root can become another user");
        }
        std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).unwrap();
    }

    let programs = Programs::copied(user);
    let _cleared = Cleared { folder: folder.path(), programs: &programs };
    let (mut owner, said) = helper("build", folder.path(), &programs, "built");
    if let Some(why) = said.lines().find_map(|line| line.strip_prefix("failed: cannot make")) {
        owner.wait().unwrap();
        return left_out(why);
    }
    assert!(said.ends_with("built\n"), "{said}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(!processes_of(folder.path()).is_empty(), "machines died with their owner");
    let (mut later, said) = helper("look", folder.path(), &programs, "looked");
    assert!(later.wait().unwrap().success() && said.ends_with("looked\n"), "{said}");
    println!("{}", said.trim());
    let (mut last, said) = helper("destroy", folder.path(), &programs, "destroyed");
    assert!(last.wait().unwrap().success() && said == "destroyed\n", "{said}");

    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
    assert!(!folder.path().join("state").exists());
}

fn left_out(why: &str) {
    println!("LEFT OUT: {why}");
    assert!(env::var("SINTER_REQUIRE_ALL").map_or(true, |all| all != "1"), "{why}");
}
