//! A set of connection states. There is one per connection and window, so it is a number.

use common::sample::ConnectionState;

/// The states a connection was seen in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct States(u16);

impl States {
    pub(super) const fn insert(&mut self, state: ConnectionState) {
        self.0 |= bit(state);
    }

    /// Whether one of them is among `others`.
    #[must_use]
    pub fn meets(self, others: &[ConnectionState]) -> bool {
        self.0 & of(others) != 0
    }

    /// Whether all of them are among `others`.
    #[must_use]
    pub fn lies_within(self, others: &[ConnectionState]) -> bool {
        self.0 & !of(others) == 0
    }
}

const fn bit(state: ConnectionState) -> u16 {
    1 << state as u16
}

fn of(states: &[ConnectionState]) -> u16 {
    states.iter().fold(0, |set, state| set | bit(*state))
}

#[cfg(test)]
mod tests {
    use ConnectionState::{Established, Stateless, SynSent, TimeWait};

    use super::*;

    #[test]
    fn a_set_knows_what_was_put_into_it() {
        let mut states = States::default();
        states.insert(SynSent);
        states.insert(Stateless);
        assert!(states.meets(&[Established, Stateless]));
        assert!(!states.meets(&[Established, TimeWait]));
        assert!(states.lies_within(&[Stateless, TimeWait, SynSent]));
        assert!(!states.lies_within(&[Stateless]));
    }
}
