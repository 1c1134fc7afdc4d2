//! What happens, in words: for those who watch, and for the audit log.

use common::{clock::Timestamp, id::VmId};

use super::Notice;
use crate::{
    journal::{Event, Stage},
    plan::{Plan, Step},
    policy::Verdict,
};

/// What an event says to people; `None` if its stage says it all.
pub(super) fn of_event(plan: &Plan, at: Timestamp, event: &Event) -> Option<Notice> {
    let id = &plan.id;
    let step = |place: usize| {
        let count = plan.steps.len();
        let text = plan.steps.get(place).map_or_else(String::new, |step| of_step(plan, step));
        format!("{text} (step {} of {count})", place + 1)
    };
    let (kind, text) = match event {
        Event::Approved { by } => {
            ("stage_changed", format!("{id} was approved by {by}: {}", plan.summary))
        }
        Event::Rejected { by, reason } => {
            ("stage_changed", format!("{id} was rejected by {by}: {reason}"))
        }
        Event::Superseded { reason } => {
            ("plan_superseded", format!("{id} is superseded: {reason}"))
        }
        Event::Baselined { .. } => return None,
        Event::Asked { step: place } => ("step_asked", format!("{id} asks: {}", step(*place))),
        Event::Done { step: place } => ("step_done", format!("{id} did: {}", step(*place))),
        Event::Judged { step: place, verdict, reasons, .. } => {
            let what = match plan.steps.get(*place) {
                Some(Step::Audit) => "audit",
                _ => "trial",
            };
            let said = of_verdict(*verdict);
            ("judged", format!("the {what} of {id} {said}: {}", reasons.join("; ")))
        }
        Event::Abandoned { cause } => {
            ("stage_changed", format!("{id} is abandoned, what it did is undone: {cause}"))
        }
        Event::UndoAsked { step: place } => {
            ("step_asked", format!("{id} asks to undo: {}", step(*place)))
        }
        Event::Undone { step: place } => ("step_undone", format!("{id} undid: {}", step(*place))),
        Event::Stranded { step: place, cause } => {
            let what = step(*place);
            let remedy = format!("look at it, then `sinterctl plan rollback {id}`");
            (
                "stage_changed",
                format!("{id} is stranded, it could not undo: {what}: {cause}; {remedy}"),
            )
        }
        Event::Resumed { by } => {
            ("stage_changed", format!("the way back of {id} is taken up again by {by}"))
        }
    };
    Some(Notice { at, kind, plan: Some(id.clone()), text })
}

/// Says that a plan has come to another stage, where no event says so by itself.
pub(super) fn of_stage(plan: &Plan, at: Timestamp, event: &Event, stage: Stage) -> Option<Notice> {
    let says_so_itself =
        !matches!(event, Event::Asked { .. } | Event::Done { .. } | Event::Undone { .. });
    if says_so_itself {
        return None;
    }
    let doing = match stage {
        Stage::Assembling => "its clone comes to be",
        Stage::Trying => "its clone is tried",
        Stage::Promoting => "its mix goes live",
        Stage::Auditing => "its mix is live and watched",
        Stage::Completing => "its mix stays, what is left over goes",
        Stage::Completed => "it is completed",
        Stage::RolledBack => "all is as it was before it",
        _ => return None,
    };
    let text = format!("{}: {doing}", plan.id);
    Some(Notice { at, kind: "stage_changed", plan: Some(plan.id.clone()), text })
}

/// What a row of the audit log says of an event, as action and detail, if it has one: decisions
/// and what was not foreseen.
pub(super) fn logged(event: &Event) -> Option<(&'static str, String)> {
    match event {
        Event::Approved { .. } => Some(("plan approve", String::new())),
        Event::Rejected { reason, .. } => Some(("plan reject", reason.clone())),
        Event::Superseded { reason } => Some(("plan supersede", reason.clone())),
        Event::Judged { verdict, reasons, .. } => {
            Some(("plan judge", format!("{}: {}", of_verdict(*verdict), reasons.join("; "))))
        }
        Event::Abandoned { cause } => Some(("plan abandon", cause.clone())),
        Event::Stranded { cause, .. } => Some(("plan strand", cause.clone())),
        Event::Resumed { .. } => Some(("plan resume", String::new())),
        Event::Baselined { .. }
        | Event::Asked { .. }
        | Event::Done { .. }
        | Event::UndoAsked { .. }
        | Event::Undone { .. } => None,
    }
}

const fn of_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Unproven => "proved nothing",
    }
}

/// What a step does, such as `clone web-1`.
pub(super) fn of_step(plan: &Plan, step: &Step) -> String {
    let name = |vm: &VmId| name_of(plan, vm);
    match step {
        Step::Clone(order) => format!("clone {} to {}", name(&order.source), order.name),
        Step::Isolate { clone, .. } => format!("cut {} off from production", name(clone)),
        Step::Start { clone } => format!("start {}", name(clone)),
        Step::Apply { list, .. } => {
            let changes = list.applications.iter();
            let changes: Vec<String> = changes
                .map(|listed| {
                    let verb = match listed.action {
                        common::list::Action::Add => "add",
                        common::list::Action::Keep => "set",
                        common::list::Action::Remove => "remove",
                    };
                    format!("{verb} {}", listed.name)
                })
                .collect();
            format!("{} on {}", changes.join(", "), name(&list.vm))
        }
        Step::Try { clone, .. } => format!("try the new mix on {}", name(clone)),
        Step::Resize { vm, .. } => format!("resize {}", name(vm)),
        Step::Swap { source, clone } => {
            format!("let {} take the place of {}", name(clone), name(source))
        }
        Step::Retire { vm } => format!("retire {}", name(vm)),
        Step::Audit => "hold what is live against what was before".into(),
        Step::RemoveClone { clone } => format!("remove {}", name(clone)),
    }
}

fn name_of(plan: &Plan, vm: &VmId) -> String {
    if let Some(change) = plan.changes.get(vm) {
        return change.name.clone();
    }
    let order = plan.steps.iter().find_map(|step| match step {
        Step::Clone(order) if order.clone == *vm => Some(order.name.clone()),
        _ => None,
    });
    order.unwrap_or_else(|| vm.to_string())
}
