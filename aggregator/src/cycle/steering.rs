//! How operators steer a cycle while it runs.
//!
//! What changes something goes through the wheel, which does one thing after the other and to its
//! end: a caller who goes away while it waits leaves nothing half done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use common::id::{PlanId, VmId};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Notice, Settings, SteeringError,
    book::Filed,
    orders::{self, Decision, Order},
    shared::{Shared, look_period},
};
use crate::{
    catalogue::Catalogue, grouping::GroupRules, hypervisor::Inventory, policy::Policy,
    storage::Survey,
};

/// Something an operator wants, and where the answer goes.
pub(super) struct Command {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<(), SteeringError>>,
}

/// How operators steer a cycle while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Steering {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").finish_non_exhaustive()
    }
}

impl Steering {
    pub(super) const fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Says yes to a plan. `basis`: what was looked at, as 64 hex digits or the 16 that are shown.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`]; nothing has changed then.
    pub async fn approve(
        &self,
        plan: &PlanId,
        basis: Option<&str>,
        by: &str,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        self.decide(plan, Decision::Approve { basis: basis.map(Into::into) }, by, validate_only)
            .await
    }

    /// Says no to a plan.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn reject(
        &self,
        plan: &PlanId,
        reason: &str,
        by: &str,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        self.decide(plan, Decision::Reject { reason: reason.into() }, by, validate_only).await
    }

    /// Stops a plan that nobody decided on, or that runs; what it did is undone. A step under way
    /// is finished first.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn cancel(
        &self,
        plan: &PlanId,
        reason: &str,
        by: &str,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        self.decide(plan, Decision::Cancel { reason: reason.into() }, by, validate_only).await
    }

    /// Undoes a plan whose mix is live and watched, or takes a stranded plan's way back up again.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn roll_back(
        &self,
        plan: &PlanId,
        reason: &str,
        by: &str,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        self.decide(plan, Decision::RollBack { reason: reason.into() }, by, validate_only).await
    }

    /// What is set now.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Sets the policy, remembered before it counts.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn set_policy(&self, policy: Policy) -> Result<(), SteeringError> {
        policy.check()?;
        self.order(Order::Policy(Box::new(policy))).await
    }

    /// Sets the catalogue, remembered before it counts; agents hear of it.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn set_catalogue(&self, catalogue: Catalogue) -> Result<(), SteeringError> {
        self.order(Order::Catalogue(catalogue)).await
    }

    /// Puts a machine out of scope with a reason, or in again with `None`.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`].
    pub async fn set_scope(
        &self,
        vm: &VmId,
        opted_out: Option<String>,
    ) -> Result<(), SteeringError> {
        self.order(Order::Scope { vm: vm.clone(), opted_out }).await
    }

    /// Sets the rules of grouping, which are of the version that was read, and remembers them before
    /// they count, under the next version. They show in the next window.
    ///
    /// # Errors
    ///
    /// See [`SteeringError`]; nothing has changed then.
    pub async fn set_group_rules(
        &self,
        rules: GroupRules,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        rules.check()?;
        orders::check_version(&rules, &self.settings().groups)?;
        if validate_only {
            return Ok(());
        }
        self.order(Order::Groups(Box::new(rules))).await
    }

    /// What the hypervisor said last; `None` before it answered once.
    #[must_use]
    pub fn inventory(&self) -> Option<Arc<Inventory>> {
        self.shared.known().inventory.clone()
    }

    /// What each storage array said last, by its name.
    #[must_use]
    pub fn arrays(&self) -> BTreeMap<String, Survey> {
        self.shared.known().arrays.clone()
    }

    /// Hears what happens from now on. A reader that is too slow misses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// Machines that plans under way touch.
    #[must_use]
    pub fn busy(&self) -> BTreeSet<VmId> {
        self.shared.book.busy()
    }

    /// How often the hypervisor is asked.
    #[must_use]
    pub fn look_period(&self) -> Duration {
        look_period(&self.shared.settings().policy)
    }

    async fn decide(
        &self,
        plan: &PlanId,
        decision: Decision,
        by: &str,
        validate_only: bool,
    ) -> Result<(), SteeringError> {
        let filed = self.filed(plan)?;
        // Checked here for whoever only asks, and again when its turn has come.
        decision.event(&filed, by)?;
        if validate_only {
            return Ok(());
        }
        self.order(Order::Decide { filed, decision, by: by.into() }).await
    }

    fn filed(&self, plan: &PlanId) -> Result<Arc<Filed>, SteeringError> {
        self.shared.book.get(plan).ok_or_else(|| SteeringError::NoPlan(plan.clone()))
    }

    async fn order(&self, order: Order) -> Result<(), SteeringError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { order, reply };
        self.commands.send(command).await.map_err(|_| SteeringError::Ended)?;
        answer.await.map_err(|_| SteeringError::Ended)?
    }
}
