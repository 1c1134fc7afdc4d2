use std::collections::{BTreeMap, BTreeSet};

use common::{
    sample::{Coverage, Direction, Flow, FlowKey, Protocol},
    units::Bytes,
};

use super::{
    super::{
        look::Report,
        pollers::Sighting,
        script::{Connected, Done, End, Serving, Told},
    },
    *,
};

fn addresses() -> Addresses {
    let pairs = [("10.0.0.1", "front"), ("10.0.0.2", "back")];
    Addresses(pairs.iter().map(|(ip, name)| (ip.parse().unwrap(), (*name).to_owned())).collect())
}

fn connected(end: End) -> Connected {
    Connected {
        protocol: Protocol::Tcp,
        local: "10.0.0.1:40000".parse().unwrap(),
        remote: "[::ffff:10.0.0.2]:80".parse().unwrap(),
        sent: 10,
        received: 100,
        end,
        lived_us: 1_000,
    }
}

fn told(ends: &[End]) -> Vec<Told> {
    let opened = ends.iter().map(|end| connected(*end)).collect();
    let serving = Serving { protocol: Protocol::Tcp, listen: "0.0.0.0:80".parse().unwrap() };
    vec![
        Told {
            machine: "front".into(),
            application: "web".into(),
            serves: Vec::new(),
            done: Done { opened, ..Done::default() },
        },
        Told {
            machine: "back".into(),
            application: "db".into(),
            serves: vec![serving],
            done: Done::default(),
        },
    ]
}

fn flow(direction: Direction, application: Option<&str>, opened: u64) -> (FlowKey, Flow) {
    let is_out = direction == Direction::Outbound;
    let (front, back) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let key = FlowKey {
        protocol: Protocol::Tcp,
        direction,
        local: if is_out { front } else { back },
        remote: if is_out { back } else { front },
        port: 80,
        application: application.map(|name| name.parse().unwrap()),
    };
    let (out, back) = (Some(Bytes(10 * opened)), Some(Bytes(100 * opened)));
    let (sent, received) = if is_out { (out, back) } else { (back, out) };
    (key, Flow { opened, closed: opened, sent, received, ..Flow::default() })
}

fn reports(front: Vec<(FlowKey, Flow)>, back: Vec<(FlowKey, Flow)>) -> BTreeMap<String, Report> {
    let report = |flows| Report { flows, ..Report::default() };
    BTreeMap::from([("front".to_owned(), report(front)), ("back".to_owned(), report(back))])
}

fn scored(ends: &[End], reports: &BTreeMap<String, Report>) -> Score {
    score(&truth(&told(ends), &addresses()), &from_flows(reports, &addresses()))
}

#[test]
fn what_is_said_exactly_scores_full() {
    let front = vec![flow(Direction::Outbound, Some("web"), 2)];
    let back = vec![flow(Direction::Inbound, Some("db"), 2)];
    let score = scored(&[End::Closed, End::Closed], &reports(front, back));
    assert_eq!((score.recall, score.precision, score.attributed), (1.0, 1.0, 1.0));
    assert_eq!((score.counts_exact, score.bytes_exact), (1.0, 1.0));
    assert!(score.inexact.is_empty());
}

#[test]
fn one_end_alone_finds_the_link_but_not_the_edge() {
    let back = vec![flow(Direction::Inbound, Some("db"), 2)];
    let score = scored(&[End::Closed, End::Closed], &reports(Vec::new(), back));
    assert_eq!((score.recall, score.links, score.precision), (0.0, 1.0, 1.0));
    assert_eq!((score.counted, score.attributed), (0.5, 0.0));
}

#[test]
fn an_edge_given_to_another_application_is_false() {
    let front = vec![flow(Direction::Outbound, Some("other"), 1)];
    let score = scored(&[End::Closed], &reports(front, Vec::new()));
    assert_eq!((score.precision, score.misattributed), (0.0, 1));
}

#[test]
fn a_failed_attempt_is_no_edge_but_is_counted() {
    let (key, _) = flow(Direction::Outbound, Some("web"), 0);
    let front = vec![(key, Flow { failed: 1, ..Flow::default() })];
    let score = scored(&[End::Failed], &reports(front, Vec::new()));
    assert_eq!((score.failed, score.recall, score.precision), ((1, 1), 1.0, 1.0));
}

#[test]
fn a_byte_too_many_is_not_exact() {
    let mut front = vec![flow(Direction::Outbound, Some("web"), 1)];
    front[0].1.received = Some(Bytes(101));
    let back = vec![flow(Direction::Inbound, Some("db"), 1)];
    let score = scored(&[End::Closed], &reports(front, back));
    assert_eq!((score.counts_exact, score.bytes_exact), (1.0, 0.0));
    assert_eq!(score.inexact.len(), 1);
}

#[test]
fn coverage_is_what_was_seen_of_what_was_due() {
    let mut all = reports(Vec::new(), Vec::new());
    let coverage = Coverage { due: Some(10), seen: 8, ..Coverage::default() };
    all.get_mut("front").unwrap().coverage = Some(coverage);
    assert_eq!(scored(&[End::Closed], &all).coverage, Some(0.8));
}

#[test]
fn rows_of_a_poller_become_edges_by_its_listeners() {
    let row = |local: &str, remote: Option<&str>, application: Option<&str>| Sighting {
        protocol: Protocol::Tcp,
        local: local.parse().unwrap(),
        remote: remote.map(|end| end.parse().unwrap()),
        application: application.map(str::to_owned),
    };
    let front = [row("10.0.0.1:40000", Some("10.0.0.2:80"), Some("web"))];
    let back =
        [row("0.0.0.0:80", None, Some("db")), row("10.0.0.2:80", Some("10.0.0.1:40000"), None)];
    let tables = BTreeMap::from([
        ("front".to_owned(), BTreeSet::from(front)),
        ("back".to_owned(), BTreeSet::from(back)),
    ]);
    let score =
        score(&truth(&told(&[End::Closed]), &addresses()), &from_rows(&tables, &addresses()));
    assert_eq!((score.recall, score.precision), (1.0, 1.0));
}
