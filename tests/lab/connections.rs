//! `sinter-lab connections`: how much of the ground truth agents see at three cadences, beside what
//! plain pollers see at the same moments of the same run.

use std::path::Path;

use crate::{
    figure::{Failure, Row, Target},
    truth::{
        compare::Score,
        course::{MACHINES, Run, Watching, everything, run, short_lived},
        group::Group,
        machines::Network,
        pollers::POLLERS,
    },
};

/// How long the course takes: two looks of the slowest cadence at least.
const SECONDS: u32 = 40;

/// Programs of each of two services that live for one connection.
const SHORT_LIVED: u32 = 100;

const WATCHES: [Watching; 3] = [
    Watching::every("1 s", 1).with_pollers(),
    Watching::every("5 s", 5).with_pollers(),
    Watching::every("15 s", 15).with_pollers(),
];

/// Takes the figure.
///
/// # Errors
///
/// If machines cannot be made of namespaces here, or a process does not do what it should.
pub fn measure() -> Result<Vec<Row>, Failure> {
    let network = Network::build(&MACHINES)?;
    let lab = std::env::current_exe()?;
    let run = run(&lab, &network, everything(&network, SECONDS), &WATCHES)?;
    if !run.troubles.is_empty() {
        return Err(format!("the course did not run as it should: {:?}", run.troubles).into());
    }
    let mut rows = Vec::new();
    for watch in WATCHES {
        rows.extend(of_watch(&run, watch.name));
    }
    rows.extend(of_short_lived(&lab, &network)?);
    Ok(rows)
}

/// Whether programs that are gone before anybody could look at them are given to their service.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn of_short_lived(lab: &Path, network: &Network) -> Result<Vec<Row>, Failure> {
    let (shop, cart) = (Group::new("shop.service")?, Group::new("cart.service")?);
    let parts = short_lived(network, [("shop", &shop), ("cart", &cart)], SHORT_LIVED);
    let watches = WATCHES.map(|watch| Watching { pollers: false, ..watch });
    let run = run(lab, network, parts, &watches)?;
    if !run.troubles.is_empty() {
        return Err(
            format!("short-lived programs did not do as they should: {:?}", run.troubles).into()
        );
    }
    let mut rows = Vec::new();
    for watch in watches {
        let score = run.score(watch.name);
        let what = format!(
            "connections of short-lived programs given to their unit, every {}",
            watch.name
        );
        rows.push(Row::new(what, score.attributed, "share").held_to(Target::AtLeast(0.99)));
        let what = format!("of them given to another, every {}", watch.name);
        rows.push(Row::new(what, score.misattributed as f64, "").held_to(Target::AtMost(0.0)));
    }
    Ok(rows)
}

fn of_watch(run: &Run, name: &str) -> Vec<Row> {
    let score = run.score(name);
    let at_least = Target::AtLeast;
    let mut rows = Vec::new();
    for poller in POLLERS {
        let peer = run.score_of_poller(name, poller.name);
        let row = |what: &str, own: f64, its: f64| {
            Row::new(format!("{what}, every {name}"), own, "share").beside(poller.name, its)
        };
        rows.push(
            row("edges with both applications", score.recall, peer.recall).held_to(at_least(0.99)),
        );
        rows.push(row("links", score.links, peer.links).held_to(at_least(0.99)));
        rows.push(row("connections seen", score.counted, peer.counted).held_to(at_least(0.99)));
    }
    rows.extend(own(&score, name));
    rows
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn own(score: &Score, name: &str) -> [Row; 7] {
    let row = |what: &str, value: f64| Row::new(format!("{what}, every {name}"), value, "share");
    let (said, truth) = score.failed;
    [
        row("precision", score.precision).held_to(Target::AtLeast(1.0)),
        row("connections given to their application", score.attributed)
            .held_to(Target::AtLeast(0.99)),
        Row::new(format!("given to another, every {name}"), score.misattributed as f64, "")
            .held_to(Target::AtMost(0.0)),
        row("links with exact counts", score.counts_exact).held_to(Target::AtLeast(1.0)),
        row("links with exact bytes", score.bytes_exact).held_to(Target::AtLeast(1.0)),
        row("coverage said", score.coverage.unwrap_or(f64::NAN)).beside("true", score.counted),
        Row::new(format!("failed attempts said, every {name}"), said as f64, "")
            .beside("true", truth as f64),
    ]
}
