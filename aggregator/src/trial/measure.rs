//! The figures of a trial, and what each is held against. Unknown is `None`, never zero.

use std::collections::BTreeMap;

use common::{
    id::AppName,
    mix::ApplicationMix,
    units::{Millicores, figure},
};

use super::Judgement;
use crate::{
    assembly::names,
    guest::LastSeen,
    hypervisor::{Allocation, ProbeOrder, ProbeResult, Telemetry},
    inference::Demand,
    journal::Measurement,
    policy::Policy,
};

/// All that a trial saw.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) asked: &'a ProbeOrder,
    pub(super) results: Vec<ProbeResult>,
    /// The clone by its agent, before and after.
    pub(super) guest: (Option<LastSeen>, Option<LastSeen>),
    /// The clone by the hypervisor, before and after.
    pub(super) outside: (Option<Telemetry>, Option<Telemetry>),
    pub(super) given: Allocation,
    pub(super) baseline: Allocation,
    /// What it should run; `None` for whatever it runs.
    pub(super) mix: Option<ApplicationMix>,
}

impl Seen<'_> {
    pub(super) fn judge(&self, policy: &Policy) -> Judgement {
        let mut measurements = Vec::new();
        let mut notes = Vec::new();
        self.answers(policy, &mut measurements, &mut notes);
        self.applications(&mut measurements, &mut notes);
        self.use_of_what_is_given(policy, &mut measurements);
        self.never_more_than_before(&mut measurements);
        self.killed(&mut measurements, &mut notes);
        Judgement { used: self.used(), ..Judgement::of(measurements, notes) }
    }

    /// What each application of the clone used, by its agent: CPU on average over the trial, and the
    /// memory it works with.
    fn used(&self) -> BTreeMap<AppName, Demand> {
        let (Some(before), Some(after)) = &self.guest else { return BTreeMap::new() };
        let span = after.received_at.since(before.received_at).as_millis();
        let span = u64::try_from(span).unwrap_or(u64::MAX);
        if span < SHORTEST_MS {
            return BTreeMap::new();
        }
        let former = &before.observation.applications;
        let each = after.observation.applications.iter().filter_map(|(name, now)| {
            let used = now.cpu_ms.checked_sub(former.get(name)?.cpu_ms)?;
            let cpu = Millicores(used.saturating_mul(1000) / span);
            Some((name.clone(), Demand { cpu, memory: now.working_set.unwrap_or(now.resident) }))
        });
        each.collect()
    }

    fn answers(&self, policy: &Policy, into: &mut Vec<Measurement>, notes: &mut Vec<String>) {
        for target in &self.asked.targets {
            let result = self.results.iter().find(|result| result.target == *target);
            let asked = result.filter(|result| result.attempts > 0);
            let share = asked.map(|asked| 100.0 * ratio(asked.successes, asked.attempts));
            let least = 100.0 * policy.trial_success_minimum;
            into.push(Measurement {
                name: format!("requests answered at {}", target.address),
                value: share,
                unit: "%".into(),
                threshold: format!("at least {}", shown(least)),
                passed: share.is_some_and(|share| share >= least),
            });
            for (what, count) in asked.into_iter().flat_map(|asked| &asked.failures) {
                notes.push(format!("{}: {count} requests {what}", target.address));
            }
            let p95 = asked.and_then(|asked| asked.p95_us).map(|p95| ratio(p95, 1000));
            let most = ratio(policy.trial_latency_ms, 1);
            // Without a success there is no time to speak of; the share above has failed by then.
            let answered = asked.is_none_or(|asked| asked.successes > 0);
            if answered {
                into.push(Measurement {
                    name: format!("95th percentile of the time to answer at {}", target.address),
                    value: p95,
                    unit: "ms".into(),
                    threshold: format!("at most {}", shown(most)),
                    passed: p95.is_some_and(|p95| p95 <= most),
                });
            }
        }
    }

    fn applications(&self, into: &mut Vec<Measurement>, notes: &mut Vec<String>) {
        let present = self.guest.1.as_ref().map(|seen| &seen.observation.mix);
        if let (Some(present), Some(wanted)) = (present, &self.mix) {
            let is_right = present.applications == *wanted;
            if !is_right {
                let runs = names(&present.applications);
                notes.push(format!("the clone runs {runs}, not {}", names(wanted)));
            }
            into.push(Measurement {
                name: "the clone runs the new mix".into(),
                value: Some(if is_right { 1.0 } else { 0.0 }),
                unit: String::new(),
                threshold: "1".into(),
                passed: is_right,
            });
        }
        let sick = present.map(|present| {
            let all = present.applications.0.keys();
            let sick = all.filter(|name| !present.healthy.contains(*name));
            sick.map(ToString::to_string).collect::<Vec<_>>()
        });
        if let Some(sick) = sick.as_ref().filter(|sick| !sick.is_empty()) {
            notes.push(format!("not healthy: {}", sick.join(", ")));
        }
        let count = sick.map(|sick| ratio(sick.len() as u64, 1));
        into.push(Measurement {
            name: "applications of the clone that are not healthy".into(),
            value: count,
            unit: String::new(),
            threshold: "0".into(),
            passed: count == Some(0.0),
        });
    }

    fn use_of_what_is_given(&self, policy: &Policy, into: &mut Vec<Measurement>) {
        let most = 100.0 * policy.trial_use_maximum;
        let figures = [("CPU used", self.cpu_share()), ("memory used", self.memory_share())];
        for (name, share) in figures {
            into.push(Measurement {
                name: format!("{name} of what the clone is given"),
                value: share,
                unit: "%".into(),
                threshold: format!("at most {}", shown(most)),
                passed: share.is_some_and(|share| share <= most),
            });
        }
    }

    /// The larger of what guest and hypervisor say.
    fn cpu_share(&self) -> Option<f64> {
        let counters = |seen: &LastSeen| (seen.received_at, seen.observation.counters.cpu_busy_ms);
        let outside = |seen: &Telemetry| (seen.taken_at, seen.cpu_ms);
        let used = [
            self.guest.0.as_ref().map(counters).zip(self.guest.1.as_ref().map(counters)),
            self.outside.0.as_ref().map(outside).zip(self.outside.1.as_ref().map(outside)),
        ];
        let millicores = used.into_iter().flatten().filter_map(|((from, was), (to, is))| {
            let used = is?.checked_sub(was?)?;
            let span = u64::try_from(to.since(from).as_millis()).ok()?;
            // Counters tick in hundredths of a second: over less than that they say nothing.
            (span >= SHORTEST_MS).then(|| 1000.0 * ratio(used, span))
        });
        let most =
            millicores.fold(None, |most: Option<f64>, next| Some(most.unwrap_or(0.0).max(next)));
        let cores = self.guest.1.as_ref().and_then(|seen| seen.observation.counters.cpus);
        let given = self.given.cpu.map(|cpu| cpu.0).or(cores.map(|cores| u64::from(cores) * 1000));
        let given = given.filter(|given| *given > 0)?;
        Some(100.0 * most? / ratio(given, 1))
    }

    /// The larger of what guest and hypervisor say.
    fn memory_share(&self) -> Option<f64> {
        let counters = self.guest.1.as_ref().map(|seen| &seen.observation.counters);
        let total = counters.and_then(|counters| counters.memory_total);
        let available = counters.and_then(|counters| counters.memory_available);
        let inside = total.zip(available).map(|(all, free)| all.0.saturating_sub(free.0));
        let outside = self.outside.1.and_then(|seen| seen.memory_used).map(|used| used.0);
        let given = self.given.memory.or(total).filter(|given| given.0 > 0)?;
        Some(100.0 * ratio(inside.max(outside)?, given.0))
    }

    /// It must do without anything more from the hypervisor.
    fn never_more_than_before(&self, into: &mut Vec<Measurement>) {
        let (given, before) = (&self.given, &self.baseline);
        let cpu = (given.cpu.map(|cpu| cpu.0), before.cpu.map(|cpu| cpu.0));
        let memory = (given.memory.map(|memory| memory.0), before.memory.map(|memory| memory.0));
        for (name, unit, (given, before)) in
            [("CPU", "millicores", cpu), ("memory", "bytes", memory)]
        {
            let Some(before) = before else { continue };
            into.push(Measurement {
                name: format!("{name} given to the clone"),
                value: given.map(|given| ratio(given, 1)),
                unit: unit.into(),
                threshold: format!(
                    "at most {}, what its source has",
                    figure(ratio(before, 1), unit)
                ),
                passed: given.is_some_and(|given| given <= before),
            });
        }
    }

    fn killed(&self, into: &mut Vec<Measurement>, notes: &mut Vec<String>) {
        let outside = |seen: Option<Telemetry>| seen.and_then(|seen| seen.out_of_memory);
        let guest = |seen: &Option<LastSeen>| {
            seen.as_ref().and_then(|seen| seen.observation.counters.out_of_memory_kills)
        };
        // Most hypervisors do not know; the guest's own kernel does.
        let (before, after) = match outside(self.outside.1) {
            Some(after) => (outside(self.outside.0), Some(after)),
            None => (guest(&self.guest.0), guest(&self.guest.1)),
        };
        let Some(after) = after else {
            notes.push("whether anything was killed for want of memory is not known".into());
            return;
        };
        let killed = after.saturating_sub(before.unwrap_or(0));
        into.push(Measurement {
            name: "killed for want of memory".into(),
            value: Some(ratio(killed, 1)),
            unit: "times".into(),
            threshold: "0".into(),
            passed: killed == 0,
        });
    }
}

/// Below this counters of CPU time are too coarse.
const SHORTEST_MS: u64 = 100;

#[expect(clippy::cast_precision_loss, reason = "figures for people and thresholds")]
pub(super) fn ratio(of: u64, by: u64) -> f64 {
    of as f64 / by.max(1) as f64
}

/// A figure with no more digits than anybody reads.
pub(crate) fn shown(value: f64) -> String {
    if (value - value.round()).abs() < 0.005 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
