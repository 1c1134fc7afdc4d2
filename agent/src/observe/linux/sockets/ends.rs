//! Hears from the kernel of every socket that ends, so that none is too short-lived to be seen.
//!
//! Needs Linux 4.2 and no right; `CAP_NET_ADMIN` gives more room than the system's limit (`net.core.rmem_max`).
//! The kernel tells of the network namespace of the thread that subscribed, and late by some milliseconds, for
//! it has its own time for it. What is not fetched in time is dropped; that it was is counted.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with,
        sockopt,
    },
};

use super::diag::{self, Content, Messages};
use crate::observe::seen::Told;

/// TCP and UDP over IPv4 and IPv6: the groups 1 to 4.
const GROUPS: u32 = 0b1111;

/// Room for what ends between two ticks. It costs memory only while it is full. The kernel gives twice as much
/// for its own bookkeeping, of which one end takes about 1.3 KiB.
const ROOM: usize = 16 * 1024 * 1024;

/// One end is less than half a KiB.
const BUFFER: usize = 8 * 1024;

/// Most ends that are fetched at a time: more than there is room for, and yet an end to the work where sockets
/// end faster than they can be fetched.
const MOST: usize = 65_536;

/// The first version of the kernel that tells.
const FIRST: (u32, u32) = (4, 2);

/// A subscription.
#[derive(Debug)]
pub(super) struct Ends {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Ends {
    /// Subscribes, with the usual room.
    ///
    /// # Errors
    ///
    /// Of a kernel that cannot.
    pub(super) fn open() -> Result<Self, Errno> {
        Self::with_room(ROOM)
    }

    fn with_room(room: usize) -> Result<Self, Errno> {
        // An older kernel would let us subscribe, and never tell.
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        if release.is_ok_and(|release| version(&release) < Some(FIRST)) {
            return Err(Errno::OPNOTSUPP);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        // Beyond the system's limit if the right is there, else up to it.
        sockopt::set_socket_recv_buffer_size_force(&socket, room)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, room))?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Fetches what was told since the last time.
    pub(super) fn fetch(&mut self, told: &mut Told) {
        for _ in 0..MOST {
            let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => length,
                // The kernel says once that it dropped some, and goes on.
                Err(Errno::NOBUFS) => {
                    told.ends_lost += 1;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            for message in Messages(bytes) {
                if let Content::Socket(body) = message.content {
                    told.ended.extend(diag::ended(body));
                }
            }
        }
    }
}

/// `6.1.0-18-amd64` is version 6.1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, UdpSocket},
        time::{Duration, Instant},
    };

    use super::*;

    const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn come_and_go() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(FAR).unwrap();
        socket.local_addr().unwrap().port()
    }

    fn has(told: &Told, port: u16) -> bool {
        told.ended.iter().any(|end| end.key.local.port() == port && end.key.remote == Some(FAR))
    }

    /// Waits until the ends of the sockets on `ports` are told to `ends`, and so to everybody who has room.
    fn wait(ends: &mut Ends, ports: &[u16]) {
        let mut told = Told::default();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ports.iter().all(|port| has(&told, *port)) {
            assert!(Instant::now() < deadline, "{} of {}", told.ended.len(), ports.len());
            ends.fetch(&mut told);
        }
    }

    #[test]
    fn the_version_of_a_kernel_is_its_first_two_numbers() {
        assert_eq!(version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(version("4.18.0-553.el8_10.x86_64"), Some((4, 18)));
        assert!(version("3.10.0-1160.el7.x86_64") < Some(FIRST));
        assert_eq!(version("?"), None);
    }

    #[test]
    fn what_was_not_fetched_in_time_is_counted_and_what_ends_later_is_told() {
        // An old kernel tells nobody.
        let (Ok(mut narrow), Ok(mut roomy)) = (Ends::with_room(16 * 1024), Ends::open()) else {
            return;
        };
        let ports: Vec<u16> = (0..200).map(|_| come_and_go()).collect();
        wait(&mut roomy, &ports);
        let mut told = Told::default();
        narrow.fetch(&mut told);
        assert!(told.ended.len() < ports.len());
        assert_eq!(told.ends_lost, 1);

        // What other tests do may fill it meanwhile.
        let is_told = |_| {
            let port = come_and_go();
            wait(&mut roomy, &[port]);
            let mut told = Told::default();
            narrow.fetch(&mut told);
            has(&told, port)
                && told.ended.iter().all(|end| {
                    end.traffic.is_none_or(|_| end.key.protocol == common::sample::Protocol::Tcp)
                })
        };
        assert!((0..20).any(is_told));
    }
}
