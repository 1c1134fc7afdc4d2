//! Plans and their journals.

use common::id::PlanId;

use super::{
    Repository, RepositoryError, Table,
    rows::{numbered, prefix},
};
use crate::{journal::Entry, plan::Plan};

impl Repository {
    /// Remembers a plan.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_plan(&self, plan: &Plan) -> Result<(), RepositoryError> {
        self.put(Table::Plans, plan.id.as_str().as_bytes(), plan).await
    }

    /// A plan.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, RepositoryError> {
        self.row(Table::Plans, id.as_str().as_bytes()).await
    }

    /// All plans, by id.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn plans(&self) -> Result<Vec<Plan>, RepositoryError> {
        self.rows(Table::Plans, &[]).await
    }

    /// Writes the next entry of a plan's journal, which has `number` entries so far. A second
    /// writer is found out by that number.
    ///
    /// # Errors
    ///
    /// [`RepositoryError::OutOfOrder`] if the journal has more or fewer entries,
    /// [`RepositoryError::Missing`] if there is no such plan.
    pub async fn append_entry(
        &self,
        plan: &PlanId,
        number: u64,
        entry: &Entry,
    ) -> Result<(), RepositoryError> {
        let _turn = self.turns.journal.lock().await;
        if self.store.get(Table::Plans, plan.as_str().as_bytes()).await?.is_none() {
            return Err(RepositoryError::Missing { what: "plan", id: plan.to_string() });
        }
        let stored = self.pairs(Table::Entries, &prefix(plan.as_str())).await?.len() as u64;
        if stored != number {
            let plan = plan.clone();
            return Err(RepositoryError::OutOfOrder { plan, stored, offered: number });
        }
        self.put(Table::Entries, &numbered(plan.as_str(), number), entry).await
    }

    /// A plan's journal, in order.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn entries(&self, plan: &PlanId) -> Result<Vec<Entry>, RepositoryError> {
        self.rows(Table::Entries, &prefix(plan.as_str())).await
    }
}
