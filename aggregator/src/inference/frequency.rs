//! How often and how regularly: what is told of edges beyond their rates, and of storage.

mod storage;

use std::time::Duration;

pub(super) use self::storage::storage;
pub use self::storage::{StorageEdge, StorageOperation};
use super::edges::Held;

/// The longest period in which any of these edges is used, of those that may be acted on: silence
/// shorter than a few of it shows nothing. `None` if none is known to be used regularly.
pub(super) fn longest_period<'a>(
    edges: impl IntoIterator<Item = &'a Held<'a>>,
) -> Option<Duration> {
    let told = edges.into_iter().flat_map(|edge| [edge.period(), edge.calendar()]).flatten();
    let trusted = told.filter(|regularity| regularity.trusted);
    let longest = trusted.map(|regularity| regularity.upper).reduce(f64::max)?;
    Duration::try_from_secs_f64(longest).ok()
}
