//! One reading of every database of packages that is there, a slice at a time.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use common::{
    sample::{Package, PackageKey, PackageManager, PackageVersion},
    task::Chain,
};

use super::{
    dpkg::{self, Dpkg},
    files::Wanted,
    found::{DatabaseError, Found},
    rpm::{self, Row, Rpm},
};

/// Most packages told.
pub(super) const MOST_PACKAGES: usize = 20_000;
/// Most versions told beside the newest. A system keeps three kernels; who keeps more, keeps all.
const MOST_FURTHER: usize = 16;
/// Most configuration files told.
pub(super) const MOST_FILES: usize = 4096;
/// Longest name or version; the protocol carries no longer text.
const LONGEST: usize = common::wire::LONGEST_TEXT;
/// Longest path likewise.
const LONGEST_PATH: usize = common::wire::LONGEST_PATH;

/// Tells whether a file is still the one that was read.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// The state of every database, so that a reading of what did not change is spared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<Mark>);

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// The packages.
    pub(super) packages: BTreeMap<PackageKey, Package>,
    /// Their configuration files.
    pub(super) files: BTreeMap<String, Wanted>,
    /// Where they were read from.
    pub(super) sources: Vec<String>,
    /// What was found and not read, and why.
    pub(super) not_read: Vec<String>,
    /// Packages left out, by the reason.
    pub(super) left_out: BTreeMap<&'static str, usize>,
}

/// A reading under way.
#[derive(Debug)]
pub(super) struct Reading {
    marks: Marks,
    inventory: Inventory,
    root: PathBuf,
    at: At,
}

#[derive(Debug)]
enum At {
    Begin,
    Dpkg(Dpkg),
    Between,
    Rpm(PathBuf, Rpm),
    End,
}

impl Marks {
    /// The databases below `root` now.
    pub(super) fn read(root: &Path) -> Self {
        let mut paths = vec![root.join(dpkg::STATUS)];
        if let Some(database) = rpm::find(root) {
            let mut log = database.clone().into_os_string();
            log.push("-wal");
            paths.extend([database, log.into()]);
        }
        let mark = |path: &PathBuf| {
            // To ask rpm for something leaves an empty log, which says nothing and is no change.
            let stat = fs::metadata(path).ok().filter(|stat| stat.len() > 0)?;
            Some((stat.dev(), stat.ino(), stat.len(), stat.mtime(), stat.mtime_nsec()))
        };
        Self(paths.iter().map(mark).collect())
    }
}

impl Reading {
    /// Begins to read what stands below `root`.
    pub(super) fn begin(root: &Path) -> Self {
        let (root, inventory) = (root.to_owned(), Inventory::default());
        Self { marks: Marks::read(&root), inventory, root, at: At::Begin }
    }

    /// Reads about so many bytes; whether that was all.
    pub(super) fn slice(&mut self, mut bytes: usize) -> bool {
        while bytes > 0 {
            match self.step() {
                Some(taken) => bytes = bytes.saturating_sub(taken.max(1)),
                None => return true,
            }
        }
        false
    }

    /// What was read, and of which state.
    ///
    /// # Errors
    ///
    /// If a database was written to meanwhile, so that what was read may be of two states.
    pub(super) fn end(self) -> Result<(Inventory, Marks), DatabaseError> {
        if Marks::read(&self.root) == self.marks {
            Ok((self.inventory, self.marks))
        } else {
            Err(DatabaseError::Changed)
        }
    }

    /// One package further; how many bytes it took, `None` at the end.
    fn step(&mut self) -> Option<usize> {
        match &mut self.at {
            At::Begin => self.at = self.open_dpkg(),
            At::Between => self.at = self.open_rpm(),
            At::Dpkg(dpkg) => match dpkg.next() {
                Ok(Some((found, taken))) => {
                    self.inventory.take(found);
                    return Some(taken);
                }
                Ok(None) => {
                    self.inventory.sources.push("dpkg".to_owned());
                    self.at = At::Between;
                }
                Err(cause) => {
                    self.inventory.fail(
                        PackageManager::Dpkg,
                        &self.root.join(dpkg::STATUS),
                        &cause,
                    );
                    self.at = At::Between;
                }
            },
            At::Rpm(path, rpm) => match rpm.next() {
                Ok(Some((row, taken))) => {
                    self.inventory.take_row(row);
                    return Some(taken);
                }
                Ok(None) => {
                    self.inventory.sources.push(format!("rpm ({})", path.display()));
                    self.at = At::End;
                }
                Err(cause) => {
                    self.inventory.fail(PackageManager::Rpm, path, &cause);
                    self.at = At::End;
                }
            },
            At::End => return None,
        }
        Some(1)
    }

    fn open_dpkg(&mut self) -> At {
        match Dpkg::open(&self.root) {
            Ok(dpkg) => return At::Dpkg(dpkg),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                let path = self.root.join(dpkg::STATUS);
                self.inventory.fail(PackageManager::Dpkg, &path, &cause.into());
            }
        }
        At::Between
    }

    fn open_rpm(&mut self) -> At {
        let Some(path) = rpm::find(&self.root) else { return At::End };
        match Rpm::open(&path) {
            Ok(rpm) => At::Rpm(path, rpm),
            Err(cause) => {
                self.inventory.fail(PackageManager::Rpm, &path, &cause);
                At::End
            }
        }
    }
}

/// Puts one more version of a package beside those that are known: the newest goes before the others.
fn beside(known: &mut Package, other: Package) {
    let version = |package: Package| {
        let Package { version, installed_at, mut further } = package;
        further.push(PackageVersion { version, installed_at });
        further
    };
    let mut all = version(std::mem::take(known));
    all.extend(version(other));
    // Of one moment, as an image is made in, the order of their names is at least always the same.
    all.sort_by(|one, other| {
        (other.installed_at, &other.version).cmp(&(one.installed_at, &one.version))
    });
    let mut all = all.into_iter();
    if let Some(PackageVersion { version, installed_at }) = all.next() {
        *known = Package { version, installed_at, further: all.collect() };
    }
}

impl Inventory {
    fn take_row(&mut self, row: Row) {
        match row {
            Row::Package(found) => self.take(found),
            Row::Unreadable => self.leave_out("unreadable"),
            Row::Other => {}
        }
    }

    fn take(&mut self, found: Found) {
        let Found { key, package, files } = found;
        let texts = [&key.name, &key.architecture, &package.version];
        if texts.iter().any(|text| text.len() > LONGEST || text.contains(char::is_control)) {
            return self.leave_out("with a name nobody would give");
        }
        let is_new = !self.packages.contains_key(&key);
        if is_new && self.packages.len() >= MOST_PACKAGES {
            return self.leave_out("beyond 20000");
        }
        for (path, digest) in files {
            let is_path = path.starts_with('/') && path.len() <= LONGEST_PATH;
            if is_path && !path.contains(char::is_control) && self.files.len() < MOST_FILES {
                let wanted = Wanted { package: Some(key.name.clone()), digest, content: false };
                self.files.insert(path, wanted);
            }
        }
        match self.packages.get_mut(&key) {
            Some(known) if known.further.len() >= MOST_FURTHER => {
                self.leave_out("beside 16 others")
            }
            Some(known) => beside(known, package),
            None => drop(self.packages.insert(key, package)),
        }
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    /// Half of the packages would look as if the others were not installed.
    fn fail(&mut self, manager: PackageManager, path: &Path, cause: &DatabaseError) {
        self.packages.retain(|key, _| key.manager != manager);
        self.not_read.push(format!("{}: {}", path.display(), Chain(cause)));
    }
}

#[cfg(test)]
mod tests {
    use common::{clock::Timestamp, sample::PackageKey};

    use super::*;

    fn kernel(version: &str, installed_ms: u64) -> Found {
        let manager = PackageManager::Rpm;
        let (name, architecture) = ("kernel-core".to_owned(), "x86_64".to_owned());
        let key = PackageKey { manager, name, architecture };
        let installed_at = Some(Timestamp::from_millis(installed_ms));
        let package = Package { version: version.to_owned(), installed_at, ..Package::default() };
        Found { key, package, files: Vec::new() }
    }

    fn versions(inventory: &Inventory) -> Vec<&str> {
        let package = inventory.packages.values().next().unwrap();
        let further = package.further.iter().map(|further| further.version.as_str());
        [package.version.as_str()].into_iter().chain(further).collect()
    }

    #[test]
    fn several_installed_versions_are_all_told_the_newest_first_in_whatever_order_they_stand() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut inventory = Inventory::default();
            for at in order {
                inventory.take(kernel(["5.14-1", "5.14-2", "5.14-9"][at], 10 * at as u64));
            }
            assert_eq!(versions(&inventory), ["5.14-9", "5.14-2", "5.14-1"]);
            assert!(inventory.left_out.is_empty());
        }
    }

    #[test]
    fn more_versions_than_anybody_keeps_are_counted_as_left_out() {
        let mut inventory = Inventory::default();
        for at in 0..=MOST_FURTHER + 3 {
            inventory.take(kernel(&format!("5.14-{at}"), 7));
        }
        assert_eq!(versions(&inventory).len(), MOST_FURTHER + 1);
        assert_eq!(inventory.left_out.values().sum::<usize>(), 3);
    }
}
