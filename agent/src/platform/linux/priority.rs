//! The agent stands back behind the applications: it yields the CPU, and dies before they do.

use std::{fs, thread};

use rustix::process::{getpriority_process, setpriority_process};
use tracing::debug;

use crate::platform::Former;

/// Nice value of the agent.
const NICE: i32 = 10;
/// Its OOM score adjustment.
const OOM_SCORE: i32 = 500;
const OOM_FILE: &str = "/proc/self/oom_score_adj";

/// Takes the agent back, where its applications need not stand back with it. To be called while
/// there is one thread: the kernel keeps a nice value per thread.
#[must_use]
pub fn become_humble() -> Former {
    Former { nice: lower_priority(), oom_score: raise_oom_score() }
}

fn lower_priority() -> Option<i32> {
    let own = getpriority_process(None).ok()?;
    // Not everybody may undo it, and an application must not be slowed down with the agent.
    let may_undo = thread::spawn(move || {
        setpriority_process(None, own + 1).and_then(|()| setpriority_process(None, own))
    });
    let undone = may_undo.join().ok()?;
    if let Err(cause) = undone {
        debug!(%cause, "priority kept: it could not be given back to applications");
        return None;
    }
    setpriority_process(None, own.max(NICE)).ok()?;
    Some(own)
}

fn raise_oom_score() -> Option<i32> {
    let own: i32 = fs::read_to_string(OOM_FILE).ok()?.trim().parse().ok()?;
    fs::write(OOM_FILE, own.max(OOM_SCORE).to_string()).ok()?;
    Some(own)
}
