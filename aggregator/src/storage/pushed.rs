//! An array that no adapter here speaks to: a collector of somebody else's hands in what it saw.
//!
//! What was handed in last is what it says, until it is too old to be of now: then the array is
//! away, like one that does not answer. A push is whole; the one before it is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use common::clock::{Clock, Timestamp};

use super::{Device, StorageArray, StorageError, Survey, Totals};

/// What was handed in, and when.
#[derive(Debug)]
struct Push {
    at: Timestamp,
    survey: Survey,
}

/// One array that is told of.
pub struct PushedArray {
    name: String,
    away_after: Duration,
    /// Who may tell of it; `None` for every collector.
    collectors: Option<BTreeSet<String>>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Push>>,
}

impl std::fmt::Debug for PushedArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushedArray").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PushedArray {
    /// An array of which nothing was told yet.
    #[must_use]
    pub fn new(name: String, away_after: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { name, away_after, collectors: None, clock, last: Mutex::new(None) }
    }

    /// Which only these collectors may tell of.
    #[must_use]
    pub fn only_by(mut self, collectors: BTreeSet<String>) -> Self {
        self.collectors = Some(collectors);
        self
    }

    /// Whether a collector may tell of it.
    #[must_use]
    pub fn is_told_of_by(&self, collector: &str) -> bool {
        self.collectors.as_ref().is_none_or(|collectors| collectors.contains(collector))
    }

    /// Takes in what it keeps and has counted. The time of receipt is that of the totals, whatever
    /// the collector's clock says.
    pub fn take(&self, mut devices: Vec<Device>, mut totals: Vec<Totals>) -> Timestamp {
        let at = self.clock.now();
        devices.sort_by(|one, other| one.key.cmp(&other.key));
        for each in &mut totals {
            each.taken_at = at;
        }
        let push = Push { at, survey: Survey { devices: Arc::new(devices), totals } };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(push);
        at
    }

    /// How long after a push it counts as away.
    #[must_use]
    pub const fn away_after(&self) -> Duration {
        self.away_after
    }

    /// What was handed in last, if it is of now.
    fn survey(&self) -> Result<Survey, StorageError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let away = |told: String| Err(StorageError::Unreachable(told.into()));
        let Some(push) = &*last else {
            return away("no collector has told of it yet".to_owned());
        };
        let age = self.clock.now().since(push.at);
        if age > self.away_after {
            let (age, limit) = (age.as_secs(), self.away_after.as_secs());
            return away(format!("its collector told of it {age} s ago, more than {limit} s"));
        }
        Ok(push.survey.clone())
    }
}

#[async_trait]
impl StorageArray for PushedArray {
    fn name(&self) -> &str {
        &self.name
    }

    async fn devices(&self) -> Result<Arc<Vec<Device>>, StorageError> {
        Ok(self.survey()?.devices)
    }

    async fn totals(&self, _now: Timestamp) -> Result<Vec<Totals>, StorageError> {
        Ok(self.survey()?.totals)
    }
}

/// The arrays that are told of, by name. Cheap to clone.
pub type PushedArrays = Arc<BTreeMap<String, Arc<PushedArray>>>;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{super::tests::bare, *};

    /// A clock that is turned by hand.
    #[derive(Debug, Default)]
    struct Turned(AtomicU64);

    impl Turned {
        fn on(&self, span: Duration) {
            self.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
        }
    }

    impl Clock for Turned {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    #[test]
    fn an_array_is_told_of_by_its_own_collectors_alone() {
        let clock: Arc<dyn Clock> = Arc::new(Turned::default());
        let array = PushedArray::new("filer".to_owned(), FIVE_MINUTES, clock);
        assert!(array.is_told_of_by("anybody"));

        let array = array.only_by(BTreeSet::from(["filer-1".to_owned()]));

        assert!(array.is_told_of_by("filer-1") && !array.is_told_of_by("filer-10"));
    }

    #[tokio::test]
    async fn what_was_handed_in_is_said_until_it_is_too_old() {
        let clock = Arc::new(Turned::default());
        let told_by: Arc<dyn Clock> = Arc::<Turned>::clone(&clock);
        let array = PushedArray::new("filer".to_owned(), FIVE_MINUTES, told_by);
        let nothing = array.devices().await.unwrap_err();
        assert!(matches!(nothing, StorageError::Unreachable(_)), "{nothing:?}");

        let of_two = Totals { device: "two".to_owned(), reads: Some(7), ..Totals::default() };
        let at = array.take(vec![bare("two"), bare("one")], vec![of_two]);

        clock.on(FIVE_MINUTES);
        let devices = array.devices().await.unwrap();
        let keys: Vec<&str> = devices.iter().map(|device| device.key.as_str()).collect();
        assert_eq!(keys, ["one", "two"]);
        let totals = array.totals(clock.now()).await.unwrap();
        assert_eq!((totals[0].taken_at, totals[0].reads), (at, Some(7)));
        clock.on(Duration::from_secs(1));
        let old = array.totals(clock.now()).await.unwrap_err();
        assert!(matches!(old, StorageError::Unreachable(_)), "{old:?}");
    }
}
