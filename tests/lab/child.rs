//! Servers under load, each in a process of its own, so that what it costs is told apart from what
//! the load costs.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{figure::Failure, load::Target};

/// The first line a server prints: how to reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Greeting {
    /// Where it listens: `ADDRESS:PORT`.
    pub address: String,
    /// The authority to be trusted.
    pub authority_pem: String,
    /// A join token that any number of agents may use.
    pub token: String,
    /// An agent's certificate and key, where there is no enrolment.
    pub identity: Option<(String, String)>,
}

/// A server that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    greeting: Greeting,
}

impl Server {
    /// Starts `lab` (the program `sinter-lab`) as the server `part` over `folder`, for so many
    /// machines.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn start(lab: &Path, part: &str, folder: &Path, machines: usize) -> Result<Self, Failure> {
        let mut child = Command::new(lab)
            .arg(part)
            .arg(folder)
            .arg(machines.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match serde_json::from_str(&line) {
            Ok(greeting) => Ok(Self { child, greeting }),
            Err(_) => {
                child.kill()?;
                child.wait()?;
                Err(Box::new(io::Error::other(format!("{part} did not come up: {line:?}"))))
            }
        }
    }

    /// How to reach it.
    #[must_use]
    pub const fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// It as a target of load.
    #[must_use]
    pub fn target(&self, compressed: bool) -> Target {
        Target {
            address: format!("https://{}", self.greeting.address),
            authority_pem: self.greeting.authority_pem.clone(),
            compressed,
        }
    }

    /// CPU time it has used so far.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold blanks; what follows its closing parenthesis does not.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        ticks
            // The kernel tells these times in hundredths of a second, whatever its own tick is.
            .map(|ticks| Duration::from_millis(ticks * 10))
            .ok_or_else(|| io::Error::other("/proc/PID/stat has no times"))
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib << 10)
            .ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Errors
    ///
    /// If it could not be ended.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
