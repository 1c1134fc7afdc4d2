//! The load generator: simulated agents that speak the agents' protocol as real ones do, spool and
//! all, and remember what was acknowledged to them.
//!
//! ```text
//!  sample ─> kept ─> sent ─> Received: durable there, or it was lost
//!              └──────────── Sealed: forgotten here
//! ```
//!
//! What an aggregator acknowledged and does not know any more after a restart is written down as
//! lost, by agent and number.

mod payload;

use std::{collections::VecDeque, io, time::Duration};

use common::{
    pki::{AgentKey, SERVER_NAME},
    task::Chain,
    wire::agent::v1::{
        AttachRequest, AttachResponse, EnrollRequest, Hello, SampleId,
        agent_link_service_client::AgentLinkServiceClient, attach_request, attach_response,
        enrollment_service_client::EnrollmentServiceClient,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Streaming,
    codec::CompressionEncoding,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

pub use self::payload::Shape;
use crate::figure::Failure;

/// Where the load goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// `https://ADDRESS:PORT`.
    pub address: String,
    /// The authority to be trusted.
    pub authority_pem: String,
    /// Samples are compressed as the agents do it.
    pub compressed: bool,
}

/// How fast samples are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as they are acknowledged, with so many under way.
    Flood {
        /// Samples under way at once, by agent.
        under_way: usize,
    },
    /// One every so often.
    Every(Duration),
}

/// What one simulated agent went through.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Different samples sent.
    pub sent: u64,
    /// Of these, acknowledged as durable.
    pub acknowledged: u64,
    /// Of these, acknowledged as part of a committed window.
    pub sealed: u64,
    /// Streams it had.
    pub streams: u64,
    /// Bytes of its samples on the wire before compression.
    pub bytes: u64,
    /// What was acknowledged and then not known any more.
    pub lost: Vec<String>,
    /// Why its last stream ended, if it did not end well.
    pub last_failure: Option<String>,
}

/// A simulated agent.
#[derive(Debug)]
pub struct LoadAgent {
    vm: String,
    identity: Identity,
    shape: Shape,
    epoch: u64,
    /// Samples that are in no committed window, by sequence.
    kept: VecDeque<(u64, AttachRequest)>,
    /// The last sequence that was sent on the stream that is open.
    sent: u64,
    full_wanted: bool,
    told: Told,
}

impl Target {
    /// Opens a connection, with an identity or to get one.
    async fn connect(&self, identity: Option<Identity>) -> Result<Channel, Failure> {
        let mut tls = ClientTlsConfig::new()
            .domain_name(SERVER_NAME)
            .ca_certificate(Certificate::from_pem(&self.authority_pem));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(self.address.clone())?.tls_config(tls)?;
        Ok(endpoint.connect_timeout(Duration::from_secs(5)).connect().await?)
    }
}

impl LoadAgent {
    /// Enrols as the agent of machine `vm`.
    ///
    /// # Errors
    ///
    /// If the aggregator cannot be reached or refuses.
    pub async fn enrol(
        target: &Target,
        token: &str,
        vm: &str,
        shape: Shape,
    ) -> Result<Self, Failure> {
        let key = AgentKey::generate()?;
        let request = EnrollRequest {
            token: token.to_owned(),
            certificate_request: key.request()?,
            facts: Some(payload::facts(vm)),
        };
        let mut client = EnrollmentServiceClient::new(target.connect(None).await?);
        let enrolled = client.enroll(request).await?.into_inner();
        let identity = Identity::from_pem(enrolled.certificate_pem, key.key_pem());
        Ok(Self::with_identity(vm, identity, shape))
    }

    /// An agent that has an identity already.
    #[must_use]
    pub fn with_identity(vm: &str, identity: Identity, shape: Shape) -> Self {
        Self {
            vm: vm.to_owned(),
            identity,
            shape,
            epoch: 1,
            kept: VecDeque::new(),
            sent: 0,
            full_wanted: true,
            told: Told::default(),
        }
    }

    /// Sends until `goal` samples are acknowledged or it is told to stop, through as many streams
    /// as it takes, and gives back itself.
    pub async fn run(
        mut self,
        target: Target,
        pace: Pace,
        goal: u64,
        stop: CancellationToken,
    ) -> Self {
        while self.told.acknowledged < goal && !stop.is_cancelled() {
            let streamed = stop.run_until_cancelled(self.stream(&target, pace, goal)).await;
            self.took_breath(streamed, &stop).await;
        }
        self
    }

    /// Waits until all that was sent is part of committed windows, or it is told to stop.
    pub async fn settle(mut self, target: Target, stop: CancellationToken) -> Self {
        let goal = self.told.sent;
        while self.told.sealed < goal && !stop.is_cancelled() {
            let heard = stop.run_until_cancelled(self.hear_out(&target, goal)).await;
            self.took_breath(heard, &stop).await;
        }
        self
    }

    /// A server that is away is not asked in a tight loop.
    async fn took_breath(&mut self, ended: Option<Result<(), Failure>>, stop: &CancellationToken) {
        if let Some(Err(cause)) = ended {
            self.told.last_failure = Some(Chain(cause.as_ref()).to_string());
            stop.run_until_cancelled(time::sleep(Duration::from_millis(20))).await;
        }
    }

    /// What it went through.
    #[must_use]
    pub const fn told(&self) -> &Told {
        &self.told
    }

    async fn open(
        &mut self,
        target: &Target,
    ) -> Result<(mpsc::Sender<AttachRequest>, Streaming<AttachResponse>), Failure> {
        let channel = target.connect(Some(self.identity.clone())).await?;
        let mut client = AgentLinkServiceClient::new(channel);
        if target.compressed {
            client = client
                .send_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Zstd);
        }
        let (up, requests) = mpsc::channel(64);
        let hello = Hello {
            protocol_version: 1,
            epoch: self.epoch,
            facts: Some(payload::facts(&self.vm)),
            mix: Some(payload::mix()),
            spooled_samples: self.kept.len() as u64,
        };
        up.send(AttachRequest { message: Some(attach_request::Message::Hello(hello)) }).await?;
        let mut down = client.attach(ReceiverStream::new(requests)).await?.into_inner();
        self.told.streams += 1;
        let first = down.message().await?.and_then(|response| response.message);
        let Some(attach_response::Message::Welcome(welcome)) = first else {
            return Err(Box::new(io::Error::other("the first message is no welcome")));
        };
        self.welcomed(welcome.last_received, welcome.last_sealed);
        Ok((up, down))
    }

    fn welcomed(&mut self, received: Option<SampleId>, sealed: Option<SampleId>) {
        let of_epoch = |id: Option<SampleId>| {
            id.filter(|id| id.epoch == self.epoch).map_or(0, |id| id.sequence)
        };
        let (received, sealed) = (of_epoch(received), of_epoch(sealed));
        if received < self.told.acknowledged {
            let lost = format!("{}: {}..={}", self.vm, received + 1, self.told.acknowledged);
            self.told.lost.push(lost);
        }
        self.received(received);
        self.forget(sealed);
        self.sent = received;
    }

    fn received(&mut self, sequence: u64) {
        self.told.acknowledged = self.told.acknowledged.max(sequence);
    }

    fn forget(&mut self, sequence: u64) {
        self.told.sealed = self.told.sealed.max(sequence);
        while self.kept.front().is_some_and(|(kept, _)| *kept <= sequence) {
            self.kept.pop_front();
        }
    }

    fn next(&mut self) -> AttachRequest {
        if let Some((sequence, request)) =
            self.kept.iter().find(|(sequence, _)| *sequence > self.sent)
        {
            self.sent = *sequence;
            return request.clone();
        }
        let sequence = self.told.sent + 1;
        let full = std::mem::take(&mut self.full_wanted);
        let (request, bytes) = payload::sample(&self.vm, self.epoch, sequence, full, self.shape);
        self.told.sent = sequence;
        self.told.bytes += bytes;
        self.sent = sequence;
        self.kept.push_back((sequence, request.clone()));
        request
    }

    async fn stream(&mut self, target: &Target, pace: Pace, goal: u64) -> Result<(), Failure> {
        let (up, mut down) = self.open(target).await?;
        let (every, under_way) = match pace {
            Pace::Flood { under_way } => (None, under_way as u64),
            Pace::Every(every) => (Some(every), u64::MAX),
        };
        let mut tick = time::interval(every.unwrap_or(Duration::from_secs(3600)));
        while self.told.acknowledged < goal {
            let backlog = self.sent < self.told.sent;
            let has_room = self.sent.saturating_sub(self.told.acknowledged) < under_way;
            let may_send = backlog || (every.is_none() && has_room && self.sent < goal);
            tokio::select! {
                response = down.message() => {
                    let Some(response) = response? else { return Ok(()) };
                    self.hear(response);
                }
                room = up.reserve(), if may_send => room?.send(self.next()),
                _ = tick.tick(), if every.is_some() && !backlog => up.send(self.next()).await?,
            }
        }
        Ok(())
    }

    async fn hear_out(&mut self, target: &Target, goal: u64) -> Result<(), Failure> {
        let (up, mut down) = self.open(target).await?;
        while self.told.sealed < goal {
            let backlog = self.sent < self.told.sent;
            tokio::select! {
                response = down.message() => {
                    let Some(response) = response? else { return Ok(()) };
                    self.hear(response);
                }
                room = up.reserve(), if backlog => room?.send(self.next()),
            }
        }
        Ok(())
    }

    fn hear(&mut self, response: AttachResponse) {
        match response.message {
            Some(attach_response::Message::Received(received)) => {
                let of_epoch = received.sample.filter(|id| id.epoch == self.epoch);
                self.received(of_epoch.map_or(0, |id| id.sequence));
            }
            Some(attach_response::Message::Sealed(sealed)) => {
                let of_epoch = sealed.sample.filter(|id| id.epoch == self.epoch);
                self.forget(of_epoch.map_or(0, |id| id.sequence));
            }
            Some(attach_response::Message::Resynchronise(_)) => self.full_wanted = true,
            _ => {}
        }
    }
}

/// Runs all agents side by side and gives them back.
///
/// # Errors
///
/// If one of them panicked.
pub async fn run_all<F>(
    agents: Vec<LoadAgent>,
    run: impl Fn(LoadAgent) -> F,
) -> Result<Vec<LoadAgent>, Failure>
where
    F: Future<Output = LoadAgent> + Send + 'static,
{
    let mut running = JoinSet::new();
    for agent in agents {
        running.spawn(run(agent));
    }
    let mut done = Vec::new();
    while let Some(agent) = running.join_next().await {
        done.push(agent?);
    }
    Ok(done)
}
