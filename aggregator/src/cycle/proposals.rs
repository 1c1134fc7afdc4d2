//! Which plans are proposed, which are superseded, and when an approved one begins.
//!
//! A plan that failed or that somebody refused is not proposed again as it is: not under its id,
//! ever, and one that means the same not for a while. After a failure whatever it wanted, wherever
//! to, waits for a time that doubles with every failure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::clock::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Cycle, CycleError, Settings,
    book::{Filed, touched},
    driver::Driver,
    shared::{OURSELVES, Shared, WriteError, with_room},
};
use crate::{
    journal::{Event, Next, Stage},
    plan::{self, Plan, Situation},
    policy::Approval,
};

/// Who approves when the policy does.
const THE_POLICY: &str = "policy";

/// How long what a person refused is not proposed again: a cycle of a week, after which the
/// pattern it was inferred from may be another.
const REFUSED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The wait after failures doubles up to so many times: two to the tenth is a thousand times the
/// cool-down, which is for good unless somebody changes something.
const MOST_DOUBLINGS: u32 = 10;

impl Shared {
    /// Supersedes the plans that have not begun and no longer rest on what is there.
    pub(super) async fn supersede(&self) -> Result<(), CycleError> {
        let settings = self.settings();
        if !self.is_settled(&settings) {
            return Ok(());
        }
        for filed in self.book.all() {
            if filed.has_not_begun() {
                self.supersede_if_changed(&filed, &settings).await?;
            }
        }
        Ok(())
    }

    /// Whether enough windows were watched since the start to say that something changed: an agent
    /// that is not back yet is no change.
    fn is_settled(&self, settings: &Settings) -> bool {
        let recent = Arc::clone(&self.known().recent);
        let watched = recent.iter().filter(|window| window.from >= self.started_at).count();
        self.is_fresh() && watched >= settings.policy.windows_needed
    }

    async fn supersede_if_changed(
        &self,
        filed: &Filed,
        settings: &Settings,
    ) -> Result<bool, CycleError> {
        let basis = self.in_situation(settings, |now| plan::basis(&filed.plan, now));
        if basis.is_none_or(|basis| basis == filed.plan.basis) {
            return Ok(false);
        }
        let reason = "mixes, allocations, scope or policy are not what they were when it was made";
        match self.write(filed, Event::Superseded { reason: reason.into() }, OURSELVES).await {
            Ok(()) | Err(WriteError::OutOfTurn(_)) => Ok(true),
            Err(WriteError::Repository(cause)) => Err(cause.into()),
        }
    }

    /// Whether an approved plan must wait; tells why, once for each reason.
    fn must_wait(&self, filed: &Filed, settings: &Settings) -> bool {
        if !self.book.busy().is_disjoint(&touched(&filed.plan)) {
            return true;
        }
        let busy = self.book.at_work();
        let may_begin = self.in_situation(settings, |now| {
            plan::may_begin(&filed.plan, &Situation { busy: &busy, ..*now })
        });
        let unseen = || Err("the hypervisor has not told what is there".to_owned());
        let Err(reason) = may_begin.unwrap_or_else(unseen) else { return false };
        if filed.waits_for(&reason) {
            let id = &filed.plan.id;
            self.tell("plan_waits", Some(id), format!("{id} waits: {reason}"));
        }
        true
    }

    /// Files the plans that are new.
    pub(super) async fn propose(&self, plans: Vec<Plan>) -> Result<(), CycleError> {
        let settings = self.settings();
        for plan in plans {
            if self.is_known(&plan, &settings) {
                continue;
            }
            with_room(|| self.repository.put_plan(&plan)).await?;
            self.log(OURSELVES, "plan propose", plan.id.as_str(), plan.summary.clone()).await?;
            self.tell("plan_proposed", Some(&plan.id), format!("{}: {}", plan.id, plan.summary));
            let filed = Arc::new(Filed::new(plan));
            self.book.add(Arc::clone(&filed));
            if settings.policy.approval == Approval::Automatic {
                let event = Event::Approved { by: THE_POLICY.into() };
                match self.write(&filed, event, THE_POLICY).await {
                    Ok(()) | Err(WriteError::OutOfTurn(_)) => {}
                    Err(WriteError::Repository(cause)) => return Err(cause.into()),
                }
            }
        }
        Ok(())
    }

    /// Whether a plan, or one that means the same, is under way, or has failed of late.
    fn is_known(&self, plan: &Plan, settings: &Settings) -> bool {
        if self.book.get(&plan.id).is_some() {
            return true;
        }
        let mut failures = 0;
        let mut failed_at = Timestamp::default();
        for filed in self.book.all() {
            let means_the_same = means_the_same(&filed.plan, plan);
            if !means_the_same && !wants_the_same(&filed.plan, plan) {
                continue;
            }
            let kept = filed.view();
            let since = self.clock.now().since(kept.changed_at);
            match kept.course.stage() {
                Stage::RolledBack => {
                    failures += 1;
                    failed_at = failed_at.max(kept.changed_at);
                }
                Stage::Rejected if means_the_same && since < REFUSED_FOR => return true,
                Stage::Rejected | Stage::Superseded | Stage::Completed => {}
                _ if means_the_same => return true,
                _ => {}
            }
        }
        failures > 0 && self.clock.now().since(failed_at) < wait_after(failures, settings)
    }
}

fn wait_after(failures: u32, settings: &Settings) -> Duration {
    let policy = &settings.policy;
    let windows = u32::try_from(policy.cooldown_windows).unwrap_or(u32::MAX).max(1);
    let cooldown = policy.window().saturating_mul(windows);
    cooldown.saturating_mul(1 << failures.min(MOST_DOUBLINGS))
}

/// Whether two plans would leave the fleet the same.
fn means_the_same(one: &Plan, other: &Plan) -> bool {
    let outcome = |plan: &Plan| {
        let changes = plan.changes.iter();
        let changes = changes.map(|(vm, change)| {
            (vm.clone(), change.mix_after.hash(), change.allocation_after, change.retired)
        });
        changes.collect::<Vec<_>>()
    };
    one.goal == other.goal && one.moves == other.moves && outcome(one) == outcome(other)
}

/// Whether two plans want the same application to leave the same machine, or the same machine to
/// be given less.
fn wants_the_same(one: &Plan, other: &Plan) -> bool {
    if one.moves.is_empty() || other.moves.is_empty() {
        return one.goal == other.goal && one.source == other.source;
    }
    let leaves = |plan: &Plan| {
        let moves = plan.moves.iter().map(|each| (each.application.clone(), each.from.clone()));
        moves.collect::<BTreeSet<_>>()
    };
    !leaves(one).is_disjoint(&leaves(other))
}

impl Cycle {
    /// Has every plan driven that has something to do, and begins approved ones while there is
    /// room for them.
    pub(super) async fn begin_plans(&mut self, stop: &CancellationToken) -> Result<(), CycleError> {
        let mut waiting = Vec::new();
        for filed in self.shared.book.all() {
            if filed.is_waiting() {
                waiting.push(filed);
                continue;
            }
            let has_work = matches!(filed.next(), Next::Do(_) | Next::Undo(_));
            if has_work && !filed.is_driven() {
                self.drive(filed, stop);
            }
        }
        let settings = self.shared.settings();
        if waiting.is_empty() || !self.shared.is_settled(&settings) {
            return Ok(());
        }
        waiting.sort_by_key(|filed| filed.view().approved_at);
        for filed in waiting {
            if self.under_way() >= settings.policy.plans_at_once {
                return Ok(());
            }
            if self.shared.must_wait(&filed, &settings) {
                continue;
            }
            if !self.shared.supersede_if_changed(&filed, &settings).await? {
                self.drive(filed, stop);
            }
        }
        Ok(())
    }

    fn drive(&mut self, filed: Arc<Filed>, stop: &CancellationToken) {
        filed.set_driven(true);
        let id = filed.plan.id.clone();
        info!(plan = %id, stage = ?filed.stage(), "plan taken up");
        let driver = Driver::new(Arc::clone(&self.shared), filed, stop.clone());
        self.drivers.spawn(async move { (id, driver.drive().await) });
    }

    fn under_way(&self) -> usize {
        self.shared.book.all().iter().filter(|filed| filed.takes_a_place()).count()
    }
}
