//! Makes a fleet. Business applications of eight to sixteen machines, each with web, application and
//! data tiers and jobs spread over them; three machines that serve all, of which one watches all.

use std::{collections::BTreeSet, net::Ipv4Addr};

use aggregator::{catalogue::Class, hypervisor::Allocation};
use algorithms::packing::Random;
use common::units::{Bytes, Millicores};

use super::{
    Application, Caller, Carries, End, Fleet, Lie, Link, MOST_MACHINES, Machine, Shape,
    chance::happens,
};

/// Machines that serve all others.
const SERVICES: usize = 3;
const MONITOR: usize = 2;
/// The port on which every machine is asked how it is.
const WATCHED_PORT: u16 = 9100;
const FIRST_PORT: u16 = 10_000;

pub(super) fn make(shape: Shape) -> Fleet {
    let mut maker = Maker {
        chance: Random::new(shape.seed),
        machines: Vec::with_capacity(shape.machines),
        links: Vec::with_capacity(shape.machines * shape.edges),
        shape,
    };
    maker.services();
    while maker.machines.len() < maker.shape.machines.min(MOST_MACHINES) {
        if happens(&mut maker.chance, maker.shape.idle * 12.0) {
            maker.machine("idle", None, Vec::new());
        }
        maker.business();
    }
    maker.housekeeping();
    let Maker { shape, machines, links, .. } = maker;
    Fleet { shape, machines, links }
}

struct Maker {
    shape: Shape,
    chance: Random,
    machines: Vec<Machine>,
    links: Vec<Link>,
}

impl Maker {
    fn services(&mut self) {
        for (name, port) in [("dns", 53), ("ntp", 123), ("monitor", 3000)] {
            let service = self.application(name, Class::Custom, port);
            self.machine(name, None, vec![service]);
        }
    }

    fn business(&mut self) {
        let business = self.machines.len();
        let left = self.shape.machines.saturating_sub(business);
        let size = (8 + self.chance.below(9)).min(left);
        for place in 0..size {
            let applications = (0..self.shape.applications).map(|slot| {
                let (tier, class) = match (place * self.shape.applications + slot) % 8 {
                    0 | 1 => ("web", Class::Web),
                    2..=4 => ("api", Class::Business),
                    5 => ("cache", Class::Business),
                    6 => ("store", Class::Database),
                    _ => ("job", Class::Batch),
                };
                let name = format!("{tier}-{business}-{place}-{slot}");
                let port = FIRST_PORT + u16::try_from(slot).unwrap_or(0);
                self.application(&name, class, port)
            });
            let applications: Vec<_> = applications.collect();
            self.machine("node", Some(business), applications);
        }
        self.links_of(business, size);
    }

    /// Each tier calls the next: web the api, api caches and stores, jobs the stores.
    fn links_of(&mut self, first: usize, size: usize) {
        let ends: Vec<End> = (first..first + size)
            .flat_map(|machine| {
                let count = self.machines[machine].applications.len();
                (0..count).map(move |application| End { machine, application })
            })
            .collect();
        let rank = |fleet: &Self, end: &End| match fleet.class(*end) {
            Class::Web => 0,
            Class::Batch => 1,
            Class::Business => 2,
            _ => 3,
        };
        // One edge each goes to the name service and comes from the watch.
        let wanted = size * self.shape.edges.saturating_sub(2);
        let mut known = BTreeSet::new();
        for _ in 0..wanted * 4 {
            if known.len() >= wanted || ends.len() < 2 {
                break;
            }
            let client = ends[self.chance.below(ends.len())];
            let server = ends[self.chance.below(ends.len())];
            let is_downward = rank(self, &client) < rank(self, &server);
            if is_downward && client.machine != server.machine && known.insert((client, server)) {
                self.link(Caller::Inside(client), server);
            }
        }
        let front = ends.iter().copied().find(|end| self.class(*end) == Class::Web);
        if let Some(front) = front {
            let visitor = Ipv4Addr::new(192, 0, 2, 1 + (first % 250) as u8);
            self.link(Caller::Outside(visitor), front);
        }
    }

    /// Every machine that runs something asks for names, and is asked how it is.
    fn housekeeping(&mut self) {
        for machine in SERVICES..self.machines.len() {
            if self.machines[machine].applications.is_empty() {
                continue;
            }
            let own = End { machine, application: 0 };
            let watched = self.application("exporter", Class::Custom, WATCHED_PORT);
            let place = self.machines[machine].applications.len();
            self.machines[machine].applications.push(watched);
            let watched = End { machine, application: place };
            let asked = Carries { opened: 0.1, open: 0, exchanges: 0.1, failed: 0.0 };
            let service = |machine| End { machine, application: 0 };
            let watch = Caller::Inside(service(MONITOR));
            for (client, server) in [(Caller::Inside(own), service(0)), (watch, watched)] {
                let link = Link { client, server, carries: asked, is_infrastructure: true };
                self.links.push(link);
            }
        }
    }

    fn class(&self, end: End) -> Class {
        self.machines[end.machine].applications[end.application].class
    }

    fn link(&mut self, client: Caller, server: End) {
        let exchanges = 0.2 * 100_f64.powf(self.chance.share());
        let is_pooled = happens(&mut self.chance, self.shape.pooled);
        let carries = if is_pooled {
            let open = 1 + self.chance.below(4) as u16;
            Carries { opened: 0.0, open, exchanges, failed: 0.0 }
        } else {
            let failed = if happens(&mut self.chance, 0.1) { exchanges * 0.05 } else { 0.0 };
            Carries { opened: exchanges, open: 0, exchanges, failed }
        };
        self.links.push(Link { client, server, carries, is_infrastructure: false });
    }

    fn application(&mut self, name: &str, class: Class, port: u16) -> Application {
        Application {
            name: name.parse().unwrap(),
            class,
            port,
            cpu: Millicores(20 + self.chance.below(180) as u64),
            memory: Bytes::mebi(32 + self.chance.below(224) as u64),
            peak_hour: self.chance.below(24) as u64,
        }
    }

    fn machine(&mut self, kind: &str, business: Option<usize>, applications: Vec<Application>) {
        let index = self.machines.len();
        let number = 0x0a00_0001 + u32::try_from(index).unwrap_or(0);
        let used: u64 = applications.iter().map(|application| application.cpu.0).sum();
        let memory: u64 = applications.iter().map(|application| application.memory.0).sum();
        // Some have twice the room they need at their peak, some hardly enough.
        let room = 1.8 + 1.6 * self.chance.share();
        let given = |used: u64, least: u64| ((used as f64 * room) as u64).max(least);
        let (lies, loses) = (business.is_some(), business.is_some());
        let lie = lies && happens(&mut self.chance, self.shape.liars);
        let lie = lie.then(|| Lie::ALL[self.chance.below(Lie::ALL.len())].0);
        let loses = loses && happens(&mut self.chance, self.shape.lossy.0);
        self.machines.push(Machine {
            vm: uuid::Uuid::from_u128(0x5100_0000 + index as u128).to_string().parse().unwrap(),
            name: format!("{kind}-{index}"),
            address: Ipv4Addr::from(number),
            business,
            applications,
            given: Allocation {
                cpu: Some(Millicores(given(used, 500))),
                memory: Some(Bytes(given(memory, 256 << 20))),
                storage: Some(Bytes::mebi(1 << 14)),
            },
            lie,
            accomplice: None,
            loses: if loses { self.shape.lossy.1 } else { 0.0 },
            is_noisy: business.is_some() && happens(&mut self.chance, self.shape.noisy),
        });
    }
}
