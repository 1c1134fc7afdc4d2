//! From the kernel's counts to payload, and what they say beyond it: who opened, whether it was a reset.
//!
//! The kernel's sequence numbers count a SYN and a FIN as one byte each. Whether the far end's FIN is among
//! the bytes received is known but in one case: the side that closed first, by `shutdown`, and read the end of
//! the stream before it let go. Then one byte too many is counted.

use std::time::Duration;

use common::{
    clock::Timestamp,
    sample::{ConnectionState, Direction, Flow, Transport},
    units::Bytes,
};

use super::super::seen::Traffic;

/// What a socket carried, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) sent: u64,
    pub(super) received: u64,
    data_segments_sent: u64,
    data_segments_received: u64,
    retransmitted: u64,
}

impl Payload {
    /// Of a socket in the table.
    pub(super) const fn of_living(traffic: &Traffic, state: ConnectionState) -> Self {
        Self::new(traffic, heard_fin(state))
    }

    /// Of a socket that ended. `remains`: its ends are still in the table as `TIME_WAIT`, so it closed first;
    /// `None` if nobody looked. `last` is the state it was last seen in.
    pub(super) const fn of_ended(
        traffic: &Traffic,
        direction: Direction,
        last: Option<ConnectionState>,
        remains: Option<bool>,
    ) -> Self {
        let unread = traffic.unread > 0;
        let had_heard = match last {
            Some(state) => heard_fin(state),
            None => false,
        };
        let is_only_fin = traffic.received == 1 && traffic.data_segments_received == 0;
        let fin = match remains {
            _ if is_only_fin => true,
            // With data unread it would have been reset, so what is unread is the FIN.
            Some(true) => unread,
            // Who closed second heard the FIN. A reset came after it or without it.
            Some(false) if fin_was_acknowledged(traffic, direction) => true,
            Some(false) => had_heard || traffic.unread == 1,
            None => unread || had_heard || fin_was_acknowledged(traffic, direction),
        };
        Self::new(traffic, fin)
    }

    const fn new(traffic: &Traffic, fin: bool) -> Self {
        Self {
            sent: traffic.sent,
            received: traffic.received.saturating_sub(fin as u64),
            data_segments_sent: traffic.data_segments_sent,
            data_segments_received: traffic.data_segments_received,
            retransmitted: traffic.retransmitted,
        }
    }

    /// What came since `before`, as a change of an edge.
    pub(super) fn since(&self, before: Option<&Self>) -> Flow {
        let nothing = Self::default();
        let before = before.unwrap_or(&nothing);
        Flow {
            sent: Some(Bytes(self.sent.saturating_sub(before.sent))),
            received: Some(Bytes(self.received.saturating_sub(before.received))),
            data_segments_sent: Some(
                self.data_segments_sent.saturating_sub(before.data_segments_sent),
            ),
            data_segments_received: Some(
                self.data_segments_received.saturating_sub(before.data_segments_received),
            ),
            retransmitted: Some(self.retransmitted.saturating_sub(before.retransmitted)),
            ..Flow::default()
        }
    }

    /// The larger of each count: what was counted once is not taken back.
    pub(super) fn or_more(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        Self {
            sent: self.sent.max(other.sent),
            received: self.received.max(other.received),
            data_segments_sent: self.data_segments_sent.max(other.data_segments_sent),
            data_segments_received: self.data_segments_received.max(other.data_segments_received),
            retransmitted: self.retransmitted.max(other.retransmitted),
        }
    }
}

/// Whether the far end's FIN is among the bytes received of a living socket.
const fn heard_fin(state: ConnectionState) -> bool {
    matches!(
        state,
        ConnectionState::CloseWait | ConnectionState::LastAck | ConnectionState::Closing
    )
}

/// Whether a socket that ended without `TIME_WAIT` was reset or timed out: the far end never acknowledged that
/// this one had finished.
pub(super) const fn fin_was_acknowledged(traffic: &Traffic, direction: Direction) -> bool {
    traffic.acknowledged > traffic.sent + syn(direction)
}

/// Who opened has its SYN among the bytes acknowledged.
const fn syn(direction: Direction) -> u64 {
    matches!(direction, Direction::Outbound) as u64
}

/// Which side opened a living connection, where the counts leave no doubt.
pub(super) const fn opener(traffic: &Traffic, state: ConnectionState) -> Option<Direction> {
    match state {
        ConnectionState::SynSent => Some(Direction::Outbound),
        ConnectionState::SynReceived => Some(Direction::Inbound),
        ConnectionState::Established | ConnectionState::CloseWait => {
            if traffic.acknowledged == traffic.sent + 1 {
                return Some(Direction::Outbound);
            }
            // A kernel that does not count acknowledged bytes does not count segments either.
            let counts = traffic.segments_received > 0;
            if counts && traffic.acknowledged == 0 { Some(Direction::Inbound) } else { None }
        }
        _ => None,
    }
}

/// Which side opened a connection that ended: SYN and FIN both acknowledged are the opener's.
pub(super) const fn opener_of_ended(traffic: &Traffic) -> Option<Direction> {
    if traffic.acknowledged == traffic.sent + 2 { Some(Direction::Outbound) } else { None }
}

/// What the transport counted, for the table. While no data comes or goes it stays as it was, though the
/// kernel tells ages that grow, and probes of an idle connection are segments too.
pub(super) fn transport(
    traffic: &Traffic,
    direction: Direction,
    former: Option<&Transport>,
    now: Timestamp,
) -> Transport {
    let acknowledged = traffic.acknowledged.saturating_sub(syn(direction)).min(traffic.sent);
    let is_idle = |former: &&Transport| {
        former.acknowledged == Bytes(acknowledged)
            && former.data_segments_sent == traffic.data_segments_sent
            && former.data_segments_received == traffic.data_segments_received
            && former.retransmitted == traffic.retransmitted
    };
    if let Some(former) = former.filter(is_idle) {
        return *former;
    }
    let sent_nothing =
        |former: &&Transport| former.data_segments_sent == traffic.data_segments_sent;
    let received_nothing =
        |former: &&Transport| former.data_segments_received == traffic.data_segments_received;
    let sent_before = former.filter(sent_nothing).and_then(|former| former.last_sent);
    let received_before = former.filter(received_nothing).and_then(|former| former.last_received);
    Transport {
        acknowledged: Bytes(acknowledged),
        segments_sent: traffic.segments_sent,
        segments_received: traffic.segments_received,
        data_segments_sent: traffic.data_segments_sent,
        data_segments_received: traffic.data_segments_received,
        retransmitted: traffic.retransmitted,
        round_trip_us: Some(traffic.round_trip_us).filter(|micros| *micros > 0),
        last_sent: sent_before.or_else(|| ago(now, traffic.since_sent_ms)),
        last_received: received_before.or_else(|| ago(now, traffic.since_received_ms)),
    }
}

fn ago(now: Timestamp, age_ms: Option<u32>) -> Option<Timestamp> {
    let since_epoch = now.since(Timestamp::default());
    let age = Duration::from_millis(u64::from(age_ms?));
    Some(Timestamp::default() + since_epoch.saturating_sub(age))
}
