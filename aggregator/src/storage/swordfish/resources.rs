//! The resources of one array, by path, and the links between them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Parts of the tree that say nothing of storage, and may be endless: sessions, logs, schemas.
const LEFT_OUT: [&str; 12] = [
    "AccountService",
    "CertificateService",
    "EventService",
    "JsonSchemas",
    "KeyService",
    "LogServices",
    "Registries",
    "SessionService",
    "TaskService",
    "TelemetryService",
    "UpdateService",
    "odata",
];
/// Longest path that is asked for.
const PATH_LIMIT: usize = 512;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Resources {
    read: BTreeMap<String, Value>,
    missed: BTreeMap<String, String>,
    seen: BTreeSet<String>,
}

impl Resources {
    pub(super) fn len(&self) -> usize {
        self.read.len() + self.missed.len()
    }

    /// Takes a resource in; gives the paths it names that nobody has asked for yet.
    pub(super) fn take(&mut self, path: &str, body: Vec<u8>) -> Vec<String> {
        self.seen.insert(path.to_owned());
        let value: Value = match serde_json::from_slice(&body) {
            Ok(value) => value,
            Err(cause) => {
                self.missed.insert(path.to_owned(), format!("it is no JSON: {cause}"));
                return Vec::new();
            }
        };
        let mut named = BTreeSet::new();
        links(&value, &mut named);
        self.read.insert(path.to_owned(), value);
        named.retain(|path| is_of_storage(path) && !self.seen.contains(path));
        self.seen.extend(named.iter().cloned());
        named.into_iter().collect()
    }

    pub(super) fn miss(&mut self, path: &str, cause: &dyn std::error::Error) {
        self.missed.insert(path.to_owned(), common::task::Chain(cause).to_string());
    }

    /// What could not be had, and why.
    pub(super) fn missed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.missed.iter().map(|(path, cause)| (path.as_str(), cause.as_str()))
    }

    /// The resource at a path.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        self.read.get(path)
    }

    /// The resources of a type, such as `Volume`, with their paths.
    pub(super) fn of_type<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        // `#Volume.v1_10_0.Volume`; a collection is `#VolumeCollection.VolumeCollection`.
        let is_it = move |value: &Value| {
            let named = value["@odata.type"].as_str().unwrap_or_default();
            named.trim_start_matches('#').split('.').next() == Some(kind)
        };
        let all = self.read.iter().filter(move |(_, value)| is_it(value));
        all.map(|(path, value)| (path.as_str(), value))
    }

    /// The resources that a list of links leads to.
    pub(super) fn led_to<'a>(
        &'a self,
        list: &'a Value,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let links = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let paths = links.iter().filter_map(link);
        paths.filter_map(|path| self.read.get_key_value(path.trim_end_matches('/'))).map(as_strs)
    }

    /// The members of the collection that a link leads to.
    pub(super) fn members<'a>(
        &'a self,
        collection: &Value,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let at = link(collection).and_then(|path| self.at(path.trim_end_matches('/')));
        at.map(|collection| &collection["Members"]).into_iter().flat_map(|list| self.led_to(list))
    }
}

fn as_strs<'a>((path, value): (&'a String, &'a Value)) -> (&'a str, &'a Value) {
    (path.as_str(), value)
}

/// The path that a link names.
pub(super) fn link(link: &Value) -> Option<&str> {
    link["@odata.id"].as_str()
}

/// All links in a resource, without what follows a `#`, which is within the resource.
fn links(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(path) if name == "@odata.id" => {
                        let path = path.split('#').next().unwrap_or_default();
                        into.insert(path.trim_end_matches('/').to_owned());
                    }
                    other => links(other, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| links(value, into)),
        _ => {}
    }
}

/// A path of this service that may lead to storage: no other host's, and none that climbs.
fn is_of_storage(path: &str) -> bool {
    let Some(below) = path.strip_prefix("/redfish/v1/") else { return false };
    path.len() <= PATH_LIMIT
        && !below.contains(['?', '\\'])
        && below.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && !LEFT_OUT.contains(&part)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &str) -> Vec<String> {
        Resources::default().take("/redfish/v1", body.as_bytes().to_vec())
    }

    #[test]
    fn links_are_followed_within_the_service_alone() {
        let named = taken(
            r##"{"@odata.id": "/redfish/v1", "a": {"@odata.id": "/redfish/v1/Storage/"},
                "b": [{"@odata.id": "/redfish/v1/Chassis/1#/Sensors/0"}],
                "c": {"@odata.id": "http://elsewhere/redfish/v1/Storage"},
                "d": {"@odata.id": "/redfish/v1/../../etc/passwd"},
                "e": {"@odata.id": "/redfish/v1/Managers/1/LogServices/Log"},
                "f": {"@odata.id": "/redfish/v1/Storage?$expand=*"}}"##,
        );

        assert_eq!(named, ["/redfish/v1/Chassis/1", "/redfish/v1/Storage"]);
    }

    #[test]
    fn what_is_no_json_is_left_out_by_name() {
        let mut resources = Resources::default();
        let named = resources.take("/redfish/v1/Storage/1", b"<html>".to_vec());

        assert!(named.is_empty());
        let missed: Vec<_> = resources.missed().collect();
        assert_eq!(missed[0].0, "/redfish/v1/Storage/1");
        assert!(missed[0].1.starts_with("it is no JSON"), "{missed:?}");
    }

    #[test]
    fn a_resource_is_asked_for_once() {
        let mut resources = Resources::default();
        let body = br#"{"a": {"@odata.id": "/redfish/v1/Storage"}}"#;
        assert_eq!(resources.take("/redfish/v1", body.to_vec()).len(), 1);
        assert_eq!(resources.take("/redfish/v1/Chassis", body.to_vec()).len(), 0);
    }

    #[test]
    fn a_tree_as_deep_as_it_may_be_sent_is_no_danger() {
        let deep = "[".repeat(200_000);
        assert!(taken(&deep).is_empty());
    }
}
