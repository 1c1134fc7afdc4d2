//! What the parts stand on, made from the configuration.

use common::task::Chain;
use tracing::{error, warn};

use super::RunError;
use crate::{
    config::Config,
    driver::{Groups, ProcessSetup},
    file::{self, Lock},
    identity::Machine,
    ledger::{Ledger, LedgerError},
    platform::Former,
};

pub(super) fn only_one(config: &Config) -> Result<Lock, RunError> {
    let lock = file::try_lock(&config.folder.join("lock"))?;
    lock.ok_or_else(|| RunError::Taken(config.folder.clone()))
}

/// The ledger; one that cannot be read forbids every list, for what runs is not known then.
pub(super) fn open_ledger(config: &Config) -> (Ledger, Option<String>) {
    match Ledger::open(&config.folder) {
        Ok(ledger) => (ledger, None),
        Err(cause) => {
            let cause: &LedgerError = &cause;
            error!(cause = %Chain(cause), "ledger not readable; no list is applied until a person has looked at it");
            (Ledger::blank(&config.folder), Some(Chain(cause).to_string()))
        }
    }
}

pub(super) fn process_setup(config: &Config, former: Former) -> ProcessSetup {
    let groups = if config.apply {
        // A clone has the same folder, another agent on this host another one.
        let uuid = Machine::read(&config.dmi).map(|machine| machine.uuid.to_string());
        let whose = format!("{} {}", uuid.unwrap_or_default(), config.folder.display());
        Groups::find(config.cgroup.as_deref(), &whose)
    } else {
        Groups::none("the agent only observes")
    };
    if let (Some(reason), true) = (groups.nowhere(), config.apply) {
        warn!(reason, "applications cannot be limited here");
    }
    ProcessSetup {
        folder: config.folder.join("applications"),
        // It stays the program that runs when its file is replaced.
        launcher: "/proc/self/exe".into(),
        groups,
        nice: former.nice,
        oom_score: former.oom_score,
    }
}
