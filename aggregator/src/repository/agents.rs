//! Who is enrolled. A record is never removed: an id is never given to another agent.

use common::{
    clock::Timestamp,
    id::{AgentId, PlanId, VmId},
    sample::Facts,
};
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, Table, rows::put, software};

/// Whether an agent may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It may.
    Active,
    /// It may not until a person has looked: two streams had its identity.
    Quarantined,
    /// Never again: its machine is no more, or it was revoked.
    Tombstoned,
}

/// An enrolled agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// The machine it speaks for.
    pub vm: VmId,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// SHA-256 of its present certificate.
    pub certificate_fingerprint: [u8; 32],
    /// When that expires.
    pub certificate_expires_at: Timestamp,
    /// What it said of its guest when it enrolled.
    pub facts: Facts,
    /// The plan whose trial it lives for; nobody is alarmed when it vanishes.
    pub ephemeral: Option<PlanId>,
    /// Whether it may speak.
    pub state: AgentState,
    /// Why it is in that state, for people; empty while it is active.
    #[serde(default)]
    pub reason: String,
}

impl Repository {
    /// Remembers an agent, new or changed. With one that ends goes the software of its guest.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_agent(&self, agent: &AgentRecord) -> Result<(), RepositoryError> {
        let key = agent.id.as_str().as_bytes().to_vec();
        let mut changes = vec![put(Table::Agents, key, agent)?];
        if agent.state == AgentState::Tombstoned {
            changes.push(software::forget(&agent.id));
        }
        Ok(self.store.commit(changes).await?)
    }

    /// The agent of that id.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn agent(&self, id: &AgentId) -> Result<Option<AgentRecord>, RepositoryError> {
        self.row(Table::Agents, id.as_str().as_bytes()).await
    }

    /// All agents there ever were, by id.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn agents(&self) -> Result<Vec<AgentRecord>, RepositoryError> {
        self.rows(Table::Agents, &[]).await
    }
}
