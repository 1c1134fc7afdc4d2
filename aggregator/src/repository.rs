//! What the aggregator remembers, and the promise that it does.
//!
//! ```text
//!  Repository  typed rows, MessagePack       agents, samples, windows, plans, lists, audit log
//!      │
//!    Store     bytes under keys, in tables   EmbeddedStore (sled); PostgreSQL implements it too
//! ```
//!
//! A commit is durable when it returns, whole or not at all, and what is read is what was written:
//! a value that does not check is an error with a remedy, never a wrong answer. Nothing here decides
//! anything; rows are kept as they were handed in.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

mod agents;
mod audit_log;
mod embedded;
mod frame;
mod history;
mod lists;
mod pack;
mod plans;
mod requests;
mod rows;
mod salvage;
mod samples;
mod settings;
mod software;
mod tokens;
mod windows;

pub use agents::{AgentRecord, AgentState};
pub use audit_log::{AuditRow, AuditVerdict, Logged};
pub use embedded::EmbeddedStore;
pub use history::Snapshot;
pub use lists::{ListState, StoredList};
pub use rows::{Page, Repository};
pub use salvage::{Salvaged, SalvagedTable, salvage};
pub use samples::{Incoming, Progress, StoredSample};
pub use software::StoredSoftware;
pub use tokens::TokenRecord;
pub use windows::{Checkpoint, WindowCommit, WindowRow};

/// What a key belongs to. The number is part of every stored key: it is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Enrolled agents, by id.
    Agents = 1,
    /// Join tokens, by hash.
    Tokens = 2,
    /// Samples whose window is not committed, by agent, epoch and sequence.
    Samples = 3,
    /// What each agent had seen when its last window was committed, by agent.
    Checkpoints = 4,
    /// Windows, newest first.
    Windows = 5,
    /// Where a window stands, by its id.
    WindowIndex = 6,
    /// The records of windows, newest first.
    Records = 7,
    /// The findings of windows, newest first.
    Findings = 8,
    /// What was planned from windows, newest first.
    Planned = 9,
    /// Plans, by id.
    Plans = 10,
    /// Journal entries, by plan and number.
    Entries = 11,
    /// Configuration lists, by machine and generation.
    Lists = 12,
    /// The audit log, by number.
    AuditLog = 13,
    /// Answers given to requests, by request id.
    Requests = 14,
    /// Scope, policy, catalogue and the like, by name.
    Settings = 15,
    /// What is installed in guests, by agent.
    Software = 16,
    /// Windows as they were joined, without their records, newest first.
    Joined = 17,
    /// The history of all windows, as it was now and then, in numbered pieces.
    History = 18,
}

impl Table {
    /// Every table, in order.
    pub const ALL: [Self; 18] = [
        Self::Agents,
        Self::Tokens,
        Self::Samples,
        Self::Checkpoints,
        Self::Windows,
        Self::WindowIndex,
        Self::Records,
        Self::Findings,
        Self::Planned,
        Self::Plans,
        Self::Entries,
        Self::Lists,
        Self::AuditLog,
        Self::Requests,
        Self::Settings,
        Self::Software,
        Self::Joined,
        Self::History,
    ];

    const fn byte(self) -> u8 {
        self as u8
    }

    fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.byte() == byte)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Agents => "agents",
            Self::Tokens => "tokens",
            Self::Samples => "samples",
            Self::Checkpoints => "checkpoints",
            Self::Windows => "windows",
            Self::WindowIndex => "window index",
            Self::Records => "records",
            Self::Findings => "findings",
            Self::Planned => "planned",
            Self::Plans => "plans",
            Self::Entries => "journal entries",
            Self::Lists => "lists",
            Self::AuditLog => "audit log",
            Self::Requests => "requests",
            Self::Settings => "settings",
            Self::Software => "software",
            Self::Joined => "joined windows",
            Self::History => "history",
        };
        f.pad(name)
    }
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value then, whatever it had before.
    Put {
        /// Which table.
        table: Table,
        /// Which key.
        key: Vec<u8>,
        /// The value.
        value: Bytes,
    },
    /// The key has no value then; one that had none is fine.
    Delete {
        /// Which table.
        table: Table,
        /// Which key.
        key: Vec<u8>,
    },
    /// No key from `from` to `to` has a value then. Nobody need read what is deleted.
    DeleteRange {
        /// Which table.
        table: Table,
        /// The first key.
        from: Vec<u8>,
        /// The last key; it goes too.
        to: Vec<u8>,
    },
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Another process works on it.
    #[error("store {} is in use by {holder}; stop that one or name another folder", folder.display())]
    Held {
        /// The store's folder.
        folder: PathBuf,
        /// Who holds it, as far as it can be told.
        holder: String,
    },
    /// What is on the disk is not what was written there. Nothing more is read from it or written
    /// to it.
    #[error(
        "store {} is damaged in {}: {what}; stop the aggregator and copy what is readable with \
         `sinter-aggregator store salvage {} OUT`",
        folder.display(), file.display(), folder.display()
    )]
    Damaged {
        /// The store's folder.
        folder: PathBuf,
        /// The file the damage is in.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No room is left; nothing of the commit is stored. The same commit succeeds once there is.
    #[error("no room to write to store {}: {what}; free some space on its disk", folder.display())]
    Full {
        /// The store's folder.
        folder: PathBuf,
        /// How much is left.
        what: String,
    },
    /// The disk did not take or give it. Whether the commit is stored is known after a restart.
    #[error("could not {action} store {}", folder.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The store's folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// It was closed while the call waited.
    #[error("store {} is closed", folder.display())]
    Closed {
        /// The store's folder.
        folder: PathBuf,
    },
}

/// A key and its value.
pub type Pair = (Vec<u8>, Bytes);

/// Bytes under keys, in tables, kept for good.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The value of a key, as it was last committed.
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The first `limit` keys that start with `prefix` and do not lie before `from`, in order.
    async fn scan(
        &self,
        table: Table,
        from: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError>;

    /// Makes all of the changes or none, in order. They are on the disk when this returns. Commits
    /// that wait at the same time share one write to the disk.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// Why something was not remembered, or not found again.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row could not be turned into bytes.
    #[error("could not write a row of {table}")]
    Encode {
        /// Which table.
        table: Table,
        /// Why not.
        #[source]
        cause: rmp_serde::encode::Error,
    },
    /// Its checksum is right and yet it is no row of this version: a newer version wrote it.
    #[error("a row of {table} was not written by this version; start the version that wrote it")]
    Decode {
        /// Which table.
        table: Table,
        /// Why not.
        #[source]
        cause: rmp_serde::decode::Error,
    },
    /// A key or a raw row is not what this version writes.
    #[error("a row of {table} is malformed: {what}")]
    Malformed {
        /// Which table.
        table: Table,
        /// What is wrong.
        what: &'static str,
    },
    /// Somebody else wrote to the journal of this plan.
    #[error("journal of {plan} has {stored} entries; entry {offered} does not follow")]
    OutOfOrder {
        /// Whose journal.
        plan: common::id::PlanId,
        /// How many there are.
        stored: u64,
        /// The number it was offered under, counted from 0.
        offered: u64,
    },
    /// It belongs to something that is not there.
    #[error("there is no {what} {id}")]
    Missing {
        /// What sort of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
}
