//! When connections came to be, and how surely they were seen.

use super::{
    Inbound, Kind, Outbound, app, at, counting,
    fleet::{Fleet, flow, link, row, vm},
    machine, only, outside, traffic,
};
use common::sample::{ConnectionState, Direction};

#[test]
fn connections_that_were_counted_came_to_be_between_the_samples() {
    let joined = only(&counting());
    let calls = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert_eq!(calls.starts, (10..20).map(at).collect::<Vec<_>>());
    assert_eq!((calls.starts_missing, calls.detected), (0, Some(1.0)));
}

#[test]
fn connections_that_rows_show_have_their_moments_too() {
    let mut fleet = Fleet::of(&[("a", Vec::new()), ("b", vec![app("db", 5, 5, &[5432])])]);
    fleet.links = vec![link("a", "", "b", 5432, Kind::Short(0.5))];
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", ""), machine("b", "db"), 5432);
    assert_eq!(calls.opened, 5);
    assert_eq!(calls.starts, [10, 12, 14, 16, 18].map(at));
    assert_eq!(calls.detected, Some(1.0), "they wait in TIME_WAIT");
}

#[test]
fn of_the_clients_applications_each_has_its_own_moments() {
    let mut fleet = counting();
    let out = (Outbound, "10.0.0.1", "10.0.0.2", 8080);
    fleet.guest("a").counts = Some(vec![flow(out, "web", (3, 3)), flow(out, "job", (0, 1))]);
    fleet.guest("a").misses_one_in = 4;
    let back = (Inbound, "10.0.0.2", "10.0.0.1", 8080);
    fleet.guest("b").counts = Some(vec![flow(back, "api", (4, 8))]);
    let joined = only(&fleet);
    let starts =
        |name| traffic(&joined, machine("a", name), machine("b", "api"), 8080).starts.len();
    assert_eq!((starts("web"), starts("job")), (10, 0));
}

#[test]
fn what_the_kernel_counted_and_nobody_saw_is_told() {
    let mut fleet = counting();
    fleet.guest("b").has_agent = false;
    fleet.guest("a").misses_one_in = 4;
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", "web"), machine("b", ""), 8080);
    assert!((calls.detected.unwrap() - 0.8).abs() < 0.01, "{:?}", calls.detected);
}

/// A table that is looked at now and then shows a few of those that live briefly.
#[test]
fn connections_that_each_look_shows_anew_were_mostly_missed() {
    let mut windows = Fleet::of(&[("a", Vec::new())]).windows(2);
    let mut shown = |sightings: u64| {
        let mut fleet = Fleet::of(&[("a", Vec::new())]);
        let state = ConnectionState::Established;
        let remote = "10.0.9.9:80";
        fleet.guest("a").rows =
            vec![row("10.0.0.1:50001", remote, state, Direction::Outbound, "x")];
        let window = fleet.windows(1).remove(0);
        let spans = window.guests[&vm("a")].connections.values().flatten();
        let span = spans.clone().find(|span| span.key.local.port() == 50_001).unwrap();
        let guest = windows[1].guests.get_mut(&vm("a")).unwrap();
        guest.connections.clear();
        for port in 0..20 {
            let mut span = span.clone();
            span.key.local.set_port(40_000 + port);
            (span.opened, span.seen) = (true, sightings);
            guest.connections.insert(span.key, vec![span]);
        }
        let joined = crate::join::join(&windows[1]);
        let calls = traffic(&joined, machine("a", "x"), outside("10.0.9.9"), 80);
        assert_eq!((calls.opened, calls.starts_missing), (20, 20), "the rows were put there");
        calls.detected.unwrap()
    };
    let (once, often) = (shown(1), shown(9));
    assert!(once < 0.3 && often > 0.9, "{once} {often}");
}
