//! What the agent is told on its own machine: `agent.toml`, and the allow-list beside it.
//!
//! Both are read once and checked in full; an error names the field, what it has, and what may
//! stand there. Nothing an aggregator sends changes any of it.

mod applications;
mod budget;
mod scope;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

pub use self::{
    applications::{
        AllowList, AllowListError, Definition, Health, HealthKind, NotPermitted, Runs, Wanted,
    },
    budget::Budget,
    scope::Scope,
};

/// Smallest spool that holds an hour of an ordinary guest.
const SMALLEST_SPOOL_MIB: u64 = 8;
/// Largest spool: an agent is a guest on the machine of others.
const LARGEST_SPOOL_MIB: u64 = 4096;

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is no TOML, or has a field nobody knows.
    #[error("could not understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// A value that cannot be used.
    #[error("{field} is {value}; {remedy}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it has.
        value: String,
        /// What may stand there.
        remedy: &'static str,
    },
    /// The allow-list cannot be used.
    #[error("could not use {}", path.display())]
    Applications {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: AllowListError,
    },
}

impl ConfigError {
    /// The file named is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }
}

/// Where services are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Services {
    /// In systemd if it runs, else among the agent's own.
    #[default]
    Auto,
    /// In systemd.
    Systemd,
    /// Among those the agent itself keeps running.
    Agent,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    aggregator: String,
    authority_fingerprint: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    #[serde(default = "default_folder")]
    folder: PathBuf,
    #[serde(default = "default_applications")]
    applications: PathBuf,
    #[serde(default)]
    apply: bool,
    #[serde(default = "default_dmi")]
    dmi: PathBuf,
    #[serde(default = "default_machine_id")]
    machine_id: PathBuf,
    #[serde(default = "default_spool_mib")]
    spool_mib: u64,
    #[serde(default)]
    services: Services,
    cgroup: Option<PathBuf>,
    #[serde(default)]
    budget: budget::Written,
    #[serde(default)]
    observe: scope::Observe,
    #[serde(default)]
    software: scope::Software,
}

fn default_folder() -> PathBuf {
    "/var/lib/sinter-agent".into()
}

fn default_applications() -> PathBuf {
    "/etc/sinter/applications.toml".into()
}

fn default_dmi() -> PathBuf {
    "/sys/class/dmi/id".into()
}

fn default_machine_id() -> PathBuf {
    "/etc/machine-id".into()
}

const fn default_spool_mib() -> u64 {
    64
}

/// Where a join token is.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// In the configuration itself.
    Here(String),
    /// In a file of its own, read when it is needed: it may come after the agent.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(_) => f.write_str("Here(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What the agent is told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the aggregator listens for agents: `HOST:PORT`.
    pub aggregator: String,
    /// SHA-256 of the authority's certificate (DER), lower-case hex.
    pub authority_fingerprint: String,
    /// The join token; a clone finds its ticket elsewhere.
    pub token: Option<Token>,
    /// Where the agent keeps what it must remember.
    pub folder: PathBuf,
    /// The allow-list's file.
    pub applications: PathBuf,
    /// Configuration lists may be applied; else the agent only observes.
    pub apply: bool,
    /// The folder with `product_uuid` and `product_serial`.
    pub dmi: PathBuf,
    /// The file with the machine id.
    pub machine_id: PathBuf,
    /// Most disk the spool may take, in bytes.
    pub spool_bytes: u64,
    /// Where services are looked for.
    pub services: Services,
    /// Folder below which a control group per application may be made.
    pub cgroup: Option<PathBuf>,
    /// What the agent may cost.
    pub budget: Budget,
    /// What of the guest may be told.
    pub scope: Scope,
}

impl Config {
    /// Reads and checks `agent.toml`.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        let written: Written = toml::from_str(&text).map_err(|cause| ConfigError::Parse {
            path: path.to_owned(),
            cause: Box::new(cause),
        })?;
        written.check()
    }

    /// Reads and checks the allow-list. An agent that only observes needs none.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn allow_list(&self) -> Result<AllowList, ConfigError> {
        let path = &self.applications;
        let text = match fs::read_to_string(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !self.apply => String::new(),
            other => other.map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?,
        };
        AllowList::parse(&text)
            .map_err(|cause| ConfigError::Applications { path: path.to_owned(), cause })
    }
}

impl Written {
    fn check(self) -> Result<Config, ConfigError> {
        let has_port = self.aggregator.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !has_port {
            let remedy = "give it as HOST:PORT, such as sinter.example:7401";
            return Err(bad("aggregator", self.aggregator, remedy));
        }
        let fingerprint = self.authority_fingerprint.replace(':', "").to_lowercase();
        if hex::decode(&fingerprint).map_or(0, |bytes| bytes.len()) != 32 {
            let remedy = "give the SHA-256 of the authority's certificate as 64 hex digits; \
                          the aggregator prints it when it starts";
            return Err(bad("authority_fingerprint", self.authority_fingerprint, remedy));
        }
        let spool_fits = (SMALLEST_SPOOL_MIB..=LARGEST_SPOOL_MIB).contains(&self.spool_mib);
        if !spool_fits {
            return Err(bad("spool_mib", self.spool_mib.to_string(), "give 8 to 4096"));
        }
        for (field, path) in [("folder", &self.folder), ("applications", &self.applications)] {
            if !path.is_absolute() {
                return Err(bad(field, path.display().to_string(), "give an absolute path"));
            }
        }
        let token = match (self.token, self.token_file) {
            (Some(_), Some(_)) => {
                let remedy = "give token or token_file, not both";
                return Err(bad("token_file", "given beside token".into(), remedy));
            }
            (Some(token), None) => Some(Token::Here(token)),
            (None, file) => file.map(Token::File),
        };
        let budget = self.budget.check()?;
        Ok(Config {
            aggregator: self.aggregator,
            authority_fingerprint: fingerprint,
            token,
            folder: self.folder,
            applications: self.applications,
            apply: self.apply,
            dmi: self.dmi,
            machine_id: self.machine_id,
            spool_bytes: self.spool_mib << 20,
            services: self.services,
            cgroup: self.cgroup,
            budget,
            scope: scope::check(&self.observe, self.software)?,
        })
    }
}

fn bad(field: &'static str, value: String, remedy: &'static str) -> ConfigError {
    ConfigError::Value { field, value, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    fn minimal() -> String {
        format!(
            "aggregator = \"127.0.0.1:7401\"\nauthority_fingerprint = \"{}\"\n",
            "ab".repeat(32)
        )
    }

    #[test]
    fn an_agent_that_is_told_nothing_else_only_observes() {
        let config = read(&minimal()).unwrap();
        assert!(!config.apply && !config.scope.arguments && config.scope.content.is_empty());
        assert!(config.allow_list().unwrap().names().next().is_none());
    }

    #[test]
    fn a_field_nobody_knows_is_refused() {
        let error = read(&format!("{}listen = \"0.0.0.0:1\"\n", minimal())).unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_remedy() {
        for (field, line) in [
            ("aggregator", "aggregator = \"nowhere\"\nauthority_fingerprint = \"\"\n".to_owned()),
            (
                "authority_fingerprint",
                "aggregator = \"a:1\"\nauthority_fingerprint = \"12\"".into(),
            ),
            ("spool_mib", format!("{}spool_mib = 1\n", minimal())),
            ("folder", format!("{}folder = \"here\"\n", minimal())),
            ("budget.memory_mib", format!("{}[budget]\nmemory_mib = 1\n", minimal())),
            ("token_file", format!("{}token = \"a\"\ntoken_file = \"/b\"\n", minimal())),
            ("software.files", format!("{}[software]\nfiles = [\"/etc/*.conf\"]\n", minimal())),
            ("software.content", format!("{}[software]\ncontent = [\"/a/../b\"]\n", minimal())),
            ("software.largest_kib", format!("{}[software]\nlargest_kib = 0\n", minimal())),
        ] {
            let error = read(&line).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn the_samples_that_are_installed_can_be_used() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples");
        let config = Config::read(&samples.join("agent.toml")).unwrap();
        let config = Config { applications: samples.join("applications.toml"), ..config };
        config.allow_list().unwrap();
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = read(&format!("{}token = \"secret-1\"\n", minimal())).unwrap();
        assert!(!format!("{config:?}").contains("secret-1"));
    }
}
