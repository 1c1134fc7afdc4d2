//! Enrolment and renewal: who becomes an agent, and of which machine.
//!
//! A token alone makes nobody an agent: the hypervisor must have a machine of the uuid the guest
//! names. And no token, however good, takes a machine from an agent whose stream is open: whoever
//! has stolen a pooled token could otherwise put the real agent out. A machine whose agent is away
//! may enrol anew if the hypervisor's MACs bear it out, or if the token is for that machine alone;
//! its former identity is ended for good, and nothing of its history or rights passes on.

use common::{
    id::{AgentId, VmId},
    pki::{self, Issued, Principal},
    sample::Facts,
    signing::ListKey,
    wire::agent::v1::{
        EnrollRequest, EnrollResponse, RenewRequest, RenewResponse,
        enrollment_service_server::EnrollmentService,
    },
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tracing::{error, info};

use super::{AgentHub, CERTIFICATE_LIFETIME, Hub, token_hash};
use crate::{
    access::{self, Source, caller},
    hypervisor::{HypervisorError, Machine},
    repository::{AgentRecord, AgentState, RepositoryError, TokenRecord},
};

/// Largest certificate request that is looked at: one of a large RSA key has 2 KiB.
const LARGEST_REQUEST: usize = 8 << 10;

/// Why somebody is not let in.
#[derive(Debug)]
struct Refused {
    name: &'static str,
    code: Code,
    told: String,
}

impl Refused {
    fn new(name: &'static str, code: Code, told: impl Into<String>) -> Self {
        Self { name, code, told: told.into() }
    }

    fn status(&self) -> Status {
        access::refused(self.code, &self.name.to_uppercase(), self.told.clone())
    }
}

impl From<RepositoryError> for Refused {
    fn from(cause: RepositoryError) -> Self {
        error!(cause = %common::task::Chain(&cause), "enrolment could not be remembered");
        Self::new("not_remembered", Code::Unavailable, "could not remember it; try again later")
    }
}

#[tonic::async_trait]
impl EnrollmentService for AgentHub {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let source = request.extensions().get::<Source>().map(|source| source.0.ip());
        let hub = &self.0;
        if source.is_some_and(|source| !hub.failures.may_try(source, Instant::now())) {
            let told = "too many failed enrolments from this address; try again in a minute";
            hub.refusals.count(None, "enrolling_too_often", told);
            return Err(access::refused(Code::ResourceExhausted, "ENROLLING_TOO_OFTEN", told));
        }
        match hub.enroll(request.into_inner()).await {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => {
                hub.refusals.count(None, refused.name, &refused.told);
                if let Some(source) = source {
                    hub.failures.note(source, Instant::now());
                }
                Err(refused.status())
            }
        }
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let Principal::Agent(agent) = caller(&request)?.clone() else {
            return Err(Status::permission_denied("this rpc is for agents"));
        };
        let hub = &self.0;
        let renewed = hub.renew(&agent, &request.into_inner().certificate_request).await;
        let issued = renewed.map_err(|refused| {
            hub.refusals.count(Some(&agent), refused.name, &refused.told);
            refused.status()
        })?;
        Ok(Response::new(RenewResponse {
            certificate_pem: issued.certificate_pem,
            authority_pem: hub.authority.certificate_pem().to_owned(),
            list_keys: list_keys(&hub.list_key),
        }))
    }
}

fn list_keys(key: &ListKey) -> Vec<Vec<u8>> {
    vec![key.public().to_bytes().to_vec()]
}

impl Hub {
    async fn enroll(&self, request: EnrollRequest) -> Result<EnrollResponse, Refused> {
        let token = self.good_token(&token_hash(&request.token)).await?;
        let facts = Facts::try_from(request.facts.unwrap_or_default()).map_err(|bad| {
            Refused::new("bad_facts", Code::InvalidArgument, format!("facts.{bad}"))
        })?;
        let vm = claimed(&facts, &token)?;
        let machine = self.machine(&vm).await?;
        let id = new_id();
        let issued = self.issue(&request.certificate_request, &id)?;

        let record = AgentRecord {
            id: id.clone(),
            vm: vm.clone(),
            enrolled_at: self.clock.now(),
            certificate_fingerprint: fingerprint(&issued),
            certificate_expires_at: issued.not_after,
            facts,
            ephemeral: token.plan.clone(),
            state: AgentState::Active,
            reason: String::new(),
        };
        self.admit(record, &token, &machine).await?;
        info!(agent = %id, %vm, token = token.name, "agent enrolled");
        Ok(EnrollResponse {
            agent_id: id.as_str().to_owned(),
            certificate_pem: issued.certificate_pem,
            authority_pem: self.authority.certificate_pem().to_owned(),
            list_keys: list_keys(&self.list_key),
            vm: vm.as_str().to_owned(),
        })
    }

    /// Takes a use of the token and remembers the agent, if nobody stands in its way.
    async fn admit(
        &self,
        record: AgentRecord,
        token: &TokenRecord,
        machine: &Machine,
    ) -> Result<(), Refused> {
        let _turn = self.records.lock().await;
        let former = self.former(&record.vm).await?;
        for former in &former {
            self.may_replace(former, token, &record.facts, machine)?;
        }
        if self.repository.take_token(&token.hash, record.enrolled_at).await?.is_none() {
            return Err(bad_token());
        }
        self.repository.put_agent(&record).await?;
        let replaced = format!("replaced by {}", record.id);
        for former in former {
            self.end(former, AgentState::Tombstoned, &replaced).await?;
        }
        Ok(())
    }

    /// The token, before a use of it is taken: who fails for another reason has it still.
    async fn good_token(&self, hash: &[u8; 32]) -> Result<TokenRecord, Refused> {
        let token = self.repository.token(hash).await?;
        token.filter(|token| token.is_good(self.clock.now())).ok_or_else(bad_token)
    }

    async fn machine(&self, vm: &VmId) -> Result<Machine, Refused> {
        let inventory = self.hypervisor.inventory().await.map_err(|cause| {
            let told = match cause {
                HypervisorError::Unreachable(_) => {
                    "the hypervisor does not answer; try again later"
                }
                HypervisorError::Refused { .. } => "the hypervisor gives no inventory",
            };
            Refused::new("no_inventory", Code::Unavailable, told)
        })?;
        inventory.machines.get(vm).cloned().ok_or_else(|| {
            let told = format!("the hypervisor has no machine {vm}");
            Refused::new("no_such_machine", Code::PermissionDenied, told)
        })
    }

    fn issue(&self, request: &[u8], id: &AgentId) -> Result<Issued, Refused> {
        let refused = |told: String| Refused::new("bad_request", Code::InvalidArgument, told);
        if request.len() > LARGEST_REQUEST {
            let size = request.len();
            return Err(refused(format!(
                "certificate_request has {size} bytes; send at most 8192"
            )));
        }
        self.authority
            .issue_agent(request, id, self.clock.now(), CERTIFICATE_LIFETIME)
            .map_err(|cause| refused(cause.to_string()))
    }

    /// The records of a machine that are not ended.
    async fn former(&self, vm: &VmId) -> Result<Vec<AgentRecord>, RepositoryError> {
        let mut agents = self.repository.agents().await?;
        agents.retain(|record| record.vm == *vm && record.state != AgentState::Tombstoned);
        Ok(agents)
    }

    fn may_replace(
        &self,
        former: &AgentRecord,
        token: &TokenRecord,
        facts: &Facts,
        machine: &Machine,
    ) -> Result<(), Refused> {
        let AgentRecord { id, vm, .. } = former;
        let refused = |name, told: String| Err(Refused::new(name, Code::FailedPrecondition, told));
        if self.streams.of(id).is_some() {
            let told =
                format!("{vm} has an agent whose stream is open; stop it or revoke it first");
            return refused("machine_has_live_agent", told);
        }
        if token.bound_vm.is_some() {
            return Ok(());
        }
        if former.state == AgentState::Quarantined {
            let told = format!("agent {id} of {vm} is quarantined; a person must revoke it first");
            return refused("machine_is_quarantined", told);
        }
        if !is_borne_out(facts, machine) {
            let told = format!(
                "{vm} has an agent already and the guest's MACs are not the machine's; revoke {id} \
                 or make a token for {vm} alone"
            );
            return refused("replaces_unproven", told);
        }
        Ok(())
    }

    async fn renew(&self, agent: &AgentId, request: &[u8]) -> Result<Issued, Refused> {
        let _turn = self.records.lock().await;
        let record = self.repository.agent(agent).await?;
        let mut record = super::active(record)
            .map_err(|(name, told)| Refused::new(name, Code::PermissionDenied, told))?;
        let issued = self.issue(request, agent)?;
        record.certificate_fingerprint = fingerprint(&issued);
        record.certificate_expires_at = issued.not_after;
        self.repository.put_agent(&record).await?;
        info!(%agent, until = issued.not_after.as_millis(), "certificate renewed");
        Ok(issued)
    }
}

fn bad_token() -> Refused {
    let told = "token is unknown, used up, expired or revoked; `sinterctl tokens create` makes one";
    Refused::new("bad_token", Code::Unauthenticated, told)
}

/// The machine a guest says it is, if its token is good for that one.
fn claimed(facts: &Facts, token: &TokenRecord) -> Result<VmId, Refused> {
    let uuid = facts.product_uuid.as_deref().unwrap_or_default();
    let vm: VmId = uuid.parse().map_err(|_| {
        let told = "facts.product_uuid names no machine; send the SMBIOS product uuid";
        Refused::new("no_machine_uuid", Code::InvalidArgument, told)
    })?;
    match &token.bound_vm {
        Some(bound) if *bound != vm => {
            let told = "token is for another machine";
            Err(Refused::new("token_of_another_machine", Code::PermissionDenied, told))
        }
        _ => Ok(vm),
    }
}

/// Whether a link of the guest has a MAC that the hypervisor gave this machine.
fn is_borne_out(facts: &Facts, machine: &Machine) -> bool {
    let macs = facts.interfaces.iter().filter_map(|interface| interface.mac.as_deref());
    macs.into_iter().any(|mac| machine.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac)))
}

#[expect(clippy::expect_used, reason = "hexadecimal digits and hyphens are an id")]
fn new_id() -> AgentId {
    format!("a-{}", uuid::Uuid::new_v4()).parse().expect("a uuid is an id")
}

fn fingerprint(issued: &Issued) -> [u8; 32] {
    // The same figure that `pki::fingerprint_of_pem` gives as hex.
    let hex = pki::fingerprint_of_pem(&issued.certificate_pem).unwrap_or_default();
    let mut bytes = [0; 32];
    match hex::decode_to_slice(&hex, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => Sha256::digest(issued.certificate_pem.as_bytes()).into(),
    }
}
