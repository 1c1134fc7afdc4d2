use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use common::sample::{ConnectionKey, ConnectionState};

use nix::{
    errno::Errno,
    sys::socket::{self, Backlog, SockFlag, SockType, SockaddrIn},
};

use super::*;
use crate::observe::seen::Ended;

fn row_of(sockets: &Sockets, local: SocketAddr, remote: Option<SocketAddr>) -> Row {
    let is_it = |row: &&Row| row.key.local == local && row.key.remote == remote;
    *sockets.rows.iter().find(is_it).unwrap()
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_folded() {
    let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
    assert_eq!(end(mapped, 80).to_string(), "10.0.0.7:80");
}

#[test]
fn too_many_rows_cost_connections_and_no_listener() {
    let key = |port, remote| ConnectionKey {
        protocol: Protocol::Tcp,
        local: SocketAddr::new([127, 0, 0, 1].into(), port),
        remote,
    };
    let row = |key, state| Row {
        key,
        state,
        inode: 1,
        user: None,
        cookie: 0,
        cgroup: None,
        traffic: None,
    };
    let far = Some(SocketAddr::new([10, 0, 0, 1].into(), 9));
    let mut table = Table::default();

    table.extend(vec![row(key(1, far), ConnectionState::Established); MAX_ROWS + 5]);
    table.extend([row(key(2, None), ConnectionState::Listen)]);

    assert_eq!(table.left_out, 5);
    assert_eq!(table.rows.len(), MAX_ROWS + 1);
    assert_eq!(table.rows.last().unwrap().state, ConnectionState::Listen);
}

#[test]
fn what_a_connection_carried_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(near).unwrap();
    let (server, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut client, &[1; 1000]).unwrap();
    server.peek(&mut [0; 1000]).unwrap();

    let sockets = Reader::new(&Setup::new(false)).read();

    assert_eq!(sockets.reader, ConnectionReader::SocketDiagnosis, "{}", sockets.source);
    let sender = row_of(&sockets, client.local_addr().unwrap(), Some(near));
    let receiver = row_of(&sockets, near, Some(client.local_addr().unwrap()));
    assert_eq!(sender.traffic.unwrap().sent, 1000);
    assert_eq!(receiver.traffic.unwrap().received, 1000);
    assert_eq!(receiver.traffic.unwrap().unread, 1000);
    assert_eq!(row_of(&sockets, near, None).traffic, None);
}

#[test]
fn a_connection_too_short_to_be_seen_is_told_when_it_ends() {
    let mut reader = Reader::new(&Setup::new(false));
    if reader.ends.is_err() {
        // An old kernel tells nobody.
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(near).unwrap();
    let local = client.local_addr().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut client, &[1; 1000]).unwrap();
    drop(client);
    std::io::Read::read_to_end(&mut server, &mut Vec::new()).unwrap();
    drop(server);

    let ends = [(local, Some(near)), (near, Some(local))];
    let mut told = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while told.len() < ends.len() && Instant::now() < deadline {
        let is_ours = |ended: &Ended| ends.contains(&(ended.key.local, ended.key.remote));
        told.extend(reader.told().ended.into_iter().filter(is_ours));
    }

    told.sort_by_key(|ended| ended.key.local == near);
    let [client, server] = told[..] else { panic!("{told:?}") };
    assert_eq!(client.traffic.unwrap().sent, 1000);
    // With the client's FIN.
    assert_eq!(server.traffic.unwrap().received, 1001);
    assert_ne!(client.cookie, server.cookie);
}

#[test]
fn what_was_cut_off_from_this_side_carried_nobody_knows_what() {
    let mut reader = Reader::new(&Setup::new(false));
    if reader.ends.is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cut = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = cut.local_addr().unwrap().port();
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    socket::setsockopt(&cut, socket::sockopt::Linger, &at_once).unwrap();
    drop(cut);

    let mut ended = None;
    let deadline = Instant::now() + Duration::from_secs(10);
    while ended.is_none() && Instant::now() < deadline {
        ended = reader.told().ended.into_iter().find(|ended| ended.key.local.port() == port);
    }

    let ended = ended.unwrap();
    assert_eq!((ended.key.remote.unwrap().port(), ended.traffic), (0, None));
}

fn stream(flags: SockFlag) -> OwnedFd {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    socket::socket(socket::AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

fn address(address: SocketAddr) -> SockaddrIn {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    address.into()
}

/// A listener with room for one connection that nobody accepts; the next ones wait in `SYN_SENT`.
fn narrow_listener() -> (OwnedFd, SocketAddr) {
    let listener = stream(SockFlag::empty());
    let any = address("127.0.0.1:0".parse().unwrap());
    socket::bind(listener.as_raw_fd(), &any).unwrap();
    socket::listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let local: SockaddrIn = socket::getsockname(listener.as_raw_fd()).unwrap();
    (listener, SocketAddr::V4(local.into()))
}

/// What the readers must agree on, of the sockets on `ports`.
fn agreed(sockets: &Sockets, ports: &[u16]) -> Vec<(ConnectionKey, ConnectionState, u32)> {
    let ends = |key: &ConnectionKey| [Some(key.local), key.remote].into_iter().flatten();
    let is_ours = |row: &&Row| ends(&row.key).any(|end| ports.contains(&end.port()));
    let rows = sockets.rows.iter().filter(is_ours).map(|row| (row.key, row.state, row.inode));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(key, _, inode)| (*key, *inode));
    rows
}

#[test]
fn both_readers_give_the_same_sockets_in_the_same_states() {
    let mut ports = Vec::new();
    let mut kept = Vec::new();
    for (listens, connects) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
    {
        let listener = TcpListener::bind(listens).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = || TcpStream::connect((connects, port)).unwrap();
        // One stays, one is closed from both sides, one from the far side.
        let pairs = [(); 3].map(|()| (connect(), listener.accept().unwrap().0));
        let [open, closed, waits] = pairs;
        drop(closed);
        drop(waits.0);
        ports.push(port);
        kept.push((listener, open, waits.1));
    }
    let (_narrow, narrow) = narrow_listener();
    let queued = TcpStream::connect(narrow).unwrap();
    let waiting = stream(SockFlag::SOCK_NONBLOCK);
    let begun = socket::connect(waiting.as_raw_fd(), &address(narrow));
    assert_eq!(begun, Err(Errno::EINPROGRESS));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    ports.extend([narrow.port(), server.local_addr().unwrap().port()]);
    let mut reader = Reader::new(&Setup::new(false));

    let expected = [
        ConnectionState::Listen,
        ConnectionState::Established,
        ConnectionState::TimeWait,
        ConnectionState::CloseWait,
        ConnectionState::FinWait2,
        ConnectionState::SynSent,
        ConnectionState::Stateless,
    ];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let has_all = |rows: &[(_, ConnectionState, _)]| {
        expected.iter().all(|state| rows.iter().any(|row| row.1 == *state))
    };
    let deadline = Instant::now() + Duration::from_secs(8);
    while (!has_all(&ours) || ours != theirs) && Instant::now() < deadline {
        ours = agreed(&reader.read(), &ports);
        theirs = agreed(&netstat::read(), &ports);
    }

    assert!(has_all(&ours), "{ours:#?}");
    assert_eq!(ours, theirs);
    drop((queued, kept, waiting));
}

#[test]
fn a_reader_sees_the_network_namespace_of_its_thread() {
    let inside = std::thread::spawn(|| {
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
            // Without root there is one namespace.
            return None;
        }
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let sockets = Reader::new(&Setup::new(false)).read();
        Some((listener, sockets))
    });
    let Some((listener, sockets)) = inside.join().unwrap() else { return };

    let local = listener.local_addr().unwrap();
    assert_eq!(sockets.rows.iter().map(|row| row.key.local).collect::<Vec<_>>(), [local]);
    assert_eq!(sockets.counted, Some(0));
    let outside = Reader::new(&Setup::new(false)).read();
    let inode = row_of(&sockets, local, None).inode;
    assert!(outside.rows.iter().all(|row| row.inode != inode));
}

#[test]
fn openings_that_are_not_wanted_any_more_are_not_told_and_that_is_said() {
    let mut reader = Reader::new(&Setup::new(true));
    let could_tell = reader.openings.is_ok();

    reader.want_openings(false);
    assert!(!reader.read().opens_are_told);

    reader.want_openings(true);
    assert_eq!(reader.read().opens_are_told, could_tell);
}
