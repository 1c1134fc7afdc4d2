//! What every act stands on, how long it is tried, and why it may fail.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    id::VmId,
};
use thiserror::Error;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    guest::{GuestError, Guests, LastSeen},
    hypervisor::{Hypervisor, HypervisorError},
    policy::Policy,
    repository::{Repository, RepositoryError},
};

/// How often what an agent last saw is looked at while something is waited for: far below any
/// sample period, and a look costs a lock.
const GLANCE: Duration = Duration::from_millis(250);

/// The first pause before a hypervisor that did not answer is asked again; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest of these pauses: a hypervisor that is back is not left waiting for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug, Error)]
pub enum ActError {
    /// The hypervisor did not do it.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The guest did not do it.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// What was known of it could not be read.
    #[error("could not read what is remembered")]
    Repository(#[from] RepositoryError),
    /// It was done, and what came of it is not what was planned.
    #[error("{vm} is not as planned: {what}")]
    Unlike {
        /// The machine.
        vm: VmId,
        /// In what.
        what: String,
    },
    /// It was given up for another reason than itself: the plan was abandoned, or we shut down.
    #[error("it was interrupted")]
    Interrupted,
}

/// What acting stands on.
#[derive(Clone)]
pub struct Surroundings {
    /// Who runs the machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The agents.
    pub guests: Arc<dyn Guests>,
    /// Where lists and what became of them are remembered.
    pub repository: Repository,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The thresholds.
    pub policy: Policy,
    /// Ends waiting. A call that changes a machine is finished all the same, never cut.
    pub interrupt: CancellationToken,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("hypervisor", &self.hypervisor.name())
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// How long a guest may take.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(self.policy.patience_seconds)
    }

    /// Waits for something that changes nothing by being cut.
    ///
    /// # Errors
    ///
    /// Its own, or [`ActError::Interrupted`].
    pub async fn wait<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, ActError>
    where
        ActError: From<E>,
    {
        tokio::select! {
            () = self.interrupt.cancelled() => Err(ActError::Interrupted),
            result = work => Ok(result?),
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// [`ActError::Interrupted`].
    pub async fn pause(&self, span: Duration) -> Result<(), ActError> {
        self.wait(async {
            time::sleep(span).await;
            Ok::<(), ActError>(())
        })
        .await
    }

    /// Asks the hypervisor, and again with growing pauses while it does not answer, until patience
    /// is over. A refusal stands. A call under way is finished; only the pauses are cut.
    ///
    /// # Errors
    ///
    /// The hypervisor's last word, or [`ActError::Interrupted`].
    pub async fn ask<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<T, ActError>
    where
        F: Future<Output = Result<T, HypervisorError>> + Send,
    {
        let until = Instant::now() + self.patience();
        let mut next = FIRST_PAUSE;
        loop {
            match call().await {
                Err(cause @ HypervisorError::Unreachable(_)) if Instant::now() + next < until => {
                    warn!(cause = %common::task::Chain(&cause), "hypervisor asked again");
                }
                result => return Ok(result?),
            }
            self.pause(next).await?;
            next = (next * 2).min(LONGEST_PAUSE);
        }
    }

    /// What the agent of `vm` saw in the first sample that came after `then`.
    ///
    /// # Errors
    ///
    /// [`GuestError::Silent`] once patience is over, or [`ActError::Interrupted`].
    pub async fn seen_after(&self, vm: &VmId, then: Timestamp) -> Result<LastSeen, ActError> {
        self.seen(vm, |seen| seen.received_at > then).await
    }

    /// What the agent of `vm` saw in the first sample of which `is_right` holds.
    ///
    /// # Errors
    ///
    /// [`GuestError::Silent`] once patience is over, or [`ActError::Interrupted`].
    pub async fn seen(
        &self,
        vm: &VmId,
        is_right: impl Fn(&LastSeen) -> bool + Send,
    ) -> Result<LastSeen, ActError> {
        let until = Instant::now() + self.patience();
        loop {
            if let Some(seen) = self.guests.last_seen(vm).await.filter(&is_right) {
                return Ok(seen);
            }
            if Instant::now() >= until {
                let waited = self.patience();
                return Err(GuestError::Silent { vm: vm.clone(), waited }.into());
            }
            self.pause(GLANCE).await?;
        }
    }
}
