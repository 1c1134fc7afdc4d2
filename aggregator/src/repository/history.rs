//! What the cycle holds in memory of past windows, kept: the history as it was now and then, in
//! pieces, and the joined windows that it is brought up to date from.

use std::sync::Arc;

use common::{clock::Timestamp, id::WindowId};

use super::{
    Change, Repository, RepositoryError, Table,
    rows::{decode, put},
};
use crate::{
    history::{History, Part},
    join::Joined,
};

/// Windows looked up at once while going back in time.
const STRIDE: usize = 64;

/// The history, encoded: so that what is not asynchronous is done where it may take its time.
#[derive(Debug)]
pub struct Snapshot(Vec<Change>);

impl Snapshot {
    /// Encodes a history. Takes its time with a large one.
    ///
    /// # Errors
    ///
    /// If a piece cannot be encoded.
    pub fn of(history: &History) -> Result<Self, RepositoryError> {
        let table = Table::History;
        let (from, to) = (Vec::new(), vec![0xFF; 8]);
        let mut changes = vec![Change::DeleteRange { table, from, to }];
        for (number, part) in (0_u32..).zip(history.parts()) {
            changes.push(put(table, number.to_be_bytes().to_vec(), &part)?);
        }
        Ok(Self(changes))
    }
}

impl Repository {
    /// Keeps a history in place of the one kept before.
    ///
    /// # Errors
    ///
    /// If the store does not take it; the one before is kept then.
    pub async fn keep_history(&self, snapshot: Snapshot) -> Result<(), RepositoryError> {
        Ok(self.store.commit(snapshot.0).await?)
    }

    /// The history kept last; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the store does not answer, or another version wrote it.
    pub async fn history(&self) -> Result<Option<History>, RepositoryError> {
        let pairs = self.pairs(Table::History, &[]).await?;
        let parts = pairs.iter().map(|(_, bytes)| decode::<Part>(Table::History, bytes));
        Ok(History::of_parts(parts.collect::<Result<Vec<_>, _>>()?))
    }

    /// A window as it was joined, its records among it; `None` if it is not there, or from a time
    /// when joined windows were not kept.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn joined(&self, id: &WindowId) -> Result<Option<Joined>, RepositoryError> {
        let Some(mut joined) = self.joined_alone(id).await? else { return Ok(None) };
        joined.records = self.records(id).await?.unwrap_or_default();
        Ok(Some(joined))
    }

    /// The newest `count` joined windows, oldest first, without their records.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn last_joined(&self, count: usize) -> Result<Vec<Arc<Joined>>, RepositoryError> {
        let mut joined = Vec::new();
        for row in self.windows(None, count).await?.rows {
            joined.extend(self.joined_alone(&row.id).await?.map(Arc::new));
        }
        joined.reverse();
        Ok(joined)
    }

    /// Ids of the windows that opened after `then`, oldest first.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn windows_after(
        &self,
        then: Option<Timestamp>,
    ) -> Result<Vec<WindowId>, RepositoryError> {
        let mut ids = Vec::new();
        let mut from = None;
        loop {
            let page = self.windows(from.as_deref(), STRIDE).await?;
            for row in page.rows {
                if then.is_some_and(|then| row.opened_at <= then) {
                    ids.reverse();
                    return Ok(ids);
                }
                ids.push(row.id);
            }
            from = page.next;
            if from.is_none() {
                ids.reverse();
                return Ok(ids);
            }
        }
    }

    async fn joined_alone(&self, id: &WindowId) -> Result<Option<Joined>, RepositoryError> {
        self.of_window(Table::Joined, id).await
    }
}
