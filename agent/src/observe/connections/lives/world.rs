//! A simulated kernel with sockets that come, carry and go at random, and the truth of what they did.

use std::{collections::HashSet, net::SocketAddr};

use common::{
    sample::{ConnectionState, Direction, Protocol},
    units::Bytes,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::super::{
    super::seen::{Opening, Traffic},
    *,
};

mod looks;

const EPHEMERAL: RangeInclusive<u16> = 40_000..=40_400;
const TIME_WAIT_MS: u64 = 60_000;

/// What the simulated kernel tells.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub(super) ends: bool,
    pub(super) openings: bool,
    /// It names sockets and says what they carried.
    pub(super) names: bool,
    /// All applications talk to the same far ends, and nobody is refused.
    pub(super) shared: bool,
}

pub(super) const EVERYTHING: Kernel =
    Kernel { ends: true, openings: true, names: true, shared: false };

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

pub(super) struct World {
    random: StdRng,
    kernel: Kernel,
    now: u64,
    names: u64,
    sockets: Vec<Socket>,
    /// With the time until which each remains, and whose it is.
    remains: Vec<(Row, u64, u64)>,
    /// Connections that some look could see.
    pub(super) visible: HashSet<u64>,
    told: Told,
    counted: u64,
    pub(super) truth: BTreeMap<FlowKey, Flow>,
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
    pub(super) fn new(seed: u64, kernel: Kernel) -> Self {
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
    pub(super) fn step(&mut self) {
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
        let key = crate::observe::flows::edge_of(
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
}
