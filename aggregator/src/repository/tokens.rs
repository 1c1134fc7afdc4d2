//! Join tokens. Only their hashes are here.

use common::{
    clock::Timestamp,
    id::{PlanId, VmId},
};
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, Table};

/// A token by which agents enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What people call it.
    pub name: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// After this it is worth nothing.
    pub expires_at: Timestamp,
    /// How often it may still be used; `None` as often as one likes.
    pub uses_left: Option<u32>,
    /// The one machine it is good for.
    pub bound_vm: Option<VmId>,
    /// The plan whose clone it is for.
    pub plan: Option<PlanId>,
    /// It was taken back.
    pub revoked: bool,
}

impl TokenRecord {
    /// Whether it opens the door at `now`.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        !self.revoked && now < self.expires_at && self.uses_left != Some(0)
    }
}

impl Repository {
    /// Remembers a token, new or changed.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn put_token(&self, token: &TokenRecord) -> Result<(), RepositoryError> {
        let _turn = self.turns.tokens.lock().await;
        self.put(Table::Tokens, &token.hash, token).await
    }

    /// All tokens, used up and expired ones too.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, RepositoryError> {
        self.rows(Table::Tokens, &[]).await
    }

    /// The token with that hash, used or not.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>, RepositoryError> {
        self.row(Table::Tokens, hash).await
    }

    /// Uses the token with that hash once. `None` if there is none, or it is no longer good. Of two
    /// who take the last use at once, one gets it. What is given shows the uses left afterwards.
    ///
    /// # Errors
    ///
    /// If the store does not take it; the use may be gone then.
    pub async fn take_token(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, RepositoryError> {
        let _turn = self.turns.tokens.lock().await;
        let token: Option<TokenRecord> = self.row(Table::Tokens, hash).await?;
        let Some(mut token) = token.filter(|token| token.is_good(now)) else { return Ok(None) };
        if let Some(left) = &mut token.uses_left {
            *left -= 1;
            self.put(Table::Tokens, hash, &token).await?;
        }
        Ok(Some(token))
    }

    /// Takes the token of that name back; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn revoke_token(&self, name: &str) -> Result<bool, RepositoryError> {
        let _turn = self.turns.tokens.lock().await;
        let tokens: Vec<TokenRecord> = self.rows(Table::Tokens, &[]).await?;
        let Some(mut token) = tokens.into_iter().find(|token| token.name == name) else {
            return Ok(false);
        };
        token.revoked = true;
        self.put(Table::Tokens, &token.hash.clone(), &token).await?;
        Ok(true)
    }

    /// Takes the token with that hash back; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn end_token(&self, hash: &[u8; 32]) -> Result<bool, RepositoryError> {
        let _turn = self.turns.tokens.lock().await;
        let token: Option<TokenRecord> = self.row(Table::Tokens, hash).await?;
        let Some(mut token) = token else { return Ok(false) };
        token.revoked = true;
        self.put(Table::Tokens, hash, &token).await?;
        Ok(true)
    }
}
