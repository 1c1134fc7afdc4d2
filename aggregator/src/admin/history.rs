//! `HistoryService`: the audit log, bad input, and what happens as it happens.

use std::pin::Pin;

use common::wire::admin::v1::{self, history_service_server::HistoryService};
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tonic::{Request, Response, Status};

use super::{Admin, page, refusal, show};
use crate::repository::{AuditRow, AuditVerdict};

const USUAL_PAGE: usize = 100;

fn entry(row: &AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        number: row.number,
        at_unix_ms: show::moment(row.at),
        actor: row.actor.clone(),
        action: row.action.clone(),
        subject: row.subject.clone(),
        detail: row.detail.clone(),
    }
}

#[tonic::async_trait]
impl HistoryService for Admin {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        const LIST: &str = "audit";
        let v1::ListAuditEntriesRequest { page_size, page_token } = request.into_inner();
        let size = page::size(page_size, USUAL_PAGE);
        let from = page::key(LIST, &page_token)?;
        let from = from.and_then(|key| key.try_into().ok().map(u64::from_be_bytes));
        let length = self.repository.audit_log_length().await.map_err(refusal::repository)?;
        // Numbers have no holes: the page is the `size` rows up to the last one.
        let last = from.unwrap_or(length).min(length);
        let first = last.saturating_sub(size as u64) + 1;
        let count = usize::try_from(last + 1 - first).unwrap_or(size);
        let rows = match count {
            0 => Vec::new(),
            count => self.repository.audit_log(first, count).await.map_err(refusal::repository)?,
        };
        let next_page_token = match first - 1 {
            0 => String::new(),
            next => page::token(LIST, &next.to_be_bytes()),
        };
        let entries = rows.iter().rev().map(entry).collect();
        Ok(Response::new(v1::ListAuditEntriesResponse { entries, next_page_token }))
    }

    async fn verify_audit_log(
        &self,
        _request: Request<v1::VerifyAuditLogRequest>,
    ) -> Result<Response<v1::VerifyAuditLogResponse>, Status> {
        let verdict = self.repository.verify_audit_log().await.map_err(refusal::repository)?;
        let (rows, first_bad_row) = match verdict {
            AuditVerdict::Whole(rows) => (rows, None),
            AuditVerdict::BrokenAt(row) => (row.saturating_sub(1), Some(row)),
        };
        Ok(Response::new(v1::VerifyAuditLogResponse { rows, first_bad_row }))
    }

    async fn list_refusals(
        &self,
        _request: Request<v1::ListRefusalsRequest>,
    ) -> Result<Response<v1::ListRefusalsResponse>, Status> {
        let refusals = self.hub.refusals().into_iter().map(|refusal| v1::Refusal {
            agent_id: refusal.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: refusal.name.to_owned(),
            count: refusal.count,
        });
        Ok(Response::new(v1::ListRefusalsResponse { refusals: refusals.collect() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let clock = std::sync::Arc::clone(&self.clock);
        let told = BroadcastStream::new(self.steering.subscribe()).map(move |heard| {
            Ok(match heard {
                Ok(notice) => v1::WatchResponse {
                    at_unix_ms: show::moment(notice.at),
                    kind: notice.kind.to_owned(),
                    plan: notice.plan.as_ref().map(ToString::to_string).unwrap_or_default(),
                    text: notice.text,
                },
                Err(BroadcastStreamRecvError::Lagged(missed)) => v1::WatchResponse {
                    at_unix_ms: show::moment(clock.now()),
                    kind: "notices_missed".to_owned(),
                    plan: String::new(),
                    text: format!(
                        "{missed} notices came too fast for this reader and are not told"
                    ),
                },
            })
        });
        let until_stop = told.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_stop)))
    }
}
