//! Who listens where, now and a little while ago, and what that says of a connection's direction.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ahash::HashMap;
use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ConnectionKey, ConnectionState, Direction, Protocol},
};

use super::{super::seen::Row, Look};

/// How long a listener that is gone still tells the direction of what it accepted. `TIME_WAIT` takes 60 s,
/// and a connection may outlive its listener a little before that.
const REMEMBERED: Duration = Duration::from_secs(120);

/// The listeners of this machine.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    known: HashMap<(Protocol, SocketAddr), Listener>,
}

#[derive(Debug)]
pub(super) struct Listener {
    seen_at: Timestamp,
    /// `None` if nobody known holds it, or several do.
    pub(super) application: Option<AppName>,
}

impl Row {
    /// Whether it waits for others. UDP does not say so itself: an unconnected socket does if it has a
    /// port that somebody chose.
    pub(in crate::observe) fn listens(&self, ephemeral: &RangeInclusive<u16>) -> bool {
        let port = self.key.local.port();
        match self.key.protocol {
            Protocol::Tcp => self.state == ConnectionState::Listen,
            Protocol::Udp => self.key.remote.is_none() && port != 0 && !ephemeral.contains(&port),
        }
    }
}

impl Listeners {
    /// Takes in who listens at this look.
    pub(super) fn note(&mut self, look: &Look<'_>) {
        for row in look.rows.iter().filter(|row| row.listens(&look.ephemeral)) {
            let application = look.certain(row).and_then(|holder| holder.application().cloned());
            let fresh = Listener { seen_at: look.now, application };
            let known = self.known.get_mut(&(row.key.protocol, row.key.local));
            match known.filter(|known| known.seen_at == look.now) {
                Some(known) if known.application != fresh.application => known.application = None,
                Some(_) => {}
                None => {
                    self.known.insert((row.key.protocol, row.key.local), fresh);
                }
            }
        }
        self.known.retain(|_, listener| look.now.since(listener.seen_at) < REMEMBERED);
    }

    /// The listener that accepted a connection, or would: the one on its address, else the one on every
    /// address. `seen_at` is when listeners were last looked at.
    pub(super) fn of(
        &self,
        key: &ConnectionKey,
        ephemeral: &RangeInclusive<u16>,
        seen_at: Timestamp,
    ) -> Option<&Listener> {
        let local = key.local;
        let everywhere_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port());
        let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), local.port());
        let addresses: &[SocketAddr] = match local.ip() {
            IpAddr::V4(_) => &[local, everywhere_v4, everywhere],
            IpAddr::V6(_) => &[local, everywhere],
        };
        // A port that the kernel gives out may be somebody's outgoing one the moment its listener is gone.
        let outlives = !ephemeral.contains(&local.port());
        let listeners = addresses
            .iter()
            .filter_map(|address| self.known.get(&(key.protocol, *address)))
            .filter(|listener| listener.seen_at == seen_at || outlives);
        listeners.max_by_key(|listener| listener.seen_at == seen_at)
    }
}

/// Which side opened. `opener` is what the socket's own counts say; it decides where no listener does.
pub(super) fn direction(
    key: &ConnectionKey,
    has_listener: bool,
    opener: Option<Direction>,
    ephemeral: &RangeInclusive<u16>,
) -> Direction {
    let Some(remote) = key.remote else { return Direction::Unknown };
    if has_listener {
        // A port may serve and ask at once; who asked has its SYN acknowledged.
        let asked = opener == Some(Direction::Outbound);
        return if asked { Direction::Outbound } else { Direction::Inbound };
    }
    if let Some(opener) = opener {
        return opener;
    }
    // A port that nobody gave out on this side, and one given out on the other: its listener went before
    // the first look, or the program chose its port itself.
    let looks_accepted =
        !ephemeral.contains(&key.local.port()) && ephemeral.contains(&remote.port());
    if looks_accepted { Direction::Unknown } else { Direction::Outbound }
}
