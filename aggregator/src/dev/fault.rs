//! Lets a stage fail for real: a file that makes `report` fail appears where and when that stage
//! will find it.

use std::{fs, path::PathBuf};

use super::{Breaking, DevError, fleet::FAULT, io};
use crate::{
    hypervisor::namespace::NamespaceHypervisor,
    journal::{Entry, Event},
    plan::{Phase, Plan},
};

/// The fault of one plan.
#[derive(Debug)]
pub(super) struct Fault {
    at: Breaking,
    path: PathBuf,
    is_planted: bool,
}

impl Fault {
    /// The fault that lets `plan` fail at that stage; it is not there yet.
    pub(super) fn new(at: Breaking, hypervisor: &NamespaceHypervisor, plan: &Plan) -> Self {
        let live = plan.moves.first().map_or(&plan.source, |moved| &moved.to);
        let vm = if at == Breaking::Trial { &plan.clone } else { live };
        Self { at, path: hypervisor.path_in(vm, FAULT.as_ref()), is_planted: false }
    }

    /// Plants it if its time has come; says where if it did.
    pub(super) fn plant(
        &mut self,
        plan: &Plan,
        entries: &[Entry],
    ) -> Result<Option<&'static str>, DevError> {
        // Not before the trial: the clone would have it on its disk and never come so far.
        let (phase, place) = match self.at {
            Breaking::Trial => (Phase::Trial, "the clone"),
            Breaking::Promotion => (Phase::Trial, "the live machine"),
            Breaking::Audit => (Phase::Audit, "the live machine"),
        };
        if self.is_planted || !has_begun(plan, entries, phase) {
            return Ok(None);
        }
        self.is_planted = true;
        match fs::write(&self.path, b"") {
            // A clone that is gone already needs none.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            written => written.map(|()| Some(place)).map_err(io("write", &self.path)),
        }
    }

    /// Takes it away again; a machine that is gone took it with it.
    pub(super) fn clear(&self) -> Result<(), DevError> {
        match fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove", &self.path)(cause))
            }
            _ => Ok(()),
        }
    }
}

fn has_begun(plan: &Plan, entries: &[Entry], phase: Phase) -> bool {
    entries.iter().any(|entry| match entry.event {
        Event::Asked { step } => {
            plan.steps.get(step).is_some_and(|step| step.phase(&plan.clone) == phase)
        }
        _ => false,
    })
}

/// The part of the course in which a plan turned back.
pub(super) fn turned_back_in(plan: &Plan, entries: &[Entry]) -> Option<Phase> {
    let before = entries.iter().take_while(|entry| !matches!(entry.event, Event::Abandoned { .. }));
    let last = before.filter_map(|entry| match entry.event {
        Event::Asked { step } => plan.steps.get(step),
        _ => None,
    });
    last.last().map(|step| step.phase(&plan.clone))
}
