//! Asks the kernel for its table of sockets over sock_diag, one question per protocol, family and kind.
//!
//! The socket belongs to the network namespace of the thread that first asks. Every answer is read into one
//! buffer. An answer that was interrupted by a change is asked for again, a few times; then what came is kept.

use std::{os::fd::OwnedFd, time::Duration};

use common::sample::Protocol;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
        socket_with, sockopt,
    },
};
use thiserror::Error;

use super::{
    Table,
    diag::{self, Content, Messages},
};

/// The kernel fills at most 32 KiB at a time.
const BUFFER: usize = 64 * 1024;

/// A table that changes this often while it is read will do so again.
const MOST_RESTARTS: u32 = 3;

/// The kernel answers from memory; one that does not in this time never will.
const PATIENCE: Duration = Duration::from_secs(5);

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const WHOLE_TABLE: u16 = 0x301;

/// The bit of the extension `INET_DIAG_INFO`.
const WITH_INFO: u8 = 1 << 1;

const LISTENING: u32 = 1 << 10;
/// Every state of a TCP socket, the half-open ones among them, but that of listeners.
const NOT_LISTENING: u32 = 0x1ffe & !LISTENING;
const ANY: u32 = u32::MAX;

/// What is asked for at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    family: u8,
    states: u32,
    extensions: u8,
}

const fn question(
    name: &'static str,
    protocol: Protocol,
    family: u8,
    states: u32,
    extensions: u8,
) -> Question {
    Question { name, protocol, family, states, extensions }
}

/// Listeners come first, for they must be in the table whatever else is, and are asked for alone, for what the
/// kernel counts says nothing of them.
pub(super) const QUESTIONS: [Question; 6] = [
    question("listeners of IPv4", Protocol::Tcp, diag::IPV4, LISTENING, 0),
    question("listeners of IPv6", Protocol::Tcp, diag::IPV6, LISTENING, 0),
    question("TCP over IPv4", Protocol::Tcp, diag::IPV4, NOT_LISTENING, WITH_INFO),
    question("TCP over IPv6", Protocol::Tcp, diag::IPV6, NOT_LISTENING, WITH_INFO),
    question("UDP over IPv4", Protocol::Udp, diag::IPV4, ANY, 0),
    question("UDP over IPv6", Protocol::Udp, diag::IPV6, ANY, 0),
];

impl Question {
    fn bytes(self, sequence: u32) -> [u8; 72] {
        let mut bytes = [0; 72];
        bytes[0..4].copy_from_slice(&72_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&diag::BY_FAMILY.to_ne_bytes());
        bytes[6..8].copy_from_slice(&WHOLE_TABLE.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes[16] = self.family;
        bytes[17] = diag::number(self.protocol);
        bytes[18] = self.extensions;
        bytes[20..24].copy_from_slice(&self.states.to_ne_bytes());
        bytes
    }
}

/// Why a question was not answered.
#[derive(Debug, Error)]
pub(super) enum DumpError {
    /// The kernel knows no such question.
    #[error("the kernel refused")]
    Refused(#[source] Errno),
    /// The way to the kernel failed.
    #[error("the kernel could not be asked")]
    Socket(#[from] Errno),
    /// A message was longer than the kernel ever makes them.
    #[error("an answer of {0} bytes was longer than any")]
    TooLong(usize),
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// Times it was asked again because the table changed.
    pub(super) restarts: u32,
    /// It changed the last time too: rows may be missing or twice.
    pub(super) interrupted: bool,
}

/// The way to the kernel.
#[derive(Debug, Default)]
pub(super) struct Dump {
    socket: Option<OwnedFd>,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dump {
    /// Puts the answer into `table`.
    pub(super) fn ask(
        &mut self,
        question: Question,
        table: &mut Table,
    ) -> Result<Answered, DumpError> {
        let mut answered = Answered::default();
        loop {
            let mark = table.mark();
            let take = |body: &[u8]| table.extend(diag::row(body, question.protocol));
            let result = self.ask_once(question, take);
            // After a failure more of the old answer may be on its way; a new socket has none of it.
            let interrupted = result.inspect_err(|_| self.socket = None)?;
            if !interrupted {
                return Ok(answered);
            }
            if answered.restarts == MOST_RESTARTS {
                return Ok(Answered { interrupted: true, ..answered });
            }
            answered.restarts += 1;
            table.back_to(mark);
        }
    }

    /// Has `take` every socket of the answer; gives whether the table changed meanwhile.
    fn ask_once(
        &mut self,
        question: Question,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, DumpError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.resize(BUFFER, 0);
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(open()?),
        };
        send(&*socket, &question.bytes(self.sequence), SendFlags::empty())?;
        let mut interrupted = false;
        loop {
            let received = recv(&*socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC);
            let length = match received {
                Err(Errno::INTR) => continue,
                received => received?.1,
            };
            let bytes = self.buffer.get(..length).ok_or(DumpError::TooLong(length))?;
            for message in Messages(bytes).filter(|message| message.sequence == self.sequence) {
                interrupted |= message.interrupted;
                match message.content {
                    Content::Socket(body) => take(body),
                    Content::Done(0) => return Ok(interrupted),
                    Content::Done(number) | Content::Failed(number) => {
                        return Err(DumpError::Refused(Errno::from_raw_os_error(number)));
                    }
                    Content::Other => {}
                }
            }
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_costs_itself_and_the_next_is_answered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let mut dump = Dump::default();
        let mut table = Table::default();
        let nonsense = question("nothing", Protocol::Tcp, 99, ANY, 0);

        let refusal = dump.ask(nonsense, &mut table).unwrap_err();
        assert!(matches!(refusal, DumpError::Refused(_)), "{refusal}");
        let [listeners, ..] = QUESTIONS;
        assert_eq!(dump.ask(listeners, &mut table).unwrap(), Answered::default());

        assert!(table.rows.iter().any(|row| row.key.local == local));
    }
}
