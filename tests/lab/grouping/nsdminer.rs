//! `NSDMiner` (Natarajan, Ning, Liu, Jajodia, Hutchinson 2012): on each machine, flows out that begin
//! and end within a flow in; a service depends on another by the share of its flows that had one.

use std::collections::BTreeMap;

use super::{
    Pairs,
    flows::{Flow, Log, Service},
};

/// Pairs whose confidence w(A,B) / w(A) is at least `least`.
pub(super) fn dependencies(log: &Log, least: f64) -> Pairs {
    let mut inbound: BTreeMap<Service, Vec<&Flow>> = BTreeMap::new();
    let mut outbound: BTreeMap<(usize, Service), Vec<&Flow>> = BTreeMap::new();
    for flow in &log.flows {
        inbound.entry(flow.to).or_default().push(flow);
        if let Some(from) = flow.from {
            outbound.entry((from, flow.to)).or_default().push(flow);
        }
    }
    let mut found = Pairs::new();
    for (service, flows) in &inbound {
        for ((_, to), out) in outbound.range((service.machine, lowest())..) {
            if out.first().and_then(|flow| flow.from) != Some(service.machine) {
                break;
            }
            let is_nested = |flow: &&&Flow| {
                let next = out.partition_point(|inner| inner.begin < flow.begin);
                let within = out[next..].iter().take_while(|inner| inner.begin <= flow.end);
                within.into_iter().any(|inner| inner.end <= flow.end)
            };
            let nested = flows.iter().filter(is_nested).count();
            if nested as f64 >= least * flows.len() as f64 {
                found.insert((*service, *to));
            }
        }
    }
    found
}

const fn lowest() -> Service {
    Service { machine: 0, port: 0 }
}
