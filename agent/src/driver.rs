//! What may be done to an application in this guest: start it, stop it, see whether it serves.
//!
//! Every verb may be called twice. Which program an application is comes from the allow-list
//! alone; a driver never runs anything that it found.

mod cgroup;
mod health;
mod process;
mod systemd;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use common::id::AppName;
use thiserror::Error;

pub use self::{
    cgroup::Groups,
    process::{LaunchError, ProcessDriver, ProcessSetup, Supervised, SupervisedState, launch},
    systemd::{SystemdDriver, systemd},
};
use crate::config::{AllowList, Runs, Wanted};

/// Why a driver did not do it.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The system refused.
    #[error("could not {what} {application}")]
    Refused {
        /// The application.
        application: AppName,
        /// What was to be done.
        what: &'static str,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was started and never came to be.
    #[error("{application} ended while it was started: {how}")]
    Ended {
        /// The application.
        application: AppName,
        /// How it ended, and what it said last.
        how: String,
    },
    /// It was told to end and killed, and is still there.
    #[error("{0} does not end")]
    Lasting(AppName),
    /// What keeps such applications is not on this machine.
    #[error("could not {what} {application}: {reason}")]
    NoDriver {
        /// The application.
        application: AppName,
        /// What was to be done.
        what: &'static str,
        /// Why it cannot be.
        reason: String,
    },
}

/// Why an application does not count as serving.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{application} is not healthy: {reason}")]
pub struct Unhealthy {
    /// The application.
    pub application: AppName,
    /// Why not.
    pub reason: String,
}

/// Starts and stops applications.
#[async_trait]
pub trait ApplicationDriver: Send + Sync {
    /// Makes `wanted` run just so. Finding it running just so is success; one that runs
    /// otherwise is started anew, one that is only limited otherwise is not.
    async fn start(&self, wanted: &Wanted) -> Result<(), DriverError>;

    /// Makes it not run. That it does not is success.
    async fn stop(&self, application: &AppName) -> Result<(), DriverError>;

    /// Looks once whether it serves.
    async fn check(&self, wanted: &Wanted) -> Result<(), Unhealthy>;

    /// The applications it keeps running by itself, whoever asked for them.
    async fn kept(&self) -> BTreeSet<AppName>;
}

/// All drivers of this guest: the allow-list says which one an application has.
pub struct Drivers {
    list: Arc<AllowList>,
    process: Arc<ProcessDriver>,
    systemd: Result<SystemdDriver, String>,
}

impl std::fmt::Debug for Drivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drivers").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Drivers {
    /// `systemd` is the driver, or why there is none.
    #[must_use]
    pub const fn new(
        list: Arc<AllowList>,
        process: Arc<ProcessDriver>,
        systemd: Result<SystemdDriver, String>,
    ) -> Self {
        Self { list, process, systemd }
    }

    /// What could not be limited, and why, by application.
    #[must_use]
    pub fn unlimited(&self) -> BTreeMap<AppName, String> {
        self.process.unlimited()
    }

    fn unit_of(&self, application: &AppName) -> Option<&str> {
        match &self.list.get(application)?.runs {
            Runs::Systemd { unit } => Some(unit),
            Runs::Process { .. } => None,
        }
    }

    fn systemd(
        &self,
        application: &AppName,
        what: &'static str,
    ) -> Result<&SystemdDriver, DriverError> {
        self.systemd.as_ref().map_err(|reason| DriverError::NoDriver {
            application: application.clone(),
            what,
            reason: reason.clone(),
        })
    }
}

#[async_trait]
impl ApplicationDriver for Drivers {
    async fn start(&self, wanted: &Wanted) -> Result<(), DriverError> {
        match &wanted.definition.runs {
            Runs::Process { .. } => self.process.start(wanted).await,
            Runs::Systemd { unit } => {
                self.systemd(&wanted.name, "start")?
                    .start(&wanted.name, unit, &wanted.setup.mix)
                    .await
            }
        }
    }

    async fn stop(&self, application: &AppName) -> Result<(), DriverError> {
        match self.unit_of(application) {
            Some(unit) => self.systemd(application, "stop")?.stop(application, unit).await,
            None => self.process.stop(application).await,
        }
    }

    async fn check(&self, wanted: &Wanted) -> Result<(), Unhealthy> {
        let unhealthy = |reason| Unhealthy { application: wanted.name.clone(), reason };
        match &wanted.definition.runs {
            Runs::Process { .. } => self.process.check_runs(wanted).await.map_err(unhealthy)?,
            Runs::Systemd { unit } => {
                let systemd = self.systemd.as_ref().map_err(|reason| unhealthy(reason.clone()))?;
                systemd.check_runs(unit).await.map_err(unhealthy)?;
            }
        }
        health::probe(&wanted.definition.health.kind).await.map_err(unhealthy)
    }

    async fn kept(&self) -> BTreeSet<AppName> {
        self.process.supervised().into_keys().collect()
    }
}
