//! The process that does what a script says, under whatever name its file has, and tells afterwards
//! what it did.
//!
//! It says `ready` when it listens, begins at `go`, says `done`, and tells the truth and ends at the
//! end of its input. It stands on threads, since it should look like an ordinary server.

mod call;
mod serve;
mod spawn;
mod store;

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc::channel},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};

use super::script::{Connected, Done, Script};
use crate::figure::Failure;

/// Nothing of this may wait longer for a peer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the threads of one process did so far.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Done>>);

impl Log {
    fn opened(&self, connected: Connected) {
        self.write(|done| done.opened.push(connected));
    }

    fn accepted(&self, connected: Connected) {
        self.write(|done| done.accepted.push(connected));
    }

    fn trouble(&self, text: String) {
        self.write(|done| done.troubles.push(text));
    }

    fn write(&self, change: impl FnOnce(&mut Done)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Enters the network namespace of that file. Threads made afterwards are in it too.
///
/// # Errors
///
/// If there is none, or the right to enter it is missing.
pub fn enter(namespace: &Path) -> Result<(), Failure> {
    setns(fs::File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// Does what the script in `file` says.
///
/// # Errors
///
/// If the script cannot be read or its namespace cannot be entered. What goes wrong with a single
/// connection is told as a trouble.
pub fn act(file: &Path) -> Result<(), Failure> {
    let script: Script = serde_json::from_slice(&fs::read(file)?)?;
    if let Some(group) = &script.group {
        fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    }
    if let Some(namespace) = &script.namespace {
        enter(namespace)?;
    }
    let log = Log::default();
    for serving in &script.serves {
        serve::listen(*serving, &log)?;
    }
    say("ready")?;
    let mut lines = io::stdin().lock().lines();
    if lines.next().transpose()?.as_deref() != Some("go") {
        return Ok(());
    }
    let open = perform(&script, file, &log);
    say("done")?;
    // Until its end: nothing else is said to it.
    lines.for_each(drop);
    let told = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    say(&serde_json::to_string(&told)?)?;
    drop(open);
    Ok(())
}

/// Does all of it at once; gives the connections that stay open.
///
/// The threads stay until the process ends: the kernel names the thread that opens a connection, and
/// whose it was can be asked only while it is there.
fn perform(script: &Script, file: &Path, log: &Log) -> Vec<call::Open> {
    let (tell, told) = channel();
    for calling in script.calls.iter().copied() {
        let (tell, log) = (tell.clone(), log.clone());
        thread::spawn(move || {
            drop(tell.send(call::run(calling, &log)));
            loop {
                thread::park();
            }
        });
    }
    if let Some(storing) = &script.stores {
        store::run(storing, log);
    }
    // From the first thread, as a shell does.
    for spawning in &script.spawns {
        spawn::run(spawning, file, log);
    }
    told.iter().take(script.calls.len()).flatten().collect()
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
