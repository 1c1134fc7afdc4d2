//! What inference makes of the log: its flows as the joined windows that agents would have led to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aggregator::{
    catalogue::Catalogue,
    grouping::GroupRules,
    history::{History, Limits},
    hypervisor::Power,
    inference::{self, Context, Findings},
    join::{EdgeKey, Joined, JoinedMachine, Party, Traffic, Use},
    policy::{Policy, Scope},
};
use common::{
    clock::Timestamp,
    id::{AppName, VmId, WindowId},
};

use super::{
    Pairs,
    flows::{Flow, LENGTH, Log, Service},
};

/// When the log begins, in seconds; any whole number of windows does.
const EPOCH: u64 = 1_000_000_020;
/// Length of a window, in seconds.
const WINDOW: f64 = 30.0;

/// Which service depends on which: the calls of its process, and it is known by its port.
pub(super) fn dependencies(log: &Log) -> Pairs {
    let windows = windows(log).unwrap_or_default();
    let policy = Policy { window_seconds: 30, sample_period_ms: 1_000, ..Policy::default() };
    let mut history = History::new(Limits::of(&policy));
    windows.iter().for_each(|window| history.take(window));
    let findings = inference::infer(
        &windows[windows.len().saturating_sub(12)..],
        &Context {
            policy: &policy,
            catalogue: &Catalogue::default(),
            scope: &Scope::default(),
            groups: &GroupRules::default(),
            former: &Findings::default(),
            cooldowns: &BTreeMap::new(),
            busy: &BTreeSet::new(),
            history: &history,
        },
    );
    let edges = findings.dependencies.iter().map(|known| &known.edge);
    // What nobody calls is no service, and what it calls is no dependency of one.
    let ends = edges.filter_map(|edge| Some((service(&edge.client)?, service(&edge.server)?)));
    ends.filter(|(from, _)| from.port > 0).collect()
}

fn windows(log: &Log) -> Option<Vec<Joined>> {
    let machines: BTreeSet<usize> =
        log.flows.iter().flat_map(|flow| flow.from.into_iter().chain([flow.to.machine])).collect();
    let watched = Duration::from_secs_f64(WINDOW);
    let mut windows = Vec::new();
    let mut begin = 0.0;
    while begin < LENGTH {
        let opened = Duration::from_secs_f64(begin).as_secs();
        let from = Timestamp::from_millis((EPOCH + opened) * 1000);
        let mut edges: BTreeMap<EdgeKey, Traffic> = BTreeMap::new();
        let is_in = |at: f64| at >= begin && at < begin + WINDOW;
        for flow in log.flows.iter().filter(|flow| is_in(flow.begin)) {
            let Some(from) = flow.from else { continue };
            let traffic = edges.entry(edge(from, flow.process, flow.to)?).or_default();
            traffic.opened += 1;
            traffic.alive += 1;
        }
        // A pool is open in every window, whether anything is asked over it or not.
        let is_open = |flow: &&Flow| flow.begin < begin && flow.end >= begin + WINDOW;
        for flow in log.flows.iter().filter(is_open) {
            let Some(from) = flow.from else { continue };
            let traffic = edges.entry(edge(from, flow.process, flow.to)?).or_default();
            (traffic.open_mean, traffic.alive) = (1.0, traffic.alive.max(1));
        }
        for ((from, to), at) in &log.exchanges {
            let traffic = edges.entry(edge(from.machine, Some(from.port), *to)?).or_default();
            let count = at.iter().filter(|at| is_in(**at)).count() as u64;
            traffic.exchanges = Some(traffic.exchanges.unwrap_or(0) + count);
            (traffic.open_mean, traffic.alive) = (1.0, traffic.alive.max(1));
        }
        edges.values_mut().for_each(|traffic| traffic.watched = watched);
        let machine = |at: &usize| {
            let guest = Use { watched, ..Use::default() };
            let power = Some(Power::On);
            let told = JoinedMachine { guest, power, has_agent: true, ..JoinedMachine::default() };
            Some((vm(*at)?, told))
        };
        windows.push(Joined {
            window: format!("window-{}", windows.len()).parse::<WindowId>().ok()?,
            from,
            to: Timestamp::from_millis((EPOCH + opened + watched.as_secs()) * 1000),
            machines: machines.iter().filter_map(machine).collect(),
            edges,
            sampled_every: Duration::from_secs(1),
            records: Vec::new(),
            remarks: Vec::new(),
        });
        begin += WINDOW;
    }
    Some(windows)
}

fn vm(machine: usize) -> Option<VmId> {
    format!("vm-{machine}").parse().ok()
}

fn edge(from: usize, process: Option<u16>, to: Service) -> Option<EdgeKey> {
    let name = |port: u16| format!("app-{port}").parse::<AppName>().ok();
    Some(EdgeKey {
        client: Party::Machine { vm: vm(from)?, application: process.and_then(name) },
        server: Party::Machine { vm: vm(to.machine)?, application: name(to.port) },
        port: to.port,
    })
}

fn service(party: &Party) -> Option<Service> {
    let machine = party.vm()?.as_str().strip_prefix("vm-")?.parse().ok()?;
    let port = party.application()?.as_str().strip_prefix("app-")?.parse().ok()?;
    Some(Service { machine, port })
}
