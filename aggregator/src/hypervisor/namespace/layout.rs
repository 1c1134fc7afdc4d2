//! What is kept on disk, where, and the locks on it.
//!
//! ```text
//!  FOLDER/fabric.json         the control groups that are ours
//!        /keeper.{json,lock}  the process that holds the private network
//!        /locks/00..ff,fabric
//!        /machines/UUID/machine.json  what it is      /running.json  its first process
//!                      /board/  what the host hands it, read-only to it
//!                      /disk/   what it may write
//!        /visitors/NAME.{json,log}
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use common::id::{NetworkId, PlanId, VmId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Attempt, NamespaceError, process::Process};
use crate::hypervisor::{Allocation, Power, why_not_touch};

/// Where machines reach us: the first of the addresses set aside for links between carriers, which
/// no network that a workload is likely to speak to uses.
pub(super) const UPLINK: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Name of the production network.
pub(super) const PRODUCTION: &str = "production";

/// Folders of a machine that are its own to write; all others are the host's, or made at each
/// start.
pub(super) const DISK: [&str; 8] = ["etc", "home", "opt", "root", "run", "srv", "tmp", "var"];

/// Those of them that are empty after each start.
pub(super) const FLEETING: [&str; 2] = ["run", "tmp"];

/// Prefix of what is half made or half removed.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Two verbs that meet in a slot wait for each other; so many files are enough for that to be rare.
const LOCK_SLOTS: u8 = u8::MAX;

/// A machine, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) vm: VmId,
    pub(super) name: String,
    pub(super) address: IpNet,
    /// Its address on the link to us.
    pub(super) management: Ipv4Addr,
    /// Where its production link is plugged into.
    pub(super) plug: Option<NetworkId>,
    pub(super) allocation: Allocation,
    pub(super) labels: BTreeSet<String>,
    pub(super) cloned_from: Option<VmId>,
    pub(super) plan: Option<PlanId>,
    /// Its SMBIOS serial.
    pub(super) serial: String,
    pub(super) machine_id: String,
    /// Whether it should run.
    pub(super) wanted: Power,
}

impl Record {
    pub(super) fn is_plugged_into(&self, network: &str) -> bool {
        self.plug.as_ref().is_some_and(|plug| plug.as_str() == network)
    }

    /// Refuses what operators keep for themselves.
    pub(super) fn may_be_touched(&self) -> Result<(), NamespaceError> {
        why_not_touch(&self.vm, &self.labels)
            .map_or(Ok(()), |reason| Err(NamespaceError::refused(reason)))
    }
}

/// The first so many hexadecimal digits of a text's hash: a short name that nothing else has.
pub(super) fn digest(text: &str, digits: usize) -> String {
    let mut name = hex::encode(Sha256::digest(text.as_bytes()));
    name.truncate(digits);
    name
}

/// Holds a lock until it is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Held {
    _locks: Vec<File>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// A folder that is there already.
    pub(super) fn at(folder: &Path) -> Result<Self, NamespaceError> {
        let absolute = fs::canonicalize(folder);
        let folder = absolute.or_could_not(|| format!("find {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// A folder that is made if need be; nobody else may look into it.
    pub(super) fn make(folder: &Path) -> Result<Self, NamespaceError> {
        make_folder(folder)?;
        let layout = Self::at(folder)?;
        for part in ["locks", "machines", "visitors"] {
            make_folder(&layout.folder.join(part))?;
        }
        Ok(layout)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn machines(&self) -> PathBuf {
        self.folder.join("machines")
    }

    /// A machine's folder. The id becomes part of a path, so it must be what we made it of.
    pub(super) fn machine(&self, vm: &VmId) -> Result<PathBuf, NamespaceError> {
        let is_uuid = Uuid::try_parse(vm.as_str())
            .is_ok_and(|uuid| uuid.hyphenated().to_string() == vm.as_str());
        if !is_uuid {
            return Err(NamespaceError::refused(format!("{vm} is no uuid in lower case")));
        }
        Ok(self.machines().join(vm.as_str()))
    }

    pub(super) fn path_in(&self, vm: &VmId, path: &Path) -> PathBuf {
        let name = digest(vm.as_str(), 8);
        let machine = self.machine(vm).unwrap_or_else(|_| self.machines().join(name));
        let inner = path.components().filter(|part| matches!(part, Component::Normal(_)));
        machine.join("disk").join(inner.collect::<PathBuf>())
    }

    /// `None` if there is no such machine.
    pub(super) fn find(&self, vm: &VmId) -> Result<Option<Record>, NamespaceError> {
        read(&self.machine(vm)?.join("machine.json"))
    }

    pub(super) fn record(&self, vm: &VmId) -> Result<Record, NamespaceError> {
        let record = self.find(vm)?;
        record.ok_or_else(|| NamespaceError::refused(format!("there is no machine {vm}")))
    }

    pub(super) fn keep(&self, record: &Record) -> Result<(), NamespaceError> {
        write(&self.machine(&record.vm)?.join("machine.json"), record)
    }

    pub(super) fn records(&self) -> Result<Vec<Record>, NamespaceError> {
        let mut records = Vec::new();
        for name in names(&self.machines())? {
            if !name.starts_with(UNFINISHED) {
                records.extend(read(&self.machines().join(name).join("machine.json"))?);
            }
        }
        Ok(records)
    }

    /// A machine's first process, if it runs.
    pub(super) fn running(&self, vm: &VmId) -> Option<Process> {
        let file = self.machine(vm).ok()?.join("running.json");
        read(&file).ok().flatten().filter(Process::lives)
    }

    /// The keeper, if it runs.
    pub(super) fn keeper(&self) -> Option<Process> {
        read(&self.folder.join("keeper.json")).ok().flatten().filter(Process::lives)
    }

    /// Keeps other verbs off these machines, in this process and in others.
    pub(super) fn hold(&self, vms: &[&VmId]) -> Result<Held, NamespaceError> {
        let slot = |vm: &&VmId| Sha256::digest(vm.as_str().as_bytes())[0] % LOCK_SLOTS;
        // In one order, so that two verbs never wait for each other in a circle; each slot once.
        let slots: BTreeSet<u8> = vms.iter().map(slot).collect();
        let held = slots.iter().map(|slot| self.lock(&format!("{slot:02x}")));
        Ok(Held { _locks: held.collect::<Result<_, _>>()? })
    }

    /// Keeps others from changing what all machines share. Taken after [`Self::hold`], never
    /// before it.
    pub(super) fn hold_fabric(&self) -> Result<Held, NamespaceError> {
        Ok(Held { _locks: vec![self.lock("fabric")?] })
    }

    fn lock(&self, name: &str) -> Result<File, NamespaceError> {
        let path = self.folder.join("locks").join(name);
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.or_could_not(|| format!("lock {}", path.display()))
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), NamespaceError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.or_could_not(|| format!("make {}", path.display()))
}

/// Names in a folder; none if it is not there.
pub(super) fn names(path: &Path) -> Result<Vec<String>, NamespaceError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => {
            return Err(NamespaceError::system(format!("list {}", path.display()), cause));
        }
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// `None` if the file is not there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, NamespaceError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(NamespaceError::system(format!("read {}", path.display()), cause));
        }
    };
    let value = serde_json::from_slice(&text).map_err(io::Error::other);
    value.map(Some).or_could_not(|| format!("understand {}", path.display()))
}

/// Writes whole or not at all.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), NamespaceError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
    text.and_then(|text| replace(path, &text, 0o600))
        .or_could_not(|| format!("write {}", path.display()))
}

/// Puts a file in the place of another at once; it is on disk when this returns.
pub(super) fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(mode).open(&next)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_no_uuid_never_becomes_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path()).unwrap();

        for id in ["../../etc", "a/b", "0B6F3B0E-0000-4000-8000-000000000001"] {
            layout.machine(&id.parse().unwrap()).unwrap_err();
            let path = layout.path_in(&id.parse().unwrap(), Path::new("/../../etc/shadow"));
            assert!(path.starts_with(layout.machines()), "{}", path.display());
            assert!(!path.display().to_string().contains(".."));
        }
    }

    #[test]
    fn one_lock_is_held_once_also_for_two_machines_of_one_slot() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path()).unwrap();
        let vm: VmId = "0b6f3b0e-0000-4000-8000-000000000001".parse().unwrap();

        let held = layout.hold(&[&vm, &vm]).unwrap();

        assert_eq!(held._locks.len(), 1);
    }

    #[test]
    fn a_file_that_is_half_written_is_an_error_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.json");

        assert!(read::<Process>(&path).unwrap().is_none());
        fs::write(&path, "{\"pid\": 1").unwrap();
        read::<Process>(&path).unwrap_err();
    }
}
