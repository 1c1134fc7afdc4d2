//! What the doctor found, for people.

use super::paper::{Paper, Tone};
use crate::doctor::{Check, Report, Verdict};

/// One line for each check, and under one that is not passed what it costs and what to do.
pub(super) fn text(paper: &Paper, report: &Report) -> String {
    let mut text: String = report.checks.iter().map(|check| lines(paper, check)).collect();
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    let (passed, warned, failed) =
        (count(Verdict::Pass), count(Verdict::Warn), count(Verdict::Fail));
    text += &paper.heading(&format!("{passed} passed, {warned} warnings, {failed} failed"));
    if report.bad_configuration {
        text += "\nwhat depends on the configuration was not checked";
    }
    text + "\n"
}

fn lines(paper: &Paper, check: &Check) -> String {
    let (word, tone) = match check.verdict {
        Verdict::Pass => ("pass", Tone::Good),
        Verdict::Warn => ("warn", Tone::Doubtful),
        Verdict::Fail => ("FAIL", Tone::Bad),
    };
    // Whole: what is to be done must not be cut.
    let mut text =
        format!("{}  {:26} {}\n", paper.word(word, tone), check.name, clean(&check.found));
    for (name, said) in [("costs", &check.cost), ("remedy", &check.remedy)] {
        if let Some(said) = said {
            let name = paper.word(&format!("{name:>26}"), Tone::Faint);
            text += &format!("      {name} {}\n", clean(said));
        }
    }
    text
}

fn clean(text: &str) -> String {
    super::paper::safe(text)
}
