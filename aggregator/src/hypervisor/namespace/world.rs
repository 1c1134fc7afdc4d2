//! All that one folder holds: opened, and ended.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use common::task::Chain;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use tracing::{info, warn};

use super::{
    Attempt, NamespaceError,
    fabric::{self, Fabric},
    group::Groups,
    launch::Program,
    layout::{self, Layout, UNFINISHED},
    user,
};
use crate::hypervisor::Power;

/// How long the kernel may take to end everything below a killed keeper.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// Which control groups are ours. Written before all else and removed last.
const GROUPS: &str = "fabric.json";

/// What our programs are called, so that their neighbours in a build folder stay unseen.
const OURS: &str = "sinter";

/// The machines of one folder, and what it takes to make them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) layout: Layout,
    pub(super) program: Program,
    pub(super) agent: PathBuf,
    pub(super) groups: Groups,
    pub(super) fabric: Fabric,
}

impl World {
    pub(super) fn open(
        folder: &Path,
        agent: &Path,
        program: Program,
    ) -> Result<Self, NamespaceError> {
        if !user::may_administer() {
            return Err(NamespaceError::Host {
                missing: "the right to make namespaces".to_owned(),
                remedy: user::REMEDY.to_owned(),
            });
        }
        let agent = fs::canonicalize(agent).or_could_not(|| format!("find {}", agent.display()))?;
        let layout = Layout::make(folder)?;
        let world = {
            let _held = layout.hold_fabric()?;
            clear_unfinished(&layout)?;
            let groups = groups(&layout)?;
            let fabric = Fabric::open(&layout, &program)?;
            Self { layout, program, agent, groups, fabric }
        };
        if !world.groups.holds_limits() {
            warn!("cpu and memory of machines are not limited: no control group is ours to divide");
        }
        world.resume()?;
        Ok(world)
    }

    /// What an earlier process left half done goes on: nothing stays frozen, and what should run
    /// does.
    fn resume(&self) -> Result<(), NamespaceError> {
        for record in self.layout.records()? {
            let vm = &record.vm;
            let resumed = match self.layout.running(vm) {
                Some(_) => self.thaw(vm),
                None if record.wanted == Power::On => self.start(vm),
                None => Ok(()),
            };
            if let Err(error) = resumed {
                warn!(%vm, cause = %Chain(&error), "machine not running again");
            }
        }
        Ok(())
    }

    /// Programs outside the host's own folders that machines see: the agent, and ours beside it.
    pub(super) fn programs(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::from([self.agent.clone()]);
        let folders = [self.agent.parent(), self.program.file().parent()];
        for folder in folders.into_iter().flatten() {
            for name in layout::names(folder).unwrap_or_default() {
                let path = folder.join(&name);
                if name.starts_with(OURS) && !name.contains('.') && path.is_file() {
                    found.insert(path);
                }
            }
        }
        // These are seen anyway.
        let lent = ["/usr", "/bin", "/sbin", "/lib"];
        found.retain(|path| !lent.iter().any(|folder| path.starts_with(folder)));
        found
    }
}

/// The groups as they were found first: a later process may be in another group itself.
fn groups(layout: &Layout) -> Result<Groups, NamespaceError> {
    let path = layout.folder().join(GROUPS);
    if let Some(groups) = layout::read(&path)? {
        return Ok(groups);
    }
    let groups = Groups::find(layout.folder());
    layout::write(&path, &groups)?;
    Ok(groups)
}

fn clear_unfinished(layout: &Layout) -> Result<(), NamespaceError> {
    for name in layout::names(&layout.machines())? {
        if name.starts_with(UNFINISHED) {
            let path = layout.machines().join(name);
            fs::remove_dir_all(&path).or_could_not(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Ends everything of a folder; one that is not there has nothing to end.
pub(super) fn destroy(folder: &Path) -> Result<(), NamespaceError> {
    if !folder.join(GROUPS).exists() {
        // Nothing was ever made there, and what lies there is somebody else's.
        return Ok(());
    }
    let layout = Layout::make(folder)?;
    {
        let _held = layout.hold_fabric()?;
        let groups: Option<Groups> = layout::read(&layout.folder().join(GROUPS))?;
        if let Some(groups) = &groups {
            thaw_all(&layout, groups);
        }
        end_keeper(&layout)?;
        if let Some(groups) = &groups {
            groups.remove_all()?;
        }
        clear(&layout)?;
    }
    info!(folder = %layout.folder().display(), "machines and their network ended");
    Ok(())
}

/// What is frozen would not die.
fn thaw_all(layout: &Layout, groups: &Groups) {
    for record in layout.records().unwrap_or_default() {
        if let Err(error) = groups.thaw(&record.vm) {
            warn!(vm = %record.vm, cause = %Chain(&error), "machine not thawed");
        }
    }
}

fn end_keeper(layout: &Layout) -> Result<(), NamespaceError> {
    let Some(keeper) = fabric::find_keeper(layout)? else { return Ok(()) };
    keeper
        .signal(Signal::SIGKILL)
        .or_could_not(|| "end the keeper of the private network".to_owned())?;
    if !keeper.ends_within(END_PATIENCE) {
        let cause = io::Error::from(io::ErrorKind::TimedOut);
        return Err(NamespaceError::system("see the keeper's end", cause));
    }
    // Its parent is whoever reaps on this host; in a container that may be us.
    if let Err(cause) = waitpid(Pid::from_raw(keeper.pid()), Some(WaitPidFlag::WNOHANG)) {
        tracing::debug!(%cause, "keeper reaped by another");
    }
    Ok(())
}

fn clear(layout: &Layout) -> Result<(), NamespaceError> {
    for name in ["machines", "visitors", "locks"] {
        let path = layout.folder().join(name);
        fs::remove_dir_all(&path).or_could_not(|| format!("remove {}", path.display()))?;
    }
    for name in ["keeper.json", "keeper.lock", "probe.log", GROUPS] {
        let path = layout.folder().join(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(NamespaceError::system(format!("remove {}", path.display()), cause));
            }
            _ => {}
        }
    }
    match fs::remove_dir(layout.folder()) {
        // Something of somebody else lies in it.
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        outcome => outcome.or_could_not(|| format!("remove {}", layout.folder().display())),
    }
}

/// Stops processes that no group can freeze, or lets them go on.
pub(super) fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        if let Err(cause) = kill(Pid::from_raw(*pid), signal) {
            tracing::debug!(pid, %cause, "process not signalled");
        }
    }
}
