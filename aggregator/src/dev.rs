//! The demonstration: machines made of namespaces, a small fleet on them, and the whole loop told
//! as it goes.
//!
//! ```text
//!  fleet ─> service ─> story:  machines, samples, windows, graph, candidates, plan,
//!             ▲                trial, promotion, audit, or the way back
//!             └── sinterctl plan approve, or --approve
//! ```
//!
//! It is the same service as `run`, over the same adapters. All it makes is in its own namespaces
//! and one folder of this user, and all of it goes when it ends; what a killed one left behind
//! goes when the next one starts.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::clock::Clock;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::{
    hypervisor::{
        HypervisorError,
        namespace::{NamespaceError, NamespaceHypervisor},
    },
    repository::RepositoryError,
    service::{ServiceError, StopSignals},
};

mod ending;
mod fault;
mod fleet;
mod follow;
mod stage;
mod state;
mod story;
mod tell;

/// Machines of the largest fleet: the production network is a /24.
pub const MOST_MACHINES: u16 = 200;

/// Which stage is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaking {
    /// The clone fails its trial.
    Trial,
    /// The live machine fails to take the new mix.
    Promotion,
    /// The new mix goes bad while it is watched.
    Audit,
}

/// How the demonstration goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many machines, six at least.
    pub machines: u16,
    /// Say yes to the first plan.
    pub approve: bool,
    /// End after the first plan.
    pub once: bool,
    /// Let that stage fail.
    pub break_at: Option<Breaking>,
    /// Die after so many journal entries.
    pub kill_after_event: Option<u64>,
    /// Go on with what is there.
    pub resume: bool,
    /// Whether the story is coloured.
    pub coloured: bool,
    /// Where all of it is.
    pub folder: PathBuf,
}

/// Why the demonstration ended badly.
#[derive(Debug, Error)]
pub enum DevError {
    /// Another one runs.
    #[error("a demonstration of yours runs already, as process {holder}; end it first")]
    Held {
        /// Which.
        holder: String,
    },
    /// Its folder belongs to somebody else.
    #[error("{} is not a folder of yours alone; remove it, or set TMPDIR", .0.display())]
    Foreign(PathBuf),
    /// The system did not do it.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The service did not start or stop.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A machine could not be made.
    #[error("could not make the machines")]
    Machines(#[from] NamespaceError),
    /// A machine could not be started.
    #[error("could not start the machines")]
    Start(#[from] HypervisorError),
    /// What happened could not be read.
    #[error("could not read what happened")]
    Repository(#[from] RepositoryError),
    /// The story could not be told.
    #[error("could not write to standard output")]
    Tell(#[source] io::Error),
    /// It ended, but not as it was asked to.
    #[error("it did not end as asked: {0}")]
    NotAsAsked(String),
}

fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DevError {
    move |cause| DevError::Io { action, path: path.to_owned(), cause }
}

/// The one folder of this user's demonstration.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("sinter-dev-{}", nix::unistd::getuid()))
}

/// Where a running `sinter-aggregator dev` of this user leaves the context file for `sinterctl`.
#[must_use]
pub fn context_file() -> PathBuf {
    folder().join("contexts.toml")
}

/// Where the demonstration's machines are kept.
#[must_use]
pub fn machines_folder(folder: &Path) -> PathBuf {
    folder.join("machines")
}

const LOCK: &str = "lock";

/// The demonstration's folder, ours until this is dropped.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held, never read")] Flock<File>);

/// Makes the folder and takes hold of it.
///
/// # Errors
///
/// [`DevError::Held`] if another demonstration runs, [`DevError::Foreign`] if the folder is not
/// this user's alone.
pub fn hold(options: &Options) -> Result<Hold, DevError> {
    let folder = &options.folder;
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io("make folder", folder)(cause));
        }
        _ => {}
    }
    // It lies where anybody may make a folder, or a link to one of ours.
    let there = fs::symlink_metadata(folder).map_err(io("look at", folder))?;
    let is_ours = there.is_dir() && there.uid() == nix::unistd::getuid().as_raw();
    if !is_ours || there.permissions().mode() & 0o077 != 0 {
        return Err(DevError::Foreign(folder.clone()));
    }
    let path = folder.join(LOCK);
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let file = open.map_err(io("open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(io("write", &path))?;
            write!(lock, "{}", std::process::id()).map_err(io("write", &path))?;
            Ok(Hold(lock))
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(io("read", &path))?;
            Err(DevError::Held { holder })
        }
        Err((_, errno)) => Err(io("lock", &path)(errno.into())),
    }
}

/// Removes everything in the folder but the lock.
fn clear(folder: &Path) -> Result<(), DevError> {
    for entry in fs::read_dir(folder).map_err(io("read", folder))? {
        let path = entry.map_err(io("read", folder))?.path();
        if path.ends_with(LOCK) {
            continue;
        }
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io("remove", &path))?;
    }
    Ok(())
}

/// Ends every machine and removes every file, this process's or an earlier one's.
async fn sweep(folder: &Path) -> Result<(), DevError> {
    NamespaceHypervisor::destroy(&machines_folder(folder)).await?;
    clear(folder)
}

/// Runs the demonstration until it is over or told to stop, and leaves nothing behind.
///
/// # Errors
///
/// See [`DevError`].
pub async fn run(options: &Options, held: Hold, clock: Arc<dyn Clock>) -> Result<(), DevError> {
    // Heard from the first moment on: what is made is always cleared away again.
    let mut signals = StopSignals::hear()?;
    if !options.resume {
        sweep(&options.folder).await?;
    }
    let ended = stage::play(options, &clock, &mut signals).await;
    let swept = sweep(&options.folder).await;
    drop(held);
    if swept.is_ok() {
        fs::remove_dir_all(&options.folder).map_err(io("remove", &options.folder))?;
    }
    ended.and(swept)
}
