//! The adapter to storage devices: what they are, who holds them, and what they did.
//!
//! A device has the nine facts of the specification, each told or left out with a reason: a local
//! disk has no address, and an array that keeps its state to itself is not "down".

pub mod pushed;
pub mod swordfish;
pub mod target;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use common::{clock::Timestamp, units::Bytes};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What can go wrong at this adapter.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The array did not answer; the same call may succeed later.
    #[error("storage did not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The array refused, and will refuse again.
    #[error("storage refused: {reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
}

/// A fact, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<T> {
    /// The fact.
    Is(T),
    /// Why there is none, for people.
    Not(String),
}

impl<T> Told<T> {
    /// The fact, if there is one.
    #[must_use]
    pub const fn fact(&self) -> Option<&T> {
        match self {
            Self::Is(fact) => Some(fact),
            Self::Not(_) => None,
        }
    }

    /// The fact, or that reason.
    #[must_use]
    pub fn or_reason(fact: Option<T>, reason: &str) -> Self {
        fact.map_or_else(|| Self::Not(reason.to_owned()), Self::Is)
    }
}

/// Who holds a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Its name at the array, such as an IQN or NQN.
    pub initiator: String,
    /// Its addresses, as far as the array knows them.
    pub addresses: Vec<IpAddr>,
    /// Whether it may write; `None` if the array does not say.
    pub may_write: Option<bool>,
}

/// One storage device: a volume that is held, or the drive it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is called at the array; no two devices of one array have the same.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Type, such as `volume on SSD, NVMe`.
    pub kind: Told<String>,
    /// Bandwidth in bits per second: of the slowest part on the way.
    pub bandwidth: Told<u64>,
    /// Connections: who holds it.
    pub connections: Told<Vec<Holder>>,
    /// State, such as `Enabled`: whether it is on.
    pub state: Told<String>,
    /// Status, such as `OK`: whether it is well.
    pub status: Told<String>,
    /// Identity that lasts, such as a NQN, NAA or serial.
    pub id: Told<String>,
    /// Its addresses.
    pub addresses: Told<Vec<IpAddr>>,
    /// Its MACs, lower case with colons.
    pub macs: Told<Vec<String>>,
    /// Routes to it: transport, address, target and unit, each as one line.
    pub route: Told<Vec<String>>,
    /// What it can hold.
    pub capacity: Told<Bytes>,
    /// What of it is free.
    pub free: Told<Bytes>,
    /// How it gets over faults, such as `RAID1`.
    pub redundancy: Told<String>,
    /// The drives a volume lies on; empty for a drive.
    pub lies_on: Vec<String>,
    /// What else the vendor says.
    pub vendor: BTreeMap<String, String>,
}

/// Running totals of one device, of one holder if they are told apart; `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// When they were read.
    pub taken_at: Timestamp,
    /// Which device: its key.
    pub device: String,
    /// Of which holder; `None` for all of them together.
    pub initiator: Option<String>,
    /// Read operations done without error.
    pub reads: Option<u64>,
    /// Write operations done without error.
    pub writes: Option<u64>,
    /// Bytes read.
    pub read: Option<Bytes>,
    /// Bytes written.
    pub written: Option<Bytes>,
    /// Operations that failed.
    pub failed: Option<u64>,
}

/// What one array says at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Its devices, in order of their keys.
    pub devices: Arc<Vec<Device>>,
    /// Their totals.
    pub totals: Vec<Totals>,
}

/// One array, or another place that keeps storage devices.
#[async_trait]
pub trait StorageArray: Send + Sync {
    /// What this adapter is called in logs and reasons.
    fn name(&self) -> &str;

    /// All its devices, in order of their keys.
    async fn devices(&self) -> Result<Arc<Vec<Device>>, StorageError>;

    /// Running totals of every device that counts, read at `now`.
    async fn totals(&self, now: Timestamp) -> Result<Vec<Totals>, StorageError>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A device that tells nothing but its name.
    pub(crate) fn bare(key: &str) -> Device {
        fn not<T>() -> Told<T> {
            Told::Not("it tells nothing".to_owned())
        }
        Device {
            key: key.to_owned(),
            name: key.to_owned(),
            kind: not(),
            bandwidth: not(),
            connections: not(),
            state: not(),
            status: not(),
            id: not(),
            addresses: not(),
            macs: not(),
            route: not(),
            capacity: not(),
            free: not(),
            redundancy: not(),
            lies_on: Vec::new(),
            vendor: BTreeMap::new(),
        }
    }
}
