//! The configuration files: owner, time, digest, and where the guest allows it what is in them.
//!
//! ```text
//!  path ─> parents, one by one, never through a symbolic link ─> stat ─> only what changed is opened and hashed
//! ```
//!
//! Only regular files are opened, and never in a way that waits: a pipe or a device that takes a file's place
//! costs its row. A path on a file system that another machine serves is not touched at all.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use super::{found::Digest, told::Told};
use common::{clock::Timestamp, sample::ConfigurationFile, units::Bytes};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, statat},
    io::Errno,
};

/// Most of all contents together: the agent keeps them in memory.
const MOST_CONTENT: usize = 1 << 20;

/// A folder is only a way to what is in it.
const WAY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Nothing is waited for, no terminal taken.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// What is wanted of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The package it belongs to.
    pub(super) package: Option<String>,
    /// The digest it came with.
    pub(super) digest: Option<Digest>,
    /// What is in it may be told.
    pub(super) content: bool,
}

/// Why a file has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    /// It is not there. A package's file that the operator took away is no news.
    Missing,
    /// It is a symbolic link, or stands below one.
    Linked,
    /// It is a folder, a pipe, a device.
    Irregular,
    /// It may not be read, or changed into something else meanwhile.
    Refused,
    /// Another machine serves it.
    Remote,
    /// It has a row, but its content is not told: that of the others is enough.
    Content,
}

/// How much one slice may still do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Files looked at.
    pub(super) files: usize,
    /// Bytes read.
    pub(super) bytes: u64,
}

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

#[derive(Debug)]
struct Known {
    mark: Mark,
    wanted: Wanted,
    row: ConfigurationFile,
    /// Its content is not told because there is no room for it.
    is_cut: bool,
}

/// Reads files, and remembers what it read.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    largest: u64,
    known: BTreeMap<String, Known>,
    /// The folder of the file before: neighbours share it.
    folder: Option<(String, OwnedFd)>,
    left_out: BTreeMap<LeftOut, usize>,
}

impl Files {
    /// Nothing read yet; files larger than `largest` bytes are not hashed.
    pub(super) const fn new(root: PathBuf, largest: u64) -> Self {
        Self { root, largest, known: BTreeMap::new(), folder: None, left_out: BTreeMap::new() }
    }

    /// Begins a pass.
    pub(super) fn begin(&mut self, wanted: &BTreeMap<String, Wanted>) {
        self.known.retain(|path, _| wanted.contains_key(path));
        self.left_out.clear();
        self.folder = None;
    }

    /// Looks at one file; whether its row changed.
    pub(super) fn look(&mut self, path: &str, wanted: &Wanted, left: &mut Allowance) -> bool {
        left.files = left.files.saturating_sub(1);
        let is_new = match self.read(path, wanted, left) {
            Ok(None) => false,
            Ok(Some(mut known)) => {
                self.keep_content_small(path, &mut known);
                let is_new = self.known.get(path).is_none_or(|before| before.row != known.row);
                self.known.insert(path.to_owned(), known);
                is_new
            }
            Err(why) => return self.leave_out(path, why),
        };
        if self.known.get(path).is_some_and(|known| known.is_cut) {
            *self.left_out.entry(LeftOut::Content).or_default() += 1;
        }
        is_new
    }

    /// What does not fit beside the contents of the other files is not told.
    fn keep_content_small(&self, path: &str, known: &mut Known) {
        let length = |known: &Known| known.row.content.as_ref().map_or(0, String::len);
        if known.row.content.is_none() {
            return;
        }
        let others = self.known.iter().filter(|(other, _)| *other != path);
        let told = others.map(|(_, other)| length(other)).sum::<usize>();
        known.is_cut = told + length(known) > MOST_CONTENT;
        if known.is_cut {
            known.row.content = None;
        }
    }

    /// Counts a file that has no row; whether it had one.
    pub(super) fn leave_out(&mut self, path: &str, why: LeftOut) -> bool {
        *self.left_out.entry(why).or_default() += 1;
        self.known.remove(path).is_some()
    }

    /// The rows as they are now.
    pub(super) fn rows(&self) -> BTreeMap<String, ConfigurationFile> {
        self.known.iter().map(|(path, known)| (path.clone(), known.row.clone())).collect()
    }

    /// How many rows there are now.
    pub(super) fn rows_count(&self) -> usize {
        self.known.len()
    }

    /// What this pass left out, for people; empty if nothing.
    pub(super) fn left_out(&self) -> String {
        let texts = self.left_out.iter().filter_map(|(why, count)| {
            let why = match why {
                LeftOut::Missing => return None,
                LeftOut::Linked => "at or below a symbolic link",
                LeftOut::Irregular => "no regular file",
                LeftOut::Refused => "not readable",
                LeftOut::Remote => "on another machine's file system",
                LeftOut::Content => "without content, for all contents have over 1 MiB",
            };
            Some(format!("{count} {why}"))
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// The regular files that stand directly in a folder, at most `most`; of a file itself, that.
    pub(super) fn expand(&mut self, path: &str, most: usize) -> Vec<String> {
        let Ok((folder, name)) = self.folder_of(path) else { return vec![path.to_owned()] };
        let is_folder = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if !is_folder {
            return vec![path.to_owned()];
        }
        let listed = openat(folder, &name, READ | OFlags::DIRECTORY, Mode::empty());
        let Ok(entries) = listed.and_then(rustix::fs::Dir::new) else { return Vec::new() };
        let regular = entries.filter_map(|entry| {
            let entry = entry.ok().filter(|entry| is_perhaps_regular(entry.file_type()))?;
            let name = entry.file_name().to_str().ok()?;
            let is_plain = !name.contains(char::is_control);
            is_plain.then(|| format!("{}/{name}", path.trim_end_matches('/')))
        });
        let mut files: Vec<String> = regular.take(most).collect();
        files.sort();
        files
    }

    /// `None` if nothing changed since it was read.
    fn read(
        &mut self,
        path: &str,
        wanted: &Wanted,
        left: &mut Allowance,
    ) -> Result<Option<Known>, LeftOut> {
        let largest = self.largest;
        let (folder, name) = self.folder_of(path)?;
        let stat = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(why)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(LeftOut::Linked),
            _ => return Err(LeftOut::Irregular),
        }
        let (folder, mark) = (folder.try_clone().map_err(|_| LeftOut::Refused)?, Mark::of(&stat));
        let is_known = |known: &Known| known.mark == mark && known.wanted == *wanted;
        if self.known.get(path).is_some_and(is_known) {
            return Ok(None);
        }
        let opened = openat(&folder, &name, READ, Mode::empty());
        let row = match opened {
            Ok(file) => {
                let stat = fstat(&file).map_err(why)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(LeftOut::Irregular);
                }
                let told = Told::read(File::from(file), size(&stat), wanted, largest);
                left.bytes = left.bytes.saturating_sub(told.bytes);
                row(&stat, wanted, told)
            }
            Err(Errno::ACCESS | Errno::PERM) => row(&stat, wanted, Told::default()),
            Err(cause) => return Err(why(cause)),
        };
        Ok(Some(Known { mark, wanted: wanted.clone(), row, is_cut: false }))
    }

    /// The folder a path stands in, and its name there.
    fn folder_of(&mut self, path: &str) -> Result<(&OwnedFd, String), LeftOut> {
        let (parent, name) = path.rsplit_once('/').ok_or(LeftOut::Refused)?;
        if name.is_empty() || [".", ".."].contains(&name) {
            return Err(LeftOut::Refused);
        }
        let is_it = |folder: &(String, OwnedFd)| folder.0 == parent;
        let folder = match self.folder.take().filter(is_it) {
            Some(folder) => folder,
            None => (parent.to_owned(), walk(&self.root, parent)?),
        };
        Ok((&self.folder.insert(folder).1, name.to_owned()))
    }
}

/// Some file systems do not say in the folder what a file is; the look at it will.
fn is_perhaps_regular(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Unknown)
}

/// Goes down to a folder without ever following a symbolic link.
fn walk(root: &Path, folder: &str) -> Result<OwnedFd, LeftOut> {
    let mut at = open(root, WAY.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(why)?;
    for part in Path::new(folder).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => at = openat(&at, name, WAY, Mode::empty()).map_err(why)?,
            Component::ParentDir | Component::Prefix(_) => return Err(LeftOut::Refused),
        }
    }
    Ok(at)
}

const fn why(cause: Errno) -> LeftOut {
    match cause {
        Errno::NOENT => LeftOut::Missing,
        // What is said of a symbolic link where a folder or a file is asked for.
        Errno::LOOP | Errno::NOTDIR => LeftOut::Linked,
        _ => LeftOut::Refused,
    }
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: size(stat),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn row(stat: &Stat, wanted: &Wanted, told: Told) -> ConfigurationFile {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let millis = seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000);
    ConfigurationFile {
        size: Bytes(size(stat)),
        modified: Timestamp::from_millis(millis),
        hash: told.hash,
        user: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        package: wanted.package.clone(),
        unchanged: told.unchanged,
        content: told.content,
    }
}
