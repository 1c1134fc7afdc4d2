//! Starts our inner parts below the keeper, in three steps so that nothing is ever left over.
//!
//! ```text
//!  we ── enter ── unshare ── part     `pid N`   the part tells its number
//!  we: groups, links, running.json              nothing of it runs yet
//!  we ── order (one line of JSON) ─> part       `ready`, or `failed: why`
//! ```
//!
//! If this process is killed on the way, the part reads the end of its input and ends. `enter` and
//! `unshare` end at once, so the part's parent is the keeper, which reaps it.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::Serialize;

use super::{Attempt, NamespaceError, process::Process};

/// First argument by which this program knows that it is called as an inner part.
pub(super) const INNER: &str = "inner-part-of-namespace-machines";

/// How long a part may take to say its number, or that it is ready. Generous: on a busy host a
/// start of three programs takes its time, and a part that fails says so at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The program whose `main` calls `inner_main`.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// What is executed: for ourselves a name that stays good when the file is replaced.
    path: PathBuf,
    /// Where it lies.
    file: PathBuf,
}

impl Program {
    pub(super) fn own() -> Result<Self, NamespaceError> {
        let file = env::current_exe().or_could_not(|| "find our own program".to_owned())?;
        Ok(Self { path: "/proc/self/exe".into(), file })
    }

    pub(super) fn at(path: &Path) -> Result<Self, NamespaceError> {
        let file = fs::canonicalize(path).or_could_not(|| format!("find {}", path.display()))?;
        Ok(Self { path: file.clone(), file })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// A part's command, with nothing of our surroundings.
    pub(super) fn part(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(self.file.file_name().unwrap_or("sinter".as_ref()));
        command.arg(INNER).args(arguments);
        command.env_clear().current_dir("/");
        command
    }
}

/// A part that waits for its order. Dropped without one, it ends.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) process: Process,
    /// Its network namespace.
    pub(super) netns: File,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// Lines of a part's output, read by a thread so that they can be waited for with an end.
pub(super) fn lines(output: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next line of a part that has not failed.
pub(super) fn next(
    lines: &Receiver<String>,
    patience: Duration,
    what: &str,
) -> Result<String, NamespaceError> {
    let silent = |cause| Err(NamespaceError::system(what, cause));
    match lines.recv_timeout(patience) {
        Ok(line) => match line.strip_prefix("failed: ") {
            Some(why) => silent(io::Error::other(why.to_owned())),
            None => Ok(line),
        },
        Err(RecvTimeoutError::Timeout) => silent(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => {
            silent(io::Error::other("it ended without a word; see its log"))
        }
    }
}

/// Starts a part below `keeper`. `log` takes what it and its children complain of.
pub(super) fn launch(
    program: &Program,
    keeper: &Process,
    part: &str,
    log: File,
) -> Result<Waiting, NamespaceError> {
    if !keeper.lives() {
        // Its number may be somebody else's by now.
        let cause = io::Error::other("the keeper of the private network has ended; open it again");
        return Err(NamespaceError::system(format!("start a {part}"), cause));
    }
    let command = program.part(&["enter", &keeper.pid().to_string(), part]);
    begin(command, part, log)
}

/// Starts a part that stands below nobody: it has to end by itself.
pub(super) fn launch_alone(
    program: &Program,
    part: &str,
    log: File,
) -> Result<Waiting, NamespaceError> {
    begin(program.part(&["alone", part]), part, log)
}

fn begin(mut command: Command, part: &str, log: File) -> Result<Waiting, NamespaceError> {
    let what = format!("start a {part}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().or_could_not(|| what.clone())?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(input), Some(output)) = (input, output) else {
        return Err(NamespaceError::system(what, io::Error::from(io::ErrorKind::BrokenPipe)));
    };
    let lines = lines(output);
    let said = next(&lines, PATIENCE, &what);
    if said.is_err() {
        // Stuck or failed; it and what it may have started read the end of their input.
        drop(input);
        child.kill().or_could_not(|| format!("end what should {what}"))?;
        child.wait().or_could_not(|| what.clone())?;
        return Err(said.err().unwrap_or_else(|| NamespaceError::refused(what)));
    }
    // Only the part itself is left; the steps to it have ended or are about to.
    child.wait().or_could_not(|| what.clone())?;
    waiting(&said?, input, lines).or_could_not(|| what)
}

fn waiting(said: &str, input: ChildStdin, lines: Receiver<String>) -> io::Result<Waiting> {
    let number = said.strip_prefix("pid ").and_then(|number| number.parse().ok());
    let process = Process::of(number.ok_or(io::ErrorKind::InvalidData)?)?;
    let netns = File::open(process.file("ns/net"))?;
    Ok(Waiting { process, netns, input, lines })
}

impl Waiting {
    /// Gives the part its order and waits until it has set itself up; what it says from then on
    /// comes out of the channel.
    pub(super) fn go(mut self, order: &impl Serialize) -> Result<Receiver<String>, NamespaceError> {
        let what = "set up what was started";
        let outcome = self.order(order).or_could_not(|| what.to_owned());
        let said = outcome.and_then(|()| next(&self.lines, PATIENCE, what));
        match said {
            Ok(_) => Ok(self.lines),
            Err(error) => {
                self.process.signal(Signal::SIGKILL).or_could_not(|| what.to_owned())?;
                Err(error)
            }
        }
    }

    fn order(&mut self, order: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.input.write_all(&line)
    }
}
