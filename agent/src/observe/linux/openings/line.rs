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
    /// A thread was made.
    Born {
        /// Its number.
        thread: u32,
        /// The number of the one that made it.
        parent: u32,
        /// The flags of clone(2).
        flags: u64,
    },
    /// A process was moved to a control group.
    Moved {
        /// Its number.
        process: u32,
        /// The path of the group.
        path: &'a str,
        /// It is of version 2, which is one tree for everything.
        is_whole: bool,
    },
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

/// Longer than any name of a process, so that none has one in it.
const MARKS: [&str; 3] = [": inet_sock_set_state: ", ": cgroup_attach_task: ", ": task_newtask: "];

/// ```text
///            curl-26273   [001] ..... 14226.550864: inet_sock_set_state: family=AF_INET ... dport=80 ...
///            bash-20648   [001] ..... 42464.998805: task_newtask: pid=20666 comm=bash clone_flags=1200000 ...
///            bash-20667   [000] d..1. 42465.040391: cgroup_attach_task: dst_root=0 ... dst_path=/a pid=20667 ...
/// CPU:1 [LOST 17 EVENTS]
/// ```
pub(super) fn parse(line: &str) -> Line<'_> {
    let parts = |mark: &str| line.split_once(mark);
    // The first in the line: what stands behind it may have any other in it.
    let first = MARKS.iter().filter_map(|mark| Some((*mark, parts(mark)?)));
    let parsed = match first.min_by_key(|(_, (context, _))| context.len()) {
        Some((mark, (context, fields))) if mark == MARKS[0] => {
            started(context, fields).map(Line::Started)
        }
        Some((mark, (_, fields))) if mark == MARKS[1] => moved(fields),
        Some((_, (context, fields))) => born(context, fields),
        None => lost(line).map(Line::Lost),
    };
    parsed.unwrap_or(Line::Other)
}

fn born<'a>(context: &str, fields: &str) -> Option<Line<'a>> {
    let (_, parent) = who(context)?;
    // The name between them may have anything in it.
    let (thread, _) = fields.strip_prefix("pid=")?.split_once(' ')?;
    let (_, flags) = fields.rsplit_once(" clone_flags=")?;
    let flags = flags.split(' ').next()?;
    let flags = u64::from_str_radix(flags, 16).ok()?;
    Some(Line::Born { thread: thread.parse().ok()?, parent, flags })
}

fn moved(fields: &str) -> Option<Line<'_>> {
    let (root, rest) = fields.strip_prefix("dst_root=")?.split_once(' ')?;
    let (_, rest) = rest.split_once(" dst_path=")?;
    let (path, rest) = rest.split_once(" pid=")?;
    let process = rest.split(' ').next()?.parse().ok()?;
    Some(Line::Moved { process, path, is_whole: root == "0" })
}

/// The name and the number of the thread in whose time it was.
fn who(context: &str) -> Option<(&str, u32)> {
    // Behind the processor in brackets come flags and the time.
    let (who, _) = context.rsplit_once('[')?;
    let (name, thread) = who.trim_end().rsplit_once('-')?;
    Some((name.trim_start(), thread.parse().ok()?))
}

fn started<'a>(context: &'a str, fields: &str) -> Option<Started<'a>> {
    let (name, thread) = who(context)?;
    let value = |wanted: &str| {
        let mut pairs = fields.split(' ').filter_map(|field| field.split_once('='));
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let is_v4 = value("family")? == "AF_INET";
    let (from, to) = if is_v4 { ("saddr", "daddr") } else { ("saddrv6", "daddrv6") };
    let address = |name| value(name)?.parse().ok().map(|address: IpAddr| address.to_canonical());
    Some(Started {
        thread,
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
    fn a_birth_tells_who_made_whom_whatever_they_call_themselves() {
        let line = "  a [b] pid=1-20648   [001] ..... 42464.9: task_newtask: pid=20666 comm=x \
                    clone_flags=1 clone_flags=1200011 oom_score_adj=-5";
        let born = Line::Born { thread: 20_666, parent: 20_648, flags: 0x120_0011 };
        assert_eq!(parse(line), born);
    }

    #[test]
    fn a_move_tells_the_path_of_the_group() {
        let line = "  x-20667   [000] d..1. 4.0: cgroup_attach_task: dst_root=0 dst_id=690 dst_level=2 \
                    dst_path=/a b/px.service pid=20667 comm=x pid=3";
        let moved = Line::Moved { process: 20_667, path: "/a b/px.service", is_whole: true };
        assert_eq!(parse(line), moved);
        let of_version_1 = line.replace("dst_root=0", "dst_root=9");
        let moved = Line::Moved { process: 20_667, path: "/a b/px.service", is_whole: false };
        assert_eq!(parse(&of_version_1), moved);
    }

    #[test]
    fn a_path_cannot_pass_for_an_opening() {
        let opening = line("x-1 [000] ..... 1.0", "AF_INET", "10.0.0.7", "::");
        let line = format!(
            " x-2 [000] ..... 1.0: cgroup_attach_task: dst_root=0 dst_id=1 dst_level=1 dst_path=/{opening} \
             pid=2 comm=x"
        );
        assert!(matches!(parse(&line), Line::Moved { process: 2, .. }));
    }

    #[test]
    fn anything_else_costs_itself() {
        let cut = line(" x-1 [000] ..... 1.0", "AF_INET", "10.0.0.7", "::");
        for length in 0..cut.find(" daddr=").unwrap() {
            assert_eq!(parse(&cut[..length]), Line::Other);
        }
        for text in
            ["", "CPU:1 [LOST", "CPU:1 [LOST x EVENTS]", "## header", MARKS[0], MARKS[1], MARKS[2]]
        {
            assert_eq!(parse(text), Line::Other, "{text}");
        }
    }
}
