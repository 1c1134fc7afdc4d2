//! One machine with all its agent says of the guest.

use common::wire::{
    admin::v1,
    types::v1::{Connection, ConnectionState, Facts, Process, Service, ServiceState},
};

use super::{bytes, machine, traffic};
use crate::print::{Printer, safe, table};

pub(crate) fn whole(printer: &Printer, answer: &v1::GetMachineResponse) -> String {
    let mut text = answer.machine.as_ref().map_or_else(String::new, |m| machine(printer, m));
    if let Some(facts) = &answer.facts {
        text += &format!("\n{}\n{}", printer.heading("guest"), guest(facts));
    }
    let heading = |name: &str| format!("\n{}\n", printer.heading(name));
    if let Some(agent) = &answer.agent {
        text += &(heading("agent") + &traffic::agent(agent));
    }
    if let Some(coverage) = &answer.coverage {
        text += &(heading("coverage of connections") + &traffic::coverage(coverage));
    }
    if !answer.flows.is_empty() {
        text += &(heading("edges") + &traffic::flows(&answer.flows));
    }
    if !answer.applications.is_empty() {
        text += &(heading("applications") + &traffic::applications(&answer.applications));
    }
    if !answer.services.is_empty() {
        text += &format!("\n{}\n{}", printer.heading("services"), services(&answer.services));
    }
    if !answer.connections.is_empty() {
        let heading = printer.heading("connections");
        text += &format!("\n{heading}\n{}", connections(&answer.connections));
    }
    if !answer.processes.is_empty() {
        text += &format!("\n{}\n{}", printer.heading("processes"), processes(&answer.processes));
    }
    text
}

fn guest(facts: &Facts) -> String {
    let lines = [
        ("host name", &facts.hostname),
        ("system", &facts.operating_system),
        ("kernel", &facts.kernel),
        ("agent", &facts.agent_version),
        ("services", &facts.services_source),
        ("connections", &facts.connections_source),
        ("run level", &facts.run_level),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        text += &format!("  {name:14}{}\n", safe(value));
    }
    for system in &facts.file_systems {
        let (free, total) = (bytes(Some(system.available_bytes)), bytes(Some(system.total_bytes)));
        let mount = safe(&system.mount_point);
        text += &format!(
            "  {:14}{mount} ({}), {free} free of {total}\n",
            "file system",
            safe(&system.kind)
        );
    }
    text + &storage(facts)
}

/// The devices and servers that the guest's data lies on.
fn storage(facts: &Facts) -> String {
    let mut text = String::new();
    for device in &facts.block_devices {
        let names = [&device.model, &device.serial, &device.wwn, &device.bus];
        let names: Vec<_> =
            names.iter().filter(|name| !name.is_empty()).map(|name| safe(name)).collect();
        let size = bytes(Some(device.size_bytes));
        let (name, known) = (safe(&device.name), names.join(", "));
        text += &format!("  {:14}{name}, {size} {known}\n", "device").replace(" \n", "\n");
    }
    for remote in &facts.remote_storage {
        let server = match remote.address.as_str() {
            "" => safe(&remote.server),
            address if address == remote.server => safe(address),
            address => format!("{} ({})", safe(&remote.server), safe(address)),
        };
        let (kind, source, place) = (safe(&remote.kind), safe(&remote.source), safe(&remote.place));
        text += &format!("  {:14}{place} ({kind}), {source} of {server}\n", "remote");
    }
    text
}

/// An enum value as people write it: without the name of its type.
pub(super) fn word(name: &str, of: &str) -> String {
    name.strip_prefix(of).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

fn services(services: &[Service]) -> String {
    table(
        ["service", "state", "starts with the machine", "process"],
        services.iter().map(|service| {
            let state = ServiceState::try_from(service.state).unwrap_or_default();
            [
                safe(&service.name),
                word(state.as_str_name(), "SERVICE_STATE_"),
                if service.enabled { "yes" } else { "no" }.to_owned(),
                number(service.main_process_id),
            ]
        }),
    )
}

fn number(value: u32) -> String {
    if value == 0 { "-".to_owned() } else { value.to_string() }
}

fn connections(connections: &[Connection]) -> String {
    table(
        ["local", "remote", "state", "application", "process"],
        connections.iter().map(|connection| {
            let key = connection.key.clone().unwrap_or_default();
            let state = ConnectionState::try_from(connection.state).unwrap_or_default();
            let process = match connection.process_id {
                0 if !connection.group.is_empty() => safe(&connection.group),
                0 => safe(&connection.unknown_reason),
                id => id.to_string(),
            };
            [
                key.local,
                if key.remote.is_empty() { "-".to_owned() } else { key.remote },
                word(state.as_str_name(), "CONNECTION_STATE_"),
                safe(&connection.application),
                process,
            ]
        }),
    )
}

fn processes(processes: &[Process]) -> String {
    table(
        ["process", "name", "application", "cpu", "memory", "executable"],
        processes.iter().map(|process| {
            [
                process.key.unwrap_or_default().process_id.to_string(),
                safe(&process.name),
                safe(&process.application),
                format!(
                    "{:.1} s",
                    std::time::Duration::from_millis(process.cpu_time_ms).as_secs_f64()
                ),
                bytes(Some(process.resident_bytes)),
                safe(&process.executable),
            ]
        }),
    )
}
