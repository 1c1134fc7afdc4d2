//! What the operator set: scope, rules of grouping, policy, catalogue.

use super::{Repository, RepositoryError, Table};
use crate::{catalogue::Catalogue, grouping::GroupRules, plan::Scope, policy::Policy};

const SCOPE: &[u8] = b"scope";
const GROUPS: &[u8] = b"groups";
const POLICY: &[u8] = b"policy";
const CATALOGUE: &[u8] = b"catalogue";

impl Repository {
    /// The scope; `None` if it was never set.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn scope(&self) -> Result<Option<Scope>, RepositoryError> {
        self.row(Table::Settings, SCOPE).await
    }

    /// Sets the scope.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_scope(&self, scope: &Scope) -> Result<(), RepositoryError> {
        self.put(Table::Settings, SCOPE, scope).await
    }

    /// The rules of grouping; `None` if they were never set.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn group_rules(&self) -> Result<Option<GroupRules>, RepositoryError> {
        self.row(Table::Settings, GROUPS).await
    }

    /// Sets the rules of grouping.
    ///
    /// # Errors
    ///
    /// If the store does not take them.
    pub async fn put_group_rules(&self, rules: &GroupRules) -> Result<(), RepositoryError> {
        self.put(Table::Settings, GROUPS, rules).await
    }

    /// The policy; `None` if it was never set.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn policy(&self) -> Result<Option<Policy>, RepositoryError> {
        self.row(Table::Settings, POLICY).await
    }

    /// Sets the policy.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_policy(&self, policy: &Policy) -> Result<(), RepositoryError> {
        self.put(Table::Settings, POLICY, policy).await
    }

    /// The catalogue; `None` if it was never set.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn catalogue(&self) -> Result<Option<Catalogue>, RepositoryError> {
        self.row(Table::Settings, CATALOGUE).await
    }

    /// Sets the catalogue.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_catalogue(&self, catalogue: &Catalogue) -> Result<(), RepositoryError> {
        self.put(Table::Settings, CATALOGUE, catalogue).await
    }
}
