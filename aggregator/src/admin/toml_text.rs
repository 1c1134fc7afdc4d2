//! Catalogue and policy as people write them. What is wrong is named with its line and its key.

use common::task::Chain;
use serde::{Serialize, de::DeserializeOwned};
use tonic::Status;

use super::refusal::{bad_field, internal};
use crate::{catalogue::Catalogue, policy::Policy};

/// Reads TOML that came in `field`.
pub(super) fn read<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Status> {
    toml::from_str(text).map_err(|cause| {
        let line = cause.span().map(|span| {
            let before = text.get(..span.start).unwrap_or_default();
            let number = before.matches('\n').count();
            (number + 1, text.lines().nth(number).unwrap_or_default())
        });
        let Some((number, line)) = line else {
            return bad_field(field, cause.message());
        };
        let (key, _) = line.split_once('=').unwrap_or((line, ""));
        let key: String = key.trim().chars().take(64).collect();
        bad_field(field, format_args!("line {number}, {key}: {}", cause.message()))
    })
}

/// Writes TOML.
pub(super) fn write<T: Serialize>(value: &T) -> Result<String, Status> {
    toml::to_string(value).map_err(|cause| internal(&cause))
}

/// `present` with the values that `text` names, checked.
pub(super) fn amended(present: &Policy, text: &str) -> Result<Policy, Status> {
    const FIELD: &str = "policy_toml";
    // Read for what is wrong with it; what it does not name comes from the present policy.
    let _offered: Policy = read(FIELD, text)?;
    let named: toml::Table = read(FIELD, text)?;
    let mut whole = toml::Table::try_from(present).map_err(|cause| internal(&cause))?;
    whole.extend(named);
    let amended: Policy = whole.try_into().map_err(|cause| bad_field(FIELD, Chain(&cause)))?;
    super::Admin::check(&amended)?;
    Ok(amended)
}

/// Reads a catalogue and holds it against itself.
pub(super) fn catalogue(text: &str) -> Result<Catalogue, Status> {
    const FIELD: &str = "catalogue_toml";
    let catalogue: Catalogue = read(FIELD, text)?;
    for (name, application) in &catalogue.0 {
        let refuse = |what: &str| Err(bad_field(FIELD, format_args!("{name}: {what}")));
        let says_nothing = |rule: &crate::catalogue::Rule| {
            rule.executable.is_none() && rule.unit.is_none() && rule.port.is_none()
        };
        if application.rules.iter().any(says_nothing) {
            return refuse("a rule names nothing; write executable, unit or port");
        }
        if application.movable && application.pinned {
            return refuse("it is movable and pinned; write one of them");
        }
        let stranger =
            application.never_with.iter().find(|other| !catalogue.0.contains_key(*other));
        if let Some(stranger) = stranger {
            return refuse(&format!("never_with names {stranger}, which is not in the catalogue"));
        }
    }
    Ok(catalogue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_named_with_its_line() {
        let refused = amended(&Policy::default(), "headroom = 0.2\nheadrom = 0.2\n").unwrap_err();
        let told = refused.message();
        assert!(told.starts_with("policy_toml: line 2, headrom: unknown field"), "{told}");
    }

    #[test]
    fn what_is_not_named_stays() {
        let present = Policy { trial_seconds: 7, ..Policy::default() };
        let amended = amended(&present, "headroom = 0.2\n").unwrap();
        assert_eq!((amended.trial_seconds, amended.headroom), (7, 0.2));
    }

    #[test]
    fn a_value_out_of_bounds_is_named_as_a_field_of_its_own() {
        let refused = amended(&Policy::default(), "headroom = 1.5").unwrap_err();
        assert_eq!(refused.message(), "headroom: is 1.5; write a share from 0 to 1");
    }

    #[test]
    fn a_catalogue_reads_back_as_it_is_shown() {
        let text = "[report]\nmovable = true\n[[report.rules]]\nport = 9100\n\
                    [report.serves.9100.http_get]\npath = '/health'\n";
        let read = catalogue(text).unwrap();
        assert_eq!(catalogue(&write(&read).unwrap()).unwrap(), read);
    }

    #[test]
    fn a_rule_that_fits_everything_is_refused() {
        let refused = catalogue("[report]\nrules = [{}]\n").unwrap_err();
        assert!(refused.message().contains("report: a rule names nothing"), "{refused}");
    }
}
