//! The adapter to the guests: what their agents send, and what may be asked of them.
//!
//! ```text
//!  enrol ──> machine of the inventory? ──> identity
//!  attach ─> hello ─> seat ─> samples ─> durable ─> acknowledged ─> window ─> sealed
//!                          <─ lists, policy, seals
//! ```
//!
//! Who an agent is its certificate says, and which machine it speaks for its record; what a message
//! claims is held against that and never believed instead. Bad input costs itself: it is counted by
//! name, its agent is told, and no other agent notices.

mod codec;
mod enrolment;
mod hub;
mod intake;
mod machines;
mod news;
mod offers;
mod owners;
mod quota;
mod refusals;
mod reports;
mod sampling;
mod session;
mod sightings;
mod streams;
mod verbs;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{
    clock::{Clock, Timestamp},
    id::{AgentId, PlanId, VmId, WindowId},
    list::ConfigurationList,
    mix::EffectiveMix,
    pki::Authority,
    sample::{Observation, SampleId},
    signing::ListKey,
    wire::{BadMessage, LARGEST_MESSAGE, agent::v1},
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::mpsc;
use tonic::{Code, codec::CompressionEncoding};

use self::{
    codec::LinkServer,
    hub::{Hub, active},
};
use crate::{
    access,
    catalogue::Catalogue,
    hypervisor::Hypervisor,
    listener::Terms,
    policy::Policy,
    repository::{AgentState, Repository, RepositoryError, StoredSample},
    window::{Checkpoint, Seen},
};

/// How long an agent's certificate lasts; the agent renews it in time. A machine that was off for a
/// long weekend comes back with it. It need not be shorter to end a stolen one: every stream is held
/// against the agent's record, and that ends at once.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Samples that wait for the windows; what is beyond waits in the agents' spools.
const SEEN_WAITING: usize = 1024;

/// What can go wrong between us and a guest.
#[derive(Debug, Error)]
pub enum GuestError {
    /// Its agent did not answer in time; it may later.
    #[error("agent of {vm} did not answer within {} s", waited.as_secs())]
    Silent {
        /// The machine.
        vm: VmId,
        /// How long we waited.
        waited: Duration,
    },
    /// Its agent refused the list, or undid it; it will again.
    #[error("agent of {vm} refused generation {generation}: {reason}")]
    Refused {
        /// The machine.
        vm: VmId,
        /// The list.
        generation: u64,
        /// In the agent's words.
        reason: String,
    },
    /// Its agent could neither apply nor undo the list. A person must look.
    #[error("agent of {vm} is stranded on generation {generation}: {reason}")]
    Stranded {
        /// The machine.
        vm: VmId,
        /// The list.
        generation: u64,
        /// In the agent's words.
        reason: String,
    },
    /// We could not write down what we were about to ask.
    #[error("could not remember what to ask of {vm}")]
    Remember {
        /// The machine.
        vm: VmId,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an agent last saw of its guest.
#[derive(Debug, Clone)]
pub struct LastSeen {
    /// When it reached us.
    pub received_at: Timestamp,
    /// What it was.
    pub observation: Observation,
}

/// The agents, as acting knows them. Every verb may be called twice.
#[async_trait]
pub trait Guests: Send + Sync {
    /// Makes the ticket by which the agent of `clone` may enrol once, for this plan's trial.
    async fn ticket(&self, clone: &VmId, plan: &PlanId) -> Result<String, GuestError>;

    /// Waits until the agent of `vm` is attached and its first sample is here.
    async fn attached(&self, vm: &VmId, patience: Duration) -> Result<LastSeen, GuestError>;

    /// Signs and offers a list, over and over while the agent is away, until it is applied.
    /// A guest whose effective generation is the list's already is success.
    async fn apply(
        &self,
        list: &ConfigurationList,
        patience: Duration,
    ) -> Result<EffectiveMix, GuestError>;

    /// What the agent of `vm` last saw; `None` if there was nothing since we started.
    async fn last_seen(&self, vm: &VmId) -> Option<LastSeen>;

    /// Forgets the agent of a machine that is no more: its identity is revoked, and that it goes
    /// silent is no alarm.
    async fn forget(&self, vm: &VmId) -> Result<(), GuestError>;

    /// Tells the agents whose samples are part of a committed window, so that their spools may
    /// forget them. Never waits: an agent that is away hears it when it is back.
    fn seal(&self, window: &WindowId, checkpoints: &[Checkpoint]);

    /// Tells all agents, now and when they attach, how to sample and how applications are known.
    fn set_sampling(&self, policy: &Policy, catalogue: &Catalogue);
}

/// What the hub of all agents stands on.
pub struct HubSetup {
    /// Where all is remembered before it is acknowledged.
    pub repository: Repository,
    /// Issues the agents' certificates.
    pub authority: Arc<Authority>,
    /// Signs the lists.
    pub list_key: Arc<ListKey>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whom enrolments are held against.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// How agents sample at first; see [`Guests::set_sampling`].
    pub policy: Policy,
    /// How applications are known at first.
    pub catalogue: Catalogue,
}

impl fmt::Debug for HubSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSetup").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// All agents: serves their port and is how acting reaches them. Cheap to clone.
#[derive(Clone)]
pub struct AgentHub(Arc<Hub>);

impl fmt::Debug for AgentHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentHub").field("attached", &self.attached_agents()).finish()
    }
}

/// An agent whose stream is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedAgent {
    /// Its machine.
    pub vm: VmId,
    /// Since when.
    pub since: Timestamp,
    /// Its version.
    pub version: String,
    /// Its last sample that is durable here.
    pub last_received: Option<SampleId>,
}

/// Bad input of one kind, counted since we started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Whose; `None` for a peer without an identity.
    pub agent: Option<AgentId>,
    /// Its name, such as `sample_from_the_future`.
    pub name: &'static str,
    /// How often.
    pub count: u64,
}

impl AgentHub {
    /// A hub, and the samples as they become durable. A reader that is slow slows the agents down,
    /// never loses one.
    #[must_use]
    pub fn new(setup: HubSetup) -> (Self, mpsc::Receiver<Seen>) {
        let (seen, receiver) = mpsc::channel(SEEN_WAITING);
        let hub = Hub::new(setup, seen);
        (Self(Arc::new(hub)), receiver)
    }

    /// The services of the agents' port: enrolment, link and health.
    #[must_use]
    pub fn routes(&self) -> tonic::service::Routes {
        let enrolment = v1::enrollment_service_server::EnrollmentServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(LARGEST_MESSAGE);
        let (_reporter, health) = tonic_health::server::health_reporter();
        tonic::service::Routes::new(enrolment)
            .add_service(LinkServer(self.clone()))
            .add_service(health)
    }

    /// The agents whose streams are open.
    #[must_use]
    pub fn attached_agents(&self) -> BTreeMap<AgentId, AttachedAgent> {
        self.0.streams.all()
    }

    /// Asks the agent of a machine for a sample at once, a full one; `false` if none is attached.
    #[must_use]
    pub fn want_sample(&self, vm: &VmId) -> bool {
        let open = self.0.streams.from(vm);
        open.iter().for_each(|open| open.want());
        !open.is_empty()
    }

    /// Bad input so far, connections that a port served under [`AgentHub::terms`] turned away
    /// among it.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut all = self.0.refusals.all();
        let turned_away = self.0.terms.tally.counts();
        all.extend(turned_away.into_iter().map(|(name, count)| Refusal {
            agent: None,
            name,
            count,
        }));
        all
    }

    /// The terms to serve the agents' port under, so that what is turned away at the door is
    /// counted with the rest.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.0.terms.clone()
    }

    /// Ends an agent's identity for good and its stream with it; `false` if there is no such agent.
    ///
    /// # Errors
    ///
    /// If it could not be remembered.
    pub async fn revoke(&self, agent: &AgentId, reason: &str) -> Result<bool, RepositoryError> {
        let known = self.0.set_state(agent, AgentState::Tombstoned, reason).await?;
        if let Some(open) = self.0.streams.of(agent) {
            open.close(access::refused(Code::PermissionDenied, "REVOKED_AGENT", reason));
        }
        Ok(known)
    }
}

/// What a token is remembered by. The token itself is kept nowhere.
#[must_use]
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}

/// Reads a kept sample again, as it is done after a restart. What it says of the software was kept
/// beside it and is left out.
///
/// # Errors
///
/// If another version kept it.
pub fn seen_of(stored: &StoredSample) -> Result<Seen, BadMessage> {
    let wire = common::wire::types::v1::Sample::decode(stored.bytes.clone());
    let remedy = "start the version that kept it";
    let mut wire = wire.map_err(|cause| BadMessage::new("stored sample", cause, remedy))?;
    wire.software = None;
    Ok(Seen {
        agent: stored.agent.clone(),
        vm: stored.vm.clone(),
        sample: Arc::new(wire.try_into()?),
        received_at: stored.received_at,
    })
}
