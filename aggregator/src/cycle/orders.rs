//! What an operator may order, when, and what is written down for it.

use std::sync::{Arc, PoisonError};

use common::id::VmId;

use super::{
    Settings, SteeringError,
    book::Filed,
    shared::{Shared, WriteError, with_room},
};
use crate::{
    catalogue::Catalogue,
    grouping::GroupRules,
    journal::{Event, Stage},
    policy::Policy,
};

/// Something an operator wants.
pub(super) enum Order {
    Decide { filed: Arc<Filed>, decision: Decision, by: String },
    Policy(Box<Policy>),
    Catalogue(Catalogue),
    Scope { vm: VmId, opted_out: Option<String> },
    Groups(Box<GroupRules>),
}

/// What an operator says to a plan.
pub(super) enum Decision {
    Approve { basis: Option<String> },
    Reject { reason: String },
    Cancel { reason: String },
    RollBack { reason: String },
}

impl Decision {
    /// What is written down for it, if it may be said now.
    pub(super) fn event(&self, filed: &Filed, by: &str) -> Result<Event, SteeringError> {
        let stage = filed.stage();
        let by = by.to_owned();
        let refused =
            |remedy| Err(SteeringError::Stage { plan: filed.plan.id.clone(), stage, remedy });
        match self {
            Self::Approve { basis } => {
                check_basis(filed, basis.as_deref())?;
                match stage {
                    Stage::Proposed => Ok(Event::Approved { by }),
                    _ => refused("only a proposed plan can be approved"),
                }
            }
            Self::Reject { reason } => match stage {
                Stage::Proposed => Ok(Event::Rejected { by, reason: reason.clone() }),
                stage if stage.is_final() => refused("nothing of it happens any more"),
                _ => refused("it is approved; cancel it instead"),
            },
            Self::Cancel { reason } => match stage {
                Stage::Proposed => {
                    Ok(Event::Rejected { by, reason: format!("cancelled: {reason}") })
                }
                Stage::Completing => refused("its mix has passed the audit and stays"),
                Stage::RollingBack => refused("it is being undone already"),
                Stage::Stranded => refused("look at it, then roll it back"),
                stage if stage.is_final() => refused("nothing of it happens any more"),
                _ => Ok(Event::Abandoned { cause: format!("cancelled by {by}: {reason}") }),
            },
            Self::RollBack { reason } => match stage {
                Stage::Auditing => {
                    Ok(Event::Abandoned { cause: format!("rolled back by {by}: {reason}") })
                }
                Stage::Stranded => Ok(Event::Resumed { by }),
                Stage::Proposed => refused("nothing has happened yet; reject it instead"),
                Stage::RollingBack => refused("it is being undone already"),
                Stage::Completing | Stage::Completed => {
                    refused("its mix has passed the audit and stays")
                }
                stage if stage.is_final() => refused("nothing of it happens any more"),
                _ => refused("its mix is not live and watched; cancel it instead"),
            },
        }
    }
}

/// Rules are changed from what is there, not from what was.
pub(super) fn check_version(given: &GroupRules, present: &GroupRules) -> Result<(), SteeringError> {
    let (given, present) = (given.version, present.version);
    if given == present { Ok(()) } else { Err(SteeringError::GroupsVersion { given, present }) }
}

/// What was looked at must be what is there: all of it, or the digits that are shown.
fn check_basis(filed: &Filed, given: Option<&str>) -> Result<(), SteeringError> {
    let present = filed.plan.basis;
    let Some(given) = given else { return Ok(()) };
    let is_present = given.trim().to_ascii_lowercase();
    if is_present == present.to_string() || is_present == hex::encode(present.0) {
        return Ok(());
    }
    Err(SteeringError::Basis { plan: filed.plan.id.clone(), given: given.into(), present })
}

impl Shared {
    /// Does what is ordered, remembered before it counts.
    pub(super) async fn obey(&self, order: Order) -> Result<(), SteeringError> {
        match order {
            Order::Decide { filed, decision, by } => self.decide(&filed, &decision, &by).await,
            Order::Policy(policy) => {
                with_room(|| self.repository.put_policy(&policy)).await?;
                self.change(|settings| settings.policy = *policy);
                self.pass_on("the policy was set");
                Ok(())
            }
            Order::Catalogue(catalogue) => {
                with_room(|| self.repository.put_catalogue(&catalogue)).await?;
                self.change(|settings| settings.catalogue = catalogue);
                self.pass_on("the catalogue was set");
                Ok(())
            }
            Order::Scope { vm, opted_out } => self.set_scope(vm, opted_out).await,
            Order::Groups(rules) => self.set_groups(*rules).await,
        }
    }

    async fn decide(
        &self,
        filed: &Filed,
        decision: &Decision,
        by: &str,
    ) -> Result<(), SteeringError> {
        let event = decision.event(filed, by)?;
        match self.write(filed, event, by).await {
            Ok(()) => Ok(()),
            // A driver was quicker: what may be said now is said by the present stage.
            Err(WriteError::OutOfTurn(_)) => Err(match decision.event(filed, by) {
                Err(refused) => refused,
                Ok(_) => SteeringError::Stage {
                    plan: filed.plan.id.clone(),
                    stage: filed.stage(),
                    remedy: "it has just gone on; try again",
                },
            }),
            Err(WriteError::Repository(cause)) => Err(cause.into()),
        }
    }

    async fn set_scope(&self, vm: VmId, opted_out: Option<String>) -> Result<(), SteeringError> {
        let mut scope = self.settings().scope;
        let text = match &opted_out {
            Some(reason) => format!("{vm} was put out of scope: {reason}"),
            None => format!("{vm} was put into scope"),
        };
        match opted_out {
            Some(reason) => scope.opted_out.insert(vm, reason),
            None => scope.opted_out.remove(&vm),
        };
        with_room(|| self.repository.put_scope(&scope)).await?;
        self.change(|settings| settings.scope = scope);
        self.tell("settings_changed", None, text);
        Ok(())
    }

    async fn set_groups(&self, rules: GroupRules) -> Result<(), SteeringError> {
        check_version(&rules, &self.settings().groups)?;
        let rules = GroupRules { version: rules.version.saturating_add(1), ..rules };
        with_room(|| self.repository.put_group_rules(&rules)).await?;
        self.change(|settings| settings.groups = rules);
        self.tell("settings_changed", None, "the rules of grouping were set".into());
        Ok(())
    }

    fn change(&self, how: impl FnOnce(&mut Settings)) {
        how(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Agents hear how to sample and what applications are.
    fn pass_on(&self, text: &str) {
        let settings = self.settings();
        self.guests.set_sampling(&settings.policy, &settings.catalogue);
        self.tell("settings_changed", None, text.into());
    }
}
