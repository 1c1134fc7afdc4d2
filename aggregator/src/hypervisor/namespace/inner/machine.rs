//! A machine's first process: it builds the machine's view, gives up its power over it, and then
//! reaps, and keeps the agent running until it is told to end.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal, kill},
    unistd::{Pid, sethostname},
};
use serde::{Deserialize, Serialize};

use super::{INNER, keeper::reap, name, order, ready, view};
use crate::hypervisor::namespace::{Attempt, NamespaceError, user};

/// First and last wait before the agent is started again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(10);

/// An agent that ran so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(30);

/// Where the agent's complaints go.
const LOG: &str = "/var/log/sinter-agent.log";

/// A log longer than this is moved aside when the agent starts.
const LOG_LENGTH: u64 = 4 << 20;

/// What a machine is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Order {
    /// Its folder on the host.
    pub(in super::super) folder: PathBuf,
    /// Its host name.
    pub(in super::super) name: String,
    /// The agent, by its path on the host, which is that in the machine too.
    pub(in super::super) agent: PathBuf,
    /// Programs of the host that it shall see at their own paths.
    pub(in super::super) programs: BTreeSet<PathBuf>,
}

/// Is the machine's first process, until it is told to end.
pub(super) fn run() -> Result<(), NamespaceError> {
    name(c"sinter-init")?;
    let order: Order = order()?;
    // From here on a signal waits until we ask for it. As first process of its namespace we are
    // not ended by one anyway, but it would be lost.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM] {
        signals.add(signal);
    }
    signals.thread_block().or_could_not(|| "hold back signals".to_owned())?;
    sethostname(&order.name).or_could_not(|| "set the host name".to_owned())?;
    view::build(&order)?;
    // Where groups cannot be hidden, their names are seen and nothing more.
    if let Err(cause) = unshare(CloneFlags::CLONE_NEWCGROUP) {
        tracing::debug!(%cause, "control groups not hidden");
    }
    user::confine()?;
    let mut agent = Agent::start(order.agent)?;
    ready()?;
    loop {
        match signals.wait().or_could_not(|| "wait for a signal".to_owned())? {
            Signal::SIGTERM => agent.is_stopping = true,
            _ => agent.reap()?,
        }
        if agent.is_stopping && agent.stop()? {
            return Ok(());
        }
    }
}

/// The agent and whether it should run.
struct Agent {
    program: PathBuf,
    pid: Option<Pid>,
    started: Instant,
    wait: Duration,
    is_stopping: bool,
    has_been_told: bool,
    have_all_been_told: bool,
}

impl Agent {
    fn start(program: PathBuf) -> Result<Self, NamespaceError> {
        let mut agent = Self {
            program,
            pid: None,
            started: Instant::now(),
            wait: FIRST_WAIT,
            is_stopping: false,
            has_been_told: false,
            have_all_been_told: false,
        };
        agent.spawn(Duration::ZERO)?;
        Ok(agent)
    }

    fn spawn(&mut self, wait: Duration) -> Result<(), NamespaceError> {
        let log = log().or_could_not(|| format!("open {LOG}"))?;
        let errors = log.try_clone().or_could_not(|| format!("open {LOG}"))?;
        let mut command = Command::new("/proc/self/exe");
        command.args([INNER, "exec", &wait.as_millis().to_string()]).arg(&self.program);
        command.args(["run", "--config", "/etc/sinter/agent.toml"]);
        command.env_clear().envs([
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let spawned = command.spawn();
        let child = spawned.or_could_not(|| "start the agent".to_owned())?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other);
        self.pid = Some(Pid::from_raw(pid.or_could_not(|| "number the agent".to_owned())?));
        self.started = Instant::now() + wait;
        Ok(())
    }

    /// Takes leave of all children that have ended, and starts the agent again if it is one.
    fn reap(&mut self) -> Result<(), NamespaceError> {
        while let Some(pid) = reap()? {
            if self.pid == Some(pid) {
                self.pid = None;
            }
        }
        if self.pid.is_some() || self.is_stopping {
            return Ok(());
        }
        if self.started.elapsed() > STEADY {
            self.wait = FIRST_WAIT;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(LAST_WAIT);
        self.spawn(wait)
    }

    /// The agent first, so that it can end its applications in order; then whoever is left. `true`
    /// when nobody is. Whoever does not listen is ended with us when our time is over.
    fn stop(&mut self) -> Result<bool, NamespaceError> {
        let told = match self.pid {
            Some(agent) if !self.has_been_told => kill(agent, Signal::SIGTERM),
            Some(_) => return Ok(false),
            None if self.have_all_been_told => Ok(()),
            None => {
                self.have_all_been_told = true;
                kill(Pid::from_raw(-1), Signal::SIGTERM)
            }
        };
        self.has_been_told = true;
        match told {
            Ok(()) => Ok(self.pid.is_none() && is_alone()),
            Err(Errno::ESRCH) => Ok(self.pid.is_none()),
            Err(cause) => Err(NamespaceError::system("tell a process to end", cause)),
        }
    }
}

/// Whether nobody but us is left in the machine.
fn is_alone() -> bool {
    kill(Pid::from_raw(-1), None) == Err(Errno::ESRCH)
}

fn log() -> io::Result<File> {
    let path = Path::new(LOG);
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    if fs::symlink_metadata(path).is_ok_and(|log| log.len() > LOG_LENGTH) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// Becomes a program, after a while and with no signal held back. The wait is the child's, so that
/// the machine's first process never sleeps.
pub(super) fn exec(
    delay_ms: &str,
    program: &str,
    arguments: &[&str],
) -> Result<(), NamespaceError> {
    let no_signal = SigSet::empty();
    no_signal.thread_set_mask().or_could_not(|| "let signals through".to_owned())?;
    thread::sleep(Duration::from_millis(delay_ms.parse().unwrap_or(0)));
    let cause = Command::new(program).args(arguments).exec();
    Err(NamespaceError::system(format!("run {program}"), cause))
}
