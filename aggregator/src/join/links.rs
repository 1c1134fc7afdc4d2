//! What the connections that a guest tells of must have put on its links, and what they can have: payload
//! and headers, from the fewest frames that carry them to the most.
//!
//! Links may count a frame of many segments as one, and packets that only say that something came are
//! sent at will: so there are two bounds and no figure. What has no connections, such as UDP, is in
//! neither of them, for its bytes are not counted.

use std::time::Duration;

use common::sample::{Direction, Flow, FlowKey};

use super::OnLinks;

/// Headers of a frame at least: IPv4 and TCP without options, where links count no Ethernet.
const LEAST_HEADERS: u64 = 40;
/// Headers of a frame at most: Ethernet with a tag, IPv6, and TCP with time stamps.
const MOST_HEADERS: u64 = 90;
/// Bytes of a segment that is sent again, at most.
const SEGMENT: u64 = 1_460;
/// Frames that each side sends at most for a connection to come to be, and again for it to end.
const FRAMES_OF_AN_END: u64 = 4;
/// Times that a kernel asks at most before it gives up.
const ATTEMPTS: u64 = 7;

/// Bytes of both directions, as bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    received: Bounds,
    sent: Bounds,
    /// Some flow carried something, and how much is not known: there is no upper bound then.
    is_open: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    least: u64,
    most: u64,
}

impl Bounds {
    const fn add(&mut self, least: u64, most: u64) {
        self.least = self.least.saturating_add(least);
        self.most = self.most.saturating_add(most);
    }
}

impl Carried {
    /// Takes in what a flow carried.
    pub(super) fn take(&mut self, key: &FlowKey, flow: &Flow) {
        let bytes = |amount: Option<common::units::Bytes>| amount.map_or(0, |bytes| bytes.0);
        let segments = |count: Option<u64>| count.unwrap_or(0);
        let (out, back) =
            (segments(flow.data_segments_sent), segments(flow.data_segments_received));
        let again = segments(flow.retransmitted);
        let is_known = flow.sent.is_some() && flow.data_segments_sent.is_some();
        self.is_open |= !is_known && flow.opened + flow.closed > 0;
        // Who opens sends two frames until a connection is there, who answers one; either says that it ends.
        let (asks, answers) = (2 * flow.opened + flow.closed, flow.opened + flow.closed);
        let (own, other) = match key.direction {
            Direction::Outbound => (asks, answers),
            Direction::Inbound => (answers, asks),
            Direction::Listener | Direction::Unknown => (answers, answers),
        };
        // Every segment of the other side is acknowledged at most once.
        let ends = FRAMES_OF_AN_END * (flow.opened + flow.closed);
        let frames = out + back + again + ends + ATTEMPTS * flow.failed;
        let most = |payload: u64| payload + MOST_HEADERS * frames + SEGMENT * again;
        let (sent, received) = (bytes(flow.sent), bytes(flow.received));
        self.sent.add(sent + LEAST_HEADERS * own, most(sent));
        self.received.add(received + LEAST_HEADERS * other, most(received));
    }

    /// Per second, received and sent.
    pub(super) fn per_second(&self, over: Duration) -> Option<(OnLinks, OnLinks)> {
        let seconds = over.as_secs_f64();
        let of = |bounds: Bounds| OnLinks {
            least: as_float(bounds.least) / seconds,
            most: if self.is_open { f64::INFINITY } else { as_float(bounds.most) / seconds },
        };
        (seconds > 0.0).then(|| (of(self.received), of(self.sent)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate has no more than 52 bits of truth")]
const fn as_float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use common::{sample::Protocol, units::Bytes};

    use super::*;

    fn carried(direction: Direction, flow: &Flow) -> (OnLinks, OnLinks) {
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction,
            local: [10, 0, 0, 1].into(),
            remote: [10, 0, 0, 2].into(),
            port: 80,
            application: None,
        };
        let mut carried = Carried::default();
        carried.take(&key, flow);
        carried.per_second(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn headers_of_the_frames_that_must_have_passed_are_counted() {
        let none = (Some(Bytes(0)), Some(0));
        let short = Flow {
            opened: 10,
            closed: 10,
            sent: none.0,
            data_segments_sent: none.1,
            ..Flow::default()
        };
        let (received, sent) = carried(Direction::Outbound, &short);
        assert_eq!((sent.least, received.least), (120.0, 80.0));
        let (received, sent) = carried(Direction::Inbound, &short);
        assert_eq!((sent.least, received.least), (80.0, 120.0));
        assert_eq!((sent.most, received.most), (720.0, 720.0));
    }

    #[test]
    fn payload_is_in_both_bounds_and_what_is_sent_again_in_the_upper_one() {
        let pool = Flow {
            sent: Some(Bytes(10_000)),
            received: Some(Bytes(50_000)),
            data_segments_sent: Some(20),
            data_segments_received: Some(40),
            retransmitted: Some(1),
            ..Flow::default()
        };
        let (received, sent) = carried(Direction::Outbound, &pool);
        assert_eq!((sent.least, received.least), (1_000.0, 5_000.0));
        assert_eq!((sent.most, received.most), (1_000.0 + 549.0 + 146.0, 5_000.0 + 549.0 + 146.0));
    }

    #[test]
    fn what_a_flow_carried_that_is_not_known_has_no_upper_bound() {
        let short = Flow { opened: 1, closed: 1, ..Flow::default() };
        let (_, sent) = carried(Direction::Outbound, &short);
        assert_eq!(sent, OnLinks { least: 12.0, most: f64::INFINITY });
        let failed = Flow { failed: 1, ..Flow::default() };
        assert_eq!(carried(Direction::Outbound, &failed).1.most, 63.0);
    }

    #[test]
    fn over_no_time_nothing_is_known() {
        assert_eq!(Carried::default().per_second(Duration::ZERO), None);
    }
}
