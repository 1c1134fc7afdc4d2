//! A demonstration that runs: `sinter-aggregator dev` as a process of its own, with what it told.

use std::{
    env, io,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::programs::program;

/// What `dev` ends with on a host that cannot make machines.
const HOST_CANNOT: i32 = 5;

/// How a demonstration ended.
#[derive(Debug)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// This host cannot make machines: what is missing, in its own words.
    HostCannot(String),
}

/// A demonstration that is over.
#[derive(Debug)]
pub struct Demonstration {
    /// How it ended.
    pub ended: Ended,
    /// What it told.
    pub story: String,
    /// What it logged.
    pub log: String,
}

/// One demonstration at a time: they share a folder of this user.
pub fn stage() -> MutexGuard<'static, ()> {
    static STAGE: Mutex<()> = Mutex::new(());
    STAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `dev` with these arguments to its end.
///
/// # Errors
///
/// If it cannot be started.
pub fn run(arguments: &[&str]) -> io::Result<Demonstration> {
    let mut command = Command::new(program("sinter-aggregator")?);
    command.arg("dev").args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output()?;
    let log = String::from_utf8_lossy(&stderr).into_owned();
    let ended = match (status.code(), status.signal()) {
        (Some(HOST_CANNOT), _) => Ended::HostCannot(log.clone()),
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    };
    Ok(Demonstration { ended, story: String::from_utf8_lossy(&stdout).into_owned(), log })
}

/// Says loudly that a test was left out; where nothing may be left out, it fails instead.
///
/// # Panics
///
/// If `SINTER_REQUIRE_ALL` is set.
#[expect(clippy::print_stderr, reason = "whoever runs the tests shall see it")]
pub fn left_out(test: &str, why: &str) {
    assert!(env::var_os("SINTER_REQUIRE_ALL").is_none(), "{test} may not be left out: {why}");
    eprintln!("LEFT OUT: {test}: {why}");
}
