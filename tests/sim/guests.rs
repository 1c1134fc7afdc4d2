//! The world, as its agents show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use aggregator::{
    catalogue::Catalogue,
    guest::{GuestError, Guests, LastSeen},
    hypervisor::Power,
    policy::Policy,
    repository::{ListState, Repository, StoredList},
    window::{Checkpoint, Seen},
};
use async_trait::async_trait;
use common::{
    clock::{Clock as _, Timestamp},
    id::{AppName, PlanId, VmId, WindowId},
    list::ConfigurationList,
    mix::EffectiveMix,
    sample::{
        ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Direction, Facts,
        Holder, Observation, ProcessKey, Protocol, Sample, SampleId, TableDelta,
    },
    units::{Bytes, Millicores},
};
use tokio::time;

use super::{
    SimHypervisor,
    world::{How, SimMachine, State},
};

/// How often agents speak.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// How long a guest needs to come up.
const BOOT: Duration = Duration::from_secs(2);

/// How long an agent needs for a list.
const APPLYING: Duration = Duration::from_secs(1);

/// Connections per call and period.
const CONNECTIONS: u16 = 2;

/// One aggregator's view of the agents.
#[derive(Debug, Clone)]
pub struct SimGuests {
    pub(super) hypervisor: SimHypervisor,
    pub(super) repository: Repository,
}

impl SimGuests {
    fn fate(&self, call: &str, vm: &VmId) -> Option<How> {
        let mut state = self.hypervisor.world.state();
        state.catch_up(self.hypervisor.clock.now());
        state.fate(call, vm)
    }

    fn is_there(&self, vm: &VmId) -> bool {
        let now = self.hypervisor.clock.now();
        self.hypervisor.world.state().speaks(vm, now)
    }

    async fn silent<T>(&self, vm: &VmId, waited: Duration) -> Result<T, GuestError> {
        time::sleep(waited).await;
        Err(GuestError::Silent { vm: vm.clone(), waited })
    }

    async fn remember(&self, list: &ConfigurationList, state: ListState) {
        let stored = StoredList {
            vm: list.vm.clone(),
            generation: list.generation,
            plan: list.plan.clone(),
            list: list.clone(),
            offered_at: self.hypervisor.clock.now(),
            state,
        };
        self.repository.put_list(&stored).await.unwrap();
    }

    async fn offer(
        &self,
        list: &ConfigurationList,
        fate: Option<&How>,
    ) -> Result<EffectiveMix, GuestError> {
        let now = self.hypervisor.clock.now();
        let taken = self.hypervisor.world.state().take_list(list, now);
        self.hypervisor.count().await;
        let generation = list.generation;
        let refused = |reason| GuestError::Refused { vm: list.vm.clone(), generation, reason };
        if fate == Some(&How::LoseReply) {
            return Err(refused("unheard".into()));
        }
        match taken {
            Ok(mix) => {
                self.remember(list, ListState::Applied).await;
                Ok(mix)
            }
            Err((reason, had_begun)) => {
                let state = if had_begun {
                    ListState::Undone { reason: reason.clone() }
                } else {
                    ListState::Refused { reason: reason.clone() }
                };
                self.remember(list, state).await;
                Err(refused(reason))
            }
        }
    }
}

#[async_trait]
impl Guests for SimGuests {
    async fn ticket(&self, clone: &VmId, _plan: &PlanId) -> Result<String, GuestError> {
        self.hypervisor.line.pass().await;
        Ok(format!("ticket-{clone}"))
    }

    async fn attached(&self, vm: &VmId, patience: Duration) -> Result<LastSeen, GuestError> {
        let begun = self.hypervisor.clock.now();
        loop {
            self.hypervisor.line.pass().await;
            if let Some(seen) = self.last_seen(vm).await {
                return Ok(seen);
            }
            let waited = self.hypervisor.clock.now().since(begun);
            if waited >= patience {
                return Err(GuestError::Silent { vm: vm.clone(), waited });
            }
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn apply(
        &self,
        list: &ConfigurationList,
        patience: Duration,
    ) -> Result<EffectiveMix, GuestError> {
        self.hypervisor.line.pass().await;
        let fate = self.fate("apply", &list.vm);
        self.remember(list, ListState::Offered).await;
        time::sleep(APPLYING).await;
        match &fate {
            Some(How::Refuse) => {
                let reason = "not today".to_owned();
                self.remember(list, ListState::Refused { reason: reason.clone() }).await;
                let generation = list.generation;
                Err(GuestError::Refused { vm: list.vm.clone(), generation, reason })
            }
            Some(How::Silence) => self.silent(&list.vm, patience).await,
            Some(How::TakeLate(span)) => {
                let at = self.hypervisor.clock.now() + *span;
                self.hypervisor.world.state().late.push((at, list.clone()));
                self.silent(&list.vm, patience).await
            }
            _ if !self.is_there(&list.vm) => self.silent(&list.vm, patience).await,
            Some(How::Stall(span)) => {
                time::sleep(*span).await;
                self.offer(list, None).await
            }
            Some(How::LoseReply) => {
                drop(self.offer(list, fate.as_ref()).await);
                self.silent(&list.vm, patience).await
            }
            None => self.offer(list, None).await,
        }
    }

    async fn last_seen(&self, vm: &VmId) -> Option<LastSeen> {
        self.hypervisor.line.pass().await;
        let now = self.hypervisor.clock.now();
        let mut state = self.hypervisor.world.state();
        state.catch_up(now);
        if !state.speaks(vm, now) {
            return None;
        }
        let period = PERIOD.as_millis() as u64;
        let received_at = Timestamp::from_millis(now.as_millis() / period * period);
        let observation = state.observation(vm, now, &BTreeMap::new())?;
        Some(LastSeen { received_at, observation })
    }

    async fn forget(&self, vm: &VmId) -> Result<(), GuestError> {
        self.hypervisor.line.pass().await;
        self.hypervisor.world.state().forgotten.insert(vm.clone());
        Ok(())
    }

    fn seal(&self, _window: &WindowId, _checkpoints: &[Checkpoint]) {}

    fn set_sampling(&self, _policy: &Policy, _catalogue: &Catalogue) {}
}

type Rows = BTreeMap<VmId, Vec<(ConnectionKey, Connection)>>;

impl State {
    fn speaks(&self, vm: &VmId, now: Timestamp) -> bool {
        let is_up = |machine: &SimMachine| {
            machine.power == Power::On && now.since(machine.booted_at) >= BOOT
        };
        self.machines.get(vm).is_some_and(is_up) && !self.away.contains(vm)
    }

    fn observation(&self, vm: &VmId, now: Timestamp, rows: &Rows) -> Option<Observation> {
        let machine = self.machines.get(vm)?;
        let sick: BTreeSet<&AppName> =
            self.sick.iter().filter(|(_, from)| **from <= now).map(|(name, _)| name).collect();
        let names = machine.mix.applications.0.keys();
        let healthy = names.clone().filter(|name| !sick.contains(name)).cloned().collect();
        let ran_ms = now.since(machine.booted_at).as_millis() as u64 % 100_000_000;
        let applications: BTreeMap<_, _> = names
            .map(|name| {
                let ports = self.calls.iter().filter(|(_, server, _)| server == name);
                let used = ApplicationUse {
                    listed: true,
                    processes: 1,
                    cpu_ms: ran_ms / 20,
                    peak_cpu: Millicores(50),
                    resident: Bytes::mebi(16),
                    peak_resident: Bytes::mebi(16),
                    listening_ports: ports.map(|(_, _, port)| *port).collect(),
                    ..ApplicationUse::default()
                };
                (name.clone(), used)
            })
            .collect();
        let count = applications.len() as u64;
        Some(Observation {
            connections: rows.get(vm).into_iter().flatten().cloned().collect(),
            applications,
            counters: Counters {
                cpu_busy_ms: Some(ran_ms * count / 20),
                cpus: Some(1),
                memory_total: Some(Bytes::mebi(256)),
                memory_available: Some(Bytes::mebi(256 - 16 * count)),
                ..Counters::default()
            },
            facts: Facts { product_uuid: Some(vm.to_string()), ..Facts::default() },
            mix: EffectiveMix { healthy, ..machine.mix.clone() },
            ..Observation::default()
        })
    }

    /// What every agent sees in this period, as full samples.
    pub(super) fn samples(&mut self, now: Timestamp, sequence: u64) -> Vec<Seen> {
        self.catch_up(now);
        let rows = self.connections(now, sequence);
        let speaking: Vec<VmId> =
            self.machines.keys().filter(|vm| self.speaks(vm, now)).cloned().collect();
        speaking
            .into_iter()
            .filter_map(|vm| {
                let seen = self.observation(&vm, now, &rows)?;
                let connections = TableDelta {
                    upserted: seen.connections.into_iter().collect(),
                    removed: vec![],
                };
                let sample = Sample {
                    id: SampleId { epoch: 1, sequence },
                    taken_at: now,
                    monotonic_ms: now.as_millis(),
                    full: true,
                    connections,
                    applications: seen.applications,
                    counters: seen.counters,
                    facts: Some(seen.facts),
                    mix: Some(seen.mix),
                    ..Sample::default()
                };
                let agent = format!("agent-{vm}").parse().unwrap();
                Some(Seen { agent, vm, sample: sample.into(), received_at: now })
            })
            .collect()
    }

    /// New connections of this period, as both ends see them, and those of the last one, which wait in
    /// TIME_WAIT at the client that closed them.
    fn connections(&self, now: Timestamp, sequence: u64) -> Rows {
        let mut rows = Rows::new();
        for (client, server, port) in &self.calls {
            let (Some(from), Some(to)) = (self.live(client, now), self.live(server, now)) else {
                continue;
            };
            let new = (0..CONNECTIONS).map(|count| (count, sequence, ConnectionState::Established));
            let waiting = (0..CONNECTIONS).filter_map(|count| {
                Some((count, sequence.checked_sub(1)?, ConnectionState::TimeWait))
            });
            for (count, born, state) in new.chain(waiting) {
                let ephemeral = 40_000 + ((born % 8_000) as u16 * CONNECTIONS) + count;
                let (here, there) = (self.at(&from, ephemeral), self.at(&to, *port));
                let ends = [
                    (&from, here, there, Direction::Outbound, client),
                    (&to, there, here, Direction::Inbound, server),
                ];
                let seen_at = if state == ConnectionState::Established { 2 } else { 1 };
                for (vm, local, remote, direction, application) in ends.into_iter().take(seen_at) {
                    let key =
                        ConnectionKey { protocol: Protocol::Tcp, local, remote: Some(remote) };
                    let holder = Holder::Process {
                        process: ProcessKey { pid: 7, started_at: Timestamp::default() },
                        application: Some(application.clone()),
                    };
                    let connection = Connection {
                        state,
                        direction,
                        holder,
                        first_seen: now,
                        sent: Some(Bytes(100)),
                        received: Some(Bytes(100)),
                        user: None,
                        inode: None,
                        translated: None,
                        transport: None,
                    };
                    rows.entry(vm.clone()).or_default().push((key, connection));
                }
            }
        }
        rows
    }

    /// The machine in production that runs an application.
    fn live(&self, application: &AppName, now: Timestamp) -> Option<VmId> {
        let mut all = self.machines.iter();
        let runs = |vm: &VmId, machine: &SimMachine| {
            machine.isolated_in.is_none()
                && self.speaks(vm, now)
                && machine.mix.applications.0.contains_key(application)
        };
        all.find(|(vm, machine)| runs(vm, machine)).map(|(vm, _)| vm.clone())
    }

    fn at(&self, vm: &VmId, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, self.machines[vm].address], port))
    }
}
