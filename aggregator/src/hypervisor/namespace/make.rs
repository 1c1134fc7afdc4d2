//! Makes a machine's folder: what it is, what it may write, and what the host hands it.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use common::id::NetworkId;
use tracing::info;
use uuid::Uuid;

use super::{
    Attempt, MachineOrder, NamespaceError, fabric,
    layout::{self, DISK, FLEETING, PRODUCTION, Record, UNFINISHED},
    world::World,
};
use crate::hypervisor::Power;

/// Longest name a host may have.
const MAX_NAME: usize = 63;

/// What programs look up in /etc.
const DEFAULTS: [(&str, &str); 3] = [
    ("passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
    ("group", "root:x:0:\nnogroup:x:65534:\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

impl World {
    /// Makes a machine from nothing.
    pub(super) fn create(&self, order: &MachineOrder) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[&order.vm])?;
        if self.layout.find(&order.vm)?.is_some() {
            return Ok(());
        }
        check_name(&order.name)?;
        let _all = self.layout.hold_fabric()?;
        let record = Record {
            vm: order.vm.clone(),
            name: order.name.clone(),
            address: order.address,
            management: self.free_management()?,
            plug: Some(network(PRODUCTION)?),
            allocation: order.allocation,
            labels: order.labels.clone(),
            cloned_from: None,
            plan: None,
            serial: order.vm.to_string(),
            machine_id: Uuid::new_v4().simple().to_string(),
            wanted: Power::Off,
        };
        self.put(&record, |disk| {
            write_files(disk, &order.files)?;
            write_defaults(disk)
        })?;
        info!(vm = %record.vm, name = record.name, address = %record.address, "machine made");
        Ok(())
    }

    pub(super) fn free_management(&self) -> Result<Ipv4Addr, NamespaceError> {
        let records = self.layout.records()?;
        let taken: Vec<_> = records.iter().map(|record| record.management).collect();
        fabric::free_management(&taken)
    }

    /// Puts a machine's folder in its place, whole or not at all.
    pub(super) fn put(
        &self,
        record: &Record,
        fill: impl FnOnce(&Path) -> Result<(), NamespaceError>,
    ) -> Result<(), NamespaceError> {
        let target = self.layout.machine(&record.vm)?;
        let next = self.layout.machines().join(format!("{UNFINISHED}{}", record.vm));
        if next.exists() {
            fs::remove_dir_all(&next).or_could_not(|| format!("remove {}", next.display()))?;
        }
        for name in ["board/dmi", "disk", "view"] {
            layout::make_folder(&next.join(name))?;
        }
        for name in DISK {
            let mode = if FLEETING.contains(&name) { 0o1777 } else { 0o755 };
            make_folder(&next.join("disk").join(name), mode)?;
        }
        fill(&next.join("disk"))?;
        layout::write(&next.join("machine.json"), record)?;
        fs::rename(&next, &target).or_could_not(|| format!("make {}", target.display()))
    }

    /// What the host hands the machine: its identity, and what it is given.
    pub(super) fn write_board(&self, record: &Record) -> Result<(), NamespaceError> {
        let board = self.layout.machine(&record.vm)?.join("board");
        let name = &record.name;
        let (cpu, memory) = (record.allocation.cpu, record.allocation.memory);
        let cpu = cpu.map(|cpu| format!("cpu_millicores = {}\n", cpu.0));
        let memory = memory.map(|memory| format!("memory_bytes = {}\n", memory.0));
        let files = [
            ("dmi/product_uuid", format!("{}\n", record.vm)),
            ("dmi/product_serial", format!("{}\n", record.serial)),
            ("dmi/product_name", "Sinter namespace machine\n".to_owned()),
            ("machine-id", format!("{}\n", record.machine_id)),
            ("hostname", format!("{name}\n")),
            ("hosts", format!("127.0.0.1 localhost\n{} {name}\n", record.address.addr())),
            ("limits.toml", [cpu, memory].into_iter().flatten().collect()),
        ];
        for (file, contents) in files {
            layout::replace(&board.join(file), contents.as_bytes(), 0o644)
                .or_could_not(|| format!("hand {file} to {}", record.vm))?;
        }
        Ok(())
    }
}

pub(super) fn network(name: &str) -> Result<NetworkId, NamespaceError> {
    name.parse().map_err(io::Error::other).or_could_not(|| format!("name the network {name}"))
}

/// A host name, which also goes into /etc/hosts.
pub(super) fn check_name(name: &str) -> Result<(), NamespaceError> {
    let is_good = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if is_good {
        return Ok(());
    }
    let rule = format!("1 to {MAX_NAME} letters, digits, dots and hyphens");
    Err(NamespaceError::refused(format!("{name:?} is no host name: {rule}")))
}

pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), NamespaceError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    // Not at creation alone, from which the umask takes some.
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .or_could_not(|| format!("make {}", path.display()))
}

/// Writes a new machine's files; nothing of the machine has run in `disk` yet.
fn write_files(
    disk: &Path,
    files: &BTreeMap<PathBuf, (u32, Vec<u8>)>,
) -> Result<(), NamespaceError> {
    for (path, (mode, contents)) in files {
        let inner = path.strip_prefix("/").unwrap_or(path);
        let is_plain = inner.components().all(|part| matches!(part, Component::Normal(_)));
        let top = inner.components().next().map(|part| part.as_os_str().to_owned());
        let is_kept = top.is_some_and(|top| {
            DISK.iter().any(|name| *name == top) && !FLEETING.iter().any(|name| *name == top)
        });
        if !path.is_absolute() || !is_plain || !is_kept {
            let reason = format!("{} is no place for a file of a machine", path.display());
            return Err(NamespaceError::refused(reason));
        }
        let target = disk.join(inner);
        let folder = target.parent().unwrap_or(disk);
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        let file = made
            .and_then(|()| File::options().write(true).create_new(true).mode(*mode).open(&target));
        file.and_then(|mut file| file.write_all(contents))
            .or_could_not(|| format!("write {}", target.display()))?;
    }
    Ok(())
}

/// Names of users, where the order brought none of its own.
fn write_defaults(disk: &Path) -> Result<(), NamespaceError> {
    for (name, contents) in DEFAULTS {
        let path = disk.join("etc").join(name);
        if !path.exists() {
            fs::write(&path, contents).or_could_not(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_outside_the_machines_own_folders_is_refused() {
        let disk = tempfile::tempdir().unwrap();
        let refused = ["/usr/bin/x", "/etc/../../x", "etc/x", "/run/x", "/"];

        for path in refused {
            let files = BTreeMap::from([(PathBuf::from(path), (0o644, Vec::new()))]);
            write_files(disk.path(), &files).unwrap_err();
        }

        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_would_add_a_line_to_a_file_is_refused() {
        for name in ["", "web\n127.0.0.1 api", "a b", &"x".repeat(64)] {
            check_name(name).unwrap_err();
        }
        check_name("web-1.example").unwrap();
    }
}
