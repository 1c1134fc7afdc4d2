//! How many connections there are, and from where. A place is held until it is dropped.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use super::Limits;

/// The places of one port.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    source: IpAddr,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place, or the name of what stands against it.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr) -> Result<Place, &'static str> {
        let source = network(source);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.limits.connections {
            return Err("connections_at_cap");
        }
        let of_source = taken.by_source.entry(source).or_default();
        if *of_source >= self.limits.per_source {
            return Err("source_at_cap");
        }
        *of_source += 1;
        taken.all += 1;
        Ok(Place { room: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_source) = taken.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: a machine has one IPv4 address and a whole IPv6 network of 64 bits.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(connections: usize, per_source: usize) -> Arc<Room> {
        Room::new(Limits { connections, per_source })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_once_it_is_left() {
        let room = room(1, 1);
        let place = room.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(room.enter(ip("10.0.0.2")).unwrap_err(), "connections_at_cap");
        drop(place);
        assert!(room.enter(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn one_source_does_not_take_the_room_of_others() {
        let room = room(10, 1);
        let _place = room.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(room.enter(ip("10.0.0.1")).unwrap_err(), "source_at_cap");
        assert_eq!(room.enter(ip("::ffff:10.0.0.1")).unwrap_err(), "source_at_cap");
        assert!(room.enter(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let room = room(10, 1);
        let _place = room.enter(ip("2001:db8::1")).unwrap();
        assert_eq!(room.enter(ip("2001:db8::2")).unwrap_err(), "source_at_cap");
        assert!(room.enter(ip("2001:db8:0:1::1")).is_ok());
    }
}
