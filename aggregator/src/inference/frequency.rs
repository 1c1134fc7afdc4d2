//! How often and how regularly: what is told of edges beyond their rates, and of storage.

mod storage;

use std::{collections::BTreeMap, time::Duration};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
};

pub(super) use self::storage::storage;
pub use self::storage::{StorageEdge, StorageOperation};
use super::{Context, Evidence, edges::Held};

/// Longest periods that what is used regularly must have been silent for.
pub(super) const PERIODS_OF_SILENCE: u32 = 3;
/// The longest month of the calendar: what shows power by the month may come once in it.
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

/// What was once used regularly, whether it was of late or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recurring<'a> {
    /// What is called; `None` if that is not known.
    pub(super) application: Option<&'a AppName>,
    /// On which port.
    pub(super) port: u16,
    /// How long it must be silent until that shows that it is used no more.
    pub(super) silence: Duration,
    /// When it was last used.
    pub(super) last_seen: Timestamp,
}

/// What is remembered of each machine to be called regularly.
pub(super) fn recurring<'a>(context: &Context<'a>) -> BTreeMap<&'a VmId, Vec<Recurring<'a>>> {
    let mut all: BTreeMap<&VmId, Vec<Recurring<'_>>> = BTreeMap::new();
    for (key, known) in context.history.edges() {
        let Some(vm) = key.server.vm() else { continue };
        let told = [known.period(), known.calendar()].into_iter().flatten();
        let silences = told.filter_map(|regularity| {
            let by_month = (regularity.by == Evidence::DayOfMonth).then_some(MONTH);
            let longest = Duration::try_from_secs_f64(regularity.upper).ok();
            let longest = longest.filter(|_| regularity.trusted);
            by_month.max(longest.map(|longest| longest * PERIODS_OF_SILENCE))
        });
        if let Some(silence) = silences.max() {
            let application = key.server.application();
            let last_seen = known.last_seen();
            let recurring = Recurring { application, port: key.port, silence, last_seen };
            all.entry(vm).or_default().push(recurring);
        }
    }
    all
}

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
