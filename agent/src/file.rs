//! Files that are there whole or not at all, whenever the machine stops.
//!
//! A file is written beside its place, synced, and renamed into it; the folder is synced too. A
//! sealed file begins with a line that says what it is, how long it is and its checksum, so that
//! a damaged one is never taken for another one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Largest file of ours that is read: all of them are some kilobytes.
const LARGEST: u64 = 4 << 20;

/// Why a file of ours could not be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |cause| FileError::Io { action, path: path.to_owned(), cause }
}

/// Puts `bytes` into the file at `path`, which only our user may read, whole or not at all.
/// When it returns they outlast a loss of power.
///
/// # Errors
///
/// If the system refuses; the former file is there then.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let write = || {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder_of(path)
    };
    write().map_err(refused("write", path))
}

/// Removes a file for good; that there is none is success.
///
/// # Errors
///
/// If the system refuses.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(refused("remove", path))?,
    }
    sync_folder_of(path).map_err(refused("remove", path))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Makes a folder that only our user may look into, and those above it.
///
/// # Errors
///
/// If the system refuses.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(refused("make the folder", path))
}

/// The bytes of a small file; `None` if there is none.
///
/// # Errors
///
/// If the system refuses, or it is far larger than anything of ours.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(refused("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(refused("read", path))?;
    if bytes.len() as u64 > LARGEST {
        let what = format!("it has over {LARGEST} bytes");
        return Err(FileError::Damaged { path: path.to_owned(), what });
    }
    Ok(Some(bytes))
}

/// Writes a value as a sealed file of that kind.
///
/// # Errors
///
/// As [`replace`].
pub fn write_sealed<T: Serialize>(path: &Path, kind: &str, value: &T) -> Result<(), FileError> {
    let body = serde_json::to_vec(value).map_err(|cause| refused("write", path)(cause.into()))?;
    let mut bytes = head(kind, &body).into_bytes();
    bytes.extend(body);
    replace(path, &bytes)
}

/// Reads a sealed file of that kind; `None` if there is none.
///
/// # Errors
///
/// [`FileError::Damaged`] if it is not exactly what was written.
pub fn read_sealed<T: DeserializeOwned>(path: &Path, kind: &str) -> Result<Option<T>, FileError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let damaged = |what: String| FileError::Damaged { path: path.to_owned(), what };
    let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (found, body) = bytes.split_at(line);
    if found != head(kind, body).as_bytes() {
        return Err(damaged(format!("it is not the {kind} that was written")));
    }
    serde_json::from_slice(body).map(Some).map_err(|cause| damaged(cause.to_string()))
}

fn head(kind: &str, body: &[u8]) -> String {
    format!("sinter-{kind} 1 {} {:08x}\n", body.len(), crc32fast::hash(body))
}

/// A lock on a folder, held until this is dropped or the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the lock file at `path`; `None` if somebody holds it.
///
/// # Errors
///
/// If the system refuses.
pub fn try_lock(path: &Path) -> Result<Option<Lock>, FileError> {
    match lock_file(path, FlockArg::LockExclusiveNonblock) {
        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some).map_err(refused("lock", path)),
    }
}

/// Waits for the lock file at `path`. Whoever holds one does so for moments only.
///
/// # Errors
///
/// If the system refuses.
pub fn lock(path: &Path) -> Result<Lock, FileError> {
    lock_file(path, FlockArg::LockExclusive).map_err(refused("lock", path))
}

fn lock_file(path: &Path, how: FlockArg) -> io::Result<Lock> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    Flock::lock(file, how).map(Lock).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_reads_back_and_no_part_of_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        write_sealed(&path, "note", &vec!["a", "b"]).unwrap();
        let whole = fs::read(&path).unwrap();

        assert_eq!(read_sealed::<Vec<String>>(&path, "note").unwrap().unwrap(), ["a", "b"]);
        assert!(read_sealed::<Vec<String>>(&path, "other").is_err());
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(read_sealed::<Vec<String>>(&path, "note").is_err(), "prefix of {end} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        write_sealed(&path, "note", &vec!["a", "b"]).unwrap();
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            assert!(read_sealed::<Vec<String>>(&path, "note").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_lock_is_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
