//! Flows of real connections on this machine's loopback: every one is counted, to the byte, however short.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use agent::observe::{Inputs, LinuxObserver, Observe, Settings};
use common::{
    clock::{Clock, SystemClock},
    id::AppName,
    sample::{Direction, Flow, Holder, Observation},
    units::Bytes,
};

/// How a connection of the test ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    ClientFirst,
    ServerFirst,
    /// The client shuts its half down and waits until the server has closed.
    HalfThenWhole,
}

fn look(observer: &mut LinuxObserver) -> Observation {
    observer.observe(&Inputs::default(), SystemClock.now()).unwrap()
}

/// What happened on a port, seen from one side of it.
fn sum(observation: &Observation, direction: Direction, port: u16) -> Flow {
    let mut sum = Flow::default();
    let flows = observation.flows.iter();
    for (_, flow) in flows.filter(|(key, _)| key.direction == direction && key.port == port) {
        sum.opened += flow.opened;
        sum.closed += flow.closed;
        sum.reset += flow.reset;
        sum.failed += flow.failed;
        let bytes = |sum: Option<Bytes>, more: Option<Bytes>| {
            Some(Bytes(sum.unwrap_or_default().0 + more.unwrap_or_default().0))
        };
        sum.sent = bytes(sum.sent, flow.sent);
        sum.received = bytes(sum.received, flow.received);
    }
    sum
}

/// One connection that carries so many bytes each way, and ends.
fn exchange(listener: &TcpListener, asked: usize, answered: usize, end: End) {
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&vec![1; asked]).unwrap();
    server.read_exact(&mut vec![0; asked]).unwrap();
    server.write_all(&vec![2; answered]).unwrap();
    client.read_exact(&mut vec![0; answered]).unwrap();
    let (first, mut second) = match end {
        End::ClientFirst | End::HalfThenWhole => (client, server),
        End::ServerFirst => (server, client),
    };
    if end == End::HalfThenWhole {
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        drop(second);
        return;
    }
    drop(first);
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
}

/// Where the kernel tells no ends the tests have nothing to say.
fn tells_ends(observation: &Observation) -> bool {
    observation.coverage.unwrap().ends_are_told
}

#[test]
fn short_connections_are_counted_one_by_one_and_to_the_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut observer = LinuxObserver::new(Settings::default());
    if !tells_ends(&look(&mut observer)) {
        return;
    }
    let (mut asked, mut answered, mut count) = (0, 0, 0);
    for round in 0..4_usize {
        for at in 0..50_usize {
            let (ask, answer) = (1 + at * 7, 1 + at * 131 + round);
            let end = if at % 2 == 0 { End::ClientFirst } else { End::ServerFirst };
            exchange(&listener, ask, answer, end);
            (asked, answered, count) = (asked + ask, answered + answer, count + 1);
        }
        look(&mut observer);
    }
    look(&mut observer);
    let observation = look(&mut observer);

    let count = u64::try_from(count).unwrap();
    let asked = Some(Bytes(u64::try_from(asked).unwrap()));
    let answered = Some(Bytes(u64::try_from(answered).unwrap()));
    let expected = Flow { opened: count, closed: count, ..Flow::default() };
    let client = Flow { sent: asked, received: answered, ..expected };
    let server = Flow { sent: answered, received: asked, ..expected };
    assert_eq!(sum(&observation, Direction::Outbound, port), client);
    assert_eq!(sum(&observation, Direction::Inbound, port), server);
}

#[test]
fn who_shuts_its_half_down_and_waits_is_counted_within_a_byte_each() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut observer = LinuxObserver::new(Settings::default());
    if !tells_ends(&look(&mut observer)) {
        return;
    }
    for _ in 0..20 {
        exchange(&listener, 100, 200, End::HalfThenWhole);
    }
    look(&mut observer);
    let observation = look(&mut observer);

    let (client, server) =
        (sum(&observation, Direction::Outbound, port), sum(&observation, Direction::Inbound, port));
    assert_eq!((client.opened, client.closed, client.sent.unwrap().0), (20, 20, 2000));
    assert!((4000..=4020).contains(&client.received.unwrap().0), "{client:?}");
    assert_eq!((server.opened, server.closed), (20, 20));
    assert_eq!((server.sent.unwrap().0, server.received.unwrap().0), (4000, 2000));
}

#[test]
fn refused_attempts_and_resets_are_counted_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let nobodys = TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap();
    let mut observer = LinuxObserver::new(Settings::default());
    if !tells_ends(&look(&mut observer)) {
        return;
    }
    for _ in 0..5 {
        TcpStream::connect(nobodys).unwrap_err();
    }
    for _ in 0..5 {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"nobody reads this").unwrap();
        let mut peeked = [0; 4];
        while server.peek(&mut peeked).unwrap() == 0 {}
        drop(server);
        client.read(&mut [0]).unwrap_err();
    }
    look(&mut observer);
    let observation = look(&mut observer);

    let failed = observation.flows.iter().filter(|(key, _)| key.remote == nobodys.ip());
    let (failed, ports): (Vec<_>, Vec<_>) =
        failed.map(|(key, flow)| (flow.failed, key.port)).unzip();
    assert_eq!(failed.iter().sum::<u64>(), 5);
    let tells_openings = observation.coverage.unwrap().opens_are_told;
    assert!(ports.iter().all(|port| *port == if tells_openings { nobodys.port() } else { 0 }));
    let client = sum(&observation, Direction::Outbound, port);
    assert_eq!((client.opened, client.closed, client.reset), (5, 5, 5));
    assert_eq!(client.sent.unwrap().0, 5 * 17);
}

#[test]
fn an_idle_connection_is_the_same_row_at_every_look() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near: SocketAddr = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(near).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    let mut observer = LinuxObserver::new(Settings::default());
    look(&mut observer);
    let rows = |observation: &Observation| {
        let rows = observation.connections.iter();
        let own = rows.filter(|(key, _)| key.local == near || key.remote == Some(near));
        own.map(|(key, row)| (*key, row.clone())).collect::<Vec<_>>()
    };
    let before = rows(&look(&mut observer));
    assert_eq!(before.len(), 3);
    assert_eq!(rows(&look(&mut observer)), before);
}

/// A child that opens a connection and keeps it until it is told to go.
fn asking(port: u16) -> Child {
    let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && read -r go <&3");
    Command::new("bash").args(["-c", &ask]).spawn().unwrap()
}

#[test]
fn a_connection_of_a_process_that_is_gone_is_still_that_processes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut observer = LinuxObserver::new(Settings::default());
    let first = look(&mut observer);
    if !tells_ends(&first) || !first.coverage.unwrap().opens_are_told {
        return;
    }
    for _ in 0..10 {
        let mut child = asking(port);
        let (mut server, _) = listener.accept().unwrap();
        observer.tick(&Inputs::default()).unwrap();
        server.write_all(b"go\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
    look(&mut observer);
    let observation = look(&mut observer);

    let flows = observation.flows.iter();
    let asked = flows.filter(|(key, _)| key.direction == Direction::Outbound && key.port == port);
    let found: Vec<_> = asked
        .map(|(key, flow)| (key.application.as_ref().map(AppName::as_str), flow.opened))
        .collect();
    assert_eq!(found, [(Some("bash"), 10)]);
}

/// A control group of version 2 that is removed with the test.
struct Group(PathBuf);

impl Group {
    /// `None` where version 2 is not mounted or may not be changed.
    fn make(name: &str) -> Option<Self> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.subtree_control").exists())?;
        let folder = Path::new(root).join(format!("{name}-{}.service", std::process::id()));
        fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_socket_of_a_unit_with_one_application_is_known_by_its_unit() {
    let Some(group) = Group::make("sinter-flows") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let join = group.0.join("cgroup.procs");
    let ask = format!(
        "echo $$ > {} && exec 3<>/dev/tcp/127.0.0.1/{port} && read -r go <&3",
        join.display()
    );
    let mut child = Command::new("bash").args(["-c", &ask]).spawn().unwrap();
    let (mut server, far) = listener.accept().unwrap();

    let mut observer = LinuxObserver::new(Settings::default());
    let observation = look(&mut observer);
    server.write_all(b"go\n").unwrap();
    child.wait().unwrap();

    let (_, row) = observation.connections.iter().find(|(key, _)| key.local == far).unwrap();
    let application = group.name().strip_suffix(".service").unwrap().parse().ok();
    assert_eq!(row.holder, Holder::Group { group: group.name(), application });
}
