//! The driver for applications that systemd keeps: start, stop, enable, disable and limit a unit.
//!
//! It talks to systemd over D-Bus and never runs `systemctl`. Which units it may touch is said by
//! the allow-list alone.

use std::time::Duration;

use common::{id::AppName, mix::ConfigurationMix};
use tokio::time::{self, Instant};
use zbus::{
    Connection, proxy,
    zvariant::{OwnedObjectPath, Value},
};

use super::DriverError;

/// How long a unit may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often its state is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long systemd may take to answer a call.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    fn disable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
    ) -> zbus::Result<Vec<(String, String, String)>>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Value<'_>)],
    ) -> zbus::Result<()>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
}

/// Speaks to systemd.
#[derive(Debug, Clone)]
pub struct SystemdDriver(Connection);

/// The driver of this machine's systemd, or why there is none.
///
/// # Errors
///
/// If nobody answers on the system bus.
pub async fn systemd() -> Result<SystemdDriver, String> {
    let connected = time::timeout(ANSWERS_WITHIN, Connection::system()).await;
    match connected {
        Ok(Ok(connection)) => Ok(SystemdDriver::over(connection)),
        Ok(Err(cause)) => Err(format!("systemd is not reachable on this machine: {cause}")),
        Err(_) => Err("the system bus of this machine does not answer".into()),
    }
}

impl SystemdDriver {
    /// Speaks to whoever is at the other end as if it were systemd.
    #[must_use]
    pub const fn over(connection: Connection) -> Self {
        Self(connection)
    }

    pub(super) async fn start(
        &self,
        name: &AppName,
        unit: &str,
        mix: &ConfigurationMix,
    ) -> Result<(), DriverError> {
        let what = "start";
        let manager = self.manager(name, what).await?;
        let limits = limits(mix);
        within(name, "limit", manager.set_unit_properties(unit, false, &limits)).await?;
        within(name, what, manager.enable_unit_files(&[unit], false, false)).await?;
        within(name, what, manager.start_unit(unit, "replace")).await?;
        self.wait_for(name, what, (unit, "active")).await
    }

    pub(super) async fn stop(&self, name: &AppName, unit: &str) -> Result<(), DriverError> {
        let what = "stop";
        let manager = self.manager(name, what).await?;
        within(name, what, manager.stop_unit(unit, "replace")).await?;
        within(name, what, manager.disable_unit_files(&[unit], false)).await?;
        self.wait_for(name, what, (unit, "inactive")).await
    }

    pub(super) async fn check_runs(&self, unit: &str) -> Result<(), String> {
        match self.state(unit).await {
            Ok(state) if state == "active" => Ok(()),
            Ok(state) => Err(format!("{unit} is {state}")),
            Err(cause) => Err(format!("systemd did not say how {unit} is: {cause}")),
        }
    }

    async fn manager(
        &self,
        name: &AppName,
        what: &'static str,
    ) -> Result<ManagerProxy<'_>, DriverError> {
        within(name, what, ManagerProxy::new(&self.0)).await
    }

    async fn state(&self, unit: &str) -> zbus::Result<String> {
        let path = ManagerProxy::new(&self.0).await?.load_unit(unit).await?;
        UnitProxy::builder(&self.0).path(path)?.build().await?.active_state().await
    }

    async fn wait_for(
        &self,
        name: &AppName,
        what: &'static str,
        (unit, wanted): (&str, &str),
    ) -> Result<(), DriverError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let state = within(name, what, self.state(unit)).await?;
            // A unit that was stopped and did not like it is as gone as any other.
            if state == wanted || (wanted == "inactive" && state == "failed") {
                return Ok(());
            }
            if state == "failed" || Instant::now() > until {
                let how = format!("{unit} is {state}");
                return Err(DriverError::Ended { application: name.clone(), how });
            }
            time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn within<T>(
    name: &AppName,
    what: &'static str,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T, DriverError> {
    let application = name.clone();
    match time::timeout(ANSWERS_WITHIN, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(cause)) => Err(DriverError::Refused { application, what, cause: Box::new(cause) }),
        Err(late) => Err(DriverError::Refused { application, what, cause: Box::new(late) }),
    }
}

/// The limits in systemd's words, where the largest number is no limit.
fn limits(mix: &ConfigurationMix) -> [(&'static str, Value<'static>); 2] {
    let cpu = mix.cpu.map_or(u64::MAX, |cpu| cpu.0.saturating_mul(1000));
    let memory = mix.memory.map_or(u64::MAX, |memory| memory.0);
    [("CPUQuotaPerSecUSec", Value::from(cpu)), ("MemoryMax", Value::from(memory))]
}

#[cfg(test)]
mod tests;
