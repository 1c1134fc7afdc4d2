//! How a configuration list reaches its guest, and what comes back.
//!
//! A list is remembered before it is offered. It is offered to every stream its agent opens, until
//! the agent says what became of it or nobody waits for that any more. Acting may ask twice for
//! the same list: one that runs already is success, one that was answered gives the same answer.

use std::{sync::Arc, time::Duration};

use common::{list::ConfigurationList, mix::EffectiveMix};
use tokio::time;
use tracing::{info, warn};

use super::{
    GuestError, Hub,
    machines::{Guest, Offer},
};
use crate::repository::{ListState, StoredList};

impl Hub {
    pub(super) async fn apply(
        &self,
        list: &ConfigurationList,
        patience: Duration,
    ) -> Result<EffectiveMix, GuestError> {
        let guest = self.machines.of(&list.vm);
        let stored = self.stored(list).await?;
        if let Some(mix) = guest.effective(list.generation) {
            self.keep_answer(stored, ListState::Applied).await?;
            return Ok(mix);
        }
        // The very same list was answered: its agent would say the same again.
        if let Some(error) = failure(list, &stored.state).filter(|_| stored.list == *list) {
            return Err(error);
        }
        let signed = self.list_key.sign(list).map_err(|cause| remember(list, cause))?;
        let offered_anew = StoredList { list: list.clone(), state: ListState::Offered, ..stored };
        self.repository.put_list(&offered_anew).await.map_err(|cause| remember(list, cause))?;

        let offer = Offer { generation: list.generation, signed: Arc::new(signed) };
        let offered = guest.offer(offer);
        info!(vm = %list.vm, generation = list.generation, "configuration list offered");
        let waited = time::timeout(patience, answered(&guest, list)).await;
        drop(offered);
        match waited {
            Ok(Ok(mix)) => {
                self.keep_answer(offered_anew, ListState::Applied).await?;
                Ok(mix)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                warn!(vm = %list.vm, generation = list.generation, "configuration list not answered");
                Err(GuestError::Silent { vm: list.vm.clone(), waited: patience })
            }
        }
    }

    /// The list as it is remembered, or as it will be.
    async fn stored(&self, list: &ConfigurationList) -> Result<StoredList, GuestError> {
        let stored = self.repository.list(&list.vm, list.generation).await;
        let stored = stored.map_err(|cause| remember(list, cause))?;
        Ok(stored.unwrap_or_else(|| StoredList {
            vm: list.vm.clone(),
            generation: list.generation,
            plan: list.plan.clone(),
            list: list.clone(),
            offered_at: self.clock.now(),
            state: ListState::Offered,
        }))
    }

    async fn keep_answer(&self, stored: StoredList, state: ListState) -> Result<(), GuestError> {
        let answered = StoredList { state, ..stored };
        let kept = self.repository.put_list(&answered).await;
        kept.map_err(|cause| remember(&answered.list, cause))
    }
}

/// Waits until the guest runs the list, or says that it does not.
async fn answered(guest: &Guest, list: &ConfigurationList) -> Result<EffectiveMix, GuestError> {
    let mut changes = guest.changes();
    loop {
        changes.mark_unchanged();
        if let Some(mix) = guest.effective(list.generation) {
            return Ok(mix);
        }
        let answer = guest.answer(list.generation);
        if let Some(error) = answer.and_then(|answer| failure(list, &answer)) {
            return Err(error);
        }
        if changes.changed().await.is_err() {
            // Its sender lives in `guest`: this does not happen, and would else be a spin.
            std::future::pending::<()>().await;
        }
    }
}

fn failure(list: &ConfigurationList, state: &ListState) -> Option<GuestError> {
    let (vm, generation) = (list.vm.clone(), list.generation);
    match state {
        ListState::Offered | ListState::Applied => None,
        ListState::Refused { reason } | ListState::Undone { reason } => {
            Some(GuestError::Refused { vm, generation, reason: reason.clone() })
        }
        ListState::Stranded { reason } => {
            Some(GuestError::Stranded { vm, generation, reason: reason.clone() })
        }
    }
}

fn remember<E>(list: &ConfigurationList, cause: E) -> GuestError
where
    E: std::error::Error + Send + Sync + 'static,
{
    GuestError::Remember { vm: list.vm.clone(), cause: Box::new(cause) }
}
