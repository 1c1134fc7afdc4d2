//! What readers that only poll see at one moment: netstat2, `ss -tanp`, and /proc read directly.
//! They stand beside the agent in the same namespace, at the same cadence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
};

use common::sample::Protocol;
use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo};
use procfs::process::FDTarget;
use serde::{Deserialize, Serialize};

use crate::figure::Failure;

/// One row as some reader saw it, addresses that are v4-mapped folded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sighting {
    /// The protocol.
    pub protocol: Protocol,
    /// The own end.
    pub local: SocketAddr,
    /// The far end; `None` of a listener.
    pub remote: Option<SocketAddr>,
    /// Whose it is, if the reader could tell.
    pub application: Option<String>,
}

/// A reader that polls.
#[derive(Debug, Clone, Copy)]
pub struct Poller {
    /// Its name in figures.
    pub name: &'static str,
    /// Looks.
    pub look: fn() -> Result<BTreeSet<Sighting>, Failure>,
}

/// All of them.
pub const POLLERS: [Poller; 3] = [
    Poller { name: "netstat2", look: netstat },
    Poller { name: "ss -tanp", look: ss },
    Poller { name: "/proc", look: proc },
];

/// The file that a process runs, without its folder.
fn application(pid: u32) -> Option<String> {
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(file.file_name()?.to_string_lossy().into_owned())
}

fn folded(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// The far end, unless the row is a listener's.
fn far(end: SocketAddr) -> Option<SocketAddr> {
    (end.port() != 0).then_some(end)
}

/// The table of netstat2, with processes.
///
/// # Errors
///
/// If it cannot read it.
pub fn netstat() -> Result<BTreeSet<Sighting>, Failure> {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    let rows = netstat2::get_sockets_info(families, ProtocolFlags::TCP | ProtocolFlags::UDP)?;
    let sighting = |row: netstat2::SocketInfo| {
        let application = row.associated_pids.first().and_then(|pid| application(*pid));
        match row.protocol_socket_info {
            ProtocolSocketInfo::Tcp(tcp) => Sighting {
                protocol: Protocol::Tcp,
                local: folded(tcp.local_addr, tcp.local_port),
                remote: far(folded(tcp.remote_addr, tcp.remote_port)),
                application,
            },
            ProtocolSocketInfo::Udp(udp) => Sighting {
                protocol: Protocol::Udp,
                local: folded(udp.local_addr, udp.local_port),
                remote: None,
                application,
            },
        }
    };
    Ok(rows.into_iter().map(sighting).collect())
}

/// What `ss -tanp` prints.
///
/// # Errors
///
/// If it is not installed.
pub fn ss() -> Result<BTreeSet<Sighting>, Failure> {
    let output = Command::new("ss").arg("-Htanp").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(line_of_ss).collect())
}

fn line_of_ss(line: &str) -> Option<Sighting> {
    let mut fields = line.split_whitespace().skip(3);
    let (local, remote) = (end_of_ss(fields.next()?)?, end_of_ss(fields.next()?)?);
    let pid = line.split_once("pid=").and_then(|(_, rest)| rest.split([',', ')']).next());
    Some(Sighting {
        protocol: Protocol::Tcp,
        local,
        remote: far(remote),
        application: pid.and_then(|pid| application(pid.parse().ok()?)),
    })
}

fn end_of_ss(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    // A link-local address comes with its interface.
    let address = address.trim_matches(['[', ']']).split('%').next()?;
    let address = match address {
        "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        written => written.parse().ok()?,
    };
    Some(folded(address, if port == "*" { 0 } else { port.parse().ok()? }))
}

/// The tables of /proc/net, joined with the descriptors of every process.
///
/// # Errors
///
/// If they cannot be read.
pub fn proc() -> Result<BTreeSet<Sighting>, Failure> {
    let mut holders = BTreeMap::new();
    for process in procfs::process::all_processes()?.flatten() {
        let sockets =
            process.fd().into_iter().flatten().flatten().filter_map(|fd| match fd.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            });
        for inode in sockets {
            holders.insert(inode, process.pid());
        }
    }
    let name =
        |inode: u64| holders.get(&inode).and_then(|pid| application(u32::try_from(*pid).ok()?));
    let tcp = procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6()?);
    let tcp = tcp.map(|row| (Protocol::Tcp, row.local_address, row.remote_address, row.inode));
    let udp = procfs::net::udp()?.into_iter().chain(procfs::net::udp6()?);
    let udp = udp.map(|row| (Protocol::Udp, row.local_address, row.remote_address, row.inode));
    let sighting = |(protocol, local, remote, inode): (_, SocketAddr, SocketAddr, u64)| Sighting {
        protocol,
        local: folded(local.ip(), local.port()),
        remote: far(folded(remote.ip(), remote.port())),
        application: name(inode),
    };
    Ok(tcp.chain(udp).map(sighting).collect())
}

/// Whether a row's own address says nothing, as that of a listener on every address.
#[must_use]
pub fn is_any(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ss_gives_both_ends_folded() {
        let line =
            "ESTAB 0 0 [::ffff:10.88.0.1]:41000 [::ffff:10.88.0.2]:80 users:((\"x\",pid=0,fd=3))";
        let seen = line_of_ss(line).unwrap();
        assert_eq!(seen.local, "10.88.0.1:41000".parse().unwrap());
        assert_eq!(seen.remote, Some("10.88.0.2:80".parse().unwrap()));
    }

    #[test]
    fn a_listener_of_ss_has_no_far_end() {
        let seen = line_of_ss("LISTEN 0 128 *:80 *:*").unwrap();
        assert_eq!((seen.local.port(), seen.remote), (80, None));
        assert!(is_any(seen.local.ip()));
    }
}
