//! Texts as the programs print them, and texts that nobody would.

use super::*;

fn all(text: &str) -> Vec<Listed> {
    let listing = read(text);
    assert_eq!(listing.bad, Vec::new());
    listing.rows
}

fn shown(row: &Listed) -> String {
    let end = |end: &End| {
        let port = end.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        match &end.host {
            Host::Any => format!("*:{port}"),
            Host::Address(address) => format!("{address}:{port}"),
            Host::Name(name) => format!("{name}:{port}"),
        }
    };
    let remote = row.remote.as_ref().map_or_else(|| "-".to_owned(), end);
    format!("{:?} {} {remote} {:?}", row.protocol, end(&row.local), row.state)
}

/// The two example rows that tell live communication from what is left of it.
#[test]
fn established_is_live_and_close_wait_is_not() {
    let rows = all("TCP hope www.computerhope.com:telnet ESTABLISHED\n\
                    TCP hope multicity.com:90 CLOSE_WAIT\n");
    let told: Vec<_> = rows.iter().map(|row| (shown(row), row.is_live())).collect();
    let expected = [
        ("Tcp hope:* www.computerhope.com:23 Established".to_owned(), true),
        ("Tcp hope:* multicity.com:90 CloseWait".to_owned(), false),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[0].row(Timestamp::default()), None, "a name is nobody's address");
}

#[test]
fn netstat_of_linux() {
    let text = "\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       User       Inode      PID/Program name    
tcp        0      0 0.0.0.0:22              0.0.0.0:*               LISTEN      0          17890      812/sshd: /usr/sbin 
tcp        0     36 10.0.0.1:22             10.0.0.9:50122          ESTABLISHED 0          19002      933/sshd: ann [priv]
tcp        0      0 10.0.0.1:41000          10.0.0.2:5432           TIME_WAIT   0          0          -                   
tcp6       0      0 :::80                   :::*                    LISTEN      33         18000      901/nginx: master   
tcp6       0      0 ::ffff:10.0.0.1:80      ::ffff:10.0.0.7:40001   CLOSE_WAIT  33         18001      902/nginx           
udp        0      0 127.0.0.53:53           0.0.0.0:*                           101        15000      500/systemd-resolve 
udp        0      0 10.0.0.1:40000          10.0.0.53:53            ESTABLISHED 101        15001      500/systemd-resolve 
raw6       0      0 :::58                   :::*                    7           0          1          1/x
Active UNIX domain sockets (servers and established)
Proto RefCnt Flags       Type       State         I-Node   PID/Program name     Path
unix  2      [ ACC ]     STREAM     LISTENING     17000    1/init               /run/systemd/private
";
    let listing = read(text);
    assert_eq!((listing.bad.len(), listing.left_out), (0, 2), "{:?}", listing.bad);
    let told: Vec<_> = listing.rows.iter().map(shown).collect();
    let expected = [
        "Tcp 0.0.0.0:22 - Listen",
        "Tcp 10.0.0.1:22 10.0.0.9:50122 Established",
        "Tcp 10.0.0.1:41000 10.0.0.2:5432 TimeWait",
        "Tcp :::80 - Listen",
        "Tcp 10.0.0.1:80 10.0.0.7:40001 CloseWait",
        "Udp 127.0.0.53:53 - Stateless",
        "Udp 10.0.0.1:40000 10.0.0.53:53 Stateless",
    ];
    assert_eq!(told, expected);
    let directions: Vec<_> = listing.rows.iter().map(|row| row.direction).collect();
    let expected = [
        Direction::Listener,
        Direction::Inbound,
        Direction::Outbound,
        Direction::Listener,
        Direction::Inbound,
        Direction::Listener,
        Direction::Outbound,
    ];
    assert_eq!(directions, expected);
    let sshd = &listing.rows[1];
    assert_eq!((sshd.process, sshd.program.as_deref()), (Some(933), Some("sshd")));
    assert_eq!((sshd.user, sshd.inode), (Some(0), Some(19_002)));
    let (key, row) = sshd.row(Timestamp::from_millis(7)).unwrap();
    assert_eq!(key.remote, Some("10.0.0.9:50122".parse().unwrap()));
    assert_eq!(row.holder.application().map(crate::id::AppName::as_str), Some("sshd"));
    assert_eq!(listing.rows[2].process, None, "nobody's");
}

#[test]
fn netstat_of_windows() {
    let text = "\r
Active Connections\r
\r
  Proto  Local Address          Foreign Address        State           PID\r
  TCP    0.0.0.0:135            0.0.0.0:0              LISTENING       1084\r
 [svchost.exe]\r
  TCP    192.168.1.5:49700      52.1.2.3:https         ESTABLISHED     4321\r
  TCP    [fe80::1%12]:445       [fe80::2%12]:50000     FIN_WAIT_2      4\r
  TCP    [::]:445               [::]:0                 LISTENING       4\r
 Can not obtain ownership information\r
  UDP    0.0.0.0:123            *:*                                    900\r
";
    let rows = all(text);
    let told: Vec<_> = rows.iter().map(|row| (shown(row), row.process)).collect();
    let expected = [
        ("Tcp 0.0.0.0:135 - Listen".to_owned(), Some(1084)),
        ("Tcp 192.168.1.5:49700 52.1.2.3:443 Established".to_owned(), Some(4321)),
        ("Tcp fe80::1:445 fe80::2:50000 FinWait2".to_owned(), Some(4)),
        ("Tcp :::445 - Listen".to_owned(), Some(4)),
        ("Udp 0.0.0.0:123 - Stateless".to_owned(), Some(900)),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[0].program.as_deref(), Some("svchost.exe"));
    assert_eq!((rows[1].direction, rows[2].direction), (Direction::Outbound, Direction::Inbound));
}

#[test]
fn netstat_of_bsd_and_macos() {
    let text = "\
Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp4       0      0  192.168.1.2.50123      17.57.146.20.5223      ESTABLISHED
tcp4       0      0  192.168.1.2.50124      www.example.org.https  SYN_SENT
tcp6       0      0  fe80::1%lo0.49152      fe80::1%lo0.1024       LAST_ACK
tcp46      0      0  *.22                   *.*                    LISTEN
udp4       0      0  *.5353                 *.*
udp6       0      0  fe80::1%en0.123        *.*
Active LOCAL (UNIX) domain sockets
Address          Type   Recv-Q Send-Q            Inode             Conn             Refs          Nextref Addr
f1d2a3b4c5d6e7f8 stream      0      0                0 f1d2a3b4c5d6e7f9                0                0
";
    let listing = read(text);
    let told: Vec<_> = listing.rows.iter().map(shown).collect();
    let expected = [
        "Tcp 192.168.1.2:50123 17.57.146.20:5223 Established",
        "Tcp 192.168.1.2:50124 www.example.org:443 SynSent",
        "Tcp fe80::1:49152 fe80::1:1024 LastAck",
        "Tcp *:22 - Listen",
        "Udp *:5353 - Stateless",
        "Udp fe80::1:123 - Stateless",
    ];
    assert_eq!(told, expected);
    assert_eq!((listing.bad.len(), listing.left_out), (0, 1), "{:?}", listing.bad);
}

#[test]
fn ss_of_one_protocol_with_processes_and_counters() {
    let text = "\
State  Recv-Q Send-Q Local Address:Port  Peer Address:Port Process
LISTEN 0      128          0.0.0.0:22         0.0.0.0:*     users:((\"sshd\",pid=812,fd=3))
ESTAB  0      0      10.0.0.1%eth0:22        10.0.0.9:50122 users:((\"sshd\",pid=933,fd=4),(\"sshd\",pid=934,fd=4)) uid:33 ino:777 sk:1
\t cubic wscale:7,7 rto:204 rtt:0.5/0.25 ato:40 mss:1448 bytes_sent:1200 bytes_retrans:200 bytes_acked:1001 bytes_received:99 segs_out:12 segs_in:11 data_segs_out:7 data_segs_in:6 retrans:0/2 lastsnd:4 lastrcv:8
TIME-WAIT 0   0            10.0.0.1:41000    10.0.0.2:http
";
    let rows = all(text);
    let told: Vec<_> = rows.iter().map(shown).collect();
    let expected = [
        "Tcp 0.0.0.0:22 - Listen",
        "Tcp 10.0.0.1:22 10.0.0.9:50122 Established",
        "Tcp 10.0.0.1:41000 10.0.0.2:80 TimeWait",
    ];
    assert_eq!(told, expected);
    let sshd = &rows[1];
    assert_eq!((sshd.process, sshd.user, sshd.inode), (Some(933), Some(33), Some(777)));
    assert_eq!((sshd.sent, sshd.received), (Some(Bytes(1000)), Some(Bytes(99))));
    let expected = Transport {
        acknowledged: Bytes(1001),
        segments_sent: 12,
        segments_received: 11,
        data_segments_sent: 7,
        data_segments_received: 6,
        retransmitted: 2,
        round_trip_us: Some(500),
        ..Transport::default()
    };
    assert_eq!(sshd.transport, Some(expected));
    assert_eq!(rows[2].transport, None);
}

#[test]
fn ss_of_several_protocols() {
    let text = "\
Netid State  Recv-Q Send-Q   Local Address:Port   Peer Address:Port Process
udp   UNCONN 0      0        127.0.0.53%lo:53          0.0.0.0:*     users:((\"systemd-resolve\",pid=500,fd=13))
udp   ESTAB  0      0             10.0.0.1:68          10.0.0.2:67
tcp   LISTEN 0      511                  *:80                *:*
tcp   ESTAB  0      0    [::ffff:10.0.0.1]:80 [::ffff:10.0.0.7]:40001
u_str ESTAB  0      0                    * 17000             * 17001
";
    let listing = read(text);
    let told: Vec<_> = listing.rows.iter().map(|row| (shown(row), row.is_live())).collect();
    let expected = [
        ("Udp 127.0.0.53:53 - Stateless".to_owned(), false),
        ("Udp 10.0.0.1:68 10.0.0.2:67 Stateless".to_owned(), true),
        ("Tcp *:80 - Listen".to_owned(), false),
        ("Tcp 10.0.0.1:80 10.0.0.7:40001 Established".to_owned(), true),
    ];
    assert_eq!(told, expected);
    assert_eq!((listing.bad.len(), listing.left_out), (0, 1), "{:?}", listing.bad);
}

#[test]
fn a_bad_line_is_named_and_costs_itself() {
    let text = "\
tcp 0 0 10.0.0.1:80 10.0.0.2:50000 ESTABLISHED
tcp 0 0 10.0.0.1:80 10.0.0.2:70000 ESTABLISHED
tcp 0 0 10.0.0.1:80 10.0.0.2:nonsense ESTABLISHED
tcp6 0 0 2001:db8:1234:5678:44:80 2001:db8:1234:5:50000 ESTABLISHED
tcp 0 0 10.0.0.1:80 10.0.0.3:50000 SLEEPING
tcp 0 0
hello \u{1b}[2J
tcp 0 0 10.0.0.1:80 10.0.0.4:50000 ESTABLISHED
";
    let listing = read(text);
    assert_eq!(listing.rows.len(), 2);
    let told: Vec<_> = listing.bad.iter().map(|bad| (bad.line, bad.why.as_str())).collect();
    let expected = [
        (2, "70000 is no port; a port is at most 65535"),
        (3, "nonsense is no port that is known by name; print ports as numbers, with -n"),
        (4, "2001:db8:1234:5678:44 is no whole address; print addresses in full, with -W"),
        (5, "SLEEPING is no state of a TCP connection"),
        (6, "it has too few columns; netstat prints at least two ends"),
        (7, "hello is no protocol and no state"),
    ];
    assert_eq!(told, expected);
    assert_eq!(listing.bad[5].text, "hello \\u{1b}[2J");
}

#[test]
fn a_line_without_end_is_refused_unread() {
    let listing = read(&format!("tcp {}\n", "x".repeat(1 << 20)));
    assert_eq!((listing.rows.len(), listing.bad.len()), (0, 1));
    assert!(listing.bad[0].text.chars().count() <= SHOWN + 1);
}

/// Every row that reads can be a row of a table, or says by a name or a missing port why not; and
/// nothing panics, whatever comes. The numbers come from a fixed xorshift, so that a failure is the
/// same one tomorrow.
#[test]
fn arbitrary_bytes_never_panic() {
    let parts: [&[u8]; 24] = [
        b"tcp",
        b"TCP",
        b"udp4",
        b"ESTAB",
        b"LISTEN",
        b" ",
        b"\t",
        b"\n",
        b":",
        b".",
        b"*",
        b"0",
        b"65536",
        b"[",
        b"]",
        b"%",
        b"::1",
        b"10.0.0.1",
        b"users:((\"",
        b"pid=",
        b"/",
        b"\xff",
        "\u{202e}é".as_bytes(),
        b"rtt:4294967295.9999/",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..next(24) {
            match next(4) {
                0 => bytes.push(u8::try_from(next(256)).unwrap()),
                _ => bytes.extend_from_slice(parts[next(24)]),
            }
            if next(3) == 0 {
                bytes.push(b' ');
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let listing = read(&text);
        for row in &listing.rows {
            let is_whole = |end: &End| end.port.is_some() && !matches!(end.host, Host::Name(_));
            let whole = is_whole(&row.local) && row.remote.as_ref().is_none_or(is_whole);
            assert_eq!(row.row(Timestamp::default()).is_some(), whole, "{text:?}");
        }
        let lines = text.lines().count();
        assert!(listing.rows.len() + listing.bad.len() + listing.left_out <= lines, "{text:?}");
    }
}
