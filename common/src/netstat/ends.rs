//! The ends of a row: addresses and ports in the spellings of all the programs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::ports;

/// Longest host name there is.
const LONGEST_NAME: usize = 253;

/// Which host an end is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Any of the machine's addresses.
    Any,
    /// This address.
    Address(IpAddr),
    /// This name, as it is written; it was not looked up.
    Name(String),
}

/// One end of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The host.
    pub host: Host,
    /// The port; `None` if the text has none.
    pub port: Option<u16>,
}

impl End {
    /// Whether it names nothing: no far end.
    pub(super) const fn is_nothing(&self) -> bool {
        let is_any = match &self.host {
            Host::Any => true,
            Host::Address(address) => address.is_unspecified(),
            Host::Name(_) => false,
        };
        is_any && matches!(self.port, None | Some(0))
    }

    /// As an address with its port, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = match &self.host {
            Host::Any => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Host::Address(address) => *address,
            Host::Name(_) => return None,
        };
        Some(SocketAddr::new(ip, self.port?))
    }
}

/// Reads an end. `dotted` if the program parts the port with a dot, as those of BSD do.
pub(super) fn end(text: &str, dotted: bool) -> Result<End, String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) =
            rest.split_once(']').ok_or_else(|| format!("{text} has no closing bracket"))?;
        let port = port.strip_prefix(':').map(self::port).transpose()?.flatten();
        return Ok(End { host: host_of(host)?, port });
    }
    let by_colon = text.rsplit_once(':');
    // A colon that a dotted port comes after lies within an address of version 6.
    let (host, port) = match by_colon.filter(|(_, port)| !port.contains('.')) {
        Some(parts) => parts,
        None if dotted => match text.rsplit_once('.') {
            Some((host, port)) if is_port(port) => (host, port),
            _ => (text, "*"),
        },
        None => match text.rsplit_once('.').filter(|(host, _)| is_address(host)) {
            Some(parts) => parts,
            None => (text, "*"),
        },
    };
    Ok(End { host: host_of(host)?, port: self::port(port)? })
}

fn is_address(text: &str) -> bool {
    let plain = without_link(text);
    plain == "*" || plain.parse::<IpAddr>().is_ok()
}

/// The link that an address belongs to is not part of it.
fn without_link(text: &str) -> &str {
    text.split_once('%').map_or(text, |(address, _)| address)
}

fn is_port(text: &str) -> bool {
    text == "*" || port(text).is_ok()
}

/// A number, or a name that all systems use for the same one; `None` for any.
fn port(text: &str) -> Result<Option<u16>, String> {
    if text == "*" || text.is_empty() {
        return Ok(None);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = text.parse().map(Some);
        return port.map_err(|_| format!("{text} is no port; a port is at most 65535"));
    }
    let known = ports::named(text).map(Some);
    known.ok_or_else(|| {
        format!("{} is no port that is known by name; print ports as numbers, with -n", cut(text))
    })
}

fn host_of(text: &str) -> Result<Host, String> {
    let plain = without_link(text);
    if matches!(plain, "*" | "") {
        return Ok(Host::Any);
    }
    if let Ok(address) = plain.parse::<IpAddr>() {
        return Ok(Host::Address(address.to_canonical()));
    }
    let is_name = plain.len() <= LONGEST_NAME
        && plain.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && plain.chars().any(char::is_alphanumeric);
    if is_name {
        return Ok(Host::Name(plain.to_owned()));
    }
    if plain.contains(':') {
        return Err(format!(
            "{} is no whole address; print addresses in full, with -W",
            cut(plain)
        ));
    }
    Err(format!("{} is neither an address nor a name", cut(plain)))
}

/// A value for people: short, and nothing that a terminal obeys.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
