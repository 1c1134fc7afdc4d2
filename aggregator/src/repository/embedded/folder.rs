//! The folder of an embedded store: its lock, its room, and the note of what was acknowledged.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::statvfs::statvfs,
};
use tracing::warn;

use super::{super::StoreError, tree::Fault};

/// sled's data file.
const DATA: &str = "db";
const LOCK: &str = "lock";
const NOTE: &str = "acknowledged";
/// Room that is never written to: sled must be able to open its folder again, which takes a
/// snapshot and a segment or two.
const RESERVE: u64 = 4 << 20;
/// A byte committed may take this many on the disk before sled reuses its segments.
const AMPLIFICATION: u64 = 8;

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Folder {
    path: PathBuf,
    note: File,
    _lock: Flock<File>,
}

/// How many commits were acknowledged, as far as the note can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// At least so many.
    Commits(u64),
    /// A new store, or a note torn by a power cut: it is written without waiting for the disk.
    Unknown,
}

impl Folder {
    /// Makes the folder if it is not there, and locks it.
    pub(in super::super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let io = |action: &'static str| {
            move |cause| StoreError::Io { action, folder: path.to_owned(), cause: Arc::new(cause) }
        };
        fs::create_dir_all(path).map_err(io("make the folder of"))?;
        let open = |name| {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path.join(name))
        };
        let file = open(LOCK).map_err(io("lock"))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let named = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                let holder = if named {
                    format!("process {}", pid.trim())
                } else {
                    "another process".to_owned()
                };
                return Err(StoreError::Held { folder: path.to_owned(), holder });
            }
            Err((_, errno)) => return Err(io("lock")(errno.into())),
        };
        lock.set_len(0).map_err(io("lock"))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io("lock"))?;
        let note = open(NOTE).map_err(io("open the note of"))?;
        sync_folder(path).map_err(io("sync the folder of"))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(io("sync the folder above"))?;
        }
        Ok(Self { path: path.to_owned(), note, _lock: lock })
    }

    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data_file(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Bytes of all files in it.
    pub(super) fn size(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
    }

    /// Refuses what would fill the disk before sled has touched anything.
    pub(super) fn has_room(&self, bytes: usize) -> Result<(), StoreError> {
        let Ok(disk) = statvfs(&self.path) else { return Ok(()) };
        let left = disk.blocks_available().saturating_mul(disk.fragment_size());
        let needed = (bytes as u64).saturating_mul(AMPLIFICATION).saturating_add(RESERVE);
        if left >= needed {
            return Ok(());
        }
        let what = format!("{left} bytes are left, {needed} are kept free for it");
        Err(StoreError::Full { folder: self.path.clone(), what })
    }

    /// Notes how many commits were acknowledged. Not synced: a power cut leaves an older note,
    /// which claims less.
    pub(super) fn note(&self, commits: u64) {
        let mut bytes = commits.to_le_bytes().to_vec();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        if let Err(cause) = self.note.write_all_at(&bytes, 0) {
            warn!(%cause, "acknowledged commits not noted");
        }
    }

    pub(super) fn noted(&self) -> Note {
        let mut bytes = [0; 12];
        if self.note.read_exact_at(&mut bytes, 0).is_err() {
            return Note::Unknown;
        }
        let (commits, crc) = bytes.split_at(8);
        if crc32fast::hash(commits).to_le_bytes() != crc {
            warn!(folder = %self.path.display(), "note of acknowledged commits not readable");
            return Note::Unknown;
        }
        commits
            .try_into()
            .map_or(Note::Unknown, |commits| Note::Commits(u64::from_le_bytes(commits)))
    }

    /// Whether no more commits than these were acknowledged, as far as the note can be read.
    pub(in super::super) fn claims_at_most(&self, commits: u64) -> bool {
        !matches!(self.noted(), Note::Commits(noted) if noted > commits)
    }

    pub(super) fn damaged(&self, file: PathBuf, what: String) -> StoreError {
        StoreError::Damaged { folder: self.path.clone(), file, what }
    }

    pub(super) fn io(&self, action: &'static str, cause: io::Error) -> StoreError {
        StoreError::Io { action, folder: self.path.clone(), cause: Arc::new(cause) }
    }

    /// What a fault of the tree means for whoever asked.
    pub(in super::super) fn fault(&self, action: &'static str, fault: Fault) -> StoreError {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WouldBlock};
        match fault {
            Fault::Io(cause)
                if matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge) =>
            {
                StoreError::Full { folder: self.path.clone(), what: cause.to_string() }
            }
            Fault::Io(cause) if cause.kind() == WouldBlock => {
                let holder = "another process".to_owned();
                StoreError::Held { folder: self.path.clone(), holder }
            }
            Fault::Io(cause) => self.io(action, cause),
            Fault::Damage { file, what } => {
                self.damaged(self.path.join(file.unwrap_or_else(|| DATA.to_owned())), what)
            }
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
