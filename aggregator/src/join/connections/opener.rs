//! Tells who opened a connection, from what both ends say of it.

use std::{cmp::Ordering, collections::BTreeSet, net::SocketAddr};

use common::sample::Direction;

use super::{Ends, Merger, View};
use crate::join::flows::EPHEMERAL_FROM;

impl View<'_> {
    fn direction(&self) -> Direction {
        // A listener is positive evidence, and may have been there for a part of the window only.
        if self.spans.iter().any(|span| span.direction == Direction::Inbound) {
            return Direction::Inbound;
        }
        self.spans.last().map_or(Direction::Unknown, |span| span.direction)
    }
}

impl<'a> Merger<'a> {
    /// Who opened it and who answered; `None` if that would be a guess.
    pub(super) fn orient(&self, both: &[(Ends<'a>, View<'a>)]) -> Option<(SocketAddr, SocketAddr)> {
        let (ends, _) = both.first()?;
        let (low, high) = (ends.low, ends.high);
        let told = |direction| {
            both.iter().map(|(_, view)| view).filter(move |view| view.direction() == direction)
        };
        let answered: BTreeSet<_> = told(Direction::Inbound).map(|view| view.local).collect();
        let called: BTreeSet<_> = told(Direction::Outbound).map(|view| view.remote).collect();
        let server = match (answered.len(), called.len()) {
            // Both ends listen on their ports: the lower one is the older custom.
            (2, _) => {
                if low.port() <= high.port() {
                    low
                } else {
                    high
                }
            }
            (1, _) => *answered.first()?,
            (0, 1) if self.may_serve(both, *called.first()?) => *called.first()?,
            _ => self.listener(both, low, high)?,
        };
        Some(if server == low { (high, low) } else { (low, high) })
    }

    /// An ephemeral port never names an edge, unless somebody listens on it or the other one is
    /// ephemeral too: the listener of a long connection may be gone.
    fn may_serve(&self, both: &[(Ends<'a>, View<'a>)], server: SocketAddr) -> bool {
        let Some((ends, _)) = both.first() else { return false };
        let client = if ends.low == server { ends.high } else { ends.low };
        server.port() < EPHEMERAL_FROM
            || client.port() >= EPHEMERAL_FROM
            || self.listens(both, server)
    }

    fn listener(
        &self,
        both: &[(Ends<'a>, View<'a>)],
        low: SocketAddr,
        high: SocketAddr,
    ) -> Option<SocketAddr> {
        let is_low = (self.listens(both, low), low.port() < EPHEMERAL_FROM);
        let is_high = (self.listens(both, high), high.port() < EPHEMERAL_FROM);
        match is_low.cmp(&is_high) {
            Ordering::Greater => Some(low),
            Ordering::Less => Some(high),
            Ordering::Equal => None,
        }
    }

    fn listens(&self, both: &[(Ends<'a>, View<'a>)], address: SocketAddr) -> bool {
        let Some((_, view)) = both.first() else { return false };
        let owner = self.owners.owner(view.vm, address.ip());
        let machine = owner.and_then(|vm| self.machines.get(vm));
        machine.is_some_and(|machine| {
            machine.applications.values().any(|used| used.listens.contains(&address.port()))
        })
    }
}
