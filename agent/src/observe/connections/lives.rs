//! Random lives of connections, simulated as the kernel counts them, after which the flows must be the truth.

use std::{collections::HashSet, net::SocketAddr};

use common::{
    sample::{ConnectionState, Direction, Protocol},
    units::Bytes,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    super::{
        holders::{Candidate, Wanted},
        seen::{Opening, Traffic},
    },
    *,
};

const EPHEMERAL: RangeInclusive<u16> = 40_000..=40_400;
const TIME_WAIT_MS: u64 = 60_000;

/// What the simulated kernel tells.
#[derive(Clone, Copy)]
struct Kernel {
    ends: bool,
    openings: bool,
    /// It names sockets and says what they carried.
    names: bool,
    /// All applications talk to the same far ends, and nobody is refused.
    shared: bool,
}

const EVERYTHING: Kernel = Kernel { ends: true, openings: true, names: true, shared: false };

#[derive(Clone)]
struct Socket {
    name: u64,
    row: Row,
    traffic: Traffic,
    inbound: bool,
    application: &'static str,
    truth: Flow,
    existed: bool,
    /// The kernel gave it its name when it was first asked for; what remains of it has the same only then.
    was_read: bool,
    /// Part of the truth before the first look, which is not to be counted.
    before: Flow,
}

struct World {
    random: StdRng,
    kernel: Kernel,
    now: u64,
    names: u64,
    sockets: Vec<Socket>,
    /// With the time until which each remains, and whose it is.
    remains: Vec<(Row, u64, u64)>,
    /// Connections that some look could see.
    visible: HashSet<u64>,
    told: Told,
    counted: u64,
    truth: BTreeMap<FlowKey, Flow>,
    looked: bool,
    connections: Connections,
    applications: HashMap<ProcessKey, AppName>,
}

const APPLICATIONS: [(&str, u32); 3] = [("web", 20), ("shop", 21), ("report", 22)];

fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, started_at: Timestamp::from_millis(u64::from(pid)) }
}

fn named(pid: u32) -> Option<AppName> {
    APPLICATIONS.iter().find(|(_, known)| *known == pid).map(|(text, _)| name(text))
}

fn pid_of(application: &str) -> u32 {
    APPLICATIONS.iter().find(|(known, _)| *known == application).unwrap().1
}

impl World {
    fn new(seed: u64, kernel: Kernel) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            kernel,
            now: 1_000_000,
            names: 1,
            sockets: Vec::new(),
            remains: Vec::new(),
            visible: HashSet::new(),
            told: Told::default(),
            counted: 100,
            truth: BTreeMap::new(),
            looked: false,
            connections: Connections::default(),
            applications: APPLICATIONS.iter().map(|(n, pid)| (process(*pid), name(n))).collect(),
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        self.now += self.random.random_range(0..200);
        let now = self.now;
        self.remains.retain(|(_, until, _)| *until > now);
        match self.random.random_range(0..100) {
            0..20 => self.open(),
            20..25 if !self.kernel.shared => self.refuse(),
            20..70 => self.carry(),
            70..78 => self.hear_fin(),
            _ => self.close(),
        }
    }

    /// Each application talks to far ends of its own, so that what is decided can be held to the truth, unless
    /// they are shared.
    fn far_end(&mut self, application: &str) -> SocketAddr {
        let pid = if self.kernel.shared { 30 } else { pid_of(application) };
        SocketAddr::new(
            [10, 0, u8::try_from(pid).unwrap(), self.random.random_range(1..4)].into(),
            5432,
        )
    }

    fn open(&mut self) {
        let inbound = self.random.random_bool(0.5);
        let port = self.random.random_range(EPHEMERAL);
        let application =
            if inbound { "web" } else { APPLICATIONS.choose(&mut self.random).unwrap().0 };
        let (local, remote) = if inbound {
            let far = SocketAddr::new([10, 0, 9, self.random.random_range(1..4)].into(), port);
            ("10.0.0.5:8080".parse().unwrap(), far)
        } else {
            (SocketAddr::new([10, 0, 0, 5].into(), port), self.far_end(application))
        };
        let key = ConnectionKey { protocol: Protocol::Tcp, local, remote: Some(remote) };
        let taken = self.sockets.iter().map(|socket| socket.row.key);
        if taken.chain(self.remains.iter().map(|(row, ..)| row.key)).any(|used| used == key) {
            return;
        }
        self.counted += 1;
        if !inbound {
            self.tell_opening(application, remote);
        }
        self.names += 1;
        let row = Row {
            key,
            state: ConnectionState::Established,
            inode: u32::try_from(self.names).unwrap() * 100 + pid_of(application),
            user: Some(0),
            cookie: if self.kernel.names { self.names } else { 0 },
            cgroup: None,
            traffic: None,
        };
        let traffic = Traffic {
            acknowledged: u64::from(!inbound),
            segments_sent: 1,
            segments_received: 1,
            ..Traffic::default()
        };
        let truth = Flow {
            opened: 1,
            sent: Some(Bytes(0)),
            received: Some(Bytes(0)),
            data_segments_sent: Some(0),
            data_segments_received: Some(0),
            retransmitted: Some(0),
            ..Flow::default()
        };
        let before = Flow::default();
        let (existed, was_read) = (!self.looked, false);
        let name = self.names;
        let socket =
            Socket { name, row, traffic, inbound, application, truth, existed, was_read, before };
        self.sockets.push(socket);
    }

    fn tell_opening(&mut self, application: &str, remote: SocketAddr) {
        let pid = pid_of(application);
        if self.kernel.openings {
            self.told.openings.push(Opening {
                pid,
                name: application.to_owned(),
                local: None,
                remote,
            });
        }
    }

    fn refuse(&mut self) {
        let application = APPLICATIONS.choose(&mut self.random).unwrap().0;
        let remote = self.far_end(application);
        self.counted += 1;
        self.tell_opening(application, remote);
        self.names += 1;
        let key = ConnectionKey {
            protocol: Protocol::Tcp,
            local: "0.0.0.0:40001".parse().unwrap(),
            remote: Some(SocketAddr::new(remote.ip(), 0)),
        };
        let traffic = Some(Traffic::default());
        self.told.ended.push(Ended { key, cookie: self.names, traffic });
        if self.looked {
            let known = self.kernel.openings;
            let edge = FlowKey {
                protocol: Protocol::Tcp,
                direction: Direction::Outbound,
                local: key.local.ip(),
                remote: remote.ip(),
                port: if known { remote.port() } else { 0 },
                application: known.then(|| name(application)),
            };
            self.truth.entry(edge).or_default().failed += 1;
        }
    }

    fn carry(&mut self) {
        let Some(at) = self.any() else { return };
        let (sends, bytes) = (self.random.random_bool(0.5), self.random.random_range(1..10_000));
        let again = u64::from(self.random.random_bool(0.1));
        let socket = &mut self.sockets[at];
        let heard_fin = socket.row.state == ConnectionState::CloseWait;
        if sends {
            socket.traffic.sent += bytes;
            socket.traffic.acknowledged += bytes;
            socket.traffic.data_segments_sent += 1 + again;
            socket.traffic.retransmitted += again;
            let change = Flow {
                sent: Some(Bytes(bytes)),
                data_segments_sent: Some(1 + again),
                retransmitted: Some(again),
                ..Flow::default()
            };
            socket.truth.add(&change);
        } else if !heard_fin {
            socket.traffic.received += bytes;
            socket.traffic.data_segments_received += 1;
            let change = Flow {
                received: Some(Bytes(bytes)),
                data_segments_received: Some(1),
                ..Flow::default()
            };
            socket.truth.add(&change);
        }
    }

    fn hear_fin(&mut self) {
        let Some(at) = self.any() else { return };
        let socket = &mut self.sockets[at];
        if socket.row.state == ConnectionState::Established {
            socket.row.state = ConnectionState::CloseWait;
            socket.traffic.received += 1;
        }
    }

    fn any(&mut self) -> Option<usize> {
        (!self.sockets.is_empty()).then(|| self.random.random_range(0..self.sockets.len()))
    }

    fn close(&mut self) {
        let Some(at) = self.any() else { return };
        let mut socket = self.sockets.swap_remove(at);
        socket.truth.closed = 1;
        let is_second = socket.row.state == ConnectionState::CloseWait;
        if self.random.random_bool(0.2) {
            // Reset by the far end; a FIN before that was not read.
            socket.truth.reset = 1;
            socket.traffic.unread = u32::from(is_second);
        } else {
            socket.traffic.acknowledged += 1;
            if !is_second {
                if self.random.random_bool(0.2) {
                    // The FIN came with the acknowledgement.
                    socket.traffic.received += 1;
                    socket.traffic.unread = 1;
                }
                self.names += 1;
                let cookie = if socket.was_read { socket.row.cookie } else { self.names };
                let row = Row {
                    state: ConnectionState::TimeWait,
                    inode: 0,
                    user: None,
                    cookie: if self.kernel.names { cookie } else { 0 },
                    ..socket.row
                };
                let name = if socket.existed { 0 } else { socket.name };
                self.remains.push((row, self.now + TIME_WAIT_MS, name));
            }
        }
        let traffic = Some(socket.traffic);
        let Row { key, cookie, .. } = socket.row;
        self.told.ended.push(Ended { key, cookie, traffic });
        if self.looked {
            self.enter(&socket);
        }
    }

    /// Adds what the flows must have of a socket.
    fn enter(&mut self, socket: &Socket) {
        let direction = if socket.inbound { Direction::Inbound } else { Direction::Outbound };
        let application = Some(name(socket.application));
        let key = super::super::flows::edge_of(
            &socket.row.key,
            direction,
            application.as_ref(),
            &EPHEMERAL,
        );
        let mut change = socket.truth;
        if socket.existed {
            let less = |now: Option<Bytes>, before: Option<Bytes>| {
                now.map(|now| Bytes(now.0 - before.unwrap_or_default().0))
            };
            let fewer = |now: Option<u64>, before: Option<u64>| {
                now.map(|now| now - before.unwrap_or_default())
            };
            let (now, before) = (socket.truth, socket.before);
            change = Flow {
                opened: 0,
                closed: 0,
                reset: 0,
                failed: 0,
                sent: less(now.sent, before.sent),
                received: less(now.received, before.received),
                data_segments_sent: fewer(now.data_segments_sent, before.data_segments_sent),
                data_segments_received: fewer(
                    now.data_segments_received,
                    before.data_segments_received,
                ),
                retransmitted: fewer(now.retransmitted, before.retransmitted),
            };
        }
        self.truth.entry(key.unwrap()).or_default().add(&change);
    }

    fn take_told(&mut self) -> Told {
        let told = std::mem::take(&mut self.told);
        if self.kernel.ends { told } else { Told { ended: Vec::new(), ..told } }
    }

    fn rows(&self) -> Vec<Row> {
        let listener = ConnectionKey {
            protocol: Protocol::Tcp,
            local: "0.0.0.0:8080".parse().unwrap(),
            remote: None,
        };
        let listener = Row {
            key: listener,
            state: ConnectionState::Listen,
            inode: 20,
            user: Some(0),
            cookie: 0,
            cgroup: None,
            traffic: None,
        };
        let open = self.sockets.iter().map(|socket| Row {
            traffic: self.kernel.names.then_some(socket.traffic),
            ..socket.row
        });
        std::iter::once(listener)
            .chain(open)
            .chain(self.remains.iter().map(|(row, ..)| *row))
            .collect()
    }

    fn tick(&mut self) {
        let told = self.take_told();
        self.connections.hear(told, &named);
    }

    /// Looks while things go on happening.
    fn look(&mut self, goes_on: u32) -> BTreeMap<ConnectionKey, Connection> {
        self.tick();
        let rows = self.rows();
        self.sockets.iter_mut().for_each(|socket| socket.was_read = true);
        if self.looked {
            let open = self.sockets.iter().filter(|socket| !socket.existed);
            let open = open.map(|socket| socket.name);
            self.visible.extend(
                open.chain(self.remains.iter().map(|(_, _, name)| *name).filter(|name| *name != 0)),
            );
        } else {
            self.remains.clear();
            self.looked = true;
            for socket in &mut self.sockets {
                socket.before = socket.truth;
            }
        }
        for _ in 0..goes_on {
            self.step();
        }
        let after = self.take_told();
        let mut holders = Holders::default();
        let held = rows.iter().filter(|row| row.inode != 0);
        let wanted: Vec<_> = held
            .map(|row| Wanted { inode: row.inode, user: None, unit: None, listens: false })
            .collect();
        let candidates =
            APPLICATIONS.map(|(_, pid)| Candidate { key: process(pid), user: 0, unit: None });
        holders.update(&wanted, &candidates, |pid| {
            let own = rows.iter().map(|row| row.inode).filter(|inode| inode % 100 == pid);
            Ok(own.collect())
        });
        let look = Look {
            rows: &rows,
            holders: &holders,
            applications: &self.applications,
            groups: &HashMap::default(),
            ephemeral: EPHEMERAL,
            ends_are_told: self.kernel.ends,
            now: Timestamp::from_millis(self.now),
        };
        self.connections.look(&look, after, &named)
    }

    fn live(&mut self, looks: u32) {
        for _ in 0..20 {
            self.step();
        }
        for _ in 0..looks {
            for _ in 0..self.random.random_range(1..150) {
                self.step();
                if self.random.random_bool(0.1) {
                    self.tick();
                }
            }
            let goes_on = self.random.random_range(0..5);
            self.look(goes_on);
            self.flows();
        }
        self.look(0);
        self.look(0);
        // What lives is counted so far; put it into the truth as well.
        for socket in self.sockets.clone() {
            self.enter(&socket);
        }
    }

    fn flows(&mut self) -> BTreeMap<FlowKey, Flow> {
        self.connections.flows(Timestamp::from_millis(self.now))
    }

    fn coverage(&mut self) -> Coverage {
        let sockets = Sockets { counted: Some(self.counted), ..Sockets::default() };
        self.connections.coverage(&sockets)
    }
}

/// Without rows of nothing, which are not told.
fn that_moved(flows: BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let moves = |flow: &Flow| {
        let bytes = flow.sent.unwrap_or_default().0 + flow.received.unwrap_or_default().0;
        flow.opened + flow.closed + flow.failed + bytes > 0
    };
    flows.into_iter().filter(|(_, flow)| moves(flow)).collect()
}

fn bytes_unset(mut flow: Flow) -> Flow {
    if flow.opened == 0 && flow.failed > 0 {
        flow = Flow { failed: flow.failed, ..Flow::default() };
    }
    flow
}

/// Failed attempts under no near end: whether it is known depends on what was seen before.
fn failed_apart(flows: &BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let mut apart: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    for (key, flow) in flows {
        let failed = Flow { failed: flow.failed, ..Flow::default() };
        let nowhere = FlowKey { local: "0.0.0.0".parse().unwrap(), ..key.clone() };
        apart.entry(nowhere).or_default().add(&failed);
        let rest = Flow { failed: 0, ..*flow };
        apart.entry(key.clone()).or_default().add(&rest);
    }
    that_moved(apart)
}

fn assert_same(found: &BTreeMap<FlowKey, Flow>, truth: &BTreeMap<FlowKey, Flow>, seed: u64) {
    let (found, truth) = (failed_apart(found), failed_apart(truth));
    for (key, flow) in &truth {
        assert_eq!(found.get(key), Some(flow), "seed {seed}, {key:?}");
    }
    assert_eq!(found.len(), truth.len(), "seed {seed}");
}

#[test]
fn with_ends_and_openings_told_the_flows_are_the_truth() {
    for seed in 0..60 {
        let mut world = World::new(seed, EVERYTHING);
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        assert_same(&found, &truth, seed);
        let coverage = world.coverage();
        assert_eq!(coverage.attributed, coverage.seen);
    }
}

#[test]
fn every_connection_due_is_seen_when_ends_are_told() {
    for seed in 0..20 {
        let mut world = World::new(seed, EVERYTHING);
        for _ in 0..30 {
            world.step();
        }
        world.look(0);
        world.coverage();
        world.live(10);
        let coverage = world.coverage();
        assert_eq!(Some(coverage.seen), coverage.due, "seed {seed}");
        assert_eq!(coverage.share(), Some(10_000));
    }
}

/// By edge without application, and refused attempts by address.
fn whosever(flows: BTreeMap<FlowKey, Flow>) -> BTreeMap<FlowKey, Flow> {
    let mut sums: BTreeMap<FlowKey, Flow> = BTreeMap::new();
    for (key, flow) in flows {
        let key = FlowKey { application: None, ..key };
        sums.entry(key).or_default().add(&flow);
    }
    sums.into_iter().map(|(key, flow)| (key, bytes_unset(flow))).collect()
}

#[test]
fn of_shared_far_ends_no_application_gets_more_than_it_opened_and_nearly_all_of_it() {
    let (mut named, mut due) = (0, 0);
    for seed in 0..40 {
        let mut world = World::new(seed, Kernel { shared: true, ..EVERYTHING });
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        for (key, flow) in found.iter().filter(|(key, _)| key.application.is_some()) {
            let most = truth[key];
            assert!(flow.opened <= most.opened, "seed {seed}, {key:?}");
            assert!(flow.sent <= most.sent && flow.received <= most.received);
            named += flow.opened;
        }
        due += truth.values().map(|flow| flow.opened).sum::<u64>();
        assert_same(&whosever(found), &whosever(truth), seed);
    }
    assert!(named * 1000 >= due * 995, "{named} of {due}");
}

#[test]
fn without_openings_every_count_is_the_truth_and_nobody_is_named_wrongly() {
    for seed in 0..40 {
        let mut world = World::new(seed, Kernel { openings: false, ..EVERYTHING });
        world.live(25);
        let found = that_moved(world.flows());
        let truth = that_moved(world.truth.clone());
        for key in found.keys().filter(|key| key.application.is_some()) {
            assert!(truth.contains_key(key), "seed {seed}: {key:?} is somebody else's");
        }
        assert_same(&whosever(found), &whosever(truth), seed);
    }
}

/// Connections counted of those that some look could see.
fn without_ends(names: bool) -> (u64, u64) {
    let (mut seen, mut visible) = (0, 0);
    for seed in 0..20 {
        let kernel = Kernel { ends: false, openings: false, names, shared: false };
        let mut world = World::new(seed, kernel);
        world.live(25);
        let (found, truth) = (whosever(world.flows()), whosever(world.truth.clone()));
        for (key, flow) in &found {
            assert!(flow.opened <= truth[key].opened, "seed {seed}: {key:?}");
            assert!(flow.closed <= truth[key].closed, "seed {seed}: {key:?}");
            assert_eq!(flow.sent.is_some(), names && flow.data_segments_sent.is_some());
        }
        seen += found.values().map(|flow| flow.opened).sum::<u64>();
        visible += u64::try_from(world.visible.len()).unwrap();
    }
    (seen, visible)
}

#[test]
fn without_ends_all_that_a_look_could_see_is_counted_once() {
    let (seen, visible) = without_ends(true);
    assert_eq!(seen, visible);
}

#[test]
fn without_names_only_ends_used_again_within_a_look_are_missed() {
    let (seen, visible) = without_ends(false);
    assert!(seen <= visible && seen * 100 >= visible * 99, "{seen} of {visible}");
}
