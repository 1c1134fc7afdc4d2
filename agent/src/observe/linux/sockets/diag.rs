//! The bytes in which the kernel's socket diagnosis speaks, taken apart: messages, sockets, what they carried.
//!
//! Pure. Bytes that are too short, or of a family or protocol not asked for, cost themselves and nothing else.
//! Newer kernels append to every structure; what is behind the known part is skipped, what an old kernel does
//! not have yet is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::sample::{ConnectionKey, ConnectionState, Protocol};

use super::{end, remote};
use crate::observe::seen::{Ended, Row, Traffic};

/// `SOCK_DIAG_BY_FAMILY`: a question, and a socket in the answer.
pub(super) const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the table changed while it was walked.
const INTERRUPTED: u16 = 0x10;

const HEADER: usize = 16;
/// Length of `struct inet_diag_msg`.
const SOCKET: usize = 72;

const ATTRIBUTE_INFO: u16 = 2;
const ATTRIBUTE_PROTOCOL: u16 = 10;
const ATTRIBUTE_CGROUP: u16 = 21;
/// An attribute's number is below its flags.
const ATTRIBUTE_NUMBER: u16 = 0x3fff;

/// `struct tcp_info` up to `tcpi_bytes_retrans`, which Linux 4.19 brought. Before it, bytes sent but not
/// acknowledged cannot be told from none, and a guess would be taken for a figure.
const INFO: usize = 216;

/// `AF_INET`.
pub(super) const IPV4: u8 = 2;
/// `AF_INET6`.
pub(super) const IPV6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Number of a protocol in an IP header.
pub(super) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

/// One netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Number of the question that it answers.
    pub(super) sequence: u32,
    /// The table changed while it was walked.
    pub(super) interrupted: bool,
    pub(super) content: Content<'a>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A socket, to be taken apart.
    Socket(&'a [u8]),
    /// The answer is complete, or ended by this error number.
    Done(i32),
    /// The question failed with this error number.
    Failed(i32),
    /// Something not asked for.
    Other,
}

/// The messages of one datagram. A message that claims a length that cannot be ends them.
#[derive(Debug)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let content = match u16::from_ne_bytes([k0, k1]) {
            BY_FAMILY => Content::Socket(body),
            DONE => Content::Done(error_number(body)),
            ERROR => Content::Failed(error_number(body)),
            _ => Content::Other,
        };
        Some(Message {
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            interrupted: u16::from_ne_bytes([f0, f1]) & INTERRUPTED != 0,
            content,
        })
    }
}

/// The kernel writes error numbers negated.
fn error_number(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number).saturating_neg())
}

/// Takes a row of the table apart; `None` if it is not what was asked for.
pub(super) fn row(body: &[u8], protocol: Protocol) -> Option<Row> {
    let socket: &[u8; SOCKET] = body.first_chunk()?;
    let state = match protocol {
        Protocol::Tcp => state(socket[1])?,
        Protocol::Udp => ConnectionState::Stateless,
    };
    let mut key = key(socket, protocol)?;
    if state == ConnectionState::Listen {
        key.remote = None;
    }
    let inode = u32_in(socket, 68);
    let attributes = Attributes::of(body);
    let traffic = attributes.info.and_then(|info| traffic(info, u32_in(socket, 56)));
    Some(Row {
        key,
        state,
        inode,
        // A socket without an inode belongs to nobody, and its user is said to be root.
        user: (inode != 0).then(|| u32_in(socket, 64)),
        cookie: u64_in(socket, 44),
        cgroup: attributes.cgroup,
        traffic: traffic.filter(|_| state != ConnectionState::Listen),
    })
}

/// Takes the news of an end apart; `None` if it is of a protocol that nobody asked for.
pub(super) fn ended(body: &[u8]) -> Option<Ended> {
    let socket: &[u8; SOCKET] = body.first_chunk()?;
    let attributes = Attributes::of(body);
    let protocol = match attributes.protocol? {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    let known = attributes.info.filter(|info| !is_wiped(info));
    let traffic = known.and_then(|info| traffic(info, u32_in(socket, 56)));
    Some(Ended { key: key(socket, protocol)?, cookie: u64_in(socket, 44), traffic })
}

fn key(socket: &[u8; SOCKET], protocol: Protocol) -> Option<ConnectionKey> {
    let ip = |at: usize| {
        let bytes: &[u8; 16] = socket.get(at..)?.first_chunk()?;
        let [a, b, c, d, ..] = *bytes;
        match socket[0] {
            IPV4 => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            IPV6 => Some(IpAddr::V6(Ipv6Addr::from(*bytes))),
            _ => None,
        }
    };
    let port = |at: usize| u16::from_be_bytes([socket[at], socket[at + 1]]);
    let (near, far): (SocketAddr, _) = (end(ip(8)?, port(4)), remote(ip(24)?, port(6)));
    Some(ConnectionKey { protocol, local: near, remote: far })
}

const fn state(number: u8) -> Option<ConnectionState> {
    Some(match number {
        1 => ConnectionState::Established,
        2 => ConnectionState::SynSent,
        // 12 is a half-open connection that has no socket of its own yet.
        3 | 12 => ConnectionState::SynReceived,
        4 => ConnectionState::FinWait1,
        5 => ConnectionState::FinWait2,
        6 => ConnectionState::TimeWait,
        7 => ConnectionState::Closed,
        8 => ConnectionState::CloseWait,
        9 => ConnectionState::LastAck,
        10 => ConnectionState::Listen,
        11 => ConnectionState::Closing,
        _ => return None,
    })
}

/// The attributes behind a socket that are of interest.
#[derive(Debug, Default)]
struct Attributes<'a> {
    info: Option<&'a [u8]>,
    protocol: Option<u8>,
    cgroup: Option<u64>,
}

impl<'a> Attributes<'a> {
    fn of(body: &'a [u8]) -> Self {
        let mut attributes = Self::default();
        let mut rest = body.get(SOCKET..).unwrap_or_default();
        while let Some(&[l0, l1, k0, k1]) = rest.first_chunk() {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let Some(value) = rest.get(4..length) else { break };
            match u16::from_ne_bytes([k0, k1]) & ATTRIBUTE_NUMBER {
                ATTRIBUTE_INFO => attributes.info = Some(value),
                ATTRIBUTE_PROTOCOL => attributes.protocol = value.first().copied(),
                ATTRIBUTE_CGROUP => {
                    attributes.cgroup = value.first_chunk().map(|id| u64::from_ne_bytes(*id));
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        attributes
    }
}

/// Whether the kernel forgot what the socket carried. It does so with a connection that is cut off from this
/// side, by `SO_LINGER` of 0 or because nobody accepted it, and with an attempt that failed. Of a connection that
/// was established it still has the shortest round trip, of an attempt there is none, and nothing is known of it
/// that is not nothing.
fn is_wiped(info: &[u8]) -> bool {
    let Some(info) = info.first_chunk::<INFO>() else { return true };
    let counted_no_segment = u32_in(info, 136) == 0 && u32_in(info, 140) == 0;
    let was_established = u32_in(info, 148) != u32::MAX;
    counted_no_segment && was_established
}

/// What the kernel counted. Found by trying on Linux 6.18, with `SYN` 1 on the side that opened, else 0:
///
/// * `sent` (`tcpi_bytes_sent` less `tcpi_bytes_retrans`) is exactly the payload, in every case.
/// * `acknowledged` is the payload that was acknowledged, plus `SYN`, plus 1 once the own FIN was.
/// * `received` is the payload received in order, read or not, plus 1 once the far end's FIN came *to this
///   socket*. It did if the far end closed first, whoever read it, and if this side only shut down its half and
///   then waited. It did not if this side closed first and entirely: the socket ends when its own FIN is
///   acknowledged, and what takes the far end's FIN is the `TIME_WAIT` row, of the same cookie, that counts
///   nothing. A FIN that came and was not read is in `unread` as one more.
///
/// Of a socket that ended, whose own FIN was acknowledged (`acknowledged - sent - SYN == 1`):
///
/// * no `TIME_WAIT` or `FIN_WAIT2` row of its cookie is left: `received` has the FIN, unless the far end reset the
///   row away, which it does if it left payload unread or sent more.
/// * there is one, and `unread` is 0: it has not. One too few is subtracted if the process shut down its half
///   and read to the end before it closed; nothing that the kernel tells makes the difference.
/// * there is one, and `unread` is more: it has, for to close with payload unread resets and leaves no row.
///
/// Of one whose own FIN was not acknowledged: it was reset. `received` has the FIN if this side was in
/// `CLOSE_WAIT`, which a look before tells; else it has not, unless `unread` is exactly 1. Where no data segment
/// came, all of `received` is the FIN in any case.
fn traffic(info: &[u8], unread: u32) -> Option<Traffic> {
    let info: &[u8; INFO] = info.first_chunk()?;
    let data_segments_sent = u32_in(info, 156);
    let data_segments_received = u32_in(info, 152);
    // The kernel's ages start at the handshake; without a data segment they are the age of that.
    let age = |segments: u32, at: usize| (segments > 0).then(|| u32_in(info, at));
    Some(Traffic {
        sent: u64_in(info, 200).saturating_sub(u64_in(info, 208)),
        acknowledged: u64_in(info, 120),
        received: u64_in(info, 128),
        segments_sent: u32_in(info, 136).into(),
        segments_received: u32_in(info, 140).into(),
        data_segments_sent: data_segments_sent.into(),
        data_segments_received: data_segments_received.into(),
        retransmitted: u32_in(info, 100).into(),
        round_trip_us: u32_in(info, 68),
        since_sent_ms: age(data_segments_sent, 44),
        since_received_ms: age(data_segments_received, 52),
        unread,
    })
}

/// A number within a structure of known length; `at` is a constant, and the compiler sees that it fits.
#[inline]
const fn u32_in<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn u64_in<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    number.map_or(0, |number| u64::from_ne_bytes(*number))
}

#[cfg(test)]
mod tests;
