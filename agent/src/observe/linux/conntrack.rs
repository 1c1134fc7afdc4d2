//! Reads where this machine's own address translation sends the connections it opens, from conntrack.
//!
//! A process that connects to the address of a service (of Kubernetes, of a published container) has a socket
//! whose far end nobody has; the kernel replaced it by that of a machine. Only connections from a local address
//! are of interest: what is merely routed through is no socket of ours. Many kernels do not show the table; then
//! there is nothing, which costs nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

use common::sample::{Connection, ConnectionKey, Protocol};

/// Of the thread, for the namespace of the process may be another one.
const TABLE: &str = "/proc/thread-self/net/nf_conntrack";
/// How many the table has, which is much cheaper to read.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Most lines read at a time. A router has more; what it does for others is not looked for.
const MOST_LINES: usize = 65_536;

/// Longest line; the kernel's are less than half of it.
const LONGEST_LINE: u64 = 1024;

/// Puts into `connections` the far ends that the kernel put in place of those the processes asked for.
pub(in crate::observe) fn translate(connections: &mut BTreeMap<ConnectionKey, Connection>) {
    if std::fs::read_to_string(COUNT).is_ok_and(|count| count.trim() == "0") {
        return;
    }
    let Ok(table) = File::open(TABLE) else { return };
    let connected = connections.keys().filter(|key| key.remote.is_some());
    let local = connected.map(|key| key.local.ip()).collect();
    for (key, reached) in parse(BufReader::new(table), &local) {
        if let Some(connection) = connections.get_mut(&key) {
            connection.translated = Some(reached);
        }
    }
}

/// The translations of connections that begin at one of the `local` addresses.
fn parse(mut table: impl BufRead, local: &HashSet<IpAddr>) -> HashMap<ConnectionKey, SocketAddr> {
    let mut translations = HashMap::new();
    let mut line = Vec::new();
    for _ in 0..MOST_LINES {
        line.clear();
        let mut limited = std::io::Read::take(&mut table, LONGEST_LINE);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let translated = std::str::from_utf8(&line).ok().and_then(translation);
        translations.extend(translated.filter(|(key, _)| local.contains(&key.local.ip())));
    }
    translations
}

/// `ipv4 2 tcp 6 86 ESTABLISHED src=A dst=B sport=1 dport=2 src=C dst=A sport=3 dport=1 ...`: from A to B, and
/// the answers come from C. `None` if that is B, or the line is not understood.
fn translation(line: &str) -> Option<(ConnectionKey, SocketAddr)> {
    let protocol = match line.split_ascii_whitespace().nth(2)? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    // What may stand between the four of one direction and those of the other are counters.
    let values = |name: &'static str| {
        let words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        words.filter(move |(key, _)| *key == name).map(|(_, value)| value)
    };
    let mut ports = values("sport").zip(values("dport"));
    let mut ends = values("src").zip(values("dst")).map(|(from, to)| {
        let (from_port, to_port) = ports.next()?;
        let end = |ip: &str, port: &str| {
            Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?.to_canonical(), port.parse().ok()?))
        };
        Some((end(from, from_port)?, end(to, to_port)?))
    });
    let (from, asked_for) = ends.next()??;
    let (reached, _) = ends.next()??;
    let key = ConnectionKey { protocol, local: from, remote: Some(asked_for) };
    (reached != asked_for).then_some((key, reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Linux 6.18, in a network namespace with translations on the way out.
    const RECORDED: &str = "\
ipv4     2 tcp      6 431999 ESTABLISHED src=127.0.0.1 dst=127.0.0.1 sport=33794 dport=6443 src=127.0.0.1 dst=127.0.0.1 sport=6443 dport=33794 [ASSURED] mark=0 zone=0 use=2
ipv6     10 tcp      6 431999 ESTABLISHED src=fd00:0000:0000:0000:0000:0000:0000:0005 dst=fd00:0000:0000:0000:0000:0000:0000:0099 sport=45460 dport=80 src=fd00:0000:0000:0000:0000:0000:0000:0005 dst=fd00:0000:0000:0000:0000:0000:0000:0005 sport=8080 dport=45460 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 30 src=10.0.0.5 dst=10.96.0.10 sport=48396 dport=53 [UNREPLIED] src=10.0.0.5 dst=10.0.0.5 sport=5353 dport=48396 mark=0 zone=0 use=2
ipv4     2 tcp      6 119 SYN_SENT src=10.0.0.5 dst=10.96.0.2 sport=44122 dport=80 [UNREPLIED] src=10.0.0.77 dst=10.0.0.5 sport=8080 dport=44122 mark=0 zone=0 use=3
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.5 dst=10.96.0.1 sport=48760 dport=443 src=127.0.0.1 dst=10.0.0.5 sport=6443 dport=48760 [ASSURED] mark=0 zone=0 use=2
";

    /// Written after those: with counters, routed through from elsewhere, and without ports.
    const WRITTEN: &str = "\
ipv4     2 tcp      6 9 ESTABLISHED src=10.0.0.5 dst=10.96.0.3 sport=4000 dport=80 packets=1 bytes=60 src=10.0.0.8 dst=10.0.0.5 sport=81 dport=4000 packets=0 bytes=0 mark=0 use=1
ipv4     2 tcp      6 9 ESTABLISHED src=10.0.0.77 dst=10.0.0.5 sport=40112 dport=8080 src=172.17.0.2 dst=10.0.0.77 sport=80 dport=40112 [ASSURED] mark=0 use=2
ipv4     2 icmp     1 29 src=10.0.0.5 dst=10.0.0.9 type=8 code=0 id=1 src=10.0.0.9 dst=10.0.0.5 type=0 code=0 id=1 mark=0 use=1
";

    fn recorded() -> HashMap<ConnectionKey, SocketAddr> {
        let local = ["10.0.0.5", "fd00::5", "127.0.0.1"].map(|ip| ip.parse().unwrap()).into();
        parse([RECORDED, WRITTEN].concat().as_bytes(), &local)
    }

    #[test]
    fn only_what_begins_here_and_is_sent_elsewhere_is_translated() {
        let translations = recorded();

        let mut told: Vec<String> = translations
            .iter()
            .map(|(key, reached)| format!("{} {} {reached}", key.local, key.remote.unwrap()))
            .collect();
        told.sort();
        let expected = [
            "10.0.0.5:4000 10.96.0.3:80 10.0.0.8:81",
            "10.0.0.5:44122 10.96.0.2:80 10.0.0.77:8080",
            "10.0.0.5:48396 10.96.0.10:53 10.0.0.5:5353",
            "10.0.0.5:48760 10.96.0.1:443 127.0.0.1:6443",
            "[fd00::5]:45460 [fd00::99]:80 [fd00::5]:8080",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_line_that_stops_anywhere_never_panics() {
        for line in RECORDED.lines() {
            for length in 0..line.len() {
                translation(&line[..length]);
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let endless = "x".repeat(100_000);
        assert!(parse(endless.as_bytes(), &HashSet::new()).is_empty());
    }
}
