//! Answers given to requests that change something, so that the same request twice is one change.

use std::time::Duration;

use bytes::Bytes;
use common::clock::Timestamp;

use super::{Change, Repository, RepositoryError, Table};

/// How long an answer is kept: longer than anybody goes on trying.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Expired answers that go with each new one, so that the table never needs a sweep of its own.
const SWEPT_AT_ONCE: usize = 16;

impl Repository {
    /// Remembers the answer to a request for a day.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn remember_request(
        &self,
        id: &str,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        let mut value = (now + KEPT_FOR).as_millis().to_be_bytes().to_vec();
        value.extend_from_slice(answer);
        let key = id.as_bytes().to_vec();
        let old = self.store.scan(Table::Requests, &[], &[], SWEPT_AT_ONCE).await?;
        let mut changes: Vec<_> = old
            .into_iter()
            .filter(|(_, answer)| kept(answer, now).is_none())
            .map(|(key, _)| Change::Delete { table: Table::Requests, key })
            .collect();
        changes.push(Change::Put { table: Table::Requests, key, value: value.into() });
        Ok(self.store.commit(changes).await?)
    }

    /// The answer given to a request before; `None` if there was none, or it is a day old.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn request(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<Bytes>, RepositoryError> {
        let answer = self.store.get(Table::Requests, id.as_bytes()).await?;
        Ok(answer.and_then(|answer| kept(&answer, now)))
    }
}

fn kept(answer: &Bytes, now: Timestamp) -> Option<Bytes> {
    let expires_at = answer.get(..8)?.try_into().map(u64::from_be_bytes).ok()?;
    (now < Timestamp::from_millis(expires_at)).then(|| answer.slice(8..))
}
