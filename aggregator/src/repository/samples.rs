//! Samples whose window is not committed yet, as they came. What is here once is counted once.

use std::sync::{Arc, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use common::{
    clock::Timestamp,
    id::{AgentId, VmId},
    sample::SampleId,
};
use tokio::sync::Mutex;

use super::{
    Change, Repository, RepositoryError, Table,
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
    /// the known ones too. Samples of several agents share one write to the disk.
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
        let mut changes = Vec::with_capacity(samples.len());
        for Incoming { id, received_at, bytes } in samples {
            if last.is_some_and(|last| id <= last) {
                continue;
            }
            last = Some(id);
            let value = raw_row(vm, received_at, &bytes);
            changes.push(Change::Put { table: Table::Samples, key: sample_key(agent, id), value });
        }
        let new = changes.len();
        if new > 0 {
            self.store.commit(changes).await?;
        }
        *received = Received::Last(last);
        Ok(new)
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
        pairs.into_iter().map(|(key, row)| stored_sample(&key, &row)).collect()
    }

    /// The samples are read before the checkpoint: a window that is committed between the two reads
    /// takes samples away and moves the checkpoint on. The other way round they would be seen in
    /// neither, and what was acknowledged would look lost.
    async fn read_progress(&self, agent: &AgentId) -> Result<Progress, RepositoryError> {
        let stored = self.pairs(Table::Samples, &prefix(agent.as_str())).await?;
        let last = stored.last().map(|(key, row)| stored_sample(key, row)).transpose()?;
        let checkpoint = self.store.get(Table::Checkpoints, agent.as_str().as_bytes()).await?;
        let checkpoint: Option<Checkpoint> =
            checkpoint.map(|bytes| decode(Table::Checkpoints, &bytes)).transpose()?;
        let sealed = checkpoint.map(|checkpoint| checkpoint.last_sealed);
        Ok(Progress { received: last.map(|last| last.id).max(sealed), sealed })
    }

    /// Samples of one agent are kept one after the other, so that none is called known while its
    /// twin is still on the way to the disk.
    fn turn_of(&self, agent: &AgentId) -> Arc<Mutex<Received>> {
        let mut turns = self.turns.received.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(agent.clone()).or_default())
    }
}

/// Deletes what of an agent's samples a committed window has.
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

/// Time of receipt, length of the machine's id, the id, the wire message.
fn raw_row(vm: &VmId, received_at: Timestamp, bytes: &[u8]) -> Bytes {
    let id = vm.as_str().as_bytes();
    let mut row = BytesMut::with_capacity(10 + id.len() + bytes.len());
    row.put_u64(received_at.as_millis());
    row.put_u16(u16::try_from(id.len()).unwrap_or(u16::MAX));
    row.put_slice(id);
    row.put_slice(bytes);
    row.freeze()
}

fn stored_sample(key: &[u8], row: &Bytes) -> Result<StoredSample, RepositoryError> {
    let malformed = |what| RepositoryError::Malformed { table: Table::Samples, what };
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (name, id) = key
        .len()
        .checked_sub(16)
        .and_then(|middle| key.split_at_checked(middle))
        .ok_or_else(|| malformed("its key is short"))?;
    let agent = name
        .strip_suffix(&[0])
        .and_then(text)
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| malformed("its key names no agent"))?;
    let (epoch, sequence) =
        number(&id[..8]).zip(number(&id[8..])).ok_or_else(|| malformed("its key has no number"))?;
    let (received_at, rest) = row.split_at_checked(8).ok_or_else(|| malformed("it is short"))?;
    let received_at = number(received_at).ok_or_else(|| malformed("it has no time"))?;
    let (length, rest) = rest.split_at_checked(2).ok_or_else(|| malformed("it is short"))?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let vm = rest
        .get(..length)
        .and_then(text)
        .and_then(|vm| vm.parse().ok())
        .ok_or_else(|| malformed("it names no machine"))?;
    Ok(StoredSample {
        agent,
        vm,
        id: SampleId { epoch, sequence },
        received_at: Timestamp::from_millis(received_at),
        bytes: row.slice(10 + length..),
    })
}
