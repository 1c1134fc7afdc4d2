//! One small heap instead of one for each thread.
//!
//! A look needs memory for a moment that the agent does not need at rest. The C library keeps it, in a heap
//! for each thread that ever looked; it hears of another wish only from the environment, when it starts.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use tracing::debug;

/// Says that the settings are ours.
const MARK: &str = "SINTER_AGENT_HEAP";

/// One heap, and what it does not need goes back.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// Becomes the same program again with one heap, unless somebody chose otherwise. To be called first of all:
/// what was done before is done twice. A program that cannot be begun again goes on as it is.
pub fn keep_to_one_heap() {
    let is_said = SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some());
    if is_said || env::var_os(MARK).is_some() {
        return;
    }
    let Ok(own) = env::current_exe() else { return };
    let mut again = Command::new(own);
    again.args(env::args_os().skip(1)).envs(SETTINGS).env(MARK, "1");
    if let Some(name) = env::args_os().next() {
        again.arg0(name);
    }
    let cause = again.exec();
    debug!(%cause, "went on with a heap for each thread");
}

/// Takes out of the environment of an application what was put there for the agent.
pub fn without_own_settings(application: &mut Command) -> &mut Command {
    if env::var_os(MARK).is_some() {
        for (name, _) in SETTINGS {
            application.env_remove(name);
        }
        application.env_remove(MARK);
    }
    application
}
