//! `sinter-lab loop`: how long the whole loop takes on machines made of namespaces, from nothing
//! to an audited mix, and how long each way back.

use crate::{
    demonstration::{Demonstration, Ended, run, stage},
    figure::{Failure, Row, Target},
};

/// Takes the figure.
///
/// # Errors
///
/// If a demonstration does not end as it was asked to, or this host cannot make machines.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let _stage = stage();
    let shown = ended(&["--approve", "--once"])?;
    let mut rows = vec![
        Row::new("first plan after", told_at(&shown, "plan p-")?, "s")
            .held_to(Target::AtMost(60.0)),
        Row::new("promoted and audited after", told_at(&shown, "promoted and audited")?, "s")
            .held_to(Target::AtMost(180.0)),
    ];
    for broken in ["trial", "promotion", "audit"] {
        let shown = ended(&["--approve", "--once", "--break", broken])?;
        let took = told_at(&shown, "restored:")? - told_at(&shown, "turned back:")?;
        rows.push(Row::new(format!("way back from a failed {broken}"), took, "s"));
    }
    Ok(rows)
}

fn ended(arguments: &[&str]) -> Result<Demonstration, Failure> {
    let shown = run(arguments)?;
    match &shown.ended {
        Ended::Code(0) => Ok(shown),
        ended => Err(format!("dev {arguments:?} ended with {ended:?}:\n{}", shown.log).into()),
    }
}

/// When the story first tells something, in seconds since its start.
fn told_at(shown: &Demonstration, what: &str) -> Result<f64, Failure> {
    let told = shown.story.lines().find_map(|line| {
        let (seconds, text) = line.trim_start().split_once(" s  ")?;
        text.starts_with(what).then(|| seconds.parse().ok()).flatten()
    });
    told.ok_or_else(|| format!("the story does not tell {what:?}:\n{}", shown.story).into())
}
