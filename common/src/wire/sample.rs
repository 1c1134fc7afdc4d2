//! Samples, and what stands beside their tables.

use super::{
    BadMessage, agent, connections, counters,
    field::{Field, conversion, cut, millis},
    flows, guest, mix, rows, software,
    types::v1,
    usage,
};
use crate::sample::{Gap, Sample, SampleId};

conversion! {
    v1::Sample => Sample, sample;
    v1::Gap => Gap, gap;
    agent::v1::SampleId => SampleId, sample_id;
}

fn sample(wire: v1::Sample, field: &Field<'_>) -> Result<Sample, BadMessage> {
    let id = agent::v1::SampleId { epoch: wire.epoch, sequence: wire.sequence };
    let (processes, services) = (field.of("processes"), field.of("services"));
    let (facts, mix) = (field.of("facts"), field.of("mix"));
    let (coverage, agent) = (field.of("coverage"), field.of("agent"));
    let software = field.of("software");
    if wire.full {
        // A table that begins anew must say of what and of whom.
        facts.required(wire.facts.as_ref())?;
        mix.required(wire.mix.as_ref())?;
    }
    Ok(Sample {
        id: sample_id(id, field)?,
        taken_at: field.of("taken_at_unix_ms").time(wire.taken_at_unix_ms)?,
        monotonic_ms: wire.monotonic_ms,
        full: wire.full,
        connections: connections::connections(
            wire.connections.unwrap_or_default(),
            &field.of("connections"),
        )?,
        processes: rows::processes(wire.processes.unwrap_or_default(), &processes)?,
        services: rows::services(wire.services.unwrap_or_default(), &services)?,
        flows: flows::flows(wire.flows.unwrap_or_default(), &field.of("flows"))?,
        coverage: wire.coverage.map(|wire| flows::coverage(wire, &coverage)).transpose()?,
        applications: usage::applications(wire.applications, &field.of("applications"))?,
        counters: counters::counters(wire.counters.unwrap_or_default(), &field.of("counters"))?,
        facts: wire.facts.map(|wire| guest::facts(wire, &facts)).transpose()?,
        mix: wire.mix.map(|wire| mix::effective_mix(wire, &mix)).transpose()?,
        gaps: field.of("gaps").rows(wire.gaps, gap)?,
        agent: wire.agent.map(|wire| usage::agent_use(wire, &agent)).transpose()?,
        software: wire.software.map(|wire| software::software(wire, &software)).transpose()?,
    })
}

impl From<&Sample> for v1::Sample {
    fn from(sample: &Sample) -> Self {
        let connections = v1::ConnectionTable {
            upserted: sample.connections.upserted.iter().map(|(k, row)| (k, row).into()).collect(),
            removed: sample.connections.removed.iter().map(Into::into).collect(),
        };
        let flows = v1::FlowTable {
            upserted: sample.flows.upserted.iter().map(|(k, row)| (k, row).into()).collect(),
            removed: sample.flows.removed.iter().map(Into::into).collect(),
        };
        let processes = v1::ProcessTable {
            upserted: sample.processes.upserted.iter().map(|(k, row)| (k, row).into()).collect(),
            removed: sample.processes.removed.iter().map(Into::into).collect(),
        };
        let services = v1::ServiceTable {
            upserted: sample.services.upserted.iter().map(|(k, row)| (k, row).into()).collect(),
            removed: sample.services.removed.iter().map(|name| cut(name)).collect(),
        };
        Self {
            epoch: sample.id.epoch,
            sequence: sample.id.sequence,
            taken_at_unix_ms: millis(sample.taken_at),
            monotonic_ms: sample.monotonic_ms,
            full: sample.full,
            connections: Some(connections),
            processes: Some(processes),
            services: Some(services),
            applications: sample.applications.iter().map(Into::into).collect(),
            counters: Some((&sample.counters).into()),
            facts: sample.facts.as_ref().map(Into::into),
            mix: sample.mix.as_ref().map(Into::into),
            gaps: sample.gaps.iter().map(Into::into).collect(),
            flows: Some(flows),
            coverage: sample.coverage.as_ref().map(Into::into),
            agent: sample.agent.as_ref().map(Into::into),
            software: sample.software.as_ref().map(Into::into),
        }
    }
}

fn sample_id(wire: agent::v1::SampleId, field: &Field<'_>) -> Result<SampleId, BadMessage> {
    if wire.sequence == 0 {
        return Err(field.of("sequence").refuse(0, "count samples from 1"));
    }
    Ok(SampleId { epoch: wire.epoch, sequence: wire.sequence })
}

impl From<&SampleId> for agent::v1::SampleId {
    fn from(id: &SampleId) -> Self {
        Self { epoch: id.epoch, sequence: id.sequence }
    }
}

fn gap(wire: v1::Gap, field: &Field<'_>) -> Result<Gap, BadMessage> {
    let (from, to) = (field.of("from_unix_ms"), field.of("to_unix_ms"));
    let gap = Gap {
        from: from.time(wire.from_unix_ms)?,
        to: to.time(wire.to_unix_ms)?,
        samples: wire.samples,
        reason: field.of("reason").text(wire.reason)?,
    };
    if gap.to < gap.from {
        return Err(to.refuse(wire.to_unix_ms, "send an end that is not before the beginning"));
    }
    Ok(gap)
}

impl From<&Gap> for v1::Gap {
    fn from(gap: &Gap) -> Self {
        Self {
            from_unix_ms: millis(gap.from),
            to_unix_ms: millis(gap.to),
            samples: gap.samples,
            reason: cut(&gap.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;

    use super::*;
    use crate::{
        clock::Timestamp,
        delta::{self, Stamp},
        mix::{ApplicationMix, EffectiveMix, Setup},
        sample::{
            Accounting, AgentUse, ApplicationUse, BlockDevice, ConfigurationFile, Connection,
            ConnectionKey, ConnectionReader, ConnectionState, Counters, Coverage, DeviceUse,
            Direction, DiskCounters, Facts, FileSystem, Flow, FlowKey, Holder, Interface,
            InterfaceCounters, Observation, Package, PackageKey, PackageManager, PackageVersion,
            Process, ProcessKey, Protocol, ProtocolCounters, RemoteStorage, Route, Service,
            ServiceState, Software, Stalls, Supervisor, Transport,
        },
        sketch::Sketch,
        units::{Bytes, Millicores},
    };

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    fn facts() -> Facts {
        Facts {
            product_uuid: Some("u-1".into()),
            product_serial: Some("s".into()),
            machine_id: Some("m".into()),
            boot_id: Some("b".into()),
            hostname: "web-1".into(),
            operating_system: "Debian 12".into(),
            kernel: "6.1".into(),
            architecture: "x86_64".into(),
            agent_version: "0.1.0".into(),
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: Some("02:00:00:00:00:01".into()),
                addresses: vec!["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()],
                up: true,
            }],
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                gateway: Some("10.0.0.254".parse().unwrap()),
                interface: "eth0".into(),
                metric: 100,
            }],
            file_systems: vec![FileSystem {
                device: "/dev/vda1".into(),
                mount_point: "/".into(),
                kind: "ext4".into(),
                total: Bytes(100),
                available: Bytes(0),
            }],
            booted_at: at(0),
            services_source: "agent".into(),
            connections_source: "netlink".into(),
            other: [("k".to_owned(), "v".to_owned())].into(),
            block_devices: vec![BlockDevice {
                name: "vda".into(),
                size: Bytes(1 << 40),
                serial: Some("sn-1".into()),
                wwn: Some("0x5000".into()),
                model: Some("virtio".into()),
                bus: Some("0000:00:04.0".into()),
                rotational: Some(false),
            }],
            remote_storage: vec![RemoteStorage {
                kind: "nfs4".into(),
                server: "filer".into(),
                address: Some("10.0.0.9".parse().unwrap()),
                source: "/export".into(),
                place: "/srv".into(),
            }],
            run_level: Some("multi-user.target".into()),
        }
    }

    fn counters() -> Counters {
        let disk = DiskCounters {
            reads: 1,
            writes: 2,
            discards: 3,
            flushes: 4,
            read: Bytes(5),
            written: Bytes(6),
            busy_ms: 7,
            waited_ms: 8,
        };
        Counters {
            cpu_busy_ms: Some(1),
            cpus: Some(2),
            load_1_milli: Some(3),
            memory_total: Some(Bytes(4)),
            memory_available: Some(Bytes(5)),
            swap_used: Some(Bytes(0)),
            cpu_pressure_10: Some(7),
            memory_pressure_10: None,
            interfaces: [(
                "eth0".to_owned(),
                InterfaceCounters { received_bytes: 1, errors: 7, ..Default::default() },
            )]
            .into(),
            protocols: Some(ProtocolCounters {
                tcp_resets: 9,
                ip_packets_received: Some(1),
                ip_packets_sent: Some(2),
                ip_packets_discarded: Some(0),
                tcp_established: Some(4),
                tcp_listen_overflows: Some(5),
                tcp_listen_drops: Some(6),
                udp_errors: Some(7),
                icmp_received: Some(8),
                icmp_sent: Some(9),
                ..Default::default()
            }),
            disk_read: Some(Bytes(1)),
            disk_written: None,
            agent_cpu_ms: Some(11),
            agent_resident: Some(Bytes(12)),
            storage_pressure_10: Some(13),
            page_cache: Some(Bytes(14)),
            out_of_memory_kills: Some(0),
            disks: [("vda".to_owned(), disk)].into(),
        }
    }

    fn transport() -> Transport {
        Transport {
            acknowledged: Bytes(1),
            segments_sent: 2,
            segments_received: 3,
            data_segments_sent: 4,
            data_segments_received: 5,
            retransmitted: 6,
            round_trip_us: Some(0),
            last_sent: Some(at(1)),
            last_received: Some(at(9_000_000)),
        }
    }

    fn flows() -> BTreeMap<FlowKey, Flow> {
        let key = FlowKey {
            protocol: Protocol::Tcp,
            direction: Direction::Inbound,
            local: "10.0.0.1".parse().unwrap(),
            remote: "fd00::2".parse().unwrap(),
            port: 443,
            application: Some("web".parse().unwrap()),
        };
        let flow = Flow {
            opened: 9,
            closed: 8,
            reset: 7,
            failed: 6,
            sent: Some(Bytes(u64::MAX)),
            received: Some(Bytes(0)),
            data_segments_sent: Some(3),
            data_segments_received: Some(2),
            retransmitted: Some(1),
        };
        let unknown = FlowKey { direction: Direction::Unknown, application: None, ..key.clone() };
        [(key, flow), (unknown, Flow::default())].into()
    }

    fn coverage() -> Coverage {
        Coverage {
            reader: ConnectionReader::SocketDiagnosis,
            ends_are_told: true,
            opens_are_told: true,
            due: Some(9),
            seen: 8,
            attributed: 7,
            overruns: 1,
            restarts: 2,
            merged_edges: 3,
        }
    }

    fn used() -> ApplicationUse {
        let device =
            DeviceUse { reads: 1, writes: 2, discards: 3, read: Bytes(4), written: Bytes(5) };
        let mut quantiles = Sketch::default();
        [0, 250, 1 << 40].into_iter().for_each(|value| quantiles.insert(value));
        ApplicationUse {
            listed: true,
            processes: 2,
            cpu_ms: 3,
            peak_cpu: Millicores(250),
            resident: Bytes(4),
            peak_resident: Bytes(5),
            read: Some(Bytes(6)),
            written: Some(Bytes(7)),
            listening_ports: vec![80, 443],
            accounting: Accounting::Cgroup2,
            working_set: Some(Bytes(8)),
            memory_high_water: Some(Bytes(9)),
            devices: [("vda".to_owned(), device)].into(),
            stalls: Stalls { cpu_us: Some(1), memory_us: Some(0), storage_us: Some(3) },
            throttled_us: Some(0),
            out_of_memory_kills: Some(1),
            cpu_quantiles: quantiles.clone(),
            memory_quantiles: quantiles,
        }
    }

    fn software() -> Software {
        let key = PackageKey {
            manager: PackageManager::Rpm,
            name: "bash".into(),
            architecture: "x86_64".into(),
        };
        let package = Package {
            version: "5.2-3".into(),
            installed_at: Some(at(1)),
            further: vec![PackageVersion { version: "5.1-9".into(), installed_at: None }],
        };
        let file = ConfigurationFile {
            size: Bytes(3),
            modified: at(2),
            hash: Some([7; 32]),
            user: 1,
            group: 2,
            mode: 0o644,
            package: Some("bash".into()),
            unchanged: Some(true),
            content: Some("a\n".into()),
        };
        Software {
            packages: [(key, package)].into(),
            files: [("/etc/bashrc".to_owned(), file)].into(),
        }
    }

    fn observation() -> Observation {
        let process = ProcessKey { pid: 7, started_at: at(1) };
        let key = ConnectionKey {
            protocol: Protocol::Udp,
            local: "10.0.0.1:53".parse().unwrap(),
            remote: None,
        };
        let connection = Connection {
            state: ConnectionState::Stateless,
            direction: Direction::Listener,
            holder: Holder::Process { process, application: None },
            first_seen: at(2),
            sent: None,
            received: Some(Bytes(3)),
            user: Some(33),
            inode: Some(u64::MAX),
            translated: Some("10.1.0.1:5353".parse().unwrap()),
            transport: Some(transport()),
        };
        let running = Process {
            parent: 1,
            name: "web".into(),
            executable: None,
            user: 1000,
            unit: Some("web.service".into()),
            application: Some("web".parse().unwrap()),
            cpu_ms: 5,
            resident: Bytes(6),
            read: Some(Bytes(0)),
            written: None,
            reads: Some(0),
            writes: Some(9),
            arguments: Some(vec!["web".into(), "--port=80".into()]),
        };
        let service = Service {
            supervisor: Supervisor::Systemd,
            state: ServiceState::Changing,
            enabled: true,
            main_pid: Some(7),
        };
        let mix = ApplicationMix([("web".parse().unwrap(), Setup::default())].into());
        Observation {
            connections: [(key, connection)].into(),
            flows: flows(),
            coverage: Some(coverage()),
            processes: [(process, running)].into(),
            services: [("web.service".to_owned(), service)].into(),
            applications: [("web".parse().unwrap(), used())].into(),
            counters: counters(),
            facts: facts(),
            mix: EffectiveMix { generation: 1, applications: mix, ..EffectiveMix::default() },
            agent: Some(AgentUse {
                cpu_limit: Some(Millicores(20)),
                memory_limit: Some(Bytes(64 << 20)),
                left_out: vec!["processes between samples".into()],
            }),
        }
    }

    fn stamp() -> Stamp {
        let gap = Gap { from: at(1), to: at(2), samples: 3, reason: "spool was full".into() };
        let id = SampleId { epoch: 2, sequence: 3 };
        Stamp { id, taken_at: at(10), monotonic_ms: 77, gaps: vec![gap] }
    }

    /// Out to bytes and back, as a spool or a stream does it.
    fn over_the_wire(sample: &Sample) -> Result<Sample, BadMessage> {
        let bytes = v1::Sample::from(sample).encode_to_vec();
        v1::Sample::decode(bytes.as_slice()).unwrap().try_into()
    }

    #[test]
    fn a_full_sample_comes_back_as_it_went() {
        let sample = delta::between(None, &observation(), stamp());
        assert_eq!(over_the_wire(&sample), Ok(sample));
    }

    #[test]
    fn a_change_comes_back_as_it_went() {
        let sample = delta::between(Some(&observation()), &Observation::default(), stamp());
        assert!(!sample.connections.removed.is_empty() && !sample.services.removed.is_empty());
        assert_eq!(over_the_wire(&sample), Ok(sample));
        let same = delta::between(Some(&observation()), &observation(), stamp());
        assert_eq!(over_the_wire(&same), Ok(same));
    }

    #[test]
    fn software_comes_back_as_it_went() {
        let mut sample = delta::between(None, &observation(), stamp());
        sample.software = delta::of_software(None, &software());
        assert_eq!(over_the_wire(&sample), Ok(sample.clone()));
        sample.software = delta::of_software(Some(&software()), &Software::default());
        assert!(!sample.software.as_ref().unwrap().packages.removed.is_empty());
        assert_eq!(over_the_wire(&sample), Ok(sample));
    }

    fn refusal(change: impl FnOnce(&mut v1::Sample)) -> BadMessage {
        let mut wire = v1::Sample::from(&delta::between(None, &observation(), stamp()));
        change(&mut wire);
        Sample::try_from(wire).unwrap_err()
    }

    #[test]
    fn one_bad_row_is_named_and_costs_the_message() {
        let told = refusal(|wire| {
            let rows = &mut wire.connections.as_mut().unwrap().upserted;
            let mut bad = rows[0].clone();
            bad.key.as_mut().unwrap().local = "nowhere".into();
            rows.push(bad);
        });
        assert_eq!(told.field, "connections.upserted[1].key.local");
        assert_eq!(told.value, "nowhere");
    }

    #[test]
    fn hostile_values_are_refused_one_by_one() {
        assert_eq!(refusal(|wire| wire.sequence = 0).field, "sequence");
        assert_eq!(refusal(|wire| wire.taken_at_unix_ms = -1).field, "taken_at_unix_ms");
        assert_eq!(refusal(|wire| wire.taken_at_unix_ms = i64::MAX).field, "taken_at_unix_ms");
        assert_eq!(refusal(|wire| wire.facts = None).field, "facts");
        assert_eq!(refusal(|wire| wire.mix = None).field, "mix");
        assert_eq!(refusal(|wire| wire.gaps[0].to_unix_ms = 1).field, "gaps[0].to_unix_ms");
        let told = refusal(|wire| wire.flows.as_mut().unwrap().upserted[1].key = None);
        assert_eq!(told.field, "flows.upserted[1].key");
        let told = refusal(|wire| {
            let cpu = wire.applications[0].cpu_quantiles.as_mut().unwrap();
            cpu.counts.clear();
        });
        assert_eq!(told.field, "applications[0].cpu_quantiles.counts");
        let told = refusal(|wire| wire.gaps[0].reason = "x".repeat(1 << 20));
        assert_eq!(told.value, "1048576 bytes long");
        let told = refusal(|wire| wire.applications.push(wire.applications[0].clone()));
        assert_eq!(told.field, "applications");
        let told = refusal(|wire| {
            let processes = wire.processes.as_mut().unwrap();
            processes.removed = vec![v1::ProcessKey::default(); super::super::MOST_ROWS + 1];
        });
        assert_eq!(
            told.to_string(),
            "processes.removed is 65537 rows long; send at most 65536 rows"
        );
    }

    #[test]
    fn a_refused_value_is_cut_and_safe_to_print() {
        let told = refusal(|wire| wire.applications[0].application = "\u{7}".repeat(100));
        assert!(told.value.chars().all(|c| !c.is_control()));
        assert!(told.value.ends_with('…') && told.value.len() < 500, "{}", told.value);
    }
}
