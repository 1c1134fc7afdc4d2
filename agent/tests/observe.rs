//! The observer on the very machine the tests run on: own sockets, own children, nothing simulated.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agent::{
    config::Scope,
    observe::{
        Extent, ExtentSource, Inputs, LinuxObserver, Observe, Rule, Rules, Settings, Supervised,
        services::{Services, Source},
    },
};
use common::{
    clock::{Clock, SystemClock},
    id::AppName,
    sample::{
        Connection, ConnectionKey, ConnectionState, Direction, Holder, Observation, Protocol,
        ServiceState, Supervisor,
    },
    units::{Bytes, Millicores},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

fn look(observer: &mut LinuxObserver, inputs: &Inputs) -> Observation {
    observer.observe(inputs, SystemClock.now()).unwrap()
}

fn first_look(inputs: &Inputs) -> Observation {
    look(&mut LinuxObserver::new(Settings::default()), inputs)
}

fn named_by_port(application: &str, port: u16) -> Inputs {
    let application = name(application);
    let rule = Rule { application, executable: None, unit: None, port: Some(port) };
    Inputs { rules: Rules(vec![rule]), ..Inputs::default() }
}

fn supervised(application: &str, pid: Option<u32>) -> Inputs {
    let state = if pid.is_some() { ServiceState::Active } else { ServiceState::Inactive };
    let one = Supervised { application: name(application), pid, state, enabled: true };
    Inputs { supervised: vec![one], ..Inputs::default() }
}

/// Looks until `wanted` says yes: the kernel takes a moment to move a socket or to count CPU.
fn until<T>(mut wanted: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(Instant::now() < deadline, "not seen within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

fn tcp(local: SocketAddr, remote: Option<SocketAddr>) -> ConnectionKey {
    ConnectionKey { protocol: Protocol::Tcp, local, remote }
}

/// A listener with one connection, both ends in this process.
struct Pair {
    listener: TcpListener,
    client: Option<TcpStream>,
    server: Option<TcpStream>,
    client_key: ConnectionKey,
    server_key: ConnectionKey,
}

impl Pair {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = listener.local_addr().unwrap();
        let client = TcpStream::connect(near).unwrap();
        let far = client.local_addr().unwrap();
        let (server, _) = listener.accept().unwrap();
        Self {
            listener,
            client: Some(client),
            server: Some(server),
            client_key: tcp(far, Some(near)),
            server_key: tcp(near, Some(far)),
        }
    }

    fn port(&self) -> u16 {
        self.server_key.local.port()
    }
}

/// A child that ends with the test.
struct Running(Child);

impl Running {
    fn burning() -> Self {
        Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn holder_pid(connection: &Connection) -> u32 {
    match &connection.holder {
        Holder::Process { process, .. } => process.pid,
        other => panic!("no process holds it: {other:?}"),
    }
}

#[test]
fn an_own_connection_shows_up_with_direction_process_and_application() {
    let pair = Pair::new();
    let inputs = named_by_port("own-web", pair.port());

    let seen = first_look(&inputs);

    let listener = &seen.connections[&tcp(pair.listener.local_addr().unwrap(), None)];
    let (inbound, outbound) =
        (&seen.connections[&pair.server_key], &seen.connections[&pair.client_key]);
    assert_eq!(listener.direction, Direction::Listener);
    assert_eq!(inbound.direction, Direction::Inbound);
    assert_eq!(outbound.direction, Direction::Outbound);
    for connection in [listener, inbound, outbound] {
        assert_eq!(holder_pid(connection), std::process::id());
        assert_eq!(connection.holder.application(), Some(&name("own-web")));
    }
    for connection in [inbound, outbound] {
        assert_eq!((connection.sent, connection.received), (Some(Bytes(0)), Some(Bytes(0))));
    }
    let usage = &seen.applications[&name("own-web")];
    assert!(usage.listed && usage.listening_ports.contains(&pair.port()));
    assert!(seen.facts.connections_source.contains("sock_diag"));
}

#[test]
fn without_a_rule_an_application_goes_by_its_file_and_is_unlisted() {
    let pair = Pair::new();
    let file = std::env::current_exe().unwrap();
    let file = file.file_name().unwrap().to_str().unwrap();

    let seen = first_look(&Inputs::default());

    let connection = &seen.connections[&pair.server_key];
    let application = connection.holder.application().unwrap();
    assert_eq!(application.as_str(), file);
    assert!(!seen.applications[application].listed);
}

#[test]
fn the_first_sight_of_a_connection_stays() {
    let pair = Pair::new();
    let mut observer = LinuxObserver::new(Settings::default());

    let first = look(&mut observer, &Inputs::default());
    let second = look(&mut observer, &Inputs::default());

    let first_seen = |seen: &Observation| seen.connections[&pair.client_key].first_seen;
    assert_eq!(first_seen(&first), first_seen(&second));
}

#[test]
fn a_connection_that_only_lingers_keeps_its_state() {
    let mut pair = Pair::new();
    pair.server = None;
    let mut observer = LinuxObserver::new(Settings::default());

    let lingering = until(|| {
        let seen = look(&mut observer, &Inputs::default());
        let connection = seen.connections.get(&pair.client_key)?;
        (connection.state == ConnectionState::CloseWait).then(|| connection.clone())
    });

    assert_eq!(lingering.direction, Direction::Outbound);
    assert_eq!(holder_pid(&lingering), std::process::id());
}

#[test]
fn a_closed_connection_has_no_process_but_its_listeners_application() {
    let mut pair = Pair::new();
    let inputs = named_by_port("own-shop", pair.port());
    let mut observer = LinuxObserver::new(Settings::default());
    pair.server = None;
    pair.client = None;

    let closed = until(|| {
        let seen = look(&mut observer, &inputs);
        let connection = seen.connections.get(&pair.server_key)?;
        (connection.state == ConnectionState::TimeWait).then(|| connection.clone())
    });

    assert!(matches!(closed.holder, Holder::Unknown { .. }), "{closed:?}");
    assert_eq!(closed.holder.application(), Some(&name("own-shop")));
    assert_eq!(closed.direction, Direction::Inbound);
}

#[test]
fn what_an_ended_process_used_stays_counted_and_its_peak_is_kept() {
    let burner = name("burner");
    let mut child = Running::burning();
    let inputs = supervised("burner", Some(child.0.id()));
    let mut observer = LinuxObserver::new(Settings::default());
    look(&mut observer, &inputs);
    until(|| {
        observer.tick(&inputs).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.0.id())).unwrap();
        let user: u64 = stat.split_whitespace().nth(13).unwrap().parse().unwrap();
        (user >= 60).then_some(())
    });

    child.end();
    let gone = supervised("burner", None);
    let after = look(&mut observer, &gone).applications[&burner].clone();
    let later = look(&mut observer, &gone).applications[&burner].clone();

    // What the last tick did not see any more comes through the parent that waited for it. Children of other
    // tests end under the same parent, so that slice may be taken for one of theirs.
    assert!(later.cpu_ms >= 400, "{later:?}");
    assert_eq!((after.processes, after.resident), (0, Bytes(0)));
    assert!(after.peak_cpu > Millicores(0) && after.peak_resident > Bytes(0), "{after:?}");
    assert!(later.cpu_ms >= after.cpu_ms);
    assert_eq!(later.peak_resident, Bytes(0));
}

#[test]
fn a_child_of_a_supervised_process_belongs_to_its_application() {
    let mut parent = Command::new("sh");
    parent.args(["-c", "sleep 600 & wait"]).stdin(Stdio::null());
    let parent = Running(parent.spawn().unwrap());
    let inputs = supervised("family", Some(parent.0.id()));
    let mut observer = LinuxObserver::new(Settings::default());

    let child = until(|| {
        let seen = look(&mut observer, &inputs);
        let child = seen.processes.iter().find(|(_, row)| row.parent == parent.0.id());
        child.map(|(key, row)| (*key, row.clone()))
    });

    assert_eq!(child.1.application, Some(name("family")));
    let child = i32::try_from(child.0.pid).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::SIGKILL).unwrap();
}

#[test]
fn arguments_and_environment_are_never_read() {
    let mut child = Command::new("sh");
    child
        .args(["-c", "read line", "kept-from-sight-argument"])
        .env("SECRET", "kept-from-sight-environment");
    let child = Running(child.stdin(Stdio::piped()).spawn().unwrap());
    // The kernel shows the arguments a moment after it let us go on.
    until(|| {
        let known = std::fs::read_to_string(format!("/proc/{}/cmdline", child.0.id())).unwrap();
        known.contains("kept-from-sight-argument").then_some(())
    });

    let seen = first_look(&supervised("secretive", Some(child.0.id())));

    assert!(seen.applications.contains_key(&name("secretive")));
    assert!(!format!("{seen:?}").contains("kept-from-sight"));
}

#[test]
fn arguments_are_told_where_the_guest_says_so_and_never_a_secret() {
    let mut child = Command::new("sh");
    child.args([
        "-c",
        "read line",
        "told",
        "--password=kept-from-sight",
        "--token",
        "kept-from-sight",
    ]);
    let child = Running(child.stdin(Stdio::piped()).spawn().unwrap());
    let scope = Scope { arguments: true, ..Scope::default() };
    let mut observer = LinuxObserver::new(Settings { scope, ..Settings::default() });

    let arguments = until(|| {
        let seen = look(&mut observer, &Inputs::default());
        let (_, row) = seen.processes.into_iter().find(|(key, _)| key.pid == child.0.id())?;
        row.arguments.filter(|arguments| arguments.len() == 7)
    });

    assert_eq!(arguments, ["sh", "-c", "read line", "told", "--password=***", "--token", "***"]);
}

/// CVE-2025-41244: discovery that ran whatever looked like a service, as root, to ask for its version.
#[test]
fn a_planted_service_is_seen_and_never_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (planted, marks) = (folder.path().join("httpd"), folder.path().join("marks"));
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\nread line\n", marks.display());
    std::fs::write(&planted, script).unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = Running(Command::new(&planted).arg("once").stdin(Stdio::piped()).spawn().unwrap());
    until(|| std::fs::read_to_string(&marks).ok().filter(|text| text.ends_with('\n')));
    let scope = Scope { arguments: true, ..Scope::default() };
    let mut observer = LinuxObserver::new(Settings { scope, ..Settings::default() });
    let now = SystemClock.now();

    let (mut seen, mut own_children) = (None, BTreeSet::new());
    until(|| {
        observer.tick(&Inputs::default()).unwrap();
        seen = look(&mut observer, &Inputs::default())
            .processes
            .into_values()
            .find(|row| row.name == "httpd");
        own_children.extend(children_of_this_thread());
        observer.software(now)
    });

    assert_eq!(seen.unwrap().parent, std::process::id());
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "once\n");
    assert_eq!(own_children, [child.0.id()].into());
}

/// Children that the calling thread made: those of other tests are of other threads.
fn children_of_this_thread() -> Vec<u32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn the_software_of_this_machine_is_told_whole_and_stays_the_same() {
    let mut observer = LinuxObserver::new(Settings::default());
    let now = SystemClock.now();

    let software = until(|| observer.software(now));

    let again = observer.software(now).unwrap();
    assert!(std::sync::Arc::ptr_eq(&software, &again));
    let facts = look(&mut observer, &Inputs::default()).facts;
    assert!(facts.other.contains_key("packages_source"), "{:?}", facts.other);
    assert!(software.files.values().all(|file| file.content.is_none()));
}

#[test]
fn no_source_of_the_observer_opens_arguments_environment_or_payload() {
    let mut files = Vec::new();
    sources("src/observe.rs".as_ref(), &mut files);
    sources("src/observe".as_ref(), &mut files);
    assert!(files.len() > 10);
    for (path, text) in files {
        for forbidden in ["cmdline", "environ\"", "environ(", "AF_PACKET", "Command::new"] {
            // The one place that may, and strikes out the secrets at once.
            let may = forbidden == "cmdline" && path.ends_with("src/observe/linux/processes.rs");
            assert!(may || !text.contains(forbidden), "{} has {forbidden}", path.display());
        }
    }
}

fn sources(path: &std::path::Path, found: &mut Vec<(std::path::PathBuf, String)>) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if path.is_dir() {
        for entry in std::fs::read_dir(&path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
        found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
    }
}

#[test]
fn in_a_machine_of_namespaces_the_counters_are_its_processes() {
    let extent = Extent::Processes { cpu: Some(Millicores(1000)), memory: Some(Bytes(1 << 40)) };
    let extent = ExtentSource::Fixed(extent);
    let mut observer = LinuxObserver::new(Settings { extent, ..Settings::default() });

    let before = look(&mut observer, &Inputs::default()).counters;
    let mut child = Running::burning();
    let after = until(|| {
        let counters = look(&mut observer, &Inputs::default()).counters;
        (counters.cpu_busy_ms >= before.cpu_busy_ms.map(|ms| ms + 100)).then_some(counters)
    });
    child.end();

    assert_eq!((after.cpus, after.memory_total), (Some(1), Some(Bytes(1 << 40))));
    assert!(after.memory_available < after.memory_total);
    assert_eq!((after.load_1_milli, after.swap_used), (None, None));
    assert!(after.agent_resident > Some(Bytes(0)));
}

#[test]
fn services_without_systemd_are_the_supervised_applications_and_it_says_so() {
    let mut inputs = supervised("report", Some(1));
    inputs.services = Services::unread("there is no systemd here");

    let seen = first_look(&inputs);

    let report = &seen.services["report"];
    assert_eq!((report.supervisor, report.state), (Supervisor::Agent, ServiceState::Active));
    assert_eq!((report.main_pid, report.enabled), (Some(1), true));
    assert!(seen.facts.services_source.contains("there is no systemd here"));
    assert!(!matches!(inputs.services.source, Source::Systemd));
}
