//! A store in memory that outlives the aggregators that use it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aggregator::repository::{Change, Pair, Store, StoreError, Table};
use async_trait::async_trait;
use bytes::Bytes;

use super::Line;

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

/// Bytes under keys, in memory.
#[derive(Debug, Clone, Default)]
pub struct SimStore {
    rows: Arc<Mutex<Rows>>,
    line: Line,
    full: Arc<Mutex<u32>>,
}

impl SimStore {
    /// The same rows, reached through `line`.
    #[must_use]
    pub fn through(&self, line: &Line) -> Self {
        Self { line: line.clone(), ..self.clone() }
    }

    /// The next `times` commits find no room.
    pub fn fill(&self, times: u32) {
        *self.full.lock().unwrap() = times;
    }
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.line.pass().await;
        Ok(self.rows.lock().unwrap().get(&(table, key.to_vec())).cloned())
    }

    async fn scan(
        &self,
        table: Table,
        from: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.line.pass().await;
        let rows = self.rows.lock().unwrap();
        let from = from.max(prefix).to_vec();
        let found = rows
            .range((table, from)..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(found.collect())
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.line.pass().await;
        {
            let mut full = self.full.lock().unwrap();
            if *full > 0 {
                *full -= 1;
                return Err(StoreError::Full { folder: "/sim".into(), what: "0 B left".into() });
            }
        }
        let mut rows = self.rows.lock().unwrap();
        for change in changes {
            match change {
                Change::Put { table, key, value } => drop(rows.insert((table, key), value)),
                Change::Delete { table, key } => drop(rows.remove(&(table, key))),
                Change::DeleteRange { table, from, to } => {
                    rows.retain(|(of, key), _| *of != table || *key < from || *key > to);
                }
            }
        }
        Ok(())
    }
}
