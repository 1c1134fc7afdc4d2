//! The catalogue: which applications exist, how each is known when seen, and what binds it.

use std::collections::{BTreeMap, BTreeSet};

use common::id::AppName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hypervisor::ProbeKind;

/// What the agent is called where it is seen among the applications.
pub(crate) const AGENT: &str = "sinter-agent";

/// How an application is known. Every part given must match; the first rule that matches names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Path of the executable, exact.
    pub executable: Option<String>,
    /// Name of the service unit, exact.
    pub unit: Option<String>,
    /// Port it listens on.
    pub port: Option<u16>,
}

/// What sort of application it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Answers people or programs over HTTP.
    Web,
    /// Keeps data.
    Database,
    /// Does the business's own work.
    Business,
    /// Runs now and then.
    Batch,
    /// Whatever the operator says.
    #[default]
    Custom,
}

/// One application the fleet may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// What sort it is.
    pub class: Class,
    /// How it is known when seen, any of these.
    pub rules: Vec<Rule>,
    /// It may be moved to another machine. One with inbound edges moves only together with a
    /// service address; without one it stays.
    pub movable: bool,
    /// It never leaves the machine it is on.
    pub pinned: bool,
    /// Applications that never share a machine with it.
    pub never_with: BTreeSet<AppName>,
    /// Ports it serves on, and how each is asked in a trial.
    #[serde(with = "by_port")]
    pub serves: BTreeMap<u16, ProbeKind>,
    /// It keeps data on its machine's disks and cannot move without them.
    pub keeps_data: bool,
}

/// All applications, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(pub BTreeMap<AppName, Application>);

/// Most applications a catalogue may have.
const MOST_APPLICATIONS: usize = 10_000;
/// Longest path of a health question.
const LONGEST_PATH: usize = 1024;

/// Why a catalogue cannot be worked with.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// It is no TOML, or has keys that nobody knows.
    #[error("could not understand the catalogue")]
    Parse(#[source] Box<toml::de::Error>),
    /// It could not be turned into TOML.
    #[error("could not write the catalogue")]
    Write(#[source] Box<toml::ser::Error>),
    /// A value nobody can work with.
    #[error("application {application}: {field} is {value}; {remedy}")]
    Value {
        /// Which application.
        application: AppName,
        /// Which field.
        field: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        remedy: &'static str,
    },
    /// More applications than a catalogue may have.
    #[error("catalogue has {0} applications, at most {MOST_APPLICATIONS} are allowed")]
    TooMany(usize),
}

impl Catalogue {
    /// Reads a catalogue written as TOML, one table per application, and checks it.
    ///
    /// ```toml
    /// [report]
    /// class = "batch"
    /// movable = true
    /// rules = [{ executable = "/usr/bin/report" }]
    /// serves = { 9100 = { http_get = { path = "/health" } }, 9101 = "tcp_connect" }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CatalogueError`].
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let catalogue: Self =
            toml::from_str(text).map_err(|cause| CatalogueError::Parse(Box::new(cause)))?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// As [`Catalogue::parse`] reads it.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Write`].
    pub fn to_toml(&self) -> Result<String, CatalogueError> {
        toml::to_string(self).map_err(|cause| CatalogueError::Write(Box::new(cause)))
    }

    /// Checks every application.
    ///
    /// # Errors
    ///
    /// The first value nobody can work with.
    pub fn check(&self) -> Result<(), CatalogueError> {
        if self.0.len() > MOST_APPLICATIONS {
            return Err(CatalogueError::TooMany(self.0.len()));
        }
        for (name, application) in &self.0 {
            let bad = |field, value: String, remedy| {
                let application = name.clone();
                Err(CatalogueError::Value { application, field, value, remedy })
            };
            if name.as_str() == AGENT {
                return bad("name", name.to_string(), "that is the agent itself; leave it out");
            }
            if application.rules.iter().any(|rule| *rule == Rule::default()) {
                return bad("rules", "{}".to_owned(), "write an executable, a unit or a port");
            }
            if application.pinned && application.movable {
                return bad("pinned", "true".to_owned(), "it cannot be movable too; write one");
            }
            if application.never_with.contains(name) {
                return bad("never_with", name.to_string(), "write other applications");
            }
            let ports = application.rules.iter().filter_map(|rule| rule.port);
            if ports.chain(application.serves.keys().copied()).any(|port| port == 0) {
                return bad("port", "0".to_owned(), "write 1 to 65535");
            }
            if let Some(path) = application.serves.values().find_map(unfit_path) {
                return bad("path", format!("{path:?}"), "write a path from /, without blanks");
            }
        }
        Ok(())
    }
}

fn unfit_path(kind: &ProbeKind) -> Option<&str> {
    let ProbeKind::HttpGet { path } = kind else { return None };
    let fits = path.starts_with('/')
        && path.len() <= LONGEST_PATH
        && path.chars().all(|c| c.is_ascii_graphic());
    (!fits).then_some(path)
}

/// A map by port whose keys are text where the format has no other: TOML.
mod by_port {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::hypervisor::ProbeKind;

    pub(super) fn serialize<S: Serializer>(
        ports: &BTreeMap<u16, ProbeKind>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let by_text: BTreeMap<String, &ProbeKind> =
            ports.iter().map(|(port, kind)| (port.to_string(), kind)).collect();
        by_text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u16, ProbeKind>, D::Error> {
        let by_text = BTreeMap::<String, ProbeKind>::deserialize(deserializer)?;
        let ports = by_text.into_iter().map(|(port, kind)| {
            let number = port.parse();
            let number = number.map_err(|_| D::Error::custom(format!("{port:?} is no port")))?;
            Ok((number, kind))
        });
        ports.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = r#"
        [report]
        class = "batch"
        movable = true
        rules = [{ executable = "/usr/bin/report" }, { port = 9100 }]
        never_with = ["store"]
        serves = { 9100 = { http_get = { path = "/health" } }, 9101 = "tcp_connect" }

        [store]
        class = "database"
        keeps_data = true
    "#;

    fn refused(text: &str) -> String {
        common::task::Chain(&Catalogue::parse(text).unwrap_err()).to_string()
    }

    #[test]
    fn a_catalogue_reads_back_as_it_was_written() {
        let catalogue = Catalogue::parse(RIGHT).unwrap();
        let report = &catalogue.0[&"report".parse().unwrap()];
        assert_eq!(report.serves[&9101], ProbeKind::TcpConnect);
        assert_eq!(Catalogue::parse(&catalogue.to_toml().unwrap()).unwrap(), catalogue);
        let packed = rmp_serde::to_vec_named(&catalogue).unwrap();
        assert_eq!(rmp_serde::from_slice::<Catalogue>(&packed).unwrap(), catalogue);
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        assert!(refused("[report]\ncommand = 'rm'").contains("unknown field `command`"));
        assert!(refused("[report]\nserves = { x = 'tcp_connect' }").contains("\"x\" is no port"));
        assert!(refused("[report]\nserves = { 70000 = 'tcp_connect' }").contains("no port"));
    }

    #[test]
    fn a_rule_that_matches_everything_is_refused() {
        let told = refused("[report]\nrules = [{}]");
        assert_eq!(told, "application report: rules is {}; write an executable, a unit or a port");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(refused("[a]\npinned = true\nmovable = true").contains("pinned is true"));
        assert!(refused("[a]\nnever_with = ['a']").contains("never_with is a"));
        assert!(refused("[a]\nserves = { 0 = 'tcp_connect' }").contains("port is 0"));
        assert!(refused("[sinter-agent]").contains("that is the agent itself"));
    }

    #[test]
    fn a_path_that_is_more_than_a_path_is_refused() {
        for path in ["health", "/a b", "/a\\r\\nHost: x"] {
            let text = format!("[a]\nserves = {{ 80 = {{ http_get = {{ path = \"{path}\" }} }} }}");
            assert!(refused(&text).contains("write a path from /"), "{path}");
        }
    }
}
