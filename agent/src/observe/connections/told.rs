//! What is counted of connections whose ends were told, rule by rule, from made-up rows, ends and openings.

use common::{sample::ConnectionState, units::Bytes};

use super::{
    super::seen::{Opening, Traffic},
    counts::{asking, bytes, carried, counts, ended, finished, guest, opening, told},
    tests::{name, tcp},
    *,
};

#[test]
fn a_connection_that_came_and_went_between_two_looks_is_whole() {
    let mut guest = guest();
    guest.look(&[], 1);
    let row = asking();
    guest.hear(Told {
        ended: vec![ended(row, finished(carried(100, 200)))],
        openings: vec![opening(20, "10.0.0.9:5432")],
        ..Told::default()
    });
    let remains = Row { state: ConnectionState::TimeWait, inode: 0, traffic: None, ..row };

    let table = guest.look(&[remains], 10);

    let (key, flow) = guest.flow();
    assert_eq!(key.application, Some(name("web")));
    assert_eq!((counts(&flow), bytes(&flow)), ([1, 1, 0, 0], (100, 200)));
    assert_eq!(table[&row.key].holder.application(), Some(&name("web")));
    assert_eq!(table[&row.key].sent, Some(Bytes(100)));
    assert_eq!(guest.look(&[remains], 20), table);
    guest.look(&[], 80);
    assert_eq!(guest.flow(), (key, flow));
}

#[test]
fn who_closed_second_received_a_fin_and_who_closed_first_did_not() {
    for (remains, received) in [(true, 200), (false, 199)] {
        let mut guest = guest();
        guest.look(&[], 1);
        guest.hear(told(&[ended(asking(), finished(carried(100, 200)))]));
        let row = Row {
            state: ConnectionState::TimeWait,
            inode: 0,
            cookie: 99,
            traffic: None,
            ..asking()
        };
        guest.look(if remains { std::slice::from_ref(&row) } else { &[] }, 2);
        assert_eq!(bytes(&guest.flow().1), (100, received));
    }
}

#[test]
fn an_end_told_while_its_row_is_read_waits_for_the_next_look() {
    let mut guest = guest();
    guest.look(&[], 1);
    let row = Row { traffic: Some(carried(90, 200)), ..asking() };
    let end = ended(row, finished(carried(100, 200)));
    guest.look_and_hear(&[row], 2, told(&[end]));
    assert_eq!(counts(&guest.flow().1), [1, 0, 0, 0]);

    let remains = Row { state: ConnectionState::TimeWait, inode: 0, traffic: None, ..row };
    guest.look(&[remains], 3);
    let (_, flow) = guest.flow();
    assert_eq!((counts(&flow), bytes(&flow)), ([1, 1, 0, 0], (100, 200)));
}

#[test]
fn a_fin_that_was_never_acknowledged_is_a_reset() {
    let mut guest = guest();
    guest.look(&[], 1);
    guest.look(&[asking()], 2);
    guest.hear(told(&[ended(asking(), carried(100, 200))]));
    guest.look(&[], 3);
    let (_, flow) = guest.flow();
    assert_eq!((counts(&flow), bytes(&flow)), ([1, 1, 1, 0], (100, 200)));
}

#[test]
fn an_attempt_seen_and_refused_failed_on_its_own_edge() {
    let mut guest = guest();
    guest.look(&[], 1);
    let row = Row { state: ConnectionState::SynSent, traffic: None, ..asking() };
    guest.look(&[row], 2);
    assert_eq!(guest.flows(), BTreeMap::new());

    let refused = tcp("0.0.0.0:40000", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
    let end = Ended { key: refused.key, cookie: 7, traffic: Some(Traffic::default()) };
    guest.hear(told(&[end]));
    guest.look(&[], 3);

    let (key, flow) = guest.flow();
    assert_eq!((key.port, key.application), (5432, Some(name("web"))));
    assert_eq!(counts(&flow), [0, 0, 0, 1]);
}

#[test]
fn a_refused_attempt_nobody_saw_is_the_one_that_was_told_or_has_no_port() {
    for openings in [vec![opening(21, "10.0.0.9:5432")], Vec::new()] {
        let was_told = !openings.is_empty();
        let mut guest = guest();
        guest.look(&[], 1);
        let refused = tcp("0.0.0.0:40000", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
        let end = Ended { key: refused.key, cookie: 7, traffic: Some(Traffic::default()) };
        guest.hear(Told { ended: vec![end], openings, ..Told::default() });
        guest.look(&[], 3);

        let (key, flow) = guest.flow();
        let expected = if was_told { (5432, Some(name("report"))) } else { (0, None) };
        assert_eq!((key.port, key.application), expected);
        assert_eq!(counts(&flow), [0, 0, 0, 1]);
    }
}

#[test]
fn a_refused_attempt_is_on_the_address_that_was_told_and_not_on_the_one_used_before() {
    for (attempts, expected) in [
        (vec![(21, "10.0.0.9:81", "10.0.0.6")], vec![("10.0.0.6", 81)]),
        (vec![(20, "10.0.0.8:81", "10.0.0.6")], vec![("10.0.0.5", 0)]),
        (
            vec![(20, "10.0.0.9:81", "10.0.0.6"), (21, "10.0.0.9:82", "10.0.0.7")],
            vec![("10.0.0.6", 81), ("10.0.0.7", 82)],
        ),
    ] {
        let mut guest = guest();
        guest.look(&[], 1);
        guest.look(&[asking()], 2);
        let refused = tcp("0.0.0.0:40001", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
        let end = |cookie| Ended { key: refused.key, cookie, traffic: Some(Traffic::default()) };
        let openings = attempts.iter().map(|(pid, remote, local)| {
            let local = Some(local.parse().unwrap());
            Opening { local, ..opening(*pid, remote) }
        });
        let ended = (0..expected.len()).map(|at| end(90 + at as u64)).collect();
        guest.hear(Told { ended, openings: openings.collect(), ..Told::default() });
        guest.look(&[asking()], 3);

        let flows = guest.flows();
        let failed = flows.iter().filter(|(_, flow)| flow.failed == 1);
        let found: Vec<_> = failed.map(|(key, _)| (key.local.to_string(), key.port)).collect();
        let expected = expected.into_iter().map(|(local, port)| (local.to_owned(), port));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn what_the_kernel_forgot_was_cut_off_from_this_side() {
    let mut guest = guest();
    guest.look(&[], 1);
    guest.look(&[Row { traffic: Some(carried(10, 20)), ..asking() }], 2);
    let forgotten = tcp("0.0.0.0:40000", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
    guest.hear(told(&[Ended { key: forgotten.key, cookie: 7, traffic: None }]));
    guest.look(&[], 3);
    let (key, flow) = guest.flow();
    assert_eq!((key.port, counts(&flow), bytes(&flow)), (5432, [1, 1, 1, 0], (10, 20)));
}

#[test]
fn remains_of_an_unseen_connection_count_only_where_its_end_will_not_be_told() {
    let remains = Row { state: ConnectionState::TimeWait, inode: 0, traffic: None, ..asking() };
    for (ends_are_told, lost, opened) in [(false, 0, 1), (true, 0, 0), (true, 3, 1)] {
        let mut guest = guest();
        guest.ends_are_told = ends_are_told;
        guest.look(&[], 1);
        guest.hear(Told { ends_lost: lost, ..Told::default() });
        guest.look(&[remains], 2);
        guest.look(&[remains], 3);
        let found: u64 = guest.flows().values().map(|flow| flow.opened).sum();
        assert_eq!(found, opened, "told {ends_are_told}, lost {lost}");
        assert_eq!(guest.coverage(None).overruns, lost);
    }
}

#[test]
fn a_socket_held_after_its_connection_ended_adds_its_last_bytes_when_it_goes() {
    let mut guest = guest();
    guest.look(&[], 1);
    guest.look(&[Row { traffic: Some(carried(10, 20)), ..asking() }], 2);
    guest.look(&[], 3);
    assert_eq!(counts(&guest.flow().1), [1, 1, 0, 0]);

    guest.hear(told(&[ended(asking(), carried(11, 22))]));
    guest.look(&[], 9);
    let (_, flow) = guest.flow();
    assert_eq!((counts(&flow), bytes(&flow)), ([1, 1, 1, 0], (11, 22)));
}
