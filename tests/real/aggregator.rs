//! The aggregator as a process on the guests' host, and `sinterctl` beside it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lab::programs::program;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Introduction, MANAGEMENT, NAMESPACE, until};

/// An aggregator that runs; told to stop when this is dropped.
pub struct Aggregator {
    folder: PathBuf,
    child: Child,
}

/// A command on the network of the guests' host.
fn there(name: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NAMESPACE]).arg(program(name).unwrap()).stdin(Stdio::null());
    command
}

impl Aggregator {
    /// Starts it over `folder`; the machines are those of the libvirt at `socket`.
    pub fn start(folder: &Path, socket: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let config = folder.join("aggregator.toml");
        let text = format!(
            "folder = \"{}\"\nagents = \"{MANAGEMENT}.1:7401\"\nadmin = \"127.0.0.1:7402\"\n\
             [hypervisor.lab]\nkind = \"libvirt\"\nsocket = \"{}\"\nuplinks = [\"management\"]\n",
            folder.join("home").display(),
            socket.display()
        );
        fs::write(&config, text).unwrap();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let child = there("sinter-aggregator")
            .args(["run", "--config"])
            .arg(&config)
            .env("SINTER_LOG", "info")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let aggregator = Self { folder: folder.to_owned(), child: child.unwrap() };
        until("the aggregator to answer", || aggregator.ctl(&["vms"]).ok());
        aggregator
    }

    /// Asks, as an operator does; what is said if it is refused.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.told(&[&["-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|cause| format!("{cause}: {text}"))
    }

    /// As [`Self::ctl`], for people.
    pub fn told(&self, arguments: &[&str]) -> Result<String, String> {
        let context = self.folder.join("home/operators/admin/contexts.toml");
        let output = there("sinterctl").arg("--context-file").arg(context).args(arguments).output();
        let output = output.map_err(|cause| cause.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What agents need to be let in.
    pub fn introduction(&self) -> Introduction {
        let made = self.ctl(&["tokens", "create", "fleet", "--uses", "0"]).unwrap();
        let fingerprint = there("sinter-aggregator")
            .args(["authority", "fingerprint", "--config"])
            .arg(self.folder.join("aggregator.toml"))
            .output();
        let fingerprint = String::from_utf8(fingerprint.unwrap().stdout).unwrap();
        let token = made["secret"].as_str().unwrap_or_else(|| panic!("{made}"));
        Introduction { fingerprint: fingerprint.trim().to_owned(), token: token.to_owned() }
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        // `ip` has become the aggregator.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        if kill(pid, Signal::SIGTERM).is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}
