//! The audit log: who did what to what, for ever. Each row carries the hash of the one before, so
//! that a row changed or taken out later shows.

use common::clock::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Repository, RepositoryError, Table};

/// What is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// When.
    pub at: Timestamp,
    /// Who: a user's name, an agent's id, or `sinter` itself.
    pub actor: String,
    /// What was done, as a verb: `plan approve`.
    pub action: String,
    /// To what: an id.
    pub subject: String,
    /// What else a person may like to know.
    pub detail: String,
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Counted from 1, without holes.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What else a person may like to know.
    pub detail: String,
    /// Hash of the row before; zeros before the first.
    pub previous_hash: [u8; 32],
    /// Hash of all the above.
    pub hash: [u8; 32],
}

/// Whether the audit log is as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditVerdict {
    /// All rows follow from each other; so many there are.
    Whole(u64),
    /// This row is missing, changed, or does not follow from the one before it.
    BrokenAt(u64),
}

/// Number and hash of the last row.
pub(super) type Head = (u64, [u8; 32]);

impl AuditRow {
    /// Each part is preceded by its length, so that no two rows spell the same bytes.
    fn computed_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.number.to_be_bytes());
        hash.update(self.at.as_millis().to_be_bytes());
        for text in [&self.actor, &self.action, &self.subject, &self.detail] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(self.previous_hash);
        hash.finalize().into()
    }
}

impl Repository {
    /// Writes a row, and gives it as written.
    ///
    /// # Errors
    ///
    /// If the store does not take it.
    pub async fn log(&self, logged: Logged) -> Result<AuditRow, RepositoryError> {
        let mut head = self.turns.audit_log.lock().await;
        let (number, previous_hash) = match *head {
            Some(head) => head,
            None => self.last_row().await?,
        };
        let Logged { at, actor, action, subject, detail } = logged;
        let number = number + 1;
        let hash = [0; 32];
        let mut row = AuditRow { number, at, actor, action, subject, detail, previous_hash, hash };
        row.hash = row.computed_hash();
        // Until the store has answered it is not known which row is the last.
        *head = None;
        self.put(Table::AuditLog, &number.to_be_bytes(), &row).await?;
        *head = Some((number, row.hash));
        Ok(row)
    }

    /// Rows from number `from` on.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn audit_log(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, RepositoryError> {
        Ok(self.page(Table::AuditLog, Some(&from.to_be_bytes()), limit).await?.rows)
    }

    /// How many rows there are.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn audit_log_length(&self) -> Result<u64, RepositoryError> {
        let mut head = self.turns.audit_log.lock().await;
        if head.is_none() {
            *head = Some(self.last_row().await?);
        }
        Ok(head.map_or(0, |(number, _)| number))
    }

    /// Computes every hash anew.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn verify_audit_log(&self) -> Result<AuditVerdict, RepositoryError> {
        let (mut number, mut hash) = (0, [0; 32]);
        loop {
            let rows = self.audit_log(number + 1, 512).await?;
            if rows.is_empty() {
                return Ok(AuditVerdict::Whole(number));
            }
            for row in rows {
                number += 1;
                let follows = row.number == number && row.previous_hash == hash;
                if !follows || row.hash != row.computed_hash() {
                    return Ok(AuditVerdict::BrokenAt(number));
                }
                hash = row.hash;
            }
        }
    }

    /// The last row is found by doubling and halving: numbers have no holes.
    async fn last_row(&self) -> Result<Head, RepositoryError> {
        let (mut there, mut not_there) = (0_u64, 1_u64);
        while self.store.get(Table::AuditLog, &not_there.to_be_bytes()).await?.is_some() {
            there = not_there;
            not_there = not_there.saturating_mul(2);
        }
        while not_there - there > 1 {
            let middle = there + (not_there - there) / 2;
            if self.store.get(Table::AuditLog, &middle.to_be_bytes()).await?.is_some() {
                there = middle;
            } else {
                not_there = middle;
            }
        }
        let row: Option<AuditRow> = self.row(Table::AuditLog, &there.to_be_bytes()).await?;
        Ok(row.map_or((0, [0; 32]), |row| (row.number, row.hash)))
    }
}
