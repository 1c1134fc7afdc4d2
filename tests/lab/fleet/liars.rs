//! Machines of a fleet that lie: six ways, alone or in pairs that agree on what to say.

use algorithms::packing::Random;
use common::sample::Flow;

use super::{Caller, Fleet, Link, Machine, joined::swing};
use common::{clock::Timestamp, units::Bytes};

/// How a guest lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It tells of none of its connections.
    HidesTraffic,
    /// It tells of connections that the other end knows nothing of.
    InventsTraffic,
    /// It calls each of its applications by the name of the next.
    SwapsApplications,
    /// It says three times of all it does.
    Inflates,
    /// It says a third of all it does.
    Deflates,
    /// It says what was true the day before, when it worked at other hours and with others.
    ReplaysYesterday,
    /// It tells of none of its connections with the machine that lies with it.
    HidesPartner,
    /// It tells of as many connections that are none as its busiest edge has at most.
    InventsMuch,
}

impl Lie {
    /// All of them, with what each does, for people.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::HidesTraffic, "hide traffic"),
        (Self::InventsTraffic, "invent traffic"),
        (Self::SwapsApplications, "swap applications"),
        (Self::Inflates, "inflate"),
        (Self::Deflates, "deflate"),
        (Self::ReplaysYesterday, "replay yesterday"),
    ];

    /// So much of an amount that counts up is told.
    #[must_use]
    pub const fn told(self, amount: u64) -> u64 {
        match self {
            Self::Inflates => amount * 3,
            Self::Deflates => amount / 3,
            _ => amount,
        }
    }

    /// Ways that are one only if both ends agree on them.
    pub const BY_TWO: [(Self, &'static str); 2] =
        [(Self::HidesPartner, "hide each other"), (Self::InventsMuch, "invent much traffic")];

    /// What it tells of what an edge carried.
    #[must_use]
    pub fn told_flow(self, flow: Flow) -> Flow {
        let bytes = |amount: Option<Bytes>| amount.map(|bytes| Bytes(self.told(bytes.0)));
        Flow {
            opened: self.told(flow.opened),
            closed: self.told(flow.closed),
            sent: bytes(flow.sent),
            received: bytes(flow.received),
            data_segments_sent: flow.data_segments_sent.map(|count| self.told(count)),
            data_segments_received: flow.data_segments_received.map(|count| self.told(count)),
            ..flow
        }
    }

    /// Whether it tells of the edge of that number.
    #[must_use]
    pub const fn tells(self, link: usize) -> bool {
        match self {
            Self::HidesTraffic => false,
            // Every third is new since yesterday.
            Self::ReplaysYesterday => !link.is_multiple_of(3),
            _ => true,
        }
    }

    /// Connections per sample, of an edge that is none, that it tells of; 0 if it does not.
    #[must_use]
    pub const fn invents(self) -> u64 {
        match self {
            Self::InventsTraffic | Self::ReplaysYesterday => 10,
            Self::InventsMuch => 300,
            _ => 0,
        }
    }
}

impl Machine {
    /// The application by whose name the one at that place goes.
    #[must_use]
    pub fn told_as(&self, place: usize) -> usize {
        let by = usize::from(self.lie == Some(Lie::SwapsApplications));
        (place + by) % self.applications.len().max(1)
    }

    /// What it says of so much CPU that one of its applications used until then.
    #[must_use]
    pub fn told_cpu(&self, place: usize, used: f64, at: Timestamp) -> u64 {
        let Some(lie) = self.lie else { return used as u64 };
        if lie == Lie::ReplaysYesterday {
            let application = &self.applications[place];
            let before = at + std::time::Duration::from_secs(11 * 3600);
            return (used * swing(application, before) / swing(application, at)) as u64;
        }
        lie.told(used as u64)
    }
}

impl Fleet {
    /// The same fleet with so many machines, or pairs that work together, that lie: each by the next of
    /// the ways given.
    #[must_use]
    pub fn with_liars(mut self, count: usize, in_pairs: bool, ways: &[Lie]) -> Self {
        let mut chance = Random::new(self.shape.seed ^ 0x11a2);
        let business = |fleet: &Self, index: usize| {
            let machine = &fleet.machines[index];
            machine.business.is_some() && machine.lie.is_none() && machine.loses == 0.0
        };
        let each = if in_pairs { 2 } else { 1 };
        let mut lying = 0;
        for _ in 0..self.machines.len() * 8 {
            let one = chance.below(self.machines.len());
            if lying >= count || !business(&self, one) {
                continue;
            }
            let lie = ways[lying / each % ways.len()];
            let peer = self
                .links
                .iter()
                .filter_map(|link| peer(link, one))
                .find(|peer| business(&self, *peer));
            match (in_pairs, peer) {
                (true, None) => continue,
                (true, Some(other)) => {
                    self.machines[one].accomplice = Some(other);
                    self.machines[other].accomplice = Some(one);
                    self.machines[other].lie = Some(lie);
                    lying += 1;
                }
                (false, _) => {}
            }
            self.machines[one].lie = Some(lie);
            lying += 1;
        }
        self
    }

    /// Of whom a machine that invents an edge says that it calls it: who agreed to say the same, or
    /// somebody who knows nothing of it.
    #[must_use]
    pub fn victim(&self, index: usize) -> Option<usize> {
        if let Some(accomplice) = self.machines[index].accomplice {
            return Some(accomplice);
        }
        let count = self.machines.len();
        let places = (0..count).map(|more| (index * 7919 + 13 + more) % count);
        let mut others = places.filter(|other| *other != index);
        others.find(|other| self.machines[*other].business.is_some())
    }
}

impl Fleet {
    /// Whether a machine tells nothing of the edge of that number, for its partner has the other end.
    #[must_use]
    pub fn hides(&self, index: usize, number: usize) -> bool {
        let machine = &self.machines[index];
        let hides = machine.lie == Some(Lie::HidesPartner);
        hides && machine.accomplice == peer(&self.links[number], index)
    }
}

/// The machine at the other end of a link of the fleet's own business.
fn peer(link: &Link, index: usize) -> Option<usize> {
    let Caller::Inside(client) = link.client else { return None };
    let (client, server) = (client.machine, link.server.machine);
    match (link.is_infrastructure, client == index, server == index) {
        (false, true, false) => Some(server),
        (false, false, true) => Some(client),
        _ => None,
    }
}
