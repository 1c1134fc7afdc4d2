//! What of the guest may be told, beyond what every agent tells: the sections `[observe]` and `[software]`.

use std::collections::BTreeSet;

use common::units::Bytes;
use serde::Deserialize;

use super::{ConfigError, bad};

/// Most entries of one list.
const MOST_ENTRIES: usize = 256;
/// Longest path, the kernel's own bound.
const LONGEST_PATH: usize = 4096;
/// Largest file that may be hashed: one is hashed in one go.
const LARGEST_KIB: u64 = 4096;

/// What of the guest may be told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The arguments of processes, secrets struck out.
    pub arguments: bool,
    /// The kernel may be asked to tell which process opens a connection. Costs the agent two microseconds each.
    pub openings: bool,
    /// Packages and their configuration files.
    pub packages: bool,
    /// Further configuration files, or folders of them.
    pub files: BTreeSet<String>,
    /// Files whose content may be told.
    pub content: BTreeSet<String>,
    /// A larger file is not hashed.
    pub largest: Bytes,
}

impl Scope {
    /// Whether any software is read.
    #[must_use]
    pub fn reads_software(&self) -> bool {
        self.packages || !self.files.is_empty() || !self.content.is_empty()
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            arguments: false,
            openings: true,
            packages: true,
            files: BTreeSet::new(),
            content: BTreeSet::new(),
            largest: Bytes(default_largest_kib() << 10),
        }
    }
}

/// `[observe]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Observe {
    arguments: bool,
    openings: bool,
}

impl Default for Observe {
    fn default() -> Self {
        Self { arguments: false, openings: true }
    }
}

/// `[software]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Software {
    packages: bool,
    files: BTreeSet<String>,
    content: BTreeSet<String>,
    largest_kib: u64,
}

impl Default for Software {
    fn default() -> Self {
        Self {
            packages: true,
            files: BTreeSet::new(),
            content: BTreeSet::new(),
            largest_kib: default_largest_kib(),
        }
    }
}

const fn default_largest_kib() -> u64 {
    256
}

/// Checks both sections.
///
/// # Errors
///
/// [`ConfigError::Value`] with the field, its value and what may stand there.
pub(super) fn check(observe: &Observe, software: Software) -> Result<Scope, ConfigError> {
    for (field, paths) in
        [("software.files", &software.files), ("software.content", &software.content)]
    {
        if paths.len() > MOST_ENTRIES {
            return Err(bad(field, format!("{} paths long", paths.len()), "give at most 256"));
        }
        if let Some(path) = paths.iter().find(|path| !is_plain(path)) {
            let remedy =
                "give an absolute path without \"..\", signs for patterns or control characters";
            return Err(bad(field, path.clone(), remedy));
        }
    }
    if !(1..=LARGEST_KIB).contains(&software.largest_kib) {
        return Err(bad(
            "software.largest_kib",
            software.largest_kib.to_string(),
            "give 1 to 4096",
        ));
    }
    Ok(Scope {
        arguments: observe.arguments,
        openings: observe.openings,
        packages: software.packages,
        files: software.files,
        content: software.content,
        largest: Bytes(software.largest_kib << 10),
    })
}

/// A pattern would be taken for the name of a file that is never there.
fn is_plain(path: &str) -> bool {
    let climbs = path.split('/').any(|part| part == "..");
    let is_pattern = path.contains(['*', '?']) || path.contains(char::is_control);
    let ends_well = path.len() > 1 && path.len() <= LONGEST_PATH && !path.ends_with('/');
    path.starts_with('/') && !path.contains("//") && ends_well && !climbs && !is_pattern
}
