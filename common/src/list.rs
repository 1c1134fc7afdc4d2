//! The configuration list: the numbered file that tells one guest which applications to run.
//!
//! Here it is a value: read from and written to TOML, and [`resolve`]d against the mix a guest
//! runs. Who may have written it is the business of [`crate::signing`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    clock::Timestamp,
    id::{AppName, PlanId, VmId},
    mix::{ApplicationMix, ConfigurationMix, MixHash, Setup},
};

/// What a list wants of one application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It does not run and shall.
    Add,
    /// It runs and shall go on, perhaps with other settings or limits.
    Keep,
    /// It runs and shall not.
    Remove,
}

/// How a list is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// It names every application; a running one it does not name is an error, never a removal.
    Full,
    /// It names only what changes.
    Delta,
}

/// One application of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: AppName,
    /// What shall become of it.
    pub action: Action,
    /// Its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// What it may use.
    #[serde(default)]
    pub mix: ConfigurationMix,
}

/// The file that tells one guest which applications to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationList {
    /// Goes up with every list for one machine.
    pub generation: u64,
    /// The machine it is meant for.
    pub vm: VmId,
    /// The plan it belongs to.
    pub plan: PlanId,
    /// Hash of the mix it changes.
    pub base: MixHash,
    /// After this it is refused.
    pub expires_at: Timestamp,
    /// How it is to be read.
    pub form: Form,
    /// The applications, each once, in order of their names.
    #[serde(rename = "application", default)]
    pub applications: Vec<Listed>,
    /// What the machine was allocated before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<ConfigurationMix>,
}

/// Why a list does not fit the mix it is held against.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListError {
    /// It was written against another mix.
    #[error("list is written against the mix {wanted}, this guest runs {present}; plan again")]
    Base {
        /// The mix it was written against.
        wanted: MixHash,
        /// The mix that runs.
        present: MixHash,
    },
    /// An application stands in it twice.
    #[error("application {0} is listed twice")]
    Twice(AppName),
    /// It adds what runs already.
    #[error("application {0} is to be added but runs already")]
    AlreadyThere(AppName),
    /// It keeps or removes what does not run.
    #[error("application {0} is to be kept or removed but does not run")]
    NotThere(AppName),
    /// A full list forgot a running application.
    #[error("full list does not name {0}, which runs; name it as keep or remove")]
    Forgotten(AppName),
    /// It says nothing.
    #[error("list changes nothing")]
    Empty,
}

impl ConfigurationList {
    /// The mix that runs once this list is applied to `present`.
    ///
    /// # Errors
    ///
    /// See [`ListError`]; nothing of the list counts then.
    pub fn resolve(&self, present: &ApplicationMix) -> Result<ApplicationMix, ListError> {
        if self.base != present.hash() {
            return Err(ListError::Base { wanted: self.base, present: present.hash() });
        }
        let mut mix = present.clone();
        let mut named = BTreeSet::new();
        for listed in &self.applications {
            let name = &listed.name;
            if !named.insert(name) {
                return Err(ListError::Twice(name.clone()));
            }
            let runs = present.0.contains_key(name);
            match listed.action {
                Action::Add if runs => return Err(ListError::AlreadyThere(name.clone())),
                Action::Keep | Action::Remove if !runs => {
                    return Err(ListError::NotThere(name.clone()));
                }
                Action::Remove => {
                    mix.0.remove(name);
                }
                Action::Add | Action::Keep => {
                    let setup = Setup { settings: listed.settings.clone(), mix: listed.mix };
                    mix.0.insert(name.clone(), setup);
                }
            }
        }
        let forgotten = present.0.keys().find(|name| !named.contains(name));
        match (self.form, forgotten) {
            (Form::Full, Some(name)) => Err(ListError::Forgotten(name.clone())),
            _ if mix == *present => Err(ListError::Empty),
            _ => Ok(mix),
        }
    }
}

/// The changes that lead from `from` to `to`, by name; what stays the same is not named.
#[must_use]
pub fn changes(from: &ApplicationMix, to: &ApplicationMix) -> Vec<Listed> {
    let names: BTreeSet<_> = from.0.keys().chain(to.0.keys()).collect();
    let mut listed = Vec::new();
    for name in names {
        let (action, setup) = match (from.0.get(name), to.0.get(name)) {
            (None, Some(new)) => (Action::Add, new.clone()),
            (Some(_), None) => (Action::Remove, Setup::default()),
            (Some(old), Some(new)) if old != new => (Action::Keep, new.clone()),
            _ => continue,
        };
        let Setup { settings, mix } = setup;
        listed.push(Listed { name: name.clone(), action, settings, mix });
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(names: &[&str]) -> ApplicationMix {
        ApplicationMix(names.iter().map(|n| (n.parse().unwrap(), Setup::default())).collect())
    }

    fn list(present: &ApplicationMix, form: Form, applications: Vec<Listed>) -> ConfigurationList {
        ConfigurationList {
            generation: 1,
            vm: "vm-1".parse().unwrap(),
            plan: "plan-1".parse().unwrap(),
            base: present.hash(),
            expires_at: Timestamp::from_millis(1),
            form,
            applications,
            baseline: None,
        }
    }

    #[test]
    fn changes_lead_from_one_mix_to_the_other() {
        let (from, to) = (mix(&["api", "web"]), mix(&["report", "web"]));
        let list = list(&from, Form::Delta, changes(&from, &to));
        assert_eq!(list.resolve(&from), Ok(to));
    }

    #[test]
    fn a_full_list_never_removes_by_silence() {
        let present = mix(&["api", "web"]);
        let keep = changes(&mix(&[]), &mix(&["web"]))
            .into_iter()
            .map(|listed| Listed { action: Action::Keep, ..listed });
        let list = list(&present, Form::Full, keep.collect());
        assert_eq!(list.resolve(&present), Err(ListError::Forgotten("api".parse().unwrap())));
    }

    #[test]
    fn a_list_for_another_mix_is_refused() {
        let list = list(&mix(&["api"]), Form::Delta, Vec::new());
        assert!(matches!(list.resolve(&mix(&["web"])), Err(ListError::Base { .. })));
    }

    #[test]
    fn a_list_reads_back_from_its_file() {
        let (from, to) = (mix(&["api"]), mix(&["api", "web"]));
        let list = list(&from, Form::Delta, changes(&from, &to));
        let text = toml::to_string(&list).unwrap();
        assert_eq!(toml::from_str::<ConfigurationList>(&text).unwrap(), list);
        assert!(toml::from_str::<ConfigurationList>(&format!("command = \"x\"\n{text}")).is_err());
    }
}
