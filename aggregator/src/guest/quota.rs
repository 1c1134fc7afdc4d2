//! How much one peer may ask of us: buckets that fill with time.

use std::{collections::HashMap, net::IpAddr, sync::PoisonError, time::Duration};

use tokio::time::Instant;

/// A bucket of `most` units that fills with `per_second`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    most: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(most: f64, per_second: f64, now: Instant) -> Self {
        Self { most, per_second, left: most, at: now }
    }

    /// Takes that many units and says how long to wait until they are paid for.
    pub(super) fn take(&mut self, units: f64, now: Instant) -> Duration {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.at = now;
        self.left = (self.left + filled).min(self.most) - units;
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.left / self.per_second)
    }

    fn is_full(&self, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left + filled >= self.most
    }
}

/// What is owed is saved up to this much before anybody waits for it: to wake up for one message
/// costs several times what the message does.
const WORTH_A_WAIT: Duration = Duration::from_millis(250);

/// What one agent may send. A spool of hours empties within minutes; a flood is slowed down to
/// what a few hundred machines send, and costs its own agent alone.
#[derive(Debug)]
pub(super) struct AgentQuota {
    messages: Bucket,
    bytes: Bucket,
    bad: Bucket,
}

impl AgentQuota {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::full(1000.0, 100.0, now),
            bytes: Bucket::full(f64::from(16 << 20), f64::from(2 << 20), now),
            bad: Bucket::full(64.0, 1.0, now),
        }
    }

    /// How long to wait before a message of that size is read.
    pub(super) fn message(&mut self, size: usize, now: Instant) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a frame is far smaller than 2^52")]
        let size = size as f64;
        let wait = self.messages.take(1.0, now).max(self.bytes.take(size, now));
        if wait < WORTH_A_WAIT { Duration::ZERO } else { wait }
    }

    /// Whether one more bad message is borne.
    pub(super) fn bears_a_bad_one(&mut self, now: Instant) -> bool {
        self.bad.take(1.0, now).is_zero()
    }
}

/// Sources that are remembered for their failures.
const MOST_SOURCES: usize = 4096;

/// Failed enrolments by source: who fails too often is not listened to for a while.
#[derive(Debug, Default)]
pub(super) struct Failures(std::sync::Mutex<HashMap<IpAddr, Bucket>>);

impl Failures {
    /// Whether this source may try.
    pub(super) fn may_try(&self, source: IpAddr, now: Instant) -> bool {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get_mut(&source).is_none_or(|bucket| bucket.take(0.0, now).is_zero())
    }

    /// Notes a failure.
    pub(super) fn note(&self, source: IpAddr, now: Instant) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MOST_SOURCES {
            sources.retain(|_, bucket| !bucket.is_full(now));
        }
        if sources.len() < MOST_SOURCES || sources.contains_key(&source) {
            sources.entry(source).or_insert_with(|| Bucket::full(10.0, 0.5, now)).take(1.0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_with_time_and_no_further() {
        let now = Instant::now();
        let mut bucket = Bucket::full(2.0, 1.0, now);
        assert!(bucket.take(2.0, now).is_zero());
        assert_eq!(bucket.take(1.0, now), Duration::from_secs(1));
        let later = now + Duration::from_secs(60);
        assert!(bucket.take(2.0, later).is_zero());
        assert!(!bucket.take(1.0, later).is_zero());
    }

    #[test]
    fn an_hour_of_spooled_samples_is_not_slowed_down() {
        let now = Instant::now();
        let mut quota = AgentQuota::new(now);
        assert!((0..360).all(|_| quota.message(20_000, now).is_zero()));
    }

    #[test]
    fn a_flood_is_slowed_down_to_its_rate_in_few_waits() {
        let (begin, mut now) = (Instant::now(), Instant::now());
        let mut quota = AgentQuota::new(now);
        let mut waits = 0;
        for _ in 0..3000 {
            let wait = quota.message(1000, now);
            waits += u32::from(!wait.is_zero());
            now += wait;
        }
        let took = now.saturating_duration_since(begin).as_secs_f64();
        assert!((19.5..=20.5).contains(&took), "2000 messages beyond the first took {took} s");
        assert!(waits <= 80, "{waits} waits");
    }

    #[test]
    fn a_source_that_fails_is_heard_again_after_a_while() {
        let (failures, now) = (Failures::default(), Instant::now());
        let source = "10.0.0.1".parse().unwrap();
        for _ in 0..11 {
            failures.note(source, now);
        }
        assert!(!failures.may_try(source, now));
        assert!(failures.may_try("10.0.0.2".parse().unwrap(), now));
        assert!(failures.may_try(source, now + Duration::from_secs(3)));
    }
}
