//! What is installed in each guest and how it is configured, as its agent last told. It changes
//! seldom and may be large: it is read when somebody asks and amended when a sample brings changes,
//! in the same commit as the sample; nobody keeps it in memory. It goes with its agent.

use common::{
    clock::Timestamp,
    delta,
    id::AgentId,
    sample::{ConfigurationFile, Software},
    wire::MOST_ROWS,
};
use serde::{Deserialize, Serialize};

use super::{Change, Repository, RepositoryError, Table, rows::put, samples::Incoming};

/// Contents of configuration files that are kept of one guest, in bytes. What lies beyond is kept
/// without its content.
const MOST_CONTENT: usize = 16 << 20;

/// The software of one guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSoftware {
    /// When it last changed, by when we heard of it.
    pub received_at: Timestamp,
    /// All of it was told, and every change since; `false` until the next full sample else.
    pub complete: bool,
    /// What it is.
    pub software: Software,
}

impl Repository {
    /// The software that an agent told of; `None` if it never did.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn software(
        &self,
        agent: &AgentId,
    ) -> Result<Option<StoredSoftware>, RepositoryError> {
        self.row(Table::Software, agent.as_str().as_bytes()).await
    }

    /// What becomes of the row of an agent by samples that are new; `None` if nothing does. The
    /// caller holds the agent's turn.
    pub(super) async fn amended(
        &self,
        agent: &AgentId,
        samples: &[Incoming],
    ) -> Result<Option<Change>, RepositoryError> {
        if samples.iter().all(|sample| sample.software.is_none() && !sample.after_hole) {
            return Ok(None);
        }
        let known = self.software(agent).await?;
        let next = amend(known.as_ref(), samples);
        let key = agent.as_str().as_bytes().to_vec();
        next.map(|next| put(Table::Software, key, &next)).transpose()
    }
}

/// The row of an agent that ends.
pub(super) fn forget(agent: &AgentId) -> Change {
    Change::Delete { table: Table::Software, key: agent.as_str().as_bytes().to_vec() }
}

/// What is known after the samples, in order; `None` if it is what was known before.
fn amend(known: Option<&StoredSoftware>, samples: &[Incoming]) -> Option<StoredSoftware> {
    let mut next = known.cloned().unwrap_or_default();
    for sample in samples {
        next.complete &= !sample.after_hole;
        let Some(delta) = &sample.software else { continue };
        delta::amend_software(&mut next.software, delta);
        next.complete |= delta.full;
        bound(&mut next.software);
    }
    let is_new = known.map_or(next != StoredSoftware::default(), |known| *known != next);
    if is_new && known.is_none_or(|known| known.software != next.software) {
        next.received_at = samples.iter().map(|sample| sample.received_at).max()?;
    }
    is_new.then_some(next)
}

/// However much one agent tells, in however many samples, it is kept within bounds.
fn bound(software: &mut Software) {
    while software.packages.len() > MOST_ROWS {
        software.packages.pop_last();
    }
    while software.files.len() > MOST_ROWS {
        software.files.pop_last();
    }
    let length = |file: &ConfigurationFile| file.content.as_ref().map_or(0, String::len);
    let mut room = MOST_CONTENT;
    for file in software.files.values_mut() {
        match room.checked_sub(length(file)) {
            Some(left) => room = left,
            None => file.content = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{
        id::VmId,
        sample::{Facts, SampleId, SoftwareDelta},
        units::Bytes,
    };

    use super::*;
    use crate::repository::{AgentRecord, AgentState};

    fn software(paths: &[(&str, u64)]) -> Software {
        let file = |size| ConfigurationFile { size: Bytes(size), ..ConfigurationFile::default() };
        let files = paths.iter().map(|(path, size)| ((*path).to_owned(), file(*size)));
        Software { files: files.collect(), ..Software::default() }
    }

    fn incoming(sequence: u64, software: Option<SoftwareDelta>) -> Incoming {
        Incoming {
            id: SampleId { epoch: 1, sequence },
            received_at: Timestamp::from_millis(sequence * 10),
            bytes: vec![7].into(),
            software,
            after_hole: false,
        }
    }

    fn agent() -> (AgentId, VmId) {
        ("a".parse().unwrap(), "vm-1".parse().unwrap())
    }

    #[tokio::test]
    async fn software_is_amended_by_every_sample_once_and_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (agent, vm) = agent();
        let (first, second) = (software(&[("/a", 1), ("/b", 1)]), software(&[("/b", 2)]));
        {
            let repository = Repository::open(folder.path()).unwrap();
            assert_eq!(repository.software(&agent).await.unwrap(), None);
            let all = incoming(1, delta::of_software(None, &first));
            let change = incoming(2, delta::of_software(Some(&first), &second));
            let both = vec![all.clone(), change];
            assert_eq!(repository.append_samples(&agent, &vm, both).await.unwrap(), 2);
            // What is known already is not taken in again.
            assert_eq!(repository.append_samples(&agent, &vm, vec![all]).await.unwrap(), 0);
            let quiet = incoming(3, None);
            assert_eq!(repository.append_samples(&agent, &vm, vec![quiet]).await.unwrap(), 1);
        }

        let repository = Repository::open(folder.path()).unwrap();

        let stored = repository.software(&agent).await.unwrap().unwrap();
        let received_at = Timestamp::from_millis(20);
        assert_eq!(stored, StoredSoftware { received_at, complete: true, software: second });
    }

    #[test]
    fn changes_without_a_base_and_after_a_hole_are_not_complete_until_all_is_told() {
        let (first, second) = (software(&[("/a", 1)]), software(&[("/b", 2)]));
        let change = incoming(2, delta::of_software(Some(&first), &second));
        let known = amend(None, &[change]).unwrap();
        assert!(!known.complete);
        let full = incoming(3, delta::of_software(None, &second));
        let known = amend(Some(&known), std::slice::from_ref(&full)).unwrap();
        assert!(known.complete);
        let lost = Incoming { after_hole: true, ..incoming(5, None) };
        let known = amend(Some(&known), &[lost]).unwrap();
        assert!(!known.complete && known.software == second);
        let known = amend(Some(&known), std::slice::from_ref(&full)).unwrap();
        assert_eq!(amend(Some(&known), &[full]), None, "the same again is no write");
    }

    #[test]
    fn contents_beyond_the_bound_are_let_go_and_their_files_kept() {
        let mut all = software(&[("/a", 1), ("/b", 1), ("/c", 1)]);
        for file in all.files.values_mut() {
            file.content = Some("x".repeat(MOST_CONTENT / 2));
        }
        bound(&mut all);
        let kept: Vec<_> = all.files.values().map(|file| file.content.is_some()).collect();
        assert_eq!(kept, [true, true, false]);
    }

    #[tokio::test]
    async fn software_goes_with_its_agent() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let (agent, vm) = agent();
        let all = incoming(1, delta::of_software(None, &software(&[("/a", 1)])));
        repository.append_samples(&agent, &vm, vec![all]).await.unwrap();
        let mut record = AgentRecord {
            id: agent.clone(),
            vm,
            enrolled_at: Timestamp::default(),
            certificate_fingerprint: [0; 32],
            certificate_expires_at: Timestamp::default(),
            facts: Facts::default(),
            ephemeral: None,
            state: AgentState::Quarantined,
            reason: String::new(),
        };
        repository.put_agent(&record).await.unwrap();
        assert!(repository.software(&agent).await.unwrap().is_some());
        record.state = AgentState::Tombstoned;
        repository.put_agent(&record).await.unwrap();
        assert_eq!(repository.software(&agent).await.unwrap(), None);
    }
}
