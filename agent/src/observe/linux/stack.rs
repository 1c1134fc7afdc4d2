//! What the network stack counted, read once for a look: the coverage of the flows is held against it, and the
//! counters tell it.
//!
//! The files are those of the calling thread, for the namespace of the process may be another one.

use common::sample::ProtocolCounters;

use super::counters::{text, value};

/// What the kernel counted in this network namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stack {
    /// TCP connections opened from here and accepted here; `None` if either is not told.
    pub(super) opened: Option<u64>,
    /// Everything, IPv4 and IPv6 together as far as the kernel counts them apart.
    pub(super) protocols: Option<ProtocolCounters>,
}

impl Stack {
    /// What is counted now.
    pub(super) fn read() -> Self {
        let Some(snmp) = text("/proc/thread-self/net/snmp") else { return Self::default() };
        let snmp6 = text("/proc/thread-self/net/snmp6").unwrap_or_default();
        let extended = text("/proc/thread-self/net/netstat").unwrap_or_default();
        Self { opened: opened(&snmp), protocols: Some(protocols_of(&snmp, &snmp6, &extended)) }
    }
}

fn opened(snmp: &str) -> Option<u64> {
    let tcp = Table::of(snmp, "Tcp:");
    Some(tcp.get("ActiveOpens")?.saturating_add(tcp.get("PassiveOpens")?))
}

fn protocols_of(snmp: &str, snmp6: &str, extended: &str) -> ProtocolCounters {
    let (ip, tcp) = (Table::of(snmp, "Ip:"), Table::of(snmp, "Tcp:"));
    let (udp, icmp) = (Table::of(snmp, "Udp:"), Table::of(snmp, "Icmp:"));
    let listen = Table::of(extended, "TcpExt:");
    let both = |table: &Table<'_>, name: &str, of_6: &str| {
        table.get(name).map(|count| count.saturating_add(value(snmp6, of_6).unwrap_or(0)))
    };
    let discarded = [("InDiscards", "Ip6InDiscards"), ("OutDiscards", "Ip6OutDiscards")];
    let discarded = discarded.map(|(name, of_6)| both(&ip, name, of_6));
    let counted = |name| tcp.get(name).unwrap_or(0);
    ProtocolCounters {
        tcp_active_opens: counted("ActiveOpens"),
        tcp_passive_opens: counted("PassiveOpens"),
        tcp_attempt_failures: counted("AttemptFails"),
        tcp_resets: counted("EstabResets"),
        tcp_segments_received: counted("InSegs"),
        tcp_segments_sent: counted("OutSegs"),
        tcp_segments_retransmitted: counted("RetransSegs"),
        udp_datagrams_received: both(&udp, "InDatagrams", "Udp6InDatagrams").unwrap_or(0),
        udp_datagrams_sent: both(&udp, "OutDatagrams", "Udp6OutDatagrams").unwrap_or(0),
        ip_packets_received: both(&ip, "InReceives", "Ip6InReceives"),
        ip_packets_sent: both(&ip, "OutRequests", "Ip6OutRequests"),
        ip_packets_discarded: discarded[0].zip(discarded[1]).map(|(a, b)| a.saturating_add(b)),
        tcp_established: tcp.get("CurrEstab"),
        tcp_listen_overflows: listen.get("ListenOverflows"),
        tcp_listen_drops: listen.get("ListenDrops"),
        udp_errors: both(&udp, "InErrors", "Udp6InErrors"),
        icmp_received: both(&icmp, "InMsgs", "Icmp6InMsgs"),
        icmp_sent: both(&icmp, "OutMsgs", "Icmp6OutMsgs"),
    }
}

/// Two lines of /proc/net/snmp or /proc/net/netstat: the names, and below them the values.
#[derive(Debug)]
struct Table<'a> {
    names: &'a str,
    values: &'a str,
}

impl<'a> Table<'a> {
    fn of(text: &'a str, prefix: &str) -> Self {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        Self { names, values }
    }

    fn get(&self, name: &str) -> Option<u64> {
        let at = self.names.split_ascii_whitespace().position(|known| known == name)?;
        self.values.split_ascii_whitespace().nth(at)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernels_count_is_of_both_directions() {
        let text = "Ip: Forwarding\nIp: 1\n\
            Tcp: RtoAlgorithm RtoMin ActiveOpens PassiveOpens AttemptFails\nTcp: 1 200 7 5 2\n";
        assert_eq!(opened(text), Some(12));
        assert_eq!(opened("Tcp: RtoAlgorithm\n"), None);
    }

    #[test]
    fn the_count_is_that_of_the_threads_own_namespace() {
        let inside = std::thread::spawn(|| {
            // Without root there is one namespace.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok().map(|()| Stack::read())
        });
        let inside = inside.join().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());

        let Stack { opened, protocols } = Stack::read();

        assert!(opened >= Some(2));
        assert!(protocols.unwrap().tcp_active_opens > 0);
        if let Some(inside) = inside {
            assert_eq!(inside.opened, Some(0));
            assert_eq!(inside.protocols.unwrap().tcp_active_opens, 0);
        }
    }

    #[test]
    fn both_families_of_the_stack_are_counted_together() {
        let snmp = "Ip: InReceives InDiscards OutRequests OutDiscards\nIp: 10 1 20 2\n\
            Icmp: InMsgs OutMsgs\nIcmp: 3 4\nIcmpMsg: InType3\nIcmpMsg: 9\n\
            Tcp: ActiveOpens CurrEstab RtoMin\nTcp: 5 6 -1\nUdp: InDatagrams InErrors\nUdp: 7 8\n";
        let snmp6 = "Ip6InReceives \t100\nUdp6InErrors 1\nIcmp6OutMsgs 10\n";
        let extended = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 11 12\n";

        let counted = protocols_of(snmp, snmp6, extended);

        assert_eq!((counted.ip_packets_received, counted.ip_packets_sent), (Some(110), Some(20)));
        assert_eq!((counted.ip_packets_discarded, counted.udp_errors), (Some(3), Some(9)));
        assert_eq!((counted.icmp_received, counted.icmp_sent), (Some(3), Some(14)));
        assert_eq!((counted.tcp_active_opens, counted.tcp_established), (5, Some(6)));
        assert_eq!((counted.tcp_listen_overflows, counted.tcp_listen_drops), (Some(11), Some(12)));
        assert_eq!(protocols_of("", "", "").udp_errors, None);
    }
}
