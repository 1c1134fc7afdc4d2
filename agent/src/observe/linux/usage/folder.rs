//! The folder of one control group and its files, the often read ones kept open.
//!
//! A file kept open belongs to its very group: when that goes, reading fails, though another group may stand
//! under the same path by then.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// Most bytes taken of a file. What lies beyond is not told.
const MAX_BYTES: usize = 32 << 10;

/// Most folders looked into for processes that cannot be seen.
const MAX_FOLDERS: usize = 256;

/// One group's folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    identity: u64,
    open: Vec<(&'static str, File)>,
}

/// What files are read into, one after another.
#[derive(Debug)]
pub(super) struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; MAX_BYTES])
    }
}

impl Folder {
    /// The folder as it is now.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity, open: Vec::new() })
    }

    /// What tells this folder from every other one that stands, stood or will stand under its path.
    pub(super) const fn identity(&self) -> u64 {
        self.identity
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }

    /// How many of its files are open.
    pub(super) const fn open(&self) -> usize {
        self.open.len()
    }

    /// The text of a file; `None` if there is none. It stays open if it is to be kept.
    pub(super) fn text<'a>(
        &mut self,
        file: &'static str,
        buffer: &'a mut Buffer,
        keep: bool,
    ) -> Option<&'a str> {
        let known = self.open.iter().position(|(name, _)| *name == file);
        let length = match known.and_then(|index| self.open.get(index)) {
            Some((_, open)) => open.read_at(&mut buffer.0, 0).ok()?,
            None => {
                let opened = File::open(self.path.join(file)).ok()?;
                let length = opened.read_at(&mut buffer.0, 0).ok()?;
                if keep {
                    self.open.push((file, opened));
                }
                length
            }
        };
        std::str::from_utf8(buffer.0.get(..length)?).ok()
    }

    /// Whether groups stand below it.
    pub(super) fn has_groups_below(&self) -> bool {
        // A folder is linked to from above, by itself, and by each folder in it.
        std::fs::metadata(&self.path).is_ok_and(|folder| folder.nlink() > 2)
    }

    /// Whether all processes in it and below it can be seen from here: the kernel shows one of another
    /// process namespace as number 0.
    pub(super) fn is_seen_whole(&self) -> bool {
        let mut due = vec![self.path.clone()];
        let mut count = 0;
        while let Some(path) = due.pop() {
            count += 1;
            let Ok(processes) = std::fs::read_to_string(path.join("cgroup.procs")) else {
                return false;
            };
            if count > MAX_FOLDERS || processes.lines().any(|process| process == "0") {
                return false;
            }
            let Ok(entries) = std::fs::read_dir(path) else { return false };
            let folders = entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
            due.extend(folders.map(|folder| folder.path()));
        }
        true
    }
}

fn identity(path: &Path) -> io::Result<u64> {
    std::fs::metadata(path).map(|folder| folder.ino())
}
