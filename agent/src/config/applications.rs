//! The allow-list: which applications exist in this guest, and what each of them is here.
//!
//! An aggregator names applications and settings; commands, units and health checks come from
//! this file alone. What does not stand in it cannot be made to run.

mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use common::{
    id::AppName,
    mix::{ApplicationMix, Setup},
};
use thiserror::Error;

/// Longest value of a setting.
const LONGEST_SETTING: usize = 256;
/// Why the allow-list cannot be used.
#[derive(Debug, Error)]
pub enum AllowListError {
    /// It is no TOML, or has a field nobody knows.
    #[error("it could not be understood")]
    Parse(#[source] Box<toml::de::Error>),
    /// A value that cannot be used.
    #[error("{application}.{field} is {value}; {remedy}")]
    Value {
        /// The application.
        application: AppName,
        /// The field.
        field: &'static str,
        /// What it has.
        value: String,
        /// What may stand there.
        remedy: &'static str,
    },
    /// Applications that wait for each other.
    #[error("{0}.after leads back to itself; take one of the names out")]
    Circle(AppName),
}

/// Why a setup is not permitted here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotPermitted {
    /// The application does not stand in the allow-list.
    #[error("application {0} is not in this guest's allow-list")]
    Application(AppName),
    /// A setting nobody may set from outside.
    #[error("application {application} has no setting {key:?} that may be set")]
    Setting {
        /// The application.
        application: AppName,
        /// The setting.
        key: String,
    },
    /// A value that a command could read as something else.
    #[error(
        "setting {key:?} of {application} has a value that may not be set: at most {LONGEST_SETTING} bytes, no control characters, no hyphen at its start"
    )]
    SettingValue {
        /// The application.
        application: AppName,
        /// The setting.
        key: String,
    },
}

/// What an application is to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// A program the agent itself starts and supervises: its path and arguments, where `${key}`
    /// stands for a setting.
    Process {
        /// Path and arguments.
        command: Vec<String>,
    },
    /// A unit of systemd.
    Systemd {
        /// Its name.
        unit: String,
    },
}

/// How it is seen that an application serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthKind {
    /// It answers a GET with a status from 200 to 299.
    Http {
        /// Address; this machine's own.
        address: IpAddr,
        /// Port.
        port: u16,
        /// Path.
        path: String,
    },
    /// It accepts a connection.
    Tcp {
        /// Address; this machine's own.
        address: IpAddr,
        /// Port.
        port: u16,
    },
    /// It runs and goes on running.
    Running,
}

/// An application's health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How it is asked.
    pub kind: HealthKind,
    /// How long after its start it may take until it passes.
    pub within: Duration,
}

/// What an application is in this guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What is started.
    pub runs: Runs,
    /// Settings that may be set, with what they are otherwise.
    pub settings: BTreeMap<String, String>,
    /// It is part of the mix the guest came with.
    pub autostart: bool,
    /// Applications that are started before it if they run here at all.
    pub after: BTreeSet<AppName>,
    /// Its health check.
    pub health: Health,
}

/// An application as it shall run: what it is here, and how a list sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: AppName,
    /// What it is here.
    pub definition: Definition,
    /// How it is set.
    pub setup: Setup,
}

impl Wanted {
    /// Path and arguments with the settings in their places; empty for a unit of systemd.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let Runs::Process { command } = &self.definition.runs else { return Vec::new() };
        let settings = &self.definition.settings;
        let value = |key: &String| self.setup.settings.get(key).or_else(|| settings.get(key));
        command.iter().map(|part| filled(part, |key| value(key).cloned())).collect()
    }
}

/// Each `${key}` in `part` replaced once; what is put in is not looked at again.
fn filled(part: &str, value: impl Fn(&String) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), part);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((key, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(&value(&key.to_owned()).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// All applications that may run in this guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(BTreeMap<AppName, Definition>);

impl AllowList {
    /// Reads and checks it.
    ///
    /// # Errors
    ///
    /// See [`AllowListError`].
    pub fn parse(text: &str) -> Result<Self, AllowListError> {
        let written: BTreeMap<AppName, written::Application> =
            toml::from_str(text).map_err(|cause| AllowListError::Parse(Box::new(cause)))?;
        let checked = written.into_iter().map(|(name, application)| {
            let definition = application.check(&name)?;
            Ok((name, definition))
        });
        let list = Self(checked.collect::<Result<_, _>>()?);
        for (name, definition) in &list.0 {
            if let Some(unknown) = definition.after.iter().find(|name| !list.0.contains_key(name)) {
                let remedy = "name an application of this file";
                return Err(bad(name, "after", unknown, remedy));
            }
        }
        list.refuse_circles()?;
        Ok(list)
    }

    /// What an application is here.
    #[must_use]
    pub fn get(&self, name: &AppName) -> Option<&Definition> {
        self.0.get(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &AppName> {
        self.0.keys()
    }

    /// The mix the guest came with.
    #[must_use]
    pub fn autostarted(&self) -> ApplicationMix {
        let started = self.0.iter().filter(|(_, definition)| definition.autostart);
        ApplicationMix(started.map(|(name, _)| (name.clone(), Setup::default())).collect())
    }

    /// How an application shall run.
    ///
    /// # Errors
    ///
    /// If it may not run, or not like that.
    pub fn wanted(&self, name: &AppName, setup: &Setup) -> Result<Wanted, NotPermitted> {
        let unknown = || NotPermitted::Application(name.clone());
        let definition = self.0.get(name).ok_or_else(unknown)?;
        for (key, value) in &setup.settings {
            let (application, key) = (name.clone(), key.clone());
            if !definition.settings.contains_key(&key) {
                return Err(NotPermitted::Setting { application, key });
            }
            if !is_plain(value) {
                return Err(NotPermitted::SettingValue { application, key });
            }
        }
        let (definition, setup) = (definition.clone(), setup.clone());
        Ok(Wanted { name: name.clone(), definition, setup })
    }

    /// The names in the order in which they are started; stopping goes the other way. Names that
    /// do not stand here come last.
    #[must_use]
    pub fn in_order<'a>(&self, names: impl IntoIterator<Item = &'a AppName>) -> Vec<AppName> {
        let mut waiting: BTreeSet<&AppName> = names.into_iter().collect();
        let mut ordered = Vec::new();
        while !waiting.is_empty() {
            let is_ready = |name: &&&AppName| {
                self.0
                    .get(**name)
                    .is_none_or(|here| here.after.iter().all(|a| !waiting.contains(a)))
            };
            let ready: Vec<_> = waiting.iter().filter(is_ready).copied().collect();
            // Without a circle somebody is always ready; with one, which is refused when the file
            // is read, all go at once rather than never.
            let next = if ready.is_empty() { waiting.iter().copied().collect() } else { ready };
            for name in next {
                waiting.remove(name);
                ordered.push(name.clone());
            }
        }
        ordered
    }

    fn refuse_circles(&self) -> Result<(), AllowListError> {
        for name in self.0.keys() {
            let mut reached: BTreeSet<&AppName> = BTreeSet::new();
            let mut next: Vec<&AppName> = self.0[name].after.iter().collect();
            while let Some(before) = next.pop() {
                if before == name {
                    return Err(AllowListError::Circle(name.clone()));
                }
                if reached.insert(before) {
                    next.extend(self.0.get(before).iter().flat_map(|here| &here.after));
                }
            }
        }
        Ok(())
    }
}

/// Whether a value can stand in a command without being read as an option or breaking a log line.
fn is_plain(value: &str) -> bool {
    value.len() <= LONGEST_SETTING
        && !value.chars().any(char::is_control)
        && !value.starts_with('-')
}

fn bad(
    application: &AppName,
    field: &'static str,
    value: impl ToString,
    remedy: &'static str,
) -> AllowListError {
    let (application, value) = (application.clone(), value.to_string());
    AllowListError::Value { application, field, value, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = r#"
        [store]
        driver = "process"
        command = ["/bin/store"]
        [api]
        driver = "process"
        command = ["/bin/api", "--every=${every}", "${every}"]
        settings = { every = "2" }
        after = ["store"]
        autostart = true
        [api.health]
        kind = "http"
        port = 80
        path = "/health"
        [proxy]
        driver = "systemd"
        unit = "proxy.service"
        after = ["api"]
    "#;

    fn name(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn set(key: &str, value: &str) -> Setup {
        Setup { settings: [(key.to_owned(), value.to_owned())].into(), ..Setup::default() }
    }

    #[test]
    fn a_setting_takes_its_place_and_nothing_more() {
        let list = AllowList::parse(FLEET).unwrap();
        let start = |setup| list.wanted(&name("api"), &setup).unwrap().command();
        assert_eq!(start(Setup::default()), ["/bin/api", "--every=2", "2"]);
        assert_eq!(
            start(set("every", "9 ${every}")),
            ["/bin/api", "--every=9 ${every}", "9 ${every}"]
        );
    }

    #[test]
    fn what_does_not_stand_here_is_not_permitted() {
        let list = AllowList::parse(FLEET).unwrap();
        let refused = |app: &str, setup| list.wanted(&name(app), &setup).unwrap_err();
        assert!(matches!(refused("shell", Setup::default()), NotPermitted::Application(_)));
        assert!(matches!(refused("api", set("path", "x")), NotPermitted::Setting { .. }));
        for value in ["--config=/etc/shadow", "a\nb", &"x".repeat(257)] {
            assert!(
                matches!(refused("api", set("every", value)), NotPermitted::SettingValue { .. }),
                "{value:?}"
            );
        }
    }

    #[test]
    fn who_is_needed_starts_first() {
        let list = AllowList::parse(FLEET).unwrap();
        let names = [name("proxy"), name("api"), name("store")];
        assert_eq!(list.in_order(&names), [name("store"), name("api"), name("proxy")]);
        assert_eq!(list.in_order(&names[..2]), [name("api"), name("proxy")]);
    }

    #[test]
    fn only_what_starts_by_itself_is_in_the_first_mix() {
        let mix = AllowList::parse(FLEET).unwrap().autostarted();
        assert_eq!(mix.0.keys().collect::<Vec<_>>(), [&name("api")]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (field, text) in [
            ("a.command", "[a]\ndriver = \"process\"\ncommand = [\"sh\"]"),
            ("a.command", "[a]\ndriver = \"process\"\ncommand = [\"/bin/sh\", \"${x}\"]"),
            (
                "a.command",
                "[a]\ndriver = \"process\"\nsettings = {p = \"\"}\ncommand = [\"/${p}\"]",
            ),
            ("a.unit", "[a]\ndriver = \"systemd\""),
            ("a.unit", "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nunit = \"a.service\""),
            ("a.command", "[a]\ndriver = \"systemd\"\nunit = \"a.service\"\ncommand = [\"/a\"]"),
            ("a.after", "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nafter = [\"b\"]"),
            ("a.after", "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nafter = [\"a\"]"),
            ("a/b.name", "[\"a/b\"]\ndriver = \"process\"\ncommand = [\"/a\"]"),
            (
                "a.health.port",
                "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nhealth = {kind = \"tcp\"}",
            ),
            (
                "a.health.path",
                "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nhealth = {kind = \"http\", port = 1, path = \"/ x\"}",
            ),
            (
                "it could not",
                "[a]\ndriver = \"process\"\ncommand = [\"/a\"]\nhealth = {kind = \"command\"}",
            ),
        ] {
            let error = AllowList::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
