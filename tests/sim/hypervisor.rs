//! The world, as its hypervisor shows it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aggregator::hypervisor::{
    Allocation, CloneOrder, Host, Hypervisor, HypervisorError, Inventory, Machine, Nic, Power,
    ProbeOrder, ProbeResult, Telemetry,
};
use async_trait::async_trait;
use common::{
    clock::Clock as _,
    id::{NetworkId, VmId},
    units::{Bytes, Millicores},
};
use tokio::time;

use super::{
    Line, SimClock, World,
    world::{How, SimMachine, State},
};

/// How long a call takes.
const CALL: Duration = Duration::from_millis(200);

/// CPU that one application uses.
const CPU_OF_ONE: u64 = 50;

/// Memory that one application uses.
const MEMORY_OF_ONE: Bytes = Bytes::mebi(16);

/// One aggregator's view of the hypervisor.
#[derive(Debug, Clone)]
pub struct SimHypervisor {
    pub(super) world: Arc<World>,
    pub(super) line: Line,
    pub(super) clock: SimClock,
    /// The line is cut when so many deeds were done through it, before the reply.
    pub(super) cut_after: Option<usize>,
}

fn refused(reason: &str) -> HypervisorError {
    HypervisorError::Refused { reason: reason.into() }
}

fn unreachable() -> HypervisorError {
    HypervisorError::Unreachable("no route to the world".into())
}

impl SimHypervisor {
    async fn call<T>(
        &self,
        name: &'static str,
        vm: &VmId,
        deed: impl FnOnce(&mut State) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        self.line.pass().await;
        time::sleep(CALL).await;
        self.line.pass().await;
        let fate = {
            let mut state = self.world.state();
            state.catch_up(self.clock.now());
            if !state.is_reachable {
                return Err(unreachable());
            }
            state.fate(name, vm)
        };
        match fate {
            Some(How::Refuse) => return Err(refused("not today")),
            Some(How::Silence) => return Err(unreachable()),
            Some(How::Stall(span) | How::TakeLate(span)) => time::sleep(span).await,
            Some(How::LoseReply) | None => {}
        }
        self.line.pass().await;
        let result = deed(&mut self.world.state());
        self.count().await;
        if fate == Some(How::LoseReply) { Err(unreachable()) } else { result }
    }

    /// Cuts the line once enough was done.
    pub(super) async fn count(&self) {
        let deeds = self.world.state().deeds.len();
        if self.cut_after.is_some_and(|most| deeds >= most) {
            self.line.cut();
        }
        self.line.pass().await;
    }
}

fn machine<'a>(state: &'a mut State, vm: &VmId) -> Result<&'a mut SimMachine, HypervisorError> {
    state.machines.get_mut(vm).ok_or_else(|| refused("there is no such machine"))
}

#[async_trait]
impl Hypervisor for SimHypervisor {
    fn name(&self) -> &str {
        "simulated hypervisor"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        let now = self.clock.now();
        self.call("inventory", &"none".parse().unwrap(), |state| {
            let machines = state.machines.iter();
            let machines = machines.map(|(id, machine)| (id.clone(), shown(id, machine))).collect();
            let host = Host {
                id: "host-1".parse().unwrap(),
                name: "host-1".into(),
                addresses: Vec::new(),
                macs: Vec::new(),
                cpu: Millicores(16_000),
                memory: Bytes::mebi(16_384),
                pools: Vec::new(),
            };
            let hosts = [(host.id.clone(), host)].into();
            Ok(Inventory { taken_at: now, hosts, machines })
        })
        .await
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        let now = self.clock.now();
        self.call("telemetry", &"none".parse().unwrap(), |state| {
            let running = state.machines.iter().filter(|(_, machine)| machine.power == Power::On);
            let killed = |id| state.killed.get(id).copied().unwrap_or(0);
            Ok(running
                .map(|(id, machine)| {
                    let applications = machine.mix.applications.0.len() as u64;
                    let ran_ms = now.since(machine.booted_at).as_millis() as u64 % 100_000_000;
                    let telemetry = Telemetry {
                        taken_at: now,
                        cpu_ms: Some(ran_ms * applications * CPU_OF_ONE / 1000),
                        memory_used: Some(Bytes(MEMORY_OF_ONE.0 * applications)),
                        out_of_memory: Some(killed(id)),
                        ..Telemetry::default()
                    };
                    (id.clone(), telemetry)
                })
                .collect())
        })
        .await
    }

    async fn clone_vm(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        self.call("clone_vm", &order.clone, |state| {
            if let Some(there) = state.machines.get(&order.clone) {
                let is_ours = there.cloned_from.as_ref() == Some(&order.source)
                    && there.plan.as_ref() == Some(&order.plan);
                return if is_ours { Ok(()) } else { Err(refused("that id is taken")) };
            }
            let source = machine(state, &order.source)?.clone();
            let clone = SimMachine {
                power: Power::Off,
                allocation: order.allocation,
                is_plugged: false,
                cloned_from: Some(order.source.clone()),
                plan: Some(order.plan.clone()),
                ..source
            };
            state.machines.insert(order.clone.clone(), clone);
            state.note("clone_vm", &order.clone, 0);
            Ok(())
        })
        .await
    }

    async fn configure(&self, vm: &VmId, given: &Allocation) -> Result<(), HypervisorError> {
        self.call("configure", vm, |state| {
            let present = &mut machine(state, vm)?.allocation;
            let wanted = Allocation {
                cpu: given.cpu.or(present.cpu),
                memory: given.memory.or(present.memory),
                storage: given.storage.or(present.storage),
            };
            if *present != wanted {
                *present = wanted;
                state.note("configure", vm, 0);
            }
            Ok(())
        })
        .await
    }

    async fn start(&self, vm: &VmId) -> Result<(), HypervisorError> {
        let now = self.clock.now();
        self.call("start", vm, |state| {
            let found = machine(state, vm)?;
            if found.power == Power::Off {
                found.power = Power::On;
                found.booted_at = now;
                state.note("start", vm, 0);
            }
            Ok(())
        })
        .await
    }

    async fn stop(&self, vm: &VmId, _deadline: Duration) -> Result<(), HypervisorError> {
        self.call("stop", vm, |state| {
            if let Some(found) = state.machines.get_mut(vm).filter(|m| m.power == Power::On) {
                found.power = Power::Off;
                state.note("stop", vm, 0);
            }
            Ok(())
        })
        .await
    }

    async fn isolate(&self, vm: &VmId, network: &NetworkId) -> Result<(), HypervisorError> {
        self.call("isolate", vm, |state| {
            let found = machine(state, vm)?;
            if found.isolated_in.as_ref() != Some(network) {
                found.isolated_in = Some(network.clone());
                found.is_plugged = true;
                state.note("isolate", vm, 0);
            }
            Ok(())
        })
        .await
    }

    async fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        time::sleep(order.duration).await;
        self.call("probe", &"none".parse().unwrap(), |state| {
            let is_there = state.machines.values().any(|m| m.isolated_in.as_ref() == Some(network));
            if !is_there {
                return Err(refused("there is no such network"));
            }
            let (attempts, successes) = state.probes.first().copied().unwrap_or((50, 50));
            let time_us = (successes > 0).then_some(900);
            let result = |target: &aggregator::hypervisor::ProbeTarget| ProbeResult {
                target: target.clone(),
                attempts,
                successes,
                failures: std::collections::BTreeMap::new(),
                median_us: time_us,
                p95_us: time_us,
            };
            Ok(order.targets.iter().map(result).collect())
        })
        .await
    }

    async fn promote(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let now = self.clock.now();
        self.call("promote", clone, |state| {
            let (was, becomes) = (machine(state, source)?.clone(), machine(state, clone)?);
            let is_done = was.power == Power::Off && becomes.isolated_in.is_none();
            if !is_done {
                becomes.isolated_in = None;
                becomes.is_plugged = true;
                becomes.power = Power::On;
                becomes.booted_at = now;
                let was = machine(state, source)?;
                was.power = Power::Off;
                was.is_plugged = false;
                state.note("promote", clone, 0);
            }
            Ok(())
        })
        .await
    }

    async fn restore(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let now = self.clock.now();
        self.call("restore", source, |state| {
            if let Some(clone) = state.machines.get_mut(clone) {
                clone.power = Power::Off;
                clone.is_plugged = false;
            }
            let found = machine(state, source)?;
            if found.power == Power::Off {
                found.power = Power::On;
                found.booted_at = now;
                found.is_plugged = true;
                state.note("restore", source, 0);
            }
            Ok(())
        })
        .await
    }

    async fn remove(&self, vm: &VmId) -> Result<(), HypervisorError> {
        self.call("remove", vm, |state| {
            let Some(found) = state.machines.get(vm) else { return Ok(()) };
            if found.cloned_from.is_none() {
                return Err(refused("it is no clone"));
            }
            state.machines.remove(vm);
            state.note("remove", vm, 0);
            Ok(())
        })
        .await
    }
}

fn shown(id: &VmId, machine: &SimMachine) -> Machine {
    let network = machine.isolated_in.clone().unwrap_or_else(|| "production".parse().unwrap());
    let address = format!("10.0.0.{}/24", machine.address).parse().unwrap();
    Machine {
        id: id.clone(),
        name: id.to_string(),
        host: "host-1".parse().unwrap(),
        power: machine.power,
        allocation: machine.allocation,
        nics: vec![Nic {
            mac: format!("02:00:00:00:00:{:02x}", machine.address),
            network: machine.is_plugged.then_some(network),
            kind: "bridge".into(),
            addresses: vec![address],
            up: machine.is_plugged,
        }],
        volumes: Vec::new(),
        cloned_from: machine.cloned_from.clone(),
        plan: machine.plan.clone(),
        labels: machine.labels.clone(),
    }
}
