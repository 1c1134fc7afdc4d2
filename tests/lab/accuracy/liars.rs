//! What liars bring about: six ways of lying, by one machine, by one in twenty and by one in five, alone
//! and in pairs that agree. A lie may cost savings; it must not bring about what does harm.

use std::collections::BTreeMap;

use aggregator::{
    inference::{Findings, Opportunity, Standing},
    policy::Policy,
};
use common::id::VmId;

use super::{fleet, policy, predicates::has_room};
use crate::{
    figure::{Row, Target},
    fleet::{Fleet, Lie, Machine, Shape, found::findings, joined::swing, samples::watch},
};

/// Below this one in twenty is a handful, and each a large share of what could be gained.
const FEWEST: usize = 200;
/// Up to this many machines each way of lying has a fleet to itself; in larger ones they are mixed.
const MOST_OF_EACH: usize = 200;

/// How many lie.
#[derive(Debug, Clone, Copy)]
struct Many {
    name: &'static str,
    one_in: usize,
    in_pairs: bool,
    /// Share of what is proposed that may do harm.
    harm: f64,
    /// Share of what could be gained that may be lost; `None` where that is only told.
    lost: Option<f64>,
    /// Whether none of them may be a candidate.
    held_out: bool,
    /// The ways in which they lie.
    ways: &'static [(Lie, &'static str)],
}

const ONE: usize = usize::MAX;
/// With so many liars an honest machine may stand between two of them.
const A_FIFTH: usize = 5;
/// By themselves and one at a time they must all be held out; who finds a partner may be believed.
const ALONE: Many = Many {
    name: "one liar",
    one_in: ONE,
    in_pairs: false,
    harm: 0.0,
    lost: None,
    held_out: true,
    ways: &Lie::ALL,
};
const IN_PAIRS: Many = Many { name: "one pair of liars", in_pairs: true, held_out: false, ..ALONE };
const MANY: [Many; 7] = [
    ALONE,
    Many { name: "5 % liars", one_in: 20, lost: Some(0.10), ..ALONE },
    Many { name: "20 % liars", one_in: A_FIFTH, harm: 0.01, ..ALONE },
    IN_PAIRS,
    Many { name: "5 % liars in pairs", one_in: 20, harm: 0.01, lost: Some(0.10), ..IN_PAIRS },
    Many { name: "20 % liars in pairs", one_in: A_FIFTH, harm: 0.01, ..IN_PAIRS },
    Many { name: "5 % liars as only two can", one_in: 20, ways: &Lie::BY_TWO, ..IN_PAIRS },
];

/// What came of some liars.
#[derive(Debug, Default)]
struct Outcome {
    liars: usize,
    candidates: usize,
    /// Of them, by way of lying.
    by_way: BTreeMap<&'static str, usize>,
    accused: usize,
    honest: usize,
    proposed: usize,
    harmful: usize,
    /// Share of what could be gained that was lost, the most of all fleets.
    lost: f64,
}

/// All rows of a fleet of that size.
pub(super) fn measure(machines: usize) -> Vec<Row> {
    if machines < FEWEST {
        return Vec::new();
    }
    let shape = |shape| Shape { noisy: 0.2, lossy: (0.05, 0.15), idle: 0.03, ..shape };
    let fleet = fleet(machines, shape);
    let policy = policy();
    let nobody = found(&fleet, &policy);
    let mut rows = Vec::new();
    for many in MANY {
        let mut outcome = Outcome::default();
        for ways in ways(machines, many.ways) {
            let each = if many.in_pairs { 2 } else { 1 };
            let liars = (machines / many.one_in).max(1).next_multiple_of(each);
            let lying = fleet.clone().with_liars(liars, many.in_pairs, &ways);
            outcome.take(&lying, &found(&lying, &policy), &nobody);
        }
        rows.extend(outcome.rows(&format!("{}, {machines} machines", many.name), &many));
    }
    rows
}

fn ways(machines: usize, of: &[(Lie, &str)]) -> Vec<Vec<Lie>> {
    let all = of.iter().map(|(lie, _)| *lie);
    if machines > MOST_OF_EACH { vec![all.collect()] } else { all.map(|lie| vec![lie]).collect() }
}

fn found(fleet: &Fleet, policy: &Policy) -> Findings {
    findings(&watch(fleet, policy, 3).windows, &fleet.catalogue(), policy)
}

impl Outcome {
    fn take(&mut self, fleet: &Fleet, found: &Findings, nobody: &Findings) {
        let by_vm: BTreeMap<&VmId, usize> = fleet
            .machines
            .iter()
            .enumerate()
            .map(|(index, machine)| (&machine.vm, index))
            .collect();
        for (vm, standing) in &found.machines {
            let Some(index) = by_vm.get(vm).copied() else { continue };
            let machine = &fleet.machines[index];
            match machine.lie {
                Some(lie) => {
                    self.liars += 1;
                    self.candidates += usize::from(standing.candidate.holds);
                    let name = Lie::ALL.iter().chain(&Lie::BY_TWO).find(|(known, _)| *known == lie);
                    if let Some((_, name)) = name.filter(|_| standing.candidate.holds) {
                        *self.by_way.entry(name).or_default() += 1;
                    }
                }
                None => {
                    self.honest += 1;
                    self.accused += usize::from(standing.testimony.doubted);
                }
            }
            let proposed = proposed(standing);
            self.proposed += proposed.len();
            self.harmful += proposed.iter().filter(|one| does_harm(fleet, index, one)).count();
        }
        let sum = |found: &Findings| {
            found.machines.values().map(|one| proposed(one).len()).sum::<usize>()
        };
        let (now, before) = (sum(found) as f64, sum(nobody) as f64);
        self.lost = self.lost.max(1.0 - now / before.max(1.0));
    }

    fn rows(&self, what: &str, many: &Many) -> Vec<Row> {
        let row = |name: String, value: f64, unit| Row::new(format!("{what}: {name}"), value, unit);
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let ways: Vec<String> =
            self.by_way.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let told = if ways.is_empty() { String::new() } else { format!(" ({})", ways.join(", ")) };
        let candidates = row(
            format!("candidates among {} liars{told}", self.liars),
            self.candidates as f64,
            "-",
        );
        let harm = row(
            "share of what is proposed that does harm".to_owned(),
            share(self.harmful, self.proposed),
            "share",
        );
        let accused =
            row(format!("of {} honest machines accused", self.honest), self.accused as f64, "-");
        let lost = row("gains lost, at most".to_owned(), self.lost * 100.0, "%");
        vec![
            if many.held_out { candidates.held_to(Target::AtMost(0.0)) } else { candidates },
            harm.held_to(Target::AtMost(many.harm)),
            if many.one_in > A_FIFTH { accused.held_to(Target::AtMost(0.0)) } else { accused },
            match many.lost {
                Some(most) => lost.held_to(Target::AtMost(most * 100.0)),
                None => lost,
            },
        ]
    }
}

fn proposed(standing: &Standing) -> &[Opportunity] {
    if standing.candidate.holds { &standing.opportunities } else { &[] }
}

/// Whether what is proposed takes away what is needed, or adds where there is no room.
fn does_harm(fleet: &Fleet, index: usize, proposed: &Opportunity) -> bool {
    let machine = &fleet.machines[index];
    match proposed {
        Opportunity::MixUp { .. } => !has_room(machine),
        Opportunity::MixDown { application, .. } => fleet.links.iter().any(|link| {
            link.server.machine == index && fleet.application(link.server).name == *application
        }),
        Opportunity::Shrink { to } => {
            let (cpu, memory) = needs(machine);
            to.cpu.is_some_and(|given| (given.0 as f64) < cpu)
                || to.memory.is_some_and(|given| given.0 < memory)
        }
    }
}

/// CPU and memory that a machine truly uses while it is watched.
fn needs(machine: &Machine) -> (f64, u64) {
    let at = crate::fleet::BEGIN;
    let cpu = machine.applications.iter().map(|one| one.cpu.0 as f64 * swing(one, at)).sum();
    (cpu, machine.applications.iter().map(|one| one.memory.0).sum())
}
