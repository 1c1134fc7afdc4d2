//! Holds what is live against what was before: the windows that follow a promotion against the
//! rates that were served until then.
//!
//! A window counts if the agents of all machines that the plan touched were heard in it. Once
//! enough windows count, the new mix is kept or has failed. What is wrong for certain, such as an
//! application that does not run in its new place, fails at once. When three times as many windows
//! have passed and still not enough count, it is unproven: the plan is led back, for what nobody
//! can see working must not stay.

mod predicted;
mod served;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
};

use self::served::held;
pub use self::{
    predicted::{compared, predicted},
    served::baseline,
};
use crate::{
    inference::{self, Context, Demand, Findings},
    join::{Joined, JoinedMachine},
    journal::{Measurement, Served},
    plan::{Plan, Step},
    policy::Verdict,
    trial::Judgement,
};

/// As many times the windows that are needed may pass before an audit is unproven.
const MOST_TIMES: usize = 3;

/// One audit, while it goes on.
#[derive(Debug)]
pub struct Audit<'a> {
    plan: &'a Plan,
    /// What was served before.
    served: &'a [Served],
    /// When the new mix was live.
    since: Timestamp,
    /// The windows that count, oldest first.
    held: Vec<Joined>,
    /// End of the last window that was looked at.
    until: Timestamp,
    passed: usize,
    wrong: Vec<Measurement>,
}

impl<'a> Audit<'a> {
    /// Of a plan whose new mix is live since `since`.
    #[must_use]
    pub const fn new(plan: &'a Plan, served: &'a [Served], since: Timestamp) -> Self {
        Self { plan, served, since, held: Vec::new(), until: since, passed: 0, wrong: Vec::new() }
    }

    /// Takes a window in; one that began before the new mix was live, or is known, says nothing.
    pub fn take(&mut self, window: &Joined, coverage_minimum: f64) {
        if window.from < self.since || window.to <= self.until {
            return;
        }
        self.until = window.to;
        self.passed += 1;
        let live = live_machines(self.plan);
        let machine = |vm: &VmId| window.machines.get(vm);
        let is_heard =
            |vm| machine(vm).is_some_and(|m| m.mix.is_some() && m.coverage >= coverage_minimum);
        if !live.iter().all(is_heard) {
            return;
        }
        self.held.push(window.clone());
        for (vm, wanted) in wanted(self.plan) {
            if let Some(machine) = machine(&vm) {
                self.wrong.extend(wrong(&vm, machine, &wanted));
            }
        }
    }

    /// What there is to say; `None` while it goes on.
    #[must_use]
    pub fn judgement(&self, context: &Context<'_>) -> Option<Judgement> {
        if !self.wrong.is_empty() {
            return Some(Judgement::of(self.wrong.clone(), Vec::new()));
        }
        let needed = context.policy.audit_windows;
        let is_last = self.passed >= needed * MOST_TIMES;
        if self.held.len() < needed {
            return is_last.then(|| self.unproven(needed));
        }
        let windows = &self.held;
        let findings = inference::infer(windows, context);
        let watched: Duration = windows.iter().map(|window| window.to.since(window.from)).sum();
        let longest = watched.mul_f64(ratio(needed * MOST_TIMES, windows.len()));
        let (mut measurements, is_open) =
            held(self.served, &findings, (watched, longest), context.policy.audit_tolerance);
        if is_open && !is_last {
            return None;
        }
        measurements.insert(0, self.healthy());
        let judgement =
            Judgement::of(measurements, vec![format!("{} windows held", self.held.len())]);
        Some(Judgement { used: self.used(&findings), ..judgement })
    }

    /// What each application used where it runs now; one that runs on several machines is left out, for
    /// nobody can say which of them was predicted.
    fn used(&self, findings: &Findings) -> BTreeMap<AppName, Demand> {
        let mut used = BTreeMap::new();
        let mut elsewhere = BTreeSet::new();
        for (vm, wanted) in wanted(self.plan) {
            let Some(standing) = findings.machines.get(&vm) else { continue };
            // What a liar says of its use would change the mix of the same application everywhere.
            if !standing.trusted.holds || standing.testimony.doubted {
                continue;
            }
            for (name, need) in standing.needs.iter().filter(|(name, _)| wanted.contains(*name)) {
                let cpu = need.cpu_95.unwrap_or(need.cpu_peak);
                let memory = need.working_set_peak.unwrap_or(need.memory_peak);
                if used.insert(name.clone(), Demand { cpu, memory }).is_some() {
                    elsewhere.insert(name.clone());
                }
            }
        }
        used.retain(|name, _| !elsewhere.contains(name));
        used
    }

    fn unproven(&self, needed: usize) -> Judgement {
        let (held, passed) = (self.held.len(), self.passed);
        let reason = format!(
            "the agents of all machines were heard in {held} of {passed} windows, {needed} are needed"
        );
        let measurements = vec![Measurement {
            name: "applications that run in their new place and are healthy".into(),
            value: None,
            unit: String::new(),
            threshold: format!("all, in {needed} windows"),
            passed: false,
        }];
        let reasons = vec![reason];
        Judgement { verdict: Verdict::Unproven, reasons, measurements, used: BTreeMap::new() }
    }

    fn healthy(&self) -> Measurement {
        let count: usize = wanted(self.plan).iter().map(|(_, wanted)| wanted.len()).sum();
        Measurement {
            name: "applications that run in their new place and are healthy".into(),
            value: Some(ratio(count, 1)),
            unit: String::new(),
            threshold: format!("all {count}, in every window"),
            passed: true,
        }
    }
}

/// What is wrong in a window for certain.
fn wrong(vm: &VmId, machine: &JoinedMachine, wanted: &BTreeSet<AppName>) -> Vec<Measurement> {
    let name = if machine.name.is_empty() { vm.as_str() } else { machine.name.as_str() };
    let mut wrong = Vec::new();
    for application in wanted {
        let runs = machine.mix.as_ref().is_some_and(|m| m.applications.0.contains_key(application));
        let is_healthy = machine.mix.as_ref().is_some_and(|m| m.healthy.contains(application));
        if !(runs && is_healthy) {
            let how = if runs { "is healthy" } else { "runs" };
            wrong.push(failed(format!("{application} {how} on {name}"), 0.0, "", "1"));
        }
    }
    if let Some(killed) = machine.out_of_memory.filter(|killed| *killed > 0) {
        let killed = usize::try_from(killed).unwrap_or(usize::MAX);
        let what = format!("killed for want of memory on {name}");
        wrong.push(failed(what, ratio(killed, 1), "times", "0"));
    }
    wrong
}

fn failed(name: String, value: f64, unit: &str, threshold: &str) -> Measurement {
    let (unit, threshold) = (unit.into(), threshold.into());
    Measurement { name, value: Some(value), unit, threshold, passed: false }
}

/// The machines that the plan changed and that still run. After a swap the clone is the machine.
fn live_machines(plan: &Plan) -> BTreeSet<VmId> {
    wanted(plan).into_iter().map(|(vm, _)| vm).collect()
}

/// What shall run where now.
fn wanted(plan: &Plan) -> Vec<(VmId, BTreeSet<AppName>)> {
    let swapped = plan.steps.iter().find_map(|step| match step {
        Step::Swap { source, clone } => Some((source, clone)),
        _ => None,
    });
    let live = plan.changes.iter().filter(|(_, change)| !change.retired);
    live.map(|(vm, change)| {
        let place = swapped.filter(|(source, _)| *source == vm).map_or(vm, |(_, clone)| clone);
        (place.clone(), change.mix_after.0.keys().cloned().collect())
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "windows and applications are few")]
fn ratio(of: usize, by: usize) -> f64 {
    of as f64 / by.max(1) as f64
}
