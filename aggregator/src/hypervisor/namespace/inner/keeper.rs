//! The keeper: first process of the PID namespace in which everything of one folder runs, holder
//! of the private network, and reaper of whoever loses its parent. It does nothing else, so that
//! nothing but a signal from outside ends it; then the kernel ends all the others.

use std::{fs::File, path::Path};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};

use super::{again, leave, name, say};
use crate::hypervisor::namespace::{Attempt, NamespaceError, layout, process::Process};

/// Makes the namespaces and starts the keeper in them.
pub(super) fn start(folder: &str) -> Result<(), NamespaceError> {
    setsid().or_could_not(|| "leave the session".to_owned())?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET)
        .or_could_not(|| "make a PID and a network namespace".to_owned())?;
    leave(again(&["keeper", folder]))
}

/// Keeps until it is killed. The lock, which the kernel lets go of at our end whatever it is,
/// makes sure that there is one keeper.
pub(super) fn run(folder: &Path) -> Result<(), NamespaceError> {
    name(c"sinter-keeper")?;
    let path = folder.join("keeper.lock");
    let lock = File::options().create(true).append(true).open(&path);
    let lock = lock.or_could_not(|| format!("open {}", path.display()))?;
    if lock.try_lock().is_err() {
        return Err(NamespaceError::refused("another keeper is there already"));
    }
    let own = Process::own().or_could_not(|| "find ourselves".to_owned())?;
    layout::write(&folder.join("keeper.json"), &own)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().or_could_not(|| "hold back signals".to_owned())?;
    say("ready").or_could_not(|| "say so".to_owned())?;
    loop {
        children.wait().or_could_not(|| "wait for a signal".to_owned())?;
        while reap()?.is_some() {}
    }
}

/// One child that has ended; `None` if there is none now.
pub(super) fn reap() -> Result<Option<Pid>, NamespaceError> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(status) => Ok(status.pid()),
        Err(Errno::EINTR) => Ok(None),
        Err(cause) => Err(NamespaceError::system("reap a child", cause)),
    }
}
