//! Which act does a step, and which one undoes it.

use common::clock::Timestamp;

use crate::{
    assembly::{self, ActError, Surroundings},
    migration,
    plan::{Plan, Step},
    trial::{self, Judgement, Trial},
};

/// Does a step; a trial gives its judgement. The audit is no act: it only waits for windows.
pub(super) async fn act(
    around: &Surroundings,
    plan: &Plan,
    step: &Step,
) -> Result<Option<Judgement>, ActError> {
    match step {
        Step::Clone(order) => assembly::clone(around, order).await?,
        Step::Isolate { clone, network } => assembly::isolate(around, clone, network).await?,
        Step::Start { clone } => assembly::start(around, plan, clone).await?,
        Step::Apply { list, former, .. } => migration::apply(around, list, former).await?,
        Step::Try { clone, network, probe } => {
            let trial = Trial { plan, clone, network, probe };
            return trial::hold(around, &trial).await.map(Some);
        }
        Step::Resize { vm, to, from } => migration::resize(around, vm, to, from).await?,
        Step::Swap { source, clone } => migration::swap(around, source, clone).await?,
        Step::Retire { vm } => migration::retire(around, vm).await?,
        Step::RemoveClone { clone } => assembly::remove(around, plan, clone).await?,
        Step::Audit => {}
    }
    Ok(None)
}

/// Undoes a step, whether it was done or not. What was done to the clone goes with the clone.
pub(super) async fn undo(
    around: &Surroundings,
    plan: &Plan,
    step: &Step,
    abandoned_at: Timestamp,
) -> Result<(), ActError> {
    match step {
        Step::Clone(order) => assembly::remove(around, plan, &order.clone).await,
        Step::Start { clone } => assembly::stop(around, clone).await,
        Step::Apply { list, .. } if list.vm == plan.clone => Ok(()),
        Step::Apply { list, former, undo_generation } => {
            migration::undo_apply(around, (list, *undo_generation), former, abandoned_at).await
        }
        Step::Resize { vm, from, .. } => migration::undo_resize(around, vm, from).await,
        Step::Swap { source, clone } => migration::undo_swap(around, source, clone).await,
        Step::Retire { vm } => migration::undo_retire(around, vm).await,
        Step::Isolate { .. } | Step::Try { .. } | Step::Audit | Step::RemoveClone { .. } => Ok(()),
    }
}
