//! One machine: started, stopped, given more or less.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    time::Duration,
};

use common::{id::VmId, task::Chain, units::Bytes};
use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::{
    Attempt, NamespaceError, inner,
    launch::{self, Waiting},
    layout::{self, FLEETING, PRODUCTION, Record},
    make::make_folder,
    process::Process,
    world::World,
};
use crate::hypervisor::{Allocation, Power};

/// How long the kernel may take to end a machine that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// Starts a machine; one that runs is plugged in where it belongs.
    pub(super) fn start(&self, vm: &VmId) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[vm])?;
        self.start_held(&self.layout.record(vm)?)
    }

    pub(super) fn start_held(&self, record: &Record) -> Result<(), NamespaceError> {
        {
            let _all = self.layout.hold_fabric()?;
            self.refuse_double(record)?;
            if record.wanted != Power::On {
                self.layout.keep(&Record { wanted: Power::On, ..record.clone() })?;
            }
        }
        match self.layout.running(&record.vm) {
            Some(process) => self.fabric.plug(record, &process),
            None => self.boot(record),
        }
    }

    /// One address is never on the production network twice.
    fn refuse_double(&self, record: &Record) -> Result<(), NamespaceError> {
        if !record.is_plugged_into(PRODUCTION) {
            return Ok(());
        }
        let records = self.layout.records()?;
        let other = records.iter().find(|other| {
            other.vm != record.vm
                && other.is_plugged_into(PRODUCTION)
                && other.address.addr() == record.address.addr()
                && (other.wanted == Power::On || self.layout.running(&other.vm).is_some())
        });
        other.map_or(Ok(()), |other| {
            let (name, address) = (&other.name, record.address.addr());
            Err(NamespaceError::refused(format!("{name} has the address {address} already")))
        })
    }

    fn boot(&self, record: &Record) -> Result<(), NamespaceError> {
        let folder = self.layout.machine(&record.vm)?;
        for name in FLEETING {
            let path = folder.join("disk").join(name);
            fs::remove_dir_all(&path).or_could_not(|| format!("empty {}", path.display()))?;
            make_folder(&path, 0o1777)?;
        }
        self.write_board(record)?;
        self.groups.make(&record.vm)?;
        self.groups.limit(&record.vm, &record.allocation)?;
        let log = File::create(folder.join("machine.log"));
        let log = log.or_could_not(|| "make a machine's log".to_owned())?;
        let waiting = launch::launch(&self.program, &self.fabric.keeper, "machine", log)?;
        let process = waiting.process.clone();
        let started = self.set_going(record, waiting, folder);
        if let Err(error) = started {
            if let Err(second) = self.end(&record.vm, &process, Duration::ZERO) {
                warn!(vm = %record.vm, cause = %Chain(&second), "half started machine not cleared");
            }
            return Err(error);
        }
        info!(vm = %record.vm, name = record.name, pid = process.pid(), "machine started");
        Ok(())
    }

    fn set_going(
        &self,
        record: &Record,
        waiting: Waiting,
        folder: PathBuf,
    ) -> Result<(), NamespaceError> {
        let process = waiting.process.clone();
        self.groups.admit(&record.vm, process.pid())?;
        self.fabric.wire(record, &waiting.netns)?;
        self.fabric.plug(record, &process)?;
        layout::write(&folder.join("running.json"), &process)?;
        waiting.go(&inner::MachineOrder {
            folder,
            name: record.name.clone(),
            agent: self.agent.clone(),
            programs: self.programs(),
        })?;
        Ok(())
    }

    /// Stops a machine; a stopped or absent one is success.
    pub(super) fn stop(&self, vm: &VmId, deadline: Duration) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[vm])?;
        match self.layout.find(vm)? {
            Some(record) => {
                record.may_be_touched()?;
                self.stop_held(&record, deadline)
            }
            None => Ok(()),
        }
    }

    pub(super) fn stop_held(
        &self,
        record: &Record,
        deadline: Duration,
    ) -> Result<(), NamespaceError> {
        if record.wanted != Power::Off {
            self.layout.keep(&Record { wanted: Power::Off, ..record.clone() })?;
        }
        let Some(process) = self.layout.running(&record.vm) else {
            return self.clear_away(&record.vm);
        };
        self.end(&record.vm, &process, deadline)?;
        info!(vm = %record.vm, name = record.name, "machine stopped");
        Ok(())
    }

    fn end(&self, vm: &VmId, process: &Process, deadline: Duration) -> Result<(), NamespaceError> {
        let what = || format!("stop {vm}");
        self.thaw(vm)?;
        if !deadline.is_zero() {
            process.signal(Signal::SIGTERM).or_could_not(what)?;
        }
        if !process.ends_within(deadline) {
            if !deadline.is_zero() {
                warn!(%vm, "machine did not stop in time and is ended");
            }
            process.signal(Signal::SIGKILL).or_could_not(what)?;
            if !process.ends_within(KILL_PATIENCE) {
                return Err(NamespaceError::system(
                    what(),
                    io::Error::from(io::ErrorKind::TimedOut),
                ));
            }
        }
        self.clear_away(vm)
    }

    /// Removes what a machine that does not run needs no more.
    fn clear_away(&self, vm: &VmId) -> Result<(), NamespaceError> {
        self.fabric.unwire(vm)?;
        self.groups.remove(vm)?;
        let path = self.layout.machine(vm)?.join("running.json");
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(NamespaceError::system(format!("remove {}", path.display()), cause))
            }
            _ => Ok(()),
        }
    }

    /// Changes what a machine is given, at once if it runs.
    pub(super) fn configure(&self, vm: &VmId, given: &Allocation) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[vm])?;
        let mut record = self.layout.record(vm)?;
        record.may_be_touched()?;
        self.refuse_less_than_used(vm, given.memory)?;
        record.allocation = Allocation {
            cpu: given.cpu.or(record.allocation.cpu),
            memory: given.memory.or(record.allocation.memory),
            storage: given.storage.or(record.allocation.storage),
        };
        if self.layout.running(vm).is_some() {
            self.groups.limit(vm, given)?;
        }
        self.layout.keep(&record)?;
        self.write_board(&record)?;
        info!(%vm, allocation = ?record.allocation, "machine configured");
        Ok(())
    }

    /// The kernel would have to kill something in it.
    fn refuse_less_than_used(
        &self,
        vm: &VmId,
        memory: Option<Bytes>,
    ) -> Result<(), NamespaceError> {
        let (Some(memory), Some(used)) = (memory, self.memory_used(vm)) else { return Ok(()) };
        if memory < used {
            return Err(NamespaceError::refused(format!(
                "{vm} uses {used} of memory, more than the {memory} it would get"
            )));
        }
        Ok(())
    }
}
