//! Every event at every stage, and every way the files can be damaged.

use std::{collections::BTreeSet, fs};

use common::{
    clock::Timestamp,
    mix::{ApplicationMix, Setup},
};

use super::*;

fn mix(names: &[&str]) -> ApplicationMix {
    ApplicationMix(names.iter().map(|name| (name.parse().unwrap(), Setup::default())).collect())
}

fn name(generation: u64) -> ListName {
    ListName { generation, digest: format!("digest of {generation}") }
}

fn begun(generation: u64, target: &[&str]) -> Event {
    let server_time = Timestamp::from_millis(5);
    let (list, target, healthy) = (name(generation), mix(target), BTreeSet::new());
    Event::Begun { list, target, healthy, server_time }
}

fn at_rest() -> Account {
    let bound = Account::default().after(Event::Bound("vm-1".parse().unwrap())).unwrap();
    bound.after(Event::CameWith(mix(&["old"]))).unwrap()
}

fn after(events: impl IntoIterator<Item = Event>) -> Account {
    events.into_iter().fold(at_rest(), |account, event| account.after(event).unwrap())
}

#[test]
fn a_list_that_passes_changes_the_mix_at_its_end_and_not_before() {
    let probing = after([begun(3, &["new"]), Event::CarriedOut]);
    assert_eq!(probing.mix, mix(&["old"]));
    assert_eq!(probing.own_generations(), Generations { effective: 0, attempted: 3 });

    let passed = probing.after(Event::Passed).unwrap();
    assert_eq!(passed.mix, mix(&["new"]));
    assert_eq!(passed.own_generations(), Generations { effective: 3, attempted: 3 });
    assert_eq!(passed.outcome.unwrap().ending, Ending::Applied);
    assert_eq!(passed.change, None);
}

#[test]
fn a_list_that_fails_leaves_the_former_mix_and_says_why() {
    let failed = after([begun(3, &["new"]), Event::Failed("no luck".into()), Event::Restored]);
    assert_eq!(failed.mix, mix(&["old"]));
    assert_eq!(failed.own_generations(), Generations { effective: 0, attempted: 3 });
    let outcome = failed.outcome.unwrap();
    assert_eq!((outcome.ending, outcome.reason.as_str()), (Ending::Undone, "no luck"));
}

#[test]
fn a_stranded_guest_can_be_tried_again() {
    let stranded = after([
        begun(3, &["new"]),
        Event::Failed("no luck".into()),
        Event::NotRestored("still none".into()),
    ]);
    assert_eq!(stranded.change.as_ref().unwrap().stage, Stage::Stranded);
    assert_eq!(stranded.change.as_ref().unwrap().reason, "no luck; still none");
    let again = stranded.after(Event::Failed(String::new())).unwrap();
    assert_eq!(again.after(Event::Restored).unwrap().mix, mix(&["old"]));
}

#[test]
fn no_event_comes_out_of_turn() {
    let stages = [
        at_rest(),
        after([begun(3, &["new"])]),
        after([begun(3, &["new"]), Event::CarriedOut]),
        after([begun(3, &["new"]), Event::Failed("x".into())]),
        after([begun(3, &["new"]), Event::Failed("x".into()), Event::NotRestored("y".into())]),
    ];
    let follows = |account: &Account| {
        let events = [
            Event::Bound("vm-2".parse().unwrap()),
            Event::CameWith(mix(&[])),
            begun(4, &["other"]),
            Event::CarriedOut,
            Event::Passed,
            Event::Failed("z".into()),
            Event::Restored,
            Event::NotRestored("z".into()),
        ];
        let names = events.into_iter().filter_map(|event| {
            let name = event.name();
            account.after(event).is_ok().then_some(name)
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(follows(&stages[0]), ["bound", "came with", "begun"]);
    assert_eq!(follows(&stages[1]), ["carried out", "failed"]);
    assert_eq!(follows(&stages[2]), ["passed", "failed"]);
    assert_eq!(follows(&stages[3]), ["failed", "restored", "not restored"]);
    assert_eq!(follows(&stages[4]), ["failed"]);
}

#[test]
fn a_clone_keeps_the_mix_and_counts_its_own_generations() {
    let source = after([begun(7, &["new"]), Event::CarriedOut, Event::Passed]);
    let clone = source.after(Event::Bound("vm-2".parse().unwrap())).unwrap();
    let clone = clone.after(Event::CameWith(mix(&["old"]))).unwrap();
    assert_eq!(clone.mix, mix(&["new"]));
    assert_eq!(clone.own_generations(), Generations::default());
    let back = clone.after(Event::Bound("vm-1".parse().unwrap())).unwrap();
    assert_eq!(back.own_generations(), Generations { effective: 7, attempted: 7 });
}

fn written(folder: &Path) -> (Ledger, [Vec<u8>; 2]) {
    let mut ledger = Ledger::open(folder).unwrap();
    ledger.record(Event::Bound("vm-1".parse().unwrap())).unwrap();
    ledger.record(Event::CameWith(mix(&["old"]))).unwrap();
    ledger.record(begun(3, &["new"])).unwrap();
    let bytes = ledger.copies.clone().map(|path| fs::read(path).unwrap());
    (ledger, bytes)
}

#[test]
fn a_torn_copy_never_counts_whatever_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, [first, _]) = written(folder.path());
    for end in 0..first.len() {
        fs::write(&ledger.copies[0], &first[..end]).unwrap();
        let opened = Ledger::open(folder.path()).unwrap();
        assert_eq!(opened.account, ledger.account, "prefix of {end} bytes");
        assert_eq!(fs::read(&ledger.copies[0]).unwrap(), first, "the copy is made whole again");
    }
}

#[test]
fn with_both_copies_torn_nothing_is_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, [first, second]) = written(folder.path());
    for end in 0..first.len() {
        fs::write(&ledger.copies[0], &first[..end]).unwrap();
        fs::write(&ledger.copies[1], &second[..end]).unwrap();
        assert!(Ledger::open(folder.path()).is_err(), "prefix of {end} bytes");
    }
}

#[test]
fn the_newer_copy_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, [_, elder]) = written(folder.path());
    ledger.record(Event::CarriedOut).unwrap();
    fs::write(&ledger.copies[1], elder).unwrap();
    assert_eq!(Ledger::open(folder.path()).unwrap().account, ledger.account);
}

#[test]
fn what_was_left_half_written_beside_it_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, [first, _]) = written(folder.path());
    fs::write(folder.path().join("ledger.new"), &first[..first.len() / 2]).unwrap();
    assert_eq!(Ledger::open(folder.path()).unwrap().account, ledger.account);
}
