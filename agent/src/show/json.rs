//! What was seen as one JSON document. Names are those of `common::sample`; a table whose key is no text is
//! an array of rows, each with its key's fields and its own.

use std::collections::BTreeMap;

use common::{
    clock::Timestamp,
    id::AppName,
    mix::EffectiveMix,
    sample::{
        AgentUse, ApplicationUse, Connection, ConnectionKey, Counters, Coverage, Facts, Flow,
        FlowKey, Package, PackageKey, Process, ProcessKey, Service, Software,
    },
    units::Bytes,
};
use serde::Serialize;

use super::{Section, Seen};

/// A row with the fields of its key.
#[derive(Debug, Serialize)]
struct Row<'a, K, V> {
    #[serde(flatten)]
    key: &'a K,
    #[serde(flatten)]
    value: &'a V,
}

fn rows<K, V>(table: &BTreeMap<K, V>) -> Vec<Row<'_, K, V>> {
    table.iter().map(|(key, value)| Row { key, value }).collect()
}

/// A configuration file.
#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a str,
    size: Bytes,
    modified: Timestamp,
    /// `hash` as text, which people can compare.
    sha256: Option<String>,
    user: u32,
    group: u32,
    mode: u32,
    package: Option<&'a str>,
    unchanged: Option<bool>,
    content: Option<&'a str>,
}

/// Installed packages and configuration files.
#[derive(Debug, Serialize)]
struct Installed<'a> {
    packages: Vec<Row<'a, PackageKey, Package>>,
    files: Vec<File<'a>>,
}

/// The document; a part that was not asked for is left out, one that is unknown is null.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    taken_at: Timestamp,
    /// Milliseconds since the first look; null if this is it.
    over_ms: Option<u64>,
    missing: &'a [String],
    agent: &'a Option<AgentUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Vec<Row<'a, ConnectionKey, Connection>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Vec<Row<'a, FlowKey, Flow>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<&'a Option<Coverage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applications: Option<&'a BTreeMap<AppName, ApplicationUse>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mix: Option<&'a EffectiveMix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<Row<'a, ProcessKey, Process>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<&'a BTreeMap<String, Service>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<&'a Counters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    software: Option<Option<Installed<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Facts>,
}

impl<'a> Document<'a> {
    /// Of all sections, or only of some.
    pub(super) fn new(seen: &'a Seen, only: &[Section]) -> Self {
        let wants = |section| only.is_empty() || only.contains(&section);
        let it = &seen.observation;
        let over = seen.over.map(|over| u64::try_from(over.as_millis()).unwrap_or(u64::MAX));
        Self {
            taken_at: seen.taken_at,
            over_ms: over,
            missing: &seen.missing,
            agent: &it.agent,
            connections: wants(Section::Connections).then(|| rows(&it.connections)),
            flows: wants(Section::Flows).then(|| rows(&it.flows)),
            coverage: wants(Section::Coverage).then_some(&it.coverage),
            applications: wants(Section::Applications).then_some(&it.applications),
            mix: wants(Section::Applications).then_some(&it.mix),
            processes: wants(Section::Processes).then(|| rows(&it.processes)),
            services: wants(Section::Services).then_some(&it.services),
            counters: wants(Section::Counters).then_some(&it.counters),
            software: wants(Section::Software).then(|| seen.software.as_deref().map(installed)),
            facts: wants(Section::Facts).then_some(&it.facts),
        }
    }
}

fn installed(software: &Software) -> Installed<'_> {
    let files = software.files.iter().map(|(path, file)| File {
        path,
        size: file.size,
        modified: file.modified,
        sha256: file.hash.map(hex::encode),
        user: file.user,
        group: file.group,
        mode: file.mode,
        package: file.package.as_deref(),
        unchanged: file.unchanged,
        content: file.content.as_deref(),
    });
    Installed { packages: rows(&software.packages), files: files.collect() }
}

#[cfg(test)]
mod tests {
    use common::sample::{
        ConfigurationFile, ConnectionState, Direction, Holder, Observation, PackageManager,
        Protocol,
    };

    use super::*;

    fn seen() -> Seen {
        let key = ConnectionKey {
            protocol: Protocol::Tcp,
            local: ([127, 0, 0, 1], 80).into(),
            remote: None,
        };
        let row = Connection {
            state: ConnectionState::Listen,
            direction: Direction::Listener,
            holder: Holder::Unknown { reason: "nobody".into(), application: None },
            user: Some(0),
            inode: None,
            translated: None,
            first_seen: Timestamp::from_millis(1),
            sent: None,
            received: Some(Bytes(7)),
            transport: None,
        };
        let package = PackageKey {
            manager: PackageManager::Dpkg,
            name: "sed".into(),
            architecture: "amd64".into(),
        };
        let file = ConfigurationFile { hash: Some([171; 32]), ..ConfigurationFile::default() };
        let software = Software {
            packages: [(package, Package { version: "4.9".into(), ..Package::default() })].into(),
            files: [("/etc/a".to_owned(), file)].into(),
        };
        Seen {
            taken_at: Timestamp::from_millis(2),
            over: None,
            observation: Observation { connections: [(key, row)].into(), ..Observation::default() },
            software: Some(software.into()),
            missing: Vec::new(),
        }
    }

    #[test]
    fn a_key_that_is_no_text_becomes_fields_of_its_row() {
        let document = serde_json::to_value(Document::new(&seen(), &[])).unwrap();
        let row = &document["connections"][0];
        assert_eq!((&row["local"], &row["received"]), (&"127.0.0.1:80".into(), &7.into()));
        assert!(row["sent"].is_null());
        assert_eq!(document["software"]["packages"][0]["name"], "sed");
        assert_eq!(document["software"]["files"][0]["sha256"], "ab".repeat(32));
    }

    #[test]
    fn only_what_was_asked_for_is_there() {
        let seen = seen();
        let document = serde_json::to_value(Document::new(&seen, &[Section::Coverage])).unwrap();
        assert!(document["coverage"].is_null() && document.get("coverage").is_some());
        assert!(document.get("connections").is_none());
    }
}
