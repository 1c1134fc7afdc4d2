//! A prober in a trial's network: stand-ins first, then load, then one line of results.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{load, name, order, say, stand_in};
use crate::hypervisor::{
    ProbeOrder, ProbeResult,
    namespace::{Attempt, NamespaceError, user},
};

/// What to probe.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Order(pub(in super::super) ProbeOrder);

/// Probes, reports, ends.
pub(super) fn run() -> Result<(), NamespaceError> {
    name(c"sinter-probe")?;
    let Order(order) = order()?;
    user::confine()?;
    for address in &order.stand_ins {
        stand_in::serve(*address);
    }
    say("ready").or_could_not(|| "say so".to_owned())?;
    let begun = Instant::now();
    let results: Vec<ProbeResult> = thread::scope(|scope| {
        let loads: Vec<_> = order
            .targets
            .iter()
            .map(|target| scope.spawn(|| load::put(target, begun, order.duration)))
            .collect();
        loads.into_iter().filter_map(|load| load.join().ok()).collect()
    });
    // A machine without targets still has its stand-ins for as long as was ordered.
    thread::sleep(order.duration.saturating_sub(begun.elapsed()).min(Duration::from_secs(3_600)));
    let line = serde_json::to_string(&results).map_err(io::Error::other);
    line.and_then(|line| say(&line)).or_could_not(|| "report".to_owned())
}
