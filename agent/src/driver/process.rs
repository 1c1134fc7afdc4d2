//! The driver for applications that nobody else keeps: processes the agent starts, supervises and
//! stops.
//!
//! ```text
//!  start ─> order written ─> launcher ─> writes down who it is ─> becomes the application
//!  agent ends, starts again ─> finds it by number, start and boot ─> goes on supervising
//! ```
//!
//! An application outlives the agent. One that ends by itself is started again, later each time.
//! A process that leaves its session is still ended with its application where control groups can
//! be made, and is out of reach where they cannot.

mod launch;
mod life;
mod record;
mod stop;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{id::AppName, mix::ConfigurationMix, task::Chain};
use tracing::{info, warn};

pub use self::launch::{LaunchError, launch};
use self::{
    life::{Life, Process},
    record::{Order, Records},
};
use super::{DriverError, cgroup::Group, cgroup::Groups};
use crate::{
    config::{HealthKind, Wanted},
    file::FileError,
};

/// How long a process whose health is that it runs must have run.
const RAN_FOR: Duration = Duration::from_secs(2);
/// Output that is kept of an application, in bytes: it shall never fill the disk.
const OUTPUT_KEPT: u64 = 1 << 20;

/// What the driver stands on.
#[derive(Debug, Clone)]
pub struct ProcessSetup {
    /// A folder of its own; what it remembers is in it.
    pub folder: PathBuf,
    /// The program that becomes an application when it is called as `launch FOLDER INSTANCE`.
    pub launcher: PathBuf,
    /// Where applications are limited.
    pub groups: Groups,
    /// Nice value of applications, if the agent's own is another.
    pub nice: Option<i32>,
    /// OOM score adjustment of applications, if the agent's own is another.
    pub oom_score: Option<i32>,
}

/// How a supervised application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisedState {
    /// It runs.
    Runs,
    /// It ended by itself and is started again in a while.
    Waits,
    /// It is being stopped.
    Stops,
}

/// One supervised application, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervised {
    /// How it stands.
    pub state: SupervisedState,
    /// Its process, while it runs.
    pub pid: Option<u32>,
}

/// The driver. Its calls block for moments, a stop for as long as the application takes.
pub struct ProcessDriver {
    setup: ProcessSetup,
    kept: Mutex<BTreeMap<AppName, Kept>>,
}

/// One application that is kept running.
#[derive(Debug)]
struct Kept {
    command: Vec<String>,
    mix: ConfigurationMix,
    group: Group,
    life: Life,
}

impl fmt::Debug for ProcessDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessDriver").field("setup", &self.setup).finish_non_exhaustive()
    }
}

fn failed<E>(application: &AppName, what: &'static str) -> impl FnOnce(E) -> DriverError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let application = application.clone();
    move |cause| DriverError::Refused { application, what, cause: Box::new(cause) }
}

impl ProcessDriver {
    /// The driver, with every application that an agent before this one left running.
    ///
    /// # Errors
    ///
    /// If its folder cannot be made or read.
    pub fn open(setup: ProcessSetup) -> Result<Self, FileError> {
        crate::file::make_folder(&setup.folder)?;
        let driver = Self { setup, kept: Mutex::default() };
        for name in driver.remembered()? {
            match driver.found(&name) {
                Ok(Some(kept)) => {
                    info!(application = %name, pid = ?kept.life.pid(), "application found running");
                    driver.lock().insert(name, kept);
                }
                Ok(None) => {}
                Err(cause) => {
                    let cause = Chain(&cause);
                    warn!(application = %name, %cause, "remembered application not read");
                }
            }
        }
        Ok(driver)
    }

    fn remembered(&self) -> Result<Vec<AppName>, FileError> {
        let path = &self.setup.folder;
        let refused = |cause| FileError::Io { action: "read", path: path.clone(), cause };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(names)
    }

    fn records(&self, name: &AppName) -> Records {
        Records::in_folder(&self.setup.folder.join(name.as_str()))
    }

    /// No panic happens while it is held, and a list of processes has no half state.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever runs as `name` though this agent did not start it.
    fn found(&self, name: &AppName) -> Result<Option<Kept>, FileError> {
        let records = self.records(name);
        let _lock = records.lock()?;
        let Some(running) = records.alive()? else { return Ok(None) };
        let Order { command, mix, groups, .. } = records.order()?.unwrap_or_default();
        let group = Group { folders: groups, unlimited: Vec::new() };
        let life = Life::found(running.process);
        Ok(Some(Kept { command, mix, group, life }))
    }

    /// Makes `wanted` run just so; see [`super::ApplicationDriver::start`].
    ///
    /// # Errors
    ///
    /// See [`DriverError`].
    pub async fn start(self: &Arc<Self>, wanted: &Wanted) -> Result<(), DriverError> {
        let (driver, wanted) = (Arc::clone(self), wanted.clone());
        let name = wanted.name.clone();
        blocking(&name, "start", move || driver.start_now(&wanted)).await
    }

    fn start_now(&self, wanted: &Wanted) -> Result<(), DriverError> {
        let (name, command, mix) = (&wanted.name, wanted.command(), wanted.setup.mix);
        self.adopt(name).map_err(failed(name, "start"))?;
        let runs_so = self.lock().get(name).map(|kept| kept.runs(&command));
        if runs_so == Some(false) {
            self.stop_now(name)?;
        }
        let group = self.setup.groups.set(name, &mix);
        let mut all = self.lock();
        if let Some(kept) = all.get_mut(name) {
            let pid = kept.life.pid();
            kept.set_group(name, group, pid);
            kept.mix = mix;
            return self.remember_mix(name, mix).map_err(failed(name, "limit"));
        }
        let process = self.spawn(name, &command, mix, &group)?;
        let pid = process.pid();
        let (life, unset) = (Life::new(process), Group::default());
        let mut kept = Kept { command, mix, group: unset, life };
        kept.set_group(name, group, Some(pid));
        all.insert(name.clone(), kept);
        drop(all);
        info!(application = %name, "application started");
        Ok(())
    }

    /// A launcher of an agent before us may come to be after we looked.
    fn adopt(&self, name: &AppName) -> Result<(), FileError> {
        let is_known = self.lock().contains_key(name) || !self.records(name).folder().exists();
        if !is_known && let Some(kept) = self.found(name)? {
            self.lock().insert(name.clone(), kept);
        }
        Ok(())
    }

    fn remember_mix(&self, name: &AppName, mix: ConfigurationMix) -> Result<(), FileError> {
        let records = self.records(name);
        let _lock = records.lock()?;
        let order = records.order()?.unwrap_or_default();
        if order.mix == mix { Ok(()) } else { records.write_order(&Order { mix, ..order }) }
    }

    /// Writes the order and starts the launcher; returns when there is a process.
    fn spawn(
        &self,
        name: &AppName,
        command: &[String],
        mix: ConfigurationMix,
        group: &Group,
    ) -> Result<Process, DriverError> {
        let records = self.records(name);
        let remember = |cause| failed(name, "remember the start of")(cause);
        records.make().map_err(remember)?;
        let instance = {
            let _lock = records.lock().map_err(remember)?;
            let former = records.order().map_err(remember)?.map_or(0, |order| order.instance);
            let order = Order {
                instance: former + 1,
                wanted: true,
                command: command.to_vec(),
                mix,
                groups: group.folders.clone(),
                nice: self.setup.nice,
                oom_score: self.setup.oom_score,
            };
            records.write_order(&order).map_err(remember)?;
            order.instance
        };
        Process::launch(&self.setup.launcher, &records, instance).map_err(|cause| match cause {
            life::NotLaunched::System(cause) => failed(name, "start")(cause),
            life::NotLaunched::Ended(how) => DriverError::Ended { application: name.clone(), how },
        })
    }

    /// Starts again what ended by itself and whose time has come. To be called often.
    pub fn tick(&self) {
        let now = Instant::now();
        let mut all = self.lock();
        for (name, kept) in all.iter_mut() {
            if let Some(how) = kept.life.note_end(now, &self.records(name)) {
                let again_in = kept.life.pause(now);
                warn!(application = %name, how, ?again_in, "application ended by itself");
            }
            if !kept.life.is_due(now) {
                trim(&self.records(name).output());
                continue;
            }
            let group = self.setup.groups.set(name, &kept.mix);
            match self.spawn(name, &kept.command, kept.mix, &group) {
                Ok(process) => {
                    kept.set_group(name, group, Some(process.pid()));
                    kept.life.started_again(process, now);
                    info!(application = %name, "application started again");
                }
                Err(cause) => {
                    kept.life.put_off(now);
                    let cause = Chain(&cause);
                    warn!(application = %name, %cause, "application not started again");
                }
            }
        }
    }

    /// Whether a process counts as running, and if not, why.
    pub(super) async fn check_runs(self: &Arc<Self>, wanted: &Wanted) -> Result<(), String> {
        let (driver, wanted) = (Arc::clone(self), wanted.clone());
        let checked = tokio::task::spawn_blocking(move || driver.check_runs_now(&wanted)).await;
        checked.unwrap_or_else(|cause| Err(cause.to_string()))
    }

    fn check_runs_now(&self, wanted: &Wanted) -> Result<(), String> {
        let mut all = self.lock();
        let kept = all.get_mut(&wanted.name).ok_or("it was not started")?;
        let runs_for = kept.life.runs_for(Instant::now())?;
        let is_new = runs_for.is_some_and(|runs_for| runs_for < RAN_FOR);
        if matches!(wanted.definition.health.kind, HealthKind::Running) && is_new {
            return Err(format!("it has run for less than {} s", RAN_FOR.as_secs()));
        }
        Ok(())
    }

    /// The applications that are kept running.
    #[must_use]
    pub fn supervised(&self) -> BTreeMap<AppName, Supervised> {
        let all = self.lock();
        all.iter().map(|(name, kept)| (name.clone(), kept.life.seen())).collect()
    }

    /// What could not be limited, and why, by application.
    #[must_use]
    pub fn unlimited(&self) -> BTreeMap<AppName, String> {
        let all = self.lock();
        let some = all.iter().filter(|(_, kept)| !kept.group.unlimited.is_empty());
        some.map(|(name, kept)| (name.clone(), kept.group.unlimited.join("; "))).collect()
    }
}

impl Kept {
    /// Notes how it is limited, and says what is not as wanted when that is new.
    fn set_group(&mut self, name: &AppName, mut group: Group, pid: Option<i32>) {
        if let Some(pid) = pid {
            group.check(pid);
        }
        if group.unlimited != self.group.unlimited && !group.unlimited.is_empty() {
            let what = group.unlimited.join("; ");
            warn!(application = %name, what, "application not limited as wanted");
        }
        self.group = group;
    }

    fn runs(&self, command: &[String]) -> bool {
        self.command == command && self.life.is_running()
    }
}

/// Applications append to their output, so it can be cut while they write.
fn trim(output: &Path) {
    let is_long = fs::metadata(output).is_ok_and(|output| output.len() > OUTPUT_KEPT);
    if is_long && let Ok(file) = fs::OpenOptions::new().write(true).open(output) {
        drop(file.set_len(0));
    }
}

async fn blocking(
    name: &AppName,
    what: &'static str,
    work: impl FnOnce() -> Result<(), DriverError> + Send + 'static,
) -> Result<(), DriverError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| Err(failed(name, what)(cause)))
}
