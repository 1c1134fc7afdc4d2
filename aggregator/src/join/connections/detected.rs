//! How many connections there were for those that were seen.
//!
//! What an agent counts it holds against what the kernel counted. A table that is looked at now and
//! then misses what lives more briefly than from look to look; how much it misses is told by how often the
//! same connection is seen again, unless it was seen waiting in `TIME_WAIT`, which outlasts a look.

use std::time::Duration;

use algorithms::detection::chance_to_be_seen;
use common::sample::{ConnectionState, Coverage};

use crate::window::ConnectionSpan;

/// How long a kernel keeps what is closed in `TIME_WAIT`.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Connections that came to be on an edge, by how they were seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Detected {
    /// Those counted, and how many there were for them.
    counted: u64,
    due: f64,
    /// Those that rows tell of, none like them missed.
    certain: u64,
    /// Those that rows tell of by chance, and the looks that showed them.
    by_chance: u64,
    sightings: u64,
}

impl Detected {
    /// Takes in connections that an agent counted.
    #[expect(clippy::cast_precision_loss, reason = "connections of a window are far below 2^52")]
    pub(super) fn count(&mut self, opened: u64, coverage: Option<Coverage>) {
        let hundredths = coverage.and_then(|coverage| coverage.share()).unwrap_or(10_000).max(1);
        self.counted = self.counted.saturating_add(opened);
        self.due += opened as f64 * 10_000.0 / f64::from(hundredths);
    }

    /// Takes in one connection that rows tell of, of guests that look once in `period`.
    pub(super) fn see(&mut self, spans: &[&ConnectionSpan], period: Duration) {
        let waits = |span: &&ConnectionSpan| span.states.meets(&[ConnectionState::TimeWait]);
        if period <= TIME_WAIT && spans.iter().any(waits) {
            self.certain += 1;
        } else {
            self.by_chance += 1;
            self.sightings += spans.iter().map(|span| span.seen).max().unwrap_or(0);
        }
    }

    /// Share of the connections that were seen; `None` if none came to be.
    #[expect(clippy::cast_precision_loss, reason = "connections of a window are far below 2^52")]
    pub(super) fn share(&self) -> Option<f64> {
        let seen = self.counted.saturating_add(self.certain).saturating_add(self.by_chance);
        let by_chance = chance_to_be_seen(self.by_chance, self.sightings)
            .map_or(0.0, |chance| self.by_chance as f64 / chance.max(f64::EPSILON));
        let all = self.due + self.certain as f64 + by_chance;
        (seen > 0 && all > 0.0).then(|| (seen as f64 / all).min(1.0))
    }
}
