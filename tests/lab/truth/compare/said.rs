//! What reports say, brought into the shape of the truth: from flows, or from the rows of pollers.

use std::collections::{BTreeMap, BTreeSet};

use common::sample::{Coverage, Direction, Flow, FlowKey, Protocol};

use super::{
    super::{look::Report, pollers::Sighting},
    Addresses, Edge, Link,
};

/// What one side says of a link, by the application it gives it to.
pub type Side = BTreeMap<Link, BTreeMap<Option<String>, Flow>>;

/// What all machines say together.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// What the clients' machines say.
    pub clients: Side,
    /// What the servers' machines say.
    pub servers: Side,
    /// Who listens: machine, protocol, port.
    pub listeners: BTreeMap<(String, Protocol, u16), String>,
    /// Attempts that failed, by machine, application and where they went.
    pub failed: BTreeMap<(String, Option<String>, std::net::IpAddr), u64>,
    /// The coverage each machine says.
    pub coverage: BTreeMap<String, Coverage>,
    /// What each application did on disks: read, written.
    pub disks: BTreeMap<String, (Option<u64>, Option<u64>)>,
}

impl Said {
    /// Both sides joined.
    #[must_use]
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (link, applications) in &self.clients {
            // What connections carried may stand with nobody, though it is known who opened them.
            let opened = applications.iter().filter(|(_, flow)| flow.opened > 0);
            for (client, _) in opened {
                let server = self.server(link);
                edges.insert(Edge { link: link.clone(), client: client.clone(), server });
            }
        }
        for link in self.servers.keys().filter(|link| !self.clients.contains_key(link)) {
            let server = self.server(link);
            edges.insert(Edge { link: link.clone(), client: None, server });
        }
        edges
    }

    fn server(&self, link: &Link) -> Option<String> {
        let said = self.servers.get(link).and_then(|side| side.keys().flatten().next());
        let key = (link.server.machine.clone(), link.protocol, link.port);
        said.or_else(|| self.listeners.get(&key)).cloned()
    }

    fn listen<'a>(&mut self, machine: &str, rows: impl IntoIterator<Item = &'a Sighting>) {
        for row in rows.into_iter().filter(|row| row.remote.is_none()) {
            if let Some(application) = &row.application {
                let key = (machine.to_owned(), row.protocol, row.local.port());
                self.listeners.insert(key, application.clone());
            }
        }
    }
}

/// What the agents' flows say.
#[must_use]
pub fn from_flows(reports: &BTreeMap<String, Report>, addresses: &Addresses) -> Said {
    let mut said = Said::default();
    for (machine, report) in reports {
        said.listen(machine, &report.rows);
        said.coverage.extend(report.coverage.map(|coverage| (machine.clone(), coverage)));
        for (name, disk) in &report.disks {
            said.disks.insert(name.clone(), (disk.read, disk.written));
        }
        for (key, flow) in &report.flows {
            flow_of(&mut said, machine, key, flow, addresses);
        }
    }
    said
}

fn flow_of(said: &mut Said, machine: &str, key: &FlowKey, flow: &Flow, addresses: &Addresses) {
    let application = key.application.as_ref().map(|name| name.as_str().to_owned());
    if flow.failed > 0 {
        let place = (machine.to_owned(), application.clone(), key.remote.to_canonical());
        *said.failed.entry(place).or_default() += flow.failed;
    }
    let carried = flow.sent.is_some_and(|sent| sent.0 > 0);
    if flow.opened == 0 && !carried {
        return;
    }
    let (local, remote) =
        (addresses.place(machine, key.local), addresses.place(machine, key.remote));
    let is_inbound = key.direction == Direction::Inbound;
    let (client, server) = if is_inbound { (remote, local) } else { (local, remote) };
    let link = Link { protocol: key.protocol, client, server, port: key.port };
    let side = if is_inbound { &mut said.servers } else { &mut said.clients };
    add(side.entry(link).or_default().entry(application).or_default(), flow);
}

pub(super) fn add(sum: &mut Flow, flow: &Flow) {
    sum.opened += flow.opened;
    sum.closed += flow.closed;
    sum.reset += flow.reset;
    let both = |sum: Option<common::units::Bytes>, more: Option<common::units::Bytes>| {
        let more = more.map_or(0, |bytes| bytes.0);
        Some(common::units::Bytes(sum.map_or(0, |bytes| bytes.0) + more))
    };
    sum.sent = both(sum.sent, flow.sent);
    sum.received = both(sum.received, flow.received);
}

/// What rows of tables say: each row is one connection, and there is nothing but the rows.
#[must_use]
pub fn from_rows(tables: &BTreeMap<String, BTreeSet<Sighting>>, addresses: &Addresses) -> Said {
    let mut said = Said::default();
    for (machine, rows) in tables {
        said.listen(machine, rows);
        let listens: BTreeSet<_> = rows
            .iter()
            .filter(|row| row.remote.is_none())
            .map(|row| (row.protocol, row.local.port()))
            .collect();
        // A connection that was seen with its process and later without it is still one.
        let mut connections: BTreeMap<_, Option<String>> = BTreeMap::new();
        for row in rows {
            let Some(remote) = row.remote else { continue };
            let known = connections.entry((row.protocol, row.local, remote)).or_default();
            *known = row.application.clone().or(known.take());
        }
        for ((protocol, local, remote), application) in connections {
            let is_inbound = listens.contains(&(protocol, local.port()));
            let (client, server) = if is_inbound { (remote, local) } else { (local, remote) };
            let link = addresses.link(machine, protocol, client, server);
            let side = if is_inbound { &mut said.servers } else { &mut said.clients };
            side.entry(link).or_default().entry(application).or_default().opened += 1;
        }
    }
    said
}
