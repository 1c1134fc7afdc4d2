//! Follows the story from the first sample to the end of the first plan, and beyond.

use std::{collections::BTreeSet, time::Duration};

use common::id::PlanId;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time,
};

use super::{
    DevError, Options, context_file, ending, fault::Fault, stage::Stage, state::State,
    story::Story, tell,
};
use crate::{
    admin,
    cycle::{Notice, SteeringError},
    guest::Guests as _,
    journal::{Course, Entry, Event, Stage as Standing},
    plan::Plan,
};

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long all agents may take to send their first sample.
const FIRST_SAMPLES: Duration = Duration::from_secs(90);
/// How long the first plan may take, when one waits for it: many windows.
const FIRST_PLAN: Duration = Duration::from_secs(300);
/// How long the state before a plan may take to be known.
const STATE: Duration = Duration::from_secs(20);

/// Tells the story; ends after the first plan if `once` is asked, else never.
pub(super) async fn follow(
    stage: &Stage,
    options: &Options,
    story: &Story,
) -> Result<(), DevError> {
    let mut notices = stage.service.steering.subscribe();
    first_samples(stage, story).await?;
    let mut known = BTreeSet::new();
    let deadline = time::Instant::now() + FIRST_PLAN;
    loop {
        let waited = time::timeout_at(deadline, proposed(stage, story, &mut notices, &mut known));
        let plan = match waited.await {
            Ok(plan) => plan?,
            Err(_) if options.once => {
                return Err(DevError::NotAsAsked(format!(
                    "no plan within {} s",
                    FIRST_PLAN.as_secs()
                )));
            }
            Err(_) => proposed(stage, story, &mut notices, &mut known).await?,
        };
        let Some(ended) = first_plan(stage, options, story, &plan).await? else { continue };
        if options.once {
            return ended;
        }
        if let Err(cause) = ended {
            story.tell(&story.bad(&cause.to_string()))?;
        }
        break;
    }
    story.tell("the demonstration goes on; Ctrl-C ends it and all of it goes")?;
    loop {
        let plan = proposed(stage, story, &mut notices, &mut known).await?;
        story.tell(&format!("it waits for: {}", approve_command(&plan.id)))?;
    }
}

/// Waits for the first sample of every agent whose machine runs, and tells of it.
async fn first_samples(stage: &Stage, story: &Story) -> Result<(), DevError> {
    let deadline = time::Instant::now() + FIRST_SAMPLES;
    let mut seen = Vec::new();
    while seen.len() < stage.running.len() && time::Instant::now() < deadline {
        time::sleep(LOOK_EVERY).await;
        seen.clear();
        for (vm, name) in stage.names.iter().filter(|(vm, _)| stage.running.contains(*vm)) {
            if let Some(last) = stage.service.hub.last_seen(vm).await {
                seen.push((name.clone(), last.observation));
            }
        }
    }
    seen.sort_by(|(one, _), (other, _)| one.cmp(other));
    let missing = stage.running.len() - seen.len();
    story.tell(&tell::samples(story, &seen))?;
    if missing > 0 {
        story.tell(&story.bad(&format!("{missing} agents have sent nothing yet")))?;
    }
    Ok(())
}

/// Tells of windows until a plan is proposed, and of the plan.
async fn proposed(
    stage: &Stage,
    story: &Story,
    notices: &mut broadcast::Receiver<Notice>,
    known: &mut BTreeSet<PlanId>,
) -> Result<Plan, DevError> {
    let resumes = stage.resumes && known.is_empty();
    loop {
        if let Some(plan) = open_plan(stage, known, resumes).await? {
            known.insert(plan.id.clone());
            story.tell(&tell::plan(story, &admin::shown_plan(&plan, &[])))?;
            return Ok(plan);
        }
        match notices.recv().await {
            Ok(notice) if notice.kind == "window_closed" => {
                story.tell(&notice.text)?;
                window(stage, story, known.is_empty()).await?;
            }
            Ok(notice) if is_told_otherwise(notice.kind) => {}
            Ok(notice) => story.tell(&notice.text)?,
            Err(RecvError::Lagged(_)) => {}
            // The service ends; whoever called hears of it otherwise.
            Err(RecvError::Closed) => time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Whether the story has lines of its own for that kind of notice.
fn is_told_otherwise(kind: &str) -> bool {
    matches!(kind, "plan_proposed" | "step_asked" | "step_done" | "machine_appeared")
}

/// The first plan that was not told of and that is not over. If one `resumes`, the end of a plan
/// that ended just before is told too.
async fn open_plan(
    stage: &Stage,
    known: &BTreeSet<PlanId>,
    resumes: bool,
) -> Result<Option<Plan>, DevError> {
    let repository = &stage.service.repository;
    let mut plans = repository.plans().await?;
    plans.retain(|plan| !known.contains(&plan.id));
    plans.sort_by_key(|plan| plan.made_at);
    for plan in plans {
        let entries = repository.entries(&plan.id).await?;
        let is_told = |standing: Standing| match standing {
            Standing::Superseded | Standing::Rejected => false,
            standing => resumes || !standing.is_final(),
        };
        if standing(&plan, &entries).is_some_and(is_told) {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

fn standing(plan: &Plan, entries: &[Entry]) -> Option<Standing> {
    Course::replay(plan, entries).ok().map(|course| course.stage())
}

/// Tells what the window that just closed says.
async fn window(stage: &Stage, story: &Story, at_length: bool) -> Result<(), DevError> {
    let repository = &stage.service.repository;
    let Some(findings) = repository.latest_findings().await? else { return Ok(()) };
    if !at_length {
        return Ok(());
    }
    if !findings.edges.is_empty() {
        story.tell(&tell::graph(story, &findings, &stage.names))?;
    }
    story.tell(&tell::candidates(story, &findings))?;
    let planned = repository.latest_planned().await?.unwrap_or_default();
    // Before there are candidates, what keeps each from being one says it all.
    let has_candidates = findings.machines.values().any(|standing| standing.candidate.holds);
    if planned.plans.is_empty() && has_candidates {
        story.tell(&tell::no_plan(&planned, &stage.names))?;
    }
    Ok(())
}

/// The words that say yes to a plan.
fn approve_command(plan: &PlanId) -> String {
    let beside = std::env::current_exe().ok().and_then(|own| {
        let program = own.parent()?.join("sinterctl");
        program.is_file().then(|| program.display().to_string())
    });
    let program = beside.unwrap_or_else(|| "sinterctl".to_owned());
    // Whoever has a context file of their own would reach another aggregator.
    format!("{program} --context-file {} plan approve {plan}", context_file().display())
}

/// Sees the first plan through. `None` if it was superseded or rejected: the next one is the first.
async fn first_plan(
    stage: &Stage,
    options: &Options,
    story: &Story,
    plan: &Plan,
) -> Result<Option<Result<(), DevError>>, DevError> {
    let before = state_before(stage, options).await?;
    if let Some(before) = &before {
        story.tell(&format!("state of the fleet before it: {}", before.hash()))?;
    }
    if options.approve {
        match stage.service.steering.approve(&plan.id, None, "dev", false).await {
            Err(SteeringError::Stage { .. }) | Ok(()) => {}
            Err(cause) => return Err(DevError::NotAsAsked(cause.to_string())),
        }
    } else {
        story.tell(&format!("it waits for: {}", approve_command(&plan.id)))?;
    }
    let fault = |at| Fault::new(at, &stage.hypervisor, plan);
    let mut fault = options.break_at.map(fault);
    let (standing, entries) = course(stage, story, plan, fault.as_mut()).await?;
    if let Some(fault) = &fault {
        fault.clear()?;
    }
    if matches!(standing, Standing::Superseded | Standing::Rejected) {
        return Ok(None);
    }
    let told = (plan, entries.as_slice());
    Ok(Some(ending::is_as_asked(stage, options, story, told, (standing, before.as_ref())).await))
}

/// The state before a plan: of now, or as it was kept by the demonstration that this one resumes.
async fn state_before(stage: &Stage, options: &Options) -> Result<Option<State>, DevError> {
    if let Some(kept) = State::kept(&options.folder).filter(|_| options.resume) {
        return Ok(Some(kept));
    }
    let hub = &stage.service.hub;
    let now = State::now(&stage.hypervisor, hub, &*stage.clock, STATE).await?;
    if let Some(now) = &now {
        now.keep(&options.folder)?;
    }
    Ok(now)
}

/// Tells every event of a plan until nothing more happens to it.
async fn course(
    stage: &Stage,
    story: &Story,
    plan: &Plan,
    mut fault: Option<&mut Fault>,
) -> Result<(Standing, Vec<Entry>), DevError> {
    let repository = &stage.service.repository;
    let mut told = 0;
    loop {
        let entries = repository.entries(&plan.id).await?;
        let planted = match &mut fault {
            Some(fault) => fault.plant(plan, &entries)?,
            None => None,
        };
        let shown = admin::shown_plan(plan, &entries);
        for (entry, shown) in entries.iter().zip(&shown.course).skip(told) {
            story.tell(&shown.text)?;
            if let Event::Judged { .. } = entry.event {
                let one = admin::shown_measurements(std::slice::from_ref(entry));
                story.tell(&tell::measurements(story, &one))?;
            }
        }
        told = entries.len();
        if let Some(place) = planted {
            story.tell(&story.bad(&format!("a fault is put into {place}: report fails there")))?;
        }
        match standing(plan, &entries) {
            Some(standing) if standing.is_final() => return Ok((standing, entries)),
            _ => time::sleep(LOOK_EVERY).await,
        }
    }
}
