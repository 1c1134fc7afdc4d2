//! Holds a machine still, all of its processes at once.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use common::id::VmId;

use super::{Groups, LOOK, PATIENCE, Version, read_keyed, set};
use crate::hypervisor::namespace::NamespaceError;

/// Version 1 now and then never gets to the end with a process that starts others: asked again it
/// does, and if not, after it was let go for a moment. So often it is asked before that.
const ASKED_BEFORE_THAW: u32 = 20;

/// That moment.
const MOMENT: Duration = Duration::from_millis(1);

/// The file that freezes a group, and what to write there for it, and for the contrary.
fn order(version: Version) -> (&'static str, &'static str, &'static str) {
    match version {
        Version::V1 => ("freezer.state", "FROZEN", "THAWED"),
        Version::V2 => ("cgroup.freeze", "1", "0"),
    }
}

fn is_frozen(group: &Path, version: Version) -> bool {
    match version {
        Version::V1 => fs::read_to_string(group.join("freezer.state"))
            .is_ok_and(|state| state.trim() == "FROZEN"),
        Version::V2 => read_keyed(&group.join("cgroup.events"), "frozen") == Some(1),
    }
}

impl Groups {
    /// Whether a machine can be held still as a whole.
    pub(in super::super) fn can_freeze(&self) -> bool {
        self.control("freezer")
    }

    /// Holds all of a machine's processes still; `false` if there is no group that could.
    pub(in super::super) fn freeze(&self, vm: &VmId) -> Result<bool, NamespaceError> {
        let Some((group, version)) = self.group("freezer", vm) else { return Ok(false) };
        let (file, freeze, thaw) = order(version);
        let begun = Instant::now();
        let mut asked: u32 = 0;
        loop {
            set(&group.join(file), freeze)?;
            if is_frozen(&group, version) {
                return Ok(true);
            }
            if begun.elapsed() > PATIENCE {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                return Err(NamespaceError::system(format!("freeze {vm}"), late));
            }
            asked += 1;
            if version == Version::V1 && asked.is_multiple_of(ASKED_BEFORE_THAW) {
                set(&group.join(file), thaw)?;
                thread::sleep(MOMENT);
            } else {
                thread::sleep(LOOK);
            }
        }
    }

    /// Lets a machine go on. One that was not frozen is success.
    pub(in super::super) fn thaw(&self, vm: &VmId) -> Result<(), NamespaceError> {
        let Some((group, version)) = self.group("freezer", vm) else { return Ok(()) };
        if !group.exists() {
            return Ok(());
        }
        let (file, _, thaw) = order(version);
        set(&group.join(file), thaw)
    }
}
