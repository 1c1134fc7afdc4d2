//! All plans and how far each has come: the one place from which journals are written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::{
    clock::Timestamp,
    id::{PlanId, VmId},
};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Course, Entry, Event, Next, OutOfTurn, Predicted, Served, Stage},
    plan::{Plan, Restraint, Step},
    policy::Verdict,
};

/// All plans, by id.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<BTreeMap<PlanId, Arc<Filed>>>);

/// One plan and its course.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) plan: Plan,
    /// Taken by whoever writes the next entry.
    pub(super) turn: tokio::sync::Mutex<()>,
    kept: Mutex<Kept>,
    /// What it was last told to wait for.
    waits_for: Mutex<Option<String>>,
}

/// What the entries of one journal add up to.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) course: Course,
    /// How many entries there are.
    pub(super) entries: u64,
    /// The last entry's time.
    pub(super) changed_at: Timestamp,
    pub(super) approved_at: Option<Timestamp>,
    /// When the present step was asked for.
    pub(super) asked_at: Option<Timestamp>,
    pub(super) abandoned_at: Option<Timestamp>,
    pub(super) served: Option<Vec<Served>>,
    /// What its applications were predicted to use.
    pub(super) predicted: Vec<Predicted>,
    /// What the last trial or audit gave as its reasons.
    pub(super) reasons: Vec<String>,
    /// Something was asked for.
    pub(super) has_begun: bool,
    /// When something was first asked for.
    pub(super) begun_at: Option<Timestamp>,
    /// A driver is at work, or will be in a moment.
    pub(super) is_driven: bool,
    /// Only clearing up is left and fails over and over: nobody waits for it.
    is_lingering: bool,
    /// Its entries do not follow from each other: nothing more is done to its machines.
    pub(super) is_damaged: bool,
    /// Ends what the driver waits for on the way forward.
    interrupt: CancellationToken,
}

impl Kept {
    fn new(plan: &Plan) -> Self {
        Self {
            course: Course::new(plan),
            entries: 0,
            changed_at: plan.made_at,
            approved_at: None,
            asked_at: None,
            abandoned_at: None,
            served: None,
            predicted: Vec::new(),
            reasons: Vec::new(),
            has_begun: false,
            begun_at: None,
            is_driven: false,
            is_lingering: false,
            is_damaged: false,
            interrupt: CancellationToken::new(),
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), OutOfTurn> {
        self.course.take(&entry.event)?;
        self.entries += 1;
        self.changed_at = entry.at;
        match &entry.event {
            Event::Approved { .. } => self.approved_at = Some(entry.at),
            Event::Baselined { served, predicted } => {
                self.served = Some(served.clone());
                self.predicted.clone_from(predicted);
            }
            Event::Asked { .. } => {
                self.has_begun = true;
                self.begun_at.get_or_insert(entry.at);
                self.asked_at = Some(entry.at);
            }
            Event::Judged { reasons, .. } => self.reasons.clone_from(reasons),
            Event::Abandoned { .. } => {
                self.abandoned_at = Some(entry.at);
                self.interrupt.cancel();
            }
            _ => {}
        }
        Ok(())
    }
}

impl Filed {
    pub(super) fn new(plan: Plan) -> Self {
        let kept = Mutex::new(Kept::new(&plan));
        Self { plan, turn: tokio::sync::Mutex::default(), kept, waits_for: Mutex::default() }
    }

    /// Takes note of what it waits for; whether that is news.
    pub(super) fn waits_for(&self, reason: &str) -> bool {
        let mut known = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = known.as_deref() != Some(reason);
        *known = Some(reason.to_owned());
        is_news
    }

    /// What `entries` add up to, from the first one on. A journal whose entries do not follow from
    /// each other keeps the plan from being driven.
    pub(super) fn replay(&self, entries: &[Entry]) -> Result<(), OutOfTurn> {
        let mut present = self.kept();
        let mut kept = Kept {
            is_driven: present.is_driven,
            is_lingering: present.is_lingering,
            interrupt: present.interrupt.clone(),
            ..Kept::new(&self.plan)
        };
        let outcome = entries.iter().try_for_each(|entry| kept.take(entry));
        kept.is_damaged = outcome.is_err();
        *present = kept;
        outcome
    }

    /// Whether `event` may follow, and the number it would have.
    pub(super) fn number_of(&self, event: &Event) -> Result<u64, OutOfTurn> {
        let kept = self.kept();
        kept.course.clone().take(event)?;
        Ok(kept.entries)
    }

    /// Takes in what was written.
    pub(super) fn take(&self, entry: &Entry) -> Result<(), OutOfTurn> {
        self.kept().take(entry)
    }

    pub(super) fn view(&self) -> Kept {
        self.kept().clone()
    }

    pub(super) fn stage(&self) -> Stage {
        self.kept().course.stage()
    }

    pub(super) fn next(&self) -> Next {
        let kept = self.kept();
        if kept.is_damaged { Next::Rest } else { kept.course.next() }
    }

    pub(super) fn judged(&self) -> Option<Verdict> {
        self.kept().course.judged()
    }

    pub(super) fn interrupt(&self) -> CancellationToken {
        self.kept().interrupt.clone()
    }

    pub(super) fn is_driven(&self) -> bool {
        self.kept().is_driven
    }

    /// It takes one of the places that the policy gives to plans under way.
    pub(super) fn takes_a_place(&self) -> bool {
        let kept = self.kept();
        kept.is_driven && !kept.is_lingering
    }

    pub(super) fn set_lingering(&self) {
        self.kept().is_lingering = true;
    }

    pub(super) fn set_driven(&self, is_driven: bool) {
        self.kept().is_driven = is_driven;
    }

    /// Approved, and nothing outside is touched.
    pub(super) fn is_waiting(&self) -> bool {
        let kept = self.kept();
        kept.course.stage() == Stage::Approved && !kept.is_driven && !kept.is_damaged
    }

    /// Nothing outside is touched, nor about to be.
    pub(super) fn has_not_begun(&self) -> bool {
        let kept = self.kept();
        let has_not_begun = matches!(kept.course.stage(), Stage::Proposed | Stage::Approved);
        has_not_begun && !kept.is_driven && !kept.is_damaged
    }

    /// Its machines must be left alone by all others. Those of a plan that a person must look at
    /// too: nobody knows what they run.
    fn is_busy(&self) -> bool {
        let kept = self.kept();
        let stage = kept.course.stage();
        let is_under_way = kept.has_begun && !stage.is_final();
        kept.is_driven || kept.is_damaged || is_under_way || stage == Stage::Stranded
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub(super) fn add(&self, filed: Arc<Filed>) {
        self.plans().insert(filed.plan.id.clone(), filed);
    }

    pub(super) fn get(&self, id: &PlanId) -> Option<Arc<Filed>> {
        self.plans().get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Filed>> {
        self.plans().values().cloned().collect()
    }

    /// Machines that plans under way touch.
    pub(super) fn busy(&self) -> BTreeSet<VmId> {
        let all = self.all();
        all.iter().filter(|filed| filed.is_busy()).flat_map(|filed| touched(&filed.plan)).collect()
    }

    /// Machines of plans that are at work: those are not that have only to clear up, over and over.
    pub(super) fn at_work(&self) -> BTreeSet<VmId> {
        let all = self.all();
        let at_work = all.iter().filter(|filed| filed.is_busy() && !filed.view().is_lingering);
        at_work.flat_map(|filed| touched(&filed.plan)).collect()
    }

    /// Until when machines are left alone because a plan changed them, or tried to.
    pub(super) fn cooldowns(&self, length: std::time::Duration) -> BTreeMap<VmId, Timestamp> {
        let mut cooldowns = BTreeMap::new();
        for filed in self.all() {
            let kept = filed.view();
            let has_ended = matches!(kept.course.stage(), Stage::Completed | Stage::RolledBack);
            if !(has_ended && kept.has_begun) {
                continue;
            }
            let until = kept.changed_at + length;
            for vm in touched(&filed.plan) {
                let known: &mut Timestamp = cooldowns.entry(vm).or_default();
                *known = (*known).max(until);
            }
        }
        cooldowns
    }

    /// The plans that began since then, by machine and in all.
    pub(super) fn begun_since(&self, since: Timestamp) -> Restraint {
        let mut restraint = Restraint::default();
        for filed in self.all() {
            if filed.view().begun_at.is_some_and(|begun_at| begun_at >= since) {
                restraint.note(filed.plan.changes.keys());
            }
        }
        restraint
    }

    fn plans(&self) -> MutexGuard<'_, BTreeMap<PlanId, Arc<Filed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every machine that a plan does something to.
pub(super) fn touched(plan: &Plan) -> BTreeSet<VmId> {
    let mut touched: BTreeSet<VmId> = plan.changes.keys().cloned().collect();
    touched.extend([plan.source.clone(), plan.clone.clone()]);
    for step in &plan.steps {
        match step {
            Step::Apply { list, .. } => touched.insert(list.vm.clone()),
            Step::Resize { vm, .. } | Step::Retire { vm } => touched.insert(vm.clone()),
            _ => false,
        };
    }
    touched
}
