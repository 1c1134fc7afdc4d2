//! What all streams share, and how one is opened.

use std::{
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::Clock,
    id::AgentId,
    pki::{Authority, Principal},
    signing::ListKey,
    task::{Chain, Tasks},
    wire::agent::v1,
};
use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{error, info};

use super::{
    AgentHub, HubSetup,
    codec::{Arrived, Down},
    machines::Machines,
    news::Seal,
    owners::Owners,
    quota::Failures,
    refusals::Refusals,
    sampling,
    session::Session,
    streams::Streams,
};
use crate::{
    access,
    hypervisor::Hypervisor,
    listener::Terms,
    repository::{AgentRecord, AgentState, Repository, RepositoryError},
    window::Seen,
};

/// Messages that wait for one agent to read them.
const DOWN_WAITING: usize = 32;

/// All that the streams share.
pub(super) struct Hub {
    pub(super) repository: Repository,
    pub(super) authority: Arc<Authority>,
    pub(super) list_key: Arc<ListKey>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) refusals: Refusals,
    pub(super) terms: Terms,
    pub(super) failures: Failures,
    pub(super) machines: Machines,
    pub(super) streams: Streams,
    pub(super) owners: Owners,
    pub(super) sampling: watch::Sender<v1::SamplingPolicy>,
    pub(super) seals: Mutex<HashMap<AgentId, watch::Sender<Seal>>>,
    pub(super) seen: mpsc::Sender<Seen>,
    /// One at a time: records of agents that are read and then written.
    pub(super) records: tokio::sync::Mutex<()>,
    pub(super) tasks: Tasks,
}

impl Hub {
    pub(super) fn new(setup: HubSetup, seen: mpsc::Sender<Seen>) -> Self {
        Self {
            repository: setup.repository,
            authority: setup.authority,
            list_key: setup.list_key,
            clock: setup.clock,
            owners: Owners::new(Arc::clone(&setup.hypervisor)),
            hypervisor: setup.hypervisor,
            refusals: Refusals::default(),
            terms: Terms::default(),
            failures: Failures::default(),
            machines: Machines::default(),
            streams: Streams::default(),
            sampling: watch::Sender::new(sampling::sampling(&setup.policy, &setup.catalogue)),
            seals: Mutex::default(),
            seen,
            records: tokio::sync::Mutex::default(),
            tasks: Tasks::default(),
        }
    }

    /// Time between two samples of an agent.
    pub(super) fn period(&self) -> Duration {
        Duration::from_millis(u64::from(self.sampling.borrow().period_ms))
    }

    pub(super) fn seals_of(&self, agent: &AgentId) -> watch::Receiver<Seal> {
        let mut seals = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        seals.entry(agent.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// Changes an agent's state; `false` if there is no such agent. What is ended stays so.
    pub(super) async fn set_state(
        &self,
        agent: &AgentId,
        state: AgentState,
        reason: &str,
    ) -> Result<bool, RepositoryError> {
        let _turn = self.records.lock().await;
        let Some(record) = self.repository.agent(agent).await? else { return Ok(false) };
        if record.state != AgentState::Tombstoned {
            self.end(record, state, reason).await?;
        }
        Ok(true)
    }

    /// Writes that an agent may not speak any more. The caller holds the turn.
    pub(super) async fn end(
        &self,
        mut record: AgentRecord,
        state: AgentState,
        reason: &str,
    ) -> Result<(), RepositoryError> {
        reason.clone_into(&mut record.reason);
        record.state = state;
        self.repository.put_agent(&record).await?;
        self.seals.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.id);
        info!(agent = %record.id, vm = %record.vm, ?state, reason, "agent may not speak any more");
        Ok(())
    }
}

/// The record of an agent that may speak; else the name and the words of what stands against it.
pub(super) fn active(record: Option<AgentRecord>) -> Result<AgentRecord, (&'static str, String)> {
    let Some(record) = record else {
        return Err(("unknown_agent", "there is no such agent; enrol again".to_owned()));
    };
    match record.state {
        AgentState::Active => Ok(record),
        AgentState::Quarantined => {
            Err(("quarantined_agent", format!("agent is quarantined: {}", record.reason)))
        }
        AgentState::Tombstoned => {
            Err(("revoked_agent", format!("agent was revoked: {}", record.reason)))
        }
    }
}

impl AgentHub {
    /// Opens one stream. Whether its agent may speak is known before a message is read.
    pub(super) async fn attach(
        &self,
        request: Request<Streaming<Arrived>>,
    ) -> Result<Response<Down>, Status> {
        let Principal::Agent(agent) = access::caller(&request)?.clone() else {
            return Err(Status::permission_denied("this rpc is for agents"));
        };
        let record = self.0.repository.agent(&agent).await.map_err(|cause| {
            error!(%agent, cause = %Chain(&cause), "agent could not be looked up");
            Status::unavailable("could not look the agent up; try again later")
        })?;
        let record = active(record).map_err(|(name, told)| {
            self.0.refusals.count(Some(&agent), name, &told);
            access::refused(Code::PermissionDenied, &name.to_uppercase(), told)
        })?;
        let (down, stream) = mpsc::channel(DOWN_WAITING);
        let hub = Arc::clone(&self.0);
        let session = Session { hub, record, inbound: request.into_inner(), down };
        self.0.tasks.spawn("agent link", guarded(session));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Runs a session; a panic in it is an error of ours that ends that stream alone.
async fn guarded(session: Session) -> Result<(), Infallible> {
    let (hub, agent) = (Arc::clone(&session.hub), session.record.id.clone());
    if AssertUnwindSafe(session.run()).catch_unwind().await.is_err() {
        hub.refusals.count(Some(&agent), "session_panicked", "an error of the aggregator");
        error!(%agent, "session panicked; report this with the lines above");
    }
    Ok(())
}
