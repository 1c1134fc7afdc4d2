//! The configuration file of the aggregator: written, then checked, then trusted.
//!
//! ```toml
//! folder = "/var/lib/sinter"
//! agents = "0.0.0.0:7401"
//! admin = "127.0.0.1:7402"
//!
//! [hypervisor]
//! kind = "namespace"
//! folder = "/var/lib/sinter/machines"
//! ```
//!
//! Hosts with libvirt stand side by side under `[hypervisor.NAME]` each, and so do vCenters.
//!
//! What may change while it runs (windows, thresholds, approval) is the policy's, and is set with
//! `sinterctl policy set`.

mod arrays;
mod centres;
mod kvm;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

pub use self::arrays::{ArrayConfig, ArrayKind};
use crate::hypervisor::{libvirt::LibvirtHost, vsphere::VsphereCentre};

/// A configuration that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the store, the authority and the keys are. Absolute.
    pub folder: PathBuf,
    /// Where agents connect.
    pub agents: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Who runs the machines.
    pub hypervisor: HypervisorConfig,
    /// Who keeps their storage.
    pub storage: Vec<ArrayConfig>,
}

/// Who runs the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorConfig {
    /// Machines made of namespaces on this host.
    Namespace {
        /// Where they are kept. Absolute.
        folder: PathBuf,
    },
    /// Machines of KVM hosts, at least one.
    Libvirt {
        /// The hosts.
        hosts: Vec<LibvirtHost>,
    },
    /// Machines of vCenters, at least one.
    Vsphere {
        /// The centres.
        centres: Vec<VsphereCentre>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    folder: PathBuf,
    #[serde(default = "agents_port")]
    agents: String,
    #[serde(default = "admin_port")]
    admin: String,
    hypervisor: toml::Table,
    #[serde(default)]
    storage: Vec<arrays::Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHypervisor {
    kind: String,
    folder: Option<PathBuf>,
}

fn agents_port() -> String {
    "0.0.0.0:7401".to_owned()
}

fn admin_port() -> String {
    "127.0.0.1:7402".to_owned()
}

/// Why a configuration file cannot be worked with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("could not read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is no TOML, or has keys that nobody knows.
    #[error("could not understand the configuration {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where, and why not.
        #[source]
        cause: Box<toml::de::Error>,
    },
    /// A value nobody can work with.
    #[error("{}: {field} is {value:?}; {remedy}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        remedy: &'static str,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::of_text(path, &text)
    }

    fn of_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let written: Written = toml::from_str(text).map_err(|cause| ConfigError::Parse {
            path: path.to_owned(),
            cause: Box::new(cause),
        })?;
        let bad = |field, value: &str, remedy| ConfigError::Value {
            path: path.to_owned(),
            field,
            value: value.to_owned(),
            remedy,
        };
        let address = |field, text: &str| {
            text.parse::<SocketAddr>()
                .map_err(|_| bad(field, text, "write ADDRESS:PORT, such as 0.0.0.0:7401"))
        };
        let absolute = |field, folder: PathBuf| {
            let shown = folder.display().to_string();
            if folder.is_absolute() {
                Ok(folder)
            } else {
                Err(bad(field, &shown, "write a path from /"))
            }
        };
        let agents = address("agents", &written.agents)?;
        let admin = address("admin", &written.admin)?;
        if agents.port() != 0 && agents.port() == admin.port() {
            let remedy = "agents and operators have a port each; write another";
            return Err(bad("admin", &written.admin, remedy));
        }
        let folder = absolute("folder", written.folder)?;
        let unclear = |cause| ConfigError::Parse { path: path.to_owned(), cause: Box::new(cause) };
        // One without a name is known by its kind.
        let hypervisor = if written.hypervisor.contains_key("kind") {
            let one: WrittenHypervisor = written.hypervisor.try_into().map_err(unclear)?;
            if one.kind != "namespace" {
                let remedy =
                    "write \"namespace\", or [hypervisor.NAME] for \"libvirt\" or \"vsphere\"";
                return Err(bad("hypervisor.kind", &one.kind, remedy));
            }
            let machines = one.folder.unwrap_or_else(|| folder.join("machines"));
            HypervisorConfig::Namespace { folder: absolute("hypervisor.folder", machines)? }
        } else if has_kind(&written.hypervisor, centres::KIND) {
            let named: BTreeMap<String, centres::Written> =
                written.hypervisor.try_into().map_err(unclear)?;
            let centres = centres::checked(named)
                .map_err(|(field, value, remedy)| bad(field, &value, remedy))?;
            HypervisorConfig::Vsphere { centres }
        } else {
            let named: BTreeMap<String, kvm::Written> =
                written.hypervisor.try_into().map_err(unclear)?;
            let hosts =
                kvm::checked(named).map_err(|(field, value, remedy)| bad(field, &value, remedy))?;
            HypervisorConfig::Libvirt { hosts }
        };
        let storage = arrays::checked(written.storage)
            .map_err(|(field, value, remedy)| bad(field, &value, remedy))?;
        Ok(Self { folder, agents, admin, hypervisor, storage })
    }
}

/// Whether one of the named hypervisors is of a kind; they are all read as such then.
fn has_kind(named: &toml::Table, kind: &str) -> bool {
    named.values().any(|one| one.get("kind").and_then(toml::Value::as_str) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = Config::of_text(Path::new("aggregator.toml"), text).unwrap_err();
        common::task::Chain(&error).to_string()
    }

    const RIGHT: &str = "folder = '/var/lib/sinter'\n[hypervisor]\nkind = 'namespace'\n";

    #[test]
    fn what_is_not_said_has_a_safe_default() {
        let config = Config::of_text(Path::new("aggregator.toml"), RIGHT).unwrap();
        assert!(config.admin.ip().is_loopback());
        let folder = PathBuf::from("/var/lib/sinter/machines");
        assert_eq!(config.hypervisor, HypervisorConfig::Namespace { folder });
    }

    #[test]
    fn an_unknown_key_is_named() {
        let told = refused(&format!("agent = '0.0.0.0:1'\n{RIGHT}"));
        assert!(told.contains("unknown field `agent`"), "{told}");
    }

    #[test]
    fn an_impossible_address_is_named_with_its_remedy() {
        let told = refused(&format!("agents = 'everywhere'\n{RIGHT}"));
        assert_eq!(
            told,
            "aggregator.toml: agents is \"everywhere\"; write ADDRESS:PORT, such as 0.0.0.0:7401"
        );
    }

    #[test]
    fn one_port_for_both_is_refused() {
        let told = refused(&format!("admin = '127.0.0.1:7401'\n{RIGHT}"));
        assert!(told.contains("admin is"), "{told}");
    }

    #[test]
    fn a_hypervisor_nobody_knows_is_refused() {
        let told = refused("folder = '/x'\n[hypervisor]\nkind = 'hyperfoo'\n");
        assert!(told.contains("hypervisor.kind is \"hyperfoo\"; write \"namespace\""), "{told}");
    }

    #[test]
    fn hosts_with_libvirt_stand_side_by_side() {
        let text = "folder = '/x'\n[hypervisor.a]\nkind = 'libvirt'\nsocket = '/s'\n\
                    [hypervisor.b]\nkind = 'libvirt'\nuri = 'qemu+tls://b/system'\n";
        let config = Config::of_text(Path::new("aggregator.toml"), text).unwrap();
        let HypervisorConfig::Libvirt { hosts } = config.hypervisor else { panic!("{config:?}") };
        assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

        for (wrong, words) in [
            ("kind = 'namespace'", "each is \"libvirt\""),
            ("kind = 'libvirt'", "either its uri or its socket"),
            ("kind = 'libvirt'\nsocket = 's'", "write a path from /"),
            ("kind = 'libvirt'\nuri = 'xen:///'", "write qemu:///system"),
            ("kind = 'libvirt'\nport = 1", "unknown field `port`"),
        ] {
            let told = refused(&format!("folder = '/x'\n[hypervisor.a]\n{wrong}\n"));
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn centres_stand_side_by_side_and_say_whom_to_believe() {
        let right = "kind = 'vsphere'\nurl = 'https://vc'\ncredentials = '/c'\n";
        let pin = format!("fingerprint = '{}'\n", "ab".repeat(32));
        let text =
            format!("folder = '/x'\n[hypervisor.a]\n{right}{pin}[hypervisor.b]\n{right}{pin}");
        let config = Config::of_text(Path::new("aggregator.toml"), &text).unwrap();
        let HypervisorConfig::Vsphere { centres } = config.hypervisor else { panic!("{config:?}") };
        assert_eq!(centres.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

        for (wrong, words) in [
            (right.to_owned(), "does not say whom to believe"),
            (format!("{right}{pin}port = 1"), "unknown field `port`"),
            (format!("{right}fingerprint = 'ab'"), "64 hex digits"),
            (right.replace("'/c'", "'c'") + &pin, "write a path from /"),
            (right.replace("https", "http"), "is not encrypted"),
            (
                format!("{right}{pin}[hypervisor.b]\n{}", right.replace("vsphere", "other") + &pin),
                "side by side",
            ),
        ] {
            let told = refused(&format!("folder = '/x'\n[hypervisor.a]\n{wrong}\n"));
            assert!(told.contains(words), "{told}");
        }
        let told = refused(&format!("folder = '/x'\n[hypervisor.'a b']\n{right}{pin}"));
        assert!(told.contains("at most 32 letters"), "{told}");
    }

    #[test]
    fn a_path_that_depends_on_where_one_stands_is_refused() {
        let told = refused("folder = 'here'\n[hypervisor]\nkind = 'namespace'\n");
        assert!(told.contains("folder is \"here\""), "{told}");
    }
}
