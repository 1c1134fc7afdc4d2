//! The way to the world, which can be cut, and the hands of its clock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::clock::{Clock, Timestamp};
use tokio::time::Instant;

/// What one aggregator reaches the world through.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<AtomicBool>);

impl Line {
    /// Nothing that goes through it answers any more.
    pub fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns only while it is whole.
    pub async fn pass(&self) {
        if self.is_cut() {
            std::future::pending::<()>().await;
        }
    }
}

/// A clock whose hands go with the time of the runtime, which a test turns.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    started: Instant,
}

/// When the world began: a round number.
const BEGINNING: Timestamp = Timestamp::from_millis(1_700_000_000_000);

impl Default for SimClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        BEGINNING + self.started.elapsed()
    }
}
