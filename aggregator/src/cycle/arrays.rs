//! Asks the arrays what they keep and what was done to it. One that does not answer costs what it
//! would have said, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use common::{clock::Timestamp, task::Chain};
use futures::future::join_all;
use tokio::time;
use tracing::warn;

use super::Cycle;
use crate::storage::{StorageArray, StorageError, Survey};

/// What each array answered, by its name.
pub(super) type Surveyed = Vec<(String, Result<Survey, StorageError>)>;

/// The arrays, and which of them do not answer.
pub(super) struct Arrays {
    arrays: Vec<Arc<dyn StorageArray>>,
    away: BTreeSet<String>,
}

impl Arrays {
    pub(super) const fn new(arrays: Vec<Arc<dyn StorageArray>>) -> Self {
        Self { arrays, away: BTreeSet::new() }
    }

    /// Asks all of them side by side.
    pub(super) fn survey(
        &self,
        now: Timestamp,
        limit: Duration,
    ) -> impl Future<Output = Surveyed> + use<> {
        let each = self.arrays.iter().map(Arc::clone).map(move |array| async move {
            let late = |_| StorageError::Unreachable("it took too long".into());
            let said = time::timeout(limit, ask(array.as_ref(), now)).await;
            (array.name().to_owned(), said.map_err(late).flatten())
        });
        join_all(each.collect::<Vec<_>>())
    }
}

async fn ask(array: &dyn StorageArray, now: Timestamp) -> Result<Survey, StorageError> {
    Ok(Survey { devices: array.devices().await?, totals: array.totals(now).await? })
}

impl Cycle {
    /// Takes in what the arrays said; tells of one that went away or came back.
    pub(super) fn take_surveys(&mut self, surveyed: Surveyed) -> BTreeMap<String, Survey> {
        let mut arrays = BTreeMap::new();
        for (name, said) in surveyed {
            match said {
                Ok(survey) => {
                    if self.arrays.away.remove(&name) {
                        let text = format!("{name} answers again");
                        self.shared.tell("storage_reachable", None, text);
                    }
                    arrays.insert(name, survey);
                }
                Err(cause) => {
                    warn!(array = %name, cause = %Chain(&cause), "array not seen");
                    let text = format!("{name}: {}; its figures are missing", Chain(&cause));
                    if self.arrays.away.insert(name) {
                        self.shared.tell("storage_unreachable", None, text);
                    }
                }
            }
        }
        // What an array that is away said last is still the best that is known of it.
        self.shared.known().arrays.extend(arrays.clone());
        arrays
    }
}
