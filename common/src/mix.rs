//! Mixes: what an application needs, and what a guest runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::AppName,
    units::{Bytes, Millicores},
};

/// What an application needs to run nominally, or is limited to. `None` is not limited, never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationMix {
    /// CPU.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "cpu_millicores")]
    pub cpu: Option<Millicores>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "memory_bytes")]
    pub memory: Option<Bytes>,
    /// Storage.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "storage_bytes")]
    pub storage: Option<Bytes>,
}

/// How one application of a mix is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Its settings, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Its limits.
    #[serde(default)]
    pub mix: ConfigurationMix,
}

/// Which applications a guest runs, and how each is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApplicationMix(pub BTreeMap<AppName, Setup>);

/// SHA-256 of an application mix in canonical form: the base a list is written against.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MixHash(pub [u8; 32]);

impl ApplicationMix {
    /// Hashes names, settings and limits. Each part is preceded by its length, so that no two
    /// different mixes spell the same bytes.
    #[must_use]
    pub fn hash(&self) -> MixHash {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for (name, setup) in &self.0 {
            part(name.as_str().as_bytes());
            part(&(setup.settings.len() as u64).to_be_bytes());
            for (key, value) in &setup.settings {
                part(key.as_bytes());
                part(value.as_bytes());
            }
            let ConfigurationMix { cpu, memory, storage } = setup.mix;
            for limit in [cpu.map(|c| c.0), memory.map(|m| m.0), storage.map(|s| s.0)] {
                match limit {
                    Some(limit) => part(&limit.to_be_bytes()),
                    None => part(&[]),
                }
            }
        }
        MixHash(hash.finalize().into())
    }
}

impl std::fmt::Display for MixHash {
    /// The first eight bytes in hex: enough to tell mixes apart by eye.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

/// The mix a guest really runs, whatever it was offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveMix {
    /// Generation of the list it comes from; 0 for what the guest came with.
    pub generation: u64,
    /// The last generation that was tried, applied or not.
    pub attempted_generation: u64,
    /// The applications.
    pub applications: ApplicationMix,
    /// Those whose health check passed when they were last asked.
    pub healthy: std::collections::BTreeSet<AppName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_do_not_run_into_each_other() {
        let mix = |settings: &[(&str, &str)]| {
            let settings =
                settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let setup = Setup { settings, ..Setup::default() };
            ApplicationMix([("web".parse().unwrap(), setup)].into()).hash()
        };
        assert_ne!(mix(&[("a", "bc")]), mix(&[("ab", "c")]));
        assert_eq!(mix(&[("a", "b")]), mix(&[("a", "b")]));
    }

    #[test]
    fn no_limit_is_not_a_limit_of_zero() {
        let mix = |cpu| {
            let mix = ConfigurationMix { cpu, ..ConfigurationMix::default() };
            ApplicationMix([("web".parse().unwrap(), Setup { mix, ..Setup::default() })].into())
        };
        assert_ne!(mix(None).hash(), mix(Some(Millicores(0))).hash());
    }
}
