//! From which address this machine speaks to a far one. Of a connection that is cut off from this side the
//! kernel forgets it before it tells the end.

use std::{collections::BTreeSet, net::IpAddr};

use ahash::HashMap;
use common::sample::ConnectionKey;

/// Most far addresses remembered.
const MAX_FAR: usize = 16_384;

/// Own addresses seen in use.
#[derive(Debug, Default)]
pub(super) struct NearEnds {
    by_far: HashMap<IpAddr, IpAddr>,
    own: BTreeSet<IpAddr>,
}

impl NearEnds {
    /// Takes in a connection whose ends are known.
    pub(super) fn note(&mut self, key: &ConnectionKey) {
        let Some(far) = key.remote.map(|remote| remote.ip()) else { return };
        let near = key.local.ip();
        if near.is_unspecified() || far.is_unspecified() || self.by_far.get(&far) == Some(&near) {
            return;
        }
        if self.by_far.len() < MAX_FAR || self.by_far.contains_key(&far) {
            self.by_far.insert(far, near);
        }
        if !near.is_loopback() {
            self.own.insert(near);
        }
    }

    /// The address that `far` is spoken to from: as it was before, or the only one there is.
    pub(super) fn of(&self, far: IpAddr) -> Option<IpAddr> {
        let known = self.by_far.get(&far).copied();
        known.or_else(|| {
            let mut of_kind = self.own.iter().filter(|own| own.is_ipv4() == far.is_ipv4());
            of_kind.next().copied().filter(|_| of_kind.next().is_none() && !far.is_loopback())
        })
    }
}

#[cfg(test)]
mod tests {
    use common::sample::Protocol;

    use super::*;

    fn key(local: &str, remote: &str) -> ConnectionKey {
        let (local, remote) = (local.parse().unwrap(), Some(remote.parse().unwrap()));
        ConnectionKey { protocol: Protocol::Tcp, local, remote }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_far_end_is_spoken_to_from_where_it_was_before() {
        let mut near = NearEnds::default();
        near.note(&key("10.0.0.1:40000", "10.0.0.9:80"));
        near.note(&key("10.1.0.1:40000", "10.1.0.9:80"));
        near.note(&key("0.0.0.0:40000", "10.1.0.9:0"));
        assert_eq!(near.of(address("10.1.0.9")), Some(address("10.1.0.1")));
        assert_eq!(near.of(address("10.2.0.9")), None, "either of two would be a guess");
    }

    #[test]
    fn the_only_own_address_is_the_one_and_loopback_is_none() {
        let mut near = NearEnds::default();
        near.note(&key("127.0.0.1:40000", "127.0.0.1:80"));
        assert_eq!(near.of(address("10.0.0.9")), None);
        near.note(&key("10.0.0.1:40000", "10.0.0.9:80"));
        assert_eq!(near.of(address("10.0.0.8")), Some(address("10.0.0.1")));
        assert_eq!(near.of(address("2001:db8::1")), None);
    }
}
