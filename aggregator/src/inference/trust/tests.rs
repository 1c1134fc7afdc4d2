//! Who is believed, and who is not.

use std::collections::BTreeMap;

use common::{
    id::VmId,
    sample::{Direction, Flow, FlowKey},
    units::{Bytes, Millicores},
};

use super::*;
use crate::{
    inference::{
        Backing, Findings,
        tests::{Around, around},
    },
    join::{
        OnLinks, OwnCount,
        tests::fleet::{Fleet, app, flow, name, vm},
    },
};

const ADDRESSES: [(&str, &str); 5] =
    [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3"), ("d", "10.0.0.4"), ("e", "10.0.0.5")];

/// Five machines whose agents count, and the calls that each tells of.
#[derive(Default)]
struct Talk(BTreeMap<&'static str, Vec<(FlowKey, Flow)>>);

impl Talk {
    /// A call both ends of which tell of it.
    fn both(self, from: &'static str, to: &'static str, port: u16) -> Self {
        self.from(from, to, port).to(from, to, port)
    }

    /// A call that only who calls tells of.
    fn from(mut self, from: &'static str, to: &'static str, port: u16) -> Self {
        let out = (Direction::Outbound, address(from), address(to), port);
        self.0.entry(from).or_default().push(flow(out, "app", (5, 2)));
        self
    }

    /// A call that only who answers tells of.
    fn to(mut self, from: &'static str, to: &'static str, port: u16) -> Self {
        let back = (Direction::Inbound, address(to), address(from), port);
        self.0.entry(to).or_default().push(flow(back, "app", (5, 2)));
        self
    }

    fn fleet(mut self) -> Fleet {
        let guests: Vec<_> =
            ADDRESSES.iter().map(|(of, _)| (*of, vec![app("app", 30, 8, &[8080])])).collect();
        let mut fleet = Fleet::of(&guests);
        for (of, _) in ADDRESSES {
            fleet.guest(of).counts = Some(self.0.remove(of).unwrap_or_default());
        }
        fleet
    }
}

fn address(of: &str) -> &'static str {
    ADDRESSES.iter().find(|(known, _)| *known == of).map(|(_, address)| *address).unwrap()
}

/// Names of those who are not believed.
fn doubted(found: &Findings) -> Vec<&str> {
    let doubted = found.machines.values().filter(|standing| standing.testimony.doubted);
    let mut names: Vec<&str> = doubted.map(|standing| standing.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn reason(found: &Findings, of: &str) -> String {
    found.machines[&vm(of)].trusted.reason.clone()
}

fn honest() -> Talk {
    Talk::default().both("a", "b", 8080).both("a", "c", 8080).both("b", "c", 8080)
}

#[test]
fn machines_that_agree_about_their_edges_are_believed() {
    let found = around().infer(&honest().fleet().joined(3));
    assert_eq!(doubted(&found), Vec::<&str>::new());
    assert!(found.edges.iter().all(|(_, edge)| edge.backing == Backing::Both), "{:?}", found.edges);
    assert_eq!(found.machines[&vm("c")].testimony.agrees, 2);
}

#[test]
fn who_tells_of_calls_that_the_other_end_does_not_have_is_not_believed() {
    let found = around().infer(&honest().from("a", "d", 9000).fleet().joined(3));
    assert_eq!(doubted(&found), ["a"]);
    assert!(
        reason(&found, "a").contains("the other end does not have: d"),
        "{}",
        reason(&found, "a")
    );
    let (_, edge) = found.edges.iter().find(|(key, _)| key.port == 9000).unwrap();
    assert_eq!(edge.backing, Backing::Claimed);
    assert!(found.remarks.iter().any(|told| told.contains("calls of a to d on 9000")));
    assert!(!found.machines[&vm("d")].participating.holds, "a claim makes nobody take part");
}

#[test]
fn who_tells_nothing_of_its_peers_is_not_believed_and_they_are() {
    let talk = Talk::default().both("a", "b", 8080).from("a", "c", 8080).from("b", "c", 8080);
    let found = around().infer(&talk.to("c", "d", 8080).both("d", "a", 8080).fleet().joined(3));
    assert_eq!(doubted(&found), ["c"]);
    assert!(reason(&found, "c").starts_with("3 of 3 machines"), "{}", reason(&found, "c"));
    assert!(found.machines[&vm("a")].participating.holds);
}

#[test]
fn who_denies_some_of_its_peers_is_blamed_rather_than_each_of_them() {
    let talk = honest().both("c", "e", 8080).both("d", "c", 8080).both("d", "a", 8080);
    let talk = talk.from("a", "e", 8080).from("b", "e", 8080).both("d", "e", 8080);
    let found = around().infer(&talk.fleet().joined(3));
    assert_eq!(doubted(&found), ["e"]);
    assert!(found.machines[&vm("a")].trusted.holds && found.machines[&vm("b")].trusted.holds);
}

#[test]
fn of_two_who_contradict_only_each_other_neither_is_blamed_nor_trusted() {
    let talk = honest().both("a", "d", 8080).both("b", "d", 8080).from("c", "d", 8080);
    let found = around().infer(&talk.fleet().joined(3));
    assert_eq!(doubted(&found), Vec::<&str>::new());
    assert!(reason(&found, "c").starts_with("it and d do not agree"), "{}", reason(&found, "c"));
    assert!(!found.machines[&vm("d")].trusted.holds && found.machines[&vm("a")].trusted.holds);
}

#[test]
fn who_only_samples_its_tables_denies_nothing() {
    let talk = Talk::default().both("a", "b", 8080).from("a", "c", 8080).from("b", "c", 8080);
    let mut fleet = talk.fleet();
    fleet.guest("c").counts = None;
    assert_eq!(doubted(&around().infer(&fleet.joined(3))), Vec::<&str>::new());
}

#[test]
fn what_falls_on_the_border_of_a_window_makes_no_liar() {
    let mut joined = honest().from("a", "d", 9000).fleet().joined(3);
    for window in &mut joined[..2] {
        window.edges.retain(|key, _| key.port != 9000);
    }
    assert_eq!(doubted(&around().infer(&joined)), Vec::<&str>::new());
}

#[test]
fn a_service_that_three_tell_of_is_there_though_its_agent_cannot_see_it() {
    let talk = ["a", "b", "d"].into_iter().fold(honest(), |talk, of| talk.from(of, "c", 9000));
    let talk = talk.both("d", "a", 8080).both("d", "b", 8080).both("d", "c", 8080);
    let found = around().infer(&talk.fleet().joined(3));
    assert_eq!(doubted(&found), Vec::<&str>::new());
    let claimed = found.edges.iter().filter(|(_, edge)| edge.backing == Backing::Claimed);
    assert_eq!(claimed.count(), 3);
}

#[test]
fn connections_carry_no_more_than_the_links_they_pass() {
    let mut joined = honest().fleet().joined(3);
    let much = Some(OwnCount { sent_per_second: Some(1e6), ..OwnCount::default() });
    joined[2].machines.get_mut(&vm("a")).unwrap().counted = much;
    assert_eq!(doubted(&around().infer(&joined)), Vec::<&str>::new(), "one window may be a burst");
    joined[1].machines.get_mut(&vm("a")).unwrap().counted = much;
    let found = around().infer(&joined);
    assert_eq!(doubted(&found), ["a"]);
    assert!(reason(&found, "a").contains("its connections sent"), "{}", reason(&found, "a"));
}

/// What is known of the machine `c` where its links sent so much, by its hypervisor, and its agent counted so.
fn linked(passed: Option<f64>, counted: Option<OwnCount>) -> crate::inference::Standing {
    let mut joined = honest().fleet().joined(3);
    for window in &mut joined {
        let machine = window.machines.get_mut(&vm("c")).unwrap();
        machine.outside.sent_per_second = passed;
        // Both sides of the whole agree: it is its connections that do not tell all.
        machine.guest.sent_per_second = passed;
        machine.counted = counted;
    }
    around().infer(&joined).machines[&vm("c")].clone()
}

fn at_most(most: f64) -> Option<OwnCount> {
    let sent_on_links = Some(OnLinks { least: 0.0, most });
    Some(OwnCount { complete: true, sent_on_links, ..OwnCount::default() })
}

#[test]
fn nothing_leaves_a_machine_whose_links_carry_more_than_is_told() {
    let standing = linked(Some(20_000.0), at_most(500.0));
    assert!(standing.trusted.holds, "nobody lied: {:?}", standing.trusted);
    let besides = standing.besides.unwrap_or_default();
    assert!(besides.contains("its links sent 20 KiB per second"), "{besides}");
    assert!(besides.contains("account for 500 B at most"), "{besides}");
    let known = linked(Some(20_000.0), at_most(19_000.0));
    assert_eq!(known.besides, None, "headers and clocks make up for the rest");
    assert_eq!(linked(None, at_most(500.0)).besides, None, "a hypervisor that does not say");
    assert_eq!(linked(Some(20_000.0), None).besides, None, "an agent that does not count");
}

#[test]
fn a_claim_that_both_ends_agree_on_is_held_against_the_links_of_either() {
    let told = |least: f64| {
        let mut joined = honest().both("a", "d", 9000).fleet().joined(3);
        for window in &mut joined {
            for of in ["a", "d"] {
                let machine = window.machines.get_mut(&vm(of)).unwrap();
                let sent_on_links = Some(OnLinks { least, most: 2.0 * least });
                machine.counted =
                    Some(OwnCount { complete: true, sent_on_links, ..OwnCount::default() });
                machine.outside.sent_per_second = Some(10_000.0);
                machine.guest.sent_per_second = Some(10_000.0);
            }
        }
        around().infer(&joined)
    };
    let found = told(14_000.0);
    assert_eq!(doubted(&found), ["a", "d"]);
    assert!(
        reason(&found, "a").contains("its connections sent at least"),
        "{}",
        reason(&found, "a")
    );
    assert_eq!(doubted(&told(11_000.0)), Vec::<&str>::new(), "what two clocks leave open");
}

/// What is told of the machine `a` once both sides of all its windows were changed.
fn changed(change: impl Fn(&mut Use, &mut Use)) -> (Vec<String>, String) {
    let mut joined = honest().fleet().joined(3);
    for window in &mut joined {
        let machine = window.machines.get_mut(&vm("a")).unwrap();
        change(&mut machine.guest, &mut machine.outside);
    }
    let found = around().infer(&joined);
    let names = doubted(&found).into_iter().map(ToOwned::to_owned).collect();
    (names, reason(&found, "a"))
}

#[test]
fn who_says_too_little_of_memory_or_writes_is_not_believed() {
    let (names, reason) = changed(|guest, outside| {
        guest.memory_peak = Some(Bytes::mebi(100));
        outside.memory_peak = Some(Bytes::mebi(900));
    });
    assert_eq!((names.len(), reason.contains("of memory")), (1, true), "{reason}");
    let (names, reason) = changed(|guest, outside| {
        guest.written_per_second = Some(10.0);
        outside.written_per_second = Some(1e6);
    });
    assert_eq!((names.len(), reason.contains("it writes")), (1, true), "{reason}");
}

#[test]
fn who_says_more_of_memory_or_writes_only_keeps_what_it_has() {
    let (names, _) = changed(|guest, outside| {
        (guest.memory_peak, outside.memory_peak) = (Some(Bytes::mebi(900)), Some(Bytes::mebi(100)));
        (guest.written_per_second, outside.written_per_second) = (Some(1e6), Some(10.0));
    });
    assert_eq!(names, Vec::<String>::new());
}

#[test]
fn an_idle_machine_is_no_liar() {
    let (names, reason) = changed(|guest, outside| {
        (guest.cpu_mean, outside.cpu_mean) = (Some(Millicores(1)), Some(Millicores(19)));
        (guest.sent_per_second, outside.sent_per_second) = (Some(0.0), Some(9_000.0));
        (guest.memory_peak, outside.memory_peak) = (Some(Bytes::mebi(20)), Some(Bytes::mebi(140)));
        (guest.written_per_second, outside.written_per_second) = (Some(0.0), Some(9_000.0));
    });
    assert_eq!(names, Vec::<String>::new(), "{reason}");
}

#[test]
fn an_application_that_is_not_where_it_is_known_by_is_another() {
    let mut around = around();
    let rule = crate::catalogue::Rule { port: Some(5000), ..Default::default() };
    let known = crate::catalogue::Application { rules: vec![rule], ..Default::default() };
    around.catalogue.0.insert(name("app"), known);
    let found = around.infer(&honest().fleet().joined(3));
    assert!(reason(&found, "a").contains("app runs, which is known by port 5000"));
}

fn with_past(score: f64, windows: u32) -> (Around, VmId) {
    let mut around = around();
    let former = crate::inference::Standing {
        testimony: Testimony { score, windows, ..Testimony::default() },
        ..Default::default()
    };
    around.former.machines.insert(vm("a"), former);
    (around, vm("a"))
}

#[test]
fn lies_of_the_past_are_remembered_and_in_time_forgiven() {
    let joined = honest().fleet().joined(3);
    for (score, windows, believed) in [(0.5, 100, false), (0.05, 100, true), (0.5, 3, true)] {
        let (around, of) = with_past(score, windows);
        let standing = &around.infer(&joined).machines[&of];
        assert_eq!(
            standing.trusted.holds, believed,
            "{score} of {windows}: {:?}",
            standing.trusted
        );
        assert!(standing.testimony.score < score, "a window without a lie lowers it");
    }
}

#[test]
fn the_same_window_counts_once() {
    let joined = honest().from("a", "d", 9000).fleet().joined(3);
    let mut around = around();
    around.former = around.infer(&joined);
    let again = around.infer(&joined);
    let testimony = &again.machines[&vm("a")].testimony;
    assert_eq!((testimony.windows, testimony.score), (1, 1.0));
}
