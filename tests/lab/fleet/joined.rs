//! The windows of a fleet as they would be joined, written down without samples: for sizes at which
//! the samples would take longer than what is measured.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use aggregator::{
    hypervisor::Power,
    inference::{EdgeKey, Party},
    join::{Joined, JoinedMachine, Outcome, Record, Traffic, Use, Used},
};
use algorithms::packing::Random;
use common::{
    clock::Timestamp,
    id::AppName,
    mix::{ApplicationMix, EffectiveMix, Setup},
    units::{Bytes, Millicores},
};

use super::{Application, BEGIN, Caller, Fleet, Link, Machine, chance::count};

/// Length of a window.
pub const LENGTH: Duration = Duration::from_secs(300);
/// Time between two samples.
const SAMPLED_EVERY: Duration = Duration::from_secs(15);

/// The window of that number, from the beginning.
#[must_use]
pub fn window(fleet: &Fleet, number: u64) -> Joined {
    let from = BEGIN + LENGTH * u32::try_from(number).unwrap_or(u32::MAX);
    let to = from + LENGTH;
    let mut chance = Random::new(fleet.shape.seed.wrapping_add(number));
    let mut records = Vec::new();
    let machines = fleet.machines.iter().map(|machine| {
        let joined = machine_of(machine, from);
        for name in joined.applications.keys() {
            records.push(record(machine, name));
        }
        (machine.vm.clone(), joined)
    });
    let machines = machines.collect();
    let edges = fleet.links.iter().map(|link| {
        let key = fleet.key(link);
        let traffic = traffic(fleet, link, &key, (from, &mut chance));
        (key, traffic)
    });
    let edges: BTreeMap<EdgeKey, Traffic> = edges.collect();
    for (key, traffic) in &edges {
        let ends = [(&key.client, "connect"), (&key.server, "answer")];
        records.extend(ends.into_iter().filter_map(|(party, name)| call(party, name, traffic)));
    }
    Joined {
        window: format!("w-{}", from.as_millis() / 1000).parse().unwrap(),
        from,
        to,
        sampled_every: SAMPLED_EVERY,
        machines,
        edges,
        records,
        remarks: Vec::new(),
    }
}

/// What an application uses at that time, as a share of what it uses on average.
#[must_use]
pub fn swing(application: &Application, at: Timestamp) -> f64 {
    let hour = (at.as_millis() / 3_600_000) % 24;
    let off = (hour + 24 - application.peak_hour) % 24;
    let away = off.min(24 - off) as f64;
    1.0 + 0.5 * (std::f64::consts::PI * away / 12.0).cos()
}

fn machine_of(machine: &Machine, at: Timestamp) -> JoinedMachine {
    let used = machine.applications.iter().map(|application| {
        let cpu = Millicores((application.cpu.0 as f64 * swing(application, at)) as u64);
        let used = Used {
            listed: true,
            seen: 30,
            cpu_mean: Some(cpu),
            cpu_peak: Millicores(cpu.0 * 5 / 4),
            memory_peak: application.memory,
            written_per_second: Some(100.0),
            listens: [application.port].into(),
            records: vec![format!("{}/{}/compute", machine.name, application.name)],
            ..Used::default()
        };
        (application.name.clone(), used)
    });
    let applications: BTreeMap<AppName, Used> = used.collect();
    let cpu = applications.values().filter_map(|used| used.cpu_mean).map(|cpu| cpu.0).sum();
    let memory = applications.values().map(|used| used.memory_peak.0).sum();
    let side = Use {
        watched: LENGTH,
        cpu_mean: Some(Millicores(cpu)),
        cpu_peak: Some(Millicores(cpu * 5 / 4)),
        memory_peak: Some(Bytes(memory)),
        received_per_second: Some(2000.0),
        sent_per_second: Some(2000.0),
        written_per_second: Some(500.0),
    };
    let mix = applications.keys().map(|name| (name.clone(), Setup::default()));
    JoinedMachine {
        name: machine.name.clone(),
        host: Some("host-0".parse().unwrap()),
        power: Some(Power::On),
        allocation: machine.given,
        addresses: [machine.address.into()].into(),
        has_agent: true,
        coverage: 1.0,
        guest: side,
        outside: side,
        out_of_memory: Some(0),
        mix: Some(EffectiveMix {
            applications: ApplicationMix(mix.collect()),
            healthy: applications.keys().cloned().collect(),
            ..EffectiveMix::default()
        }),
        applications,
        ..JoinedMachine::default()
    }
}

fn record(machine: &Machine, name: &AppName) -> Record {
    Record {
        key: format!("{}/{name}/compute", machine.name),
        vm: machine.vm.clone(),
        application: Some(name.clone()),
        operation: "compute".to_owned(),
        target: "cpu".to_owned(),
        size_class: None,
        outcome: Outcome::Ok,
        count: 1000,
        bytes: None,
        source: "agent".to_owned(),
    }
}

/// What one end of an edge did, as the join writes it down.
fn call(party: &Party, operation: &str, traffic: &Traffic) -> Option<Record> {
    let Party::Machine { vm, application } = party else { return None };
    Some(Record {
        key: traffic.records.first().cloned().unwrap_or_default(),
        vm: vm.clone(),
        application: application.clone(),
        operation: operation.to_owned(),
        target: "edge".to_owned(),
        size_class: traffic
            .bytes
            .and_then(|bytes| bytes.checked_div(traffic.seen)?.checked_ilog2()),
        outcome: Outcome::Ok,
        count: traffic.seen,
        bytes: traffic.bytes,
        source: "agent".to_owned(),
    })
}

fn traffic(
    fleet: &Fleet,
    link: &Link,
    key: &EdgeKey,
    (from, chance): (Timestamp, &mut Random),
) -> Traffic {
    let seconds = LENGTH.as_secs_f64();
    let opened = count(chance, link.carries.opened * seconds);
    let exchanges = count(chance, link.carries.exchanges * seconds);
    // As samples tell them apart: one moment for all that came between two.
    let samples = LENGTH.as_secs() / SAMPLED_EVERY.as_secs();
    let most = usize::try_from(samples).unwrap_or(0);
    let seen = (0..opened.min(samples * 4)).map(|_| chance.below(most));
    let seen: std::collections::BTreeSet<usize> = seen.collect();
    let starts = seen.into_iter().map(|sample| {
        from + SAMPLED_EVERY * u32::try_from(sample).unwrap_or(0) + SAMPLED_EVERY / 2
    });
    let open = u64::from(link.carries.open);
    let server = &fleet.machines[link.server.machine];
    Traffic {
        opened,
        failed: count(chance, link.carries.failed * seconds),
        exchanges: Some(exchanges),
        starts: starts.collect(),
        detected: (opened > 0).then_some(1.0),
        seen: opened + open,
        alive: opened + open,
        open_mean: f64::from(link.carries.open),
        both_ends: matches!(link.client, Caller::Inside(_)),
        coverage: 1.0,
        watched: LENGTH,
        bytes: Some(exchanges * 400),
        answered_at: [SocketAddr::from((server.address, key.port))].into(),
        records: vec![format!("{}/{}", server.name, key.port)],
        ..Traffic::default()
    }
}
