//! Groups of known fleets.

use std::collections::BTreeSet;

use common::id::VmId;

use crate::{
    grouping::SharedService,
    inference::{Findings, Role, tests::around},
    join::tests::fleet::{Fleet, Kind, app, demonstration, link, name, vm},
};

/// Two shops of three machines each that call each other now and then.
fn two_shops() -> Fleet {
    let machine = |name: &'static str, port: u16| (name, vec![app("work", 30, 5, &[port])]);
    let mut fleet = Fleet::of(&[
        machine("web-a", 80),
        machine("api-a", 81),
        machine("db-a", 82),
        machine("web-b", 80),
        machine("api-b", 81),
        machine("db-b", 82),
    ]);
    for (from, to, port) in [
        ("web-a", "api-a", 81),
        ("api-a", "db-a", 82),
        ("web-a", "db-a", 82),
        ("web-b", "api-b", 81),
        ("api-b", "db-b", 82),
        ("web-b", "db-b", 82),
        ("api-a", "api-b", 81),
    ] {
        fleet.links.push(link(from, "work", to, port, Kind::Pool(2)));
    }
    fleet
}

fn names(findings: &Findings) -> Vec<BTreeSet<VmId>> {
    findings.groups.iter().map(|group| group.machines.clone()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<VmId> {
    names.map(vm).into()
}

#[test]
fn machines_that_do_one_thing_are_one_group_though_another_is_called() {
    let findings = around().infer(&two_shops().joined(3));
    let shops = BTreeSet::from([set(["web-a", "api-a", "db-a"]), set(["web-b", "api-b", "db-b"])]);
    assert_eq!(names(&findings).into_iter().collect::<BTreeSet<_>>(), shops);
    let group = &findings.groups[0];
    assert!(group.cohesion.is_some_and(|share| (0.8..1.0).contains(&share)), "{group:?}");
    assert_eq!(group.applications.len(), 3);
    // Yet all six are never changed two at a time.
    let concert: BTreeSet<_> = findings.machines.values().map(|of| of.group.clone()).collect();
    assert_eq!(concert.len(), 1);
}

#[test]
fn a_group_keeps_its_id_when_a_machine_joins_it_and_a_new_one_gets_another() {
    let mut around = around();
    around.former = around.infer(&two_shops().joined(3));
    let was = around.former.machines[&vm("web-a")].business_group;
    let mut fleet = two_shops();
    let mut more = Fleet::of(&[("c", vec![]), ("d", vec![app("work", 30, 5, &[9])])]);
    more.guests[0].apps = vec![app("work", 30, 5, &[])];
    for (at, mut guest) in more.guests.into_iter().enumerate() {
        guest.address = format!("10.0.1.{}", at + 1);
        fleet.guests.push(guest);
    }
    fleet.links.push(link("c", "work", "d", 9, Kind::Pool(1)));
    let now = around.infer(&fleet.joined(3));
    assert!(was.is_some());
    assert_eq!(now.machines[&vm("web-a")].business_group, was);
    assert_eq!(now.groups.last().map(|group| group.id), Some(around.former.next_group));
    assert_eq!(now.next_group, around.former.next_group + 1);
}

#[test]
fn what_the_operator_pins_merges_and_splits_holds() {
    let mut around = around();
    around.groups.named.insert("shop".to_owned(), set(["web-a", "web-b"]));
    around.groups.apart.push(set(["db-a", "web-a"]));
    let findings = around.infer(&two_shops().joined(3));
    let group = findings.groups.iter().find(|group| group.pinned).unwrap();
    assert_eq!(group.name, "shop");
    assert!(group.machines.is_superset(&set(["web-a", "web-b"])));
    assert!(!group.machines.contains(&vm("db-a")));
    assert!(group.reason.contains("the operator named it"), "{}", group.reason);
}

#[test]
fn a_service_on_the_operators_list_makes_no_group() {
    let mut around = around();
    around.groups.shared.insert(SharedService { vm: vm("store-1"), port: Some(5432) });
    let findings = around.infer(&demonstration().joined(3));
    assert_eq!(names(&findings), [set(["web-1", "api-1"])]);
    assert!(!findings.machines[&vm("store-1")].participating.holds);
}

#[test]
fn who_calls_is_client_who_is_called_is_server_and_who_keeps_data_is_store() {
    let findings = around().infer(&demonstration().joined(3));
    let roles = |of: &str, application: &str| {
        let playing = findings.machines[&vm(of)].roles.get(&name(application));
        playing.into_iter().flatten().map(|playing| playing.role).collect::<Vec<_>>()
    };
    assert_eq!(roles("api-1", "api"), [Role::Client, Role::Server]);
    assert_eq!(roles("store-1", "store"), [Role::Server, Role::Store]);
    assert_eq!(roles("report-1", "report"), [Role::Batch]);
    assert!(findings.machines.values().all(|of| !of.roles.contains_key(&name("sinter-agent"))));
}

#[test]
fn every_call_between_machines_is_a_dependency() {
    let findings = around().infer(&demonstration().joined(3));
    let ends = findings.dependencies.iter().map(|known| {
        let end = |party: &crate::join::Party| party.vm().cloned();
        (end(&known.edge.client), end(&known.edge.server))
    });
    let wanted = [("web-1", "api-1"), ("api-1", "store-1")];
    let wanted: BTreeSet<_> = wanted.map(|(a, b)| (Some(vm(a)), Some(vm(b)))).into();
    assert_eq!(ends.collect::<BTreeSet<_>>(), wanted);
    // Three windows are too few to say what follows what.
    assert!(findings.dependencies.iter().all(|known| known.follows.is_none()));
}
