//! The bytes are Linux 6.18's, of a client on 127.0.0.1 that sent 100 bytes to a server on `[::]`, read its 50
//! and closed first.

use super::*;

/// The client's socket while it was open.
const OPEN: &str = "\
    02010000ae58bb677f0000010000000000000000000000007f0000010000000000000000000000000000000065f5\
    01000000000000000000000000000000000000000000c2961000050008000000000008000f00000000000c001500\
    010000000000000006001600520000001c010200010000000007aa01e01c0300409c000000800000180200000000\
    00000000000000000000000000000000000034000000000000003400000034000000ffff0000d7ff000022000000\
    13000000ffffff7f0b000000cbff00000300000000000000d7ff000000000000db2fabbb05000000ffffffffffff\
    ffff6500000000000000320000000000000004000000030000000000000006000000010000000100000055558545\
    01000000000000000000000000000000000000000000000000000000020000000000000064000000000000000000\
    00000000000000000000000000000000000000000100000001000000000000000000000000000000000000000000\
    000000000000000000000000000000000000000000000000";

/// The server's.
const MAPPED: &str = "\
    0a010000bb67ae5800000000000000000000ffff7f00000100000000000000000000ffff7f0000010000000067f5\
    01000000000000000000640000000000000000000000c3961000050008000000000008000f00000000000c001500\
    010000000000000006001600520000001c010200010000000007aa01e01c0300409c000000800000180200000000\
    00000000000000000000000000000000000038000000000000003800000038000000ffff0000cbff000040000000\
    26000000ffffff7f0b000000cbff00000300000000000000cbff00000000000000c8bdcd15000000ffffffffffff\
    ffff32000000000000006400000000000000020000000400000000000000010000000100000001000000000020a1\
    07000000000000000000000000000000000000000000000000000000020000000000000032000000000000000000\
    00000000000000000000000000000000000000000100000001000000000000000000000000000000000000000000\
    000000000000000000000000000000000000000000000000";

/// The news of the end of the client's.
const ENDED: &str = "\
    02070000ae58bb677f0000010000000000000000000000007f0000010000000000000000000000000000000065f5\
    010000000000000000000000000000000000000000000000000005000a00060000001c010200070000000007aa00\
    802c0300409c00000080000018020000000000000000000000000000000000000000000094000000000000009400\
    000000000000ffff0000d7ff000001140000cc270000ffffff7f0c000000cbff00000300000000000000d7ff0000\
    00000000db2fabbb05000000ffffffffffffffff6600000000000000320000000000000005000000040000000000\
    0000060000000100000001000000a5460c0000000000e0ab00000000000000000000000000000000000000000000\
    03000000000000006400000000000000000000000000000000000000000000000000000000000100000001000000\
    000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

/// What was left of it.
const TIME_WAIT: &str = "\
    02060300ae58bb677f0000010000000000000000000000007f0000010000000000000000000000000000000065f5\
    010000000000fce900000000000000000000000000000000000008000f0000000000";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn ends(row: &Row) -> String {
    format!("{} {}", row.key.local, row.key.remote.unwrap())
}

/// `body` as a message of kind `kind`.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn an_open_connection_is_all_there() {
    let row = row(&bytes(OPEN), Protocol::Tcp).unwrap();

    assert_eq!(ends(&row), "127.0.0.1:44632 127.0.0.1:47975");
    assert_eq!(row.state, ConnectionState::Established);
    assert_eq!((row.inode, row.user, row.cookie), (1_087_170, Some(0), 0x1_f565));
    assert_eq!(row.cgroup, Some(1));
    let traffic = row.traffic.unwrap();
    assert_eq!((traffic.sent, traffic.acknowledged, traffic.received), (100, 101, 50));
    assert_eq!((traffic.segments_sent, traffic.segments_received), (4, 3));
    assert_eq!((traffic.data_segments_sent, traffic.data_segments_received), (1, 1));
    assert_eq!((traffic.round_trip_us, traffic.unread, traffic.retransmitted), (34, 0, 0));
    assert_eq!((traffic.since_sent_ms, traffic.since_received_ms), (Some(52), Some(52)));
}

#[test]
fn an_ipv4_connection_of_an_ipv6_socket_has_the_same_ends() {
    let row = row(&bytes(MAPPED), Protocol::Tcp).unwrap();

    assert_eq!(ends(&row), "127.0.0.1:47975 127.0.0.1:44632");
    assert_eq!(row.traffic.unwrap().unread, 100);
}

#[test]
fn what_waits_in_time_wait_has_no_owner_and_no_count() {
    let row = row(&bytes(TIME_WAIT), Protocol::Tcp).unwrap();

    assert_eq!(ends(&row), "127.0.0.1:44632 127.0.0.1:47975");
    assert_eq!(row.state, ConnectionState::TimeWait);
    assert_eq!((row.inode, row.user, row.traffic, row.cgroup), (0, None, None, None));
}

#[test]
fn an_end_names_the_socket_that_was_seen_open() {
    let open = row(&bytes(OPEN), Protocol::Tcp).unwrap();
    let ended = ended(&bytes(ENDED)).unwrap();

    assert_eq!((ended.key, ended.cookie), (open.key, open.cookie));
    let traffic = ended.traffic.unwrap();
    assert_eq!((traffic.sent, traffic.acknowledged, traffic.received), (100, 102, 50));
}

#[test]
fn a_longer_structure_of_a_newer_kernel_is_read_as_far_as_it_is_known() {
    let mut longer = bytes(OPEN);
    let tail = longer.len() - 280 - 4;
    longer.extend([0xff; 40]);
    longer[tail..tail + 2].copy_from_slice(&324_u16.to_ne_bytes());

    let row = row(&longer, Protocol::Tcp).unwrap();

    assert_eq!(row.traffic.unwrap().sent, 100);
}

#[test]
fn a_kernel_too_old_to_count_what_was_sent_counts_nothing() {
    let mut shorter = bytes(OPEN);
    let tail = shorter.len() - 280 - 4;
    shorter.truncate(tail + 4 + 192);
    shorter[tail..tail + 2].copy_from_slice(&196_u16.to_ne_bytes());

    let row = row(&shorter, Protocol::Tcp).unwrap();

    assert_eq!((row.traffic, row.inode), (None, 1_087_170));
}

#[test]
fn bytes_that_stop_anywhere_never_panic() {
    let whole = message(BY_FAMILY, 0, &bytes(ENDED));
    for length in 0..whole.len() {
        let cut = &whole[..length];
        assert_eq!(Messages(cut).count(), 0);
        let body = cut.get(HEADER..).unwrap_or_default();
        row(body, Protocol::Udp);
        assert!(ended(body).is_none_or(|ended| ended.traffic.is_none() || length > HEADER + 216));
    }
}

#[test]
fn lengths_that_cannot_be_end_the_reading() {
    assert_eq!(Messages(&[0; 64]).count(), 0);
    assert_eq!(Messages(&[0xff; 64]).count(), 0);
    let mut body = bytes(OPEN);
    body[SOCKET..SOCKET + 2].copy_from_slice(&[3, 0]);
    assert_eq!(row(&body, Protocol::Tcp).unwrap().traffic, None);
    body[SOCKET..SOCKET + 2].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(row(&body, Protocol::Tcp).unwrap().traffic, None);
}

#[test]
fn messages_of_one_datagram_are_told_apart() {
    let mut datagram = message(BY_FAMILY, INTERRUPTED, &bytes(TIME_WAIT));
    datagram.extend(message(DONE, 0, &0_i32.to_ne_bytes()));
    datagram.extend(message(ERROR, 0, &(-2_i32).to_ne_bytes()));
    datagram.extend(message(99, 0, &[]));

    let messages: Vec<Message<'_>> = Messages(&datagram).collect();

    let contents: Vec<Content<'_>> = messages.iter().map(|message| message.content).collect();
    let socket = bytes(TIME_WAIT);
    let expected = [Content::Socket(&socket), Content::Done(0), Content::Failed(2), Content::Other];
    assert_eq!(contents, expected);
    assert!(messages[0].interrupted && !messages[1].interrupted);
    assert!(messages.iter().all(|message| message.sequence == 7));
}

#[test]
fn every_state_of_a_tcp_socket_has_a_name() {
    let names: Vec<_> = (1..=12).filter_map(state).collect();
    assert_eq!(names.len(), 12);
    assert_eq!((state(0), state(13)), (None, None));
}

#[test]
fn a_family_or_protocol_not_asked_for_is_left_out() {
    let mut unix = bytes(OPEN);
    unix[0] = 1;
    assert_eq!(row(&unix, Protocol::Tcp), None);
    let mut raw = bytes(ENDED);
    raw[SOCKET + 4] = 255;
    assert_eq!(ended(&raw), None);
    assert_eq!(ended(&bytes(OPEN)), None, "a row is no end");
}

#[test]
fn an_attempt_that_failed_carried_nothing_and_what_was_cut_off_is_unknown() {
    let mut wiped = bytes(ENDED);
    let info = wiped.len() - 280;
    wiped[info + 44..].fill(0);
    assert_eq!(ended(&wiped).unwrap().traffic, None);

    wiped[info + 148..info + 152].fill(0xff);
    assert_eq!(ended(&wiped).unwrap().traffic, Some(Traffic::default()));
}
