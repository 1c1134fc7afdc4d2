//! `PlanService`: plans, what is decided about them, and the lists that came of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use common::{
    id::{PlanId, VmId},
    wire::admin::v1::{self, plan_service_server::PlanService},
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    fleet::found,
    page,
    refusal::{self, bad_field, missing},
    show, toml_text,
};
use crate::plan::{Plan, Planned, Supposition};

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

/// What comes of machines that were to be emptied.
fn come_of(planned: &Planned, drained: &BTreeSet<VmId>) -> BTreeMap<VmId, String> {
    let told = drained.iter().map(|vm| {
        let of = planned.plans.iter().find(|plan| plan.moves.iter().any(|m| m.from == *vm));
        let summary = of.map(|plan| plan.summary.clone());
        let reason = summary.or_else(|| planned.left_alone.get(vm).cloned());
        (vm.clone(), reason.unwrap_or_else(|| "another plan touches it first".to_owned()))
    });
    told.collect()
}

impl Admin {
    /// The machines that a caller means by their uuids or names, or by those of their hosts.
    fn machines_of(
        &self,
        names: &BTreeMap<VmId, String>,
        texts: &[String],
    ) -> Result<BTreeSet<VmId>, Status> {
        let inventory = self.steering.inventory();
        let mut machines = BTreeSet::new();
        for text in texts {
            let known = inventory.iter();
            let hosts = known.clone().flat_map(|known| known.hosts.values());
            let host =
                hosts.into_iter().find(|host| host.id.as_str() == text || host.name == *text);
            let Some(host) = host else {
                machines.insert(found(names, text)?);
                continue;
            };
            let there = known.flat_map(|known| &known.machines);
            let there = there.filter(|(_, machine)| machine.host == host.id);
            machines.extend(there.map(|(vm, _)| vm.clone()));
        }
        Ok(machines)
    }
}

#[tonic::async_trait]
impl PlanService for Admin {
    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Result<Response<v1::CreatePlanResponse>, Status> {
        let v1::CreatePlanRequest { policy_toml, without, drain } = request.into_inner();
        let present = self.steering.settings().policy;
        let policy = toml_text::amended(&present, &policy_toml)?;
        let names = self.fleet().await?.names();
        let without: Result<_, _> = without.iter().map(|text| found(&names, text)).collect();
        let drained = self.machines_of(&names, &drain)?;
        let supposition = Supposition { without: without?, drained };
        let as_it_stands = self.steering.what_if(&present, Supposition::default()).await;
        let planned = self.steering.what_if(&policy, supposition.clone()).await;
        let (as_it_stands, planned) =
            (as_it_stands.map_err(refusal::steering)?, planned.map_err(refusal::steering)?);
        Ok(Response::new(v1::CreatePlanResponse {
            plans: planned.plans.iter().map(|plan| show::plan(plan, &[])).collect(),
            left_alone: show::left_alone(&planned.left_alone, &names),
            cost_before: planned.cost_before,
            cost_after: planned.cost_after,
            lower_bound: planned.lower_bound,
            as_it_stands: Some(show::outlook(&as_it_stands)),
            as_asked: Some(show::outlook(&planned)),
            drained: show::left_alone(&come_of(&planned, &supposition.drained), &names),
        }))
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
        let plan = Some(show::whole_plan(&plan, &entries));
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
