//! Whether the first plan ended as it was asked to.

use std::time::Duration;

use tokio::time;

use super::{Breaking, DevError, Options, fault, stage::Stage, state::State, story::Story};
use crate::{
    journal::{Entry, Stage as Standing},
    plan::{Phase, Plan},
};

/// How long the fleet may take to be as it was once a plan says that it is: machines that were
/// restarted attach again and look after themselves.
const PATIENCE: Duration = Duration::from_secs(45);

/// Holds the end of a plan against what was asked; `before` is the state before it began.
pub(super) async fn is_as_asked(
    stage: &Stage,
    options: &Options,
    story: &Story,
    (plan, entries): (&Plan, &[Entry]),
    (standing, before): (Standing, Option<&State>),
) -> Result<(), DevError> {
    let not = |why: String| Err(DevError::NotAsAsked(why));
    let Some(breaking) = options.break_at else {
        if standing == Standing::Completed {
            return story.tell(&story.good("promoted and audited; the plan is completed"));
        }
        return not(format!("plan {} is {standing:?} instead of completed", plan.id));
    };
    if standing != Standing::RolledBack {
        return not(format!("plan {} is {standing:?} instead of rolled back", plan.id));
    }
    let asked = match breaking {
        Breaking::Trial => Phase::Trial,
        Breaking::Promotion => Phase::Promotion,
        Breaking::Audit => Phase::Audit,
    };
    match fault::turned_back_in(plan, entries) {
        Some(phase) if phase == asked => {}
        phase => return not(format!("plan {} turned back in {phase:?}", plan.id)),
    }
    let Some(before) = before else {
        return not("the state before the plan is not known".to_owned());
    };
    let deadline = time::Instant::now() + PATIENCE;
    loop {
        let hub = &stage.service.hub;
        let now = State::now(&stage.hypervisor, hub, &*stage.clock, PATIENCE).await?;
        if now.as_ref() == Some(before) {
            let hash = before.hash();
            return story.tell(&story.good(&format!(
                "restored: applications, processes, limits and addresses are as before ({hash})"
            )));
        }
        if time::Instant::now() > deadline {
            let difference = match now {
                Some(now) => before.difference(&now),
                None => "some agent does not report".to_owned(),
            };
            return not(format!("the state is not what it was:\n{difference}"));
        }
    }
}
