//! Whose connections are, from made-up rows, ends and openings: of groups, by earlier sightings, by what was
//! told, and what of it waits for a later look.

use common::sample::ConnectionState;

use super::{
    super::seen::Traffic,
    counts::{OPENED, asking, bytes, carried, counts, ended, finished, guest, opening, told},
    tests::{Guest, name, process, tcp},
    *,
};

#[test]
fn a_group_of_one_application_names_its_sockets_and_one_of_several_does_not() {
    let mut guest = guest();
    let group = |name: &str, application: Option<&str>| Group {
        name: name.to_owned(),
        application: application.map(super::tests::name),
    };
    guest.groups.insert(100, group("db.service", Some("db")));
    guest.groups.insert(200, group("session-2.scope", None));
    let row = |port, cgroup| {
        let local = format!("10.0.0.5:{port}");
        let row = tcp(&local, Some("10.0.0.9:5432"), ConnectionState::Established, port);
        Row { cgroup: Some(cgroup), ..row }
    };
    let (of_one, of_several) = (row(40_000, 100), row(40_001, 200));

    let table = guest.look(&[of_one, of_several], 1);

    let holder = |group: &str, application| Holder::Group { group: group.to_owned(), application };
    assert_eq!(table[&of_one.key].holder, holder("db.service", Some(name("db"))));
    assert_eq!(table[&of_several.key].holder, holder("session-2.scope", None));
}

/// Short connections of `report` and `web` that a look saw, then one that none saw.
fn after_sightings(of_report: u32, of_web: u32) -> (Guest, Option<AppName>, String) {
    let mut guest = guest();
    guest.look(&[], 1);
    for at in 0..of_report + of_web {
        let inode = if at < of_report { 5 } else { 4 };
        let row = Row { cookie: u64::from(1000 + at), inode, ..asking() };
        guest.look(&[row], u64::from(at) + 2);
        guest.hear(told(&[ended(row, Traffic { acknowledged: 2, ..OPENED })]));
    }
    guest.look(&[], 30);
    let row = Row { cookie: 9, ..asking() };
    guest.hear(told(&[ended(row, finished(carried(1, 1)))]));
    let remains = Row { state: ConnectionState::TimeWait, inode: 0, traffic: None, ..row };
    let table = guest.look(&[remains], 31);
    let Holder::Unknown { reason, application } = table[&row.key].holder.clone() else {
        panic!("{table:?}")
    };
    (guest, application, reason)
}

#[test]
fn earlier_sightings_name_a_short_connection_if_they_leave_little_doubt() {
    assert_eq!(after_sightings(5, 0).1, Some(name("report")));
    assert_eq!(after_sightings(19, 1).1, Some(name("report")));
    assert_eq!(after_sightings(4, 0).1, None);
    let (mut guest, application, reason) = after_sightings(9, 1);
    assert_eq!(application, None);
    assert!(reason.starts_with("ambiguous"), "{reason}");
    let nobodys = guest.flows().into_iter().find(|(key, _)| key.application.is_none()).unwrap();
    assert_eq!(counts(&nobodys.1), [1, 1, 0, 0]);
    let coverage = guest.coverage(None);
    assert_eq!((coverage.seen, coverage.attributed), (11, 10));
}

#[test]
fn several_that_ask_the_same_end_get_their_counts_and_nobody_the_bytes() {
    let mut guest = guest();
    guest.look(&[], 1);
    let ends: Vec<_> = (0..5)
        .map(|at| {
            let local = format!("10.0.0.5:{}", 40_000 + at);
            let row = tcp(&local, Some("10.0.0.9:5432"), ConnectionState::Established, 0);
            ended(Row { cookie: 50 + at, ..row }, finished(carried(10, 21)))
        })
        .collect();
    let openings = [20, 21, 20, 21, 21].map(|pid| opening(pid, "10.0.0.9:5432")).to_vec();
    guest.hear(Told { ended: ends, openings, ..Told::default() });
    guest.look(&[], 2);

    let flows = guest.flows();
    let of = |application: Option<&str>| {
        let wanted = application.map(name);
        let (_, flow) = flows.iter().find(|(key, _)| key.application == wanted).unwrap();
        (counts(flow), bytes(flow))
    };
    assert_eq!(of(Some("web")), ([2, 2, 0, 0], (0, 0)));
    assert_eq!(of(Some("report")), ([3, 3, 0, 0], (0, 0)));
    assert_eq!(of(None), ([0; 4], (50, 100)));
    assert_eq!(guest.coverage(None).attributed, 5);
}

#[test]
fn attempts_still_under_way_leave_the_rest_to_the_next_look() {
    let mut guest = guest();
    guest.look(&[], 1);
    let end = |at: u64| {
        let local = format!("10.0.0.5:{}", 40_000 + at);
        let row = tcp(&local, Some("10.0.0.9:5432"), ConnectionState::Established, 0);
        ended(Row { cookie: 50 + at, ..row }, finished(carried(10, 21)))
    };
    let openings = [20, 21, 20, 21].map(|pid| opening(pid, "10.0.0.9:5432")).to_vec();
    guest.hear(Told { ended: vec![end(0), end(1), end(2)], openings, ..Told::default() });
    guest.look(&[], 2);
    let opened = |guest: &mut Guest| {
        let flows = guest.flows().into_iter().filter(|(_, flow)| flow.opened > 0);
        let counts = flows.map(|(key, flow)| (key.application.unwrap().to_string(), flow.opened));
        counts.collect::<Vec<_>>()
    };
    assert_eq!(opened(&mut guest), [("report".to_owned(), 1), ("web".to_owned(), 1)]);

    guest.hear(told(&[end(3)]));
    guest.look(&[], 3);
    assert_eq!(opened(&mut guest), [("report".to_owned(), 2), ("web".to_owned(), 2)]);
}

#[test]
fn a_process_that_is_gone_goes_by_its_own_name() {
    let mut guest = guest();
    guest.look(&[], 1);
    guest.hear(Told {
        ended: vec![ended(asking(), finished(carried(1, 2)))],
        openings: vec![opening(999, "10.0.0.9:5432")],
        ..Told::default()
    });
    guest.look(&[], 2);
    assert_eq!(guest.flow().0.application, Some(name("short_999")));
}

#[test]
fn a_connection_nobody_known_holds_is_counted_a_look_later_as_whosever_it_is_then() {
    let mut guest = guest();
    guest.look(&[], 1);
    let row = Row { inode: 77, traffic: Some(carried(10, 20)), ..asking() };
    guest.look(&[row], 2);
    assert_eq!(guest.flows(), BTreeMap::new());

    guest.held.insert(77, 30);
    guest.applications.insert(process(30), name("late"));
    guest.look(&[row], 3);
    let (key, flow) = guest.flow();
    assert_eq!((key.application, counts(&flow)), (Some(name("late")), [1, 0, 0, 0]));
    assert_eq!(bytes(&flow), (10, 20));
}

#[test]
fn a_connection_goes_on_under_the_name_its_application_is_given() {
    let mut guest = guest();
    guest.look(&[], 1);
    guest.look(&[Row { traffic: Some(carried(10, 20)), ..asking() }], 2);
    guest.applications.insert(process(20), name("shop"));
    guest.look(&[Row { traffic: Some(carried(15, 20)), ..asking() }], 3);

    let found: Vec<_> = guest
        .flows()
        .into_iter()
        .map(|(key, flow)| (key.application.unwrap().to_string(), flow.opened, bytes(&flow)))
        .collect();
    assert_eq!(found, [("shop".to_owned(), 0, (5, 0)), ("web".to_owned(), 1, (10, 20))]);
}

#[test]
fn refused_attempts_beside_others_under_way_are_told_apart_a_look_later() {
    let mut guest = guest();
    guest.look(&[], 1);
    let refused = tcp("0.0.0.0:40000", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
    let failed = |cookie| Ended { key: refused.key, cookie, traffic: Some(Traffic::default()) };
    let openings =
        vec![opening(20, "10.0.0.9:81"), opening(20, "10.0.0.9:81"), opening(21, "10.0.0.9:5432")];
    guest.hear(Told { ended: vec![failed(1), failed(2)], openings, ..Told::default() });
    guest.look(&[], 2);
    let own = Row { inode: 5, cookie: 9, ..asking() };
    guest.look(&[own], 3);

    let flows = guest.flows();
    let found: Vec<_> = flows.iter().map(|(key, flow)| (key.port, counts(flow))).collect();
    assert_eq!(found, [(81, [0, 0, 0, 2]), (5432, [1, 0, 0, 0])]);
}
