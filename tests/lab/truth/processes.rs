//! The processes of a ground truth, from outside: started under the name of their application, told
//! when to begin, asked what they did.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    look::{Order, Report},
    script::{Done, Script, Told},
};
use crate::figure::Failure;

/// A process that says a line when it is asked for one. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(mut command: Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("it has no output")?;
        Ok(Self { child, input, lines: BufReader::new(output) })
    }

    fn says(&mut self, what: &str) -> Result<(), Failure> {
        let line = self.line()?;
        let right = line.trim() == what;
        right.then_some(()).ok_or_else(|| format!("it said {line:?}, not {what:?}").into())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line)
    }

    fn tell(&mut self, what: &str) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| writeln!(input, "{what}"))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Ends its input, and takes what it says then.
    fn last_words<T: DeserializeOwned>(mut self) -> Result<T, Failure> {
        self.input = None;
        let line = self.line()?;
        self.child.wait()?;
        Ok(serde_json::from_str(&line).map_err(|cause| format!("{cause} in {line:?}"))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where scripts, orders and the files of applications stand.
#[derive(Debug)]
pub struct Stage {
    lab: PathBuf,
    folder: PathBuf,
}

impl Stage {
    /// In `folder`, with `lab` (the program `sinter-lab`) as what every application runs.
    #[must_use]
    pub fn new(lab: &Path, folder: &Path) -> Self {
        Self { lab: lab.to_owned(), folder: folder.to_owned() }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, Failure> {
        let file = self.folder.join(name);
        fs::write(&file, serde_json::to_vec(value)?)?;
        Ok(file)
    }

    /// The program under another name: an application of its own to whoever looks.
    fn named(&self, application: &str) -> io::Result<PathBuf> {
        let file = self.folder.join(application);
        if !file.exists() && fs::hard_link(&self.lab, &file).is_err() {
            fs::copy(&self.lab, &file)?;
        }
        Ok(file)
    }

    /// Starts an application; it listens when this returns.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn actor(
        &self,
        machine: &str,
        application: &str,
        script: Script,
    ) -> Result<Actor, Failure> {
        let file = self.write(&format!("{machine}-{application}.json"), &script)?;
        for spawning in &script.spawns {
            self.named(&spawning.program)?;
        }
        let mut command = Command::new(self.named(application)?);
        command.arg("act").arg(file);
        let mut process = Process::start(command)?;
        process.says("ready")?;
        let (machine, application) = (machine.to_owned(), application.to_owned());
        Ok(Actor { machine, application, script, process })
    }

    /// Starts a looking process; it has looked once when this returns. `wrapper` stands before its
    /// command, such as one that takes a right away.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn looker(&self, name: &str, order: &Order, wrapper: &[&str]) -> Result<Watch, Failure> {
        let file = self.write(&format!("{name}.json"), order)?;
        let mut words = wrapper.iter().map(Into::into).chain([self.lab.clone()]);
        let mut command = Command::new(words.next().ok_or("no command")?);
        command.args(words).arg("look").arg(file);
        let mut process = Process::start(command)?;
        process.says("ready")?;
        Ok(Watch(process))
    }
}

/// An application that runs.
#[derive(Debug)]
pub struct Actor {
    machine: String,
    application: String,
    script: Script,
    process: Process,
}

impl Actor {
    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Lets it begin.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn go(&mut self) -> Result<(), Failure> {
        Ok(self.process.tell("go")?)
    }

    /// Waits until it has done all it has to.
    ///
    /// # Errors
    ///
    /// If it ended before.
    pub fn done(&mut self) -> Result<(), Failure> {
        self.process.says("done")
    }

    /// Ends it, and takes what it did.
    ///
    /// # Errors
    ///
    /// If it does not tell.
    pub fn told(self) -> Result<Told, Failure> {
        let Self { machine, application, script, process } = self;
        let done: Done = process.last_words()?;
        Ok(Told { machine, application, serves: script.serves, done })
    }
}

/// A looking process.
#[derive(Debug)]
pub struct Watch(Process);

impl Watch {
    /// Takes its CPU away.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn stop(&self) -> Result<(), Failure> {
        self.0.signal(Signal::SIGSTOP)
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn go_on(&self) -> Result<(), Failure> {
        self.0.signal(Signal::SIGCONT)
    }

    /// Lets it look once more, and takes its report.
    ///
    /// # Errors
    ///
    /// If it does not report.
    pub fn report(self) -> Result<Report, Failure> {
        self.0.last_words()
    }
}
