//! Samples whose window is not committed yet, as they came. What is here once is counted once.
//!
//! ```text
//!  key   agent | 0 | number of the last sample
//!  row   length of the machine's id | id | { number | time of receipt | length | wire message }..
//! ```
//!
//! Samples that came together are one row, which is packed if it is large: that an agent empties
//! its spool costs the store little. The row stays until its last sample is in a committed window.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use bytes::{Buf as _, BufMut as _, Bytes};
use common::{
    clock::Timestamp,
    id::{AgentId, VmId},
    sample::{SampleId, SoftwareDelta},
};
use tokio::sync::Mutex;

use super::{
    Change, Repository, RepositoryError, Table,
    pack::{pack, unpack},
    rows::{Received, decode, prefix},
    windows::Checkpoint,
};

/// A sample on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Which one.
    pub id: SampleId,
    /// When it reached us.
    pub received_at: Timestamp,
    /// The wire message.
    pub bytes: Bytes,
    /// What it says of the software.
    pub software: Option<SoftwareDelta>,
    /// Others are missing before it.
    pub after_hole: bool,
}

/// A sample as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSample {
    /// Whose.
    pub agent: AgentId,
    /// Of which machine.
    pub vm: VmId,
    /// Which one.
    pub id: SampleId,
    /// When it reached us.
    pub received_at: Timestamp,
    /// The wire message.
    pub bytes: Bytes,
}

/// How far an agent has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last sample that is durable here.
    pub received: Option<SampleId>,
    /// The last sample whose window is committed.
    pub sealed: Option<SampleId>,
}

impl Repository {
    /// Keeps one sample; see [`Repository::append_samples`].
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn append_sample(
        &self,
        agent: &AgentId,
        vm: &VmId,
        sample: Incoming,
    ) -> Result<bool, RepositoryError> {
        Ok(self.append_samples(agent, vm, vec![sample]).await? == 1)
    }

    /// Keeps samples of one agent, in order, and says how many of them were new: one that does not
    /// lie after the last one kept is known and left out. They are on the disk when this returns,
    /// the known ones too, and what they say of the software with them. Samples of several agents share one write to the disk.
    ///
    /// # Errors
    ///
    /// If the store does not take them; none is kept then.
    pub async fn append_samples(
        &self,
        agent: &AgentId,
        vm: &VmId,
        samples: Vec<Incoming>,
    ) -> Result<usize, RepositoryError> {
        let turn = self.turn_of(agent);
        let mut received = turn.lock().await;
        let mut last = match *received {
            Received::Last(last) => last,
            Received::Unread => self.read_progress(agent).await?.received,
        };
        let mut new = samples;
        new.retain(|sample| {
            let is_new = last.is_none_or(|last| sample.id > last);
            if is_new {
                last = Some(sample.id);
            }
            is_new
        });
        if let Some(end) = new.last() {
            let key = sample_key(agent, end.id);
            let value = pack(row_of(vm, &new));
            let mut changes = vec![Change::Put { table: Table::Samples, key, value }];
            changes.extend(self.amended(agent, &new).await?);
            self.store.commit(changes).await?;
        }
        *received = Received::Last(last);
        Ok(new.len())
    }

    /// How far an agent has come.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn progress(&self, agent: &AgentId) -> Result<Progress, RepositoryError> {
        let turn = self.turn_of(agent);
        let mut received = turn.lock().await;
        let progress = self.read_progress(agent).await?;
        *received = Received::Last(progress.received);
        Ok(progress)
    }

    /// All samples that no committed window has, by agent and in order.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn unsealed(&self) -> Result<Vec<StoredSample>, RepositoryError> {
        let pairs = self.pairs(Table::Samples, &[]).await?;
        let checkpoints = self.checkpoints().await?;
        let sealed: HashMap<_, _> = checkpoints
            .iter()
            .map(|checkpoint| (&checkpoint.agent, checkpoint.last_sealed))
            .collect();
        let mut unsealed = Vec::new();
        for (key, row) in pairs {
            let (agent, _) = of_key(&key)?;
            let end = sealed.get(&agent).copied();
            let stored = samples_of(&agent, &row)?.into_iter();
            unsealed.extend(stored.filter(|sample| end.is_none_or(|end| sample.id > end)));
        }
        Ok(unsealed)
    }

    /// The samples are read before the checkpoint: a window that is committed between the two reads
    /// takes samples away and moves the checkpoint on. The other way round they would be seen in
    /// neither, and what was acknowledged would look lost.
    async fn read_progress(&self, agent: &AgentId) -> Result<Progress, RepositoryError> {
        let stored = self.pairs(Table::Samples, &prefix(agent.as_str())).await?;
        let last = stored.last().map(|(key, _)| of_key(key)).transpose()?;
        let checkpoint = self.store.get(Table::Checkpoints, agent.as_str().as_bytes()).await?;
        let checkpoint: Option<Checkpoint> =
            checkpoint.map(|bytes| decode(Table::Checkpoints, &bytes)).transpose()?;
        let sealed = checkpoint.map(|checkpoint| checkpoint.last_sealed);
        Ok(Progress { received: last.map(|(_, id)| id).max(sealed), sealed })
    }

    /// Samples of one agent are kept one after the other, so that none is called known while its
    /// twin is still on the way to the disk.
    fn turn_of(&self, agent: &AgentId) -> Arc<Mutex<Received>> {
        let mut turns = self.turns.received.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(agent.clone()).or_default())
    }
}

/// Deletes the rows of which a committed window has every sample.
pub(super) fn delete_up_to(agent: &AgentId, last: SampleId) -> Change {
    let (from, to) = (prefix(agent.as_str()), sample_key(agent, last));
    Change::DeleteRange { table: Table::Samples, from, to }
}

fn sample_key(agent: &AgentId, id: SampleId) -> Vec<u8> {
    let mut key = prefix(agent.as_str());
    key.extend(id.epoch.to_be_bytes());
    key.extend(id.sequence.to_be_bytes());
    key
}

fn row_of(vm: &VmId, samples: &[Incoming]) -> Vec<u8> {
    let id = vm.as_str().as_bytes();
    let bytes: usize = samples.iter().map(|sample| HEAD + sample.bytes.len()).sum();
    let mut row = Vec::with_capacity(2 + id.len() + bytes);
    row.put_u16(u16::try_from(id.len()).unwrap_or(u16::MAX));
    row.put_slice(id);
    for sample in samples {
        row.put_u64(sample.id.epoch);
        row.put_u64(sample.id.sequence);
        row.put_u64(sample.received_at.as_millis());
        // A message has a megabyte at most.
        row.put_u32(u32::try_from(sample.bytes.len()).unwrap_or(u32::MAX));
        row.put_slice(&sample.bytes);
    }
    row
}

/// Bytes of a row before each of its messages.
const HEAD: usize = 8 + 8 + 8 + 4;

const fn malformed(what: &'static str) -> RepositoryError {
    RepositoryError::Malformed { table: Table::Samples, what }
}

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Whose the samples of a row are, and which is the last.
fn of_key(key: &[u8]) -> Result<(AgentId, SampleId), RepositoryError> {
    let middle = key.len().checked_sub(16).ok_or_else(|| malformed("its key is short"))?;
    let (name, mut id) = key.split_at(middle);
    let agent = name.strip_suffix(&[0]).and_then(text);
    let agent = agent.ok_or_else(|| malformed("its key names no agent"))?;
    let (epoch, sequence) = (id.get_u64(), id.get_u64());
    Ok((agent, SampleId { epoch, sequence }))
}

fn samples_of(agent: &AgentId, row: &Bytes) -> Result<Vec<StoredSample>, RepositoryError> {
    let unpacked = unpack(row).map_err(|_| malformed("it does not unpack"))?;
    let mut rest = Bytes::from(unpacked.into_owned());
    let length = rest.try_get_u16().map_err(|_| malformed("it is short"))?;
    let vm: VmId = rest
        .get(..usize::from(length))
        .and_then(text)
        .ok_or_else(|| malformed("it names no machine"))?;
    rest.advance(usize::from(length));
    let mut samples = Vec::new();
    while !rest.is_empty() {
        if rest.len() < HEAD {
            return Err(malformed("a sample in it is short"));
        }
        let (epoch, sequence) = (rest.get_u64(), rest.get_u64());
        let received_at = Timestamp::from_millis(rest.get_u64());
        let length = usize::try_from(rest.get_u32()).unwrap_or(usize::MAX);
        if rest.len() < length {
            return Err(malformed("a sample in it is short"));
        }
        let bytes = rest.split_to(length);
        let (agent, vm) = (agent.clone(), vm.clone());
        let id = SampleId { epoch, sequence };
        samples.push(StoredSample { agent, vm, id, received_at, bytes });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Checkpoint;

    fn id(sequence: u64) -> SampleId {
        SampleId { epoch: 1, sequence }
    }

    fn incoming(sequence: u64) -> Incoming {
        let received_at = Timestamp::from_millis(sequence * 10);
        Incoming {
            id: id(sequence),
            received_at,
            bytes: vec![7; 3000].into(),
            software: None,
            after_hole: false,
        }
    }

    #[tokio::test]
    async fn a_row_that_a_window_has_by_half_is_kept_and_its_rest_alone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let (agent, vm): (AgentId, VmId) = ("a".parse().unwrap(), "vm-1".parse().unwrap());
        let together = (1..=5).map(incoming).collect();
        assert_eq!(repository.append_samples(&agent, &vm, together).await.unwrap(), 5);
        let again = (4..=6).map(incoming).collect();
        assert_eq!(repository.append_samples(&agent, &vm, again).await.unwrap(), 1);
        let checkpoint = Checkpoint {
            vm: vm.clone(),
            agent: agent.clone(),
            last_sealed: id(3),
            received_at: Timestamp::default(),
            observation: std::sync::Arc::default(),
        };
        let key = agent.as_str().as_bytes().to_vec();
        let sealed = super::super::rows::put(Table::Checkpoints, key, &checkpoint).unwrap();
        let gone = delete_up_to(&agent, id(3));
        repository.store.commit(vec![sealed, gone]).await.unwrap();

        let unsealed = repository.unsealed().await.unwrap();

        let told: Vec<_> = unsealed.iter().map(|sample| sample.id.sequence).collect();
        assert_eq!(told, [4, 5, 6]);
        assert!(unsealed.iter().all(|sample| sample.bytes == vec![7; 3000] && sample.vm == vm));
        assert_eq!(unsealed[1].received_at, Timestamp::from_millis(50));
        let progress = repository.progress(&agent).await.unwrap();
        assert_eq!((progress.received, progress.sealed), (Some(id(6)), Some(id(3))));
        repository.store.commit(vec![delete_up_to(&agent, id(5))]).await.unwrap();
        assert_eq!(repository.pairs(Table::Samples, &[]).await.unwrap().len(), 1);
    }
}
