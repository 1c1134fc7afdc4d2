//! What simulated agents send: tables of the size of a busy guest's.

use common::{
    clock::{Clock as _, SystemClock},
    mix::ApplicationMix,
    wire::{
        agent::v1::{AttachRequest, attach_request},
        types::v1,
    },
};
use prost::Message as _;

/// How large samples are.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Rows of the connection table.
    pub rows: usize,
    /// Rows that change from sample to sample.
    pub changed: usize,
}

/// The facts of a simulated guest.
pub(super) fn facts(vm: &str) -> v1::Facts {
    v1::Facts {
        product_uuid: vm.to_owned(),
        machine_id: vm.replace('-', ""),
        boot_id: vm.to_owned(),
        hostname: format!("guest-{}", &vm[..8.min(vm.len())]),
        operating_system: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0".into(),
        architecture: "x86_64".into(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        booted_at_unix_ms: 1_700_000_000_000,
        services_source: "simulated".into(),
        connections_source: "simulated".into(),
        ..v1::Facts::default()
    }
}

/// The mix of a simulated guest.
pub(super) fn mix() -> v1::EffectiveMix {
    let hash = ApplicationMix::default().hash().0.to_vec();
    v1::EffectiveMix { hash, ..v1::EffectiveMix::default() }
}

fn now_ms() -> u64 {
    SystemClock.now().as_millis()
}

fn connection(row: usize, sequence: u64) -> v1::Connection {
    let key = v1::ConnectionKey {
        protocol: v1::Protocol::Tcp.into(),
        local: format!("10.0.0.1:{}", 30_000 + row),
        remote: format!("10.0.{}.{}:8080", row / 200, row % 200 + 2),
    };
    v1::Connection {
        key: Some(key),
        state: v1::ConnectionState::Established.into(),
        direction: v1::Direction::Outbound.into(),
        application: "web".into(),
        process_id: 1234,
        process_started_at_unix_ms: 1_700_000_000_000,
        first_seen_at_unix_ms: 1_700_000_000_000,
        bytes_sent: Some(sequence * 1000 + row as u64),
        bytes_received: Some(sequence * 3000 + row as u64),
        user_id: Some(33),
        inode: Some(50_000 + row as u64),
        transport: Some(v1::Transport {
            bytes_acknowledged: sequence * 1000 + row as u64,
            segments_sent: sequence * 3,
            segments_received: sequence * 3,
            data_segments_sent: sequence,
            data_segments_received: sequence * 2,
            segments_retransmitted: 0,
            round_trip_us: Some(420),
            last_sent_after_first_seen_ms: Some(5_000),
            last_received_after_first_seen_ms: Some(5_001),
        }),
        ..v1::Connection::default()
    }
}

/// One edge of every so many connections.
const CONNECTIONS_OF_EDGE: usize = 20;

fn flow(row: usize, sequence: u64) -> v1::Flow {
    let key = v1::FlowKey {
        protocol: v1::Protocol::Tcp.into(),
        direction: v1::Direction::Outbound.into(),
        local: "10.0.0.1".into(),
        remote: format!("10.0.{}.{}", row / 200, row % 200 + 2),
        port: 8080,
        application: "web".into(),
    };
    v1::Flow {
        key: Some(key),
        opened: sequence * 3,
        closed: sequence * 3 - sequence.min(3),
        reset: 0,
        failed: 0,
        bytes_sent: Some(sequence * 30_000),
        bytes_received: Some(sequence * 90_000),
        data_segments_sent: Some(sequence * 30),
        data_segments_received: Some(sequence * 60),
        segments_retransmitted: Some(0),
    }
}

/// Of ten looks between two samples.
fn sketch() -> v1::Sketch {
    v1::Sketch { zeros: 2, bin_steps: vec![90, 7, 3, 12], counts: vec![3, 2, 2, 1] }
}

fn application(name: &str, sequence: u64) -> v1::ApplicationUse {
    v1::ApplicationUse {
        application: name.into(),
        listed: true,
        processes: 1,
        cpu_time_ms: sequence * 10,
        peak_cpu_millicores: 20,
        resident_bytes: 50 << 20,
        peak_resident_bytes: 51 << 20,
        accounting: v1::Accounting::Cgroup2.into(),
        working_set_bytes: Some(48 << 20),
        devices: vec![v1::DeviceUse {
            device: "vda".into(),
            writes: sequence * 4,
            written_bytes: sequence * 16_384,
            ..v1::DeviceUse::default()
        }],
        cpu_quantiles: Some(sketch()),
        memory_quantiles: Some(sketch()),
        ..v1::ApplicationUse::default()
    }
}

/// A sample, and how many bytes it has.
pub(super) fn sample(
    vm: &str,
    epoch: u64,
    sequence: u64,
    full: bool,
    shape: Shape,
) -> (AttachRequest, u64) {
    let rows = if full { shape.rows } else { shape.changed };
    let now = now_ms();
    let sample = v1::Sample {
        epoch,
        sequence,
        taken_at_unix_ms: i64::try_from(now).unwrap_or(i64::MAX),
        monotonic_ms: now,
        full,
        connections: Some(v1::ConnectionTable {
            upserted: (0..rows).map(|row| connection(row, sequence)).collect(),
            removed: Vec::new(),
        }),
        flows: Some(v1::FlowTable {
            upserted: (0..rows.div_ceil(CONNECTIONS_OF_EDGE))
                .map(|row| flow(row, sequence))
                .collect(),
            removed: Vec::new(),
        }),
        coverage: Some(v1::Coverage {
            reader: v1::ConnectionReader::SocketDiagnosis.into(),
            ends_are_told: true,
            due: Some(sequence * 150),
            seen: sequence * 150,
            attributed: sequence * 150,
            ..v1::Coverage::default()
        }),
        applications: ["api", "store", "web"]
            .into_iter()
            .map(|name| application(name, sequence))
            .collect(),
        counters: Some(v1::Counters {
            cpu_busy_ms: Some(sequence * 40),
            cpus: Some(2),
            memory_total_bytes: Some(1 << 30),
            memory_available_bytes: Some(700 << 20),
            ..v1::Counters::default()
        }),
        facts: full.then(|| facts(vm)),
        mix: full.then(mix),
        ..v1::Sample::default()
    };
    let bytes = sample.encoded_len() as u64;
    (AttachRequest { message: Some(attach_request::Message::Sample(sample)) }, bytes)
}
