//! What the agents of a fleet send and its hypervisor says, sample by sample, cut into windows and
//! joined by the real thing: loss, lies and what only one end tells are as they would be.

#[path = "samples/own.rs"]
mod own;

use std::{net::IpAddr, net::SocketAddr, time::Duration};

use aggregator::{
    hypervisor::{Inventory, Telemetry},
    join::{Joined, join},
    policy::Policy,
    window::{Look, Seen, Timing, Windows},
};
use algorithms::packing::Random;
use common::{
    clock::Timestamp,
    delta::{self, Stamp},
    sample::{
        ApplicationUse, ConnectionKey, ConnectionReader, ConnectionState, Coverage, Direction,
        Flow, FlowKey, Observation, Protocol, SampleId,
    },
    units::{Bytes, Millicores},
};

use self::own::{counters, facts, in_vain, memory_of, mix, row};
use super::{
    BEGIN, Caller, End, Fleet, Lie,
    chance::{count, happens},
    joined::swing,
};

/// Bytes of a request, and of its answer.
const REQUEST: u64 = 100;
const ANSWER: u64 = 300;
/// Bytes of the headers of a segment.
const HEADER: u64 = 66;
/// Bytes per second each way that belong to no connection of the fleet.
const BACKGROUND: u64 = 500;
/// By how much the port of an edge that is none lies above one that is.
const INVENTED_PORT: u16 = 7;
/// The first port of a client whose connections stay open.
const FIRST_CLIENT_PORT: u32 = 40_000;

/// What came to pass on every edge, in the same order as the fleet's links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truth {
    /// Connections that came to be.
    pub opened: u64,
    /// Requests and answers.
    pub exchanges: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// Windows that were seen of a fleet, and what came to pass in the last of them.
#[derive(Debug)]
pub struct Watched {
    /// Oldest first.
    pub windows: Vec<Joined>,
    /// Of the last window, by link.
    pub truth: Vec<Truth>,
}

/// Watches a fleet for so many windows of the policy.
#[must_use]
pub fn watch(fleet: &Fleet, policy: &Policy, windows: u64) -> Watched {
    let mut watch = Watch::new(fleet, policy);
    let each = policy.window_seconds * 1000 / policy.sample_period_ms;
    let mut closed = Vec::new();
    let mut before = Vec::new();
    let mut now = watch.totals.clone();
    for number in 0..windows {
        for sample in 0..each {
            watch.turn(number * each + sample);
            if number > 0 && sample == 0 {
                closed.extend(watch.close(number));
            }
        }
        before = std::mem::replace(&mut now, watch.totals.clone());
    }
    // The look that ends a window is the one that begins the next.
    watch.turn(windows * each);
    closed.extend(watch.close(windows));
    let truth = now.iter().zip(before).map(|(now, before)| Truth {
        opened: now.opened - before.opened,
        exchanges: now.exchanges - before.exchanges,
        failed: now.failed - before.failed,
    });
    Watched { truth: truth.collect(), windows: closed }
}

struct Watch<'a> {
    fleet: &'a Fleet,
    policy: &'a Policy,
    inventory: Inventory,
    windows: Windows,
    chance: Random,
    totals: Vec<Truth>,
    /// By machine: the links it has an end of.
    ends: Vec<Vec<usize>>,
    /// By machine: what its agent sent last; `None` where the next sample must be full.
    known: Vec<Option<Observation>>,
    /// By machine: milliseconds of CPU by application; a thousandth of a core gives one per second.
    cpu: Vec<Vec<f64>>,
}

impl<'a> Watch<'a> {
    fn new(fleet: &'a Fleet, policy: &'a Policy) -> Self {
        let mut ends = vec![Vec::new(); fleet.machines.len()];
        for (index, link) in fleet.links.iter().enumerate() {
            ends[link.server.machine].push(index);
            match link.client {
                Caller::Inside(end) if end.machine != link.server.machine => {
                    ends[end.machine].push(index);
                }
                _ => {}
            }
        }
        let cpu = fleet.machines.iter().map(|machine| vec![0.0; machine.applications.len()]);
        Self {
            fleet,
            policy,
            inventory: fleet.inventory(),
            windows: Windows::new(Timing::of(policy)),
            chance: Random::new(fleet.shape.seed ^ 0x5eed),
            totals: vec![Truth::default(); fleet.links.len()],
            ends,
            known: vec![None; fleet.machines.len()],
            cpu: cpu.collect(),
        }
    }

    /// One sample period: what comes to pass, and then what everybody says of it.
    fn turn(&mut self, number: u64) {
        let period = self.policy.sample_period();
        let at = BEGIN + period * u32::try_from(number).unwrap_or(u32::MAX);
        let seconds = period.as_secs_f64();
        if number > 0 {
            for (total, link) in self.totals.iter_mut().zip(&self.fleet.links) {
                let opened = count(&mut self.chance, link.carries.opened * seconds);
                total.opened += opened;
                total.failed += count(&mut self.chance, link.carries.failed * seconds);
                // A short connection carries one request and its answer.
                let is_short = link.carries.open == 0;
                total.exchanges += if is_short {
                    opened
                } else {
                    count(&mut self.chance, link.carries.exchanges * seconds)
                };
            }
        }
        for (machine, used) in self.fleet.machines.iter().zip(&mut self.cpu) {
            for (application, used) in machine.applications.iter().zip(used) {
                *used += application.cpu.0 as f64 * swing(application, at) * seconds;
            }
        }
        let each = self.policy.window_seconds * 1000 / self.policy.sample_period_ms;
        if number.is_multiple_of(3) || number.is_multiple_of(each.max(1)) {
            self.look(at);
        }
        for index in 0..self.fleet.machines.len() {
            self.sample(index, number, at);
        }
    }

    fn sample(&mut self, index: usize, number: u64, at: Timestamp) {
        let machine = &self.fleet.machines[index];
        if happens(&mut self.chance, machine.loses) {
            self.known[index] = None;
            return;
        }
        let now = self.observation(index, number);
        let stamp = Stamp {
            id: SampleId { epoch: 1, sequence: number + 1 },
            taken_at: at,
            ..Stamp::default()
        };
        let sample = delta::between(self.known[index].as_ref(), &now, stamp);
        self.known[index] = Some(now);
        self.windows.accept(Seen {
            agent: format!("agent-{}", machine.name).parse().unwrap(),
            vm: machine.vm.clone(),
            sample: sample.into(),
            received_at: at + Duration::from_millis(100),
        });
    }

    fn close(&mut self, number: u64) -> Option<Joined> {
        let end = BEGIN + self.policy.window() * u32::try_from(number).unwrap_or(u32::MAX);
        let window = self.windows.close(end + self.policy.window() / 4)?;
        Some(join(&window))
    }

    fn look(&mut self, at: Timestamp) {
        let seconds = at.since(BEGIN).as_secs() + self.policy.sample_period().as_secs();
        let machines = self.fleet.machines.iter().zip(&self.cpu).enumerate();
        let telemetry = machines.map(|(index, (machine, cpu))| {
            let (sent, received) = self.carried(index, seconds);
            let told = Telemetry {
                taken_at: at,
                cpu_ms: Some(cpu.iter().sum::<f64>() as u64),
                memory_used: Some(memory_of(machine)),
                received: Some(received),
                sent: Some(sent),
                read: Some(Bytes(seconds * 100)),
                written: Some(Bytes(seconds * 100)),
                read_operations: Some(seconds),
                write_operations: Some(seconds),
                failed_operations: Some(0),
                out_of_memory: Some(0),
            };
            (machine.vm.clone(), told)
        });
        let look = Look { at, telemetry: telemetry.collect(), ..Look::default() };
        self.windows.look(look, self.inventory.clone());
    }

    /// Bytes that a machine's links sent and received until then.
    fn carried(&self, index: usize, seconds: u64) -> (Bytes, Bytes) {
        let (mut sent, mut received) = (seconds * BACKGROUND, seconds * BACKGROUND);
        for number in &self.ends[index] {
            let (total, link) = (&self.totals[*number], &self.fleet.links[*number]);
            let is_server = link.server.machine == index;
            // Whoever asks acknowledges the answer, and opens and closes with two segments each.
            let opening = 2 * HEADER * total.opened;
            let asked = total.exchanges * (REQUEST + 2 * HEADER) + opening + total.failed * HEADER;
            let answered = total.exchanges * (ANSWER + HEADER) + opening;
            let (out, back) = if is_server { (answered, asked) } else { (asked, answered) };
            sent += out;
            received += back;
        }
        (Bytes(sent), Bytes(received))
    }

    fn observation(&self, index: usize, number: u64) -> Observation {
        let machine = &self.fleet.machines[index];
        let at = BEGIN + self.policy.sample_period() * u32::try_from(number).unwrap_or(u32::MAX);
        let told = |amount: u64| machine.lie.map_or(amount, |lie| lie.told(amount));
        let cpu: Vec<u64> = self.cpu[index]
            .iter()
            .enumerate()
            .map(|(place, used)| machine.told_cpu(place, *used, at))
            .collect();
        let each = machine.applications.iter().zip(&cpu).enumerate();
        let used = each.map(|(place, (application, cpu))| {
            let memory = Bytes(told(application.memory.0));
            let used = ApplicationUse {
                listed: true,
                processes: 1,
                cpu_ms: *cpu,
                peak_cpu: Millicores(told(application.cpu.0 * 5 / 4)),
                resident: memory,
                peak_resident: memory,
                read: Some(Bytes(0)),
                written: Some(Bytes(number * 100)),
                listening_ports: vec![application.port],
                ..ApplicationUse::default()
            };
            (machine.applications[machine.told_as(place)].name.clone(), used)
        });
        let seconds = (number + 1) * self.policy.sample_period_ms / 1000;
        let mut observation = Observation {
            applications: used.collect(),
            counters: counters(machine, cpu.iter().sum(), self.carried(index, seconds)),
            facts: facts(index, machine),
            mix: mix(machine),
            ..Observation::default()
        };
        for link in &self.ends[index] {
            if machine.lie.is_none_or(|lie| lie.tells(*link)) && !self.fleet.hides(index, *link) {
                self.tell(index, *link, &mut observation);
            }
        }
        in_vain(machine, number, &mut observation);
        self.invented(index, number, &mut observation);
        let seen = observation.flows.values().map(|flow| flow.opened).sum();
        observation.coverage = Some(Coverage {
            reader: ConnectionReader::SocketDiagnosis,
            ends_are_told: true,
            due: Some(seen),
            seen,
            attributed: seen,
            ..Coverage::default()
        });
        observation
    }

    /// What a liar tells of an edge that is none; one who agreed to it tells of its other end.
    fn invented(&self, index: usize, number: u64, observation: &mut Observation) {
        let machine = &self.fleet.machines[index];
        let invents = machine.lie.map_or(0, Lie::invents);
        let Some(other) = self.fleet.victim(index).filter(|_| invents > 0) else { return };
        let is_server = machine.accomplice.is_some_and(|other| other < index);
        let server = if is_server { machine } else { &self.fleet.machines[other] };
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction: if is_server { Direction::Inbound } else { Direction::Outbound },
            local: machine.address.into(),
            remote: self.fleet.machines[other].address.into(),
            port: server.applications[0].port + INVENTED_PORT,
            application: Some(machine.applications[0].name.clone()),
        };
        let opened = number * invents;
        let (bytes, segments) = (Some(Bytes(opened)), Some(opened));
        let flow = Flow {
            opened,
            closed: opened,
            sent: bytes,
            received: bytes,
            data_segments_sent: segments,
            data_segments_received: segments,
            ..Flow::default()
        };
        observation.flows.insert(key, flow);
    }

    /// What the agent of one end tells of an edge.
    fn tell(&self, index: usize, number: usize, observation: &mut Observation) {
        let link = &self.fleet.links[number];
        let is_server = link.server.machine == index;
        let address = |end: End| IpAddr::from(self.fleet.machines[end.machine].address);
        let (server, port) = (address(link.server), self.fleet.application(link.server).port);
        let named = |end: End| {
            let machine = &self.fleet.machines[end.machine];
            machine.applications[machine.told_as(end.application)].name.clone()
        };
        let (client, calling) = match link.client {
            Caller::Inside(end) => (address(end), Some(named(end))),
            Caller::Outside(visitor) => (visitor.into(), None),
        };
        let (local, remote) = if is_server { (server, client) } else { (client, server) };
        let direction = if is_server { Direction::Inbound } else { Direction::Outbound };
        let answering = named(link.server);
        let application = if is_server { Some(answering) } else { calling };
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction,
            local,
            remote,
            port,
            application: application.clone(),
        };
        let flow = counted(&self.totals[number], link.carries.open, is_server);
        let lie = self.fleet.machines[index].lie;
        let flow = lie.map_or(flow, |lie| lie.told_flow(flow));
        observation.flows.entry(key).or_default().add(&flow);
        for open in 0..link.carries.open {
            let client_port = FIRST_CLIENT_PORT + (number as u32 * 4 + u32::from(open)) % 20_000;
            let far = SocketAddr::new(client, client_port as u16);
            let near = SocketAddr::new(server, port);
            let (local, remote) = if is_server { (near, far) } else { (far, near) };
            let key = ConnectionKey { protocol: Protocol::Tcp, local, remote: Some(remote) };
            let row = row(ConnectionState::Established, direction, application.clone());
            observation.connections.insert(key, row);
        }
    }
}

/// Totals of an edge as one end counts them.
fn counted(total: &Truth, open: u16, is_server: bool) -> Flow {
    let opened = total.opened + u64::from(open);
    let (requests, answers) = (Bytes(total.exchanges * REQUEST), Bytes(total.exchanges * ANSWER));
    let (sent, received) = if is_server { (answers, requests) } else { (requests, answers) };
    Flow {
        opened,
        closed: total.opened,
        // An attempt that fails does not reach who answers.
        failed: if is_server { 0 } else { total.failed },
        sent: Some(sent),
        received: Some(received),
        data_segments_sent: Some(total.exchanges),
        data_segments_received: Some(total.exchanges),
        ..Flow::default()
    }
}
