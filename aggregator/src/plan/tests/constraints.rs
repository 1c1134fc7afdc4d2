//! What binds applications to machines, each with the reason that is told.

use super::*;
use crate::{
    hypervisor::{Host, Pool},
    policy::{Maintenance, Permit},
};

type Edit<'e> = &'e dyn Fn(&mut Findings, &mut Inventory, &mut Restraint);

fn edited(around: &Around, fleet: &Fleet, edit: Edit<'_>) -> Planned {
    let mut findings = around.infer(&fleet.joined(3));
    let mut inventory = fleet.inventory();
    let mut restraint = Restraint::default();
    edit(&mut findings, &mut inventory, &mut restraint);
    plan(&Situation {
        now: at(31),
        findings: &findings,
        inventory: &inventory,
        catalogue: &around.catalogue,
        policy: &around.policy,
        scope: &around.scope,
        busy: &around.busy,
        restraint: &restraint,
    })
}

fn told(planned: &Planned, of: &str) -> String {
    planned.left_alone.get(&vm(of)).cloned().unwrap_or_else(|| panic!("{:#?}", planned.plans))
}

fn to(planned: &Planned) -> &VmId {
    assert_eq!(planned.plans.len(), 1, "{:#?}", planned.left_alone);
    &planned.plans[0].moves[0].to
}

fn texts(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// As it is, with some machines on a second host.
fn on_another_host(inventory: &mut Inventory, machines: &[&str]) {
    let other: Host =
        Host { id: "host-2".parse().unwrap(), ..inventory.hosts.values().next().unwrap().clone() };
    for machine in machines {
        inventory.machines.get_mut(&vm(machine)).unwrap().host = other.id.clone();
    }
    inventory.hosts.insert(other.id.clone(), other);
}

const OTHERS: [&str; 5] = ["web-1", "api-1", "store-1", "idle-1", "lingering-1"];

#[test]
fn what_is_kept_apart_does_not_meet_and_the_rule_is_told() {
    let mut around = moves_only();
    around.policy.keep_apart = vec![set(&["api", "report"])];
    let planned = edited(&around, &demonstration(), &|_, _, _| {});
    assert_ne!(to(&planned), &vm("api-1"));
    let rule = "report never shares a machine with api (policy, keep_apart)";
    assert_eq!(planned.plans[0].bound_by, [rule]);

    around.policy.keep_apart = vec![set(&["api", "report", "web", "store"])];
    let closed: Edit<'_> = &|_, inventory, _| {
        for machine in ["idle-1", "lingering-1"] {
            let labels = &mut inventory.machines.get_mut(&vm(machine)).unwrap().labels;
            labels.insert("sinter:closed".to_owned());
        }
    };
    let planned = edited(&around, &demonstration(), closed);
    let reason = told(&planned, "report-1");
    assert!(reason.contains("never share a machine (policy, keep_apart, set 1)"), "{reason}");
}

#[test]
fn what_is_kept_together_goes_to_one_machine_or_stays_as_a_whole() {
    let (mut around, mut fleet) = with_mailer();
    // Either fits beside either, both only where there is room for both.
    for (guest, memory_mib) in [("web-1", 70), ("store-1", 80)] {
        fleet.guest(guest).memory_mib = memory_mib;
    }
    around.policy.keep_together = vec![set(&["mailer", "report"])];
    let planned = edited(&around, &fleet, &|_, _, _| {});
    assert_eq!(planned.plans[0].moves.len(), 2);
    assert!(planned.plans[0].moves.iter().all(|moved| &moved.to == to(&planned)));

    around.catalogue.0.get_mut(&name("mailer")).unwrap().movable = false;
    around.catalogue.0.get_mut(&name("report")).unwrap().movable = true;
    let planned = edited(&around, &fleet, &|_, _, _| {});
    assert!(planned.plans.is_empty());
    let reason = told(&planned, "report-1");
    assert!(reason.contains("mailer stays: it may not move"), "{reason}");
}

#[test]
fn what_is_kept_apart_by_host_stays_on_its_host() {
    let mut around = moves_only();
    around.policy.keep_apart_by_host = vec![set(&["api", "report"])];
    let apart: Edit<'_> = &|_, inventory, _| on_another_host(inventory, &["report-1", "idle-1"]);
    let planned = edited(&around, &demonstration(), apart);
    assert_eq!(to(&planned), &vm("idle-1"), "the only other machine on its host");

    let alone: Edit<'_> = &|_, inventory, _| on_another_host(inventory, &["report-1"]);
    let planned = edited(&around, &demonstration(), alone);
    let reason = told(&planned, "report-1");
    assert!(reason.contains("(policy, keep_apart_by_host, set 1)"), "{reason}");
}

#[test]
fn pins_of_the_policy_and_labels_of_the_vendor_are_kept() {
    let mut around = moves_only();
    around.policy.pins = [(name("report"), texts(&["store-1"]))].into();
    assert_eq!(to(&edited(&around, &demonstration(), &|_, _, _| {})), &vm("store-1"));
    around.policy.pins = [(name("report"), texts(&["elsewhere"]))].into();
    let reason = told(&edited(&around, &demonstration(), &|_, _, _| {}), "report-1");
    assert!(reason.contains("report runs on other machines only (policy, pins)"), "{reason}");

    let mut fleet = demonstration();
    fleet.guest("report-1").labels.push("sinter:pin");
    let reason = told(&edited(&moves_only(), &fleet, &|_, _, _| {}), "report-1");
    assert!(reason.contains("report stays: nothing leaves a machine with the label sinter:pin"));
    let mut fleet = demonstration();
    for guest in OTHERS {
        fleet.guest(guest).labels.push("sinter:closed");
    }
    let reason = told(&edited(&moves_only(), &fleet, &|_, _, _| {}), "report-1");
    assert!(reason.contains("nothing comes to a machine with the label sinter:closed"));
}

#[test]
fn licences_and_platforms_go_only_where_they_are() {
    let mut fleet = demonstration();
    fleet.guest("report-1").labels.push("licence=oracle");
    fleet.guest("web-1").labels.push("licence=oracle");
    assert_eq!(to(&edited(&moves_only(), &fleet, &|_, _, _| {})), &vm("web-1"));

    let mut around = moves_only();
    around.policy.needs_labels = [(name("report"), texts(&["rack=3"]))].into();
    let reason = told(&edited(&around, &demonstration(), &|_, _, _| {}), "report-1");
    assert!(reason.contains("does not bear the label rack=3, which report needs"), "{reason}");

    let arm: Edit<'_> = &|findings, _, _| {
        for (vm, standing) in &mut findings.machines {
            let is_arm = [super::vm("report-1"), super::vm("store-1")].contains(vm);
            standing.architecture = Some(if is_arm { "aarch64" } else { "x86_64" }.to_owned());
        }
    };
    assert_eq!(to(&edited(&moves_only(), &demonstration(), arm)), &vm("store-1"));
    let unknown: Edit<'_> = &|findings, _, _| {
        let standing = findings.machines.get_mut(&vm("report-1")).unwrap();
        standing.operating_system = Some("Debian 12".to_owned());
    };
    let reason = told(&edited(&moves_only(), &demonstration(), unknown), "report-1");
    assert!(reason.contains("operating system is unknown, not Debian 12"), "{reason}");
}

#[test]
fn a_pool_must_be_reached_from_where_an_application_goes() {
    let mut around = moves_only();
    around.policy.needs_pools = [(name("report"), texts(&["shelf"]))].into();
    let pool = |gib: u64| Pool {
        id: "shelf".parse().unwrap(),
        capacity: Bytes::mebi(gib << 10),
        allocated: None,
        available: None,
    };
    let hosts = |here: u64, there: u64| {
        move |_: &mut Findings, inventory: &mut Inventory, _: &mut Restraint| {
            on_another_host(inventory, &OTHERS);
            inventory.hosts.get_mut(&"host-1".parse().unwrap()).unwrap().pools = vec![pool(here)];
            inventory.hosts.get_mut(&"host-2".parse().unwrap()).unwrap().pools = vec![pool(there)];
        }
    };
    to(&edited(&around, &demonstration(), &hosts(100, 100)));
    let reason = told(&edited(&around, &demonstration(), &hosts(100, 90)), "report-1");
    assert!(reason.contains("its host does not reach pool shelf"), "{reason}");
}

#[test]
fn the_budget_of_a_day_is_kept_by_machine_and_by_fleet() {
    let mut around = moves_only();
    around.policy.changes_per_machine_per_day = 2;
    let spent: Edit<'_> = &|_, _, restraint| restraint.begun_on = [(vm("report-1"), 2)].into();
    let reason = told(&edited(&around, &demonstration(), spent), "report-1");
    assert!(reason.contains("(policy, changes_per_machine_per_day)"), "{reason}");

    around.policy.changes_per_day = 3;
    let spent: Edit<'_> = &|_, _, restraint| restraint.begun = 3;
    let reason = told(&edited(&around, &demonstration(), spent), "report-1");
    assert!(reason.contains("3 plans began within 24 hours"), "{reason}");
    let left: Edit<'_> = &|_, _, restraint| restraint.begun = 2;
    to(&edited(&around, &demonstration(), left));
}

#[test]
fn one_round_spends_no_more_than_the_budget_has() {
    let mut around = around();
    (around.policy.plans_at_once, around.policy.changes_per_day) = (10, 1);
    assert_eq!(edited(&around, &roomy(), &|_, _, _| {}).plans.len(), 1);
    around.policy.changes_per_day = 10;
    assert!(edited(&around, &roomy(), &|_, _, _| {}).plans.len() > 1);
}

#[test]
fn the_aggregators_own_machine_is_neither_emptied_nor_filled() {
    let own = |of: &'static str| {
        move |_: &mut Findings, _: &mut Inventory, restraint: &mut Restraint| {
            restraint.own = [vm(of)].into();
        }
    };
    assert_ne!(to(&edited(&moves_only(), &demonstration(), &own("api-1"))), &vm("api-1"));
    let reason = told(&edited(&moves_only(), &demonstration(), &own("report-1")), "report-1");
    assert_eq!(reason, "the aggregator itself runs on it");
}

#[test]
fn memory_that_was_too_little_once_goes_along() {
    let mut fleet = demonstration();
    for guest in OTHERS {
        fleet.guest(guest).memory_mib = 128;
    }
    to(&edited(&moves_only(), &fleet, &|_, _, _| {}));
    let floor: Edit<'_> = &|findings, _, _| {
        let mixes = &mut findings.machines.get_mut(&vm("report-1")).unwrap().mixes;
        mixes.get_mut(&name("report")).unwrap().memory_floor = Some(Bytes::mebi(100).0);
    };
    let planned = edited(&moves_only(), &fleet, floor);
    let reason = told(&planned, "report-1");
    assert!(reason.contains("no machine fits") && reason.contains("100 MiB needed"), "{reason}");
}

#[test]
fn room_is_kept_for_one_that_had_too_little_where_it_is() {
    let full: Edit<'_> = &|findings, _, _| {
        let mixes = &mut findings.machines.get_mut(&vm("api-1")).unwrap().mixes;
        mixes.get_mut(&name("api")).unwrap().memory_floor = Some(Bytes::mebi(190).0);
    };
    assert_ne!(to(&edited(&moves_only(), &demonstration(), full)), &vm("api-1"));
}

#[test]
fn an_approved_plan_waits_for_its_window_its_group_and_its_budget() {
    let mut around = moves_only();
    let plan = one(&around, &demonstration());
    let begins = |around: &Around, busy: &[&str], restraint: &Restraint| {
        let findings = around.infer(&demonstration().joined(3));
        let busy: BTreeSet<VmId> = busy.iter().map(|text| vm(text)).collect();
        may_begin(
            &plan,
            &Situation {
                now: at(31),
                findings: &findings,
                inventory: &demonstration().inventory(),
                catalogue: &around.catalogue,
                policy: &around.policy,
                scope: &around.scope,
                busy: &busy,
                restraint,
            },
        )
    };
    assert_eq!(begins(&around, &[], Restraint::NONE), Ok(()));
    assert!(begins(&around, &["api-1"], Restraint::NONE).unwrap_err().contains("under way"));
    let in_group = begins(&around, &["web-1"], Restraint::NONE).unwrap_err();
    assert_eq!(in_group, "waits for another plan in the same group");
    let spent = Restraint { begun: 1_000, ..Restraint::default() };
    assert!(begins(&around, &[], &spent).unwrap_err().contains("changes_per_day"));
    let own = Restraint { own: [vm("report-1")].into(), ..Restraint::default() };
    assert!(begins(&around, &[], &own).unwrap_err().contains("aggregator itself"));

    let always = Maintenance {
        changes: Permit::Denied,
        days: BTreeSet::new(),
        from: "00:00".to_owned(),
        to: "00:00".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        labels: BTreeSet::new(),
    };
    around.policy.maintenance = vec![always];
    let reason = begins(&around, &[], Restraint::NONE).unwrap_err();
    assert!(reason.contains("not allowed every day from 00:00 to 00:00 Europe/Berlin"), "{reason}");
    assert!(reason.ends_with("(policy, maintenance, entry 1)"), "{reason}");
    let proposed = one(&around, &demonstration());
    assert_eq!(proposed.bound_by, [reason], "people may approve it before its time comes");
}

#[test]
fn a_machine_that_is_to_be_emptied_is_emptied_whatever_that_gains() {
    let mut around = moves_only();
    around.policy.gain_per_disruption = 1e6;
    assert!(edited(&around, &demonstration(), &|_, _, _| {}).plans.is_empty());
    let drained: Edit<'_> = &|_, _, restraint| restraint.drained = [vm("report-1")].into();
    let planned = edited(&around, &demonstration(), drained);
    assert!(planned.plans[0].changes[&vm("report-1")].retired);
    // Nothing comes to it either.
    let drained: Edit<'_> = &|_, _, restraint| restraint.drained = [vm("api-1")].into();
    let planned = edited(&moves_only(), &demonstration(), drained);
    assert_ne!(to(&planned), &vm("api-1"));
    assert!(told(&planned, "api-1").contains("api stays"));
}

#[test]
fn a_machine_that_runs_nothing_is_not_filled_while_another_has_room() {
    let (around, mut fleet) = (moves_only(), demonstration());
    fleet.links.push(link("report-1", "report", "store-1", 5432, Kind::Short(5.0)));
    // What report calls is on the host of the idle machine, and takes nothing in itself.
    let beside = |_: &mut Findings, inventory: &mut Inventory, _: &mut Restraint| {
        on_another_host(inventory, &["store-1", "idle-1"]);
        let store = inventory.machines.get_mut(&vm("store-1")).unwrap();
        store.labels.insert("sinter:closed".to_owned());
    };
    let busy = [vm("web-1"), vm("api-1")];
    assert!(busy.contains(to(&edited(&around, &fleet, &beside))));

    let alone = |findings: &mut Findings, inventory: &mut Inventory, restraint: &mut Restraint| {
        beside(findings, inventory, restraint);
        for machine in &busy {
            let machine = inventory.machines.get_mut(machine).unwrap();
            machine.labels.insert("sinter:closed".to_owned());
        }
    };
    assert_eq!(to(&edited(&around, &fleet, &alone)), &vm("idle-1"), "there it still saves one");
}
