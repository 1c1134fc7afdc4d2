//! What must never be forgotten: the mix this guest runs, the lists it has seen, and the change
//! that is under way.
//!
//! ```text
//!            Begun            CarriedOut           Passed
//!  at rest ────────> Applying ──────────> Probing ────────> at rest, with the new mix
//!                        │ Failed            │ Failed
//!                        └───────> Undoing <─┘
//!                                     │ Restored ─────────> at rest, with the former mix
//!                                     │ NotRestored
//!                                     └──> Stranded ── Failed (tried again) ──> Undoing
//! ```
//!
//! The account is one value, changed by one function over events and written whole before anybody
//! acts on it. Two copies are kept, each sealed; the elder is at most one event behind, and from
//! any stage the way back leads to the same mix.

mod account;

use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::warn;

pub use self::account::{
    Account, Change, Ending, Event, Generations, ListName, OutOfTurn, Outcome, Stage,
};
use crate::file::{self, FileError};

const KIND: &str = "ledger";

/// Why the ledger cannot be used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It could not be read or written, or both copies are damaged.
    #[error("could not use the ledger")]
    File(#[from] FileError),
    /// An event out of turn: a fault of ours.
    #[error("could not write the ledger on")]
    OutOfTurn(#[from] OutOfTurn),
}

/// The account on disk.
#[derive(Debug)]
pub struct Ledger {
    copies: [PathBuf; 2],
    account: Account,
}

impl Ledger {
    /// Opens the ledger in `folder`, or begins one. A damaged copy is replaced by the other one.
    ///
    /// # Errors
    ///
    /// If no copy is whole and at least one is there: what ran is not known then.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let (newest, damage) = Self::look(folder);
        let copies = copies(folder);
        match (newest, damage) {
            (Some(account), damage) => {
                let ledger = Self { copies, account };
                if let Some(cause) = damage {
                    warn!(cause = %common::task::Chain(&cause), "copy of the ledger not readable");
                    ledger.write(&ledger.account)?;
                }
                Ok(ledger)
            }
            (None, Some(cause)) => Err(cause.into()),
            (None, None) => Ok(Self { copies, account: Account::default() }),
        }
    }

    /// The newest account in `folder`, and what is wrong with a copy if something is; nothing is changed.
    #[must_use]
    pub fn look(folder: &Path) -> (Option<Account>, Option<FileError>) {
        let mut newest: Option<Account> = None;
        let mut damage = None;
        for path in &copies(folder) {
            match file::read_sealed::<Account>(path, KIND) {
                Ok(Some(account))
                    if newest.as_ref().is_none_or(|n| n.version < account.version) =>
                {
                    newest = Some(account);
                }
                Ok(_) => {}
                Err(cause) => damage = Some(cause),
            }
        }
        (newest, damage)
    }

    /// One that remembers nothing, beside files that cannot be read. Nothing is to be recorded in
    /// it: that would replace them.
    #[must_use]
    pub fn blank(folder: &Path) -> Self {
        Self { copies: copies(folder), account: Account::default() }
    }

    /// What is remembered.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Remembers an event. When this returns it outlasts any end of the machine.
    ///
    /// # Errors
    ///
    /// If it could not be written, or does not follow; what is remembered is as it was.
    pub fn record(&mut self, event: Event) -> Result<(), LedgerError> {
        let next = self.account.after(event)?;
        if (Account { version: self.account.version, ..next.clone() }) == self.account {
            return Ok(());
        }
        self.write(&next)?;
        self.account = next;
        Ok(())
    }

    fn write(&self, account: &Account) -> Result<(), FileError> {
        let [first, second] = &self.copies;
        file::write_sealed(first, KIND, account)?;
        // The first copy is what counts; an elder second one is only a fallback.
        if let Err(cause) = file::write_sealed(second, KIND, account) {
            warn!(cause = %common::task::Chain(&cause), "second copy of the ledger not written");
        }
        Ok(())
    }
}

fn copies(folder: &Path) -> [PathBuf; 2] {
    [folder.join("ledger"), folder.join("ledger.copy")]
}

#[cfg(test)]
mod tests;
