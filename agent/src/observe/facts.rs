//! What names the guest and what it is made of.
//!
//! Facts go up only when they change, so nothing here may move by itself: the free space of a file system
//! is reported anew only when it moved by a hundredth of its size.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    clock::Timestamp,
    sample::{Facts, FileSystem},
    units::Bytes,
};
use sysinfo::{DiskRefreshKind, Disks, System};

use super::{extent::Extent, network};

/// How often what costs more than a few files is read again.
const SLOW_EVERY: Duration = Duration::from_secs(30);

/// Longest file read for a fact; each holds one line.
const MAX_LINE: usize = 256;

/// Most file systems reported.
const MAX_FILE_SYSTEMS: usize = 256;

/// Where the guest's names stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Folder with `product_uuid` and `product_serial`.
    pub dmi: PathBuf,
    /// The machine-id file.
    pub machine_id: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { dmi: "/sys/class/dmi/id".into(), machine_id: "/etc/machine-id".into() }
    }
}

/// What one look found out besides.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// See [`Facts::services_source`].
    pub(super) services: String,
    /// See [`Facts::connections_source`].
    pub(super) connections: String,
    /// See [`Facts::other`].
    pub(super) other: BTreeMap<String, String>,
}

/// Reads facts, and remembers the slow ones.
#[derive(Debug)]
pub(super) struct FactsReader {
    places: Places,
    booted_at: Timestamp,
    slow: Option<(Timestamp, Facts)>,
}

impl FactsReader {
    pub(super) const fn new(places: Places, booted_at: Timestamp) -> Self {
        Self { places, booted_at, slow: None }
    }

    /// The facts now.
    pub(super) fn read(&mut self, extent: Extent, remarks: Remarks, now: Timestamp) -> Facts {
        let slow = self.slow(now);
        let mut other = remarks.other;
        other.insert("extent".to_owned(), describe(extent).to_owned());
        Facts {
            hostname: System::host_name().unwrap_or_default(),
            interfaces: network::interfaces(),
            routes: network::routes(),
            services_source: remarks.services,
            connections_source: remarks.connections,
            other,
            ..slow
        }
    }

    fn slow(&mut self, now: Timestamp) -> Facts {
        if let Some((read_at, facts)) = &self.slow
            && now >= *read_at
            && now.since(*read_at) < SLOW_EVERY
        {
            return facts.clone();
        }
        let mut facts = self.read_slow();
        if let Some((_, before)) = &self.slow {
            steady(&before.file_systems, &mut facts.file_systems);
        }
        self.slow = Some((now, facts.clone()));
        facts
    }

    fn read_slow(&self) -> Facts {
        let Places { dmi, machine_id } = &self.places;
        Facts {
            product_uuid: line(&dmi.join("product_uuid")).map(|uuid| uuid.to_ascii_lowercase()),
            product_serial: line(&dmi.join("product_serial")),
            machine_id: line(machine_id),
            boot_id: line(Path::new("/proc/sys/kernel/random/boot_id")),
            operating_system: System::long_os_version().unwrap_or_default(),
            kernel: System::kernel_version().unwrap_or_default(),
            architecture: System::cpu_arch(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            booted_at: self.booted_at,
            file_systems: file_systems(),
            ..Facts::default()
        }
    }
}

const fn describe(extent: Extent) -> &'static str {
    match extent {
        Extent::Kernel => "the kernel's counters are this machine's",
        Extent::Processes { .. } => {
            "a machine on a shared kernel: CPU, memory and storage are summed up over its processes; \
             load, pressure and swap are unknown"
        }
    }
}

/// The first line of a file; `None` if there is none, or only what firmware writes when nobody filled it in.
fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    let is_filler = ["", "Not Specified", "None", "To Be Filled By O.E.M."].contains(&line);
    (!is_filler && line.len() <= MAX_LINE).then(|| line.to_owned())
}

/// File systems that hold something, by mount point. Network file systems are left out by sysinfo: to ask
/// one whose server is away can block for ever.
fn file_systems() -> Vec<FileSystem> {
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let mut file_systems: Vec<FileSystem> = disks
        .list()
        .iter()
        .filter(|disk| disk.total_space() > 0)
        .map(|disk| FileSystem {
            device: disk.name().to_string_lossy().into_owned(),
            mount_point: disk.mount_point().to_string_lossy().into_owned(),
            kind: disk.file_system().to_string_lossy().into_owned(),
            total: Bytes(disk.total_space()),
            available: Bytes(disk.available_space()),
        })
        .collect();
    file_systems.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    file_systems.dedup_by(|a, b| a.mount_point == b.mount_point);
    file_systems.truncate(MAX_FILE_SYSTEMS);
    file_systems
}

/// Keeps the former free space where it moved by less than a hundredth of the size.
fn steady(before: &[FileSystem], now: &mut [FileSystem]) {
    for file_system in now {
        let same = |other: &&FileSystem| {
            other.mount_point == file_system.mount_point && other.total == file_system.total
        };
        if let Some(former) = before.iter().find(same) {
            let moved = former.available.0.abs_diff(file_system.available.0);
            if moved < file_system.total.0 / 100 {
                file_system.available = former.available;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        Places { dmi: folder.to_owned(), machine_id: folder.join("machine-id") }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_names_come_from_the_places_given() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("product_uuid"), "4C4C4544-0001\n").unwrap();
        std::fs::write(folder.path().join("product_serial"), "Not Specified\n").unwrap();
        std::fs::write(folder.path().join("machine-id"), "0123abcd\n").unwrap();
        let mut reader = FactsReader::new(places(folder.path()), at(7));

        let facts = reader.read(Extent::Kernel, Remarks::default(), at(100));

        assert_eq!(facts.product_uuid.as_deref(), Some("4c4c4544-0001"));
        assert_eq!(facts.product_serial, None);
        assert_eq!(facts.machine_id.as_deref(), Some("0123abcd"));
        assert_eq!((facts.booted_at, facts.boot_id.is_some()), (at(7), true));
        assert!(!facts.kernel.is_empty() && !facts.architecture.is_empty());
        assert!(facts.other["extent"].contains("kernel"));
    }

    #[test]
    fn another_machines_identity_is_noticed_while_running() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = FactsReader::new(places(folder.path()), at(0));
        reader.read(Extent::Kernel, Remarks::default(), at(100));
        std::fs::write(folder.path().join("product_uuid"), "b").unwrap();

        let soon = reader.read(Extent::Kernel, Remarks::default(), at(101));
        let later = reader.read(Extent::Kernel, Remarks::default(), at(131));

        assert_eq!((soon.product_uuid, later.product_uuid.as_deref()), (None, Some("b")));
    }

    #[test]
    fn free_space_that_hardly_moves_is_no_news() {
        let disk = |available| FileSystem {
            device: "/dev/vda1".into(),
            mount_point: "/".into(),
            kind: "ext4".into(),
            total: Bytes(1000),
            available: Bytes(available),
        };
        let mut now = [disk(505)];
        steady(&[disk(500)], &mut now);
        assert_eq!(now[0].available, Bytes(500));

        now = [disk(510)];
        steady(&[disk(500)], &mut now);
        assert_eq!(now[0].available, Bytes(510));
    }
}
