//! A fleet made from a seed: business applications of tiers on machines, what serves all of them, and
//! what the machines of a fleet do besides. What is true of it is known, so findings can be held
//! against it.
//!
//! ```text
//!           ┌─> samples ─> the real windows and join ─> Joined     what is seen of it
//!  Fleet ───┤
//!           └─> joined ───────────────────────────────> Joined     what would be seen: cheap, for size
//! ```

#[path = "fleet/chance.rs"]
mod chance;
#[path = "fleet/found.rs"]
pub mod found;
#[path = "fleet/joined.rs"]
pub mod joined;
#[path = "fleet/liars.rs"]
mod liars;
#[path = "fleet/make.rs"]
mod make;
#[path = "fleet/samples.rs"]
pub mod samples;

use std::{collections::BTreeSet, net::Ipv4Addr};

pub use self::liars::Lie;
use aggregator::{
    catalogue::{Application as Listed, Catalogue, Class, Rule},
    hypervisor::{Allocation, Host, Inventory, Machine as Known, Nic, Power},
    inference::{EdgeKey, Party},
};
use common::{
    clock::Timestamp,
    id::{AppName, VmId},
    units::{Bytes, Millicores},
};

/// When every fleet begins: the start of a window of five minutes.
pub const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_100_000);
/// Most machines of a fleet: their addresses are those of one network.
pub const MOST_MACHINES: usize = 1 << 20;

/// What is made.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Machines, those that serve all others among them.
    pub machines: usize,
    /// Applications on each machine.
    pub applications: usize,
    /// Edges for each machine, those to what serves all of them among them.
    pub edges: usize,
    /// Share of the edges that keep their connections open.
    pub pooled: f64,
    /// Share of the machines that try in vain to reach others.
    pub noisy: f64,
    /// Share of the machines that lose samples, and the share that each of them loses.
    pub lossy: (f64, f64),
    /// Share of the machines that lie.
    pub liars: f64,
    /// Share of the machines that do nothing.
    pub idle: f64,
    /// The same shape and seed make the same fleet.
    pub seed: u64,
}

impl Shape {
    /// Without noise, loss, liars and the idle.
    #[must_use]
    pub const fn plain(machines: usize, applications: usize, edges: usize) -> Self {
        Self {
            machines,
            applications,
            edges,
            pooled: 0.5,
            noisy: 0.0,
            lossy: (0.0, 0.0),
            liars: 0.0,
            idle: 0.0,
            seed: 1,
        }
    }
}

/// One application on one machine.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its name.
    pub name: AppName,
    /// What sort it is.
    pub class: Class,
    /// Where it listens.
    pub port: u16,
    /// CPU it uses.
    pub cpu: Millicores,
    /// Memory it uses.
    pub memory: Bytes,
    /// The hour of the day at which it uses most, where it uses half as much again.
    pub peak_hour: u64,
}

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its id.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The business application it belongs to; `None` if it serves all, or does nothing.
    pub business: Option<usize>,
    /// What it runs.
    pub applications: Vec<Application>,
    /// What it is given.
    pub given: Allocation,
    /// How it lies.
    pub lie: Option<Lie>,
    /// The machine that lies with it, by place.
    pub accomplice: Option<usize>,
    /// Share of its samples that are lost.
    pub loses: f64,
    /// It tries in vain to reach others.
    pub is_noisy: bool,
}

/// An application on a machine, by place in [`Fleet::machines`] and [`Machine::applications`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The machine.
    pub machine: usize,
    /// The application.
    pub application: usize,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An application of the fleet.
    Inside(End),
    /// A visitor.
    Outside(Ipv4Addr),
}

/// What an edge carries, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Carries {
    /// Connections that come to be.
    pub opened: f64,
    /// Connections that stay open.
    pub open: u16,
    /// Requests and answers.
    pub exchanges: f64,
    /// Attempts that fail.
    pub failed: f64,
}

/// One edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Who calls.
    pub client: Caller,
    /// Who answers.
    pub server: End,
    /// What it carries.
    pub carries: Carries,
    /// What it leads to serves all, or what it comes from watches all.
    pub is_infrastructure: bool,
}

/// A fleet, and what is true of it.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// What it was made from.
    pub shape: Shape,
    /// Its machines.
    pub machines: Vec<Machine>,
    /// Its edges, each once.
    pub links: Vec<Link>,
}

impl Fleet {
    /// Makes it.
    #[must_use]
    pub fn of(shape: Shape) -> Self {
        make::make(shape)
    }

    /// An end's application.
    #[must_use]
    pub fn application(&self, end: End) -> &Application {
        &self.machines[end.machine].applications[end.application]
    }

    /// An end, as the findings call it.
    #[must_use]
    pub fn party(&self, end: End) -> Party {
        let vm = self.machines[end.machine].vm.clone();
        Party::Machine { vm, application: Some(self.application(end).name.clone()) }
    }

    /// An edge, as the findings call it.
    #[must_use]
    pub fn key(&self, link: &Link) -> EdgeKey {
        let client = match link.client {
            Caller::Inside(end) => self.party(end),
            Caller::Outside(address) => Party::External { address: address.into() },
        };
        EdgeKey {
            client,
            server: self.party(link.server),
            port: self.application(link.server).port,
        }
    }

    /// Machines that work with others, what serves all left out.
    #[must_use]
    pub fn participating(&self) -> BTreeSet<usize> {
        let links = self.links.iter().filter(|link| !link.is_infrastructure);
        let pairs = links.filter_map(|link| match link.client {
            Caller::Inside(end) if end.machine != link.server.machine => {
                Some([end.machine, link.server.machine])
            }
            _ => None,
        });
        pairs.flatten().collect()
    }

    /// All applications, those of the tiers that keep nothing free to move.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        let all = self.machines.iter().flat_map(|machine| &machine.applications);
        let listed = all.map(|application| {
            let keeps_data = application.class == Class::Database;
            let rules = vec![Rule { port: Some(application.port), ..Rule::default() }];
            let listed = Listed {
                class: application.class,
                rules,
                movable: !keeps_data,
                keeps_data,
                ..Listed::default()
            };
            (application.name.clone(), listed)
        });
        Catalogue(listed.collect())
    }

    /// What the hypervisor says is there: hosts of forty machines each.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory { taken_at: BEGIN, ..Inventory::default() };
        for (index, machine) in self.machines.iter().enumerate() {
            let id = format!("host-{}", index / 40);
            let host = Host {
                id: id.parse().unwrap(),
                name: id,
                addresses: Vec::new(),
                macs: Vec::new(),
                cpu: Millicores(400_000),
                memory: Bytes::mebi(1 << 20),
                pools: Vec::new(),
            };
            let known = known(index, machine, &host);
            inventory.machines.insert(machine.vm.clone(), known);
            inventory.hosts.entry(host.id.clone()).or_insert(host);
        }
        inventory
    }
}

/// The link that a machine has, by its place in the fleet.
fn mac(index: usize) -> String {
    let [_, a, b, c] = u32::try_from(index).unwrap_or(0).to_be_bytes();
    format!("02:00:00:{a:02x}:{b:02x}:{c:02x}")
}

fn known(index: usize, machine: &Machine, host: &Host) -> Known {
    let nic = Nic {
        mac: mac(index),
        network: Some("production".parse().unwrap()),
        kind: "bridge".to_owned(),
        addresses: vec![format!("{}/8", machine.address).parse().unwrap()],
        up: true,
    };
    Known {
        id: machine.vm.clone(),
        name: machine.name.clone(),
        host: host.id.clone(),
        power: Power::On,
        allocation: machine.given,
        nics: vec![nic],
        volumes: Vec::new(),
        cloned_from: None,
        plan: None,
        labels: BTreeSet::new(),
    }
}
