//! What is counted of connections, rule by rule, from made-up rows, ends and openings.

use common::{
    sample::{ConnectionReader, ConnectionState, Direction, Protocol},
    units::Bytes,
};

use super::{
    super::seen::{Opening, Traffic},
    tests::{Guest, name, tcp},
    *,
};

pub(super) const OPENED: Traffic = Traffic {
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
pub(super) fn asking() -> Row {
    let row = tcp("10.0.0.5:40000", Some("10.0.0.9:5432"), ConnectionState::Established, 4);
    Row { cookie: 7, traffic: Some(OPENED), ..row }
}

pub(super) fn carried(sent: u64, received: u64) -> Traffic {
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

pub(super) fn ended(row: Row, traffic: Traffic) -> Ended {
    Ended { key: row.key, cookie: row.cookie, traffic: Some(traffic) }
}

/// It closed first, so that its own FIN was acknowledged.
pub(super) fn finished(traffic: Traffic) -> Traffic {
    Traffic { acknowledged: traffic.acknowledged + 1, ..traffic }
}

pub(super) fn told(ended: &[Ended]) -> Told {
    Told { ended: ended.to_vec(), ..Told::default() }
}

pub(super) fn opening(pid: u32, remote: &str) -> Opening {
    Opening { pid, name: format!("short {pid}"), local: None, remote: remote.parse().unwrap() }
}

pub(super) fn guest() -> Guest {
    let mut guest = Guest::with(&[(1, 20, "web"), (4, 20, "web"), (5, 21, "report")]);
    guest.ends_are_told = true;
    guest
}

impl Guest {
    pub(super) fn flows(&mut self) -> BTreeMap<FlowKey, Flow> {
        let now = self.connections.looked_at;
        self.connections.flows(now)
    }

    /// The only edge on which anything happened.
    pub(super) fn flow(&mut self) -> (FlowKey, Flow) {
        let mut flows = self.flows();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows.pop_first().unwrap()
    }

    pub(super) fn coverage(&mut self, counted: Option<u64>) -> Coverage {
        let reader = ConnectionReader::SocketDiagnosis;
        self.connections.coverage(&Sockets { counted, reader, ..Sockets::default() })
    }
}

/// Opened, closed, reset, failed.
pub(super) const fn counts(flow: &Flow) -> [u64; 4] {
    [flow.opened, flow.closed, flow.reset, flow.failed]
}

pub(super) fn bytes(flow: &Flow) -> (u64, u64) {
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
