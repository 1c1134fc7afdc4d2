//! Agents against the ground truth: every connection, byte and disk operation of known processes in
//! network namespaces, held to what the agents in the same namespaces say.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::sample::Protocol;
use lab::{
    demonstration::left_out,
    truth::{
        compare::Score,
        course::{MACHINES, Part, Run, Watching, everything, run, short_lived},
        group::Group,
        machines::Network,
        script::{Calling, Ending, Script, Serving},
    },
};

const LAB: &str = env!("CARGO_BIN_EXE_sinter-lab");

/// One course at a time: two cores carry no more.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None`, said loudly, where machines cannot be made.
fn network(test: &str, names: &[&str]) -> Option<Network> {
    match Network::build(names) {
        Ok(network) => Some(network),
        Err(cause) => {
            left_out(test, &format!("{cause}; it needs root and iproute2"));
            None
        }
    }
}

fn course(network: &Network, parts: Vec<Part>, watches: &[Watching]) -> Run {
    let run = run(Path::new(LAB), network, parts, watches).unwrap();
    assert!(run.troubles.is_empty(), "{:#?}", run.troubles);
    run
}

fn tell(name: &str, run: &Run) -> Score {
    let score = run.score(name);
    score.missed.iter().for_each(|edge| println!("{name}: missed {edge}"));
    score.false_edges.iter().for_each(|edge| println!("{name}: false {edge}"));
    score.inexact.iter().for_each(|link| println!("{name}: inexact {link}"));
    println!(
        "{name}: recall {:.3} links {:.3} precision {:.3} attributed {:.3} (wrong {}) counted {:.4} \
         coverage {:?} counts {:.3} bytes {:.3} failed {:?}",
        score.recall,
        score.links,
        score.precision,
        score.attributed,
        score.misattributed,
        score.counted,
        score.coverage,
        score.counts_exact,
        score.bytes_exact,
        score.failed,
    );
    score
}

fn main_watch(run: &Run, name: &str) -> bool {
    let reports = &run.reports[name];
    reports.values().all(|report| report.coverage.is_some_and(|coverage| coverage.opens_are_told))
}

#[test]
fn everything_that_happened_is_seen_and_nothing_else() {
    let _turn = turn();
    let Some(network) = network("everything_that_happened", &MACHINES) else { return };
    let watches = [
        Watching::every("1 s", 1),
        Watching::every("5 s", 5).with_pollers(),
        // The kernel tells of ends also to those who may not change the network.
        Watching::every("fewer rights", 5).without_net_admin(),
    ];

    let run = course(&network, everything(&network, 12), &watches);

    for name in ["1 s", "5 s", "fewer rights"] {
        let score = tell(name, &run);
        for report in run.reports[name].values() {
            println!("{:?} {}", report.coverage, report.source);
        }
        assert!(score.links >= 0.99 && score.precision == 1.0 && score.misattributed == 0);
        assert!(score.counted >= 0.99 && score.coverage >= Some(0.99));
        assert!(score.counts_exact == 1.0 && score.bytes_exact == 1.0);
        assert_eq!(score.failed.0, score.failed.1);
        if main_watch(&run, name) {
            assert!(score.recall >= 0.99 && score.attributed >= 0.99);
        }
    }
    // Without ends, what lingers in TIME_WAIT at one end or the other still shows most links, but
    // not whose they are, nor those that were reset.
    let polled = run.score_of_poller("5 s", "/proc");
    println!("/proc: recall {:.3} links {:.3}", polled.recall, polled.links);
    assert!(polled.links >= 0.8 && polled.links < 1.0 && polled.recall < 0.8);
    disks(&run);
}

/// The kernel charges whole pages, now and then one of the file's own bookkeeping, and of the
/// program's own file what is not in memory.
fn disks(run: &Run) {
    let said = run.said("1 s").disks;
    let (read, written) = run.truth.disks["database"];
    let (said_read, said_written) = said["database"];
    println!("disk: true {read} {written}, said {said_read:?} {said_written:?}");
    let near = |said: Option<u64>, truth: u64| {
        said.is_some_and(|said| said >= truth && said <= truth + truth / 10 + (64 << 10))
    };
    assert!(near(said_read, read) && near(said_written, written));
}

#[test]
fn a_socket_belongs_to_the_unit_whose_group_made_it() {
    const TEST: &str = "a_socket_belongs_to_the_unit_whose_group_made_it";
    let _turn = turn();
    let Some(network) = network(TEST, &["client", "server"]) else { return };
    let group = match Group::new("shop.service") {
        Ok(group) => group,
        Err(cause) => return left_out(TEST, &cause.to_string()),
    };
    let server = network.machine("server").at(80);
    let calls = vec![Calling::pooled(server, 60, 100).ending(Ending::Stays)];
    let script = Script { calls, group: Some(group.folder().to_owned()), ..Script::default() };
    let parts = vec![
        serving("server", "store", server),
        Part { machine: "client", application: "front-file", script },
    ];
    let watches = [Watching::every("all rights", 1), Watching::every("fewer", 1).without_ptrace()];

    let run = course(&network, parts, &watches);

    for name in ["all rights", "fewer"] {
        let report = &run.reports[name]["client"];
        let rows: Vec<_> = report.rows.iter().filter(|row| row.remote == Some(server)).collect();
        println!("{name}: {rows:?} {:?} {}", report.groups, report.source);
        assert!(matches!(rows[..], [row] if row.application.as_deref() == Some("shop")));
    }
    assert!(run.reports["fewer"]["client"].groups.contains("shop.service"));
}

#[test]
fn programs_that_are_gone_before_anybody_looks_belong_to_the_unit_that_started_them() {
    const TEST: &str =
        "programs_that_are_gone_before_anybody_looks_belong_to_the_unit_that_started_them";
    let _turn = turn();
    let Some(network) = network(TEST, &MACHINES) else { return };
    let (shop, cart) = match (Group::new("shop.service"), Group::new("cart.service")) {
        (Ok(shop), Ok(cart)) => (shop, cart),
        (Err(cause), _) | (_, Err(cause)) => return left_out(TEST, &cause.to_string()),
    };
    let parts = short_lived(&network, [("shop", &shop), ("cart", &cart)], 50);

    let run = course(&network, parts, &[Watching::every("every 5 s", 5)]);

    let score = tell("every 5 s", &run);
    assert!(score.links == 1.0 && score.attributed >= 0.99 && score.misattributed == 0);
}

fn serving(machine: &'static str, application: &'static str, listen: SocketAddr) -> Part {
    let serves = vec![Serving { protocol: Protocol::Tcp, listen }];
    Part { machine, application, script: Script { serves, ..Script::default() } }
}

#[test]
fn an_agent_without_cpu_misses_nothing_of_twenty_thousand_connections_or_says_so() {
    let _turn = turn();
    let test = "an_agent_without_cpu";
    let Some(network) = network(test, &["client", "server"]) else { return };
    let ports = [81, 82].map(|port| network.machine("server").at(port));
    let serves = ports.map(|listen| Serving { protocol: Protocol::Tcp, listen });
    let store = Script { serves: serves.to_vec(), ..Script::default() };
    let calls = ports.map(|port| Calling::short(port, 10_000, 0));
    let flood = Script { calls: calls.to_vec(), ..Script::default() };
    let parts = vec![
        Part { machine: "server", application: "store", script: store },
        Part { machine: "client", application: "flood", script: flood },
    ];

    let run = course(&network, parts, &[Watching::every("starved", 1).starved()]);

    let score = tell("starved", &run);
    assert!(score.links == 1.0 && score.precision == 1.0 && score.misattributed == 0);
    let said = score.coverage.unwrap();
    assert!((said - score.counted).abs() <= 0.02, "says {said}, counted {}", score.counted);
}
