//! Connections to the address of a service, which the client's own machine translates to that of another.

use super::*;

/// Of the service, which no machine has.
const SERVICE: &str = "10.96.0.1:80";

/// A connection of `a`, from that port, that went to `reached` in fact.
fn to_service(port: u16, reached: &str) -> (ConnectionKey, Connection) {
    let from = format!("10.0.0.1:{port}");
    let (key, connection) = row(&from, SERVICE, ConnectionState::Established, Outbound, "web");
    let translated = (!reached.is_empty()).then(|| reached.parse().unwrap());
    (key, Connection { translated, ..connection })
}

/// The other end of it at `b`.
fn answered(port: u16) -> (ConnectionKey, Connection) {
    let from = format!("10.0.0.1:{port}");
    row("10.0.0.2:8080", &from, ConnectionState::Established, Inbound, "api")
}

/// `a` calls a service that `b` answers on 8080.
fn fleet() -> Fleet {
    let api = App { in_mix: false, ..app("api", 5, 5, &[8080]) };
    let mut fleet = Fleet::of(&[("a", Vec::new()), ("b", vec![api])]);
    fleet.guest("a").rows = vec![to_service(40_000, "10.0.0.2:8080")];
    fleet.guest("b").rows = vec![answered(40_000)];
    fleet
}

/// The same, with everything counted by both.
fn counting(opened: u64) -> Fleet {
    let mut fleet = fleet();
    let out = (Outbound, "10.0.0.1", "10.96.0.1", 80);
    let back = (Inbound, "10.0.0.2", "10.0.0.1", 8080);
    fleet.guest("a").counts = Some(vec![flow(out, "web", (opened, 20))]);
    fleet.guest("b").counts = Some(vec![flow(back, "api", (opened, 20))]);
    fleet
}

#[test]
fn both_ends_of_a_translated_connection_are_one_edge() {
    let joined = only(&fleet());
    let calls = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert!(calls.both_ends);
    assert_eq!(joined.edges.len(), 1, "{:?}", joined.edges.keys());
}

#[test]
fn what_was_counted_to_a_service_goes_where_all_that_is_shown_went() {
    let mut fleet = counting(5);
    fleet.guest("a").rows =
        (40_000..40_005).map(|port| to_service(port, "10.0.0.2:8080")).collect();
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert!(calls.both_ends);
    assert_eq!(calls.opened, 50);
    assert_eq!(joined.edges.len(), 1, "{:?}", joined.edges.keys());
    assert!(joined.remarks.is_empty(), "{:?}", joined.remarks);
}

#[test]
fn what_goes_to_several_machines_stays_with_the_service_and_is_remarked() {
    let mut fleet = counting(5);
    fleet.guest("a").rows = (40_000..40_010)
        .map(|port| to_service(port, if port % 2 == 0 { "10.0.0.2:8080" } else { "10.0.0.3:8080" }))
        .collect();
    let joined = only(&fleet);
    let asked = traffic(&joined, machine("a", "web"), outside("10.96.0.1"), 80);
    assert_eq!(asked.opened, 50);
    let remark = joined.remarks.iter().find(|remark| remark.contains("translates")).unwrap();
    assert!(remark.starts_with("50 connections of a stay with 10.96.0.1:80"), "{remark}");
}

#[test]
fn one_sighting_among_many_connections_says_nothing_of_the_others() {
    let joined = only(&counting(5));
    let asked = traffic(&joined, machine("a", "web"), outside("10.96.0.1"), 80);
    assert_eq!(asked.opened, 50);
    assert!(joined.remarks.iter().any(|remark| remark.contains("translates")));
}

#[test]
fn one_that_was_not_translated_among_others_leaves_it_open() {
    let mut fleet = counting(1);
    fleet.guest("a").rows = (40_000..40_010)
        .map(|port| to_service(port, if port < 40_009 { "10.0.0.2:8080" } else { "" }))
        .collect();
    let joined = only(&fleet);
    assert_eq!(traffic(&joined, machine("a", "web"), outside("10.96.0.1"), 80).opened, 10);
}

#[test]
fn a_translation_to_the_machine_itself_stays_within_it() {
    let mut fleet = fleet();
    fleet.guest("a").rows = vec![
        to_service(40_000, "127.0.0.1:6443"),
        row("127.0.0.1:6443", "10.0.0.1:40000", ConnectionState::Established, Inbound, "api"),
    ];
    fleet.guest("b").rows = Vec::new();
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", "web"), machine("a", "api"), 6443);
    assert!(calls.both_ends);
    assert_eq!(joined.edges.len(), 1, "{:?}", joined.edges.keys());
}
