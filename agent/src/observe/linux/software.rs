//! What is installed and how it is configured, read a little at every look.
//!
//! ```text
//!  every look    one slice:  databases that changed ─> packages and their configuration files
//!                            files ─> stat ─> those that changed ─> hash
//!  every minute  a new pass begins; what it found replaces what was known when it is through
//! ```
//!
//! Nothing is executed, nothing waited for. Until the first pass is through nothing is known, and that is
//! what is told: half of a list would look as if the rest were not there.

use std::{collections::BTreeMap, ops::Bound, path::PathBuf, sync::Arc, time::Duration};

use common::{
    clock::Timestamp,
    sample::{Package, PackageKey, Software},
};

mod dpkg;
mod files;
mod found;
mod packages;
mod rpm;
mod told;

use files::{Allowance, Files, LeftOut, Wanted};
use packages::{Inventory, MOST_FILES, Marks, Reading};

use super::mounts::{self, Mount};
use crate::config::Scope;

/// How often a pass begins.
const PASS_EVERY: Duration = Duration::from_secs(60);
/// Bytes of databases read in one slice: some milliseconds.
const SLICE_OF_DATABASES: usize = 512 << 10;
/// What one slice does on files: some milliseconds likewise.
const SLICE_OF_FILES: Allowance = Allowance { files: 256, bytes: 512 << 10 };
/// Most files of one folder of the guest's own list.
const MOST_IN_FOLDER: usize = 1024;

/// Reads software, and remembers it.
#[derive(Debug)]
pub(in crate::observe) struct SoftwareReader {
    scope: Scope,
    root: PathBuf,
    stage: Stage,
    passed_at: Option<Timestamp>,
    marks: Option<Marks>,
    /// The packages' configuration files, as the databases told them last.
    owned: BTreeMap<String, Wanted>,
    files: Files,
    known: Option<Arc<Software>>,
    remarks: BTreeMap<String, String>,
}

/// How far the present pass is.
#[derive(Debug)]
enum Stage {
    Waiting,
    Packages(Box<Reading>),
    Files(FilesPass),
}

/// A pass over the files.
#[derive(Debug)]
struct FilesPass {
    /// The packages, if they were read in this pass.
    packages: Option<BTreeMap<PackageKey, Package>>,
    wanted: BTreeMap<String, Wanted>,
    /// The last path looked at.
    after: String,
    mounts: Vec<Mount>,
    changed: bool,
}

impl FilesPass {
    fn next(&self) -> Option<(String, Wanted)> {
        let after = (Bound::Excluded(self.after.as_str()), Bound::Unbounded);
        let (path, wanted) = self.wanted.range::<str, _>(after).next()?;
        Some((path.clone(), wanted.clone()))
    }
}

impl SoftwareReader {
    /// Reads below `root` what `scope` allows.
    pub(in crate::observe) fn new(scope: Scope, root: PathBuf) -> Self {
        let files = Files::new(root.clone(), scope.largest.0);
        Self {
            scope,
            root,
            stage: Stage::Waiting,
            passed_at: None,
            marks: None,
            owned: BTreeMap::new(),
            files,
            known: None,
            remarks: BTreeMap::new(),
        }
    }

    /// Does one slice, and gives what is known; `None` before the first pass is through.
    pub(in crate::observe) fn look(&mut self, now: Timestamp) -> Option<Arc<Software>> {
        if !self.scope.reads_software() {
            return None;
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Waiting => self.begin(now),
            Stage::Packages(reading) => self.read_packages(reading, now),
            Stage::Files(pass) => self.read_files(pass, now),
        };
        self.known.clone()
    }

    /// What is worth knowing of how software was read.
    pub(in crate::observe) fn remarks(&self) -> BTreeMap<String, String> {
        let mut remarks = self.remarks.clone();
        if !self.scope.packages {
            let text = "not read: packages = false in agent.toml".to_owned();
            remarks.insert("packages_source".to_owned(), text);
        }
        remarks
    }

    /// The same where nothing is read because the file system is the host's.
    pub(in crate::observe) fn remarks_of_a_guest_on_a_shared_kernel() -> BTreeMap<String, String> {
        let text = "not read: what is installed here is the host's".to_owned();
        [("packages_source".to_owned(), text)].into()
    }

    fn begin(&mut self, now: Timestamp) -> Stage {
        let is_due = self.passed_at.is_none_or(|at| now < at || now.since(at) >= PASS_EVERY);
        if !is_due {
            return Stage::Waiting;
        }
        let is_known = self.marks.as_ref().is_some_and(|marks| *marks == Marks::read(&self.root));
        if self.scope.packages && !is_known {
            return Stage::Packages(Box::new(Reading::begin(&self.root)));
        }
        let packages = if self.known.is_none() { Some(BTreeMap::new()) } else { None };
        self.begin_files(packages)
    }

    fn read_packages(&mut self, mut reading: Box<Reading>, now: Timestamp) -> Stage {
        if !reading.slice(SLICE_OF_DATABASES) {
            return Stage::Packages(reading);
        }
        let Ok((inventory, marks)) = reading.end() else {
            // Somebody installs something just now: what was known before stays until that is over.
            self.passed_at = Some(now);
            return Stage::Waiting;
        };
        self.note(&inventory);
        self.marks = Some(marks);
        self.owned = inventory.files;
        self.begin_files(Some(inventory.packages))
    }

    fn begin_files(&mut self, packages: Option<BTreeMap<PackageKey, Package>>) -> Stage {
        let mut mounts = mounts::read();
        if !mounts.iter().any(Mount::is_remote) {
            mounts.clear();
        }
        let wanted = self.wanted(&mounts);
        self.files.begin(&wanted);
        let before = self.known.as_ref().map_or(0, |known| known.files.len());
        let changed = packages.is_some() || before != self.files.rows_count();
        Stage::Files(FilesPass { packages, wanted, after: String::new(), mounts, changed })
    }

    fn read_files(&mut self, mut pass: FilesPass, now: Timestamp) -> Stage {
        let mut left = SLICE_OF_FILES;
        while let Some((path, wanted)) = pass.next() {
            pass.changed |= if mounts::is_remote(&pass.mounts, path.as_ref()) {
                left.files -= 1;
                self.files.leave_out(&path, LeftOut::Remote)
            } else {
                self.files.look(&path, &wanted, &mut left)
            };
            pass.after = path;
            if left.files == 0 || left.bytes == 0 {
                return Stage::Files(pass);
            }
        }
        self.end(pass);
        self.passed_at = Some(now);
        Stage::Waiting
    }

    fn end(&mut self, pass: FilesPass) {
        let left_out = self.files.left_out();
        self.remark("configuration_files_left_out", left_out);
        if !pass.changed {
            return;
        }
        let before = self.known.take();
        let packages = pass
            .packages
            .or_else(|| before.map(|before| before.packages.clone()))
            .unwrap_or_default();
        self.known = Some(Arc::new(Software { packages, files: self.files.rows() }));
    }

    /// The files of this pass: the guest's own list first, the packages' as far as there is room.
    fn wanted(&mut self, mounts: &[Mount]) -> BTreeMap<String, Wanted> {
        let mut listed: Vec<String> = self.scope.content.iter().cloned().collect();
        for path in &self.scope.files {
            let is_remote = mounts::is_remote(mounts, path.as_ref());
            if is_remote {
                listed.push(path.clone());
            } else {
                listed.extend(self.files.expand(path, MOST_IN_FOLDER));
            }
        }
        let of_packages = self.owned.keys().cloned();
        let (mut wanted, mut beyond) = (BTreeMap::new(), 0);
        for path in listed.into_iter().chain(of_packages) {
            let is_known = wanted.contains_key(&path);
            if !is_known && wanted.len() >= MOST_FILES {
                beyond += 1;
            } else if !is_known {
                let owned = self.owned.get(&path).cloned().unwrap_or_default();
                wanted.insert(path, owned);
            }
        }
        for path in &self.scope.content {
            if let Some(wanted) = wanted.get_mut(path) {
                wanted.content = true;
            }
        }
        let text = if beyond > 0 { format!("{beyond} beyond {MOST_FILES}") } else { String::new() };
        self.remark("configuration_files_beyond_limit", text);
        wanted
    }

    fn note(&mut self, inventory: &Inventory) {
        let sources = if inventory.sources.is_empty() {
            "no database of packages was read".to_owned()
        } else {
            inventory.sources.join(", ")
        };
        let left_out = inventory.left_out.iter().map(|(why, count)| format!("{count} {why}"));
        let left_out = left_out.collect::<Vec<_>>().join(", ");
        self.remark("packages_source", sources);
        self.remark("packages_not_read", inventory.not_read.join("; "));
        self.remark("packages_left_out", left_out);
    }

    /// Notes a remark, or takes it back if it is empty.
    fn remark(&mut self, name: &str, text: String) {
        if text.is_empty() {
            self.remarks.remove(name);
        } else {
            self.remarks.insert(name.to_owned(), text);
        }
    }
}

#[cfg(test)]
mod tests;
