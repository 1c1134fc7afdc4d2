//! Makes a sample fit into a message. A guest with more connections than fit is told with fewer,
//! and the facts say how many were left out; it is never not told.

use common::{
    sample::{Connection, ConnectionKey, ConnectionState, Observation},
    wire::{LARGEST_MESSAGE, types::v1},
};
use prost::Message as _;

/// Room for what stands around a sample in a message.
const MARGIN: usize = 4 << 10;
/// What is left out is said under this name.
const LEFT_OUT: &str = "connections_left_out_of_samples";

/// The observation as far as it fits, and the sample of it.
pub(super) fn fitting(
    mut observation: Observation,
    sample_of: impl Fn(&Observation) -> v1::Sample,
) -> (Observation, v1::Sample) {
    let all = observation.connections.len();
    loop {
        let sample = sample_of(&observation);
        let size = sample.encoded_len();
        let rows = observation.connections.len();
        if size <= LARGEST_MESSAGE - MARGIN || rows == 0 {
            return (observation, sample);
        }
        // A tenth less than what would just fit: rows are not of one length.
        let kept = (rows * (LARGEST_MESSAGE - MARGIN) / size * 9 / 10).min(rows - 1);
        keep(&mut observation, kept);
        let note = format!("{} of {all}", all - kept);
        observation.facts.other.insert(LEFT_OUT.to_owned(), note);
    }
}

/// Keeps the rows that say most: listeners, then what is established, then the rest.
fn keep(observation: &mut Observation, kept: usize) {
    let rank = |row: &Connection| match row.state {
        ConnectionState::Listen => 0,
        ConnectionState::Established | ConnectionState::Stateless => 1,
        ConnectionState::CloseWait => 2,
        _ => 3,
    };
    let rows = std::mem::take(&mut observation.connections);
    let mut rows: Vec<(ConnectionKey, Connection)> = rows.into_iter().collect();
    rows.sort_by_key(|(key, row)| (rank(row), *key));
    rows.truncate(kept);
    observation.connections = rows.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use common::{
        clock::Timestamp,
        delta::{self, Stamp},
        sample::{Direction, Holder, Protocol},
    };

    use super::*;

    fn with_connections(count: u32) -> Observation {
        let rows = (0..count).map(|n| {
            let [_, high, middle, low] = n.to_be_bytes();
            let local = ([10, high, middle, low], 443).into();
            let remote = Some(([10, 9, middle, low], 50_000).into());
            let state =
                if n == count - 1 { ConnectionState::Listen } else { ConnectionState::TimeWait };
            let row = Connection {
                state,
                direction: Direction::Inbound,
                holder: Holder::Unknown { reason: "it has no process".into(), application: None },
                first_seen: Timestamp::from_millis(1_800_000_000_000),
                sent: None,
                received: None,
            };
            (ConnectionKey { protocol: Protocol::Tcp, local, remote }, row)
        });
        Observation { connections: rows.collect(), ..Observation::default() }
    }

    fn full(observation: &Observation) -> v1::Sample {
        (&delta::between(None, observation, Stamp::default())).into()
    }

    #[test]
    fn an_ordinary_guest_is_told_whole() {
        let observation = with_connections(2_000);
        assert_eq!(fitting(observation.clone(), full).0, observation);
    }

    #[test]
    fn a_guest_that_does_not_fit_is_told_in_part_and_says_so() {
        let (observation, sample) = fitting(with_connections(40_000), full);
        assert!(sample.encoded_len() <= LARGEST_MESSAGE - MARGIN);
        assert!(observation.connections.len() > 5_000, "{}", observation.connections.len());
        assert!(observation.connections.values().any(|row| row.state == ConnectionState::Listen));
        let left_out = 40_000 - observation.connections.len();
        assert_eq!(observation.facts.other[LEFT_OUT], format!("{left_out} of 40000"));
    }
}
