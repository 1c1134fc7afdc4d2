//! Clones a machine: its folders are copied while it is held still, so that the copy is what a
//! disk is after a power cut, and nothing of the source is lost.

use std::{
    fs::{self, File},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use common::{id::VmId, task::Chain};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Attempt, NamespaceError,
    layout::{DISK, FLEETING, Record},
    make::{check_name, make_folder},
    process,
    world::{World, signal_all},
};
use crate::hypervisor::{Allocation, CloneOrder, Power};

/// How long all processes of a machine may take to stop when no group can freeze them.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Holds a machine still until it is dropped, whatever happens meanwhile.
struct Still<'a> {
    world: &'a World,
    vm: &'a VmId,
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.world.thaw(self.vm) {
            tracing::error!(vm = %self.vm, cause = %Chain(&error), "machine not thawed");
        }
    }
}

impl World {
    /// Copies a machine to a stopped one that is plugged in nowhere.
    pub(super) fn clone_vm(&self, order: &CloneOrder) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[&order.source, &order.clone])?;
        if let Some(there) = self.layout.find(&order.clone)? {
            return is_it(&there, order);
        }
        let source = self.layout.record(&order.source)?;
        source.may_be_touched()?;
        check_name(&order.name)?;
        let host = self.host_id()?;
        if order.host != host {
            let reason = format!("there is no host {}, only {host}", order.host);
            return Err(NamespaceError::refused(reason));
        }
        let _all = self.layout.hold_fabric()?;
        let record = Record {
            vm: order.clone.clone(),
            name: order.name.clone(),
            address: source.address,
            management: self.free_management()?,
            plug: None,
            allocation: given(&order.allocation, &source.allocation),
            labels: [].into(),
            cloned_from: Some(source.vm.clone()),
            plan: Some(order.plan.clone()),
            serial: order.ticket.clone(),
            machine_id: Uuid::new_v4().simple().to_string(),
            wanted: Power::Off,
        };
        let begun = Instant::now();
        self.put(&record, |disk| self.copy_disk(&source.vm, disk))?;
        let (held_ms, vm) = (begun.elapsed().as_millis(), &record.vm);
        info!(source = %source.vm, %vm, plan = %order.plan, held_ms, "machine cloned");
        Ok(())
    }

    fn copy_disk(&self, source: &VmId, target: &Path) -> Result<(), NamespaceError> {
        let from = self.layout.machine(source)?.join("disk");
        let _still = Still { world: self, vm: source };
        self.freeze(source)?;
        // What is empty after each start is nobody's state.
        for name in DISK.iter().filter(|name| !FLEETING.contains(name)) {
            copy_folder(&from.join(name), &target.join(name))?;
        }
        Ok(())
    }

    fn freeze(&self, vm: &VmId) -> Result<(), NamespaceError> {
        let Some(first) = self.layout.running(vm) else { return Ok(()) };
        if self.groups.freeze(vm)? {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            // Anew each time: a process may have started another before it was stopped.
            let pids = first.companions();
            signal_all(&pids, Signal::SIGSTOP);
            if pids.iter().all(|pid| process::is_stopped(*pid)) && pids == first.companions() {
                return Ok(());
            }
            if begun.elapsed() > STOP_PATIENCE {
                let cause = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(NamespaceError::system(format!("hold {vm} still"), cause));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a machine go on; one that was not held is success.
    pub(super) fn thaw(&self, vm: &VmId) -> Result<(), NamespaceError> {
        if self.groups.can_freeze() {
            return self.groups.thaw(vm);
        }
        if let Some(first) = self.layout.running(vm) {
            signal_all(&first.companions(), Signal::SIGCONT);
        }
        Ok(())
    }
}

/// Whether what is there is what the order would make.
fn is_it(there: &Record, order: &CloneOrder) -> Result<(), NamespaceError> {
    let is_it = there.cloned_from.as_ref() == Some(&order.source)
        && there.plan.as_ref() == Some(&order.plan);
    if is_it {
        return Ok(());
    }
    let reason = format!("{} is another machine already: {}", order.clone, there.name);
    Err(NamespaceError::refused(reason))
}

fn given(ordered: &Allocation, of_source: &Allocation) -> Allocation {
    Allocation {
        cpu: ordered.cpu.or(of_source.cpu),
        memory: ordered.memory.or(of_source.memory),
        storage: ordered.storage.or(of_source.storage),
    }
}

/// Copies a folder as it is; links are copied, never followed.
fn copy_folder(from: &Path, to: &Path) -> Result<(), NamespaceError> {
    let what = || format!("copy {}", from.display());
    let mode = fs::symlink_metadata(from).or_could_not(what)?.permissions().mode() & 0o7777;
    make_folder(to, mode)?;
    for entry in fs::read_dir(from).or_could_not(what)? {
        let entry = entry.or_could_not(what)?;
        copy_entry(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn copy_entry(from: &Path, to: &Path) -> Result<(), NamespaceError> {
    let what = || format!("copy {}", from.display());
    let there = fs::symlink_metadata(from).or_could_not(what)?;
    let kind = there.file_type();
    if kind.is_dir() {
        copy_folder(from, to)?;
    } else if kind.is_symlink() {
        fs::read_link(from).and_then(|link| symlink(link, to)).or_could_not(what)?;
    } else if kind.is_fifo() {
        let mode = Mode::from_bits_truncate(there.permissions().mode());
        mkfifo(to, mode).or_could_not(what)?;
    } else if kind.is_file() {
        fs::copy(from, to).or_could_not(what)?;
        let times = there.modified().and_then(|time| File::open(to)?.set_modified(time));
        times.or_could_not(what)?;
    } else {
        // A socket means nothing without the process that listened at it.
        return Ok(());
    }
    let made = fs::symlink_metadata(to).or_could_not(what)?;
    let is_owned = (made.uid(), made.gid()) == (there.uid(), there.gid());
    if !is_owned && let Err(cause) = lchown(to, Some(there.uid()), Some(there.gid())) {
        warn!(path = %to.display(), %cause, "owner of a copy not set");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_links_modes_and_times_and_follows_nothing() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let file = from.path().join("key.pem");
        fs::write(&file, "secret").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("/etc", from.path().join("link")).unwrap();

        copy_folder(from.path(), &to.path().join("copy")).unwrap();

        let copy = to.path().join("copy/key.pem");
        let (was, is) = (fs::metadata(&file).unwrap(), fs::metadata(&copy).unwrap());
        assert_eq!(fs::read_to_string(copy).unwrap(), "secret");
        assert_eq!(is.permissions().mode() & 0o777, 0o600);
        assert_eq!(is.modified().unwrap(), was.modified().unwrap());
        assert_eq!(fs::read_link(to.path().join("copy/link")).unwrap(), Path::new("/etc"));
    }
}
