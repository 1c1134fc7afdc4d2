//! Rows of the process and service tables, each with the key it stands under.

use super::{
    BadMessage,
    field::{Field, conversion, cut, cut_path, millis, or_empty, some},
    types::v1,
};
use crate::{
    sample::{Process, ProcessKey, Service, ServiceState, Supervisor, TableDelta},
    units::Bytes,
};

conversion! {
    v1::ProcessKey => ProcessKey, process_key;
    v1::Process => (ProcessKey, Process), process;
    v1::Service => (String, Service), service;
}

pub(super) fn process_key(
    wire: v1::ProcessKey,
    field: &Field<'_>,
) -> Result<ProcessKey, BadMessage> {
    if wire.process_id == 0 {
        return Err(field.of("process_id").refuse(0, "send the number of a process"));
    }
    let started_at = field.of("started_at_unix_ms").time(wire.started_at_unix_ms)?;
    Ok(ProcessKey { pid: wire.process_id, started_at })
}

impl From<&ProcessKey> for v1::ProcessKey {
    fn from(key: &ProcessKey) -> Self {
        Self { process_id: key.pid, started_at_unix_ms: millis(key.started_at) }
    }
}

pub(super) fn process(
    wire: v1::Process,
    field: &Field<'_>,
) -> Result<(ProcessKey, Process), BadMessage> {
    let place = field.of("key");
    let key = process_key(place.required(wire.key)?, &place)?;
    let row = Process {
        parent: wire.parent_process_id,
        name: field.of("name").text(wire.name)?,
        executable: some(field.of("executable").path(wire.executable)?),
        user: wire.user_id,
        unit: some(field.of("unit").text(wire.unit)?),
        application: field.of("application").id_if_any(&wire.application)?,
        cpu_ms: wire.cpu_time_ms,
        resident: Bytes(wire.resident_bytes),
        read: wire.read_bytes.map(Bytes),
        written: wire.written_bytes.map(Bytes),
        reads: wire.read_calls,
        writes: wire.write_calls,
        arguments: wire
            .arguments
            .map(|all| arguments(all.values, &field.of("arguments").of("values")))
            .transpose()?,
    };
    Ok((key, row))
}

fn arguments(values: Vec<String>, field: &Field<'_>) -> Result<Vec<String>, BadMessage> {
    field.rows(values, |text, place| place.path(text))
}

impl From<(&ProcessKey, &Process)> for v1::Process {
    fn from((key, row): (&ProcessKey, &Process)) -> Self {
        let application = row.application.as_ref();
        Self {
            key: Some(key.into()),
            parent_process_id: row.parent,
            name: cut(&row.name),
            executable: row.executable.as_deref().map(cut_path).unwrap_or_default(),
            user_id: row.user,
            unit: or_empty(row.unit.as_ref()),
            application: application.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            cpu_time_ms: row.cpu_ms,
            resident_bytes: row.resident.0,
            read_bytes: row.read.map(|bytes| bytes.0),
            written_bytes: row.written.map(|bytes| bytes.0),
            read_calls: row.reads,
            write_calls: row.writes,
            arguments: row.arguments.as_ref().map(|values| v1::Arguments {
                values: values.iter().map(|value| cut_path(value)).collect(),
            }),
        }
    }
}

fn service_name(name: String, field: &Field<'_>) -> Result<String, BadMessage> {
    if name.is_empty() {
        return Err(field.refuse("", "send the name of a service"));
    }
    field.text(name)
}

pub(super) fn service(
    wire: v1::Service,
    field: &Field<'_>,
) -> Result<(String, Service), BadMessage> {
    let place = field.of("supervisor");
    let supervisor = match place.kind(wire.supervisor)? {
        v1::Supervisor::Systemd => Supervisor::Systemd,
        v1::Supervisor::Agent => Supervisor::Agent,
        other @ v1::Supervisor::Unspecified => return Err(place.unusable(other.as_str_name())),
    };
    let place = field.of("state");
    let state = match place.kind(wire.state)? {
        v1::ServiceState::Active => ServiceState::Active,
        v1::ServiceState::Inactive => ServiceState::Inactive,
        v1::ServiceState::Failed => ServiceState::Failed,
        v1::ServiceState::Changing => ServiceState::Changing,
        other @ v1::ServiceState::Unspecified => return Err(place.unusable(other.as_str_name())),
    };
    let main_pid = Some(wire.main_process_id).filter(|pid| *pid != 0);
    let row = Service { supervisor, state, enabled: wire.enabled, main_pid };
    Ok((service_name(wire.name, &field.of("name"))?, row))
}

impl From<(&String, &Service)> for v1::Service {
    fn from((name, row): (&String, &Service)) -> Self {
        let supervisor = match row.supervisor {
            Supervisor::Systemd => v1::Supervisor::Systemd,
            Supervisor::Agent => v1::Supervisor::Agent,
        };
        let state = match row.state {
            ServiceState::Active => v1::ServiceState::Active,
            ServiceState::Inactive => v1::ServiceState::Inactive,
            ServiceState::Failed => v1::ServiceState::Failed,
            ServiceState::Changing => v1::ServiceState::Changing,
        };
        Self {
            name: cut(name),
            supervisor: supervisor.into(),
            state: state.into(),
            enabled: row.enabled,
            main_process_id: row.main_pid.unwrap_or_default(),
        }
    }
}

pub(super) fn processes(
    wire: v1::ProcessTable,
    field: &Field<'_>,
) -> Result<TableDelta<ProcessKey, Process>, BadMessage> {
    Ok(TableDelta {
        upserted: field.of("upserted").rows(wire.upserted, process)?,
        removed: field.of("removed").rows(wire.removed, process_key)?,
    })
}

pub(super) fn services(
    wire: v1::ServiceTable,
    field: &Field<'_>,
) -> Result<TableDelta<String, Service>, BadMessage> {
    Ok(TableDelta {
        upserted: field.of("upserted").rows(wire.upserted, service)?,
        removed: field.of("removed").rows(wire.removed, service_name)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn arguments_come_back_and_none_are_not_no_arguments() {
        let key = ProcessKey { pid: 1, started_at: Timestamp::from_millis(1) };
        let mut wire = v1::Process {
            key: Some((&key).into()),
            arguments: Some(v1::Arguments { values: vec!["web".into(), String::new()] }),
            ..Default::default()
        };
        let (_, row) = <(ProcessKey, Process)>::try_from(wire.clone()).unwrap();
        assert_eq!(v1::Process::from((&key, &row)), wire);
        wire.arguments = Some(v1::Arguments::default());
        let (_, row) = <(ProcessKey, Process)>::try_from(wire.clone()).unwrap();
        assert_eq!(row.arguments, Some(Vec::new()));
        wire.arguments = Some(v1::Arguments { values: vec!["x".repeat(4097)] });
        let told = <(ProcessKey, Process)>::try_from(wire).unwrap_err();
        assert_eq!(told.field, "arguments.values[0]");
    }

    #[test]
    fn a_text_loses_what_a_terminal_would_obey() {
        let key = ProcessKey { pid: 1, started_at: Timestamp::from_millis(1) };
        let wire = v1::Process {
            key: Some((&key).into()),
            name: "\u{1b}[2J\u{202e}x".into(),
            ..Default::default()
        };
        let (_, row) = <(ProcessKey, Process)>::try_from(wire).unwrap();
        assert_eq!(row.name, "\u{fffd}[2J\u{fffd}x");
    }

    #[test]
    fn a_text_too_long_is_refused_and_never_sent() {
        let wire =
            v1::Service { name: "x".repeat(257), supervisor: 1, state: 1, ..Default::default() };
        let told = <(String, Service)>::try_from(wire).unwrap_err();
        assert_eq!(told.value, "257 bytes long");
        let row = Service {
            supervisor: Supervisor::Agent,
            state: ServiceState::Failed,
            enabled: false,
            main_pid: None,
        };
        let sent = v1::Service::from((&"ä".repeat(200), &row));
        assert!(<(String, Service)>::try_from(sent).is_ok());
    }
}
