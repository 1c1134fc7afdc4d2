//! Between the agent and an application: the process that becomes it.
//!
//! The agent starts itself again under a hidden argument. That process writes down who it is and
//! then becomes the application, so there is no moment in which an application runs and nobody
//! knows. One that comes late, when something else is wanted or runs already, ends.

use std::{
    convert::Infallible, fs, io::Write as _, os::unix::process::CommandExt as _, path::Path,
    process::Command,
};

use thiserror::Error;

use super::record::{Identity, Order, Records, Running};
use crate::{file::FileError, platform::without_own_settings};

/// Why a process did not become an application.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Something else is wanted by now.
    #[error("this start is not wanted any more")]
    NotWanted,
    /// It runs already.
    #[error("it runs already as process {0}")]
    Runs(i32),
    /// What is remembered could not be read or written.
    #[error("could not remember the process")]
    Remember(#[source] FileError),
    /// The system refused.
    #[error("could not {what}")]
    Refused {
        /// What was to be done.
        what: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

/// Becomes the application whose folder that is. To be called first thing in `main`, with one
/// thread.
///
/// # Errors
///
/// See [`LaunchError`]; there is no other way to return.
pub fn launch(folder: &Path, instance: u64) -> Result<Infallible, LaunchError> {
    let records = Records::in_folder(folder);
    // Held until this process has become the application: the lock's file closes by itself then.
    let _lock = records.lock().map_err(LaunchError::Remember)?;
    let order = records.order().map_err(LaunchError::Remember)?.unwrap_or_default();
    if !order.wanted || order.instance != instance {
        return Err(LaunchError::NotWanted);
    }
    if let Some(running) = records.alive().map_err(LaunchError::Remember)? {
        return Err(LaunchError::Runs(running.process.pid));
    }
    prepare(&order)?;
    let process = Identity::own().map_err(refused("read who this process is"))?;
    records.write_running(&Running { instance, process }).map_err(LaunchError::Remember)?;
    let (program, arguments) = order.command.split_first().ok_or(LaunchError::NotWanted)?;
    let mut application = Command::new(program);
    let cause = without_own_settings(application.args(arguments)).exec();
    Err(refused(format!("run {program}"))(cause))
}

/// A session of its own, its limits, and none of the agent's own humility.
fn prepare(order: &Order) -> Result<(), LaunchError> {
    nix::unistd::setsid().map_err(|errno| refused("make a session of its own")(errno.into()))?;
    // An application that is not limited, or as humble as the agent, serves all the same. The
    // agent looks whether it is in its groups; the rest is said in its output.
    for group in &order.groups {
        // "0" is whoever writes.
        if let Err(cause) = fs::write(group.join("cgroup.procs"), "0") {
            note("control group", &cause);
        }
    }
    if let Some(nice) = order.nice
        && let Err(cause) = rustix::process::setpriority_process(None, nice)
    {
        note("priority", &cause);
    }
    if let Some(score) = order.oom_score
        && let Err(cause) = fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        note("OOM score", &cause);
    }
    Ok(())
}

fn note(what: &str, cause: &dyn std::error::Error) {
    let line = format!("sinter-agent: {what} is the agent's: {cause}");
    // It has no other place to say it, and where there is none it is left unsaid.
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn refused(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LaunchError {
    |cause| LaunchError::Refused { what: what.into(), cause }
}
