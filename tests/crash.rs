//! Kills the aggregator after every single entry of a plan's journal, while real machines run on,
//! and lets the next one find its way: to the new mix, or back to the old one.

use lab::demonstration::{Ended, left_out, run, stage};

/// No plan has as many journal entries, forward and back together.
const MOST_KILLS: usize = 120;
const KILLED: i32 = 9;

/// Runs a demonstration that dies after each journal entry and is taken up again, to its end.
fn killed_at_every_entry(test: &str, arguments: &[&str]) {
    let _stage = stage();
    let mut arguments = [arguments, &["--approve", "--once", "--kill-after-event", "1"]].concat();
    for kills in 0..MOST_KILLS {
        let shown = run(&arguments).unwrap();
        match shown.ended {
            Ended::HostCannot(why) => return left_out(test, &why),
            Ended::Signal(KILLED) => {}
            Ended::Code(0) => {
                assert!(kills > 20, "a plan has more entries than {kills}:\n{}", shown.story);
                println!("{kills} kills, then it ended as asked");
                return;
            }
            ended => panic!("after {kills} kills: {ended:?}\n{}\n{}", shown.story, shown.log),
        }
        if kills == 0 {
            arguments.push("--resume");
        }
    }
    panic!("it is killed for ever");
}

#[test]
fn killed_after_every_journal_entry_a_good_mix_is_promoted_once() {
    killed_at_every_entry("killed_after_every_journal_entry_a_good_mix_is_promoted_once", &[]);
}

#[test]
fn killed_after_every_journal_entry_a_bad_mix_is_undone_exactly() {
    let test = "killed_after_every_journal_entry_a_bad_mix_is_undone_exactly";
    killed_at_every_entry(test, &["--break", "audit"]);
}
