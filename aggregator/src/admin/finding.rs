//! `FindingService`: windows and their export, records, the graph, and what the last window says.

use common::{
    id::WindowId,
    wire::admin::v1::{self, finding_service_server::FindingService},
};
use futures::StreamExt as _;
use tonic::{Request, Response, Status};

use super::{
    Admin, export, page,
    refusal::{self, bad_field, missing},
    show,
};
use crate::join::Record;

const USUAL_PAGE: usize = 100;

#[tonic::async_trait]
impl FindingService for Admin {
    async fn list_windows(
        &self,
        request: Request<v1::ListWindowsRequest>,
    ) -> Result<Response<v1::ListWindowsResponse>, Status> {
        const LIST: &str = "windows";
        let v1::ListWindowsRequest { page_size, page_token } = request.into_inner();
        let from = page::key(LIST, &page_token)?;
        let size = page::size(page_size, USUAL_PAGE);
        let windows = self.repository.windows(from.as_deref(), size).await;
        let windows = windows.map_err(refusal::repository)?;
        let next_page_token = windows.next.map(|key| page::token(LIST, &key)).unwrap_or_default();
        let windows = windows.rows.iter().map(show::window).collect();
        Ok(Response::new(v1::ListWindowsResponse { windows, next_page_token }))
    }

    async fn get_window(
        &self,
        request: Request<v1::GetWindowRequest>,
    ) -> Result<Response<v1::GetWindowResponse>, Status> {
        let asked = request.into_inner().window;
        let row = if asked.is_empty() {
            let newest = self.repository.windows(None, 1).await;
            newest.map_err(refusal::repository)?.rows.pop()
        } else {
            let id: WindowId = asked.parse().map_err(|cause| bad_field("window", cause))?;
            self.repository.window(&id).await.map_err(refusal::repository)?
        };
        let row = row.ok_or_else(|| missing("window", &asked, "windows"))?;
        let records = self.repository.records::<Record>(&row.id).await;
        let records = records.map_err(refusal::repository)?.unwrap_or_default();
        Ok(Response::new(v1::GetWindowResponse {
            window: Some(show::window(&row)),
            records: records.iter().map(show::record).collect(),
        }))
    }

    type ExportWindowsStream = export::Rows;

    async fn export_windows(
        &self,
        request: Request<v1::ExportWindowsRequest>,
    ) -> Result<Response<Self::ExportWindowsStream>, Status> {
        let rows = export::rows(&self.repository, request.into_inner()).await?;
        let until_stop = rows.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_stop)))
    }

    async fn get_graph(
        &self,
        _request: Request<v1::GetGraphRequest>,
    ) -> Result<Response<v1::GetGraphResponse>, Status> {
        let fleet = self.fleet().await?;
        let names = fleet.names();
        let window = fleet.findings.window.as_ref().map(ToString::to_string).unwrap_or_default();
        let edges = fleet.findings.edges.iter().map(|edge| show::edge(edge, &names)).collect();
        let storage = fleet.findings.storage.iter();
        let storage = storage.map(|edge| show::storage(edge, &names)).collect();
        Ok(Response::new(v1::GetGraphResponse { window, edges, storage }))
    }

    async fn get_findings(
        &self,
        _request: Request<v1::GetFindingsRequest>,
    ) -> Result<Response<v1::GetFindingsResponse>, Status> {
        let fleet = self.fleet().await?;
        let planned = self.repository.latest_planned().await.map_err(refusal::repository)?;
        let planned = planned.unwrap_or_default();
        let names = fleet.names();
        let mut by_name: Vec<_> = names.iter().map(|(vm, name)| (name, vm)).collect();
        by_name.sort();
        let findings = &fleet.findings;
        Ok(Response::new(v1::GetFindingsResponse {
            window: findings.window.as_ref().map(ToString::to_string).unwrap_or_default(),
            closed_at_unix_ms: show::moment(findings.closed_at),
            machines: by_name.into_iter().map(|(name, vm)| fleet.machine(vm, name)).collect(),
            remarks: findings.remarks.clone(),
            left_alone: show::left_alone(&planned.left_alone, &names),
            cost_before: planned.cost_before,
            cost_after: planned.cost_after,
            lower_bound: planned.lower_bound,
        }))
    }

    async fn list_groups(
        &self,
        _request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let fleet = self.fleet().await?;
        let names = fleet.names();
        let findings = &fleet.findings;
        let dependencies = findings.dependencies.iter();
        Ok(Response::new(v1::ListGroupsResponse {
            window: findings.window.as_ref().map(ToString::to_string).unwrap_or_default(),
            groups: findings.groups.iter().map(|group| show::group(group, &names)).collect(),
            dependencies: dependencies.map(|known| show::dependency(known, &names)).collect(),
        }))
    }
}
