//! One line: a row of one of the programs, or what stands around rows.

use super::{
    Line, Listed,
    ends::{self, End, cut},
    words::{self, More},
};
use crate::sample::{ConnectionState, Direction, Protocol};

/// What the programs print around their rows.
const HEADS: [&str; 11] = [
    "Active ",
    "Address  ",
    "Proto ",
    "State ",
    "Netid ",
    "Recv-Q ",
    "(Not all processes",
    "(No info could be read",
    "(servers and established)",
    "will not be shown",
    "Can not obtain ownership",
];

/// Sockets that never leave the machine, and protocols without ports.
const LEFT_OUT: [&str; 22] = [
    "unix", "u_str", "u_dgr", "u_seq", "nl", "p_raw", "p_dgr", "raw", "raw4", "raw6", "icmp",
    "icmp4", "icm4", "icm6", "icmp6", "icmpv6", "dccp", "sctp", "mptcp", "v_str", "v_dgr", "xdp",
];

/// What a line is; else why it is nothing that is known.
pub(super) fn line(number: usize, text: &str) -> Result<Line, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || HEADS.iter().any(|head| trimmed.starts_with(head)) {
        return Ok(Line::Nothing);
    }
    if let Some(program) = bracketed(trimmed) {
        let program = words::name(program);
        return Ok(Line::More(More { program, ..More::default() }));
    }
    let words: Vec<&str> = trimmed.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else { return Ok(Line::Nothing) };
    let kind = first.to_ascii_lowercase();
    if LEFT_OUT.contains(&kind.as_str()) || is_bsd_unix(first, rest) {
        return Ok(Line::LeftOut);
    }
    let row = match protocol(&kind) {
        Some((protocol, dotted)) => match rest.first().and_then(|word| words::state(word)) {
            Some(state) => of_ss(protocol, state, &rest[1..], trimmed),
            None => of_netstat(protocol, dotted, rest),
        },
        None => match words::state(first) {
            // Without a first column the program was asked for one protocol only.
            Some(state @ ConnectionState::Stateless) => of_ss(Protocol::Udp, state, rest, trimmed),
            Some(state) => of_ss(Protocol::Tcp, state, rest, trimmed),
            None if is_indented(text) && is_of_ss(&words) => {
                return Ok(Line::More(words::of_ss(trimmed)));
            }
            None => Err(format!("{} is no protocol and no state", cut(first))),
        },
    };
    row.map(|row| Line::Row(Box::new(Listed { line: number, ..row })))
}

/// ` [svchost.exe]`, as Windows prints below a row with `-b`.
fn bracketed(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    (!inner.contains(['[', ']', ':'])).then_some(inner)
}

/// `fffff803a5d5c000 stream 0 0 ...`: a local socket as BSD lists it, by its address in the kernel.
fn is_bsd_unix(first: &str, rest: &[&str]) -> bool {
    first.len() >= 8
        && first.bytes().all(|byte| byte.is_ascii_hexdigit())
        && matches!(rest.first(), Some(&("stream" | "dgram" | "seqpacket")))
}

fn is_indented(text: &str) -> bool {
    text.starts_with([' ', '\t'])
}

/// The line that `ss -i` prints below a row has names with values in it.
fn is_of_ss(words: &[&str]) -> bool {
    words.iter().any(|word| {
        word.split_once(':').is_some_and(|(name, value)| {
            !value.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    })
}

/// The protocol, and whether the spelling is that of programs which part ports with dots.
fn protocol(word: &str) -> Option<(Protocol, bool)> {
    Some(match word {
        "tcp" | "tcp6" => (Protocol::Tcp, false),
        "tcp4" | "tcp46" => (Protocol::Tcp, true),
        "udp" | "udp6" | "udplite" | "udplite6" => (Protocol::Udp, false),
        "udp4" | "udp46" => (Protocol::Udp, true),
        _ => return None,
    })
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `Recv-Q Send-Q Local Peer` and what `ss` says besides.
fn of_ss(
    protocol: Protocol,
    state: ConnectionState,
    rest: &[&str],
    text: &str,
) -> Result<Listed, String> {
    let [received, sent, local, remote, ..] = rest else {
        return Err("it has too few columns; ss prints state, two queues and two ends".into());
    };
    if !is_number(received) || !is_number(sent) {
        return Err(format!("{} {} are no queues", cut(received), cut(sent)));
    }
    let state = stateless(protocol, state);
    let mut row = listed(protocol, state, ends::end(local, false)?, ends::end(remote, false)?);
    words::of_ss(text).add_to(&mut row);
    Ok(row)
}

/// What netstat prints behind the protocol: queues or none, ends, a state or none, who holds it.
fn of_netstat(protocol: Protocol, dotted: bool, rest: &[&str]) -> Result<Listed, String> {
    let queues = rest.iter().take(2).take_while(|word| is_number(word)).count();
    let rest = if queues == 2 { &rest[2..] } else { rest };
    let [local, remote, rest @ ..] = rest else {
        return Err("it has too few columns; netstat prints at least two ends".into());
    };
    let (local, remote) = (ends::end(local, dotted)?, ends::end(remote, dotted)?);
    let told = rest.first().and_then(|word| words::state(word));
    let (state, rest) = match (told, protocol) {
        (Some(state), _) => (stateless(protocol, state), &rest[1..]),
        (None, Protocol::Udp) => (ConnectionState::Stateless, rest),
        (None, Protocol::Tcp) => {
            let word = rest.first().copied().unwrap_or("nothing");
            return Err(format!("{} is no state of a TCP connection", cut(word)));
        }
    };
    let mut row = listed(protocol, state, local, remote);
    let mut more = More::default();
    let rest = match rest {
        // With -e: the user and the inode stand before the process.
        [user, inode, rest @ ..] if is_number(user) && is_number(inode) && !rest.is_empty() => {
            more.user = user.parse().ok();
            more.inode = inode.parse().ok().filter(|inode| *inode != 0);
            rest
        }
        rest => rest,
    };
    words::holder(&rest.join(" "), &mut more);
    more.add_to(&mut row);
    Ok(row)
}

/// UDP has no states, whatever a program calls it.
const fn stateless(protocol: Protocol, state: ConnectionState) -> ConnectionState {
    match protocol {
        Protocol::Udp => ConnectionState::Stateless,
        Protocol::Tcp => state,
    }
}

fn listed(protocol: Protocol, state: ConnectionState, local: End, remote: End) -> Listed {
    Listed {
        line: 0,
        protocol,
        local,
        remote: Some(remote).filter(|remote| !remote.is_nothing()),
        state,
        direction: Direction::Unknown,
        process: None,
        program: None,
        user: None,
        inode: None,
        sent: None,
        received: None,
        transport: None,
    }
}
