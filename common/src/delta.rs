//! Samples as changes: [`between`] makes one from two observations, [`apply`] takes it in again.
//!
//! `apply(before, between(before, after)) == after` for every pair; the tests hold us to it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::sample::{Gap, Observation, Sample, SampleId, Software, SoftwareDelta, TableDelta};

/// Where and when a sample stands, which the observations do not say.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    /// Which sample.
    pub id: SampleId,
    /// The guest's clock.
    pub taken_at: crate::clock::Timestamp,
    /// The guest's monotonic clock, in milliseconds.
    pub monotonic_ms: u64,
    /// Stretches without samples before it.
    pub gaps: Vec<Gap>,
}

/// Why a sample cannot be taken in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeltaError {
    /// It amends a table that is not known.
    #[error("sample {}.{} amends a table that is not known here", .0.epoch, .0.sequence)]
    NoBase(SampleId),
}

/// What changed between two looks; a full sample if there is no look before.
#[must_use]
pub fn between(before: Option<&Observation>, after: &Observation, stamp: Stamp) -> Sample {
    let full = before.is_none();
    let empty = Observation::default();
    let base = before.unwrap_or(&empty);
    Sample {
        id: stamp.id,
        taken_at: stamp.taken_at,
        monotonic_ms: stamp.monotonic_ms,
        full,
        connections: changes(&base.connections, &after.connections),
        flows: changes(&base.flows, &after.flows),
        coverage: after.coverage,
        processes: changes(&base.processes, &after.processes),
        services: changes(&base.services, &after.services),
        applications: after.applications.clone(),
        counters: after.counters.clone(),
        facts: (full || base.facts != after.facts).then(|| after.facts.clone()),
        mix: (full || base.mix != after.mix).then(|| after.mix.clone()),
        gaps: stamp.gaps,
        agent: after.agent.clone(),
        software: None,
    }
}

/// What changed of the software between two looks; all of it if there is no look before, `None` if nothing
/// did.
#[must_use]
pub fn of_software(before: Option<&Software>, after: &Software) -> Option<SoftwareDelta> {
    let full = before.is_none();
    let empty = Software::default();
    let base = before.unwrap_or(&empty);
    let delta = SoftwareDelta {
        full,
        packages: changes(&base.packages, &after.packages),
        files: changes(&base.files, &after.files),
    };
    (full || delta != SoftwareDelta::default()).then_some(delta)
}

/// Takes changes of the software into what is known. Full ones replace it.
pub fn amend_software(known: &mut Software, delta: &SoftwareDelta) {
    if delta.full {
        *known = Software::default();
    }
    amend_table(&mut known.packages, &delta.packages);
    amend_table(&mut known.files, &delta.files);
}

/// Takes `sample` into `known`, which is then what the agent saw.
///
/// # Errors
///
/// [`DeltaError::NoBase`] if the sample is not full and nothing is known; `known` stays `None`.
pub fn apply(known: &mut Option<Observation>, sample: &Sample) -> Result<(), DeltaError> {
    if sample.full {
        *known = Some(Observation::default());
    }
    let Some(known) = known else { return Err(DeltaError::NoBase(sample.id)) };
    amend(known, sample);
    Ok(())
}

/// Takes `sample` into what is known. A full one replaces it.
pub fn amend(known: &mut Observation, sample: &Sample) {
    if sample.full {
        *known = Observation::default();
    }
    amend_table(&mut known.connections, &sample.connections);
    amend_table(&mut known.flows, &sample.flows);
    known.coverage = sample.coverage;
    known.agent.clone_from(&sample.agent);
    amend_table(&mut known.processes, &sample.processes);
    amend_table(&mut known.services, &sample.services);
    known.applications.clone_from(&sample.applications);
    known.counters.clone_from(&sample.counters);
    if let Some(facts) = &sample.facts {
        known.facts.clone_from(facts);
    }
    if let Some(mix) = &sample.mix {
        known.mix.clone_from(mix);
    }
}

/// Walks both tables once, side by side: they stand in one order.
fn changes<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> TableDelta<K, V> {
    let mut delta = TableDelta::default();
    let mut former = before.iter().peekable();
    for (key, row) in after {
        while let Some((gone, _)) = former.next_if(|(known, _)| *known < key) {
            delta.removed.push(gone.clone());
        }
        let known = former.next_if(|(known, _)| *known == key);
        if known.is_none_or(|(_, known)| known != row) {
            delta.upserted.push((key.clone(), row.clone()));
        }
    }
    delta.removed.extend(former.map(|(gone, _)| gone.clone()));
    delta
}

fn amend_table<K: Ord + Clone, V: Clone>(table: &mut BTreeMap<K, V>, delta: &TableDelta<K, V>) {
    for key in &delta.removed {
        table.remove(key);
    }
    for (key, row) in &delta.upserted {
        table.insert(key.clone(), row.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sample::{ConfigurationFile, Service, ServiceState, Supervisor},
        units::Bytes,
    };

    fn with_services(names: &[(&str, ServiceState)]) -> Observation {
        let services = names.iter().map(|(name, state)| {
            let supervisor = Supervisor::Agent;
            let service = Service { supervisor, state: *state, enabled: true, main_pid: Some(7) };
            ((*name).to_owned(), service)
        });
        Observation { services: services.collect(), ..Observation::default() }
    }

    #[test]
    fn what_was_taken_apart_comes_together_again() {
        let before = with_services(&[("a", ServiceState::Active), ("b", ServiceState::Active)]);
        let after = with_services(&[("b", ServiceState::Failed), ("c", ServiceState::Active)]);

        let sample = between(Some(&before), &after, Stamp::default());
        let mut known = Some(before);
        apply(&mut known, &sample).unwrap();

        assert!(!sample.full);
        assert_eq!(known, Some(after));
    }

    #[test]
    fn an_unchanged_table_sends_no_row() {
        let same = with_services(&[("a", ServiceState::Active)]);
        let sample = between(Some(&same), &same, Stamp::default());
        assert_eq!(sample.services, TableDelta::default());
        assert_eq!(sample.facts, None);
    }

    #[test]
    fn software_comes_together_again_and_unchanged_software_is_not_sent() {
        let file = |size| ConfigurationFile { size: Bytes(size), ..ConfigurationFile::default() };
        let files = |sizes: &[(&str, u64)]| Software {
            files: sizes.iter().map(|(path, size)| ((*path).to_owned(), file(*size))).collect(),
            ..Software::default()
        };
        let (before, after) = (files(&[("/a", 1), ("/b", 1)]), files(&[("/b", 2), ("/c", 1)]));

        let mut known = Software::default();
        amend_software(&mut known, &of_software(None, &before).unwrap());
        amend_software(&mut known, &of_software(Some(&before), &after).unwrap());

        assert_eq!(known, after);
        assert_eq!(of_software(Some(&after), &after), None);
    }

    #[test]
    fn a_change_of_nothing_known_is_refused() {
        let sample = Sample::default();
        let mut known = None;
        assert_eq!(apply(&mut known, &sample), Err(DeltaError::NoBase(sample.id)));
        assert_eq!(known, None);
    }
}
