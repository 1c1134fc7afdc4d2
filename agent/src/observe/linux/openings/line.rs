//! Lines of `trace_pipe`, taken apart.
//!
//! Pure. The name of a process may have anything in it, so that a line is read from its end; one that is not
//! understood costs itself.

use std::net::{IpAddr, SocketAddr};

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A connection is being opened.
    Started(Started<'a>),
    /// So many were lost.
    Lost(u64),
    /// Something else.
    Other,
}

/// A connection being opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started<'a> {
    /// Number of the thread that does.
    pub(super) thread: u32,
    /// Its name; `None` if the kernel forgot it.
    pub(super) name: Option<&'a str>,
    /// From which address; `None` if it was not chosen yet.
    pub(super) local: Option<IpAddr>,
    /// Whereto.
    pub(super) remote: SocketAddr,
}

/// Longer than any name of a process, so that none has it in it.
const MARK: &str = ": inet_sock_set_state: ";

/// ```text
///            curl-26273   [001] ..... 14226.550864: inet_sock_set_state: family=AF_INET ... dport=80 ...
/// CPU:1 [LOST 17 EVENTS]
/// ```
pub(super) fn parse(line: &str) -> Line<'_> {
    let parsed = match line.split_once(MARK) {
        Some((context, fields)) => started(context, fields).map(Line::Started),
        None => lost(line).map(Line::Lost),
    };
    parsed.unwrap_or(Line::Other)
}

fn started<'a>(context: &'a str, fields: &str) -> Option<Started<'a>> {
    // Behind the processor in brackets come flags and the time.
    let (who, _) = context.rsplit_once('[')?;
    let (name, thread) = who.trim_end().rsplit_once('-')?;
    let name = name.trim_start();
    let value = |wanted: &str| {
        let mut pairs = fields.split(' ').filter_map(|field| field.split_once('='));
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let is_v4 = value("family")? == "AF_INET";
    let (from, to) = if is_v4 { ("saddr", "daddr") } else { ("saddrv6", "daddrv6") };
    let address = |name| value(name)?.parse().ok().map(|address: IpAddr| address.to_canonical());
    Some(Started {
        thread: thread.parse().ok()?,
        name: (name != "<...>").then_some(name),
        local: address(from).filter(|address| !address.is_unspecified()),
        remote: SocketAddr::new(address(to)?, value("dport")?.parse().ok()?),
    })
}

fn lost(line: &str) -> Option<u64> {
    let (_, said) = line.strip_prefix("CPU:")?.split_once(" [LOST ")?;
    said.strip_suffix(" EVENTS]")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(context: &str, family: &str, v4: &str, v6: &str) -> String {
        format!(
            "{context}: inet_sock_set_state: family={family} protocol=IPPROTO_TCP sport=0 dport=443 \
             saddr=127.0.0.1 daddr={v4} saddrv6=::ffff:127.0.0.1 daddrv6={v6} \
             oldstate=TCP_CLOSE newstate=TCP_SYN_SENT"
        )
    }

    fn told(context: &str) -> (u32, Option<String>, String) {
        let line = line(context, "AF_INET", "10.0.0.7", "::ffff:10.0.0.7");
        let Line::Started(started) = parse(&line) else { panic!("{line}") };
        (started.thread, started.name.map(str::to_owned), started.remote.to_string())
    }

    #[test]
    fn a_name_may_have_blanks_dashes_and_brackets_in_it() {
        let cases = [
            ("            curl-26273   [001] ..... 14226.550864", "curl"),
            ("   a b-12 [x] -7-26273   [000] d..1. 14226.5", "a b-12 [x] -7"),
            ("  -26273   [000] ..... 1.0", ""),
            ("  : [0] inet-26273   [127] ..... 1.0", ": [0] inet"),
        ];
        for (context, name) in cases {
            let expected = (26_273, Some(name.to_owned()), "10.0.0.7:443".to_owned());
            assert_eq!(told(context), expected, "{context}");
        }
    }

    #[test]
    fn a_name_that_the_kernel_forgot_is_unknown() {
        assert_eq!(told("  <...>-9   [000] ..... 1.0").1, None);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_folded() {
        let at = |v6| {
            let line = line(" x-1 [000] ..... 1.0", "AF_INET6", "0.0.0.0", v6);
            let Line::Started(started) = parse(&line) else { panic!("{line}") };
            started.remote.to_string()
        };
        assert_eq!(at("::ffff:10.0.0.7"), "10.0.0.7:443");
        assert_eq!(at("fd00::1"), "[fd00::1]:443");
    }

    #[test]
    fn the_own_address_is_told_once_it_is_chosen() {
        let from = |saddr: &str| {
            let line = line(" x-1 [000] ..... 1.0", "AF_INET", "10.0.0.7", "::");
            let line = line.replace("saddr=127.0.0.1", saddr);
            let Line::Started(started) = parse(&line) else { panic!("{line}") };
            started.local
        };
        assert_eq!(from("saddr=10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(from("saddr=0.0.0.0"), None);
    }

    #[test]
    fn what_was_lost_is_counted() {
        assert_eq!(parse("CPU:1 [LOST 4069 EVENTS]"), Line::Lost(4069));
    }

    #[test]
    fn anything_else_costs_itself() {
        let cut = line(" x-1 [000] ..... 1.0", "AF_INET", "10.0.0.7", "::");
        for length in 0..cut.find(" daddr=").unwrap() {
            assert_eq!(parse(&cut[..length]), Line::Other);
        }
        for text in
            ["", "CPU:1 [LOST", "CPU:1 [LOST x EVENTS]", "## header", ": inet_sock_set_state: "]
        {
            assert_eq!(parse(text), Line::Other, "{text}");
        }
    }
}
