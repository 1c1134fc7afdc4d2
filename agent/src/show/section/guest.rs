//! The guest itself: its facts, counters, services and software.

use std::collections::BTreeMap;

use common::{
    sample::{Counters, Observation, PackageManager, Service, ServiceState, Software, Supervisor},
    units::Bytes,
};

use crate::show::{
    Seen,
    paper::{Cell, Paper, Tone},
};

/// The line above everything.
pub(super) fn title(seen: &Seen) -> String {
    let facts = &seen.observation.facts;
    let over = seen
        .over
        .map_or_else(|| "one look".to_owned(), |over| format!("since {:.0} s", over.as_secs_f64()));
    format!(
        "{}  {}  {}  {}  agent {}",
        facts.hostname, facts.operating_system, facts.kernel, over, facts.agent_version
    )
}

type Pairs = Vec<(String, String)>;

fn note(pairs: &mut Pairs, name: &str, value: Option<impl ToString>) {
    let value = value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    pairs.push((name.to_owned(), value));
}

pub(super) fn facts(paper: &Paper, seen: &Observation) -> String {
    let facts = &seen.facts;
    let mut pairs = Pairs::new();
    note(&mut pairs, "uuid", facts.product_uuid.as_ref());
    note(&mut pairs, "machine id", facts.machine_id.as_ref());
    note(&mut pairs, "architecture", Some(&facts.architecture));
    note(&mut pairs, "run level", facts.run_level.as_ref());
    note(&mut pairs, "services from", Some(&facts.services_source));
    note(&mut pairs, "connections from", Some(&facts.connections_source));
    for interface in &facts.interfaces {
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let state = if interface.up { "up" } else { "down" };
        let mac = interface.mac.as_deref().unwrap_or("-");
        let text = format!("{} {state} {mac} {}", interface.name, addresses.join(" "));
        note(&mut pairs, "interface", Some(text));
    }
    for route in &facts.routes {
        let by = route.gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"));
        let text = format!("{}{by} on {}", route.destination, route.interface);
        note(&mut pairs, "route", Some(text));
    }
    for system in &facts.file_systems {
        let (free, total) = (system.available, system.total);
        let text = format!(
            "{} ({}, {}), {free} free of {total}",
            system.mount_point, system.kind, system.device
        );
        note(&mut pairs, "file system", Some(text));
    }
    for device in &facts.block_devices {
        let serial = device.serial.as_deref().or(device.wwn.as_deref()).unwrap_or("no serial");
        note(&mut pairs, "block device", Some(format!("{} {} {serial}", device.name, device.size)));
    }
    for storage in &facts.remote_storage {
        let text =
            format!("{} {} {} at {}", storage.kind, storage.server, storage.source, storage.place);
        note(&mut pairs, "remote storage", Some(text));
    }
    pairs.extend(facts.other.iter().map(|(name, value)| (name.replace('_', " "), value.clone())));
    paper.pairs(pairs)
}

pub(super) fn counters(paper: &Paper, counters: &Counters) -> String {
    let mut pairs = Pairs::new();
    let seconds = |ms: u64| format!("{:.1} s", std::time::Duration::from_millis(ms).as_secs_f64());
    let hundredths = |share: u32| format!("{}.{:02} %", share / 100, share % 100);
    let load = |milli: u32| format!("{}.{:02}", milli / 1000, milli % 1000 / 10);
    note(&mut pairs, "cores", counters.cpus);
    note(&mut pairs, "cpu busy", counters.cpu_busy_ms.map(seconds));
    note(&mut pairs, "load", counters.load_1_milli.map(load));
    note(&mut pairs, "memory", counters.memory_total);
    note(&mut pairs, "memory available", counters.memory_available);
    note(&mut pairs, "page cache", counters.page_cache);
    note(&mut pairs, "swap in use", counters.swap_used);
    note(&mut pairs, "waits for cpu", counters.cpu_pressure_10.map(hundredths));
    note(&mut pairs, "waits for memory", counters.memory_pressure_10.map(hundredths));
    note(&mut pairs, "waits for storage", counters.storage_pressure_10.map(hundredths));
    note(&mut pairs, "killed for memory", counters.out_of_memory_kills);
    note(&mut pairs, "read from disks", counters.disk_read);
    note(&mut pairs, "written to disks", counters.disk_written);
    for (name, disk) in &counters.disks {
        let (read, written) = (disk.read, disk.written);
        let operations = format!("{} reads, {} writes", disk.reads, disk.writes);
        let text = format!("{name}: {read} read, {written} written, {operations}");
        note(&mut pairs, "disk", Some(text));
    }
    for (name, interface) in &counters.interfaces {
        let (received, sent) = (Bytes(interface.received_bytes), Bytes(interface.sent_bytes));
        let lost = interface.received_dropped + interface.sent_dropped + interface.errors;
        let text = format!("{name}: {received} received, {sent} sent, {lost} dropped or wrong");
        note(&mut pairs, "interface", Some(text));
    }
    if let Some(tcp) = &counters.protocols {
        let opened = format!(
            "{} opened, {} accepted, {} failed, {} reset, {} segments sent again",
            tcp.tcp_active_opens,
            tcp.tcp_passive_opens,
            tcp.tcp_attempt_failures,
            tcp.tcp_resets,
            tcp.tcp_segments_retransmitted
        );
        note(&mut pairs, "tcp", Some(opened));
        let (received, sent) = (tcp.udp_datagrams_received, tcp.udp_datagrams_sent);
        note(&mut pairs, "udp", Some(format!("{received} received, {sent} sent")));
    }
    note(&mut pairs, "this program's cpu", counters.agent_cpu_ms.map(seconds));
    note(&mut pairs, "this program's memory", counters.agent_resident);
    paper.pairs(pairs)
}

pub(super) fn services(paper: &Paper, services: &BTreeMap<String, Service>) -> String {
    paper.table(
        ["service", "state", "starts with the machine", "process", "kept by"],
        services.iter().map(|(name, service)| {
            let kept_by = match service.supervisor {
                Supervisor::Systemd => "systemd",
                Supervisor::Agent => "agent",
            };
            [
                name.into(),
                state(service.state),
                if service.enabled { "yes" } else { "no" }.into(),
                Cell::maybe(service.main_pid),
                kept_by.into(),
            ]
        }),
    )
}

fn state(state: ServiceState) -> Cell {
    match state {
        ServiceState::Active => Cell::toned("active", Tone::Good),
        ServiceState::Inactive => Cell::toned("inactive", Tone::Faint),
        ServiceState::Failed => Cell::toned("failed", Tone::Bad),
        ServiceState::Changing => Cell::toned("changing", Tone::Doubtful),
    }
}

pub(super) fn software(paper: &Paper, software: Option<&Software>) -> String {
    let Some(software) = software else {
        return paper.pairs([("packages".into(), "not read".into())]);
    };
    let of = |manager| software.packages.keys().filter(|key| key.manager == manager).count();
    let files = software.files.values();
    let changed: Vec<(&String, _)> =
        software.files.iter().filter(|(_, file)| file.unchanged == Some(false)).collect();
    let mut pairs: Pairs = vec![
        ("packages of dpkg".into(), of(PackageManager::Dpkg).to_string()),
        ("packages of rpm".into(), of(PackageManager::Rpm).to_string()),
        ("configuration files".into(), software.files.len().to_string()),
        ("of unknown content".into(), files.filter(|file| file.hash.is_none()).count().to_string()),
        ("changed since installed".into(), changed.len().to_string()),
    ];
    let several = software.packages.iter().filter(|(_, package)| !package.further.is_empty());
    pairs.extend(several.map(|(key, package)| {
        let further: Vec<&str> =
            package.further.iter().map(|further| further.version.as_str()).collect();
        let text = format!("{} {} beside {}", key.name, package.version, further.join(", "));
        ("several versions".to_owned(), text)
    }));
    pairs.extend(changed.into_iter().map(|(path, file)| {
        let package = file.package.as_deref().unwrap_or("no package");
        ("changed".to_owned(), format!("{path} ({package}, {})", file.size))
    }));
    paper.pairs(pairs)
}
