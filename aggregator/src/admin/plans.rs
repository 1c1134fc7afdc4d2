//! `PlanService`: plans, what is decided about them, and the lists that came of them.

use std::{cmp::Reverse, pin::Pin};

use common::{
    id::PlanId,
    wire::admin::v1::{self, plan_service_server::PlanService},
};
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    fleet::found,
    page,
    refusal::{self, bad_field, missing},
    show,
    supposing::Listener,
};
use crate::plan::Plan;

const USUAL_PAGE: usize = 100;
/// Longest reason that is kept.
const LONGEST_REASON: usize = 1_000;

fn plan_id(text: &str) -> Result<PlanId, Status> {
    text.parse().map_err(|cause| bad_field("plan", cause))
}

fn checked_reason(reason: &str) -> Result<&str, Status> {
    if reason.len() > LONGEST_REASON {
        return Err(bad_field("reason", "is longer than 1000 bytes; shorten it"));
    }
    Ok(reason)
}

/// Newest first.
fn order(plan: &Plan) -> (Reverse<u64>, String) {
    (Reverse(plan.made_at.as_millis()), plan.id.to_string())
}

/// A key that sorts as [`order`] does.
fn place(plan: &Plan) -> Vec<u8> {
    let mut key = (u64::MAX - plan.made_at.as_millis()).to_be_bytes().to_vec();
    key.extend(plan.id.as_str().as_bytes());
    key
}

#[tonic::async_trait]
impl PlanService for Admin {
    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Result<Response<v1::CreatePlanResponse>, Status> {
        let answer = self.suppose(request.into_inner(), Listener::deaf()).await?;
        Ok(Response::new(answer))
    }

    type WatchPlanningStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchPlanningResponse, Status>> + Send>>;

    async fn watch_planning(
        &self,
        request: Request<v1::WatchPlanningRequest>,
    ) -> Result<Response<Self::WatchPlanningStream>, Status> {
        let asked = request.into_inner().asked.unwrap_or_default();
        let told = self.clone().told(asked);
        let until_stop = told.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_stop)))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        const LIST: &str = "plans";
        let v1::ListPlansRequest { page_size, page_token } = request.into_inner();
        let from = page::key(LIST, &page_token)?;
        let mut all = self.repository.plans().await.map_err(refusal::repository)?;
        all.sort_by_key(order);
        let size = page::size(page_size, USUAL_PAGE);
        let (page, next_page_token) = page::cut(all, (LIST, from), size, place);
        let mut plans = Vec::with_capacity(page.len());
        for plan in &page {
            let entries = self.repository.entries(&plan.id).await.map_err(refusal::repository)?;
            plans.push(show::plan(plan, &entries));
        }
        Ok(Response::new(v1::ListPlansResponse { plans, next_page_token }))
    }

    async fn get_plan(
        &self,
        request: Request<v1::GetPlanRequest>,
    ) -> Result<Response<v1::GetPlanResponse>, Status> {
        let id = plan_id(&request.into_inner().plan)?;
        let plan = self.repository.plan(&id).await.map_err(refusal::repository)?;
        let plan = plan.ok_or_else(|| missing("plan", id.as_str(), "plans"))?;
        let entries = self.repository.entries(&id).await.map_err(refusal::repository)?;
        let planned = self.repository.planned(&plan.window).await.map_err(refusal::repository)?;
        let outlook = planned.as_ref().map(show::outlook);
        let plan = Some(v1::Plan { outlook, ..show::whole_plan(&plan, &entries) });
        Ok(Response::new(v1::GetPlanResponse { plan }))
    }

    async fn approve_plan(
        &self,
        request: Request<v1::ApprovePlanRequest>,
    ) -> Result<Response<v1::ApprovePlanResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, by| async move {
            let plan = plan_id(&request.plan)?;
            let basis = Some(request.basis.as_str()).filter(|basis| !basis.is_empty());
            let approved = steering.approve(&plan, basis, &by, request.validate_only).await;
            approved.map(|()| v1::ApprovePlanResponse {}).map_err(refusal::steering)
        })
        .await
    }

    async fn reject_plan(
        &self,
        request: Request<v1::RejectPlanRequest>,
    ) -> Result<Response<v1::RejectPlanResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, by| async move {
            let (plan, reason) = (plan_id(&request.plan)?, checked_reason(&request.reason)?);
            let rejected = steering.reject(&plan, reason, &by, request.validate_only).await;
            rejected.map(|()| v1::RejectPlanResponse {}).map_err(refusal::steering)
        })
        .await
    }

    async fn cancel_plan(
        &self,
        request: Request<v1::CancelPlanRequest>,
    ) -> Result<Response<v1::CancelPlanResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, by| async move {
            let (plan, reason) = (plan_id(&request.plan)?, checked_reason(&request.reason)?);
            let cancelled = steering.cancel(&plan, reason, &by, request.validate_only).await;
            cancelled.map(|()| v1::CancelPlanResponse {}).map_err(refusal::steering)
        })
        .await
    }

    async fn roll_back_plan(
        &self,
        request: Request<v1::RollBackPlanRequest>,
    ) -> Result<Response<v1::RollBackPlanResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, by| async move {
            let (plan, reason) = (plan_id(&request.plan)?, checked_reason(&request.reason)?);
            let turned = steering.roll_back(&plan, reason, &by, request.validate_only).await;
            turned.map(|()| v1::RollBackPlanResponse {}).map_err(refusal::steering)
        })
        .await
    }

    async fn list_configuration_lists(
        &self,
        request: Request<v1::ListConfigurationListsRequest>,
    ) -> Result<Response<v1::ListConfigurationListsResponse>, Status> {
        let asked = request.into_inner().vm;
        let vm = match asked.as_str() {
            "" => None,
            named => Some(found(&self.fleet().await?.names(), named)?),
        };
        let mut stored = self.repository.lists(vm.as_ref()).await.map_err(refusal::repository)?;
        stored.sort_by_key(|list| (Reverse(list.offered_at), Reverse(list.generation)));
        let lists = stored.iter().map(show::offered_list).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::ListConfigurationListsResponse { lists }))
    }
}
