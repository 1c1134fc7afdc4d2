//! The order in which rows stand in the table.

use std::net::{IpAddr, SocketAddr};

use common::sample::{ConnectionKey, Protocol};

use super::super::seen::Row;

/// The rows as they stand in the table. Sockets that share a port have one key; the oldest one speaks for
/// them. What is sorted is where they are, by their ranks: to compare two whole keys costs many times as much.
pub(super) fn in_order(rows: &[Row]) -> Vec<&Row> {
    let mut ranked: Vec<(u128, &Row)> = rows.iter().map(|row| (rank(&row.key), row)).collect();
    ranked.sort_unstable_by(|(rank, row), (other_rank, other)| {
        let whole = |row: &Row| (row.key, row.inode == 0, row.inode);
        rank.cmp(other_rank).then_with(|| whole(row).cmp(&whole(other)))
    });
    ranked.dedup_by(|(rank, row), (former_rank, former)| {
        rank == former_rank && row.key == former.key
    });
    ranked.into_iter().map(|(_, row)| row).collect()
}

/// How the order of a key begins: all of it between two ends of IPv4, elsewhere as much as there is room for.
fn rank(key: &ConnectionKey) -> u128 {
    let protocol = match key.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1 << 127,
    };
    let is_ipv6 = 1 << 126;
    let local = match key.local.ip() {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 94,
        // The last two bits do not fit, and what is after them is left out with them.
        IpAddr::V6(address) => return protocol | is_ipv6 | (address.to_bits() >> 2),
    };
    let remote = match key.remote {
        None => 0,
        Some(SocketAddr::V4(end)) => {
            1 << 76 | u128::from(end.ip().to_bits()) << 44 | u128::from(end.port()) << 28
        }
        Some(SocketAddr::V6(end)) => 2 << 76 | end.ip().to_bits() >> 52,
    };
    protocol | local | u128::from(key.local.port()) << 78 | remote
}

#[cfg(test)]
mod tests {
    use common::sample::ConnectionState;

    use super::*;

    fn row(protocol: Protocol, local: &str, remote: Option<&str>, inode: u32) -> Row {
        let (local, remote) = (local.parse().unwrap(), remote.map(|end| end.parse().unwrap()));
        Row {
            key: ConnectionKey { protocol, local, remote },
            state: ConnectionState::Established,
            inode,
            user: None,
            cookie: 0,
            cgroup: None,
            traffic: None,
        }
    }

    /// Ends next to each other in every part of their order.
    fn ends() -> Vec<&'static str> {
        vec![
            "0.0.0.0:0",
            "10.0.0.1:80",
            "10.0.0.1:81",
            "10.0.0.2:1",
            "255.255.255.255:65535",
            "[::]:0",
            "[::]:1",
            "[2001:db8::1]:80",
            "[2001:db8::2]:80",
            "[2001:db8::2]:443",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ]
    }

    #[test]
    fn the_rows_stand_in_the_order_of_their_keys() {
        let mut rows = Vec::new();
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for local in ends() {
                for remote in ends().into_iter().map(Some).chain([None]) {
                    rows.push(row(protocol, local, remote, 1));
                }
            }
        }
        let mut expected: Vec<ConnectionKey> = rows.iter().map(|row| row.key).collect();
        expected.sort_unstable();

        let found: Vec<ConnectionKey> = in_order(&rows).iter().map(|row| row.key).collect();

        assert_eq!(found, expected);
    }

    #[test]
    fn of_sockets_that_share_a_port_the_oldest_that_is_held_speaks() {
        let shared = |inode| row(Protocol::Udp, "0.0.0.0:5353", None, inode);
        let rows = [shared(9), shared(0), shared(7)];
        let found: Vec<u32> = in_order(&rows).iter().map(|row| row.inode).collect();
        assert_eq!(found, [7]);
    }
}
