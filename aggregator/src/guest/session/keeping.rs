//! What comes up a stream: judged one by one, kept together, handed on.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    sample::{Sample, SampleId},
    wire::{
        LARGEST_MESSAGE,
        agent::v1::{Received, attach_request::Message as Up, attach_response::Message},
        types::v1,
    },
};
use futures::FutureExt as _;
use prost::Message as _;
use tokio::time::{self, Instant};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::{Line, Session, unavailable};
use crate::{
    guest::{
        codec::Arrived,
        intake::{Bad, Place},
    },
    repository::Incoming,
    window::Seen,
};

/// What is kept with one write to the disk, at most.
const BATCH_SAMPLES: usize = 64;
const BATCH_BYTES: usize = LARGEST_MESSAGE;

/// Samples that are kept with one write.
#[derive(Default)]
pub(super) struct Batch {
    incoming: Vec<Incoming>,
    seen: Vec<(Sample, bool)>,
    bytes: usize,
    /// Something known came again: its agent waits for an acknowledgement.
    repeated: bool,
}

impl Session {
    /// What has arrived, and all that waits behind it.
    pub(super) async fn gather(
        &mut self,
        line: &mut Line,
        first: Option<Result<Arrived, Status>>,
    ) -> Result<Batch, Status> {
        let mut batch = Batch::default();
        let mut next = first;
        loop {
            match next {
                None => line.ended = Some(Ok(())),
                Some(Err(status)) => line.ended = Some(Err(self.broken(status))),
                Some(Ok(arrived)) => self.judge(line, &mut batch, arrived).await?,
            }
            let is_full = batch.incoming.len() >= BATCH_SAMPLES || batch.bytes >= BATCH_BYTES;
            if is_full || line.ended.is_some() {
                return Ok(batch);
            }
            match self.inbound.next().now_or_never() {
                Some(waiting) => next = waiting,
                None => return Ok(batch),
            }
        }
    }

    async fn judge(
        &self,
        line: &mut Line,
        batch: &mut Batch,
        arrived: Arrived,
    ) -> Result<(), Status> {
        let wait = line.quota.message(arrived.size, Instant::now());
        if !wait.is_zero() {
            let told = "more than its share; slowed down";
            self.hub.refusals.count(Some(&self.record.id), "over_quota", told);
            time::sleep(wait).await;
        }
        let judged = match arrived.message {
            _ if arrived.size > LARGEST_MESSAGE => {
                let told = format!("message has {} bytes; send at most 1 MiB", arrived.size);
                Err(Bad::new("message_too_large", told))
            }
            Err(cause) => Err(Bad::new("undecodable_message", cause.to_string())),
            Ok(request) => match request.message {
                None => Err(Bad::new("empty_message", "message says nothing this version knows")),
                Some(Up::Hello(_)) => {
                    Err(Bad::new("second_hello", "hello was said already; open a new stream"))
                }
                Some(Up::ApplyReport(report)) => {
                    return match self.hub.take_report(&self.record.vm, report).await {
                        Ok(()) => Ok(()),
                        Err(bad) => self.bear(line, &bad),
                    };
                }
                Some(Up::Sample(wire)) => {
                    let bytes = arrived.sample.unwrap_or_else(|| wire.encode_to_vec().into());
                    self.place(line, batch, (wire, bytes))
                }
            },
        };
        match judged {
            Ok(()) => Ok(()),
            Err(bad) => {
                self.bear(line, &bad)?;
                line.guest.lose();
                self.ask_for_full(line, &bad.told).await
            }
        }
    }

    /// Puts a good sample into the batch.
    fn place(
        &self,
        line: &mut Line,
        batch: &mut Batch,
        (wire, bytes): (v1::Sample, Bytes),
    ) -> Result<(), Bad> {
        let received_at = self.hub.clock.now();
        let mut sample = line.standing.read(wire, received_at)?;
        let (agent, id) = (&self.record.id, sample.id);
        let place = line.standing.place(id);
        if place == Place::Known {
            self.hub.refusals.count(Some(agent), "duplicate_sample", told_id(id));
            batch.repeated = true;
            return Ok(());
        }
        if sample.full {
            line.asked_for_full = false;
            line.seat.open.note_full_sample();
        }
        if place == Place::AfterHole {
            self.hub.refusals.count(Some(agent), "missing_sequence", told_id(id));
        }
        let addresses = self.hub.owners.addresses(&self.record.vm, &self.hub.tasks);
        if let Some(address) = addresses.foreign(&self.record.vm, &sample) {
            self.hub.refusals.count(Some(agent), "claims_foreign_address", address);
        }
        line.standing.last = Some(id);
        batch.bytes += bytes.len();
        // Kept, and read again when somebody asks; nobody holds it for every guest.
        let software = sample.software.take();
        let after_hole = place == Place::AfterHole;
        batch.incoming.push(Incoming { id, received_at, bytes, software, after_hole });
        batch.seen.push((sample, place == Place::Next));
        Ok(())
    }

    /// Makes a batch durable, says so, and hands it on. Nothing in here may be cut off: what is
    /// durable and not handed on would be in no window before the next start.
    pub(super) async fn keep(&self, line: &mut Line, batch: Batch) -> Result<(), Status> {
        let (agent, vm) = (&self.record.id, &self.record.vm);
        if !batch.incoming.is_empty() {
            let times: Vec<_> = batch.incoming.iter().map(|one| one.received_at).collect();
            let kept = self.hub.repository.append_samples(agent, vm, batch.incoming).await;
            let new = kept.map_err(|cause| unavailable(&cause))?;
            line.seat.open.note_received(line.standing.last);
            let known = batch.seen.len() - new.min(batch.seen.len());
            let new = batch.seen.into_iter().zip(times).skip(known);
            let new = new.map(|((sample, follows), received_at)| {
                let (agent, vm) = (agent.clone(), vm.clone());
                let seen = Seen { agent, vm, sample: Arc::new(sample), received_at };
                line.guest.observe(&seen, follows);
                seen
            });
            // An agent that does not read its acknowledgement keeps nothing from its window.
            let new = new.collect();
            let (told, handed_on) = tokio::join!(self.acknowledge(line), self.hand_on(new));
            handed_on.and(told)?;
        } else if batch.repeated {
            self.acknowledge(line).await?;
        }
        if !line.guest.has_base() {
            self.ask_for_full(line, "a sample before this one is missing").await?;
        }
        Ok(())
    }

    async fn hand_on(&self, new: Vec<Seen>) -> Result<(), Status> {
        for seen in new {
            let sent = self.hub.seen.send(seen).await;
            sent.map_err(|_| Status::unavailable("the aggregator is shutting down; try again"))?;
        }
        Ok(())
    }

    async fn acknowledge(&self, line: &Line) -> Result<(), Status> {
        let sample = line.standing.last.as_ref().map(Into::into);
        self.tell(Message::Received(Received { sample })).await
    }

    /// Counts a bad message; too many of them end the stream.
    fn bear(&self, line: &mut Line, bad: &Bad) -> Result<(), Status> {
        self.hub.refusals.count(Some(&self.record.id), bad.name, &bad.told);
        if line.quota.bears_a_bad_one(Instant::now()) {
            return Ok(());
        }
        let bad = Bad::new("too_many_bad_messages", "too many bad messages; update this agent");
        Err(self.refuse_stream(&bad, Code::ResourceExhausted))
    }
}

fn told_id(id: SampleId) -> String {
    format!("sample {}.{}", id.epoch, id.sequence)
}
