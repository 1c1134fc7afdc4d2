//! The written course of one plan: events in, stage out, no event out of turn.
//!
//! ```text
//! Proposed ─> Approved ─> Assembling ─> Trying ─> Promoting ─> Auditing ─> Completing ─> Completed
//!     │           │            │           │          │            │
//!     v           v            └───────────┴──────────┴────────────┴─> RollingBack ─> RolledBack
//!  Rejected    Superseded                                                   └─> Stranded
//! ```
//!
//! The stage is never stored: it is what the stored events add up to, and so is what to do next.
//! Recovery after a crash and the next step of a healthy run are the same function,
//! [`Course::next`]. What changes anything outside is written down twice, when asked for and when
//! done, so that a crash between the two is seen. The way back undoes every step that was asked
//! for, last first, whether it was done or not: every undo may be made twice and of nothing.

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    history::{Compared, Resource},
    plan::{Phase, Plan},
    policy::Verdict,
};

/// A figure that a trial or an audit took, and what it was held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured, such as `answered on port 8080`.
    pub name: String,
    /// The figure; `None` if it could not be taken.
    pub value: Option<f64>,
    /// Its unit, such as `ms`.
    pub unit: String,
    /// What it was held against, for people, such as `at most 500`.
    pub threshold: String,
    /// Whether it was right.
    pub passed: bool,
}

/// How often an application answered before anything was changed: what an audit holds against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The application.
    pub application: AppName,
    /// The port it answers on.
    pub port: u16,
    /// New connections per second, from all clients together.
    pub per_second: f64,
    /// Connections open on average, from all clients together.
    pub open_mean: f64,
}

/// What an application was predicted to use before anything was changed: what trials and audits are
/// held against to learn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// The application.
    pub application: AppName,
    /// Of which resource.
    pub resource: Resource,
    /// How much, without margin and former corrections.
    pub amount: u64,
}

/// What was decided, asked for, or has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody, or the policy, said yes.
    Approved {
        /// Who.
        by: String,
    },
    /// Somebody said no.
    Rejected {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// What it was made from changed before it began.
    Superseded {
        /// What changed.
        reason: String,
    },
    /// What was served before the first step, for the audit to hold the new mix against.
    Baselined {
        /// By application and port.
        served: Vec<Served>,
        /// What the applications of the plan's machines were predicted to use.
        #[serde(default)]
        predicted: Vec<Predicted>,
    },
    /// We ask for a step.
    Asked {
        /// Its place in the plan.
        step: usize,
    },
    /// The step is done.
    Done {
        /// Its place in the plan.
        step: usize,
    },
    /// The trial, or the audit, spoke. Stands before the `Done` of that step if it passed.
    Judged {
        /// Its place in the plan.
        step: usize,
        /// What it said.
        verdict: Verdict,
        /// Why, for people.
        #[serde(default)]
        reasons: Vec<String>,
        /// What it was decided from.
        #[serde(default)]
        measurements: Vec<Measurement>,
        /// What it measured of what was predicted.
        #[serde(default)]
        compared: Vec<Compared>,
    },
    /// It cannot go on: all that was asked for is undone from here.
    Abandoned {
        /// Why.
        cause: String,
    },
    /// We ask for the undoing of a step.
    UndoAsked {
        /// Its place in the plan.
        step: usize,
    },
    /// The step is undone.
    Undone {
        /// Its place in the plan.
        step: usize,
    },
    /// The step cannot be undone; a person must look.
    Stranded {
        /// Its place in the plan.
        step: usize,
        /// Why.
        cause: String,
    },
    /// A person looked at a stranded plan: its way back is taken up again.
    Resumed {
        /// Who.
        by: String,
    },
}

/// An event, and when it was written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nobody said yes or no.
    Proposed,
    /// Somebody said yes, nothing outside is touched.
    Approved,
    /// The clone comes to be.
    Assembling,
    /// The clone is tried.
    Trying,
    /// The new mix goes live.
    Promoting,
    /// The new mix is watched.
    Auditing,
    /// What is left over goes.
    Completing,
    /// The new mix is there to stay.
    Completed,
    /// What was done is being undone.
    RollingBack,
    /// All is as it was before the plan.
    RolledBack,
    /// Somebody said no.
    Rejected,
    /// What it was made from changed before it began.
    Superseded,
    /// A person must look.
    Stranded,
}

impl Stage {
    /// Nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::RolledBack | Self::Rejected | Self::Superseded | Self::Stranded
        )
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Wait for a decision.
    Decide,
    /// Do this step; it may have been begun before.
    Do(usize),
    /// Undo this step; it may have been begun, or never done, before.
    Undo(usize),
    /// Nothing.
    Rest,
}

/// An event that cannot follow the ones before it: the journal is damaged, or two drivers are at work.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{event:?} cannot follow in stage {stage:?}")]
pub struct OutOfTurn {
    /// Where the plan stood.
    pub stage: Stage,
    /// What was said to have happened.
    pub event: Event,
}

/// How far a plan has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    phases: Vec<Phase>,
    position: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Proposed,
    /// `done` steps are done; the next one is asked for, and judged if it is a trial or an audit.
    Forward {
        done: usize,
        asked: bool,
        judged: Option<Verdict>,
    },
    /// Steps from `left` on are undone; `asked` if the undoing of step `left - 1` is asked for.
    Back {
        left: usize,
        asked: bool,
    },
    Rejected,
    Superseded,
    /// As `Back`, but a person must look before it goes on.
    Stranded {
        left: usize,
    },
}

impl Course {
    /// The course of a plan nobody has decided on.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self::of(plan, &plan.clone)
    }

    fn of(plan: &Plan, clone: &VmId) -> Self {
        let phases = plan.steps.iter().map(|step| step.phase(clone)).collect();
        Self { phases, position: Position::Proposed }
    }

    /// The course after all of `entries`.
    ///
    /// # Errors
    ///
    /// See [`Course::take`].
    pub fn replay<'a>(
        plan: &Plan,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<Self, OutOfTurn> {
        let mut course = Self::new(plan);
        for entry in entries {
            course.take(&entry.event)?;
        }
        Ok(course)
    }

    /// Where the plan stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match &self.position {
            Position::Proposed => Stage::Proposed,
            Position::Forward { done: 0, asked: false, .. } => Stage::Approved,
            Position::Forward { done, .. } => match self.phases.get(*done) {
                Some(Phase::Assembly) => Stage::Assembling,
                Some(Phase::Trial) => Stage::Trying,
                Some(Phase::Promotion) => Stage::Promoting,
                Some(Phase::Audit) => Stage::Auditing,
                Some(Phase::Completion) => Stage::Completing,
                None => Stage::Completed,
            },
            Position::Back { left: 0, .. } => Stage::RolledBack,
            Position::Back { .. } => Stage::RollingBack,
            Position::Rejected => Stage::Rejected,
            Position::Superseded => Stage::Superseded,
            Position::Stranded { .. } => Stage::Stranded,
        }
    }

    /// What is to be done next; the same after a crash as in a healthy run.
    #[must_use]
    pub fn next(&self) -> Next {
        match &self.position {
            Position::Proposed => Next::Decide,
            Position::Forward { done, .. } if *done < self.phases.len() => Next::Do(*done),
            Position::Back { left, .. } if *left > 0 => Next::Undo(left - 1),
            _ => Next::Rest,
        }
    }

    /// Whether the step that is to be done next was asked for before: after a restart it may be
    /// half done.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        matches!(
            self.position,
            Position::Forward { asked: true, .. } | Position::Back { asked: true, .. }
        )
    }

    /// What the trial or the audit that is to be done next has said already: after a restart it
    /// is not held again.
    #[must_use]
    pub const fn judged(&self) -> Option<Verdict> {
        match self.position {
            Position::Forward { judged, .. } => judged,
            _ => None,
        }
    }

    /// Whether it can still be abandoned. Not once only the clearing up is left: a mix that
    /// passed its audit stays, however the hypervisor takes the removal of the clone.
    #[must_use]
    pub fn may_turn_back(&self) -> bool {
        let Position::Forward { done, .. } = &self.position else { return false };
        self.phases.iter().skip(*done).any(|phase| *phase != Phase::Completion)
    }

    /// Takes an event in.
    ///
    /// # Errors
    ///
    /// [`OutOfTurn`] if it cannot happen now; the course stays as it was.
    pub fn take(&mut self, event: &Event) -> Result<(), OutOfTurn> {
        use Position::{Back, Forward, Proposed};
        let steps = self.phases.len();
        let next = match (&self.position, event) {
            (Proposed, Event::Approved { .. }) => Forward { done: 0, asked: false, judged: None },
            (Proposed, Event::Rejected { .. }) => Position::Rejected,
            (Proposed | Forward { done: 0, asked: false, .. }, Event::Superseded { .. }) => {
                Position::Superseded
            }
            (Forward { done: 0, asked: false, .. }, Event::Baselined { .. }) => {
                self.position.clone()
            }
            (Forward { done, asked: false, .. }, Event::Asked { step })
                if step == done && *done < steps =>
            {
                Forward { done: *done, asked: true, judged: None }
            }
            (Forward { done, asked: true, judged: None }, Event::Judged { step, verdict, .. })
                if step == done && self.is_judged(*done) =>
            {
                Forward { done: *done, asked: true, judged: Some(*verdict) }
            }
            (Forward { done, asked: true, judged }, Event::Done { step })
                if step == done && (!self.is_judged(*done) || *judged == Some(Verdict::Passed)) =>
            {
                Forward { done: done + 1, asked: false, judged: None }
            }
            (Forward { done, asked, .. }, Event::Abandoned { .. }) if self.may_turn_back() => {
                Back { left: done + usize::from(*asked), asked: false }
            }
            (Back { left, asked: false }, Event::UndoAsked { step })
                if *left > 0 && *step == left - 1 =>
            {
                Back { left: *left, asked: true }
            }
            (Back { left, asked: true }, Event::Undone { step }) if *step == left - 1 => {
                Back { left: left - 1, asked: false }
            }
            (Back { left, asked: true }, Event::Stranded { step, .. }) if *step == left - 1 => {
                Position::Stranded { left: *left }
            }
            (Position::Stranded { left }, Event::Resumed { .. }) => {
                Back { left: *left, asked: false }
            }
            _ => return Err(OutOfTurn { stage: self.stage(), event: event.clone() }),
        };
        self.position = next;
        Ok(())
    }

    fn is_judged(&self, step: usize) -> bool {
        matches!(self.phases.get(step), Some(Phase::Trial | Phase::Audit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course() -> Course {
        use Phase::{Assembly, Audit, Completion, Promotion, Trial};
        let phases = vec![Assembly, Trial, Promotion, Audit, Completion];
        Course { phases, position: Position::Proposed }
    }

    fn taken(events: &[Event]) -> Course {
        let mut course = course();
        for event in events {
            course.take(event).unwrap();
        }
        course
    }

    fn approved() -> Event {
        Event::Approved { by: "ann".into() }
    }

    fn judged(step: usize, verdict: Verdict) -> Event {
        let (reasons, measurements, compared) = (Vec::new(), Vec::new(), Vec::new());
        Event::Judged { step, verdict, reasons, measurements, compared }
    }

    /// Approved, and the first `done` steps done.
    fn after(done: usize) -> Course {
        let mut course = taken(&[approved()]);
        for step in 0..done {
            course.take(&Event::Asked { step }).unwrap();
            if matches!(step, 1 | 3) {
                course.take(&judged(step, Verdict::Passed)).unwrap();
            }
            course.take(&Event::Done { step }).unwrap();
        }
        course
    }

    #[test]
    fn a_failed_trial_is_never_promoted() {
        let mut course = taken(&[
            approved(),
            Event::Asked { step: 0 },
            Event::Done { step: 0 },
            Event::Asked { step: 1 },
            judged(1, Verdict::Failed),
        ]);
        assert!(course.take(&Event::Done { step: 1 }).is_err());
        course.take(&Event::Abandoned { cause: "too slow".into() }).unwrap();
        assert_eq!((course.stage(), course.next()), (Stage::RollingBack, Next::Undo(1)));
    }

    #[test]
    fn a_crash_while_cloning_is_seen_after_replay() {
        let course = taken(&[approved(), Event::Asked { step: 0 }]);
        assert_eq!((course.next(), course.is_begun()), (Next::Do(0), true));
    }

    #[test]
    fn the_way_back_undoes_what_was_only_asked_for() {
        let mut course = taken(&[
            approved(),
            Event::Asked { step: 0 },
            Event::Abandoned { cause: "refused".into() },
        ]);
        assert_eq!(course.next(), Next::Undo(0));
        course.take(&Event::UndoAsked { step: 0 }).unwrap();
        course.take(&Event::Undone { step: 0 }).unwrap();
        assert_eq!((course.stage(), course.next()), (Stage::RolledBack, Next::Rest));
    }

    #[test]
    fn nothing_happens_to_a_plan_nobody_approved() {
        assert!(course().take(&Event::Asked { step: 0 }).is_err());
    }

    #[test]
    fn an_abandoned_plan_that_touched_nothing_is_rolled_back_at_once() {
        let course = taken(&[approved(), Event::Abandoned { cause: "cancelled".into() }]);
        assert_eq!(course.stage(), Stage::RolledBack);
    }

    #[test]
    fn a_verdict_outlives_a_crash() {
        let mut course = after(1);
        course.take(&Event::Asked { step: 1 }).unwrap();
        course.take(&judged(1, Verdict::Passed)).unwrap();
        assert_eq!((course.next(), course.judged()), (Next::Do(1), Some(Verdict::Passed)));
    }

    #[test]
    fn a_mix_that_passed_its_audit_is_not_turned_back() {
        let abandoned = Event::Abandoned { cause: "cancelled".into() };
        assert!(after(3).take(&abandoned).is_ok());
        assert!(after(4).take(&abandoned).is_err());
        assert!(after(5).take(&abandoned).is_err());
    }

    #[test]
    fn a_stranded_plan_goes_on_back_once_a_person_looked() {
        let mut course = after(3);
        course.take(&Event::Abandoned { cause: "refused".into() }).unwrap();
        course.take(&Event::UndoAsked { step: 2 }).unwrap();
        course.take(&Event::Stranded { step: 2, cause: "no answer".into() }).unwrap();
        assert_eq!((course.stage(), course.next()), (Stage::Stranded, Next::Rest));
        course.take(&Event::Resumed { by: "ann".into() }).unwrap();
        assert_eq!((course.stage(), course.next()), (Stage::RollingBack, Next::Undo(2)));
    }
}
