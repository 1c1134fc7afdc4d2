//! How acting reaches the guests.

use std::{sync::PoisonError, time::Duration};

use async_trait::async_trait;
use common::{
    id::{PlanId, VmId, WindowId},
    list::ConfigurationList,
    mix::EffectiveMix,
    signing::ListKey,
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time};

use super::{AgentHub, GuestError, Guests, LastSeen, sampling, token_hash};
use crate::{catalogue::Catalogue, policy::Policy, repository::TokenRecord, window::Checkpoint};

/// How long a clone's ticket may wait for its clone to come up.
const TICKET_LIFETIME: Duration = Duration::from_secs(1800);

#[async_trait]
impl Guests for AgentHub {
    async fn ticket(&self, clone: &VmId, plan: &PlanId) -> Result<String, GuestError> {
        let remember = |cause: Box<dyn std::error::Error + Send + Sync>| GuestError::Remember {
            vm: clone.clone(),
            cause,
        };
        let secret = ListKey::generate().map_err(|cause| remember(Box::new(cause)))?;
        let ticket = hex::encode(Sha256::digest(secret.to_bytes()));
        let now = self.0.clock.now();
        let record = TokenRecord {
            name: format!("clone {clone}"),
            hash: token_hash(&ticket),
            created_by: "assembly".to_owned(),
            created_at: now,
            expires_at: now + TICKET_LIFETIME,
            uses_left: Some(1),
            bound_vm: Some(clone.clone()),
            plan: Some(plan.clone()),
            revoked: false,
        };
        let kept = self.0.repository.put_token(&record).await;
        kept.map_err(|cause| remember(Box::new(cause)))?;
        Ok(ticket)
    }

    async fn attached(&self, vm: &VmId, patience: Duration) -> Result<LastSeen, GuestError> {
        let guest = self.0.machines.of(vm);
        let mut changes = guest.changes();
        let seen = async {
            loop {
                changes.mark_unchanged();
                if let Some(seen) = guest.seen_attached() {
                    return seen;
                }
                if changes.changed().await.is_err() {
                    // Its sender lives in `guest`: this does not happen, and would else be a spin.
                    std::future::pending::<()>().await;
                }
            }
        };
        let silent = |_| GuestError::Silent { vm: vm.clone(), waited: patience };
        time::timeout(patience, seen).await.map_err(silent)
    }

    async fn apply(
        &self,
        list: &ConfigurationList,
        patience: Duration,
    ) -> Result<EffectiveMix, GuestError> {
        self.0.apply(list, patience).await
    }

    async fn last_seen(&self, vm: &VmId) -> Option<LastSeen> {
        self.0.machines.known(vm)?.last_seen()
    }

    async fn forget(&self, vm: &VmId) -> Result<(), GuestError> {
        let remember = |cause| GuestError::Remember { vm: vm.clone(), cause: Box::new(cause) };
        let agents = self.0.repository.agents().await.map_err(remember)?;
        for record in agents.into_iter().filter(|record| record.vm == *vm) {
            self.revoke(&record.id, "its machine is no more").await.map_err(remember)?;
        }
        self.0.machines.forget(vm);
        Ok(())
    }

    fn seal(&self, window: &WindowId, checkpoints: &[Checkpoint]) {
        for checkpoint in checkpoints {
            if let Some(guest) = self.0.machines.known(&checkpoint.vm) {
                guest.rest_on(checkpoint);
            }
        }
        let mut seals = self.0.seals.lock().unwrap_or_else(PoisonError::into_inner);
        for Checkpoint { agent, last_sealed, .. } in checkpoints {
            let sender = seals.entry(agent.clone()).or_insert_with(|| watch::Sender::new(None));
            sender.send_replace(Some((*last_sealed, window.clone())));
        }
    }

    fn set_sampling(&self, policy: &Policy, catalogue: &Catalogue) {
        self.0.sampling.send_replace(sampling::sampling(policy, catalogue));
    }
}
