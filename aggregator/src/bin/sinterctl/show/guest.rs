//! One machine with all its agent says of the guest.

use common::wire::{
    admin::v1,
    types::v1::{Connection, ConnectionState, Facts, Process, Service, ServiceState},
};

use super::{bytes, machine};
use crate::print::{Printer, safe, table};

pub(crate) fn whole(printer: &Printer, answer: &v1::GetMachineResponse) -> String {
    let mut text = answer.machine.as_ref().map_or_else(String::new, |m| machine(printer, m));
    if let Some(facts) = &answer.facts {
        text += &format!("\n{}\n{}", printer.heading("guest"), guest(facts));
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
    text
}

/// An enum value as people write it: without the name of its type.
fn word(name: &str, of: &str) -> String {
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
            let unknown = || safe(&connection.unknown_reason);
            let process = match connection.process_id {
                0 => unknown(),
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
