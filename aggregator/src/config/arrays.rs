//! The storage arrays of a configuration.
//!
//! ```toml
//! [[storage]]
//! name = "enclosure"
//! kind = "swordfish"
//! url = "https://10.0.0.20"
//! fingerprint = "9f86d081..."
//! credentials = "/etc/sinter/enclosure.toml"
//!
//! [[storage]]
//! name = "target"
//! kind = "iscsi-target"
//!
//! [[storage]]
//! name = "filer"
//! kind = "pushed"
//! away_after_seconds = 300
//! collectors = ["filer-1"]           # who may tell of it; every collector if not given
//! ```

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::vendor::{Address, Trust};

/// Where Debian puts it.
const TGTADM: &str = "/usr/sbin/tgtadm";

/// The kind of an array that is told of.
const PUSHED: &str = "pushed";
/// Collectors commonly look every minute; a few of their looks may fail.
const AWAY_AFTER_SECONDS: u32 = 300;
/// A sampling window's shortest, and a day: beyond it what was said is no figure of now.
const AWAY_AFTER_RANGE: std::ops::RangeInclusive<u32> = 10..=86_400;

/// A storage array, or another place that keeps storage devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayConfig {
    /// What it is called; no two have the same name.
    pub name: String,
    /// How it is spoken to.
    pub kind: ArrayKind,
}

/// How an array is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayKind {
    /// Swordfish or Redfish.
    Swordfish(Address),
    /// The target daemon of this host.
    IscsiTarget {
        /// Its program `tgtadm`. Absolute.
        program: PathBuf,
        /// Its socket; `None` for where it is by default.
        socket: Option<PathBuf>,
    },
    /// A collector of somebody else's hands in what it saw.
    Pushed {
        /// How long after a push it counts as away.
        away_after: Duration,
        /// Names of the collectors that may tell of it; `None` for every one.
        collectors: Option<BTreeSet<String>>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: String,
    kind: String,
    url: Option<String>,
    fingerprint: Option<String>,
    authority: Option<PathBuf>,
    credentials: Option<PathBuf>,
    program: Option<PathBuf>,
    socket: Option<PathBuf>,
    away_after_seconds: Option<u32>,
    collectors: Option<BTreeSet<String>>,
}

/// A field, the value that was written, and what may be.
pub(super) type Bad = (&'static str, String, &'static str);

pub(super) fn checked(written: Vec<Written>) -> Result<Vec<ArrayConfig>, Bad> {
    let mut names = BTreeSet::new();
    let mut arrays = Vec::with_capacity(written.len());
    for array in written {
        let is_new = names.insert(array.name.clone());
        if array.name.is_empty() || !is_new {
            return Err(("storage.name", array.name, "write a name that no other array has"));
        }
        if let Some(collectors) = array.collectors.as_ref().filter(|_| array.kind != PUSHED) {
            let remedy = "leave it out: an array only of kind \"pushed\" has collectors";
            return Err(("storage.collectors", format!("{collectors:?}"), remedy));
        }
        let name = array.name.clone();
        let kind = match array.kind.as_str() {
            "swordfish" => ArrayKind::Swordfish(address(array)?),
            "iscsi-target" => target(array)?,
            PUSHED => pushed(&array)?,
            other => {
                let remedy = "write \"swordfish\", \"iscsi-target\" or \"pushed\"";
                return Err(("storage.kind", other.to_owned(), remedy));
            }
        };
        arrays.push(ArrayConfig { name, kind });
    }
    Ok(arrays)
}

fn address(array: Written) -> Result<Address, Bad> {
    let written = array.url.unwrap_or_default();
    let url = written.parse().map_err(|_| ("storage.url", written, "write https://HOST"))?;
    let fields = ["storage.fingerprint", "storage.authority"];
    let trust = trust(array.fingerprint, array.authority, fields)?;
    let credentials =
        array.credentials.map(|path| absolute("storage.credentials", path)).transpose()?;
    let address = Address { url, trust, credentials };
    match address.client() {
        Ok(_) => Ok(address),
        Err(cause) => {
            let remedy = "write https://HOST with a fingerprint or an authority that can be read";
            Err(("storage.url", format!("{}: {cause}", address.url), remedy))
        }
    }
}

/// Whom to believe at the other end, from the fields of these names.
pub(super) fn trust(
    fingerprint: Option<String>,
    authority: Option<PathBuf>,
    [fingerprint_at, authority_at]: [&'static str; 2],
) -> Result<Option<Trust>, Bad> {
    match (fingerprint, authority) {
        (Some(fingerprint), None) => {
            let digits = fingerprint.replace(':', "");
            if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                let remedy = "write the SHA-256 of its certificate, 64 hex digits";
                return Err((fingerprint_at, fingerprint, remedy));
            }
            Ok(Some(Trust::Fingerprint(digits)))
        }
        (None, Some(path)) => Ok(Some(Trust::Authority(absolute(authority_at, path)?))),
        (None, None) => Ok(None),
        (Some(fingerprint), Some(_)) => {
            let remedy = "write a fingerprint or an authority, not both";
            Err((fingerprint_at, fingerprint, remedy))
        }
    }
}

fn target(array: Written) -> Result<ArrayKind, Bad> {
    let program = array.program.unwrap_or_else(|| PathBuf::from(TGTADM));
    Ok(ArrayKind::IscsiTarget {
        program: absolute("storage.program", program)?,
        socket: array.socket.map(|path| absolute("storage.socket", path)).transpose()?,
    })
}

fn pushed(array: &Written) -> Result<ArrayKind, Bad> {
    let seconds = array.away_after_seconds.unwrap_or(AWAY_AFTER_SECONDS);
    if !AWAY_AFTER_RANGE.contains(&seconds) {
        return Err(("storage.away_after_seconds", seconds.to_string(), "write 10 to 86400"));
    }
    let collectors = array.collectors.clone();
    if collectors.as_ref().is_some_and(|names| names.is_empty() || names.contains("")) {
        let remedy = "write the names of its collectors, or leave it out to let every one";
        return Err(("storage.collectors", format!("{collectors:?}"), remedy));
    }
    Ok(ArrayKind::Pushed { away_after: Duration::from_secs(u64::from(seconds)), collectors })
}

pub(super) fn absolute(field: &'static str, path: PathBuf) -> Result<PathBuf, Bad> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err((field, path.display().to_string(), "write a path from /"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked_text(text: &str) -> Result<Vec<ArrayConfig>, String> {
        #[derive(Deserialize)]
        struct All {
            storage: Vec<Written>,
        }
        let all: All = toml::from_str(text).map_err(|cause| cause.message().to_owned())?;
        checked(all.storage)
            .map_err(|(field, value, remedy)| format!("{field} is {value}; {remedy}"))
    }

    #[test]
    fn an_array_has_an_address_that_can_be_believed() {
        let digits = "ab".repeat(32);
        let text = format!(
            "[[storage]]\nname = 'a'\nkind = 'swordfish'\nurl = 'https://h'\nfingerprint = '{digits}'"
        );
        let [array] = checked_text(&text).unwrap().try_into().unwrap();
        let ArrayKind::Swordfish(address) = array.kind else { panic!("{array:?}") };
        assert_eq!(address.trust, Some(Trust::Fingerprint(digits)));
    }

    #[test]
    fn what_cannot_be_worked_with_is_named() {
        let refused = |text: &str| checked_text(&format!("[[storage]]\n{text}")).unwrap_err();
        let told = refused("name = 'a'\nkind = 'nas'");
        assert_eq!(
            told,
            "storage.kind is nas; write \"swordfish\", \"iscsi-target\" or \"pushed\""
        );
        let told = refused("name = 'a'\nkind = 'swordfish'\nurl = 'https://h'\nfingerprint = 'x'");
        assert!(told.starts_with("storage.fingerprint is x"), "{told}");
        let told = refused("name = 'a'\nkind = 'swordfish'\nurl = 'http://array.example'");
        assert!(told.contains("not encrypted"), "{told}");
        let told = refused("name = 'a'\nkind = 'iscsi-target'\nprogram = 'tgtadm'");
        assert_eq!(told, "storage.program is tgtadm; write a path from /");
        let told = refused("name = 'a'\nkind = 'pushed'\naway_after_seconds = 5");
        assert_eq!(told, "storage.away_after_seconds is 5; write 10 to 86400");
        let told = refused("name = 'a'\nkind = 'pushed'\ncollectors = []");
        assert!(told.ends_with("or leave it out to let every one"), "{told}");
        let told = refused("name = 'a'\nkind = 'iscsi-target'\ncollectors = ['c']");
        assert!(told.ends_with("only of kind \"pushed\" has collectors"), "{told}");
        let twice = "name = 'a'\nkind = 'iscsi-target'";
        let told = refused(&format!("{twice}\n[[storage]]\n{twice}"));
        assert!(told.starts_with("storage.name is a"), "{told}");
    }
}
