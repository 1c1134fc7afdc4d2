//! The repository itself, and how its rows become bytes: MessagePack with named fields, so that a
//! field added later does not make older rows unreadable. Large ones are packed.

use std::{collections::HashMap, path::Path, sync::Arc};

use common::{id::AgentId, sample::SampleId};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    Change, EmbeddedStore, RepositoryError, Store, StoreError, Table,
    audit_log::Head,
    pack::{pack, unpack},
};

/// Rows fetched from the store at once while a whole table is walked.
const STRIDE: usize = 512;

/// Everything the aggregator remembers. Cheap to clone; all clones are one repository.
///
/// One process owns a store. What is read before it is written (a token's uses, the last row of the
/// audit log) is held under a lock of this process.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) store: Arc<dyn Store>,
    pub(super) turns: Arc<Turns>,
}

/// One at a time: reads that a write follows.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) tokens: Mutex<()>,
    pub(super) journal: Mutex<()>,
    pub(super) lists: Mutex<()>,
    /// The last row of the audit log, once it was read.
    pub(super) audit_log: Mutex<Option<Head>>,
    /// The last sample of each agent that is stored or sealed, once it was read.
    pub(super) received: std::sync::Mutex<HashMap<AgentId, Arc<Mutex<Received>>>>,
}

/// The last sample of one agent that is stored or sealed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Received {
    /// It was not read yet.
    #[default]
    Unread,
    /// This one, or none.
    Last(Option<SampleId>),
}

/// A part of a longer listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

impl Repository {
    /// The repository over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, turns: Arc::default() }
    }

    /// The repository over the embedded store in `folder`. Blocks while all of it is checked.
    ///
    /// # Errors
    ///
    /// See [`EmbeddedStore::open`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(Arc::new(EmbeddedStore::open(folder)?)))
    }

    pub(super) async fn row<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, RepositoryError> {
        let bytes = self.store.get(table, key).await?;
        bytes.map(|bytes| decode(table, &bytes)).transpose()
    }

    /// All rows whose key starts with `prefix`, in order.
    pub(super) async fn rows<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<T>, RepositoryError> {
        let pairs = self.pairs(table, prefix).await?;
        pairs.iter().map(|(_, bytes)| decode(table, bytes)).collect()
    }

    pub(super) async fn pairs(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<super::Pair>, RepositoryError> {
        let mut all = Vec::new();
        let mut from = Vec::new();
        loop {
            let pairs = self.store.scan(table, &from, prefix, STRIDE).await?;
            let is_last = pairs.len() < STRIDE;
            if let Some((key, _)) = pairs.last() {
                from = after(key);
            }
            all.extend(pairs);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Up to `limit` rows from `from` on.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        table: Table,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<T>, RepositoryError> {
        let from = from.unwrap_or_default();
        let mut pairs = self.store.scan(table, from, &[], limit.saturating_add(1)).await?;
        let next = (pairs.len() > limit).then(|| pairs.split_off(limit).swap_remove(0).0);
        let rows = pairs.iter().map(|(_, bytes)| decode(table, bytes));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, next })
    }

    pub(super) async fn put<T: Serialize + Sync>(
        &self,
        table: Table,
        key: &[u8],
        row: &T,
    ) -> Result<(), RepositoryError> {
        Ok(self.store.commit(vec![put(table, key.to_vec(), row)?]).await?)
    }
}

/// The first key that lies after `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// `text`, an end that no id contains, then `number`: keys of one text lie together, in order.
pub(super) fn numbered(text: &str, number: u64) -> Vec<u8> {
    let mut key = prefix(text);
    key.extend(number.to_be_bytes());
    key
}

/// What all keys of one text begin with.
pub(super) fn prefix(text: &str) -> Vec<u8> {
    let mut key = text.as_bytes().to_vec();
    key.push(0);
    key
}

pub(super) fn put<T: Serialize>(
    table: Table,
    key: Vec<u8>,
    row: &T,
) -> Result<Change, RepositoryError> {
    let bytes =
        rmp_serde::to_vec_named(row).map_err(|cause| RepositoryError::Encode { table, cause })?;
    Ok(Change::Put { table, key, value: pack(bytes) })
}

pub(super) fn decode<T: DeserializeOwned>(
    table: Table,
    bytes: &[u8],
) -> Result<T, RepositoryError> {
    let what = "it does not unpack";
    let bytes = unpack(bytes).map_err(|_| RepositoryError::Malformed { table, what })?;
    rmp_serde::from_slice(&bytes).map_err(|cause| RepositoryError::Decode { table, cause })
}

#[cfg(test)]
mod tests {
    use common::sample::{ApplicationUse, Counters, Facts, Observation};
    use serde_json::Value;

    use super::*;

    /// A row as a version before kept it: without the fields that came later.
    fn without<T: Serialize + Default>(later: &[&str]) -> Vec<u8> {
        let Ok(Value::Object(mut row)) = serde_json::to_value(T::default()) else {
            panic!("it is a map");
        };
        for field in later {
            assert!(row.remove(*field).is_some(), "{field}");
        }
        rmp_serde::to_vec_named(&row).unwrap()
    }

    #[test]
    fn what_was_kept_before_agents_said_more_is_read_as_it_was() {
        let table = Table::Checkpoints;
        let facts = without::<Facts>(&["block_devices", "remote_storage", "run_level"]);
        assert_eq!(decode::<Facts>(table, &facts).unwrap(), Facts::default());
        let counters = without::<Counters>(&["disks", "storage_pressure_10", "page_cache"]);
        assert_eq!(decode::<Counters>(table, &counters).unwrap(), Counters::default());
        let later = ["accounting", "devices", "stalls", "cpu_quantiles", "memory_quantiles"];
        let used = without::<ApplicationUse>(&later);
        assert_eq!(decode::<ApplicationUse>(table, &used).unwrap(), ApplicationUse::default());
        let all = without::<Observation>(&["flows", "coverage", "agent"]);
        assert_eq!(decode::<Observation>(table, &all).unwrap(), Observation::default());
    }
}
