//! The account as a value: what is remembered, and the one function that changes it.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
    mix::ApplicationMix,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How far a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Applications are being started and stopped.
    Applying,
    /// All are; their health is waited for.
    Probing,
    /// It failed, and the former mix is being brought back.
    Undoing,
    /// The former mix could not be brought back.
    Stranded,
}

/// How a list ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its mix runs.
    Applied,
    /// The former mix runs again.
    Undone,
}

/// Which list: its number, and the SHA-256 of its bytes, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListName {
    /// Its generation.
    pub generation: u64,
    /// SHA-256 of its bytes, in hex.
    pub digest: String,
}

/// What became of the last list that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which list.
    pub list: ListName,
    /// How it ended.
    pub ending: Ending,
    /// Why, if it was undone; empty if not.
    pub reason: String,
}

/// A change that is under way. What is to be brought back is the account's own mix: it is the
/// former one until the change has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which list.
    pub list: ListName,
    /// How far it is.
    pub stage: Stage,
    /// The mix it leads to.
    pub target: ApplicationMix,
    /// Those that served before it began: the way back is gone when they do again.
    pub healthy: BTreeSet<AppName>,
    /// Why it failed; empty until it has.
    pub reason: String,
}

/// The generations of one machine. They are counted per machine, and a clone is another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// Of the list whose mix runs; 0 for the mix the machine came with.
    pub effective: u64,
    /// Of the last list that was tried.
    pub attempted: u64,
}

/// All that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Goes up with every event.
    pub version: u64,
    /// The machine; `None` before the first identity.
    pub vm: Option<VmId>,
    /// Generations of this machine and of those it is a clone of.
    pub generations: BTreeMap<VmId, Generations>,
    /// The mix that runs, or is to be brought back.
    pub mix: ApplicationMix,
    /// A list was applied once, here or on the machine this one is a clone of; until then the mix
    /// is what the allow-list starts by itself.
    pub was_changed: bool,
    /// The change under way.
    pub change: Option<Change>,
    /// What became of the last one.
    pub outcome: Option<Outcome>,
    /// The aggregator's clock when it was last heard.
    pub server_time: Timestamp,
}

/// What happens to the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This is the machine that the identity speaks for.
    Bound(VmId),
    /// The mix the guest came with is this; without effect once a list was applied.
    CameWith(ApplicationMix),
    /// A list was verified and is about to be carried out.
    Begun {
        /// Which list.
        list: ListName,
        /// The mix it leads to.
        target: ApplicationMix,
        /// Those that serve now.
        healthy: BTreeSet<AppName>,
        /// The aggregator's clock.
        server_time: Timestamp,
    },
    /// Every start and stop is done.
    CarriedOut,
    /// Every health check passed.
    Passed,
    /// Something failed, or the agent ended in between, or a stranded guest is tried again.
    Failed(String),
    /// The former mix runs again.
    Restored,
    /// It could not be brought back.
    NotRestored(String),
}

/// An event that does not follow from the stage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the ledger is at {stage:?}, where {event} does not follow")]
pub struct OutOfTurn {
    /// The stage; `None` at rest.
    pub stage: Option<Stage>,
    /// The event's name.
    pub event: &'static str,
}

impl Account {
    /// Generations of the machine this is.
    #[must_use]
    pub fn own_generations(&self) -> Generations {
        let of = |vm| self.generations.get(vm).copied();
        self.vm.as_ref().and_then(of).unwrap_or_default()
    }

    /// The account after `event`.
    ///
    /// # Errors
    ///
    /// [`OutOfTurn`] if it does not follow; the account is as it was.
    pub fn after(&self, event: Event) -> Result<Self, OutOfTurn> {
        let stage = self.change.as_ref().map(|change| change.stage);
        let mut next = self.clone();
        next.version += 1;
        match (stage, event) {
            (None, Event::Bound(vm)) => next.vm = Some(vm),
            (None, Event::CameWith(mix)) if !self.was_changed => next.mix = mix,
            (None, Event::CameWith(_)) => {}
            (None, Event::Begun { list, target, healthy, server_time }) => {
                next.own_mut(|own| own.attempted = list.generation);
                next.server_time = next.server_time.max(server_time);
                let (stage, reason) = (Stage::Applying, String::new());
                next.change = Some(Change { list, stage, target, healthy, reason });
            }
            (Some(Stage::Applying), Event::CarriedOut) => next.advance(Stage::Probing, ""),
            (Some(Stage::Probing), Event::Passed) => next.keep(),
            (Some(_), Event::Failed(reason)) => next.advance(Stage::Undoing, &reason),
            (Some(Stage::Undoing), Event::Restored) => next.end(Ending::Undone),
            (Some(Stage::Undoing), Event::NotRestored(why)) => next.advance(Stage::Stranded, &why),
            (stage, event) => return Err(OutOfTurn { stage, event: event.name() }),
        }
        Ok(next)
    }

    fn own_mut(&mut self, change: impl FnOnce(&mut Generations)) {
        if let Some(vm) = &self.vm {
            change(self.generations.entry(vm.clone()).or_default());
        }
    }

    /// A reason that is there already is the first cause, and stays in front.
    fn advance(&mut self, stage: Stage, reason: &str) {
        let Some(change) = &mut self.change else { return };
        change.stage = stage;
        if change.reason.is_empty() {
            reason.clone_into(&mut change.reason);
        } else if !reason.is_empty() && !change.reason.contains(reason) {
            change.reason = format!("{}; {reason}", change.reason);
        }
    }

    fn keep(&mut self) {
        let Some(change) = &self.change else { return };
        let generation = change.list.generation;
        self.mix = change.target.clone();
        self.was_changed = true;
        self.own_mut(|own| own.effective = generation);
        self.end(Ending::Applied);
    }

    fn end(&mut self, ending: Ending) {
        self.outcome =
            self.change.take().map(|Change { list, reason, .. }| Outcome { list, ending, reason });
    }
}

impl Event {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Bound(_) => "bound",
            Self::CameWith(_) => "came with",
            Self::Begun { .. } => "begun",
            Self::CarriedOut => "carried out",
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Restored => "restored",
            Self::NotRestored(_) => "not restored",
        }
    }
}
