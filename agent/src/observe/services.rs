//! The services: systemd's over D-Bus where it runs, else what the agent itself supervises.
//!
//! Reading systemd is asynchronous and stands beside the observer, which blocks: the caller asks here first
//! and hands the rows in. Nothing is started, stopped or executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use common::sample::{Service, ServiceState, Supervisor};
use thiserror::Error;
use tokio::time::timeout;
use zbus::{
    Connection, Message,
    zvariant::{DynamicType, OwnedObjectPath, OwnedValue},
};

pub use enabled::EnabledFiles;

use super::population::Supervised;

mod enabled;

/// The folder that is there if and only if systemd is the first process.
pub const SYSTEMD_FOLDER: &str = "/run/systemd/system";

/// Most services reported.
const MAX_SERVICES: usize = 4096;

/// What a machine may be started into instead of its default, the furthest first. graphical.target wants
/// multi-user.target and so is looked for before it.
const TARGETS: [&str; 4] =
    ["graphical.target", "multi-user.target", "rescue.target", "emergency.target"];

/// Longest wait for one answer of systemd: a small machine under emulation takes ten seconds to list its
/// unit files. A look that comes without services beats none.
const PATIENCE: Duration = Duration::from_secs(20);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Where services were read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// systemd.
    Systemd,
    /// Only the agent's own drivers, with the reason.
    Agent {
        /// Why not systemd.
        reason: String,
    },
}

/// The services that stand outside the agent, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Where they were read from.
    pub source: Source,
    /// The services by unit name; empty if only the agent's own are known.
    pub rows: BTreeMap<String, Service>,
    /// Units of every kind that should run and do not.
    pub failed: Vec<String>,
    /// The target the machine was started into; `None` if nobody says.
    pub run_level: Option<String>,
}

/// Why systemd's services could not be read.
#[derive(Debug, Error)]
pub enum ServicesError {
    /// The system bus cannot be reached, or systemd refused.
    #[error("systemd could not be asked for its services over D-Bus")]
    Bus(#[source] zbus::Error),
    /// No answer in time.
    #[error("systemd did not answer {call} within {PATIENCE:?}")]
    Slow {
        /// The call.
        call: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Systemd => f.write_str("systemd over D-Bus, and the agent's own drivers"),
            Self::Agent { reason } => write!(f, "the agent's own drivers only: {reason}"),
        }
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::unread("nobody asked systemd")
    }
}

impl Services {
    /// systemd was not asked, or did not answer.
    #[must_use]
    pub fn unread(reason: impl Into<String>) -> Self {
        let source = Source::Agent { reason: reason.into() };
        Self { source, rows: BTreeMap::new(), failed: Vec::new(), run_level: None }
    }

    /// All rows, with those of the applications the agent supervises. systemd's units keep their suffix,
    /// so the two never share a name.
    pub(super) fn with(&self, supervised: &[Supervised]) -> BTreeMap<String, Service> {
        let own = supervised.iter().map(|one| {
            let service = Service {
                supervisor: Supervisor::Agent,
                state: one.state,
                enabled: one.enabled,
                main_pid: one.pid,
            };
            (one.application.to_string(), service)
        });
        self.rows.clone().into_iter().chain(own).collect()
    }
}

/// Whether systemd runs this machine; `folder` is [`SYSTEMD_FOLDER`] but in tests.
#[must_use]
pub fn has_systemd(folder: &Path) -> bool {
    folder.is_dir()
}

/// Connects to the system bus. Keep the connection: to make one costs more than to ask.
///
/// # Errors
///
/// If there is no bus, or it does not answer in time.
pub async fn connect() -> Result<Connection, ServicesError> {
    let connection = timeout(PATIENCE, Connection::system()).await;
    connection.map_err(|_| ServicesError::Slow { call: "Hello" })?.map_err(ServicesError::Bus)
}

/// Reads every service unit: those that are loaded, and those that would start with the machine and are not.
/// Keep `enabled` for the next time.
///
/// # Errors
///
/// If systemd refuses or does not answer in time. A unit that vanishes while it is read is left out.
pub async fn systemd_services(
    connection: &Connection,
    enabled: &mut EnabledFiles,
) -> Result<Services, ServicesError> {
    let enabled = enabled.read(connection).await?;
    let patterns = (Vec::<&str>::new(), vec!["*.service", "*.target"]);
    let units = units(connection, "ListUnitsByPatterns", &patterns).await?;
    let is_service = |unit: &&Unit| unit.0.ends_with(".service");
    let mut rows = BTreeMap::new();
    for Unit(name, _, _, active, _, _, path, ..) in
        units.iter().filter(is_service).take(MAX_SERVICES)
    {
        let state = state(active);
        let runs = matches!(state, ServiceState::Active | ServiceState::Changing);
        let main_pid = if runs { main_pid(connection, path).await? } else { None };
        let enabled = enabled.contains(file_of(name).as_ref());
        rows.insert(
            name.clone(),
            Service { supervisor: Supervisor::Systemd, state, enabled, main_pid },
        );
    }
    add_unloaded(&mut rows, enabled);
    let failed = units_that_failed(connection).await?;
    let run_level = run_level(connection, &units).await?;
    Ok(Services { source: Source::Systemd, rows, failed, run_level })
}

/// systemd forgets a unit that does not run and that nothing refers to; its file is still there.
fn add_unloaded(rows: &mut BTreeMap<String, Service>, enabled: &BTreeSet<String>) {
    // A template is no service; what was made from it is.
    let is_service = |file: &&String| file.ends_with(".service") && !file.contains("@.");
    for file in enabled.iter().filter(is_service) {
        if rows.len() >= MAX_SERVICES {
            return;
        }
        rows.entry(file.clone()).or_insert(Service {
            supervisor: Supervisor::Systemd,
            state: ServiceState::Inactive,
            enabled: true,
            main_pid: None,
        });
    }
}

async fn units_that_failed(connection: &Connection) -> Result<Vec<String>, ServicesError> {
    let units = units(connection, "ListUnitsFiltered", &(vec!["failed"],)).await?;
    let mut names: Vec<String> = units.into_iter().map(|unit| unit.0).collect();
    names.sort();
    names.truncate(MAX_SERVICES);
    Ok(names)
}

/// The default target if it was reached, else the furthest of those that stand in for it.
async fn run_level(
    connection: &Connection,
    units: &[Unit],
) -> Result<Option<String>, ServicesError> {
    let default = match ask(connection, "GetDefaultTarget", MANAGER_PATH, MANAGER, &()).await {
        Ok(answer) => answer.body().deserialize().map_err(ServicesError::Bus)?,
        // Nobody has set one.
        Err(ServicesError::Bus(zbus::Error::MethodError(..))) => String::new(),
        Err(cause) => return Err(cause),
    };
    let is_active = |target: &&str| {
        units.iter().any(|unit| unit.0 == **target && state(&unit.3) == ServiceState::Active)
    };
    let targets = [default.as_str()].into_iter().chain(TARGETS);
    Ok(targets.into_iter().find(is_active).map(str::to_owned))
}

async fn units<B>(
    connection: &Connection,
    call: &'static str,
    body: &B,
) -> Result<Vec<Unit>, ServicesError>
where
    B: serde::Serialize + DynamicType,
{
    let answer = ask(connection, call, MANAGER_PATH, MANAGER, body).await?;
    answer.body().deserialize().map_err(ServicesError::Bus)
}

/// A row of `ListUnits`: name, description, load state, active state, sub state, followed unit, object,
/// job, its kind and object.
#[derive(Debug, serde::Deserialize, zbus::zvariant::Type)]
#[expect(dead_code, reason = "the signature of the answer has all of them")]
struct Unit(
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

async fn main_pid(
    connection: &Connection,
    path: &OwnedObjectPath,
) -> Result<Option<u32>, ServicesError> {
    let property = ("org.freedesktop.systemd1.Service", "MainPID");
    let answer = match ask(connection, "Get", path.as_str(), PROPERTIES, &property).await {
        Ok(answer) => answer,
        // The unit is gone since it was listed.
        Err(ServicesError::Bus(zbus::Error::MethodError(..))) => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let value: OwnedValue = answer.body().deserialize().map_err(ServicesError::Bus)?;
    Ok(u32::try_from(value).ok().filter(|pid| *pid != 0))
}

async fn ask<B>(
    connection: &Connection,
    call: &'static str,
    path: &str,
    interface: &str,
    body: &B,
) -> Result<Message, ServicesError>
where
    B: serde::Serialize + DynamicType,
{
    let answer = connection.call_method(Some(SYSTEMD), path, Some(interface), call, body);
    let answer = timeout(PATIENCE, answer).await;
    answer.map_err(|_| ServicesError::Slow { call })?.map_err(ServicesError::Bus)
}

/// The file a unit comes from: `getty@tty1.service` is made from `getty@.service`.
fn file_of(unit: &str) -> std::borrow::Cow<'_, str> {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((template, _)), Some((_, suffix))) => format!("{template}@.{suffix}").into(),
        _ => unit.into(),
    }
}

fn state(active: &str) -> ServiceState {
    match active {
        "active" | "reloading" | "refreshing" => ServiceState::Active,
        "inactive" => ServiceState::Inactive,
        "failed" => ServiceState::Failed,
        _ => ServiceState::Changing,
    }
}

#[cfg(test)]
mod tests;
