//! A fleet made of nothing: what its agents would send and its hypervisor would say, second by
//! second, cut into windows by the real thing.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use common::{
    clock::Timestamp,
    delta::{self, Stamp},
    id::{AppName, VmId},
    mix::{ApplicationMix, EffectiveMix, Setup},
    sample::{
        ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Coverage, Direction,
        Facts, Flow, FlowKey, Holder, Interface, InterfaceCounters, Observation, ProcessKey,
        Protocol, SampleId,
    },
    units::{Bytes, Millicores},
};

use crate::{
    hypervisor::{Allocation, Host, Inventory, Machine, Nic, Power, Telemetry},
    join::{Joined, join},
    policy::Policy,
    window::{Look, SamplingWindow, Seen, Timing, Windows},
};

const BEGIN_MS: u64 = 1_000_000_000;
const WINDOW_MS: u64 = 10_000;
const TIME_WAIT_MS: u64 = 60_000;
pub(crate) const AGGREGATOR: &str = "10.9.0.1:7401";

#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) name: &'static str,
    pub(crate) listed: bool,
    pub(crate) in_mix: bool,
    pub(crate) healthy: bool,
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    pub(crate) listens: Vec<u16>,
}

pub(crate) fn app(name: &'static str, cpu: u64, memory_mib: u64, listens: &[u16]) -> App {
    let listens = listens.to_vec();
    App { name, listed: true, in_mix: true, healthy: true, cpu, memory_mib, listens }
}

#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    pub(crate) apps: Vec<App>,
    pub(crate) power: Power,
    pub(crate) labels: Vec<&'static str>,
    pub(crate) has_agent: bool,
    pub(crate) in_inventory: bool,
    /// Of every so many samples one is lost; 0 for none.
    pub(crate) loses_one_in: u64,
    /// Factor by which the guest's own CPU figure is wrong.
    pub(crate) lie: f64,
    pub(crate) mac_in_guest: Option<&'static str>,
    pub(crate) clone_of: Option<&'static str>,
    pub(crate) out_of_memory: bool,
    pub(crate) attempted_generation: u64,
    pub(crate) rows: Vec<(ConnectionKey, Connection)>,
    /// What its agent counts per second on each edge; `None` for an agent that does not count.
    pub(crate) counts: Option<Vec<(FlowKey, Flow)>>,
    /// Of so many connections that the kernel counts its agent sees one less; 0 for none.
    pub(crate) misses_one_in: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Connections of a few milliseconds, so many per second, which the server closes.
    Short(f64),
    /// Connections that stay open.
    Pool(u16),
    /// Connections the server closed and the client did not.
    Waiting(u16),
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) from: &'static str,
    pub(crate) app: &'static str,
    pub(crate) to: &'static str,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
}

pub(crate) fn link(
    from: &'static str,
    app: &'static str,
    to: &'static str,
    port: u16,
    kind: Kind,
) -> Link {
    Link { from, app, to, port, kind }
}

#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) guests: Vec<Guest>,
    pub(crate) links: Vec<Link>,
    pub(crate) host_cpu: u64,
    pub(crate) host_memory_mib: u64,
}

pub(crate) fn vm(name: &str) -> VmId {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, name.as_bytes()).to_string().parse().unwrap()
}

pub(crate) fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(BEGIN_MS + seconds * 1000)
}

pub(crate) fn row(
    local: &str,
    remote: &str,
    state: ConnectionState,
    direction: Direction,
    app: &str,
) -> (ConnectionKey, Connection) {
    let key = ConnectionKey {
        protocol: Protocol::Tcp,
        local: local.parse().unwrap(),
        remote: Some(remote.parse().unwrap()),
    };
    let holder = if app.is_empty() {
        Holder::Unknown { reason: "no process".to_owned(), application: None }
    } else {
        let process = ProcessKey { pid: 7, started_at: Timestamp::from_millis(1) };
        Holder::Process { process, application: Some(name(app)) }
    };
    let first_seen = Timestamp::from_millis(1);
    (
        key,
        Connection {
            state,
            direction,
            holder,
            first_seen,
            sent: None,
            received: None,
            user: None,
            inode: None,
            translated: None,
            transport: None,
        },
    )
}

/// What an agent counts per second on one edge.
pub(crate) fn flow(
    (direction, local, remote, port): (Direction, &str, &str, u16),
    app: &str,
    (opened, exchanges): (u64, u64),
) -> (FlowKey, Flow) {
    let key = FlowKey {
        protocol: Protocol::Tcp,
        direction,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        port,
        application: (!app.is_empty()).then(|| name(app)),
    };
    let flow = Flow {
        opened,
        closed: opened,
        sent: Some(Bytes(exchanges * 100)),
        received: Some(Bytes(exchanges * 300)),
        data_segments_sent: Some(exchanges),
        data_segments_received: Some(exchanges * 2),
        ..Flow::default()
    };
    (key, flow)
}

/// The machines of the demonstration.
pub(crate) fn demonstration() -> Fleet {
    let mut fleet = Fleet::of(&[
        ("web-1", vec![app("web", 60, 24, &[8080])]),
        ("api-1", vec![app("api", 50, 24, &[8080])]),
        ("store-1", vec![app("store", 40, 32, &[5432])]),
        ("report-1", vec![app("report", 30, 16, &[9100])]),
        ("idle-1", Vec::new()),
        ("lingering-1", vec![App { in_mix: false, listed: false, ..app("linger", 0, 2, &[]) }]),
    ]);
    fleet.links = vec![
        link("10.0.0.200", "", "web-1", 8080, Kind::Short(5.0)),
        link("web-1", "web", "api-1", 8080, Kind::Short(5.0)),
        link("api-1", "api", "store-1", 5432, Kind::Pool(2)),
        link("lingering-1", "linger", "store-1", 5432, Kind::Waiting(3)),
    ];
    fleet
}

impl Fleet {
    pub(crate) fn of(guests: &[(&'static str, Vec<App>)]) -> Self {
        let guests = guests.iter().enumerate().map(|(index, (name, apps))| Guest {
            name,
            address: format!("10.0.0.{}", index + 1),
            cpu: 500,
            memory_mib: 256,
            apps: apps.clone(),
            power: Power::On,
            labels: Vec::new(),
            has_agent: true,
            in_inventory: true,
            loses_one_in: 0,
            lie: 1.0,
            mac_in_guest: None,
            clone_of: None,
            out_of_memory: false,
            attempted_generation: 0,
            rows: Vec::new(),
            counts: None,
            misses_one_in: 0,
        });
        Self {
            guests: guests.collect(),
            links: Vec::new(),
            host_cpu: 8000,
            host_memory_mib: 16 << 10,
        }
    }

    pub(crate) fn guest(&mut self, name: &str) -> &mut Guest {
        self.guests.iter_mut().find(|guest| guest.name == name).unwrap()
    }

    fn address(&self, name: &str) -> String {
        let known = self.guests.iter().find(|guest| guest.name == name);
        known.map_or_else(|| name.to_owned(), |guest| guest.address.clone())
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let host = Host {
            id: "host-1".parse().unwrap(),
            name: "host-1".to_owned(),
            addresses: Vec::new(),
            macs: Vec::new(),
            cpu: Millicores(self.host_cpu),
            memory: Bytes::mebi(self.host_memory_mib),
            pools: Vec::new(),
        };
        let machines = self.guests.iter().filter(|guest| guest.in_inventory);
        Inventory {
            taken_at: at(0),
            hosts: [(host.id.clone(), host)].into(),
            machines: machines.map(|guest| (vm(guest.name), guest.machine())).collect(),
        }
    }

    /// So many windows, oldest first.
    pub(crate) fn windows(&self, count: u64) -> Vec<SamplingWindow> {
        self.windows_in(count, false)
    }

    /// The same, with the agents' samples coming in the other order.
    pub(crate) fn windows_in(&self, count: u64, reversed: bool) -> Vec<SamplingWindow> {
        let policy = Policy::demonstration();
        let mut windows = Windows::new(Timing::of(&policy));
        let mut closed = Vec::new();
        let mut known: BTreeMap<&str, Observation> = BTreeMap::new();
        for second in 0..count * WINDOW_MS / 1000 {
            if second % 5 == 0 {
                windows.look(self.look(second), self.inventory());
            }
            let mut order: Vec<&Guest> = self.guests.iter().collect();
            if reversed {
                order.reverse();
            }
            let reporting =
                order.into_iter().filter(|guest| guest.has_agent && guest.power == Power::On);
            for guest in reporting {
                let is_lost = guest.loses_one_in > 0 && second % guest.loses_one_in == 1;
                let now = self.observation(guest, second * 1000 + 500);
                let before = known.get(guest.name).filter(|_| !is_lost).cloned();
                // After a lost sample the next is full, as if the agent's spool had run over.
                let before =
                    before.filter(|_| guest.loses_one_in == 0 || second % guest.loses_one_in != 2);
                if is_lost {
                    continue;
                }
                let stamp = Stamp {
                    id: SampleId { epoch: 1, sequence: second + 1 },
                    taken_at: Timestamp::from_millis(BEGIN_MS + second * 1000 + 500),
                    ..Stamp::default()
                };
                let sample = delta::between(before.as_ref(), &now, stamp);
                known.insert(guest.name, now);
                windows.accept(Seen {
                    agent: format!("agent-{}", guest.name).parse().unwrap(),
                    vm: vm(guest.name),
                    sample: sample.into(),
                    received_at: Timestamp::from_millis(BEGIN_MS + second * 1000 + 600),
                });
            }
        }
        let end = count * WINDOW_MS / 1000;
        windows.look(self.look(end), self.inventory());
        while let Some(window) = windows.close(at(end) + Duration::from_secs(5)) {
            closed.push(window);
        }
        closed.truncate(usize::try_from(count).unwrap());
        closed
    }

    pub(crate) fn joined(&self, count: u64) -> Vec<Joined> {
        self.windows(count).iter().map(join).collect()
    }

    fn look(&self, second: u64) -> Look {
        let running = self.guests.iter().filter(|guest| guest.power == Power::On);
        let telemetry = running.filter(|guest| guest.in_inventory).map(|guest| {
            let told = Telemetry {
                taken_at: at(second),
                cpu_ms: Some(guest.cpu_used() * second),
                memory_used: Some(Bytes::mebi(guest.memory_used())),
                received: Some(Bytes(second * guest.passes())),
                sent: Some(Bytes(second * guest.passes())),
                read: Some(Bytes(second * 100)),
                written: Some(Bytes(second * 100)),
                read_operations: Some(second),
                write_operations: Some(second),
                failed_operations: Some(0),
                out_of_memory: Some(if guest.out_of_memory { second / 5 } else { 0 }),
            };
            (vm(guest.name), told)
        });
        Look { at: at(second), telemetry: telemetry.collect(), arrays: BTreeMap::new() }
    }

    fn observation(&self, guest: &Guest, now_ms: u64) -> Observation {
        let mut connections: BTreeMap<_, _> = guest.rows.iter().cloned().collect();
        let (key, mut to_us) = row(
            &format!("{}:45000", guest.address),
            AGGREGATOR,
            ConnectionState::Established,
            Direction::Outbound,
            "sinter-agent",
        );
        to_us.sent = Some(Bytes(now_ms));
        connections.insert(key, to_us);
        for link in &self.links {
            self.rows_of(link, guest, now_ms, &mut connections);
        }
        guest.asked_for_health(now_ms, &mut connections);
        let mut applications: BTreeMap<_, _> =
            guest.apps.iter().map(|app| (name(app.name), app.used(now_ms))).collect();
        let agent = App { listed: false, ..app("sinter-agent", 2, 8, &[]) };
        applications.insert(name("sinter-agent"), agent.used(now_ms));
        Observation {
            connections,
            flows: guest.flows(now_ms / 1000),
            coverage: guest.coverage(now_ms / 1000),
            applications,
            counters: guest.counters(now_ms),
            facts: guest.facts(),
            mix: guest.mix(),
            ..Observation::default()
        }
    }

    fn rows_of(
        &self,
        link: &Link,
        guest: &Guest,
        now_ms: u64,
        rows: &mut BTreeMap<ConnectionKey, Connection>,
    ) {
        let (client, server) = (self.address(link.from), self.address(link.to));
        let is_client = link.from == guest.name;
        let is_server = link.to == guest.name;
        let is_copy = guest.clone_of == Some(link.to);
        let answering = format!("{server}:{}", link.port);
        match link.kind {
            Kind::Short(rate) if is_server || is_copy => {
                let serving = guest.apps.iter().find(|app| app.listens.contains(&link.port));
                for (index, opened_ms) in opened(rate, now_ms) {
                    let (key, mut row) = row(
                        &answering,
                        &format!("{client}:{}", 33_000 + index % 20_000),
                        ConnectionState::TimeWait,
                        Direction::Inbound,
                        "",
                    );
                    row.holder = Holder::Unknown {
                        reason: "closed".to_owned(),
                        application: serving.map(|app| name(app.name)),
                    };
                    row.first_seen = Timestamp::from_millis(BEGIN_MS + opened_ms);
                    rows.insert(key, row);
                }
            }
            Kind::Pool(count) if is_client || is_server => {
                for index in 0..count {
                    let calling = format!("{client}:{}", 40_000 + index);
                    let state = ConnectionState::Established;
                    let serving = guest.apps.iter().find(|app| app.listens.contains(&link.port));
                    let (key, mut row) = if is_client {
                        row(&calling, &answering, state, Direction::Outbound, link.app)
                    } else {
                        let app = serving.map_or("", |app| app.name);
                        row(&answering, &calling, state, Direction::Inbound, app)
                    };
                    row.sent = Some(Bytes(now_ms));
                    row.received = Some(Bytes(now_ms));
                    rows.insert(key, row);
                }
            }
            Kind::Waiting(count) if is_client => {
                for index in 0..count {
                    let calling = format!("{client}:{}", 42_000 + index);
                    let state = ConnectionState::CloseWait;
                    let (key, row) =
                        row(&calling, &answering, state, Direction::Outbound, link.app);
                    rows.insert(key, row);
                }
            }
            _ => {}
        }
    }
}

/// Connections that are in `TIME_WAIT` at a time: their numbers and when they were opened.
fn opened(rate: f64, now_ms: u64) -> Vec<(u64, u64)> {
    let every = 1000.0 / rate;
    let mut found = Vec::new();
    let mut index = 0_u32;
    loop {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small")]
        let at_ms = (f64::from(index) * every) as u64;
        if at_ms > now_ms {
            return found;
        }
        if at_ms + TIME_WAIT_MS > now_ms {
            found.push((u64::from(index), at_ms));
        }
        index += 1;
    }
}

impl App {
    fn used(&self, now_ms: u64) -> ApplicationUse {
        ApplicationUse {
            listed: self.listed,
            processes: 1,
            cpu_ms: self.cpu * now_ms / 1000,
            peak_cpu: Millicores(self.cpu + self.cpu / 4),
            resident: Bytes::mebi(self.memory_mib),
            peak_resident: Bytes::mebi(self.memory_mib),
            read: Some(Bytes(0)),
            written: Some(Bytes(now_ms / 10)),
            listening_ports: self.listens.clone(),
            ..ApplicationUse::default()
        }
    }
}

impl Guest {
    /// Bytes per second that pass its links each way: what its agent counts, headers and all, and some more.
    fn passes(&self) -> u64 {
        let bytes = |amount: Option<Bytes>| amount.map_or(0, |bytes| bytes.0);
        let each = self.counts.iter().flatten();
        let counted =
            each.map(|(_, flow)| 200 * flow.opened + bytes(flow.sent) + bytes(flow.received));
        2000 + counted.sum::<u64>()
    }

    fn flows(&self, seconds: u64) -> BTreeMap<FlowKey, Flow> {
        let times = |count: Option<u64>| count.map(|count| count * seconds);
        let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| Bytes(bytes.0 * seconds));
        let counted = self.counts.iter().flatten();
        let rows = counted.map(|(key, flow)| {
            let total = Flow {
                opened: flow.opened * seconds,
                closed: flow.closed * seconds,
                reset: flow.reset * seconds,
                failed: flow.failed * seconds,
                sent: bytes(flow.sent),
                received: bytes(flow.received),
                data_segments_sent: times(flow.data_segments_sent),
                data_segments_received: times(flow.data_segments_received),
                retransmitted: times(flow.retransmitted),
            };
            (key.clone(), total)
        });
        rows.collect()
    }

    fn coverage(&self, seconds: u64) -> Option<Coverage> {
        let opened = self.counts.as_ref()?.iter().map(|(_, flow)| flow.opened).sum::<u64>();
        let missed = (opened * seconds).checked_div(self.misses_one_in).unwrap_or(0);
        let (due, seen) = (Some(opened * seconds + missed), opened * seconds);
        Some(Coverage { ends_are_told: true, due, seen, ..Coverage::default() })
    }

    fn cpu_used(&self) -> u64 {
        self.apps.iter().map(|app| app.cpu).sum::<u64>() + 2
    }

    fn memory_used(&self) -> u64 {
        self.apps.iter().map(|app| app.memory_mib).sum::<u64>() + 8
    }

    fn mac(&self) -> String {
        format!("02:00:00:00:00:{:0>2}", self.address.rsplit('.').next().unwrap())
    }

    fn machine(&self) -> Machine {
        Machine {
            id: vm(self.name),
            name: self.name.to_owned(),
            host: "host-1".parse().unwrap(),
            power: self.power,
            allocation: Allocation {
                cpu: Some(Millicores(self.cpu)),
                memory: Some(Bytes::mebi(self.memory_mib)),
                storage: Some(Bytes::mebi(1024)),
            },
            nics: vec![Nic {
                mac: self.mac(),
                network: Some("production".parse().unwrap()),
                kind: "bridge".to_owned(),
                addresses: vec![format!("{}/24", self.address).parse().unwrap()],
                up: true,
            }],
            volumes: Vec::new(),
            cloned_from: self.clone_of.map(vm),
            plan: self.clone_of.map(|_| "p-earlier".parse().unwrap()),
            labels: self.labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    fn counters(&self, now_ms: u64) -> Counters {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small")]
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let cpu = ((self.cpu_used() * now_ms / 1000) as f64 * self.lie) as u64;
        let traffic = InterfaceCounters {
            received_bytes: now_ms * 2,
            sent_bytes: now_ms * 2,
            ..InterfaceCounters::default()
        };
        Counters {
            cpu_busy_ms: Some(cpu),
            memory_total: Some(Bytes::mebi(self.memory_mib)),
            memory_available: Some(Bytes::mebi(self.memory_mib.saturating_sub(self.memory_used()))),
            interfaces: [("eth0".to_owned(), traffic)].into(),
            ..Counters::default()
        }
    }

    fn facts(&self) -> Facts {
        let mac = self.mac_in_guest.map_or_else(|| self.mac(), ToOwned::to_owned);
        Facts {
            product_uuid: Some(vm(self.name).to_string()),
            hostname: self.name.to_owned(),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mac: Some(mac),
                addresses: vec![format!("{}/24", self.address).parse().unwrap()],
                up: true,
            }],
            ..Facts::default()
        }
    }

    fn mix(&self) -> EffectiveMix {
        let mix = || self.apps.iter().filter(|app| app.in_mix);
        let applications = mix().map(|app| (name(app.name), Setup::default())).collect();
        EffectiveMix {
            generation: 0,
            attempted_generation: self.attempted_generation,
            applications: ApplicationMix(applications),
            healthy: mix().filter(|app| app.healthy).map(|app| name(app.name)).collect(),
        }
    }

    /// Once per second each application of the mix is asked, over loopback, and hangs up first.
    fn asked_for_health(&self, now_ms: u64, rows: &mut BTreeMap<ConnectionKey, Connection>) {
        for app in self.apps.iter().filter(|app| app.in_mix) {
            let Some(port) = app.listens.first() else { continue };
            for (index, opened_ms) in opened(1.0, now_ms) {
                let local: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
                let remote = format!("127.0.0.1:{}", 50_000 + index % 10_000);
                let key = ConnectionKey {
                    protocol: Protocol::Tcp,
                    local,
                    remote: Some(remote.parse().unwrap()),
                };
                let connection = Connection {
                    state: ConnectionState::TimeWait,
                    direction: Direction::Inbound,
                    holder: Holder::Unknown {
                        reason: "closed".to_owned(),
                        application: Some(name(app.name)),
                    },
                    first_seen: Timestamp::from_millis(BEGIN_MS + opened_ms),
                    sent: None,
                    received: None,
                    user: None,
                    inode: None,
                    translated: None,
                    transport: None,
                };
                rows.insert(key, connection);
            }
        }
    }
}
