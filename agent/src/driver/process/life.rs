//! The life of one supervised application: it runs, waits to be started again, or is stopped.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    Supervised, SupervisedState,
    record::{Identity, Records},
};

/// Pause before an application that ended is started again the first time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran this long had started well, and the next pause is the first one again.
const STABLE: Duration = Duration::from_secs(60);
/// How long a launcher may take to write down who it is: two synced files on a slow disk.
const LAUNCHED_WITHIN: Duration = Duration::from_secs(10);
/// How much of its last output is said when one ends.
const OUTPUT_SAID: u64 = 300;

/// A process of an application, our child or not.
#[derive(Debug)]
pub(super) struct Process {
    identity: Identity,
    /// Ours to wait for; the child of an agent before us is not.
    child: Option<Child>,
    ended: Option<Option<ExitStatus>>,
}

/// Why a launcher did not become an application.
#[derive(Debug)]
pub(super) enum NotLaunched {
    System(io::Error),
    Ended(String),
}

impl Process {
    /// One that runs already.
    pub(super) const fn found(identity: Identity) -> Self {
        Self { identity, child: None, ended: None }
    }

    /// Starts the launcher and waits until it has written down who it is.
    pub(super) fn launch(
        launcher: &Path,
        records: &Records,
        instance: u64,
    ) -> Result<Self, NotLaunched> {
        let output = records.output();
        let append = || OpenOptions::new().create(true).append(true).mode(0o600).open(&output);
        let mut child = Command::new(launcher)
            .arg("launch")
            .arg(records.folder())
            .arg(instance.to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(append().map_err(NotLaunched::System)?)
            .stderr(append().map_err(NotLaunched::System)?)
            .spawn()
            .map_err(NotLaunched::System)?;
        let until = Instant::now() + LAUNCHED_WITHIN;
        loop {
            let last = records.last().ok().flatten();
            if let Some(running) = last.filter(|running| running.instance == instance) {
                let identity = running.process;
                return Ok(Self { identity, child: Some(child), ended: None });
            }
            if let Some(status) = child.try_wait().map_err(NotLaunched::System)? {
                return Err(NotLaunched::Ended(told(status, records)));
            }
            if Instant::now() > until {
                // Whatever became of it: without a record it must not go on.
                child.kill().and_then(|()| child.wait()).map_err(NotLaunched::System)?;
                return Err(NotLaunched::Ended("it did not start in time".into()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) const fn pid(&self) -> i32 {
        self.identity.pid
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.end().is_some()
    }

    /// How it ended, if it has; what is not our child ends without a status.
    fn end(&mut self) -> Option<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = match &mut self.child {
                Some(child) => child.try_wait().ok().flatten().map(Some),
                None => (!self.identity.is_alive()).then_some(None),
            };
        }
        self.ended
    }
}

fn told(status: ExitStatus, records: &Records) -> String {
    match last_output(&records.output()) {
        Some(said) => format!("{status}; it last said: {said}"),
        None => status.to_string(),
    }
}

fn last_output(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_SAID))).ok()?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_SAID).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).collect())
}

#[derive(Debug)]
enum State {
    /// `since` is `None` if it ran before we came.
    Running {
        process: Process,
        since: Option<Instant>,
    },
    Waiting {
        until: Instant,
        how: String,
    },
    Stopping,
}

/// The life of one application.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    /// Ends since it last ran for long.
    ends: u32,
}

impl Life {
    pub(super) fn new(process: Process) -> Self {
        Self { state: State::Running { process, since: Some(Instant::now()) }, ends: 0 }
    }

    pub(super) const fn found(identity: Identity) -> Self {
        let process = Process::found(identity);
        Self { state: State::Running { process, since: None }, ends: 0 }
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub(super) const fn pid(&self) -> Option<i32> {
        match &self.state {
            State::Running { process, .. } => Some(process.pid()),
            _ => None,
        }
    }

    /// From here on it is not started again. Gives its process, if it has one.
    pub(super) fn stop(&mut self) -> Option<Process> {
        match std::mem::replace(&mut self.state, State::Stopping) {
            State::Running { process, .. } => Some(process),
            _ => None,
        }
    }

    /// How it ended, the first time it is seen to have.
    pub(super) fn note_end(&mut self, now: Instant, records: &Records) -> Option<String> {
        let State::Running { process, since } = &mut self.state else { return None };
        let how = match process.end()? {
            Some(status) => told(status, records),
            None => "it is gone".to_owned(),
        };
        let was_stable = since.is_none_or(|since| now.duration_since(since) >= STABLE);
        self.ends = if was_stable { 1 } else { self.ends.saturating_add(1) };
        self.state = State::Waiting { until: now + pause(self.ends), how: how.clone() };
        Some(how)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(&self.state, State::Waiting { until, .. } if now >= *until)
    }

    /// How long until it is started again.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match &self.state {
            State::Waiting { until, .. } => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn started_again(&mut self, process: Process, now: Instant) {
        self.state = State::Running { process, since: Some(now) };
    }

    pub(super) fn put_off(&mut self, now: Instant) {
        self.ends = self.ends.saturating_add(1);
        if let State::Waiting { until, .. } = &mut self.state {
            *until = now + pause(self.ends);
        }
    }

    /// How long it runs, `None` if since before we came; why not, if it does not.
    pub(super) fn runs_for(&mut self, now: Instant) -> Result<Option<Duration>, String> {
        match &mut self.state {
            State::Running { process, since } => {
                if process.has_ended() {
                    return Err("it ended".into());
                }
                Ok(since.map(|since| now.saturating_duration_since(since)))
            }
            State::Waiting { how, .. } => Err(format!("it ended by itself: {how}")),
            State::Stopping => Err("it is being stopped".into()),
        }
    }

    pub(super) fn seen(&self) -> Supervised {
        let state = match &self.state {
            State::Running { .. } => SupervisedState::Runs,
            State::Waiting { .. } => SupervisedState::Waits,
            State::Stopping => SupervisedState::Stops,
        };
        Supervised { state, pid: self.pid().and_then(|pid| u32::try_from(pid).ok()) }
    }
}

fn pause(ends: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << ends.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_waited_for_longer_up_to_a_minute() {
        let pauses: Vec<u64> = (1..=8).map(|ends| pause(ends).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
