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
use rustix::fs::statvfs;
use sysinfo::System;

use super::{
    devices,
    extent::Extent,
    mounts::{self, Mount},
    network, run_level,
};
use crate::observe::services::Services;

/// How often what costs more than a few files is read again.
const SLOW_EVERY: Duration = Duration::from_secs(30);

/// Longest file read for a fact; each holds one line.
const MAX_LINE: usize = 256;

/// Most file systems reported.
const MAX_FILE_SYSTEMS: usize = 256;

/// Most names of failed units told; their text is that of one fact.
const MOST_FAILED: usize = 8;

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
pub(in crate::observe) struct Remarks {
    /// See [`Facts::services_source`].
    pub(in crate::observe) services: String,
    /// See [`Facts::connections_source`].
    pub(in crate::observe) connections: String,
    /// See [`Facts::run_level`].
    pub(in crate::observe) run_level: Option<String>,
    /// See [`Facts::other`].
    pub(in crate::observe) other: BTreeMap<String, String>,
}

impl Remarks {
    /// What the services say of the guest.
    pub(in crate::observe) fn of_services(services: &Services) -> Self {
        let mut remarks = Self {
            services: services.source.to_string(),
            run_level: services.run_level.clone(),
            ..Self::default()
        };
        if !services.failed.is_empty() {
            let names: Vec<&str> =
                services.failed.iter().take(MOST_FAILED).map(String::as_str).collect();
            let text = format!("{}: {}", services.failed.len(), names.join(", "));
            remarks.other.insert("failed_units".to_owned(), text);
        }
        remarks
    }
}

/// Reads facts, and remembers the slow ones.
#[derive(Debug)]
pub(in crate::observe) struct FactsReader {
    places: Places,
    booted_at: Timestamp,
    slow: Option<(Timestamp, Facts)>,
}

impl FactsReader {
    pub(in crate::observe) const fn new(places: Places, booted_at: Timestamp) -> Self {
        Self { places, booted_at, slow: None }
    }

    /// The facts now.
    pub(in crate::observe) fn read(
        &mut self,
        extent: Extent,
        remarks: Remarks,
        now: Timestamp,
    ) -> Facts {
        let slow = self.slow(extent, now);
        let mut other = remarks.other;
        other.insert("extent".to_owned(), describe(extent).to_owned());
        Facts {
            hostname: System::host_name().unwrap_or_default(),
            interfaces: network::interfaces(),
            routes: network::routes(),
            services_source: remarks.services,
            connections_source: remarks.connections,
            run_level: remarks.run_level.or_else(|| slow.run_level.clone()),
            other,
            ..slow
        }
    }

    fn slow(&mut self, extent: Extent, now: Timestamp) -> Facts {
        if let Some((read_at, facts)) = &self.slow
            && now >= *read_at
            && now.since(*read_at) < SLOW_EVERY
        {
            return facts.clone();
        }
        let mut facts = self.read_slow(extent);
        if let Some((_, before)) = &self.slow {
            steady(&before.file_systems, &mut facts.file_systems);
        }
        self.slow = Some((now, facts.clone()));
        facts
    }

    fn read_slow(&self, extent: Extent) -> Facts {
        let Places { dmi, machine_id } = &self.places;
        let mounts = mounts::read();
        // On a shared kernel the devices are the host's, and so is what it was started into.
        let own = (extent == Extent::Kernel).then(|| Path::new("/sys"));
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
            file_systems: file_systems(&mounts),
            block_devices: own.map(devices::block).unwrap_or_default(),
            remote_storage: devices::remote(&mounts, own.unwrap_or(Path::new(""))),
            run_level: own.and_then(|_| run_level::read(Path::new("/run"))),
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

/// File systems that hold something, by mount point. Only those that this machine keeps itself are asked: to
/// ask one whose server is away can block for ever.
fn file_systems(mounts: &[Mount]) -> Vec<FileSystem> {
    // Of two at one point the later covers the earlier.
    let by_point: BTreeMap<&str, &Mount> =
        mounts.iter().map(|mount| (mount.point.as_str(), mount)).collect();
    let local = by_point
        .values()
        .filter(|mount| mount.is_local() && !mounts::is_remote(mounts, mount.point.as_ref()));
    let file_systems = local.filter_map(|mount| {
        let room = statvfs(mount.point.as_str()).ok().filter(|room| room.f_blocks > 0)?;
        Some(FileSystem {
            device: mount.source.clone(),
            mount_point: mount.point.clone(),
            kind: mount.kind.clone(),
            total: Bytes(room.f_blocks.saturating_mul(room.f_frsize)),
            available: Bytes(room.f_bavail.saturating_mul(room.f_frsize)),
        })
    });
    file_systems.take(MAX_FILE_SYSTEMS).collect()
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
    fn file_systems_are_those_of_this_machine_and_no_servers() {
        let mounts = mounts::parse(
            "1 0 8:1 / / rw - ext4 /dev/vda1 rw\n2 0 0:2 / /tmp rw - nfs gone.example:/x rw\n",
        );
        let found = file_systems(&mounts);
        assert_eq!(found.len(), 1);
        assert!(found[0].total > found[0].available && found[0].available > Bytes(0));
    }

    #[test]
    fn failed_units_are_counted_and_the_first_are_named() {
        let failed: Vec<String> = (0..10).map(|n| format!("u{n}.service")).collect();
        let services =
            Services { failed, run_level: Some("x.target".into()), ..Services::default() };

        let remarks = Remarks::of_services(&services);

        let text = &remarks.other["failed_units"];
        assert!(text.starts_with("10: u0.service, u1") && text.ends_with("u7.service"), "{text}");
        assert_eq!(remarks.run_level.as_deref(), Some("x.target"));
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
