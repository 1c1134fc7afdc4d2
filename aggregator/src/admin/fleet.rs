//! `FleetService`: machines, hosts and agents.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    id::{AgentId, VmId},
    wire::admin::v1::{self, fleet_service_server::FleetService},
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::actor,
    page,
    refusal::{self, bad_field, missing, not_now},
    show::{self, Fleet, storage},
    software,
};
use crate::{
    guest::Guests as _,
    repository::{AgentRecord, AgentState, StoredSoftware},
    storage::Device,
};

const USUAL_PAGE: usize = 500;

impl Admin {
    /// All that machines are shown from, as it is now.
    pub(super) async fn fleet(&self) -> Result<Fleet, Status> {
        let findings = self.repository.latest_findings().await.map_err(refusal::repository)?;
        let inventory = self.steering.inventory().unwrap_or_default();
        let settings = self.steering.settings();
        let agents = self.repository.agents().await.map_err(refusal::repository)?;
        let is_alive = |agent: &AgentRecord| agent.state != AgentState::Tombstoned;
        let attached = self.hub.attached_agents().into_values();
        let mut fleet = Fleet {
            findings: findings.unwrap_or_default(),
            inventory,
            scope: settings.scope,
            enrolled: agents.into_iter().filter(is_alive).map(|agent| agent.vm).collect(),
            attached: attached.map(|agent| (agent.vm, agent.since)).collect(),
            seen: BTreeMap::new(),
            sample_period: settings.policy.sample_period(),
            now: self.clock.now(),
        };
        let machines: BTreeSet<_> = fleet.names().into_keys().collect();
        for vm in machines {
            if let Some(seen) = self.hub.last_seen(&vm).await {
                fleet.seen.insert(vm, seen);
            }
        }
        Ok(fleet)
    }
}

/// The machine that a caller means by its uuid or its name.
pub(super) fn found(names: &BTreeMap<VmId, String>, text: &str) -> Result<VmId, Status> {
    let is_meant = |(vm, name): &(&VmId, &String)| vm.as_str() == text || *name == text;
    let meant: Vec<_> = names.iter().filter(is_meant).map(|(vm, _)| vm).collect();
    match meant.as_slice() {
        [vm] => Ok((*vm).clone()),
        [] => Err(missing("machine", text, "vms")),
        many => {
            let uuids: Vec<_> = many.iter().map(|vm| vm.as_str()).collect();
            let told = format!(
                "{} machines have that name; write a uuid of {}",
                many.len(),
                uuids.join(", ")
            );
            Err(bad_field("vm", told))
        }
    }
}

#[tonic::async_trait]
impl FleetService for Admin {
    async fn list_machines(
        &self,
        request: Request<v1::ListMachinesRequest>,
    ) -> Result<Response<v1::ListMachinesResponse>, Status> {
        const LIST: &str = "machines";
        let v1::ListMachinesRequest { page_size, page_token } = request.into_inner();
        let from = page::key(LIST, &page_token)?;
        let fleet = self.fleet().await?;
        let mut names: Vec<_> = fleet.names().into_iter().map(|(vm, name)| (name, vm)).collect();
        names.sort();
        let size = page::size(page_size, USUAL_PAGE);
        let key = |(name, vm): &(String, VmId)| format!("{name}\0{vm}").into_bytes();
        let (names, next_page_token) = page::cut(names, (LIST, from), size, key);
        let machines = names.iter().map(|(name, vm)| fleet.machine(vm, name)).collect();
        Ok(Response::new(v1::ListMachinesResponse { machines, next_page_token }))
    }

    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Result<Response<v1::GetMachineResponse>, Status> {
        let fleet = self.fleet().await?;
        let names = fleet.names();
        let vm = found(&names, &request.into_inner().vm)?;
        let name = names.get(&vm).map(String::as_str).unwrap_or_default();
        let mut answer = v1::GetMachineResponse {
            machine: Some(fleet.machine(&vm, name)),
            ..v1::GetMachineResponse::default()
        };
        if let Some(seen) = fleet.seen.get(&vm) {
            let seen = &seen.observation;
            answer.facts = Some((&seen.facts).into());
            answer.counters = Some((&seen.counters).into());
            answer.connections = seen.connections.iter().map(Into::into).collect();
            answer.services = seen.services.iter().map(Into::into).collect();
            answer.processes = seen.processes.iter().map(Into::into).collect();
            answer.flows = seen.flows.iter().map(Into::into).collect();
            answer.coverage = seen.coverage.as_ref().map(Into::into);
            answer.agent = seen.agent.as_ref().map(Into::into);
            answer.applications = seen.applications.iter().map(Into::into).collect();
        }
        Ok(Response::new(answer))
    }

    async fn get_software(
        &self,
        request: Request<v1::GetSoftwareRequest>,
    ) -> Result<Response<v1::GetSoftwareResponse>, Status> {
        let request = request.into_inner();
        let names = self.fleet().await?.names();
        let vm = found(&names, &request.vm)?;
        let agents = self.repository.agents().await.map_err(refusal::repository)?;
        let mut known = None;
        // Of several agents that a machine had, the one that spoke last.
        for agent in agents.iter().filter(|agent| agent.vm == vm) {
            let told = self.repository.software(&agent.id).await.map_err(refusal::repository)?;
            let is_later = |told: &StoredSoftware, known: &Option<StoredSoftware>| {
                known.as_ref().is_none_or(|known| told.received_at > known.received_at)
            };
            known = match told {
                Some(told) if is_later(&told, &known) => Some(told),
                _ => known,
            };
        }
        software::page(known.unwrap_or_default(), &request).map(Response::new)
    }

    async fn request_sample(
        &self,
        request: Request<v1::RequestSampleRequest>,
    ) -> Result<Response<v1::RequestSampleResponse>, Status> {
        let names = self.fleet().await?.names();
        let vm = found(&names, &request.into_inner().vm)?;
        if self.hub.want_sample(&vm) {
            return Ok(Response::new(v1::RequestSampleResponse {}));
        }
        Err(not_now("AGENT", vm.as_str(), "no agent of it is attached; start it and try again"))
    }

    async fn list_hosts(
        &self,
        _request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let inventory = self.steering.inventory().unwrap_or_default();
        let hosts = inventory.hosts.values().map(|host| show::host(host, &inventory)).collect();
        Ok(Response::new(v1::ListHostsResponse { hosts }))
    }

    async fn list_storage_devices(
        &self,
        request: Request<v1::ListStorageDevicesRequest>,
    ) -> Result<Response<v1::ListStorageDevicesResponse>, Status> {
        const LIST: &str = "storage devices";
        let v1::ListStorageDevicesRequest { page_size, page_token } = request.into_inner();
        let from = page::key(LIST, &page_token)?;
        let arrays = self.steering.arrays();
        let each = arrays.iter().flat_map(|(array, survey)| {
            survey.devices.iter().map(move |device| (array.as_str(), device))
        });
        let size = page::size(page_size, USUAL_PAGE);
        let key =
            |(array, device): &(&str, &Device)| format!("{array}\0{}", device.key).into_bytes();
        let (devices, next_page_token) = page::cut(each.collect(), (LIST, from), size, key);
        let devices = devices.into_iter().map(|(array, device)| storage::device(array, device));
        let devices = devices.collect();
        Ok(Response::new(v1::ListStorageDevicesResponse { devices, next_page_token }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        const LIST: &str = "agents";
        let v1::ListAgentsRequest { page_size, page_token } = request.into_inner();
        let from = page::key(LIST, &page_token)?;
        let records = self.repository.agents().await.map_err(refusal::repository)?;
        let size = page::size(page_size, USUAL_PAGE);
        let key = |record: &AgentRecord| record.id.as_str().as_bytes().to_vec();
        let (records, next_page_token) = page::cut(records, (LIST, from), size, key);
        let attached = self.hub.attached_agents();
        let mut agents = Vec::with_capacity(records.len());
        for record in &records {
            let mut agent = show::agent(record, attached.get(&record.id));
            let progress = self.repository.progress(&record.id).await;
            let last = progress.map_err(refusal::repository)?.received.unwrap_or_default();
            (agent.epoch, agent.sequence) = (last.epoch, last.sequence);
            agents.push(agent);
        }
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token }))
    }

    async fn revoke_agent(
        &self,
        request: Request<v1::RevokeAgentRequest>,
    ) -> Result<Response<v1::RevokeAgentResponse>, Status> {
        let admin = self.clone();
        let reason = format!("revoked by {}", actor(&request)?);
        self.change(request, |request, _| async move {
            let unknown = || missing("agent", &request.agent_id, "agents list");
            let id: AgentId =
                request.agent_id.parse().map_err(|cause| bad_field("agent_id", cause))?;
            let known = admin.repository.agent(&id).await.map_err(refusal::repository)?;
            if known.is_none() {
                return Err(unknown());
            }
            let is_done = request.validate_only
                || admin.hub.revoke(&id, &reason).await.map_err(refusal::repository)?;
            if is_done { Ok(v1::RevokeAgentResponse {}) } else { Err(unknown()) }
        })
        .await
    }
}
