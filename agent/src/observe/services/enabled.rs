//! Which unit files start with the machine. To answer that systemd reads and parses every unit file there
//! is, in its first process, which costs the machine more than all else that the agent does. What is enabled
//! is a link in one of few folders, so that it is asked anew only when one of them changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use zbus::Connection;

use super::{MANAGER, MANAGER_PATH, ServicesError, ask};

/// Where the system's unit files and the links to them lie, by systemd.unit(5).
const FOLDERS: [&str; 9] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// Folders in those whose links make one unit start with another.
const WITH_LINKS: [&str; 3] = ["wants", "requires", "upholds"];

/// When each folder last changed.
type Stamp = BTreeMap<PathBuf, SystemTime>;

/// The names of the unit files that are enabled, as long as nothing says otherwise.
#[derive(Debug)]
pub struct EnabledFiles {
    folders: Vec<PathBuf>,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    names: BTreeSet<String>,
    /// Asked for twice with that stamp. A file system's clock ticks slowly: what changed right after the
    /// first time may have left the same stamp.
    is_sure: bool,
}

impl Default for EnabledFiles {
    fn default() -> Self {
        Self::of(FOLDERS.map(PathBuf::from).into())
    }
}

impl EnabledFiles {
    pub(super) const fn of(folders: Vec<PathBuf>) -> Self {
        Self { folders, known: None }
    }

    /// Their names; systemd is asked if a folder changed, and once more after that.
    pub(super) async fn read(
        &mut self,
        connection: &Connection,
    ) -> Result<&BTreeSet<String>, ServicesError> {
        // Before the answer: what changes while systemd reads is asked for again.
        let stamp = self.stamp();
        let known = match self.known.take() {
            Some(known) if known.stamp == stamp && known.is_sure => known,
            former => {
                let is_sure = former.is_some_and(|known| known.stamp == stamp);
                Known { stamp, names: asked(connection).await?, is_sure }
            }
        };
        Ok(&self.known.insert(known).names)
    }

    fn stamp(&self) -> Stamp {
        let mut stamp = Stamp::new();
        for folder in &self.folders {
            note(&mut stamp, folder.clone());
            let has_links = |path: &Path| {
                WITH_LINKS.iter().any(|kind| path.extension().is_some_and(|end| end == *kind))
            };
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let below = entries.map(|entry| entry.path()).filter(|path| has_links(path));
            below.for_each(|path| note(&mut stamp, path));
        }
        stamp
    }
}

fn note(stamp: &mut Stamp, folder: PathBuf) {
    if let Ok(changed) = fs::metadata(&folder).and_then(|folder| folder.modified()) {
        stamp.insert(folder, changed);
    }
}

async fn asked(connection: &Connection) -> Result<BTreeSet<String>, ServicesError> {
    let answer = ask(connection, "ListUnitFiles", MANAGER_PATH, MANAGER, &()).await?;
    let files: Vec<(String, String)> = answer.body().deserialize().map_err(ServicesError::Bus)?;
    let enabled = files.into_iter().filter(|(_, state)| state.starts_with("enabled"));
    Ok(enabled.filter_map(|(path, _)| path.rsplit('/').next().map(str::to_owned)).collect())
}
