//! The catalogue: which applications exist, how each is known when seen, and what binds it.

use std::collections::{BTreeMap, BTreeSet};

use common::id::AppName;
use serde::{Deserialize, Serialize};

use crate::hypervisor::ProbeKind;

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
    pub serves: BTreeMap<u16, ProbeKind>,
    /// It keeps data on its machine's disks and cannot move without them.
    pub keeps_data: bool,
}

/// All applications, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(pub BTreeMap<AppName, Application>);
