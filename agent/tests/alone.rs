//! The agent as it is shipped, in a root folder with nothing but itself, /proc, /dev/random, /dev/urandom
//! and its configuration: no shared library, no shell, no /sys. SINTER_STATIC_AGENT names the program that
//! `packaging/build-agent.sh` built.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]
#![expect(dead_code, reason = "each test uses a part of the world")]

mod world;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::sys::stat::{Mode, SFlag, mknod};

use world::{Aggregator, Guest, Ways};

/// The program, if it was said which and we may change the root folder.
#[expect(clippy::print_stdout, reason = "what is left out is said")]
fn program() -> Option<String> {
    let program =
        std::env::var("SINTER_STATIC_AGENT").ok().filter(|_| nix::unistd::geteuid().is_root());
    if program.is_none() {
        println!("LEFT OUT: SINTER_STATIC_AGENT does not name a static agent, or we are not root");
        assert!(std::env::var("SINTER_REQUIRE_ALL").is_err(), "the static agent must be tested");
    }
    program
}

/// In a mount namespace of its own, so that nothing stays mounted.
fn in_root(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" /sinter-agent \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(root).args(arguments).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

async fn ask(root: &Path, arguments: &[&str]) -> Output {
    let mut command = in_root(root, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Says that its name or address is `address`.
fn configure(guest: &Guest, aggregator: &Aggregator, address: &str) {
    let text = fs::read_to_string(guest.path("agent.toml")).unwrap();
    let outside = guest.folder.path().to_str().unwrap();
    let text = text.replace(outside, "").replace(&aggregator.address.to_string(), address);
    fs::write(guest.path("inside.toml"), text).unwrap();
}

/// An agent that is not left behind by a test that fails.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut agent) = self.0.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

fn run(root: &Path) -> Running {
    let log = fs::OpenOptions::new().create(true).append(true).open(root.join("log")).unwrap();
    let mut command = in_root(root, &["run", "--config", "/inside.toml"]);
    Running(Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap()))
}

async fn ends(mut running: Running) {
    let mut agent = running.0.take().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || agent.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
    assert!(ended.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_needs_nothing_but_itself() {
    let Some(program) = program() else { return };
    let aggregator = Aggregator::start(Ways::default()).await;
    let guest = Guest::new(&aggregator, "");
    let root = guest.folder.path();
    fs::copy(program, root.join("sinter-agent")).unwrap();
    fs::create_dir(root.join("proc")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    fs::create_dir(root.join("dev")).unwrap();
    // Random numbers: the program waits for the first to be ready and reads the second.
    for (name, minor) in [("dev/random", 8), ("dev/urandom", 9)] {
        let numbers = nix::sys::stat::makedev(1, minor);
        let mode = Mode::from_bits_truncate(0o444);
        mknod(&root.join(name), SFlag::S_IFCHR, mode, numbers).unwrap();
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 aggregator.test\n").unwrap();
    configure(&guest, &aggregator, &aggregator.address.to_string());

    let seen = ask(root, &["observe", "-o", "json"]).await;
    let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert!(!seen["processes"].as_array().unwrap().is_empty());
    let checked = ask(root, &["check-config", "--config", "/inside.toml"]).await;
    assert!(checked.status.success(), "{checked:?}");
    let found = ask(root, &["doctor", "--config", "/inside.toml"]).await;
    assert_eq!(found.status.code(), Some(0), "{}", String::from_utf8_lossy(&found.stdout));

    let agent = run(root);
    aggregator.wait("samples by address", |known| known.samples.len() > 2).await;
    ends(agent).await;

    let port = aggregator.address.port();
    configure(&guest, &aggregator, &format!("aggregator.test:{port}"));
    let hellos = aggregator.known().hellos.len();
    let agent = run(root);
    aggregator.wait("a line by name", |known| known.hellos.len() > hellos).await;
    ends(agent).await;
}
