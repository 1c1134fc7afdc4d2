//! What planning takes by the size of the fleet: five applications and twenty edges on each machine,
//! whose demand goes over the 24 hours of a day, and any of which may go anywhere.
//!
//! What inference would let go is another figure's; here all of it is let go, for that is the most
//! that planning can be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use aggregator::{
    inference::{
        Claim, Demand, Edge, EdgeKey, Findings, Need, Opportunity, Profile, Rate, Standing,
    },
    plan::{Limits, Planned, Restraint, Situation, cost, plan_within, problem},
    policy::{Policy, Scope},
};
use algorithms::packing::construct::{Heuristic, construct};
use common::{
    clock::Timestamp,
    mix::{ApplicationMix, EffectiveMix, Setup},
    units::{Bytes, Millicores},
};

use crate::{
    figure::{Failure, Row, Target, sizes},
    fleet::{Application, BEGIN, Fleet, Machine, Shape, joined::swing},
    inference::memory::{highest, resident},
};

/// Machines of the fleets.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Applications on each machine.
const APPLICATIONS: usize = 5;
/// Edges for each machine.
const EDGES: usize = 20;
/// The first of the applications' ports; at 65,535 they begin anew.
const FIRST_PORT: u16 = 1_024;
/// Length of an hour.
const HOUR_MS: u64 = 3_600_000;
/// Bytes of a MiB.
const MIB: f64 = (1 << 20) as f64;

/// What one size took.
#[derive(Debug, Clone)]
pub struct Took {
    /// Applications that may move.
    pub applications: usize,
    /// Seconds for planning.
    pub seconds: f64,
    /// Bytes resident at most while it was planned, besides what was there before.
    pub resident: f64,
    /// What was planned.
    pub planned: Planned,
    /// What the fleet costs once it is packed best-fit decreasing, whatever is interrupted for it.
    pub best_fit: Option<f64>,
}

/// Takes the figure.
///
/// # Errors
///
/// If a size is no number, or the kernel does not say what memory is resident.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut before: Option<(usize, f64)> = None;
    for machines in sizes(&SIZES)? {
        let took = of_size(machines)?;
        rows.extend(rows_of(machines, &took));
        if let Some((fewer, seconds)) = before {
            let exponent = (took.seconds / seconds).ln() / (machines as f64 / fewer as f64).ln();
            let name = format!("growth from {fewer} to {machines} machines");
            rows.push(Row::new(name, exponent, "exponent"));
        }
        before = Some((machines, took.seconds));
    }
    Ok(rows)
}

fn rows_of(machines: usize, took: &Took) -> Vec<Row> {
    let Took { applications, seconds, resident, planned, best_fit } = took;
    let of = format!("{machines} machines, {applications} applications, 24 buckets");
    let row = |what: &str, value, unit| Row::new(format!("{of}: {what}"), value, unit);
    let is_held = machines == 1_000;
    let time = row("planned", *seconds, "s");
    let gap = row("above the bound", planned.gap().unwrap_or(0.0) * 100.0, "%");
    let cost = row("cost in the end", planned.cost_of_target, "units");
    let cost = match best_fit {
        Some(best_fit) => {
            cost.beside("best-fit decreasing", *best_fit).held_to(Target::AtMostOfPeer(1.0))
        }
        None => cost,
    };
    vec![
        if is_held { time.held_to(Target::AtMost(10.0)) } else { time },
        row("resident besides", resident / MIB, "MiB"),
        row("cost before", planned.cost_before, "units"),
        cost,
        if is_held { gap.held_to(Target::AtMost(2.0)) } else { gap },
    ]
}

/// Plans for a fleet of that size.
///
/// # Errors
///
/// If the kernel does not say what memory is resident.
pub fn of_size(machines: usize) -> Result<Took, Failure> {
    let fleet = free(Fleet::of(Shape::plain(machines, APPLICATIONS, EDGES)));
    let (catalogue, inventory) = (fleet.catalogue(), fleet.inventory());
    let findings = findings(&fleet);
    let policy = Policy::default();
    let (scope, busy) = (Scope::default(), BTreeSet::new());
    let situation = Situation {
        now: BEGIN,
        findings: &findings,
        inventory: &inventory,
        catalogue: &catalogue,
        policy: &policy,
        scope: &scope,
        busy: &busy,
        restraint: Restraint::NONE,
    };
    let before = resident()?;
    let begun = Instant::now();
    let planned = plan_within(&situation, &Limits::usual(&situation));
    let seconds = begun.elapsed().as_secs_f64();
    let resident = (highest()? - before).max(0.0);
    let needs = findings.machines.values().map(|standing| standing.needs.len());
    let best_fit = best_fit(&situation);
    Ok(Took { applications: needs.sum(), seconds, resident, planned, best_fit })
}

/// A fleet in which room alone says what may go where: no two applications have the same port, as the
/// fleets of other figures do, and the one that watches a machine does not go along.
fn free(mut fleet: Fleet) -> Fleet {
    fleet.links.retain(|link| !link.is_infrastructure);
    let mut port = FIRST_PORT;
    for machine in &mut fleet.machines {
        machine.applications.truncate(APPLICATIONS);
        for application in &mut machine.applications {
            application.port = port;
            port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
    }
    fleet
}

/// What the same problem costs best-fit decreasing; `None` if that finds no place for something.
fn best_fit(situation: &Situation<'_>) -> Option<f64> {
    let (machines, packing) = problem(situation);
    let used: BTreeSet<usize> = construct(&packing, Heuristic::BestFit)?.into_iter().collect();
    let is_gone = |bin: &usize| !packing.stays(*bin) && !used.contains(bin);
    let gone: BTreeSet<_> = (0..packing.bins()).filter(is_gone).map(|bin| &machines[bin]).collect();
    let kept = situation.inventory.machines.iter().filter(|(vm, _)| !gone.contains(vm));
    Some(kept.map(|(_, machine)| cost(situation.policy, &machine.allocation)).sum())
}

/// What would be found of a fleet that was watched for days and lets everything go.
fn findings(fleet: &Fleet) -> Findings {
    let machines = fleet.machines.iter().map(|machine| (machine.vm.clone(), standing(machine)));
    let edges = fleet.links.iter().map(|link| {
        let per_second = link.carries.opened;
        let connections = Rate { per_second, lower: per_second, upper: per_second };
        (fleet.key(link), Edge { connections, ..Edge::default() })
    });
    let edges: BTreeMap<EdgeKey, Edge> = edges.collect();
    Findings {
        window: Some("w-1".parse().unwrap()),
        closed_at: BEGIN,
        machines: machines.collect(),
        edges: edges.into_iter().collect(),
        ..Findings::default()
    }
}

fn standing(machine: &Machine) -> Standing {
    let yes = || Claim { holds: true, reason: "it is let go".to_owned() };
    let needs = machine.applications.iter().map(|of| (of.name.clone(), need(of)));
    let needs: BTreeMap<_, Need> = needs.collect();
    let hours = (0..24).map(|hour| {
        needs.values().filter_map(|need| need.profile).map(|of| of.hours[hour].cpu.0).sum::<u64>()
    });
    let mix = needs.keys().map(|name| (name.clone(), Setup::default()));
    let leave = needs.keys().map(|name| Opportunity::MixDown {
        application: name.clone(),
        reason: "is let go".to_owned(),
    });
    let mix_up = Opportunity::MixUp { cpu_headroom: 0.5, memory_headroom: 0.5 };
    let memory = needs.values().map(|need| need.memory_peak.0).sum();
    let cpu = Some(Millicores(hours.max().unwrap_or(0)));
    let listens = machine.applications.iter().map(|of| (of.name.clone(), [of.port].into()));
    Standing {
        name: machine.name.clone(),
        has_agent: true,
        active: yes(),
        participating: yes(),
        trusted: yes(),
        candidate: yes(),
        opportunities: leave.chain([mix_up]).collect(),
        coverage: 1.0,
        allocation: machine.given,
        cpu_peak: cpu,
        cpu_mean: cpu,
        memory_peak: Some(Bytes(memory)),
        mix: Some(EffectiveMix {
            applications: ApplicationMix(mix.collect()),
            healthy: needs.keys().cloned().collect(),
            ..EffectiveMix::default()
        }),
        listens: listens.collect(),
        group: Some(machine.vm.clone()),
        needs,
        ..Standing::default()
    }
}

fn need(application: &Application) -> Need {
    let mut profile = Profile::default();
    for (hour, demand) in (0..).zip(&mut profile.hours) {
        let at = Timestamp::from_millis(
            BEGIN.as_millis() / HOUR_MS / 24 * 24 * HOUR_MS + hour * HOUR_MS,
        );
        let cpu = Millicores((application.cpu.0 as f64 * swing(application, at)) as u64);
        *demand = Demand { cpu, memory: application.memory };
    }
    let peak = profile.hours.iter().map(|demand| demand.cpu).max().unwrap_or_default();
    Need {
        cpu_mean: application.cpu,
        cpu_peak: peak,
        memory_peak: application.memory,
        profile: Some(profile),
        ..Need::default()
    }
}
