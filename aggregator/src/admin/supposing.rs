//! What if: plans for a fleet as it would be, or as it was, with word of how planning goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    clock::Timestamp,
    id::{HostId, VmId},
    units::{Bytes, Millicores},
    wire::admin::v1::{self, watch_planning_response::Told},
};
use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Admin,
    fleet::found,
    refusal::{self, bad_field},
    show, toml_text,
};
use crate::{
    cycle::{Answer, At, Ground, WhatIf},
    hypervisor::Inventory,
    plan::{Addition, Planned, Progress, Supposition},
    policy::Policy,
};

/// The longest that planning may take: whoever wants more wants a smaller fleet.
const LONGEST_BUDGET: Duration = Duration::from_secs(600);
/// Better targets are told no more often; the last of them shows in the answer anyhow.
const TOLD_EVERY_MS: u64 = 100;
/// Messages that a slow reader may lag behind before it misses some.
const MESSAGES_HELD: usize = 64;

/// Whoever asked, and may hear how it goes.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    told: Option<mpsc::Sender<v1::PlanningProgress>>,
    begun: Instant,
    last_ms: Arc<AtomicU64>,
    /// Nobody waits any more.
    gone: CancellationToken,
}

impl Listener {
    /// One that hears nothing but the answer.
    pub(super) fn deaf() -> Self {
        Self {
            told: None,
            begun: Instant::now(),
            last_ms: Arc::default(),
            gone: CancellationToken::new(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hears(&self, doing: &str, better: Option<&Progress>) {
        let Some(told) = &self.told else { return };
        let progress = v1::PlanningProgress {
            doing: doing.to_owned(),
            elapsed_ms: self.elapsed_ms(),
            cost_of_target: better.map(|better| better.cost_of_target),
            lower_bound: better.map(|better| better.lower_bound),
            gap: better.and_then(Progress::gap),
        };
        // One that is too slow misses some.
        drop(told.try_send(progress));
    }

    /// As [`Listener::hears`], unless something was told a moment ago.
    fn hears_at_times(&self, doing: &str, better: &Progress) {
        let now = self.elapsed_ms();
        let last = self.last_ms.load(Ordering::Relaxed);
        if now >= last + TOLD_EVERY_MS {
            self.last_ms.store(now, Ordering::Relaxed);
            self.hears(doing, Some(better));
        }
    }
}

/// What is asked, as far as it can be understood without the fleet.
struct Asked {
    policy: Policy,
    budget: Option<Duration>,
    at: Option<At>,
    added: Vec<Addition>,
}

impl Admin {
    /// Plans as they stand and as they are asked for.
    pub(super) async fn suppose(
        &self,
        request: v1::CreatePlanRequest,
        listener: Listener,
    ) -> Result<v1::CreatePlanResponse, Status> {
        // Planning is done elsewhere and ends once whoever asked is gone.
        let _gone = listener.gone.clone().drop_guard();
        let present = self.steering.settings().policy;
        let asked = asked(&request, &present)?;
        let ground = self.ground(asked.at.as_ref(), &listener).await?;
        let (mut names, inventory) = match &ground {
            Some(ground) => (names_of(&ground.inventory()), ground.inventory()),
            None => (self.fleet().await?.names(), self.steering.inventory().unwrap_or_default()),
        };
        let without = request.without.iter().map(|text| found(&names, text));
        let without = without.collect::<Result<_, _>>()?;
        let drained = machines_of(&names, &inventory, &request.drain)?;
        let supposition =
            Supposition { without, drained: drained.clone(), added: asked.added.clone() };
        for addition in &asked.added {
            let vm = addition.vm().map_err(|bad| bad_field("add", bad))?;
            names.insert(vm, addition.name.clone());
        }
        let until = |share: u32| asked.budget.map(|budget| listener.begun + budget * share / 2);
        let question = |policy: &Policy, supposition, doing: &'static str, until| {
            let (heard, gone) = (listener.clone(), listener.gone.clone());
            listener.hears(doing, None);
            self.steering.what_if(WhatIf {
                policy: policy.clone(),
                supposition,
                ground: ground.clone(),
                until,
                progress: Some(Box::new(move |better| heard.hears_at_times(doing, better))),
                is_wanted: Box::new(move || !gone.is_cancelled()),
            })
        };
        let stands = question(&present, Supposition::default(), "as it stands", until(1));
        let as_it_stands = stands.await.map_err(refusal::steering)?.planned;
        let answer = question(&asked.policy, supposition, "as asked", until(2));
        let Answer { planned, assumed } = answer.await.map_err(refusal::steering)?;
        Ok(v1::CreatePlanResponse {
            plans: planned.plans.iter().map(|plan| show::plan(plan, &[])).collect(),
            left_alone: show::left_alone(&planned.left_alone, &names),
            cost_before: planned.cost_before,
            cost_after: planned.cost_after,
            lower_bound: planned.lower_bound,
            as_it_stands: Some(show::outlook(&as_it_stands)),
            as_asked: Some(show::outlook(&planned)),
            drained: show::left_alone(&come_of(&planned, &drained), &names),
            assumed,
        })
    }

    /// The same with word of how it goes; what came of it is told last.
    pub(super) fn told(
        self,
        request: v1::CreatePlanRequest,
    ) -> impl Stream<Item = Result<v1::WatchPlanningResponse, Status>> + Send {
        let (told, heard) = mpsc::channel(MESSAGES_HELD);
        let listener = Listener { told: Some(told), ..Listener::deaf() };
        let answer = Box::pin(async move { self.suppose(request, listener).await });
        stream::unfold(Some((heard, answer)), |waiting| async move {
            let (mut heard, mut answer) = waiting?;
            let message = |told| Ok(v1::WatchPlanningResponse { told: Some(told) });
            tokio::select! {
                biased;
                Some(progress) = heard.recv() => {
                    Some((message(Told::Progress(progress)), Some((heard, answer))))
                }
                planned = &mut answer => match planned {
                    Ok(planned) => Some((message(Told::Planned(planned)), None)),
                    Err(refused) => Some((Err(refused), None)),
                },
            }
        })
    }

    async fn ground(
        &self,
        at: Option<&At>,
        listener: &Listener,
    ) -> Result<Option<Arc<Ground>>, Status> {
        let Some(at) = at else { return Ok(None) };
        let told = |number, of| listener.hears(&format!("reading window {number} of {of}"), None);
        let ground = self.steering.ground(at, told).await.map_err(refusal::steering)?;
        Ok(Some(Arc::new(ground)))
    }
}

fn asked(request: &v1::CreatePlanRequest, present: &Policy) -> Result<Asked, Status> {
    let budget = Duration::from_millis(request.budget_ms);
    if budget > LONGEST_BUDGET {
        let most = LONGEST_BUDGET.as_millis();
        return Err(bad_field(
            "budget_ms",
            format_args!("is {}; write {most} at most", request.budget_ms),
        ));
    }
    Ok(Asked {
        policy: toml_text::amended(present, &request.policy_toml)?,
        budget: Some(budget).filter(|budget| !budget.is_zero()),
        at: at(&request.window)?,
        added: request.add.iter().map(addition).collect::<Result<_, _>>()?,
    })
}

/// An id may look like a time, but those of windows do not.
fn at(text: &str) -> Result<Option<At>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        let ms = u64::try_from(time.as_millisecond()).unwrap_or_default();
        return Ok(Some(At::Time(Timestamp::from_millis(ms))));
    }
    let remedy =
        "write an id that `sinterctl windows` lists, or a time such as 2026-01-31T12:00:00Z";
    let id =
        text.parse().map_err(|cause| bad_field("window", format_args!("{cause}; {remedy}")))?;
    Ok(Some(At::Window(id)))
}

fn addition(machine: &v1::SupposedMachine) -> Result<Addition, Status> {
    let host = Some(machine.host.as_str()).filter(|host| !host.is_empty());
    let host: Option<HostId> = host
        .map(str::parse)
        .transpose()
        .map_err(|cause| bad_field("add", format_args!("host of {}: {cause}", machine.name)))?;
    Ok(Addition {
        name: machine.name.clone(),
        cpu: Millicores(machine.cpu_millicores),
        memory: Bytes(machine.memory_bytes),
        host,
        labels: machine.labels.iter().cloned().collect(),
    })
}

fn names_of(inventory: &Inventory) -> BTreeMap<VmId, String> {
    let machines = inventory.machines.iter();
    machines.map(|(vm, machine)| (vm.clone(), machine.name.clone())).collect()
}

/// The machines that a caller means by their uuids or names, or by those of their hosts.
fn machines_of(
    names: &BTreeMap<VmId, String>,
    inventory: &Inventory,
    texts: &[String],
) -> Result<BTreeSet<VmId>, Status> {
    let mut machines = BTreeSet::new();
    for text in texts {
        let mut hosts = inventory.hosts.values();
        let Some(host) = hosts.find(|host| host.id.as_str() == text || host.name == *text) else {
            machines.insert(found(names, text)?);
            continue;
        };
        let there = inventory.machines.iter().filter(|(_, machine)| machine.host == host.id);
        machines.extend(there.map(|(vm, _)| vm.clone()));
    }
    Ok(machines)
}

/// What comes of machines that were to be emptied.
fn come_of(planned: &Planned, drained: &BTreeSet<VmId>) -> BTreeMap<VmId, String> {
    let told = drained.iter().map(|vm| {
        let of = planned.plans.iter().find(|plan| plan.moves.iter().any(|m| m.from == *vm));
        let summary = of.map(|plan| plan.summary.clone());
        let reason = summary.or_else(|| planned.left_alone.get(vm).cloned());
        (vm.clone(), reason.unwrap_or_else(|| "another plan touches it first".to_owned()))
    });
    told.collect()
}
