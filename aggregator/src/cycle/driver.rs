//! Drives one plan: writes down what it asks, asks it, writes down what came of it.
//!
//! A healthy run and a run after a crash are the same loop over [`Filed::next`]. An operator who
//! gives a plan up writes that into its journal at once; the step under way is finished or its
//! waiting ends, and the loop finds itself on the way back.

use std::{sync::Arc, time::Duration};

use common::{clock::Timestamp, task::Chain};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, instrument, warn};

use super::{
    book::Filed,
    notices,
    shared::{OURSELVES, Shared, WriteError},
    steps,
};
use crate::{
    assembly::{ActError, Surroundings},
    audit::{self, Audit},
    journal::{Event, Next},
    plan::Step,
    policy::Verdict,
    repository::RepositoryError,
    trial::Judgement,
};

/// How often an undoing is tried; each try has patience with a hypervisor that does not answer.
const UNDO_TRIES: u32 = 3;

/// The pause after a failed undoing; it grows with each.
const UNDO_PAUSE: Duration = Duration::from_secs(2);

/// The pause after clearing up failed, which is tried until it is done: there is no way back any
/// more, and a clone that nobody needs does no harm meanwhile.
const CLEARING_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Driver {
    shared: Arc<Shared>,
    filed: Arc<Filed>,
    stop: CancellationToken,
}

impl Driver {
    pub(super) const fn new(
        shared: Arc<Shared>,
        filed: Arc<Filed>,
        stop: CancellationToken,
    ) -> Self {
        Self { shared, filed, stop }
    }

    /// Drives until nothing is left to do, or until the stop: what is left then is done after the
    /// next start.
    #[instrument(name = "plan", skip_all, fields(plan = %self.filed.plan.id))]
    pub(super) async fn drive(self) -> Result<(), RepositoryError> {
        while !self.stop.is_cancelled() {
            match self.filed.next() {
                Next::Do(place) => self.forward(place).await?,
                Next::Undo(place) => self.back(place).await?,
                Next::Decide | Next::Rest => break,
            }
        }
        Ok(())
    }

    async fn forward(&self, place: usize) -> Result<(), RepositoryError> {
        let Some(step) = self.filed.plan.steps.get(place) else { return Ok(()) };
        let before = self.filed.view();
        if !before.has_begun && before.served.is_none() {
            let findings = Arc::clone(&self.shared.known().findings);
            let served = audit::baseline(&self.filed.plan, &findings);
            let predicted = audit::predicted(&self.filed.plan, &findings);
            return self.write(Event::Baselined { served, predicted }).await;
        }
        if !before.course.is_begun() {
            self.write(Event::Asked { step: place }).await?;
        }
        match self.filed.judged() {
            Some(Verdict::Passed) => return self.write(Event::Done { step: place }).await,
            Some(verdict) => return self.give_up_after(step, verdict).await,
            None => {}
        }
        let around = self.shared.surroundings(self.filed.interrupt());
        let outcome = match step {
            Step::Audit => self.audit(&around).await.map(Some),
            _ => steps::act(&around, &self.filed.plan, step).await,
        };
        match outcome {
            Ok(None) => self.write(Event::Done { step: place }).await,
            Ok(Some(judgement)) => self.judge(place, judgement).await,
            // Either the stop, or somebody gave the plan up: the loop finds out which.
            Err(ActError::Interrupted) => Ok(()),
            Err(cause) => self.failed(step, &cause).await,
        }
    }

    async fn judge(&self, place: usize, judgement: Judgement) -> Result<(), RepositoryError> {
        let Judgement { verdict, reasons, measurements, used } = judgement;
        let step = self.filed.plan.steps.get(place);
        let is_trial = !matches!(step, Some(Step::Audit));
        let compared = audit::compared(&self.filed.view().predicted, &used, is_trial);
        // What follows from it is found by the loop, as after a crash right here.
        self.write(Event::Judged { step: place, verdict, reasons, measurements, compared }).await
    }

    async fn give_up_after(&self, step: &Step, verdict: Verdict) -> Result<(), RepositoryError> {
        let what = if matches!(step, Step::Audit) { "audit" } else { "trial" };
        let how = match verdict {
            Verdict::Unproven => "proved nothing",
            Verdict::Passed | Verdict::Failed => "failed",
        };
        let reasons = self.filed.view().reasons.join("; ");
        self.write(Event::Abandoned { cause: format!("its {what} {how}: {reasons}") }).await
    }

    async fn failed(&self, step: &Step, cause: &ActError) -> Result<(), RepositoryError> {
        let what = notices::of_step(&self.filed.plan, step);
        let cause = format!("could not {what}: {}", Chain(cause));
        if self.filed.view().course.may_turn_back() {
            warn!(cause, "step failed");
            return self.write(Event::Abandoned { cause }).await;
        }
        error!(cause, "clearing up failed, it is tried again");
        self.filed.set_lingering();
        // Others may have waited for its place.
        self.shared.wake.notify_one();
        self.pause(CLEARING_PAUSE).await;
        Ok(())
    }

    async fn back(&self, place: usize) -> Result<(), RepositoryError> {
        let Some(step) = self.filed.plan.steps.get(place) else { return Ok(()) };
        if !self.filed.view().course.is_begun() {
            self.write(Event::UndoAsked { step: place }).await?;
        }
        let abandoned_at = self.filed.view().abandoned_at.unwrap_or_default();
        let mut tries = 0;
        loop {
            match self.undo(step, abandoned_at).await {
                Ok(()) => return self.write(Event::Undone { step: place }).await,
                Err(ActError::Interrupted) => return Ok(()),
                Err(cause) => {
                    tries += 1;
                    warn!(cause = %Chain(&cause), tries, "step not undone");
                    if tries == UNDO_TRIES {
                        let cause = Chain(&cause).to_string();
                        error!(cause, "plan stranded, a person must look");
                        return self.write(Event::Stranded { step: place, cause }).await;
                    }
                    self.pause(UNDO_PAUSE * tries).await;
                }
            }
        }
    }

    async fn undo(&self, step: &Step, abandoned_at: Timestamp) -> Result<(), ActError> {
        let around = self.shared.surroundings(self.stop.child_token());
        steps::undo(&around, &self.filed.plan, step, abandoned_at).await
    }

    /// Takes windows in as they close, until there is something to say.
    async fn audit(&self, around: &Surroundings) -> Result<Judgement, ActError> {
        let view = self.filed.view();
        let served = view.served.unwrap_or_default();
        let since = view.asked_at.unwrap_or_default();
        let mut audit = Audit::new(&self.filed.plan, &served, since);
        let mut closed = self.shared.closed.subscribe();
        loop {
            let settings = self.shared.settings();
            let recent = Arc::clone(&self.shared.known().recent);
            for window in recent.iter() {
                audit.take(window, settings.policy.coverage_minimum);
            }
            let judgement = self.shared.in_context(&settings, |context| audit.judgement(context));
            if let Some(judgement) = judgement {
                return Ok(judgement);
            }
            around
                .wait(async { closed.changed().await.map_err(|_| ActError::Interrupted) })
                .await?;
        }
    }

    async fn pause(&self, span: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = time::sleep(span) => {}
        }
    }

    /// Writes an event. One that cannot follow any more was overtaken by an operator's, and what
    /// is to be done now is for the loop to find out.
    async fn write(&self, event: Event) -> Result<(), RepositoryError> {
        match self.shared.write(&self.filed, event, OURSELVES).await {
            Ok(()) => Ok(()),
            Err(WriteError::OutOfTurn(cause)) => {
                warn!(cause = %Chain(&cause), "event overtaken");
                Ok(())
            }
            Err(WriteError::Repository(cause)) => Err(cause),
        }
    }
}
