//! The allow-list as it is written, and how it is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use common::id::AppName;
use serde::Deserialize;

use super::{AllowListError, Definition, Health, HealthKind, LONGEST_SETTING, Runs, bad};

/// How long an application may take until its health check passes, if it does not say.
const HEALTHY_WITHIN: Duration = Duration::from_secs(20);
/// Longest such time: a list that takes longer holds up every other.
const LONGEST_START: u64 = 600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    driver: Driver,
    #[serde(default)]
    command: Vec<String>,
    unit: Option<String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    autostart: bool,
    #[serde(default)]
    after: BTreeSet<AppName>,
    #[serde(default)]
    health: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Driver {
    Process,
    Systemd,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    #[serde(default)]
    kind: Kind,
    /// Loopback if it is not given.
    address: Option<IpAddr>,
    port: Option<u16>,
    path: Option<String>,
    within_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Http,
    Tcp,
    #[default]
    Running,
}

impl Application {
    pub(super) fn check(self, name: &AppName) -> Result<Definition, AllowListError> {
        // Names become names of folders and control groups.
        if name.as_str().starts_with('.') || name.as_str().contains('/') {
            return Err(bad(name, "name", name, "take out the slash, or the dot at its start"));
        }
        let runs = self.runs(name)?;
        let health = self.health.check(name)?;
        let Self { settings, autostart, after, .. } = self;
        Ok(Definition { runs, settings, autostart, after, health })
    }

    fn runs(&self, name: &AppName) -> Result<Runs, AllowListError> {
        match (self.driver, &self.unit) {
            (Driver::Process, None) => {
                self.check_command(name)?;
                Ok(Runs::Process { command: self.command.clone() })
            }
            (Driver::Process, Some(unit)) => {
                Err(bad(name, "unit", unit, "take it out; it goes with driver = \"systemd\""))
            }
            (Driver::Systemd, _) if !self.command.is_empty() => {
                Err(bad(name, "command", "given", "take it out; the unit says what is run"))
            }
            (Driver::Systemd, _) if !self.settings.is_empty() => {
                Err(bad(name, "settings", "given", "take them out; a unit has none"))
            }
            (Driver::Systemd, Some(unit)) if unit.ends_with(".service") => {
                Ok(Runs::Systemd { unit: unit.clone() })
            }
            (Driver::Systemd, unit) => {
                let unit = unit.clone().unwrap_or_else(|| "not given".into());
                Err(bad(name, "unit", unit, "give a unit such as x.service"))
            }
        }
    }

    fn check_command(&self, name: &AppName) -> Result<(), AllowListError> {
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        if !program.starts_with('/') || program.contains("${") {
            let remedy = "begin it with the absolute path of a program, without settings";
            return Err(bad(name, "command", format!("{program:?}"), remedy));
        }
        let unknown = |key: &&str| !self.settings.contains_key(*key);
        if let Some(key) = self.command.iter().flat_map(|part| keys(part)).find(unknown) {
            let remedy = "give the setting a default under settings";
            return Err(bad(name, "command", format!("${{{key}}}"), remedy));
        }
        Ok(())
    }
}

impl Check {
    fn check(&self, name: &AppName) -> Result<Health, AllowListError> {
        let port = || match self.port {
            Some(port) if port != 0 => Ok(port),
            _ => Err(bad(name, "health.port", "not given", "give the port it listens on")),
        };
        let path = self.path.clone().unwrap_or_else(|| "/".into());
        let is_path = path.starts_with('/')
            && path.bytes().all(|byte| byte.is_ascii_graphic())
            && path.len() <= LONGEST_SETTING;
        let address = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let kind = match self.kind {
            Kind::Http if is_path => HealthKind::Http { address, port: port()?, path },
            Kind::Http => {
                return Err(bad(name, "health.path", path, "begin it with a slash, no blanks"));
            }
            Kind::Tcp => HealthKind::Tcp { address, port: port()? },
            Kind::Running => HealthKind::Running,
        };
        let within = match self.within_seconds {
            None => HEALTHY_WITHIN,
            Some(seconds) if (1..=LONGEST_START).contains(&seconds) => Duration::from_secs(seconds),
            Some(seconds) => {
                return Err(bad(name, "health.within_seconds", seconds, "give 1 to 600"));
            }
        };
        Ok(Health { kind, within })
    }
}

fn keys(part: &str) -> Vec<&str> {
    part.split("${").skip(1).filter_map(|after| after.split_once('}')).map(|(key, _)| key).collect()
}
