//! Moves machines between networks: into a trial's, into each other's place, and away.
//!
//! Each verb first writes down where the machine belongs and then makes it so. A verb that was cut
//! short is made whole by the same call again, and a machine that is started later comes up where
//! it belongs.

use std::{fs, time::Duration};

use common::id::{NetworkId, VmId};
use tracing::info;

use super::{
    Attempt, NamespaceError,
    layout::{PRODUCTION, Record, UNFINISHED},
    make::network,
    world::World,
};

/// How long a machine that is replaced may take to finish what it does.
const GRACE: Duration = Duration::from_secs(30);

/// How long one that is removed may take.
const SHORT_GRACE: Duration = Duration::from_secs(5);

impl World {
    /// Moves a machine's production link into a network of its own.
    pub(super) fn isolate(&self, vm: &VmId, network: &NetworkId) -> Result<(), NamespaceError> {
        if network.as_str() == PRODUCTION {
            let reason = format!("{network} is where {vm} shall not be reached from");
            return Err(NamespaceError::refused(reason));
        }
        let _held = self.layout.hold(&[vm])?;
        let record = self.layout.record(vm)?;
        if record.cloned_from.is_none() {
            let why = "it was not cloned by us, and production is never isolated";
            return Err(NamespaceError::refused(format!("{vm} stays where it is: {why}")));
        }
        let left = record.plug.clone();
        self.plug_into(record, Some(network.clone()))?;
        self.remove_if_empty(left.as_ref())?;
        info!(%vm, %network, "machine isolated");
        Ok(())
    }

    /// Writes down where a machine belongs, and plugs it in there if it runs.
    fn plug_into(
        &self,
        mut record: Record,
        network: Option<NetworkId>,
    ) -> Result<Record, NamespaceError> {
        if record.plug != network {
            record.plug = network;
            self.layout.keep(&record)?;
        }
        if let Some(process) = self.layout.running(&record.vm) {
            self.fabric.plug(&record, &process)?;
        }
        Ok(record)
    }

    /// A trial's network goes with the last machine in it.
    fn remove_if_empty(&self, network: Option<&NetworkId>) -> Result<(), NamespaceError> {
        let Some(network) = network.filter(|network| network.as_str() != PRODUCTION) else {
            return Ok(());
        };
        let _all = self.layout.hold_fabric()?;
        let records = self.layout.records()?;
        if records.iter().any(|record| record.is_plugged_into(network.as_str())) {
            return Ok(());
        }
        self.fabric.remove_bridge(network)
    }

    /// Lets `clone` serve in the place of `source`.
    pub(super) fn promote(&self, source: &VmId, clone: &VmId) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[source, clone])?;
        let (out, into) = (self.layout.record(source)?, self.layout.record(clone)?);
        must_be_clone(&into, source)?;
        // One that was begun is made whole.
        if out.is_plugged_into(PRODUCTION) {
            out.may_be_touched()?;
        }
        let trial = into.plug.clone();
        self.stop_held(&out, GRACE)?;
        let out = self.plug_into(self.layout.record(&out.vm)?, None)?;
        self.serve(Record { address: out.address, ..into })?;
        self.remove_if_empty(trial.as_ref())?;
        info!(%source, %clone, "clone took the place of its source");
        Ok(())
    }

    /// Plugs a machine into production and sees that it runs.
    fn serve(&self, mut record: Record) -> Result<(), NamespaceError> {
        record.plug = Some(network(PRODUCTION)?);
        self.layout.keep(&record)?;
        self.start_held(&record)
    }

    /// Lets `source` serve again.
    pub(super) fn restore(&self, source: &VmId, clone: &VmId) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[source, clone])?;
        let back = self.layout.record(source)?;
        if let Some(out) = self.layout.find(clone)? {
            must_be_clone(&out, source)?;
            let left = out.plug.clone();
            self.stop_held(&out, GRACE)?;
            self.plug_into(self.layout.record(clone)?, None)?;
            self.remove_if_empty(left.as_ref())?;
        }
        self.serve(back)?;
        info!(%source, %clone, "source serves again");
        Ok(())
    }

    /// Removes a machine that was cloned.
    pub(super) fn remove(&self, vm: &VmId) -> Result<(), NamespaceError> {
        let _held = self.layout.hold(&[vm])?;
        let Some(record) = self.layout.find(vm)? else { return Ok(()) };
        if record.cloned_from.is_none() {
            return Err(NamespaceError::refused(format!("{vm} was not cloned by us")));
        }
        if record.is_plugged_into(PRODUCTION) {
            let why = "it serves in the place of its source; restore that one first";
            return Err(NamespaceError::refused(format!("{vm} is not removed: {why}")));
        }
        self.stop_held(&record, SHORT_GRACE)?;
        let folder = self.layout.machine(vm)?;
        let going = self.layout.machines().join(format!("{UNFINISHED}{vm}"));
        fs::rename(&folder, &going).or_could_not(|| format!("remove {}", folder.display()))?;
        fs::remove_dir_all(&going).or_could_not(|| format!("remove {}", going.display()))?;
        self.remove_if_empty(record.plug.as_ref())?;
        info!(%vm, name = record.name, "machine removed");
        Ok(())
    }
}

fn must_be_clone(clone: &Record, source: &VmId) -> Result<(), NamespaceError> {
    if clone.cloned_from.as_ref() == Some(source) {
        return Ok(());
    }
    Err(NamespaceError::refused(format!("{} is no clone of {source}", clone.vm)))
}
