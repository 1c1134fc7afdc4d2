//! What is counted of connections, rule by rule, from made-up rows, ends and openings.

use common::{
    sample::{ConnectionReader, ConnectionState, Direction, Protocol},
    units::Bytes,
};

use super::{
    super::seen::{Opening, Traffic},
    tests::{Guest, name, process, tcp},
    *,
};

const OPENED: Traffic = Traffic {
    sent: 0,
    acknowledged: 1,
    received: 0,
    segments_sent: 2,
    segments_received: 1,
    data_segments_sent: 0,
    data_segments_received: 0,
    retransmitted: 0,
    round_trip_us: 100,
    since_sent_ms: None,
    since_received_ms: None,
    unread: 0,
};

/// An outgoing connection to a database, of cookie 7.
fn asking() -> Row {
    let row = tcp("10.0.0.5:40000", Some("10.0.0.9:5432"), ConnectionState::Established, 4);
    Row { cookie: 7, traffic: Some(OPENED), ..row }
}

fn carried(sent: u64, received: u64) -> Traffic {
    Traffic {
        sent,
        acknowledged: sent + 1,
        received,
        data_segments_sent: u64::from(sent > 0),
        data_segments_received: u64::from(received > 0),
        since_sent_ms: (sent > 0).then_some(40),
        since_received_ms: (received > 0).then_some(30),
        ..OPENED
    }
}

fn ended(row: Row, traffic: Traffic) -> Ended {
    Ended { key: row.key, cookie: row.cookie, traffic: Some(traffic) }
}

/// It closed first, so that its own FIN was acknowledged.
fn finished(traffic: Traffic) -> Traffic {
    Traffic { acknowledged: traffic.acknowledged + 1, ..traffic }
}

fn told(ended: &[Ended]) -> Told {
    Told { ended: ended.to_vec(), ..Told::default() }
}

fn opening(pid: u32, remote: &str) -> Opening {
    Opening { pid, name: format!("short {pid}"), local: None, remote: remote.parse().unwrap() }
}

fn guest() -> Guest {
    let mut guest = Guest::with(&[(1, 20, "web"), (4, 20, "web"), (5, 21, "report")]);
    guest.ends_are_told = true;
    guest
}

impl Guest {
    fn flows(&mut self) -> BTreeMap<FlowKey, Flow> {
        let now = self.connections.looked_at;
        self.connections.flows(now)
    }

    /// The only edge on which anything happened.
    fn flow(&mut self) -> (FlowKey, Flow) {
        let mut flows = self.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows.pop_first().unwrap()
    }

    fn coverage(&mut self, counted: Option<u64>) -> Coverage {
        let reader = ConnectionReader::SocketDiagnosis;
        self.connections.coverage(&Sockets { counted, reader, ..Sockets::default() })
    }
}

/// Opened, closed, reset, failed.
const fn counts(flow: &Flow) -> [u64; 4] {
    [flow.opened, flow.closed, flow.reset, flow.failed]
}

fn bytes(flow: &Flow) -> (u64, u64) {
    (flow.sent.unwrap_or_default().0, flow.received.unwrap_or_default().0)
}

#[test]
fn an_idle_connection_is_the_same_at_every_look() {
    let mut guest = guest();
    let aged = |age: u32, segments: u64, trip: u32| Row {
        traffic: Some(Traffic {
            since_sent_ms: Some(age),
            since_received_ms: Some(age),
            segments_sent: segments,
            round_trip_us: trip,
            ..carried(10, 20)
        }),
        ..asking()
    };
    let first = guest.look(&[aged(500, 3, 100)], 10);
    let later = guest.look(&[aged(15_733, 4, 90)], 25);

    assert_eq!(first, later);
    let transport = first[&asking().key].transport.unwrap();
    assert_eq!(transport.last_sent, Some(Timestamp::from_millis(9_500)));
    assert_eq!(transport.acknowledged, Bytes(10));
}

#[test]
fn what_was_sent_moves_the_time_of_the_last_sent_only() {
    let mut guest = guest();
    guest.look(&[Row { traffic: Some(carried(10, 20)), ..asking() }], 10);
    let more = Traffic { data_segments_sent: 2, since_received_ms: Some(9), ..carried(30, 20) };
    let table = guest.look(&[Row { traffic: Some(more), ..asking() }], 20);
    let transport = table[&asking().key].transport.unwrap();
    assert_eq!(transport.last_sent, Some(Timestamp::from_millis(19_960)));
    assert_eq!(transport.last_received, Some(Timestamp::from_millis(9_970)));
}

#[test]
fn a_fin_is_no_payload_wherever_the_connection_stands() {
    let mut guest = guest();
    let heard_fin = Traffic { received: 21, ..carried(10, 20) };
    let row = Row { state: ConnectionState::CloseWait, traffic: Some(heard_fin), ..asking() };
    let table = guest.look(&[row], 1);
    assert_eq!(table[&row.key].received, Some(Bytes(20)));
    assert_eq!(table[&row.key].sent, Some(Bytes(10)));
}

#[test]
fn sockets_that_were_there_before_the_agent_count_from_first_sight_and_were_not_opened() {
    let mut guest = guest();
    guest.look(&[Row { traffic: Some(carried(1000, 2000)), ..asking() }], 1);
    assert_eq!(guest.flows(), BTreeMap::new());

    let now = carried(1010, 2005);
    guest.look(&[Row { traffic: Some(now), ..asking() }], 2);
    guest.hear(told(&[ended(asking(), finished(carried(1011, 2006)))]));
    guest.look(&[], 3);

    let (key, flow) = guest.flow();
    assert_eq!(counts(&flow), [0; 4]);
    assert_eq!(bytes(&flow), (11, 5));
    assert_eq!((key.direction, key.port), (Direction::Outbound, 5432));
    assert_eq!(key.application, Some(name("web")));
    assert_eq!(guest.coverage(None).seen, 0);
}

#[test]
fn the_lingering_row_of_the_founding_example_is_shown_and_is_no_communication() {
    // TCP hope www.computerhope.com:telnet ESTABLISHED, TCP hope multicity.com:90 CLOSE_WAIT.
    let mut guest = guest();
    let telnet = tcp("10.0.0.5:40001", Some("204.144.1.2:23"), ConnectionState::Established, 4);
    let lingering = tcp("10.0.0.5:40002", Some("66.33.1.2:90"), ConnectionState::CloseWait, 5);
    let idle = Some(Traffic { received: 21, ..carried(10, 20) });
    let lingering = Row { cookie: 9, traffic: idle, ..lingering };
    let telnet_with = |sent| Row { cookie: 8, traffic: Some(carried(sent, 5)), ..telnet };

    for second in 1..5 {
        let table = guest.look(&[telnet_with(second), lingering], second);
        assert_eq!(table[&lingering.key].state, ConnectionState::CloseWait);
    }

    let (key, flow) = guest.flow();
    assert_eq!((key.port, bytes(&flow)), (23, (3, 0)));
}

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

#[test]
fn a_half_open_connection_is_none_until_it_is_established() {
    let mut guest = guest();
    let listener = tcp("0.0.0.0:8080", None, ConnectionState::Listen, 1);
    let asked = tcp("10.0.0.5:8080", Some("10.0.0.9:40000"), ConnectionState::SynReceived, 0);
    let asked = Row { cookie: 3, ..asked };
    let other = tcp("10.0.0.5:8080", Some("10.0.0.9:40001"), ConnectionState::SynReceived, 0);
    guest.look(&[listener, asked, other], 1);
    let open = Row { state: ConnectionState::Established, traffic: Some(OPENED), ..asked };
    guest.look(&[listener, open], 2);

    let (key, flow) = guest.flow();
    assert_eq!((key.direction, key.port), (Direction::Inbound, 8080));
    assert_eq!(key.application, Some(name("web")));
    assert_eq!(counts(&flow), [1, 0, 0, 0]);
}

#[test]
fn connected_udp_is_a_flow_and_unconnected_is_none() {
    let mut guest = guest();
    guest.look(&[], 1);
    let udp = |remote: Option<&str>, inode| {
        let row = tcp("10.0.0.5:40000", remote, ConnectionState::Stateless, inode);
        let key = ConnectionKey { protocol: Protocol::Udp, ..row.key };
        Row { key, cookie: inode.into(), ..row }
    };
    let (asks, waits) = (udp(Some("10.0.0.9:53"), 4), udp(None, 5));
    guest.look(&[asks, waits], 2);
    let end = |row: Row| Ended { key: row.key, cookie: row.cookie, traffic: None };
    let short = udp(Some("10.0.0.9:53"), 90);
    guest.hear(told(&[end(asks), end(waits), end(short)]));
    guest.look(&[], 3);

    let flows = guest.flows();
    let all = flows.values().map(counts).fold([0; 4], |sum, one| {
        [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2], sum[3] + one[3]]
    });
    assert_eq!(all, [2, 2, 0, 0]);
    assert!(flows.keys().all(|key| key.protocol == Protocol::Udp && key.port == 53));
    assert_eq!(guest.coverage(None).seen, 0);
}

#[test]
fn both_ends_of_a_local_connection_are_flows_of_their_own() {
    let mut guest = guest();
    let listener = tcp("127.0.0.1:8080", None, ConnectionState::Listen, 1);
    guest.look(&[listener], 1);
    let asks = tcp("127.0.0.1:40000", Some("127.0.0.1:8080"), ConnectionState::Established, 5);
    let serves = tcp("127.0.0.1:8080", Some("127.0.0.1:40000"), ConnectionState::Established, 4);
    guest.look(&[listener, asks, serves], 2);

    let flows = guest.flows();
    let mut found: Vec<_> = flows
        .iter()
        .map(|(key, flow)| {
            let application = key.application.as_ref().map(AppName::as_str);
            (key.direction, key.port, application, flow.opened)
        })
        .collect();
    found.sort_unstable();
    let inbound = (Direction::Inbound, 8080, Some("web"), 1);
    assert_eq!(found, [inbound, (Direction::Outbound, 8080, Some("report"), 1)]);
}

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
fn without_counts_a_connection_that_is_gone_closed_with_unknown_bytes() {
    let mut guest = Guest::with(&[(4, 20, "web")]);
    guest.look(&[], 1);
    let row = Row { cookie: 0, traffic: None, ..asking() };
    guest.look(&[row], 2);
    guest.look(&[], 3);
    let (_, flow) = guest.flow();
    assert_eq!((counts(&flow), flow.sent, flow.received), ([1, 1, 0, 0], None, None));
}

#[test]
fn the_counts_tell_who_opened_where_no_listener_does() {
    let mut guest = guest();
    let row = |acknowledged| Row {
        traffic: Some(Traffic { acknowledged, ..OPENED }),
        ..tcp("10.0.0.5:700", Some("10.0.0.9:40000"), ConnectionState::Established, 4)
    };
    assert_eq!(guest.look(&[row(1)], 1)[&row(1).key].direction, Direction::Outbound);
    assert_eq!(guest_direction(row(0)), Direction::Inbound);
    assert_eq!(guest_direction(Row { traffic: None, ..row(0) }), Direction::Unknown);
}

fn guest_direction(row: Row) -> Direction {
    guest().look(&[row], 1)[&row.key].direction
}

#[test]
fn coverage_is_held_against_what_the_kernel_counted_since_the_first_look() {
    let mut guest = guest();
    guest.look(&[asking()], 1);
    assert_eq!(guest.coverage(Some(500)).due, Some(0));
    let refused = tcp("0.0.0.0:40000", Some("10.0.0.9:0"), ConnectionState::Closed, 0);
    let failed = Ended { key: refused.key, cookie: 70, traffic: Some(Traffic::default()) };
    let short = Row { cookie: 71, ..asking() };
    guest.hear(told(&[failed, ended(short, finished(carried(1, 2)))]));
    guest.look(&[asking()], 2);

    let coverage = guest.coverage(Some(504));
    assert_eq!((coverage.due, coverage.seen), (Some(4), 2));
    assert_eq!(coverage.share(), Some(5_000));
    assert_eq!(guest.coverage(None).due, None);
}

/// Run by hand with `cargo test --release -p agent --lib -- --ignored --nocapture nanoseconds`.
#[test]
#[ignore = "a figure, not a fact"]
#[expect(clippy::print_stderr, reason = "it is there to be read")]
fn nanoseconds_per_unchanged_row() {
    const ROWS: u32 = 10_000;
    let mut guest = guest();
    guest.groups.insert(9, Group { name: "db.service".to_owned(), application: Some(name("db")) });
    let row = |at: u32| {
        let remote = format!("10.0.{}.{}:{}", at % 7, at % 251, 1024 + at);
        let row = tcp("10.0.0.5:40000", Some(&remote), ConnectionState::Established, at + 100);
        let traffic = Some(carried(u64::from(at), 10));
        Row { cookie: u64::from(at) + 1, cgroup: Some(9), traffic, ..row }
    };
    let rows: Vec<Row> = (0..ROWS).map(row).collect();
    let holders = Holders::default();
    for second in 1..12 {
        let look = Look {
            rows: &rows,
            holders: &holders,
            applications: &guest.applications,
            groups: &guest.groups,
            ephemeral: super::tests::EPHEMERAL,
            ends_are_told: true,
            now: Timestamp::from_millis(second * 1000),
        };
        let began = std::time::Instant::now();
        let table = guest.connections.look(&look, Told::default(), &|_| None);
        let took = began.elapsed();
        let flows = guest.connections.flows(look.now).len();
        eprintln!(
            "{} rows, {flows} edges: {} ns each, {} in all with the flows",
            table.len(),
            took.as_nanos() / u128::from(ROWS),
            began.elapsed().as_nanos() / u128::from(ROWS),
        );
    }
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
