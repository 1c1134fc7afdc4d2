//! Where the machines' own address translation sends the connections that they open: to the address of a
//! service answers a machine that another socket names.
//!
//! A connection that a sample shows is known by itself. What is only counted is known if all of it goes to one
//! place, as far as samples show; else it stays with the address that was asked for, and that is remarked.

use std::{collections::BTreeMap, net::SocketAddr};

use common::{
    id::VmId,
    sample::{Direction, Protocol},
};

use super::{JoinedMachine, SIGHTINGS_NEEDED};
use crate::window::{ConnectionSpan, GuestWindow, SamplingWindow};

/// What was asked for, by whom.
type Asked<'a> = (&'a VmId, Protocol, SocketAddr);

/// Where the connections to one address went.
#[derive(Debug, Default)]
struct Reached {
    /// Connections that samples show, by where they went; `None` where that was not told.
    shown: BTreeMap<Option<SocketAddr>, u64>,
    /// Connections that were counted.
    counted: u64,
}

/// Where the connections went that addresses were translated of.
#[derive(Debug, Default)]
pub(super) struct Translations<'a>(BTreeMap<Asked<'a>, Reached>);

/// Where a counted connection leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// Where it was asked to.
    AsAsked,
    /// There.
    To(SocketAddr),
    /// Somewhere else, and nobody can say where.
    Nobody,
}

impl<'a> Translations<'a> {
    pub(super) fn of(
        window: &'a SamplingWindow,
        machines: &BTreeMap<VmId, JoinedMachine>,
        remarks: &mut Vec<String>,
    ) -> Self {
        let mut translations = Self::default();
        for (vm, guest) in &window.guests {
            if machines.get(vm).is_some_and(|machine| !machine.on_trial) {
                translations.take(vm, guest);
            }
        }
        translations.0.retain(|_, reached| reached.shown.keys().any(Option::is_some));
        for ((vm, _, asked), reached) in &translations.0 {
            if reached.leads() == Leads::Nobody && reached.counted > 0 {
                let name = machines.get(*vm).map_or(vm.as_str(), |machine| machine.name.as_str());
                remarks.push(format!(
                    "{} connections of {name} stay with {asked}: the machine translates that address, and \
                     it is not known to which other each went",
                    reached.counted
                ));
            }
        }
        translations
    }

    fn take(&mut self, vm: &'a VmId, guest: &GuestWindow) {
        for (key, spans) in &guest.connections {
            let Some(remote) = key.remote else { continue };
            for span in spans.iter().filter(|span| span.direction != Direction::Inbound) {
                let reached = self.0.entry((vm, key.protocol, remote)).or_default();
                *reached.shown.entry(span.translated).or_default() += 1;
            }
        }
        for (key, flow) in &guest.flows {
            let asked = (vm, key.protocol, SocketAddr::new(key.remote, key.port));
            if let Some(reached) =
                self.0.get_mut(&asked).filter(|_| key.direction != Direction::Inbound)
            {
                reached.counted = reached.counted.saturating_add(flow.opened);
            }
        }
    }

    /// Where what `vm` counted to an address leads.
    pub(super) fn of_counted(&self, vm: &VmId, protocol: Protocol, asked: SocketAddr) -> Leads {
        self.0.get(&(vm, protocol, asked)).map_or(Leads::AsAsked, Reached::leads)
    }
}

impl Reached {
    fn leads(&self) -> Leads {
        let shown: u64 = self.shown.values().sum();
        let is_enough = shown >= self.counted || shown >= SIGHTINGS_NEEDED;
        match self.shown.first_key_value() {
            Some((Some(only), _)) if self.shown.len() == 1 && is_enough => Leads::To(*only),
            _ => Leads::Nobody,
        }
    }
}

/// The far end of connections that followed each other on the same ends; that which was asked for, unless all
/// of them went to the same other.
pub(super) fn far_end(asked: SocketAddr, spans: &[ConnectionSpan]) -> SocketAddr {
    let mut reached = spans.iter().map(|span| span.translated);
    let first = reached.next().flatten();
    first.filter(|first| reached.all(|other| other == Some(*first))).unwrap_or(asked)
}
