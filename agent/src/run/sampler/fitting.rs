//! Makes a sample fit into a message. A guest with more connections or processes than fit is told with
//! fewer, and the facts say how many were left out; it is never not told. Software comes last: what does not
//! fit goes with the next sample.

use common::{
    sample::{
        Connection, ConnectionKey, ConnectionState, Observation, Process, ProcessKey, SoftwareDelta,
    },
    wire::{LARGEST_MESSAGE, types::v1},
};
use prost::Message as _;

use super::software;

/// Room for what stands around a sample in a message.
const MARGIN: usize = 4 << 10;
/// Most that a sample may have.
const LARGEST: usize = LARGEST_MESSAGE - MARGIN;
/// Kept free for software that is due, so that a guest that is always busy tells it in the end. The largest row
/// has room in it.
const FOR_SOFTWARE: usize = LARGEST_MESSAGE / 8;

/// What is left out is said under these names.
const CONNECTIONS: &str = "connections_left_out_of_samples";
const PROCESSES: &str = "processes_left_out_of_samples";
const ARGUMENTS: &str = "arguments_left_out_of_samples";

/// What fits.
pub(super) struct Fitting {
    /// The observation as far as it fits.
    pub(super) observation: Observation,
    /// The changes of the software that fit; `None` if there are none.
    pub(super) software: Option<SoftwareDelta>,
    /// The sample of both.
    pub(super) sample: v1::Sample,
}

/// Makes a sample of as much as fits.
pub(super) fn fitting(
    observation: Observation,
    due: Option<SoftwareDelta>,
    sample_of: impl Fn(&Observation, Option<&SoftwareDelta>) -> v1::Sample,
) -> Fitting {
    let reserved = due.as_ref().map_or(0, |due| software::size(due).min(FOR_SOFTWARE));
    let (observation, sample) =
        trimmed(observation, LARGEST - reserved, |seen| sample_of(seen, None));
    let Some(mut due) = due else { return Fitting { observation, software: None, sample } };
    let mut room = LARGEST.saturating_sub(sample.encoded_len());
    loop {
        due = software::cut(due, room);
        let whole = sample_of(&observation, Some(&due));
        if whole.encoded_len() <= LARGEST {
            return Fitting { observation, software: Some(due), sample: whole };
        }
        if software::size(&due) == 0 {
            return Fitting { observation, software: None, sample };
        }
        // Sizes are estimates: half of what nearly fits does.
        room = software::size(&due) / 2;
    }
}

/// Leaves rows out until the sample has no more than `largest` bytes. The table that takes most gives way.
fn trimmed(
    mut observation: Observation,
    largest: usize,
    sample_of: impl Fn(&Observation) -> v1::Sample,
) -> (Observation, v1::Sample) {
    let (connections, processes) = (observation.connections.len(), observation.processes.len());
    loop {
        let sample = sample_of(&observation);
        let excess = sample.encoded_len().saturating_sub(largest);
        let rows = (observation.connections.len(), observation.processes.len());
        if excess == 0 || rows == (0, 0) {
            return (observation, sample);
        }
        let of_connections = sample.connections.as_ref().map_or(0, prost::Message::encoded_len);
        let of_processes = sample.processes.as_ref().map_or(0, prost::Message::encoded_len);
        let other = &mut observation.facts.other;
        if rows.1 == 0 || (rows.0 > 0 && of_connections >= of_processes) {
            let kept = fewer(rows.0, of_connections, excess);
            other
                .insert(CONNECTIONS.to_owned(), format!("{} of {connections}", connections - kept));
            keep_connections(&mut observation, kept);
        } else if observation.processes.values().any(|row| row.arguments.is_some()) {
            other.insert(ARGUMENTS.to_owned(), format!("those of all {processes} processes"));
            observation.processes.values_mut().for_each(|row| row.arguments = None);
        } else {
            let kept = fewer(rows.1, of_processes, excess);
            other.insert(PROCESSES.to_owned(), format!("{} of {processes}", processes - kept));
            keep_processes(&mut observation, kept);
        }
    }
}

/// How many rows of a table to keep so that it takes `excess` bytes less, and a tenth of the rows to spare:
/// rows are not of one length.
fn fewer(rows: usize, size: usize, excess: usize) -> usize {
    let kept = rows * size.saturating_sub(excess) / size.max(1) * 9 / 10;
    kept.min(rows.saturating_sub(1))
}

/// Keeps the rows that say most: listeners, then what is established, then the rest.
fn keep_connections(observation: &mut Observation, kept: usize) {
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

/// Keeps the processes that cost most: CPU so far, then memory.
fn keep_processes(observation: &mut Observation, kept: usize) {
    let rows = std::mem::take(&mut observation.processes);
    let mut rows: Vec<(ProcessKey, Process)> = rows.into_iter().collect();
    rows.sort_by_key(|(key, row)| (std::cmp::Reverse((row.cpu_ms, row.resident)), *key));
    rows.truncate(kept);
    observation.processes = rows.into_iter().collect();
}

#[cfg(test)]
mod tests {
    use common::{
        clock::Timestamp,
        delta::{self, Stamp},
        sample::{
            Direction, Holder, Package, PackageKey, PackageManager, Protocol, Sample, Software,
        },
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
                user: None,
                inode: None,
                translated: None,
                transport: None,
            };
            (ConnectionKey { protocol: Protocol::Tcp, local, remote }, row)
        });
        Observation { connections: rows.collect(), ..Observation::default() }
    }

    fn full(observation: &Observation, software: Option<&SoftwareDelta>) -> v1::Sample {
        let sample = delta::between(None, observation, Stamp::default());
        (&Sample { software: software.cloned(), ..sample }).into()
    }

    fn with_processes(count: u32, arguments: Option<Vec<String>>) -> Observation {
        let rows = (0..count).map(|pid| {
            let row = Process {
                parent: 1,
                name: "worker".into(),
                executable: Some("/usr/lib/worker/bin/worker".into()),
                user: 0,
                unit: None,
                application: None,
                cpu_ms: u64::from(pid),
                resident: common::units::Bytes(0),
                read: None,
                written: None,
                reads: None,
                writes: None,
                arguments: arguments.clone(),
            };
            (ProcessKey { pid, started_at: Timestamp::from_millis(1_800_000_000_000) }, row)
        });
        Observation { processes: rows.collect(), ..Observation::default() }
    }

    #[test]
    fn an_ordinary_guest_is_told_whole() {
        let observation = with_connections(2_000);
        assert_eq!(fitting(observation.clone(), None, full).observation, observation);
    }

    #[test]
    fn a_guest_that_does_not_fit_is_told_in_part_and_says_so() {
        let Fitting { observation, sample, .. } = fitting(with_connections(40_000), None, full);
        assert!(sample.encoded_len() <= LARGEST);
        assert!(observation.connections.len() > 5_000, "{}", observation.connections.len());
        assert!(observation.connections.values().any(|row| row.state == ConnectionState::Listen));
        let left_out = 40_000 - observation.connections.len();
        assert_eq!(observation.facts.other[CONNECTIONS], format!("{left_out} of 40000"));
    }

    #[test]
    fn too_many_processes_cost_the_idle_ones_and_no_connection() {
        let connections = with_connections(1_000).connections;
        let busy = Observation { connections, ..with_processes(30_000, None) };

        let Fitting { observation, sample, .. } = fitting(busy, None, full);

        assert!(sample.encoded_len() <= LARGEST);
        assert_eq!(observation.connections.len(), 1_000);
        assert!(observation.processes.len() > 5_000, "{}", observation.processes.len());
        assert!(observation.processes.values().any(|row| row.cpu_ms == 29_999));
        let left_out = 30_000 - observation.processes.len();
        assert_eq!(observation.facts.other[PROCESSES], format!("{left_out} of 30000"));
    }

    #[test]
    fn software_takes_the_room_that_is_left_and_an_eighth_at_least() {
        let keys = (0..20_000).map(|n| PackageKey {
            manager: PackageManager::Dpkg,
            name: format!("a-package-with-a-rather-long-name-{n}"),
            architecture: "amd64".into(),
        });
        let packages = keys.map(|key| (key, Package::default())).collect();
        let known = Software { packages, ..Software::default() };
        let due = delta::of_software(None, &known);

        let Fitting { observation, software, sample } =
            fitting(with_connections(40_000), due, full);

        let software = software.unwrap();
        assert!(sample.encoded_len() <= LARGEST);
        assert!(software.full && software.packages.upserted.len() > 1_000);
        assert!(observation.connections.len() > 5_000);
    }
}
