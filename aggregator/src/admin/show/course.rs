//! What happened to a plan so far, as sentences.

use common::wire::admin::v1;

use super::{moment, word};
use crate::{
    journal::{Course, Entry, Event, Stage},
    plan::Plan,
    policy::Verdict,
};

/// Where a plan stands after its journal. A journal that does not follow is shown as stranded: a
/// person must look.
pub(in super::super) fn stage(plan: &Plan, entries: &[Entry]) -> String {
    word(&Course::replay(plan, entries).map_or(Stage::Stranded, |course| course.stage()))
}

/// The state of each step, as the journal left it.
pub(super) fn states(steps: usize, entries: &[Entry]) -> Vec<&'static str> {
    let mut states = vec!["waiting"; steps];
    for entry in entries {
        let (step, state) = match &entry.event {
            Event::Asked { step } | Event::UndoAsked { step } => (step, "asked"),
            Event::Done { step } => (step, "done"),
            Event::Undone { step } => (step, "undone"),
            Event::Stranded { step, .. } => (step, "stranded"),
            _ => continue,
        };
        if let Some(known) = states.get_mut(*step) {
            *known = state;
        }
    }
    states
}

/// Every event, as a sentence. `steps` says what each step does.
pub(super) fn told(entries: &[Entry], steps: &[String]) -> Vec<v1::CourseEntry> {
    let told = |entry: &Entry| v1::CourseEntry {
        at_unix_ms: moment(entry.at),
        text: sentence(&entry.event, steps),
    };
    entries.iter().map(told).collect()
}

fn sentence(event: &Event, steps: &[String]) -> String {
    let what = |step: &usize| steps.get(*step).map_or("a step that is not there", String::as_str);
    let because = |reason: &str| {
        if reason.is_empty() { String::new() } else { format!(": {reason}") }
    };
    match event {
        Event::Approved { by } => format!("approved by {by}"),
        Event::Rejected { by, reason } => format!("rejected by {by}{}", because(reason)),
        Event::Superseded { reason } => format!("superseded{}", because(reason)),
        Event::Baselined { served, .. } if served.is_empty() => {
            "baseline taken: nothing is served that could fall".to_owned()
        }
        Event::Baselined { served, .. } => {
            let served = served.iter().map(|served| {
                let (name, port) = (&served.application, served.port);
                format!("{name} on port {port} {:.2}/s", served.per_second)
            });
            format!("baseline taken: {}", served.collect::<Vec<_>>().join(", "))
        }
        Event::Asked { step } => format!("begun: {}", what(step)),
        Event::Done { step } => format!("done: {}", what(step)),
        Event::Judged { verdict, reasons, .. } => {
            let verdict = match verdict {
                Verdict::Passed => "passed",
                Verdict::Failed => "failed",
                Verdict::Unproven => "not proven",
            };
            format!("{verdict}{}", because(&reasons.join("; ")))
        }
        Event::Abandoned { cause } => format!("turned back{}", because(cause)),
        Event::UndoAsked { step } => format!("undoing: {}", what(step)),
        Event::Undone { step } => format!("undone: {}", what(step)),
        Event::Stranded { step, cause } => {
            format!("stranded, a person must look: {}{}", what(step), because(cause))
        }
        Event::Resumed { by } => format!("way back taken up again by {by}"),
    }
}

/// Every figure that a trial or an audit took.
pub(crate) fn measurements(entries: &[Entry]) -> Vec<v1::Measurement> {
    let judged = entries.iter().filter_map(|entry| match &entry.event {
        Event::Judged { measurements, .. } => Some(measurements),
        _ => None,
    });
    let shown = judged.flatten().map(|measured| v1::Measurement {
        name: measured.name.clone(),
        value: measured.value,
        unit: measured.unit.clone(),
        threshold: measured.threshold.clone(),
        passed: measured.passed,
    });
    shown.collect()
}
