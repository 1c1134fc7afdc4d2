//! The adapter to the guests: what their agents send, and what may be asked of them.

use std::time::Duration;

use async_trait::async_trait;
use common::{
    clock::Timestamp,
    id::{PlanId, VmId},
    list::ConfigurationList,
    mix::EffectiveMix,
    sample::Observation,
};
use thiserror::Error;

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
}
