//! Looks every period and spools what it saw, as a change against the sample before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    delta::{self, Stamp},
    mix::EffectiveMix,
    sample::{Facts, Gap, Observation, Sample, ServiceState, Software},
    task::Chain,
    wire::types::v1,
};
use prost::Message as _;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{fitting::Fitting, software::Telling};
use super::{restraint::Restrained, services::ServicesReader};
use crate::{
    driver::{Drivers, ProcessDriver, SupervisedState},
    link::Sampling,
    observe::{Inputs, Measure, Observe, ObserveError, Supervised},
    spool::{Kept, Room, Spool, SpoolError},
};

mod fitting;
mod software;

/// How often use is looked at between two samples, so that peaks are seen.
const TICK: Duration = Duration::from_secs(1);
/// Least time between two samples when the aggregator asks for one at once.
const LEAST: Duration = Duration::from_millis(500);

/// Why the sampler ended.
#[derive(Debug, Error)]
pub(super) enum SamplerError {
    /// A look panicked.
    #[error("a look was broken off")]
    Look(#[source] tokio::task::JoinError),
}

/// What the sampler stands on.
pub(super) struct SamplerSetup {
    pub(super) observer: Box<dyn Observe>,
    pub(super) services: ServicesReader,
    pub(super) spool: Spool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sampling: watch::Receiver<Sampling>,
    /// Goes up whenever a full sample is asked for.
    pub(super) asked: watch::Receiver<u64>,
    pub(super) mix: watch::Receiver<EffectiveMix>,
    pub(super) drivers: Arc<Drivers>,
    pub(super) process: Arc<ProcessDriver>,
    pub(super) facts: watch::Sender<Facts>,
    pub(super) restrained: Restrained,
}

pub(super) struct Sampler {
    setup: SamplerSetup,
    inputs: Inputs,
    began: Instant,
    /// What was seen with the last sample that is kept.
    before: Option<Observation>,
    telling: Telling,
    since_full: u64,
    last_at: Option<Timestamp>,
    /// Samples that were due and could not be taken or kept.
    missed: Option<Gap>,
}

impl Sampler {
    pub(super) fn new(setup: SamplerSetup) -> Self {
        Self {
            setup,
            inputs: Inputs::default(),
            began: Instant::now(),
            before: None,
            telling: Telling::default(),
            since_full: 0,
            last_at: None,
            missed: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), SamplerError> {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut due = last;
        let mut full_is_asked = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = time::sleep_until(due) => {
                    self.sample(std::mem::take(&mut full_is_asked)).await?;
                    last = Instant::now();
                    // From when it was due, not from when it was done: a busy guest is not
                    // sampled less.
                    due = (due + self.period()).max(last);
                }
                Ok(()) = self.setup.sampling.changed() => {
                    self.inputs.rules = self.setup.sampling.borrow_and_update().rules.clone();
                    due = due.min(last + self.period());
                }
                Ok(()) = self.setup.asked.changed() => {
                    full_is_asked = true;
                    due = due.min(last + LEAST);
                }
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    fn period(&self) -> Duration {
        self.inputs.thrift.period(self.setup.sampling.borrow().period)
    }

    async fn tick(&mut self) -> Result<(), SamplerError> {
        self.inputs.thrift = self.setup.restrained.look();
        self.inputs.supervised = supervised(&self.setup.process);
        let now = self.setup.clock.now();
        let looked = self.look(move |observer, inputs| {
            software(observer, inputs, now);
            observer.tick(inputs)
        });
        match looked.await? {
            Ok(()) => {}
            Err(cause) => warn!(cause = %Chain(&cause), "use between samples not seen"),
        }
        Ok(())
    }

    /// Makes a look where blocking is allowed.
    async fn look<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(&mut dyn Observe, &Inputs) -> Result<T, ObserveError> + Send + 'static,
    ) -> Result<Result<T, ObserveError>, SamplerError> {
        let inputs = self.inputs.clone();
        let mut observer = std::mem::replace(&mut self.setup.observer, Box::new(Blind));
        let looked = tokio::task::spawn_blocking(move || {
            let seen = look(&mut *observer, &inputs);
            (observer, seen)
        });
        let (observer, seen) = looked.await.map_err(SamplerError::Look)?;
        self.setup.observer = observer;
        Ok(seen)
    }

    async fn sample(&mut self, asked: bool) -> Result<(), SamplerError> {
        self.inputs.supervised = supervised(&self.setup.process);
        self.inputs.services = self.setup.services.read().await;
        self.inputs.mix = self.setup.mix.borrow().clone();
        let now = self.setup.clock.now();
        let seen = self.look(move |observer, inputs| {
            let software = software(observer, inputs, now);
            Ok((observer.observe(inputs, now)?, software))
        });
        match seen.await? {
            Ok((mut observation, software)) => {
                observation.agent = Some(self.setup.restrained.told());
                let unlimited = self.setup.drivers.unlimited();
                note_unlimited(&mut observation.facts.other, unlimited);
                self.keep((observation, software), now, asked).await?;
            }
            Err(cause) => {
                warn!(cause = %Chain(&cause), "guest not seen");
                self.miss(now, "the guest could not be seen");
            }
        }
        Ok(())
    }

    async fn keep(
        &mut self,
        (observation, known): (Observation, Option<Arc<Software>>),
        now: Timestamp,
        asked: bool,
    ) -> Result<(), SamplerError> {
        let room = self.setup.spool.room();
        let is_time = self.since_full >= self.setup.sampling.borrow().full_every;
        let full = asked || is_time || room.must_be_full || self.before.is_none();
        let stamp = Stamp {
            id: room.id,
            taken_at: now,
            monotonic_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            gaps: room.gaps.iter().cloned().chain(self.missed.clone()).collect(),
        };
        let base = if full { None } else { self.before.as_ref() };
        let due = self.telling.due(known.as_ref(), full);
        let fitting = fitting::fitting(observation, due, |observation, software| {
            let sample = delta::between(base, observation, stamp.clone());
            v1::Sample::from(&Sample { software: software.cloned(), ..sample })
        });
        let Fitting { observation, software, sample } = fitting;
        match append(self.setup.spool.clone(), room, now, sample).await? {
            Ok(()) => {
                self.missed = None;
                self.last_at = Some(now);
                self.since_full = if full { 1 } else { self.since_full + 1 };
                self.setup.facts.send_if_modified(|facts| {
                    let is_new = *facts != observation.facts;
                    facts.clone_from(&observation.facts);
                    is_new
                });
                self.before = Some(observation);
                if let Some((software, known)) = software.zip(known) {
                    self.telling.tell(&software, &known);
                }
            }
            Err(cause) => {
                warn!(cause = %Chain(&cause), "sample not kept");
                self.setup.observer.lost();
                self.miss(now, "a sample could not be kept");
                self.before = None;
                self.telling.forget();
            }
        }
        Ok(())
    }

    fn miss(&mut self, now: Timestamp, reason: &str) {
        let from = self.last_at.unwrap_or(now).min(now);
        let missed = self.missed.get_or_insert_with(|| Gap {
            from,
            to: now,
            samples: 0,
            reason: reason.into(),
        });
        missed.to = now.max(missed.from);
        missed.samples += 1;
    }
}

async fn append(
    spool: Spool,
    room: Room,
    taken_at: Timestamp,
    sample: v1::Sample,
) -> Result<Result<(), SpoolError>, SamplerError> {
    let appended = tokio::task::spawn_blocking(move || {
        let bytes = sample.encode_to_vec();
        spool.append(&room, Kept { taken_at, full: sample.full, bytes: &bytes })
    });
    appended.await.map_err(SamplerError::Look)
}

/// Looks a little further at the software, unless that is left out; what was told of it stays told then.
fn software(observer: &mut dyn Observe, inputs: &Inputs, now: Timestamp) -> Option<Arc<Software>> {
    let is_read = !inputs.thrift.has(Measure::NoDetail);
    is_read.then(|| observer.software(now)).flatten()
}

fn supervised(process: &ProcessDriver) -> Vec<Supervised> {
    let all = process.supervised().into_iter();
    all.map(|(application, seen)| Supervised {
        application,
        pid: seen.pid,
        state: match seen.state {
            SupervisedState::Runs => ServiceState::Active,
            SupervisedState::Waits => ServiceState::Failed,
            SupervisedState::Stops => ServiceState::Changing,
        },
        enabled: true,
    })
    .collect()
}

fn note_unlimited(
    other: &mut BTreeMap<String, String>,
    unlimited: BTreeMap<common::id::AppName, String>,
) {
    let notes = unlimited.into_iter().map(|(name, why)| (format!("not_limited.{name}"), why));
    other.extend(notes);
}

/// Stands in while the observer looks.
#[derive(Debug)]
struct Blind;

impl Observe for Blind {
    fn observe(&mut self, _: &Inputs, _: Timestamp) -> Result<Observation, ObserveError> {
        Ok(Observation::default())
    }

    fn tick(&mut self, _: &Inputs) -> Result<(), ObserveError> {
        Ok(())
    }

    fn software(&mut self, _: Timestamp) -> Option<Arc<Software>> {
        None
    }

    fn lost(&mut self) {}
}
