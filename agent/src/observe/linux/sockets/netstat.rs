//! Reads the socket tables by netstat2, which is portable, and by procfs where that sees nothing.
//!
//! netstat2 asks the kernel over sock_diag. It gives neither bytes nor the far end of a UDP socket; the far end
//! is taken from procfs. A kernel without sock_diag answers netstat2 with an empty table instead of an error,
//! so an empty table is read once more from procfs.

use std::{collections::HashMap, net::SocketAddr};

use common::sample::{ConnectionKey, ConnectionReader, ConnectionState, Protocol};
use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, SocketInfo, TcpState};
use procfs::net;

use super::{Table, end, remote};
use crate::observe::seen::{Row, Sockets};

const BY_NETLINK: &str = "netstat2 (sock_diag): addresses, states and processes; no bytes";
const BY_PROC: &str =
    "/proc/net (the kernel has no sock_diag): addresses, states and processes; no bytes";

/// The table now.
pub(super) fn read() -> Sockets {
    let (mut rows, failure) = by_netlink();
    let mut source = BY_NETLINK.to_owned();
    if !rows.iter().any(|row| row.key.protocol == Protocol::Tcp) {
        let tcp = by_proc();
        if !tcp.is_empty() {
            BY_PROC.clone_into(&mut source);
            rows.extend(tcp);
        }
    }
    match far_ends_of_udp() {
        Some(far_ends) => add_far_ends(&mut rows, &far_ends),
        None => source.push_str("; no far end of UDP"),
    }
    if let Some(failure) = failure {
        source.push_str("; the table is incomplete: ");
        source.push_str(&failure);
    }
    let mut table = Table::with_room_for(rows.len());
    table.extend(rows);
    let Table { rows, left_out, .. } = table;
    Sockets { rows, reader: ConnectionReader::Netstat, source, left_out, ..Sockets::default() }
}

fn by_netlink() -> (Vec<Row>, Option<String>) {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let protocols = ProtocolFlags::TCP | ProtocolFlags::UDP;
    let sockets = match netstat2::iterate_sockets_info_without_pids(families, protocols) {
        Ok(sockets) => sockets,
        Err(cause) => return (Vec::new(), Some(cause.to_string())),
    };
    let mut rows = Vec::new();
    for socket in sockets {
        match socket {
            Ok(socket) => rows.push(row(&socket)),
            // A socket that fails once fails for ever; to go on would be an endless loop.
            Err(cause) => return (rows, Some(cause.to_string())),
        }
    }
    (rows, None)
}

fn row(socket: &SocketInfo) -> Row {
    let (protocol, local, remote, state) = match &socket.protocol_socket_info {
        ProtocolSocketInfo::Tcp(tcp) => (
            Protocol::Tcp,
            end(tcp.local_addr, tcp.local_port),
            remote(tcp.remote_addr, tcp.remote_port),
            state(tcp.state),
        ),
        ProtocolSocketInfo::Udp(udp) => {
            (Protocol::Udp, end(udp.local_addr, udp.local_port), None, ConnectionState::Stateless)
        }
    };
    let remote = if state == ConnectionState::Listen { None } else { remote };
    Row {
        key: ConnectionKey { protocol, local, remote },
        state,
        inode: socket.inode,
        user: None,
        cookie: 0,
        cgroup: None,
        traffic: None,
    }
}

fn by_proc() -> Vec<Row> {
    let entries = [net::tcp(), net::tcp6()].into_iter().flatten().flatten();
    let rows = entries.map(|entry| {
        let state = state_of_proc(&entry.state);
        let far = entry.remote_address;
        let listens = state == ConnectionState::Listen;
        let remote = if listens { None } else { remote(far.ip(), far.port()) };
        let local = end(entry.local_address.ip(), entry.local_address.port());
        let key = ConnectionKey { protocol: Protocol::Tcp, local, remote };
        Row {
            key,
            state,
            inode: u32::try_from(entry.inode).unwrap_or(0),
            user: None,
            cookie: 0,
            cgroup: None,
            traffic: None,
        }
    });
    rows.collect()
}

fn far_ends_of_udp() -> Option<HashMap<u32, SocketAddr>> {
    // A kernel without IPv6 has no second table.
    let entries = net::udp().ok()?.into_iter().chain(net::udp6().unwrap_or_default());
    let far_ends = entries.filter_map(|entry| {
        let far = remote(entry.remote_address.ip(), entry.remote_address.port())?;
        Some((u32::try_from(entry.inode).ok()?, far))
    });
    Some(far_ends.collect())
}

fn add_far_ends(rows: &mut [Row], far_ends: &HashMap<u32, SocketAddr>) {
    for row in rows.iter_mut().filter(|row| row.key.protocol == Protocol::Udp && row.inode != 0) {
        row.key.remote = far_ends.get(&row.inode).copied();
    }
}

const fn state(state: TcpState) -> ConnectionState {
    match state {
        TcpState::Established => ConnectionState::Established,
        TcpState::SynSent => ConnectionState::SynSent,
        TcpState::SynReceived => ConnectionState::SynReceived,
        TcpState::FinWait1 => ConnectionState::FinWait1,
        TcpState::FinWait2 => ConnectionState::FinWait2,
        TcpState::TimeWait => ConnectionState::TimeWait,
        TcpState::CloseWait => ConnectionState::CloseWait,
        TcpState::LastAck => ConnectionState::LastAck,
        TcpState::Listen => ConnectionState::Listen,
        TcpState::Closing => ConnectionState::Closing,
        TcpState::Closed | TcpState::DeleteTcb | TcpState::Unknown => ConnectionState::Closed,
    }
}

const fn state_of_proc(state: &net::TcpState) -> ConnectionState {
    match state {
        net::TcpState::Established => ConnectionState::Established,
        net::TcpState::SynSent => ConnectionState::SynSent,
        net::TcpState::SynRecv | net::TcpState::NewSynRecv => ConnectionState::SynReceived,
        net::TcpState::FinWait1 => ConnectionState::FinWait1,
        net::TcpState::FinWait2 => ConnectionState::FinWait2,
        net::TcpState::TimeWait => ConnectionState::TimeWait,
        net::TcpState::Close => ConnectionState::Closed,
        net::TcpState::CloseWait => ConnectionState::CloseWait,
        net::TcpState::LastAck => ConnectionState::LastAck,
        net::TcpState::Listen => ConnectionState::Listen,
        net::TcpState::Closing => ConnectionState::Closing,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn has(rows: &[Row], local: SocketAddr) -> bool {
        rows.iter().any(|row| row.key.local == local)
    }

    #[test]
    fn both_readers_see_an_own_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();

        assert!(has(&by_netlink().0, local));
        assert!(has(&by_proc(), local));
    }

    #[test]
    fn the_far_end_of_a_connected_udp_socket_is_found() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();

        let sockets = read();

        let local = client.local_addr().unwrap();
        let row = sockets.rows.iter().find(|row| row.key.local == local).unwrap();
        assert_eq!(row.key.remote, Some(server.local_addr().unwrap()));
        assert!(sockets.source.contains("netstat2"), "{}", sockets.source);
    }
}
