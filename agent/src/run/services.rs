//! Reads the services that stand outside the agent, now and then: they change seldom.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::task::Chain;
use tracing::debug;
use zbus::Connection;

use crate::{
    config::Services as Wanted,
    observe::services::{
        EnabledFiles, SYSTEMD_FOLDER, Services, connect, has_systemd, systemd_services,
    },
};

/// How long what was read is good for.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// Reads them, and keeps what it read for a while.
#[derive(Debug)]
pub struct ServicesReader {
    wanted: Wanted,
    connection: Option<Connection>,
    enabled: EnabledFiles,
    known: Option<(Instant, Services)>,
}

impl ServicesReader {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, connection: None, enabled: EnabledFiles::default(), known: None }
    }

    /// The services as they were at most a moment ago, or why they cannot be read.
    pub async fn read(&mut self) -> Services {
        match &self.known {
            Some((at, services)) if at.elapsed() < GOOD_FOR => services.clone(),
            _ => {
                let services = self.ask().await;
                self.known = Some((Instant::now(), services.clone()));
                services
            }
        }
    }

    async fn ask(&mut self) -> Services {
        match self.wanted {
            Wanted::Agent => return Services::unread("services = \"agent\" is set"),
            Wanted::Auto if !has_systemd(Path::new(SYSTEMD_FOLDER)) => {
                return Services::unread("systemd does not run this machine");
            }
            Wanted::Auto | Wanted::Systemd => {}
        }
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect().await,
        };
        let read = match connection {
            Ok(connection) => {
                let read = systemd_services(&connection, &mut self.enabled).await;
                self.connection = read.is_ok().then_some(connection);
                read
            }
            Err(cause) => Err(cause),
        };
        match read {
            Ok(services) => services,
            Err(cause) => {
                debug!(cause = %Chain(&cause), "services not read");
                Services::unread(Chain(&cause).to_string())
            }
        }
    }
}
