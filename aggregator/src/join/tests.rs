//! What a joined window says of a known fleet.

pub(crate) mod fleet;
mod starts;
mod translated;

use Direction::{Inbound, Outbound};
use common::sample::{Connection, ConnectionKey, ConnectionState, Direction};

use self::fleet::{
    AGGREGATOR, App, Fleet, Kind, app, at, demonstration, flow, link, name, row, vm,
};
use super::*;
use crate::window::Look;

fn only(fleet: &Fleet) -> Joined {
    fleet.joined(2).remove(1)
}

fn machine(vm_name: &str, application: &str) -> Party {
    let application = (!application.is_empty()).then(|| name(application));
    Party::Machine { vm: vm(vm_name), application }
}

fn outside(address: &str) -> Party {
    Party::External { address: address.parse().unwrap() }
}

fn traffic(joined: &Joined, client: Party, server: Party, port: u16) -> &Traffic {
    let key = EdgeKey { client, server, port };
    joined.edges.get(&key).unwrap_or_else(|| {
        panic!("no {key:?} among {:#?}", joined.edges.keys().collect::<Vec<_>>())
    })
}

#[test]
fn a_connection_seen_from_both_ends_counts_once() {
    let joined = only(&demonstration());
    let pool = traffic(&joined, machine("api-1", "api"), machine("store-1", "store"), 5432);
    assert!(pool.both_ends);
    assert_eq!((pool.seen, pool.alive, pool.opened), (2, 2, 0));
    assert!((pool.open_mean - 2.0).abs() < 1e-9, "{}", pool.open_mean);
    assert_eq!(pool.answered_at, [format!("{}:5432", "10.0.0.3").parse().unwrap()].into());
    assert!(pool.bytes.is_some_and(|bytes| bytes > 0));
}

#[test]
fn short_connections_are_counted_by_the_end_that_closed_them() {
    let joined = only(&demonstration());
    let calls = traffic(&joined, machine("web-1", ""), machine("api-1", "api"), 8080);
    assert!(!calls.both_ends);
    assert_eq!(calls.opened, 50);
    assert!(calls.seen > calls.opened, "those of the window before are still shown");
    assert!((calls.coverage - 1.0).abs() < 1e-9);
    let visits = traffic(&joined, outside("10.0.0.200"), machine("web-1", "web"), 8080);
    assert_eq!(visits.opened, 50);
}

/// The two example rows of NETSTAT that tell live communication from what is left of it.
#[test]
fn established_is_alive_and_close_wait_is_not() {
    let mut fleet = Fleet::of(&[("hope", Vec::new())]);
    fleet.guest("hope").rows = vec![
        row(
            "10.0.0.1:50001",
            "66.96.160.1:23",
            ConnectionState::Established,
            Direction::Outbound,
            "telnet",
        ),
        row(
            "10.0.0.1:50002",
            "64.1.2.3:90",
            ConnectionState::CloseWait,
            Direction::Outbound,
            "browser",
        ),
    ];
    let joined = only(&fleet);
    let telnet = traffic(&joined, machine("hope", "telnet"), outside("66.96.160.1"), 23);
    let multicity = traffic(&joined, machine("hope", "browser"), outside("64.1.2.3"), 90);
    assert_eq!((telnet.seen, telnet.alive), (1, 1));
    assert_eq!((multicity.seen, multicity.alive), (1, 0));
    assert_eq!(joined.machines[&vm("hope")].half_closed, 1);
}

#[test]
fn an_attempt_nobody_answered_failed() {
    let mut fleet = Fleet::of(&[("a", Vec::new())]);
    fleet.guest("a").rows = vec![row(
        "10.0.0.1:50001",
        "10.0.9.9:80",
        ConnectionState::SynSent,
        Direction::Outbound,
        "x",
    )];
    let joined = only(&fleet);
    assert_eq!(traffic(&joined, machine("a", "x"), outside("10.0.9.9"), 80).alive, 0);
    let record = joined.records.iter().find(|record| record.operation == "connect").unwrap();
    assert_eq!(record.outcome, Outcome::Failed);
    assert_eq!(joined.machines[&vm("a")].half_closed, 0);
}

#[test]
fn the_agents_own_connections_are_no_business() {
    let mut fleet = demonstration();
    let closed =
        row("10.0.0.1:45001", AGGREGATOR, ConnectionState::TimeWait, Direction::Outbound, "");
    fleet.guest("web-1").rows.push(closed);
    let joined = only(&fleet);
    let aggregator: IpAddr = AGGREGATOR.parse::<SocketAddr>().unwrap().ip();
    let party = Party::External { address: aggregator };
    assert!(joined.edges.keys().all(|key| key.server != party), "{:#?}", joined.edges.keys());
}

#[test]
fn what_a_clone_on_trial_does_is_no_production() {
    let mut fleet = demonstration();
    let before = only(&fleet);
    let mut clone = fleet.guest("api-1").clone();
    clone.name = "api-1-trial";
    clone.clone_of = Some("api-1");
    fleet.guests.push(clone);

    let joined = only(&fleet);
    assert!(joined.machines[&vm("api-1-trial")].on_trial);
    assert_eq!(
        joined.edges,
        before
            .edges
            .iter()
            .map(|(key, traffic)| {
                let again = &joined.edges[key];
                (key.clone(), Traffic { records: again.records.clone(), ..traffic.clone() })
            })
            .collect()
    );

    fleet.guest("api-1").power = Power::Off;
    assert!(!only(&fleet).machines[&vm("api-1-trial")].on_trial, "it has taken the place");
}

#[test]
fn a_machine_nobody_knows_is_kept_and_remarked() {
    let mut fleet = demonstration();
    fleet.guest("idle-1").in_inventory = false;
    let joined = only(&fleet);
    let machine = &joined.machines[&vm("idle-1")];
    assert_eq!((machine.power, machine.name.as_str()), (None, "idle-1"));
    assert_eq!(machine.outside, Use::default());
    assert!(joined.remarks.iter().any(|remark| remark.contains("does not know")));
}

#[test]
fn a_guest_with_other_links_than_the_hypervisor_says_contradicts_it() {
    let mut fleet = demonstration();
    fleet.guest("web-1").mac_in_guest = Some("0a:0a:0a:0a:0a:0a");
    let joined = only(&fleet);
    assert!(joined.machines[&vm("web-1")].contradictions[0].contains("0a:0a:0a:0a:0a:0a"));
    assert!(joined.machines[&vm("api-1")].contradictions.is_empty());
}

#[test]
fn one_address_on_two_machines_names_neither() {
    let mut fleet = demonstration();
    fleet.guest("idle-1").address = "10.0.0.1".to_owned();
    let joined = only(&fleet);
    assert!(joined.remarks.iter().any(|remark| remark.contains("10.0.0.1; it names none")));
    // Its own agent still says where it was answered; who called from there is not known.
    traffic(&joined, outside("10.0.0.1"), machine("api-1", "api"), 8080);
}

#[test]
fn loopback_is_another_network_on_every_machine() {
    let mut fleet =
        Fleet::of(&[("a", vec![app("db", 1, 1, &[])]), ("b", vec![app("db", 1, 1, &[])])]);
    for guest in ["a", "b"] {
        let state = ConnectionState::Established;
        fleet.guest(guest).rows = vec![
            row("127.0.0.1:50001", "127.0.0.1:6379", state, Direction::Outbound, "db"),
            row("127.0.0.1:6379", "127.0.0.1:50001", state, Direction::Inbound, "cache"),
        ];
    }
    let joined = only(&fleet);
    for guest in ["a", "b"] {
        let inner = traffic(&joined, machine(guest, "db"), machine(guest, "cache"), 6379);
        assert_eq!((inner.seen, inner.both_ends), (1, true));
    }
}

#[test]
fn an_ephemeral_port_names_no_edge() {
    let mut fleet = Fleet::of(&[("a", Vec::new())]);
    // The listener on 8080 is gone, so its old connection looks as if it went out.
    let state = ConnectionState::Established;
    fleet.guest("a").rows =
        vec![row("10.0.0.1:8080", "10.0.9.9:40000", state, Direction::Outbound, "web")];
    let joined = only(&fleet);
    assert!(joined.edges.keys().all(|key| key.port != 40_000), "{:?}", joined.edges.keys());
    traffic(&joined, outside("10.0.9.9"), machine("a", "web"), 8080);
}

#[test]
fn a_connection_nobody_can_tell_the_opener_of_is_left_out_and_remarked() {
    let mut fleet = Fleet::of(&[("a", Vec::new())]);
    let state = ConnectionState::Established;
    fleet.guest("a").rows =
        vec![row("10.0.0.1:40001", "10.0.9.9:40000", state, Direction::Unknown, "x")];
    let joined = only(&fleet);
    assert!(joined.edges.is_empty(), "{:?}", joined.edges);
    assert!(joined.remarks[0].contains("nobody saw who opened"), "{:?}", joined.remarks);
}

#[test]
fn a_closed_connection_is_put_down_to_the_one_application_that_calls_there() {
    let rows = |known: u16| {
        let closed = row(
            "10.0.0.1:50100",
            "10.0.9.9:80",
            ConnectionState::TimeWait,
            Direction::Outbound,
            "",
        );
        let open = (0..known).map(|index| {
            let local = format!("10.0.0.1:{}", 50_001 + index);
            row(&local, "10.0.9.9:80", ConnectionState::Established, Direction::Outbound, "shop")
        });
        open.chain([closed]).collect()
    };
    let mut fleet = Fleet::of(&[("a", Vec::new())]);
    fleet.guest("a").rows = rows(5);
    assert_eq!(traffic(&only(&fleet), machine("a", "shop"), outside("10.0.9.9"), 80).seen, 6);
    fleet.guest("a").rows = rows(4);
    assert_eq!(traffic(&only(&fleet), machine("a", ""), outside("10.0.9.9"), 80).seen, 1);
}

#[test]
fn use_is_told_by_both_sides_and_what_is_missing_is_not_known() {
    let mut fleet = demonstration();
    fleet.guest("store-1").has_agent = false;
    let joined = only(&fleet);
    let web = &joined.machines[&vm("web-1")];
    assert_eq!(web.outside.cpu_mean, Some(Millicores(62)));
    assert!(web.guest.cpu_mean.unwrap().0.abs_diff(62) <= 1, "{:?}", web.guest);
    assert_eq!(web.outside.memory_peak, Some(Bytes::mebi(32)));
    assert_eq!(web.out_of_memory, Some(0));
    let store = &joined.machines[&vm("store-1")];
    assert!(!store.has_agent);
    assert_eq!((store.guest.cpu_mean, store.mix.clone()), (None, None));
    assert_eq!(store.outside.cpu_mean, Some(Millicores(42)));
}

#[test]
fn a_counter_that_began_anew_makes_no_huge_rate() {
    let mut window = demonstration().windows(1).remove(0);
    let web = vm("web-1");
    let totals = [(0, 900_000), (5, 900_500), (10, 100)];
    window.looks = totals
        .map(|(second, cpu_ms)| {
            let told = crate::hypervisor::Telemetry {
                taken_at: at(second),
                cpu_ms: Some(cpu_ms),
                ..Default::default()
            };
            Look {
                at: at(second),
                telemetry: [(web.clone(), told)].into(),
                arrays: BTreeMap::new(),
            }
        })
        .into();
    let outside = join(&window).machines[&web].outside;
    assert_eq!(outside.cpu_mean, Some(Millicores(100)));
    assert_eq!(outside.memory_peak, None);
}

#[test]
fn every_edge_and_application_leads_to_its_records() {
    let joined = only(&demonstration());
    let keys: BTreeMap<&str, &Record> =
        joined.records.iter().map(|record| (record.key.as_str(), record)).collect();
    assert_eq!(keys.len(), joined.records.len(), "no two have the same key");
    for traffic in joined.edges.values() {
        assert!(!traffic.records.is_empty());
        assert!(traffic.records.iter().all(|key| keys.contains_key(key.as_str())));
    }
    let report = &joined.machines[&vm("report-1")].applications[&name("report")];
    let compute = report.records.iter().map(|key| keys[key.as_str()]);
    let compute: Vec<&Record> = compute.filter(|record| record.operation == "compute").collect();
    assert_eq!((compute.len(), compute[0].count, compute[0].source.as_str()), (1, 300, "agent"));
    let outside = joined.records.iter().filter(|record| record.source == "hypervisor");
    assert!(outside.count() >= 6 * 3);
}

#[test]
fn the_order_in_which_samples_come_changes_nothing() {
    let fleet = demonstration();
    let one: Vec<Joined> = fleet.windows_in(3, false).iter().map(join).collect();
    let other: Vec<Joined> = fleet.windows_in(3, true).iter().map(join).collect();
    assert_eq!(one, other);
}

#[test]
fn a_window_without_anything_joins_to_nothing() {
    let mut window = demonstration().windows(1).remove(0);
    window.guests.clear();
    window.inventory = None;
    window.looks.clear();
    let joined = join(&window);
    assert!(joined.machines.is_empty() && joined.edges.is_empty() && joined.records.is_empty());
}

#[test]
fn a_lost_sample_lowers_coverage_and_not_the_count() {
    let mut fleet = Fleet::of(&[("a", Vec::new()), ("b", vec![app("db", 5, 5, &[5432])])]);
    fleet.links = vec![link("a", "", "b", 5432, Kind::Short(2.0))];
    fleet.guest("b").loses_one_in = 5;
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", ""), machine("b", "db"), 5432);
    assert!((calls.coverage - 0.8).abs() < 1e-9, "{}", calls.coverage);
    assert!(calls.opened >= 18, "{}", calls.opened);
    let App { name: listening, .. } = &fleet.guests[1].apps[0];
    assert_eq!(*listening, "db");
}

/// Two machines, of which `a` calls `b` on 8080.
fn counting() -> Fleet {
    let api = App { in_mix: false, ..app("api", 5, 5, &[8080]) };
    let mut fleet = Fleet::of(&[("a", Vec::new()), ("b", vec![api])]);
    let out = (Outbound, "10.0.0.1", "10.0.0.2", 8080);
    let back = (Inbound, "10.0.0.2", "10.0.0.1", 8080);
    fleet.guest("a").counts = Some(vec![flow(out, "web", (5, 20))]);
    fleet.guest("b").counts = Some(vec![flow(back, "api", (5, 20))]);
    fleet
}

#[test]
fn connections_that_no_sample_shows_are_counted_once() {
    let joined = only(&counting());
    let calls = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert!(calls.both_ends);
    assert_eq!((calls.opened, calls.alive, calls.failed), (50, 50, 0));
    assert_eq!((calls.exchanges, calls.bytes), (Some(200), Some(80_000)));
    assert_eq!(calls.watched, Duration::from_secs(10));
    assert!((calls.coverage - 1.0).abs() < 1e-9, "{}", calls.coverage);
    assert_eq!(joined.edges.len(), 1, "{:?}", joined.edges.keys());
    let told: Vec<_> = joined
        .records
        .iter()
        .filter(|record| record.source == "both agents")
        .map(|record| (record.operation.as_str(), record.count, record.size_class))
        .collect();
    let expected = [
        ("connect", 50, Some(10)),
        ("exchange", 200, Some(8)),
        ("answer", 50, Some(10)),
        ("exchange", 200, Some(8)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_row_left_at_the_servers_end_makes_no_edge_beside_the_known_one() {
    let mut fleet = counting();
    fleet.links = vec![link("a", "", "b", 8080, Kind::Short(5.0))];
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert_eq!(calls.opened, 50, "the rows count nothing again");
    assert_eq!(joined.edges.len(), 1, "{:?}", joined.edges.keys());
}

#[test]
fn what_the_client_lost_is_counted_by_the_server_and_split_as_the_client_splits_it() {
    let mut fleet = counting();
    let out = (Outbound, "10.0.0.1", "10.0.0.2", 8080);
    let own = vec![flow(out, "web", (3, 3)), flow(out, "job", (1, 1))];
    fleet.guest("a").counts = Some(own);
    fleet.guest("a").misses_one_in = 4;
    let back = (Inbound, "10.0.0.2", "10.0.0.1", 8080);
    fleet.guest("b").counts = Some(vec![flow(back, "api", (8, 8))]);

    let joined = only(&fleet);

    let web = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    let job = traffic(&joined, machine("a", "job"), machine("b", "api"), 8080);
    assert_eq!((web.opened, job.opened), (60, 20));
    assert_eq!(joined.edges.len(), 2, "{:?}", joined.edges.keys());
    assert!((web.coverage - 1.0).abs() < 1e-9, "by the end that saw more: {}", web.coverage);
}

#[test]
fn coverage_is_that_of_the_samples_times_that_of_the_count() {
    let mut fleet = counting();
    fleet.guest("b").has_agent = false;
    fleet.guest("a").misses_one_in = 4;
    let joined = only(&fleet);
    let calls = traffic(&joined, machine("a", "web"), machine("b", ""), 8080);
    assert!(!calls.both_ends);
    assert!((calls.coverage - 0.8).abs() < 0.01, "{}", calls.coverage);
}

#[test]
fn a_pool_shows_by_its_exchanges_and_failed_attempts_are_no_connections() {
    let mut fleet = counting();
    let pool = (Outbound, "10.0.0.1", "10.0.0.2", 8080);
    let dead = (Outbound, "10.0.0.1", "10.9.9.9", 25);
    let (key, mut failing) = flow(dead, "mail", (0, 0));
    failing.failed = 2;
    fleet.guest("a").counts = Some(vec![flow(pool, "web", (0, 7)), (key, failing)]);
    fleet.guest("b").counts = Some(Vec::new());
    let joined = only(&fleet);
    let pool = traffic(&joined, machine("a", "web"), machine("b", "api"), 8080);
    assert_eq!((pool.opened, pool.exchanges), (0, Some(70)));
    let mail = traffic(&joined, machine("a", "mail"), outside("10.9.9.9"), 25);
    assert_eq!((mail.opened, mail.failed, mail.alive), (0, 20, 0));
    let failed = joined.records.iter().find(|record| record.outcome == Outcome::Failed).unwrap();
    assert_eq!((failed.operation.as_str(), failed.count), ("connect", 20));
}

#[test]
fn an_agents_own_count_is_no_business_either() {
    let mut fleet = counting();
    let up = (Outbound, "10.0.0.1", "10.9.0.1", 7401);
    fleet.guest("a").counts = Some(vec![flow(up, "sinter-agent", (1, 1))]);
    fleet.guest("b").counts = None;
    assert!(only(&fleet).edges.is_empty());
}

#[test]
fn a_row_in_nobodys_hands_that_only_an_agent_counted_is_no_business_either() {
    let mut fleet = counting();
    fleet.links = vec![link("a", "", "b", 8080, Kind::Short(5.0))];
    let out = (Outbound, "10.0.0.1", "10.0.0.2", 8080);
    fleet.guest("a").counts = Some(vec![flow(out, "sinter-agent", (5, 20))]);
    fleet.guest("b").counts = None;
    let joined = only(&fleet);
    assert!(joined.edges.is_empty(), "{:?}", joined.edges.keys());
}

#[test]
fn what_an_agent_counted_before_it_was_first_heard_is_in_no_window() {
    let first = counting().joined(2).remove(0);
    let calls = traffic(&first, machine("a", "web"), machine("b", "api"), 8080);
    assert_eq!(calls.opened, 45, "nine steps between ten samples");
}

#[test]
fn what_an_array_counted_is_the_machines_whose_address_its_initiator_has() {
    use std::sync::Arc;

    use crate::storage::{Holder, Survey, Told, Totals, tests::bare};

    let fleet = demonstration();
    let mut window = fleet.windows(1).remove(0);
    let address = *join(&window).machines[&vm("web-1")].addresses.first().unwrap();
    let holder = |initiator: &str, address| Holder {
        initiator: initiator.to_owned(),
        addresses: vec![address],
        may_write: Some(true),
    };
    let stranger = holder("iqn.stranger", "203.0.113.9".parse().unwrap());
    let holders = vec![holder("iqn.web", address), stranger];
    let device = crate::storage::Device { connections: Told::Is(holders), ..bare("disk/1") };
    let counted = |second, writes, failed, initiator: &str| Totals {
        taken_at: at(second),
        device: "disk/1".to_owned(),
        initiator: Some(initiator.to_owned()),
        writes: Some(writes),
        written: Some(Bytes(writes * 4096)),
        failed: Some(failed),
        ..Totals::default()
    };
    for (look, writes) in window.looks.iter_mut().zip([100, 150, 400]) {
        let second = look.at.since(at(0)).as_secs();
        let totals = ["iqn.web", "iqn.stranger"].map(|i| counted(second, writes, writes / 100, i));
        let survey = Survey { devices: Arc::new(vec![device.clone()]), totals: totals.into() };
        look.arrays = [("shelf".to_owned(), survey)].into();
    }
    let looks = window.looks.len();
    assert!(looks >= 3, "{looks}");
    window.looks.truncate(3);

    let joined = join(&window);

    let of_array = joined.records.iter().filter(|record| record.source == "array");
    let told: Vec<_> = of_array
        .map(|record| (record.vm.as_str(), &*record.operation, &*record.target, record.count))
        .collect();
    let web = vm("web-1");
    let web = web.as_str();
    assert_eq!(
        told,
        [(web, "write", "shelf:disk/1", 300), (web, "read or write", "shelf:disk/1", 3)]
    );
    let stranger = "initiator iqn.stranger has no address of one machine";
    assert!(joined.remarks.iter().any(|remark| remark.contains(stranger)), "{:?}", joined.remarks);
}
