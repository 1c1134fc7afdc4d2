//! Configuration lists that were offered, and what became of each.

use common::{
    clock::Timestamp,
    id::{PlanId, VmId},
    list::ConfigurationList,
};
use serde::{Deserialize, Serialize};

use super::{
    Repository, RepositoryError, Table,
    rows::{numbered, prefix},
};

/// What became of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListState {
    /// The agent has not answered.
    Offered,
    /// Its mix runs and is healthy.
    Applied,
    /// The agent took nothing of it.
    Refused {
        /// In the agent's words.
        reason: String,
    },
    /// The agent began and went back to the former mix.
    Undone {
        /// In the agent's words.
        reason: String,
    },
    /// The agent could neither go on nor back.
    Stranded {
        /// In the agent's words.
        reason: String,
    },
}

/// A list that was offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredList {
    /// To which machine.
    pub vm: VmId,
    /// Its number.
    pub generation: u64,
    /// The plan it belongs to.
    pub plan: PlanId,
    /// The list.
    pub list: ConfigurationList,
    /// When it was first offered.
    pub offered_at: Timestamp,
    /// What became of it.
    pub state: ListState,
}

impl Repository {
    /// Remembers a list, new or answered.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_list(&self, list: &StoredList) -> Result<(), RepositoryError> {
        let _turn = self.turns.lists.lock().await;
        self.put(Table::Lists, &numbered(list.vm.as_str(), list.generation), list).await
    }

    /// The list of that number.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn list(
        &self,
        vm: &VmId,
        generation: u64,
    ) -> Result<Option<StoredList>, RepositoryError> {
        self.row(Table::Lists, &numbered(vm.as_str(), generation)).await
    }

    /// All lists, or those of one machine, by machine and number.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn lists(&self, vm: Option<&VmId>) -> Result<Vec<StoredList>, RepositoryError> {
        let of_vm = vm.map(|vm| prefix(vm.as_str())).unwrap_or_default();
        self.rows(Table::Lists, &of_vm).await
    }

    /// The highest number a list for that machine had; 0 if there was none.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn highest_generation(&self, vm: &VmId) -> Result<u64, RepositoryError> {
        let lists = self.lists(Some(vm)).await?;
        Ok(lists.last().map_or(0, |list| list.generation))
    }
}
