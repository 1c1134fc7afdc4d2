//! The closed loop, for real: machines, agents, workloads, clone, trial, promotion, audit, and the
//! way back from each of the three stages that may fail.

use lab::demonstration::{Demonstration, Ended, left_out, run, stage};

/// Runs a demonstration that must end as it was asked to; `None` where it cannot run.
fn ended_as_asked(test: &str, arguments: &[&str]) -> Option<Demonstration> {
    let _stage = stage();
    let shown = run(arguments).unwrap();
    match &shown.ended {
        Ended::HostCannot(why) => {
            left_out(test, why);
            return None;
        }
        Ended::Code(0) => {}
        ended => panic!("{ended:?}\n{}\n{}", shown.story, shown.log),
    }
    Some(shown)
}

fn tells(shown: &Demonstration, what: &str) {
    assert!(shown.story.contains(what), "the story does not tell {what:?}:\n{}", shown.story);
}

#[test]
fn a_mix_that_passes_its_trial_goes_live_and_stays() {
    let test = "a_mix_that_passes_its_trial_goes_live_and_stays";
    let Some(shown) = ended_as_asked(test, &["--approve", "--once"]) else { return };
    tells(&shown, "promoted and audited");
}

#[test]
fn a_failed_trial_leaves_everything_as_it_was() {
    let test = "a_failed_trial_leaves_everything_as_it_was";
    let arguments = ["--approve", "--once", "--break", "trial"];
    let Some(shown) = ended_as_asked(test, &arguments) else { return };
    tells(&shown, "restored: applications, processes, limits and addresses are as before");
}

#[test]
fn a_failed_promotion_leaves_everything_as_it_was() {
    let test = "a_failed_promotion_leaves_everything_as_it_was";
    let arguments = ["--approve", "--once", "--break", "promotion"];
    let Some(shown) = ended_as_asked(test, &arguments) else { return };
    tells(&shown, "restored: applications, processes, limits and addresses are as before");
}

#[test]
fn a_regression_found_by_the_audit_leaves_everything_as_it_was() {
    let test = "a_regression_found_by_the_audit_leaves_everything_as_it_was";
    let arguments = ["--approve", "--once", "--break", "audit"];
    let Some(shown) = ended_as_asked(test, &arguments) else { return };
    tells(&shown, "restored: applications, processes, limits and addresses are as before");
}
