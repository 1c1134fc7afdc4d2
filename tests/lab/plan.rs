//! `sinter-lab plan`: how good plans are and how long they take, beside the heuristics, the bound,
//! and the policies of CloudSim's data centre in the same run.
//!
//! With `SINTER_DATA` set to a folder of traces on those; else on made-up ones, and it says so.

#[path = "plan/centre.rs"]
mod centre;
#[path = "plan/ladder.rs"]
pub mod ladder;
#[path = "plan/ours.rs"]
mod ours;
#[path = "plan/peers.rs"]
mod peers;
#[path = "plan/traces.rs"]
mod traces;
#[path = "plan/vectors.rs"]
mod vectors;

use std::time::Instant;

use self::{
    centre::{Came, Centre},
    ours::Ours,
    peers::{Peer, TooFull},
    traces::{Day, SAMPLES},
    vectors::{Shape, compared, growth},
};
use crate::figure::{Failure, Row, Target};

/// Takes the figure.
///
/// # Errors
///
/// If traces are there and cannot be read.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let days = traces::days()?;
    let mut rows = Vec::new();
    for shape in [Shape::Resources, Shape::Quarters] {
        rows.extend(compared(&days, shape, 500)?);
        rows.extend(compared(&days, shape, 5_000)?);
    }
    rows.extend(compared(&days, Shape::Hours, 5_000)?);
    rows.extend(growth(&days, &[100, 1_000, 10_000])?);
    for day in &days {
        rows.extend(of_day(day));
    }
    Ok(rows)
}

/// How good plans are at one size, beside the heuristics and the bound.
///
/// # Errors
///
/// If traces are there and cannot be read.
pub fn quality() -> Result<Vec<Row>, Failure> {
    compared(&traces::days()?, Shape::Resources, 500)
}

/// One day under each policy.
fn of_day(day: &Day) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut last = Came::default();
    for (name, too_full) in TooFull::ALL {
        last = Centre::new(day).run(&mut Peer(too_full));
        let told = [
            ("energy", last.kilowatt_hours, "kWh"),
            ("migrations", last.migrations, "-"),
            ("time short per active host", last.short * 100.0, "%"),
            ("work lost to migrations", last.lost * 100.0, "%"),
            ("host-hours", last.host_hours, "h"),
        ];
        let told = told.map(|(what, value, unit)| {
            Row::new(format!("{}, {name}: {what}", day.name), value, unit)
        });
        rows.extend(told);
    }
    let begun = Instant::now();
    let ours = Centre::new(day).run(&mut Ours::new(day.use_of.len()));
    let took = begun.elapsed().as_secs_f64();
    let row = |what: &str, value: f64, unit, peer: f64| {
        Row::new(format!("{}, ours: {what}", day.name), value, unit).beside("LR-MMT", peer)
    };
    rows.extend([
        row("energy", ours.kilowatt_hours, "kWh", last.kilowatt_hours)
            .held_to(Target::AtMostOfPeer(1.0)),
        row("migrations", ours.migrations, "-", last.migrations).held_to(Target::AtMostOfPeer(0.5)),
        row("time short per active host", ours.short * 100.0, "%", last.short * 100.0)
            .held_to(Target::AtMostOfPeer(0.5)),
        row("work lost to migrations", ours.lost * 100.0, "%", last.lost * 100.0),
        row("host-hours", ours.host_hours, "h", last.host_hours),
        Row::new(format!("{}, ours: all {SAMPLES} plans", day.name), took, "s")
            .beside("CloudSim on another computer", 61.0)
            .held_to(Target::AtMost(61.0)),
    ]);
    rows
}

#[cfg(test)]
mod tests {
    use super::{
        centre::{Came, Centre},
        ours::Ours,
        peers::{Peer, TooFull},
        traces::{NATURES, made},
    };

    /// What the replanner's constants are answerable to: days of more natures than one, none of
    /// them recorded.
    #[test]
    fn days_of_every_nature_take_less_than_local_regression_takes() {
        for (seed, (name, nature)) in (1..).zip(NATURES) {
            let day = made(name, nature, seed);
            let peer: Came = Centre::new(&day).run(&mut Peer(TooFull::Regression));
            let ours: Came = Centre::new(&day).run(&mut Ours::new(day.use_of.len()));
            let told = format!("{name}: {ours:?} against {peer:?}");
            assert!(ours.kilowatt_hours <= peer.kilowatt_hours, "{told}");
            assert!(ours.migrations <= peer.migrations / 2.0, "{told}");
            assert!(ours.short <= peer.short / 2.0, "{told}");
        }
    }
}
