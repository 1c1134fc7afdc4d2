//! Commits that share one write: what they come to, and how large they are.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    super::Change,
    stored_key,
    tree::{Fault, Tree},
};

/// What each key has once all of the commits are made, one after the other.
pub(super) fn last_of(
    tree: &Tree,
    commits: &[Vec<Change>],
) -> Result<BTreeMap<Vec<u8>, Option<Bytes>>, Fault> {
    let mut last = BTreeMap::new();
    for change in commits.iter().flatten() {
        match change {
            Change::Put { table, key, value } => {
                last.insert(stored_key(*table, key), Some(value.clone()));
            }
            Change::Delete { table, key } => {
                last.insert(stored_key(*table, key), None);
            }
            Change::DeleteRange { table, from, to } => {
                let range = stored_key(*table, from)..=stored_key(*table, to);
                last.range_mut(range.clone()).for_each(|(_, value)| *value = None);
                last.extend(tree.keys(range)?.into_iter().map(|key| (key, None)));
            }
        }
    }
    Ok(last)
}

/// Bytes of keys and values.
pub(super) fn size(changes: &[Change]) -> usize {
    let sizes = changes.iter().map(|change| match change {
        Change::Put { key, value, .. } => key.len() + value.len(),
        Change::Delete { key, .. } => key.len(),
        Change::DeleteRange { from, to, .. } => from.len() + to.len(),
    });
    sizes.sum()
}
