//! Holds the protocol to its past: bytes that an earlier version sent are read as they were meant.
//!
//! The fixtures are never written anew. A version that cannot read them is no v1 any more.

use std::net::SocketAddr;

use common::{
    clock::Timestamp,
    list::{Action, ConfigurationList, Form},
    mix::EffectiveMix,
    sample::{
        Accounting, AgentUse, ApplicationUse, BlockDevice, ConfigurationFile, Connection,
        ConnectionKey, ConnectionReader, ConnectionState, Counters, Coverage, DeviceUse, Direction,
        DiskCounters, Facts, Flow, FlowKey, Holder, Package, PackageKey, PackageManager,
        ProcessKey, Protocol, Sample, SampleId, SoftwareDelta, TableDelta, Transport,
    },
    sketch::Sketch,
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
        user: None,
        inode: None,
        translated: None,
        transport: None,
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

/// What stands in `sample-v1-flows.hex`: what the second version added, beside what was there.
fn sample_with_flows() -> Sample {
    let first = sample();
    let (key, row) = first.connections.upserted[0].clone();
    let holder = Holder::Group {
        group: "web.service".into(),
        application: row.holder.application().cloned(),
    };
    let transport = Transport {
        acknowledged: Bytes(1200),
        data_segments_sent: 3,
        round_trip_us: Some(420),
        last_sent: Some(Timestamp::from_millis(1_800_000_001_900)),
        ..Transport::default()
    };
    let row = Connection {
        holder,
        user: Some(33),
        inode: Some(71_512),
        translated: Some(address("10.9.0.1:2323")),
        transport: Some(transport),
        ..row
    };
    let applications = first.applications.clone().into_iter();
    Sample {
        connections: TableDelta { upserted: vec![(key, row)], removed: Vec::new() },
        flows: TableDelta { upserted: vec![flow()], removed: Vec::new() },
        coverage: Some(Coverage {
            reader: ConnectionReader::SocketDiagnosis,
            ends_are_told: true,
            due: Some(40),
            seen: 40,
            attributed: 39,
            ..Coverage::default()
        }),
        applications: applications.map(|(name, used)| (name, with_accounts(used))).collect(),
        counters: Counters {
            disks: [("vda".to_owned(), DiskCounters { reads: 7, ..Default::default() })].into(),
            page_cache: Some(Bytes::mebi(300)),
            ..first.counters.clone()
        },
        facts: first.facts.clone().map(|facts| Facts {
            block_devices: vec![BlockDevice { name: "vda".into(), ..BlockDevice::default() }],
            run_level: Some("multi-user.target".into()),
            ..facts
        }),
        agent: Some(AgentUse { cpu_limit: Some(Millicores(20)), ..AgentUse::default() }),
        software: Some(software()),
        ..first
    }
}

fn flow() -> (FlowKey, Flow) {
    let key = FlowKey {
        protocol: Protocol::Tcp,
        direction: Direction::Outbound,
        local: "10.0.0.5".parse().unwrap(),
        remote: "2001:db8::1".parse().unwrap(),
        port: 23,
        application: Some("web".parse().unwrap()),
    };
    let flow = Flow {
        opened: 40,
        closed: 39,
        failed: 2,
        sent: Some(Bytes(48_000)),
        data_segments_sent: Some(120),
        ..Flow::default()
    };
    (key, flow)
}

fn with_accounts(used: ApplicationUse) -> ApplicationUse {
    let mut cpu_quantiles = Sketch::default();
    [0, 40, 250, 250].into_iter().for_each(|cpu| cpu_quantiles.insert(cpu));
    let device = DeviceUse { writes: 3, written: Bytes(12_288), ..DeviceUse::default() };
    ApplicationUse {
        accounting: Accounting::Cgroup2,
        working_set: Some(Bytes::mebi(38)),
        devices: [("vda".to_owned(), device)].into(),
        cpu_quantiles,
        ..used
    }
}

fn software() -> SoftwareDelta {
    let bash = PackageKey {
        manager: PackageManager::Dpkg,
        name: "bash".into(),
        architecture: "amd64".into(),
    };
    let package = Package { version: "5.2.15-2".into(), ..Package::default() };
    let file = ConfigurationFile {
        size: Bytes(3),
        hash: Some([7; 32]),
        mode: 0o640,
        unchanged: Some(false),
        ..ConfigurationFile::default()
    };
    SoftwareDelta {
        full: true,
        packages: TableDelta { upserted: vec![(bash, package)], removed: Vec::new() },
        files: TableDelta { upserted: vec![("/etc/web".into(), file)], removed: Vec::new() },
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
fn a_sample_with_flows_is_read_as_it_was_meant() {
    let bytes = fixture(include_str!("fixtures/sample-v1-flows.hex"));
    assert_eq!(read(&bytes), sample_with_flows());
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
