//! Promises that hold whatever rules an operator writes, held against a checker that knows the rules
//! and none of the planning.

use std::cell::Cell;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

const GUESTS: [&str; 6] = ["web-1", "api-1", "store-1", "report-1", "idle-1", "lingering-1"];
const NAMES: [&str; 5] = ["web", "api", "store", "report", "mailer"];

/// What an operator wrote, and what the machines are.
#[derive(Debug, Clone)]
struct Rules {
    apart: Vec<Vec<&'static str>>,
    together: bool,
    pins: Option<Vec<&'static str>>,
    closed: Vec<&'static str>,
    licensed: Vec<&'static str>,
    arm: Vec<&'static str>,
    own: Option<&'static str>,
    floor_mib: u64,
    at_once: usize,
}

fn some(most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(GUESTS.to_vec(), 0..=most)
}

fn rules() -> impl Strategy<Value = Rules> {
    let apart = vec(subsequence(NAMES.to_vec(), 2..=3), 0..2);
    let pins = prop::option::weighted(0.3, subsequence(GUESTS.to_vec(), 1..=3));
    let own = prop::option::weighted(0.3, select(GUESTS.to_vec()));
    let words = (apart, proptest::bool::ANY, pins, some(2), some(2), some(2), own);
    (words, 0..200_u64, 1..4_usize).prop_map(|(words, floor_mib, at_once)| {
        let (apart, together, pins, closed, licensed, arm, own) = words;
        Rules { apart, together, pins, closed, licensed, arm, own, floor_mib, at_once }
    })
}

impl Rules {
    fn around(&self) -> Around {
        let (mut around, _) = with_mailer();
        let policy = &mut around.policy;
        policy.plans_at_once = self.at_once;
        policy.keep_apart = self.apart.iter().map(|names| set(names)).collect();
        let is_apart = |set: &BTreeSet<AppName>| {
            set.contains(&name("mailer")) && set.contains(&name("report"))
        };
        if self.together && !policy.keep_apart.iter().any(is_apart) {
            policy.keep_together = vec![set(&["mailer", "report"])];
        }
        if let Some(pins) = &self.pins {
            let machines = pins.iter().map(|guest| vm(guest).to_string()).collect();
            policy.pins = [(name("report"), machines)].into();
        }
        policy.check().expect("the rules agree with each other");
        around
    }

    fn labels(&self, guest: &str) -> BTreeSet<String> {
        let words = [(&self.closed, "sinter:closed"), (&self.licensed, "licence=x")];
        let borne = words.iter().filter(|(guests, _)| guests.contains(&guest));
        borne.map(|(_, label)| (*label).to_owned()).collect()
    }

    fn planned(&self, around: &Around, findings: &Findings, fleet: &Fleet) -> Planned {
        let (mut findings, mut inventory) = (findings.clone(), fleet.inventory());
        for guest in GUESTS {
            if let Some(standing) = findings.machines.get_mut(&vm(guest)) {
                let is_arm = self.arm.contains(&guest);
                standing.architecture = Some(if is_arm { "arm" } else { "x86" }.to_owned());
                if let Some(mix) = standing.mixes.get_mut(&name("report")) {
                    mix.memory_floor = Some(Bytes::mebi(self.floor_mib).0);
                }
            }
            inventory.machines.get_mut(&vm(guest)).unwrap().labels = self.labels(guest);
        }
        let own = self.own.iter().map(|guest| vm(guest)).collect();
        plan(&Situation {
            now: at(31),
            findings: &findings,
            inventory: &inventory,
            catalogue: &around.catalogue,
            policy: &around.policy,
            scope: &around.scope,
            busy: &around.busy,
            restraint: &Restraint { own, ..Restraint::default() },
        })
    }

    /// The rule that a plan breaks.
    fn broken(&self, around: &Around, plan: &Plan) -> Option<String> {
        let is = |guests: &[&str], of: &VmId| guests.iter().any(|guest| vm(guest) == *of);
        let own: Vec<&str> = self.own.into_iter().collect();
        if let Some(touched) = plan.changes.keys().find(|touched| is(&own, touched)) {
            return Some(format!("touches {touched}, which the aggregator runs on"));
        }
        for Move { application, from, to } in &plan.moves {
            let told = |rule: &str| Some(format!("{application} goes to {to}: {rule}"));
            if is(&self.closed, to) {
                return told("closed");
            }
            if is(&self.licensed, from) && !is(&self.licensed, to) {
                return told("licence");
            }
            if is(&self.arm, from) != is(&self.arm, to) {
                return told("architecture");
            }
            let pins = self.pins.iter().filter(|_| *application == name("report"));
            if pins.into_iter().any(|pins| !is(pins, to)) {
                return told("pinned elsewhere");
            }
            let there = &plan.changes[to].mix_after.0;
            let meets = |set: &BTreeSet<AppName>| {
                set.contains(application)
                    && set.iter().filter(|n| there.contains_key(n)).count() > 1
            };
            if around.policy.keep_apart.iter().any(meets) {
                return told("kept apart");
            }
            let left = &plan.changes[from].mix_before.0;
            let bound = around.policy.keep_together.iter().filter(|set| set.contains(application));
            let mut others = bound.flatten().filter(|other| left.contains_key(other));
            if others
                .any(|other| !plan.moves.iter().any(|m| m.application == *other && m.to == *to))
            {
                return told("parted from what it goes with");
            }
            let memory = around.policy.headroom.mul_add(-256.0, 256.0);
            if *application == name("report") && self.floor_mib as f64 > memory {
                return told("no room for what it once had too little of");
            }
        }
        None
    }
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn no_plan_breaks_a_rule_and_the_same_rules_give_the_same_plans() {
    let (around, fleet) = with_mailer();
    let findings = around.infer(&fleet.joined(3));
    let (moved, refused) = (Cell::new(0), Cell::new(0));
    let kept = runner(150).run(&rules(), |rules| {
        let around = rules.around();
        let planned = rules.planned(&around, &findings, &fleet);
        for plan in &planned.plans {
            prop_assert_eq!(rules.broken(&around, plan), None);
            moved.set(moved.get() + plan.moves.len());
        }
        refused.set(refused.get() + usize::from(planned.plans.is_empty()));
        prop_assert!(planned.cost_after <= planned.cost_before + 1e-9);
        prop_assert!(planned.lower_bound <= planned.cost_of_target + 1e-9);
        prop_assert_eq!(&planned, &rules.planned(&around, &findings, &fleet));
        Ok(())
    });
    kept.unwrap();
    assert!(
        moved.get() > 30 && refused.get() > 5,
        "{} moved, {} refused",
        moved.get(),
        refused.get()
    );
}

/// The fleet once a plan is carried out.
fn carried_out(fleet: &Fleet, plan: &Plan) -> Fleet {
    let mut after = fleet.clone();
    let named = |of: &VmId| GUESTS.into_iter().find(|guest| vm(guest) == *of).unwrap();
    for moved in &plan.moves {
        let apps = &mut after.guest(named(&moved.from)).apps;
        let at = apps.iter().position(|app| name(app.name) == moved.application).unwrap();
        let app = apps.remove(at);
        after.guest(named(&moved.to)).apps.push(app);
    }
    for (machine, _) in plan.changes.iter().filter(|(_, change)| change.retired) {
        after.guest(named(machine)).power = Power::Off;
    }
    after
}

#[test]
fn what_was_carried_out_is_not_proposed_again_nor_taken_back_and_there_is_an_end() {
    let (_, fleet) = with_mailer();
    let rounds = Cell::new(0);
    let kept = runner(12).run(&rules(), |rules| {
        let around = rules.around();
        let (mut present, mut done) = (fleet.clone(), Vec::new());
        for round in 0.. {
            let findings = around.infer(&present.joined(3));
            let planned = rules.planned(&around, &findings, &present);
            let Some(plan) = planned.plans.first() else { break };
            prop_assert!(round < GUESTS.len(), "each plan stops a machine");
            for Move { application, from, to } in &plan.moves {
                let (way, back) = ((application, from, to), (application, to, from));
                let is_known = |(app, one, other): &(AppName, VmId, VmId)| {
                    [way, back].contains(&(app, one, other))
                };
                prop_assert!(!done.iter().any(is_known), "{:?} after {:?}", way, done);
            }
            let moves = plan.moves.iter().cloned();
            done.extend(moves.map(|Move { application, from, to }| (application, from, to)));
            present = carried_out(&present, plan);
            rounds.set(rounds.get() + 1);
        }
        Ok(())
    });
    kept.unwrap();
    assert!(rounds.get() > 3, "{} plans carried out", rounds.get());
}
