//! One stream of one agent, from its hello to its end.
//!
//! ```text
//!  hello ─> seat ─> welcome ─> [ what waits ─> durable ─> received ─> window ] ...
//!                              [ seals, lists, policy, questions, down      ]
//! ```
//!
//! A message that is refused costs itself: it is counted by name, its agent is asked for a full
//! sample, and the stream goes on. Only who sends bad ones without end loses the stream, and is
//! free to open another. A session is a task of the hub, not of its connection: what it has begun
//! to keep it keeps and hands on, whatever becomes of the line.

mod keeping;
mod opening;

use std::{sync::Arc, time::Duration};

use common::{
    task::Chain,
    wire::{
        PROTOCOL_VERSION,
        agent::v1::{AttachResponse, Hello, Resynchronise, Welcome, attach_response::Message},
    },
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming};
use tracing::{debug, error, info, warn};

use super::{
    Hub, active,
    codec::Arrived,
    intake::{Bad, Standing},
    machines::Guest,
    news::News,
    quota::AgentQuota,
    streams::Seat,
};
use crate::{
    access,
    repository::{AgentRecord, Progress, RepositoryError},
};

/// How long a stream may be open without a hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// How long an agent may leave unread what it is told.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// How long an agent may take to read why its stream ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// One stream.
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) record: AgentRecord,
    pub(super) inbound: Streaming<Arrived>,
    pub(super) down: mpsc::Sender<Result<AttachResponse, Status>>,
}

/// What an open stream knows.
struct Line {
    seat: Seat,
    guest: Arc<Guest>,
    standing: Standing,
    quota: AgentQuota,
    /// A full sample was asked for and has not come.
    asked_for_full: bool,
    /// How the stream ended, if what was read ahead says so.
    ended: Option<Result<(), Status>>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.guest.detach();
    }
}

impl Session {
    /// Runs to the end of the stream.
    pub(super) async fn run(mut self) {
        if let Err(status) = self.talk().await {
            debug!(agent = %self.record.id, cause = status.message(), "stream ended by us");
            let farewell = time::timeout(FAREWELL, self.down.send(Err(status))).await;
            if farewell.is_err() {
                debug!(agent = %self.record.id, "agent did not hear why");
            }
        }
    }

    async fn talk(&mut self) -> Result<(), Status> {
        let hello = match time::timeout(HELLO_PATIENCE, self.hello()).await {
            Ok(hello) => hello?,
            Err(_) => {
                let bad = Bad::new("no_hello", "no hello within 10 s; send it first");
                return Err(self.refuse_stream(&bad, Code::DeadlineExceeded));
            }
        };
        let facts = self.check(&hello)?;
        let seat = self.sit(facts).await?;
        let (vm, since) = (seat.open.vm.clone(), Instant::now());
        info!(agent = %self.record.id, %vm, epoch = hello.epoch, "agent attached");
        let result = self.converse(seat, hello).await;
        let alarming = self.record.ephemeral.is_none();
        let lasted = since.elapsed().as_secs();
        if alarming {
            warn!(agent = %self.record.id, %vm, lasted, "agent detached");
        } else {
            info!(agent = %self.record.id, %vm, lasted, "agent of a clone detached");
        }
        result
    }

    async fn converse(&mut self, seat: Seat, hello: Hello) -> Result<(), Status> {
        let mix = hello.mix.unwrap_or_default().try_into();
        let mix = mix.map_err(|bad: common::wire::BadMessage| {
            let bad = Bad::new("bad_hello", bad.within("mix").to_string());
            self.refuse_stream(&bad, Code::InvalidArgument)
        })?;
        let guest = self.hub.machines.of(&self.record.vm);
        let mut news = News::new(&self.hub, &self.record.id, &guest, &seat.open);
        let progress = self.progress().await?;
        seat.open.note_received(progress.received);
        let standing =
            Standing { vm: self.record.vm.clone(), epoch: hello.epoch, last: progress.received };
        if progress.received.is_some_and(|last| hello.epoch < last.epoch) {
            let told = "hello's epoch lies before the last sample's; the guest was set back";
            self.hub.refusals.count(Some(&self.record.id), "epoch_went_back", told);
        }
        guest.attach(mix);
        let quota = AgentQuota::new(Instant::now());
        let mut line = Line { seat, guest, standing, quota, asked_for_full: false, ended: None };
        self.welcome(progress).await?;
        if !line.guest.has_base() {
            self.ask_for_full(&mut line, "nothing is known here of this guest").await?;
        }
        self.listen(&mut line, &mut news).await
    }

    /// How far the agent has come; and once more whether it may speak, for it may have been
    /// revoked while it waited for its seat.
    async fn progress(&self) -> Result<Progress, Status> {
        let record = self.hub.repository.agent(&self.record.id).await;
        let record = record.map_err(|cause| unavailable(&cause))?;
        active(record).map_err(|(name, told)| {
            self.refuse_stream(&Bad::new(name, told), Code::PermissionDenied)
        })?;
        self.hub.repository.progress(&self.record.id).await.map_err(|cause| unavailable(&cause))
    }

    async fn welcome(&self, progress: Progress) -> Result<(), Status> {
        let welcome = Welcome {
            protocol_version: PROTOCOL_VERSION,
            sampling_policy: Some(self.hub.sampling.borrow().clone()),
            last_received: progress.received.as_ref().map(Into::into),
            last_sealed: progress.sealed.as_ref().map(Into::into),
            now_unix_ms: i64::try_from(self.hub.clock.now().as_millis()).unwrap_or(i64::MAX),
        };
        self.tell(Message::Welcome(welcome)).await
    }

    async fn listen(&mut self, line: &mut Line, news: &mut News) -> Result<(), Status> {
        let open = Arc::clone(&line.seat.open);
        loop {
            if let Some(ended) = line.ended.take() {
                return ended;
            }
            tokio::select! {
                biased;
                why = open.closed() => return Err(why),
                told = news.next() => self.tell(told).await?,
                arrived = self.inbound.next() => {
                    let batch = tokio::select! {
                        batch = self.gather(line, arrived) => batch?,
                        why = open.closed() => return Err(why),
                    };
                    self.keep(line, batch).await?;
                }
            }
        }
    }

    async fn ask_for_full(&self, line: &mut Line, reason: &str) -> Result<(), Status> {
        if line.asked_for_full {
            return Ok(());
        }
        line.asked_for_full = true;
        self.tell(Message::Resynchronise(Resynchronise { reason: reason.to_owned() })).await
    }

    async fn tell(&self, message: Message) -> Result<(), Status> {
        let sent = self.down.send(Ok(AttachResponse { message: Some(message) }));
        match time::timeout(READ_PATIENCE, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the agent is gone")),
            Err(_) => {
                let bad = Bad::new("does_not_read", "agent does not read what it is told");
                Err(self.refuse_stream(&bad, Code::DeadlineExceeded))
            }
        }
    }

    fn refuse_stream(&self, bad: &Bad, code: Code) -> Status {
        self.hub.refusals.count(Some(&self.record.id), bad.name, &bad.told);
        access::refused(code, &bad.name.to_uppercase(), bad.told.clone())
    }

    /// A stream that broke: a line that was cut is nobody's fault, bad framing is.
    fn broken(&self, status: Status) -> Status {
        let name = match status.code() {
            // Larger than a frame may be, as it came or once it is unpacked.
            Code::OutOfRange | Code::ResourceExhausted => "message_too_large",
            Code::Internal | Code::Unimplemented => "broken_framing",
            _ => return status,
        };
        self.hub.refusals.count(Some(&self.record.id), name, status.message());
        status
    }
}

fn unavailable(cause: &RepositoryError) -> Status {
    error!(cause = %Chain(cause), "samples could not be kept");
    Status::unavailable("could not keep it; try again later")
}
