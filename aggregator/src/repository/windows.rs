//! Committed windows. A window's result and the end of its samples are one commit, so that what was
//! acknowledged is counted exactly once, whatever happens in between.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    clock::Timestamp,
    id::{VmId, WindowId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Change, Page, Repository, RepositoryError, Table,
    rows::{decode, put},
    samples::delete_up_to,
};
pub use crate::window::Checkpoint;
use crate::{inference::Findings, join::Joined, plan::Planned};

/// A window without its records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowRow {
    /// Its id.
    pub id: WindowId,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it closed.
    pub closed_at: Timestamp,
    /// Samples in it.
    pub samples: u64,
    /// Samples that came when their own window was closed already: counted here, and in no figure.
    #[serde(default)]
    pub late: u64,
    /// Samples that were due and did not come in time; `None` if an earlier version closed it.
    #[serde(default)]
    pub missing: Option<u64>,
    /// Records made of them.
    pub records: u64,
    /// Share of the samples due that came, by machine.
    #[serde(default)]
    pub coverage: BTreeMap<VmId, f64>,
}

/// All that one window leaves behind. `R` is what a record is.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowCommit<R> {
    /// The window.
    pub window: WindowRow,
    /// Its records.
    pub records: Vec<R>,
    /// It as it was joined, without its records; `None` if the joining broke down.
    pub joined: Option<Arc<Joined>>,
    /// What was found once it was closed.
    pub findings: Findings,
    /// What was planned then.
    pub planned: Planned,
    /// Per agent with samples in it: how far it goes. Its samples up to there are deleted.
    pub checkpoints: Vec<Checkpoint>,
}

impl Repository {
    /// Commits a window: row, records, joined window, findings, plans and checkpoints come to be and its samples
    /// go, all at once.
    ///
    /// # Errors
    ///
    /// If the store does not take it; nothing has changed then.
    pub async fn commit_window<R: Serialize + Sync>(
        &self,
        commit: &WindowCommit<R>,
    ) -> Result<(), RepositoryError> {
        let window = &commit.window;
        let key = window_key(window);
        let mut changes = vec![
            put(Table::Windows, key.clone(), window)?,
            put(Table::Records, key.clone(), &commit.records)?,
            put(Table::Findings, key.clone(), &commit.findings)?,
            put(Table::Planned, key.clone(), &commit.planned)?,
            Change::Put {
                table: Table::WindowIndex,
                key: window.id.as_str().as_bytes().to_vec(),
                value: key.into(),
            },
        ];
        if let Some(joined) = &commit.joined {
            changes.push(put(Table::Joined, window_key(window), joined.as_ref())?);
        }
        for checkpoint in &commit.checkpoints {
            let key = checkpoint.agent.as_str().as_bytes().to_vec();
            changes.push(put(Table::Checkpoints, key, checkpoint)?);
            changes.push(delete_up_to(&checkpoint.agent, checkpoint.last_sealed));
        }
        Ok(self.store.commit(changes).await?)
    }

    /// A window.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn window(&self, id: &WindowId) -> Result<Option<WindowRow>, RepositoryError> {
        self.of_window(Table::Windows, id).await
    }

    /// A window's records.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn records<R: DeserializeOwned>(
        &self,
        id: &WindowId,
    ) -> Result<Option<Vec<R>>, RepositoryError> {
        self.of_window(Table::Records, id).await
    }

    /// What was found once a window was closed.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn findings(&self, id: &WindowId) -> Result<Option<Findings>, RepositoryError> {
        self.of_window(Table::Findings, id).await
    }

    /// What was planned once a window was closed.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn planned(&self, id: &WindowId) -> Result<Option<Planned>, RepositoryError> {
        self.of_window(Table::Planned, id).await
    }

    /// Windows, newest first, from where a page before ended.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn windows(
        &self,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<WindowRow>, RepositoryError> {
        self.page(Table::Windows, from, limit).await
    }

    /// The last windows that had closed at a time, newest first.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn windows_until(
        &self,
        then: Timestamp,
        limit: usize,
    ) -> Result<Vec<WindowRow>, RepositoryError> {
        Ok(self.windows(Some(&closed_by(then)), limit).await?.rows)
    }

    /// The oldest window that is kept; `None` if none is.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn oldest_window(&self) -> Result<Option<WindowRow>, RepositoryError> {
        let Some(mut oldest) = self.windows(None, 1).await?.rows.pop() else { return Ok(None) };
        // Newest come first, and may be too many to be walked through: the times between that in
        // which nothing had closed and that of the oldest known are halved.
        let mut nothing_by = Timestamp::default();
        while nothing_by < oldest.closed_at {
            let (from, to) = (nothing_by.as_millis(), oldest.closed_at.as_millis());
            let between = Timestamp::from_millis(from + (to - from) / 2);
            match self.windows_until(between, 1).await?.pop() {
                Some(older) => oldest = older,
                None => nothing_by = Timestamp::from_millis(between.as_millis() + 1),
            }
        }
        Ok(Some(oldest))
    }

    /// What was found last.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn latest_findings(&self) -> Result<Option<Findings>, RepositoryError> {
        Ok(self.page(Table::Findings, None, 1).await?.rows.pop())
    }

    /// What was planned last.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn latest_planned(&self) -> Result<Option<Planned>, RepositoryError> {
        Ok(self.page(Table::Planned, None, 1).await?.rows.pop())
    }

    /// How far each agent's samples are in committed windows, and what it had seen by then.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, RepositoryError> {
        self.rows(Table::Checkpoints, &[]).await
    }

    /// Forgets windows that closed before `then`, with all that belongs to them; says how many.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn forget_windows(&self, then: Timestamp) -> Result<usize, RepositoryError> {
        let from = (u64::MAX - then.as_millis() + 1).to_be_bytes();
        let mut forgotten = 0;
        loop {
            let old = self.store.scan(Table::Windows, &from, &[], 64).await?;
            let mut changes = Vec::new();
            for (key, row) in &old {
                let row: WindowRow = decode(Table::Windows, row)?;
                for table in OF_A_WINDOW {
                    changes.push(Change::Delete { table, key: key.clone() });
                }
                let key = row.id.as_str().as_bytes().to_vec();
                changes.push(Change::Delete { table: Table::WindowIndex, key });
            }
            if changes.is_empty() {
                return Ok(forgotten);
            }
            forgotten += old.len();
            self.store.commit(changes).await?;
        }
    }

    pub(super) async fn of_window<T: DeserializeOwned>(
        &self,
        table: Table,
        id: &WindowId,
    ) -> Result<Option<T>, RepositoryError> {
        let Some(key) = self.store.get(Table::WindowIndex, id.as_str().as_bytes()).await? else {
            return Ok(None);
        };
        self.row(table, &key).await
    }
}

/// Tables with a row for each window, under its key.
const OF_A_WINDOW: [Table; 5] =
    [Table::Windows, Table::Records, Table::Findings, Table::Planned, Table::Joined];

/// Where those begin that had closed at a time.
fn closed_by(then: Timestamp) -> [u8; 8] {
    (u64::MAX - then.as_millis()).to_be_bytes()
}

/// Newest first: the complement of the time it closed at, then its id.
fn window_key(window: &WindowRow) -> Vec<u8> {
    let mut key = closed_by(window.closed_at).to_vec();
    key.extend_from_slice(window.id.as_str().as_bytes());
    key
}
