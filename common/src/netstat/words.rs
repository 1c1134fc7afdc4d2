//! The words of the programs: states, who holds a socket, what it carried.

use super::Listed;
use crate::{
    sample::{ConnectionState, Transport},
    units::Bytes,
};

/// A state in any of the spellings.
pub(super) fn state(word: &str) -> Option<ConnectionState> {
    let word = word.to_ascii_uppercase().replace('-', "_");
    Some(match word.as_str() {
        "ESTABLISHED" | "ESTAB" => ConnectionState::Established,
        "SYN_SENT" => ConnectionState::SynSent,
        "SYN_RECV" | "SYN_RCVD" | "SYN_RECEIVED" | "NEW_SYN_RECV" => ConnectionState::SynReceived,
        "FIN_WAIT1" | "FIN_WAIT_1" => ConnectionState::FinWait1,
        "FIN_WAIT2" | "FIN_WAIT_2" => ConnectionState::FinWait2,
        "TIME_WAIT" => ConnectionState::TimeWait,
        "CLOSE" | "CLOSED" => ConnectionState::Closed,
        "CLOSE_WAIT" => ConnectionState::CloseWait,
        "LAST_ACK" => ConnectionState::LastAck,
        "LISTEN" | "LISTENING" => ConnectionState::Listen,
        "CLOSING" => ConnectionState::Closing,
        "UNCONN" => ConnectionState::Stateless,
        _ => return None,
    })
}

/// What stands behind or below a row.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) process: Option<u32>,
    pub(super) program: Option<String>,
    pub(super) user: Option<u32>,
    pub(super) inode: Option<u64>,
    pub(super) sent: Option<Bytes>,
    pub(super) received: Option<Bytes>,
    pub(super) transport: Option<Transport>,
}

impl More {
    /// Adds what is known here to the row it belongs to.
    pub(super) fn add_to(self, row: &mut Listed) {
        row.process = self.process.or(row.process);
        row.program = self.program.or(row.program.take());
        row.user = self.user.or(row.user);
        row.inode = self.inode.or(row.inode);
        row.sent = self.sent.or(row.sent);
        row.received = self.received.or(row.received);
        row.transport = self.transport.or(row.transport);
    }
}

/// What `ss` says behind a row, or in the line below it with `-i`; words it does not know are
/// passed over, for every kernel adds some.
pub(super) fn of_ss(text: &str) -> More {
    let mut more = users(text);
    let mut counted = Transport::default();
    let (mut sent, mut again, mut is_counted) = (None, 0, false);
    for word in text.split_whitespace() {
        let Some((name, value)) = word.split_once(':') else { continue };
        let number = value.parse::<u64>().ok();
        match (name, number) {
            ("uid", Some(number)) => more.user = u32::try_from(number).ok(),
            ("ino", Some(number)) => more.inode = Some(number).filter(|inode| *inode != 0),
            ("bytes_sent", Some(number)) => sent = Some(number),
            ("bytes_retrans", Some(number)) => again = number,
            ("bytes_received", Some(number)) => more.received = Some(Bytes(number)),
            ("bytes_acked", Some(number)) => counted.acknowledged = Bytes(number),
            ("segs_out", Some(number)) => counted.segments_sent = number,
            ("segs_in", Some(number)) => counted.segments_received = number,
            ("data_segs_out", Some(number)) => counted.data_segments_sent = number,
            ("data_segs_in", Some(number)) => counted.data_segments_received = number,
            // Under way, then so far.
            ("retrans", None) => counted.retransmitted = second(value).unwrap_or(0),
            ("rtt", _) => counted.round_trip_us = micros(value),
            _ => continue,
        }
        is_counted |= !matches!(name, "uid" | "ino");
    }
    more.sent = sent.map(|sent| Bytes(sent.saturating_sub(again)));
    more.transport = is_counted.then_some(counted);
    more
}

/// `users:(("sshd",pid=33,fd=4),("sshd",pid=34,fd=4))`: the first of them.
fn users(text: &str) -> More {
    let mut more = More::default();
    let Some((_, users)) = text.split_once("users:((\"") else { return more };
    let Some((program, rest)) = users.split_once('"') else { return more };
    more.program = name(program);
    let pid = rest.split_once("pid=").map(|(_, rest)| rest);
    let pid = pid.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    more.process = pid.and_then(|pid| pid.parse().ok());
    more
}

/// `33/sshd: user [priv]`, a lone number, or a dash for nobody.
pub(super) fn holder(text: &str, more: &mut More) {
    let (pid, program) = text.split_once('/').unwrap_or((text, ""));
    let Ok(pid) = pid.trim().parse::<u32>() else { return };
    more.process = Some(pid).filter(|pid| *pid != 0);
    more.program = name(program.split_once(':').map_or(program, |(program, _)| program));
}

/// The name of a program, bounded and with nothing in it that a terminal obeys.
pub(super) fn name(text: &str) -> Option<String> {
    let plain = text.trim().chars().filter(|c| !c.is_control()).take(128).collect::<String>();
    Some(plain).filter(|name| !name.is_empty())
}

fn second(value: &str) -> Option<u64> {
    value.split_once('/')?.1.parse().ok()
}

/// Milliseconds with a fraction, before a slash, as whole microseconds.
fn micros(value: &str) -> Option<u32> {
    let ms = value.split('/').next()?;
    let (whole, fraction) = ms.split_once('.').unwrap_or((ms, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = whole.parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(digits.parse().ok()?)
}
