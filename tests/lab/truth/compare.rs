//! What was true against what was said: a pure comparison, so that it can be tested itself.
//!
//! An edge is a client's application, a server's application, both addresses, the server's port and
//! the protocol. Both machines' reports are joined; an edge that either end saw counts once.

mod said;
mod score;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use common::sample::Protocol;

pub use said::{Said, Side, from_flows, from_rows};
pub use score::{Score, score};

use super::script::{End, Told};

/// An address of a machine. Loopback is every machine's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The machine; empty if nobody has the address.
    pub machine: String,
    /// The address, v4-mapped folded.
    pub address: IpAddr,
}

/// An edge as the addresses tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The protocol.
    pub protocol: Protocol,
    /// Who calls.
    pub client: Place,
    /// Who is called.
    pub server: Place,
    /// At which port.
    pub port: u16,
}

/// An edge between applications.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Its addresses.
    pub link: Link,
    /// Who calls; `None` if not known.
    pub client: Option<String>,
    /// Who is called; `None` if not known.
    pub server: Option<String>,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Link { protocol, client, server, port } = &self.link;
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
        write!(
            f,
            "{} on {} ({}) -> {} on {} ({}) port {port} {protocol:?}",
            name(&self.client),
            client.machine,
            client.address,
            name(&self.server),
            server.machine,
            server.address,
        )
    }
}

/// What happened on an edge, seen from the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that came to be.
    pub opened: u64,
    /// Those that ended.
    pub closed: u64,
    /// Those that were reset.
    pub reset: u64,
    /// Bytes the client sent.
    pub sent: u64,
    /// Bytes the client received.
    pub received: u64,
}

/// Which machine has which address.
#[derive(Debug, Clone, Default)]
pub struct Addresses(pub BTreeMap<IpAddr, String>);

impl Addresses {
    /// Where `address` is, for somebody on `machine`.
    #[must_use]
    pub fn place(&self, machine: &str, address: IpAddr) -> Place {
        let address = address.to_canonical();
        let machine = if address.is_loopback() {
            machine.to_owned()
        } else {
            self.0.get(&address).cloned().unwrap_or_default()
        };
        Place { machine, address }
    }

    fn link(
        &self,
        machine: &str,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Link {
        Link {
            protocol,
            client: self.place(machine, client.ip()),
            server: self.place(machine, server.ip()),
            port: server.port(),
        }
    }
}

/// What was true.
#[derive(Debug, Clone, Default)]
pub struct True {
    /// Edges on which connections came to be.
    pub edges: BTreeMap<Edge, Totals>,
    /// Attempts that failed, by machine, application and where they went.
    pub failed: BTreeMap<(String, String, IpAddr), u64>,
    /// Bytes that each application read from and wrote to disks.
    pub disks: BTreeMap<String, (u64, u64)>,
}

/// What the processes told, as edges.
#[must_use]
pub fn truth(told: &[Told], addresses: &Addresses) -> True {
    let mut all = True::default();
    for one in told {
        if one.done.read > 0 || one.done.written > 0 {
            let used = (one.done.read, one.done.written);
            all.disks.insert(one.application.clone(), used);
        }
        for connected in &one.done.opened {
            let remote = connected.remote.ip().to_canonical();
            if connected.end == End::Failed {
                let key = (one.machine.clone(), one.application.clone(), remote);
                *all.failed.entry(key).or_default() += 1;
                continue;
            }
            let (protocol, local) = (connected.protocol, connected.local);
            let link = addresses.link(&one.machine, protocol, local, connected.remote);
            let server = server(told, &link);
            let edge = Edge { link, client: Some(one.application.clone()), server };
            let totals = all.edges.entry(edge).or_default();
            totals.opened += 1;
            totals.closed += u64::from(connected.end != End::Open);
            totals.reset += u64::from(connected.end == End::Reset);
            totals.sent += connected.sent;
            totals.received += connected.received;
        }
    }
    all
}

/// Who listens where a link leads.
fn server(told: &[Told], link: &Link) -> Option<String> {
    let listens = |one: &&Told| {
        one.machine == link.server.machine
            && one.serves.iter().any(|serving| {
                serving.protocol == link.protocol && serving.listen.port() == link.port
            })
    };
    told.iter().find(listens).map(|one| one.application.clone())
}
