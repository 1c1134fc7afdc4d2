//! Windows as rows of tables, for those who take them elsewhere.

use std::{collections::VecDeque, mem, pin::Pin};

use common::{clock::Timestamp, id::WindowId, wire::admin::v1};
use futures::{Stream, stream};
use tonic::Status;

use super::refusal;
use crate::{
    repository::{Repository, RepositoryError},
    tables::{Table, header, lines},
};

/// Bytes of one message, unless a single line is longer.
const CHUNK: usize = 256 << 10;

/// Rows, as they are sent.
pub(super) type Rows =
    Pin<Box<dyn Stream<Item = Result<v1::ExportWindowsResponse, Status>> + Send>>;

/// What is still to be sent: one window is in memory at a time, and the next one is read when the
/// reader has taken this one.
struct Export {
    repository: Repository,
    windows: VecDeque<WindowId>,
    ready: VecDeque<v1::ExportWindowsResponse>,
}

/// The rows of the windows asked for.
pub(super) async fn rows(
    repository: &Repository,
    asked: v1::ExportWindowsRequest,
) -> Result<Rows, Status> {
    let windows = windows(repository, asked).await.map_err(refusal::repository)?;
    let heads = Table::ALL.map(|table| message(table, header(table)));
    let export = Export { repository: repository.clone(), windows, ready: heads.into() };
    Ok(Box::pin(stream::try_unfold(export, |mut export| async move {
        loop {
            if let Some(message) = export.ready.pop_front() {
                return Ok(Some((message, export)));
            }
            let Some(id) = export.windows.pop_front() else { return Ok(None) };
            export.take(&id).await.map_err(refusal::repository)?;
        }
    })))
}

impl Export {
    async fn take(&mut self, id: &WindowId) -> Result<(), RepositoryError> {
        // It may have been forgotten since, or be from a time when windows were not kept as joined.
        let Some(joined) = self.repository.joined(id).await? else { return Ok(()) };
        for table in Table::ALL {
            let mut chunk = String::new();
            for line in lines(table, &joined).split_inclusive('\n') {
                if !chunk.is_empty() && chunk.len() + line.len() > CHUNK {
                    self.ready.push_back(message(table, mem::take(&mut chunk)));
                }
                chunk.push_str(line);
            }
            if !chunk.is_empty() {
                self.ready.push_back(message(table, chunk));
            }
        }
        Ok(())
    }
}

fn message(table: Table, lines: String) -> v1::ExportWindowsResponse {
    v1::ExportWindowsResponse { table: table.name().to_owned(), lines }
}

/// The windows asked for, oldest first.
async fn windows(
    repository: &Repository,
    asked: v1::ExportWindowsRequest,
) -> Result<VecDeque<WindowId>, RepositoryError> {
    const STRIDE: usize = 256;
    let bound = |ms: i64| u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Timestamp::from_millis);
    let (from, to) = (bound(asked.from_unix_ms), bound(asked.to_unix_ms));
    let most = usize::try_from(asked.last).ok().filter(|last| *last > 0).unwrap_or(usize::MAX);
    let mut windows = VecDeque::new();
    let mut next = None;
    loop {
        let page = repository.windows(next.as_deref(), STRIDE).await?;
        for row in page.rows {
            let is_over = from.is_some_and(|from| row.closed_at <= from);
            if is_over || windows.len() >= most {
                return Ok(windows);
            }
            if to.is_none_or(|to| row.opened_at < to) {
                windows.push_front(row.id);
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(windows);
        }
    }
}
