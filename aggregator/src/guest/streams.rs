//! The open streams, one seat per identity, and what happens when two want the same.
//!
//! A second stream of one identity is a clone of the guest, or the same agent that lost its line
//! and is back before we noticed. They are told apart by asking the one that sits: it is told to
//! send a full sample. If it does, two live: both are quarantined, for taking turns would mix two
//! machines into one history. If its line turns out dead, or it says nothing for two sample periods
//! though its line is up, the newcomer has the seat.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AgentId, VmId},
    sample::SampleId,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::AttachedAgent;

/// Beyond two sample periods, for the way of the question and of the answer.
const SLACK: Duration = Duration::from_secs(2);
/// What was under way on a dead line comes in before its end does.
const SETTLE: Duration = Duration::from_millis(300);

/// One open stream.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) vm: VmId,
    pub(super) since: Timestamp,
    pub(super) version: String,
    last_received: Mutex<Option<SampleId>>,
    /// When somebody else wanted the seat first.
    challenged: watch::Sender<Option<Instant>>,
    answered: watch::Sender<bool>,
    /// Goes up whenever somebody wants a sample at once.
    wanted: watch::Sender<u64>,
    closing: CancellationToken,
    reason: OnceLock<Status>,
    over: CancellationToken,
}

/// What became of a seat that two wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contest {
    /// The one that sat is gone.
    Free,
    /// It sits there and lives.
    TwoLive,
}

impl Open {
    pub(super) fn new(vm: VmId, since: Timestamp, version: String) -> Self {
        Self {
            vm,
            since,
            version,
            last_received: Mutex::default(),
            challenged: watch::Sender::new(None),
            answered: watch::Sender::new(false),
            wanted: watch::Sender::new(0),
            closing: CancellationToken::new(),
            reason: OnceLock::new(),
            over: CancellationToken::new(),
        }
    }

    /// Ends the stream; its agent hears why.
    pub(super) fn close(&self, why: Status) {
        // The first reason stands: the stream ends once.
        let _earlier = self.reason.set(why);
        self.closing.cancel();
    }

    /// Waits until somebody closes the stream, and says why.
    pub(super) async fn closed(&self) -> Status {
        self.closing.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(|| Status::aborted("stream closed"))
    }

    pub(super) fn challenges(&self) -> watch::Receiver<Option<Instant>> {
        self.challenged.subscribe()
    }

    /// Wants a sample at once.
    pub(super) fn want(&self) {
        self.wanted.send_modify(|wanted| *wanted += 1);
    }

    pub(super) fn wants(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// A full sample came: whoever asked for it has an answer.
    pub(super) fn note_full_sample(&self) {
        if self.challenged.borrow().is_some() {
            self.answered.send_replace(true);
        }
    }

    pub(super) fn note_received(&self, id: Option<SampleId>) {
        *self.last_received.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Asks the one that sits whether it lives.
    pub(super) async fn contest(&self, period: Duration) -> Contest {
        let asked = *self.challenged.borrow();
        let asked = asked.unwrap_or_else(|| {
            let now = Instant::now();
            self.challenged.send_replace(Some(now));
            now
        });
        let mut answered = self.answered.subscribe();
        tokio::select! {
            () = self.over.cancelled() => return Contest::Free,
            () = async { answered.wait_for(|answered| *answered).await.map(drop).unwrap_or_default() } => {}
            () = time::sleep_until(asked + period * 2 + SLACK) => {
                self.close(Status::aborted("another stream of this agent took over"));
                self.over.cancelled().await;
                return Contest::Free;
            }
        }
        let over = time::timeout(SETTLE, self.over.cancelled()).await.is_ok();
        if over { Contest::Free } else { Contest::TwoLive }
    }
}

/// All open streams.
#[derive(Debug, Default)]
pub(super) struct Streams(Arc<Mutex<BTreeMap<AgentId, Arc<Open>>>>);

/// A stream's seat; it is free again, and the stream over, once this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    streams: Arc<Mutex<BTreeMap<AgentId, Arc<Open>>>>,
    agent: AgentId,
    pub(super) open: Arc<Open>,
}

impl Streams {
    /// Takes the seat of an identity, or says who sits there.
    pub(super) fn enter(&self, agent: &AgentId, open: &Arc<Open>) -> Result<Seat, Arc<Open>> {
        let mut streams = self.lock();
        if let Some(other) = streams.get(agent) {
            return Err(Arc::clone(other));
        }
        streams.insert(agent.clone(), Arc::clone(open));
        let (streams, open) = (Arc::clone(&self.0), Arc::clone(open));
        Ok(Seat { streams, agent: agent.clone(), open })
    }

    pub(super) fn of(&self, agent: &AgentId) -> Option<Arc<Open>> {
        self.lock().get(agent).cloned()
    }

    /// The streams from a machine; more than one only for as long as two want one seat.
    pub(super) fn from(&self, vm: &VmId) -> Vec<Arc<Open>> {
        self.lock().values().filter(|open| open.vm == *vm).cloned().collect()
    }

    pub(super) fn all(&self) -> BTreeMap<AgentId, AttachedAgent> {
        let attached = |(agent, open): (&AgentId, &Arc<Open>)| {
            let last = *open.last_received.lock().unwrap_or_else(PoisonError::into_inner);
            let attached = AttachedAgent {
                vm: open.vm.clone(),
                since: open.since,
                version: open.version.clone(),
                last_received: last,
            };
            (agent.clone(), attached)
        };
        self.lock().iter().map(attached).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.agent);
        self.open.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Arc<Open> {
        Arc::new(Open::new("vm-1".parse().unwrap(), Timestamp::from_millis(1), "0".into()))
    }

    const PERIOD: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_dead_frees_the_seat() {
        let (streams, agent) = (Streams::default(), "a-1".parse().unwrap());
        let seat = streams.enter(&agent, &open()).unwrap();
        let other = streams.enter(&agent, &open()).unwrap_err();
        let end = async { drop(seat) };
        let (contest, ()) = tokio::join!(other.contest(PERIOD), end);
        assert_eq!(contest, Contest::Free);
        assert!(streams.enter(&agent, &open()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_means_that_two_live() {
        let (streams, agent) = (Streams::default(), "a-1".parse().unwrap());
        let seat = streams.enter(&agent, &open()).unwrap();
        // What was full before anybody asked proves nothing.
        seat.open.note_full_sample();
        let answer = async {
            seat.open.challenges().wait_for(Option::is_some).await.unwrap();
            seat.open.note_full_sample();
        };
        let (contest, ()) = tokio::join!(seat.open.contest(PERIOD), answer);
        assert_eq!(contest, Contest::TwoLive);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_for_two_periods_loses_the_seat() {
        let (streams, agent) = (Streams::default(), "a-1".parse().unwrap());
        let seat = streams.enter(&agent, &open()).unwrap();
        let sitting = Arc::clone(&seat.open);
        let leave = async move {
            let why = seat.open.closed().await;
            drop(seat);
            why
        };
        let (contest, why) = tokio::join!(sitting.contest(PERIOD), leave);
        assert_eq!(contest, Contest::Free);
        assert_eq!(why.code(), tonic::Code::Aborted);
    }
}
