//! How far the spool has been sent, and what is on its way.

use std::{collections::VecDeque, time::Duration};

use common::{sample::SampleId, wire::types};
use prost::Message as _;
use tokio::time::Instant;
use tracing::warn;

use super::Broken;
use crate::spool::Spool;

/// How long samples may be on their way without an acknowledgement.
pub(super) const RECEIVED_WITHIN: Duration = Duration::from_secs(120);
/// Samples on their way at most.
const ON_THEIR_WAY: usize = 64;
/// How far the spool has been sent.
pub(super) struct Sent {
    pub(super) cursor: Option<SampleId>,
    /// Read and not sent.
    pub(super) waiting: VecDeque<(SampleId, types::v1::Sample)>,
    /// Sent and not received.
    pub(super) unreceived: VecDeque<SampleId>,
    /// When there was last a sign that samples arrive.
    pub(super) moved_at: Instant,
}

impl Sent {
    /// Reads on, if there is nothing to send and not too much on its way.
    pub(super) async fn fill(&mut self, spool: &Spool) -> Result<(), Broken> {
        if !self.waiting.is_empty() || self.unreceived.len() >= ON_THEIR_WAY {
            return Ok(());
        }
        let (own, cursor) = (spool.clone(), self.cursor);
        let samples = blocking(move || own.after(cursor)).await?;
        if self.unreceived.is_empty() {
            self.moved_at = Instant::now();
        }
        for (id, bytes) in samples {
            self.cursor = Some(id);
            match types::v1::Sample::decode(bytes.as_slice()) {
                Ok(sample) => self.waiting.push_back((id, sample)),
                Err(cause) => warn!(?id, %cause, "spooled sample of another version left out"),
            }
        }
        Ok(())
    }

    pub(super) fn note_received(&mut self, id: SampleId) {
        while self.unreceived.front().is_some_and(|sent| *sent <= id) {
            self.unreceived.pop_front();
        }
        self.moved_at = Instant::now();
    }

    /// When the line counts as stuck; never while nothing is on its way.
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        let on_its_way = !self.unreceived.is_empty() || !self.waiting.is_empty();
        on_its_way.then(|| self.moved_at + RECEIVED_WITHIN)
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Broken> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|cause| Broken::Strange(format!("work on the spool was broken off: {cause}")))
}
