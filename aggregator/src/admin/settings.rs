//! `CatalogueService` and `PolicyService`: what the operator decided beforehand.

use std::collections::BTreeMap;

use common::{
    id::VmId,
    wire::admin::v1::{
        self, catalogue_service_server::CatalogueService, policy_service_server::PolicyService,
    },
};
use tonic::{Request, Response, Status};

use super::{Admin, fleet::found, refusal, show, toml_text};

/// Longest reason that is kept.
const LONGEST_REASON: usize = 1_000;

#[tonic::async_trait]
impl CatalogueService for Admin {
    async fn get_catalogue(
        &self,
        _request: Request<v1::GetCatalogueRequest>,
    ) -> Result<Response<v1::GetCatalogueResponse>, Status> {
        let catalogue_toml = toml_text::write(&self.steering.settings().catalogue)?;
        Ok(Response::new(v1::GetCatalogueResponse { catalogue_toml }))
    }

    async fn set_catalogue(
        &self,
        request: Request<v1::SetCatalogueRequest>,
    ) -> Result<Response<v1::SetCatalogueResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, _| async move {
            let catalogue = toml_text::catalogue(&request.catalogue_toml)?;
            let applications = u32::try_from(catalogue.0.len()).unwrap_or(u32::MAX);
            if !request.validate_only {
                steering.set_catalogue(catalogue).await.map_err(refusal::steering)?;
            }
            Ok(v1::SetCatalogueResponse { applications })
        })
        .await
    }
}

impl Admin {
    /// Names of machines, those too that are out of scope and no longer there.
    fn known_names(&self, names: BTreeMap<VmId, String>) -> BTreeMap<VmId, String> {
        let mut known: BTreeMap<_, _> = self
            .steering
            .settings()
            .scope
            .opted_out
            .into_keys()
            .map(|vm| (vm.clone(), vm.to_string()))
            .collect();
        known.extend(names);
        known
    }
}

#[tonic::async_trait]
impl PolicyService for Admin {
    async fn get_policy(
        &self,
        _request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let policy_toml = toml_text::write(&self.steering.settings().policy)?;
        Ok(Response::new(v1::GetPolicyResponse { policy_toml }))
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let steering = self.steering.clone();
        self.change(request, |request, _| async move {
            let present = steering.settings().policy;
            let policy = toml_text::amended(&present, &request.policy_toml)?;
            let policy_toml = toml_text::write(&policy)?;
            if !request.validate_only {
                steering.set_policy(policy).await.map_err(refusal::steering)?;
            }
            Ok(v1::SetPolicyResponse { policy_toml })
        })
        .await
    }

    async fn get_scope(
        &self,
        _request: Request<v1::GetScopeRequest>,
    ) -> Result<Response<v1::GetScopeResponse>, Status> {
        let names = self.fleet().await?.names();
        let scope = self.steering.settings().scope;
        let opted_out = show::left_alone(&scope.opted_out, &names);
        Ok(Response::new(v1::GetScopeResponse { opted_out }))
    }

    async fn set_scope(
        &self,
        request: Request<v1::SetScopeRequest>,
    ) -> Result<Response<v1::SetScopeResponse>, Status> {
        let admin = self.clone();
        self.change(request, |request, actor| async move {
            let names = admin.known_names(admin.fleet().await?.names());
            let vm = found(&names, &request.vm)?;
            if request.reason.len() > LONGEST_REASON {
                return Err(refusal::bad_field("reason", "is longer than 1000 bytes; shorten it"));
            }
            let reason = match (request.opted_in, request.reason.as_str()) {
                (true, _) => None,
                (false, "") => Some(format!("left out by {actor}")),
                (false, reason) => Some(reason.to_owned()),
            };
            if !request.validate_only {
                admin.steering.set_scope(&vm, reason).await.map_err(refusal::steering)?;
            }
            Ok(v1::SetScopeResponse {})
        })
        .await
    }

    async fn get_group_rules(
        &self,
        _request: Request<v1::GetGroupRulesRequest>,
    ) -> Result<Response<v1::GetGroupRulesResponse>, Status> {
        self.group_rules().await.map(Response::new)
    }

    async fn set_group_rules(
        &self,
        request: Request<v1::SetGroupRulesRequest>,
    ) -> Result<Response<v1::SetGroupRulesResponse>, Status> {
        let admin = self.clone();
        self.change(request, |request, _| async move { admin.change_group_rules(request).await })
            .await
    }
}
