//! Edges within their bounds.

use super::*;

fn key(remote: u32, port: u16) -> FlowKey {
    FlowKey {
        protocol: Protocol::Tcp,
        direction: Direction::Outbound,
        local: [10, 0, 0, 5].into(),
        remote: Ipv4Addr::from(0x0a01_0000 + remote).into(),
        port,
        application: None,
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

const ONE: Flow = Flow {
    opened: 1,
    closed: 1,
    reset: 0,
    failed: 0,
    sent: Some(Bytes(10)),
    received: None,
    data_segments_sent: None,
    data_segments_received: None,
    retransmitted: None,
};

fn opened(flows: &BTreeMap<FlowKey, Flow>) -> u64 {
    flows.values().map(|flow| flow.opened).sum()
}

#[test]
fn an_edge_is_let_go_when_idle_and_begins_at_zero_when_it_returns() {
    let mut edges = Edges::default();
    edges.add(&key(1, 80), &ONE, at(0));
    assert_eq!(edges.tell(at(0))[&key(1, 80)].opened, 1);
    assert_eq!(opened(&edges.tell(at(899))), 1);
    assert_eq!(edges.tell(at(900)), BTreeMap::new());

    edges.add(&key(1, 80), &ONE, at(901));
    assert_eq!(edges.tell(at(901))[&key(1, 80)], ONE);
}

#[test]
fn an_edge_with_a_living_connection_stays_however_idle() {
    let mut edges = Edges::default();
    edges.enter(&key(1, 80), at(0));
    edges.add(&key(1, 80), &ONE, at(0));
    edges.tell(at(0));
    assert_eq!(opened(&edges.tell(at(100_000))), 1);
    edges.leave(&key(1, 80), at(100_000));
    assert_eq!(opened(&edges.tell(at(100_000 + 899))), 1);
    assert_eq!(opened(&edges.tell(at(100_000 + 900))), 0);
}

#[test]
fn too_many_edges_go_together_and_nothing_is_lost_or_told_twice() {
    let mut edges = Edges::default();
    let mut told: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    let mut heard = 0;
    for round in 0..4_u32 {
        for remote in 0..5000 {
            edges.add(&key(round * 5000 + remote, 80), &ONE, at(u64::from(round)));
        }
        let now = edges.tell(at(u64::from(round)));
        assert!(now.len() <= MAX_EDGES);
        heard += now
            .iter()
            .map(|(key, flow)| flow.opened - told.get(key).map_or(0, |told| told.opened))
            .sum::<u64>();
        told = now;
    }
    assert_eq!(heard, 20_000);
    assert!(edges.merged() > 0);
    let merged: Vec<_> = told.keys().filter(|key| is_merged(key)).collect();
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0].port, 80);
}

#[test]
fn a_scan_of_every_port_stays_within_bounds() {
    let mut edges = Edges::default();
    for port in 1..=65_535 {
        edges.add(&key(1, port), &ONE, at(1));
        assert!(edges.edges.len() <= 2 * MAX_EDGES + MAX_MERGED + 4);
    }
    let flows = edges.tell(at(1));
    assert!(flows.len() <= MAX_EDGES);
    assert_eq!(opened(&flows), 65_535);
}

#[test]
fn the_service_port_is_the_one_nobody_was_given() {
    let ephemeral = 32_768..=60_999;
    let port = |local: &str, remote: &str, direction| {
        let key = ConnectionKey {
            protocol: Protocol::Tcp,
            local: local.parse().unwrap(),
            remote: Some(remote.parse().unwrap()),
        };
        edge_of(&key, direction, None, &ephemeral).unwrap().port
    };
    assert_eq!(port("10.0.0.1:22", "10.0.0.2:40000", Direction::Unknown), 22);
    assert_eq!(port("10.0.0.1:40000", "10.0.0.2:22", Direction::Unknown), 22);
    assert_eq!(port("10.0.0.1:700", "10.0.0.2:22", Direction::Unknown), 22);
    assert_eq!(port("10.0.0.1:8080", "10.0.0.2:22", Direction::Inbound), 8080);
    assert_eq!(port("10.0.0.1:8080", "10.0.0.2:22", Direction::Outbound), 22);
}
