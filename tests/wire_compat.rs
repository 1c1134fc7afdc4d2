//! Holds the protocol to its past: bytes that an earlier version sent are read as they were meant.
//!
//! The fixtures are never written anew. A version that cannot read them is no v1 any more.

use std::net::SocketAddr;

use common::{
    clock::Timestamp,
    list::{Action, ConfigurationList, Form},
    mix::EffectiveMix,
    sample::{
        ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Direction, Facts,
        Holder, ProcessKey, Protocol, Sample, SampleId, TableDelta,
    },
    units::{Bytes, Millicores},
    wire::{
        agent::v1::{AttachRequest, attach_request},
        types::v1,
    },
};
use prost::Message as _;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What stands in `sample-v1.hex`.
fn sample() -> Sample {
    let key = ConnectionKey {
        protocol: Protocol::Tcp,
        local: address("10.0.0.5:41000"),
        remote: Some(address("[2001:db8::1]:23")),
    };
    let process = ProcessKey { pid: 812, started_at: Timestamp::from_millis(1_800_000_000_000) };
    let holder = Holder::Process { process, application: Some("web".parse().unwrap()) };
    let connection = Connection {
        state: ConnectionState::Established,
        direction: Direction::Outbound,
        holder,
        first_seen: Timestamp::from_millis(1_800_000_001_000),
        sent: Some(Bytes(1200)),
        received: None,
    };
    let used = ApplicationUse {
        listed: true,
        processes: 2,
        cpu_ms: 420,
        peak_cpu: Millicores(250),
        resident: Bytes::mebi(40),
        peak_resident: Bytes::mebi(44),
        listening_ports: vec![80, 443],
        ..ApplicationUse::default()
    };
    let facts = Facts {
        product_uuid: Some("4c4c4544-0042-3510-8054-b7c04f4a3132".into()),
        hostname: "web-1".into(),
        booted_at: Timestamp::from_millis(1_799_999_000_000),
        ..Facts::default()
    };
    Sample {
        id: SampleId { epoch: 3, sequence: 17 },
        taken_at: Timestamp::from_millis(1_800_000_002_000),
        monotonic_ms: 99_000,
        full: true,
        connections: TableDelta { upserted: vec![(key, connection)], removed: Vec::new() },
        applications: [("web".parse().unwrap(), used)].into(),
        counters: Counters { cpus: Some(2), swap_used: Some(Bytes(0)), ..Counters::default() },
        facts: Some(facts),
        mix: Some(EffectiveMix::default()),
        ..Sample::default()
    }
}

fn fixture(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn read(bytes: &[u8]) -> Sample {
    let request = AttachRequest::decode(bytes).unwrap();
    let Some(attach_request::Message::Sample(sample)) = request.message else {
        panic!("it is no sample");
    };
    Sample::try_from(sample).unwrap()
}

#[test]
fn a_sample_of_the_first_version_is_read_as_it_was_meant() {
    assert_eq!(read(&fixture(include_str!("fixtures/sample-v1.hex"))), sample());
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut bytes = v1::Sample::from(&sample()).encode_to_vec();
    // Field 2000 of a version to come, a text.
    bytes.extend([0x82, 0x7d, 5, b'l', b'a', b't', b'e', b'r']);
    let later = v1::Sample::decode(bytes.as_slice()).unwrap();
    assert_eq!(Sample::try_from(later).unwrap(), sample());
}

#[test]
fn a_list_of_the_first_version_is_read_as_it_was_meant() {
    let list: ConfigurationList = toml::from_str(include_str!("fixtures/list-v1.toml")).unwrap();
    assert_eq!((list.generation, list.form), (4, Form::Delta));
    let [added] = list.applications.as_slice() else { panic!("it lists one application") };
    assert_eq!((added.name.as_str(), added.action), ("report", Action::Add));
    assert_eq!(added.settings["every_ms"], "2000");
    assert_eq!(list.baseline.unwrap().memory, Some(Bytes::mebi(256)));
}
