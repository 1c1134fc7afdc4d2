//! What is installed and how it is configured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TableDelta;
use crate::{clock::Timestamp, units::Bytes};

/// Which package manager knows a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageManager {
    /// dpkg.
    Dpkg,
    /// rpm.
    Rpm,
}

/// What names an installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageKey {
    /// Who knows it.
    pub manager: PackageManager,
    /// Its name.
    pub name: String,
    /// The instruction set it is built for.
    pub architecture: String,
}

/// One installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its version, with epoch and release where they are part of it.
    pub version: String,
    /// When it was installed, where the manager keeps that.
    pub installed_at: Option<Timestamp>,
    /// Versions that are installed beside it, the newest first: rpm keeps several kernels under one name.
    #[serde(default)]
    pub further: Vec<PackageVersion>,
}

/// One more installed version of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageVersion {
    /// The version, with epoch and release where they are part of it.
    pub version: String,
    /// When it was installed, where the manager keeps that.
    pub installed_at: Option<Timestamp>,
}

/// One configuration file: of a package, or of the guest's own list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationFile {
    /// Its size.
    pub size: Bytes,
    /// When it was last changed.
    pub modified: Timestamp,
    /// SHA-256 of what is in it; `None` if it may not be read or is too large.
    pub hash: Option<[u8; 32]>,
    /// Numeric owner.
    pub user: u32,
    /// Numeric group.
    pub group: u32,
    /// Its permission bits.
    pub mode: u32,
    /// The package it belongs to.
    pub package: Option<String>,
    /// It is as its package brought it; `None` if the package keeps no digest.
    pub unchanged: Option<bool>,
    /// What is in it; `None` unless the guest's own configuration allows its path.
    pub content: Option<String>,
}

/// What is installed and how it is configured. It changes seldom and may be large, so it is not part of an
/// [`Observation`](super::Observation): nobody keeps it in memory for every guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    /// The installed packages.
    pub packages: BTreeMap<PackageKey, Package>,
    /// The configuration files, by path.
    pub files: BTreeMap<String, ConfigurationFile>,
}

/// Changes of the software.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoftwareDelta {
    /// It replaces what was known instead of amending it.
    pub full: bool,
    /// Changes of the packages.
    pub packages: TableDelta<PackageKey, Package>,
    /// Changes of the configuration files.
    pub files: TableDelta<String, ConfigurationFile>,
}
