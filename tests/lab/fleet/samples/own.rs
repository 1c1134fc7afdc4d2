//! What a machine's agent says besides its edges: attempts in vain, counters, facts, mix.

use std::{collections::BTreeMap, net::SocketAddr};

use common::{
    id::AppName,
    mix::{ApplicationMix, EffectiveMix, Setup},
    sample::{
        Connection, ConnectionKey, ConnectionState, Counters, Direction, Facts, Flow, FlowKey,
        Holder, Interface, InterfaceCounters, Observation, ProcessKey, Protocol,
    },
    units::Bytes,
};

use super::super::{Machine, mac};
use common::clock::Timestamp;

/// What is no edge: attempts in vain, and what only waits to be closed.
pub(super) fn in_vain(machine: &Machine, number: u64, observation: &mut Observation) {
    let nowhere = |last| SocketAddr::from(([10, 200, 0, last], 9999));
    let Some(application) = machine.applications.first() else { return };
    if machine.is_noisy {
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Outbound,
            local: machine.address.into(),
            remote: nowhere(1).ip(),
            port: 9999,
            application: Some(application.name.clone()),
        };
        observation.flows.insert(key, Flow { failed: number, ..Flow::default() });
        let key = ConnectionKey {
            protocol: Protocol::Tcp,
            local: (machine.address, 39_000).into(),
            remote: Some(nowhere(2)),
        };
        let name = Some(application.name.clone());
        let row = row(ConnectionState::CloseWait, Direction::Outbound, name);
        observation.connections.insert(key, row);
    }
}

pub(super) fn row(
    state: ConnectionState,
    direction: Direction,
    application: Option<AppName>,
) -> Connection {
    let process = ProcessKey { pid: 7, started_at: Timestamp::from_millis(1) };
    Connection {
        state,
        direction,
        holder: Holder::Process { process, application },
        user: None,
        inode: None,
        translated: None,
        first_seen: Timestamp::from_millis(1),
        sent: None,
        received: None,
        transport: None,
    }
}

pub(super) fn memory_of(machine: &Machine) -> Bytes {
    Bytes(machine.applications.iter().map(|application| application.memory.0).sum())
}

pub(super) fn counters(machine: &Machine, cpu: u64, (sent, received): (Bytes, Bytes)) -> Counters {
    let used = memory_of(machine).0;
    let used = machine.lie.map_or(used, |lie| lie.told(used));
    let through = InterfaceCounters {
        received_bytes: received.0,
        sent_bytes: sent.0,
        ..InterfaceCounters::default()
    };
    let given = machine.given.memory.unwrap_or_default();
    Counters {
        cpu_busy_ms: Some(cpu),
        memory_total: Some(given),
        memory_available: Some(Bytes(given.0.saturating_sub(used))),
        interfaces: [("eth0".to_owned(), through)].into(),
        ..Counters::default()
    }
}

pub(super) fn facts(index: usize, machine: &Machine) -> Facts {
    Facts {
        product_uuid: Some(machine.vm.to_string()),
        hostname: machine.name.clone(),
        interfaces: vec![Interface {
            name: "eth0".to_owned(),
            mac: Some(mac(index)),
            addresses: vec![format!("{}/8", machine.address).parse().unwrap()],
            up: true,
        }],
        ..Facts::default()
    }
}

pub(super) fn mix(machine: &Machine) -> EffectiveMix {
    let names = || machine.applications.iter().map(|application| application.name.clone());
    let each: BTreeMap<_, _> = names().map(|name| (name, Setup::default())).collect();
    EffectiveMix {
        applications: ApplicationMix(each),
        healthy: names().collect(),
        ..EffectiveMix::default()
    }
}
