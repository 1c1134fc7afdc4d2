//! Co-occurrence after Sherlock (Bahl and others, SIGCOMM 2007): how much more often a flow out begins
//! within 10 ms after a flow in than the gaps between flows out would let it by chance.

use std::collections::BTreeMap;

use super::{
    Pairs,
    flows::{LENGTH, Log, Service},
};

/// Flows that begin so soon after another may be because of it, in seconds.
const SOON: f64 = 0.01;

/// Pairs whose share of co-occurrence, chance taken away, is at least `least`.
pub(super) fn dependencies(log: &Log, least: f64) -> Pairs {
    let mut inbound: BTreeMap<Service, Vec<f64>> = BTreeMap::new();
    let mut outbound: BTreeMap<usize, BTreeMap<Service, Vec<f64>>> = BTreeMap::new();
    for flow in &log.flows {
        inbound.entry(flow.to).or_default().push(flow.begin);
        if let Some(from) = flow.from {
            outbound.entry(from).or_default().entry(flow.to).or_default().push(flow.begin);
        }
    }
    let mut found = Pairs::new();
    for (service, begins) in &inbound {
        for (to, out) in outbound.get(&service.machine).into_iter().flatten() {
            let is_soon = |begin: &&f64| {
                let next = out.partition_point(|other| other < *begin);
                out.get(next).is_some_and(|other| *other <= **begin + SOON)
            };
            let share = begins.iter().filter(is_soon).count() as f64 / begins.len() as f64;
            let chance = SOON * out.len() as f64 / LENGTH;
            if share - chance >= least {
                found.insert((*service, *to));
            }
        }
    }
    found
}
