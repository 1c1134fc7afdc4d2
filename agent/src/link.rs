//! The line to the aggregator: one stream that the agent opens, and opens again.
//!
//! ```text
//!  enrol (pinned) ─> identity ─> dial (mutual TLS) ─> hello, welcome ─> samples, reports up
//!                       ^                                            lists, policy, seals down
//!                       └─ renewed after two thirds of its time
//! ```
//!
//! The agent listens nowhere. While the aggregator is away samples wait in the spool; the pause
//! before each try is drawn at random, so that a fleet that was cut off does not come back as one.

mod dial;
mod enrol;
mod pause;
mod probe;
mod resolve;
mod sent;
mod stream;
mod tls;
mod words;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    clock::{Clock, Timestamp},
    mix::EffectiveMix,
    sample::Facts,
    task::Chain,
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{error, info, warn};

use self::pause::Pause;
pub use self::words::Sampling;
pub(crate) use self::{
    probe::{Answer, Clocks, ask, knock},
    resolve::addresses,
};
use crate::{
    apply::{Offer, Report},
    identity::{Identity, IdentityError, IdentityStore},
    spool::Spool,
};

/// How often it is looked whether the certificate shall be renewed, and whether the machine is
/// still the one the identity is for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why the line cannot be kept up by trying again.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The identity cannot be kept or used.
    #[error("could not go on without an identity")]
    Identity(#[from] IdentityError),
    /// This guest was cloned while it ran; the agent starts anew and finds out.
    #[error("the machine's uuid changed while the agent ran; starting anew")]
    Cloned,
}

/// Why one try failed.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    /// Nobody answers there, or not as one should.
    #[error("could not reach the aggregator at {address}")]
    Dial {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The aggregator, or the line, ended it.
    #[error("aggregator said {}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    /// The aggregator did not say what it should in time.
    #[error("aggregator did not {what} within {} s", within.as_secs())]
    Late {
        /// What it should have done.
        what: &'static str,
        /// How long we waited.
        within: Duration,
    },
    /// It speaks something else.
    #[error("aggregator speaks otherwise: {0}")]
    Strange(String),
    /// What it gave cannot be used, or kept.
    #[error("could not use what the aggregator gave")]
    Identity(#[from] IdentityError),
    /// The key or the certificate cannot be used.
    #[error("could not use the identity")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no secret to enrol with.
    #[error("no token to enrol with; give token or token_file in agent.toml")]
    NoToken,
}

impl From<tonic::Status> for Broken {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Broken {
    /// Whether a person must do something before it can work.
    fn is_denial(&self) -> bool {
        match self {
            Self::NoToken => true,
            Self::Status(status) => matches!(
                status.code(),
                Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition
            ),
            _ => false,
        }
    }
}

/// What the line stands on.
#[derive(Debug)]
pub struct LinkSetup {
    /// Where the aggregator listens: `HOST:PORT`.
    pub address: String,
    /// Where the identity is kept.
    pub store: IdentityStore,
    /// What the guest looks like, for hello.
    pub facts: watch::Receiver<Facts>,
    /// The mix it runs, for hello.
    pub mix: watch::Receiver<EffectiveMix>,
    /// Samples to send.
    pub spool: Spool,
    /// What becomes of lists.
    pub reports: mpsc::Receiver<Report>,
    /// What became of the last one.
    pub last_report: watch::Receiver<Option<Report>>,
    /// Takes lists.
    pub offers: mpsc::Sender<Offer>,
    /// Hears how to sample.
    pub sampling: watch::Sender<Sampling>,
    /// Goes up whenever the aggregator asks for a full sample.
    pub resynchronise: watch::Sender<u64>,
}

/// The line. One of its kind runs at a time.
pub struct Link {
    setup: LinkSetup,
    identity: Identity,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// How a stream ended that did not break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The agent stops.
    Stopped,
    /// It is time to look after the identity.
    LookAfter,
}

/// Enrols until it succeeds; `None` if `stop` comes first.
///
/// # Errors
///
/// If the machine has no uuid, or the disk refuses.
pub async fn enrol(
    (address, store): (&str, &IdentityStore),
    facts: &Facts,
    is_clone: bool,
    stop: &CancellationToken,
) -> Result<Option<Identity>, LinkError> {
    let mut pause = Pause::default();
    loop {
        let secrets = store.secrets(is_clone)?;
        let tried = tokio::select! {
            tried = enrol::enrol((address, store), facts, &secrets) => tried,
            () = stop.cancelled() => return Ok(None),
        };
        let wait = match tried {
            Ok(identity) => {
                info!(agent = %identity.agent(), vm = %identity.vm(), "enrolled");
                return Ok(Some(identity));
            }
            Err(Broken::Identity(cause @ IdentityError::File(_))) => return Err(cause.into()),
            Err(broken) => pause.after(&broken, "not enrolled"),
        };
        tokio::select! {
            () = time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

impl Link {
    /// A line that is not open yet.
    #[must_use]
    pub fn new(
        setup: LinkSetup,
        identity: Identity,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        Self { setup, identity, clock, stop }
    }

    /// Keeps the line up until the agent stops.
    ///
    /// # Errors
    ///
    /// See [`LinkError`].
    pub async fn run(mut self) -> Result<(), LinkError> {
        let mut pause = Pause::default();
        while !self.stop.is_cancelled() {
            pause.fit(self.setup.sampling.borrow().period);
            self.look_after_identity(&mut pause).await?;
            let wait = match self.attach(&mut pause).await {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::LookAfter) => continue,
                Err(broken) => pause.after(&broken, "line to the aggregator broken"),
            };
            tokio::select! {
                () = time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Whether [`Self::look_after_identity`] has something to do.
    fn needs_looking_after(&self, now: Timestamp) -> Result<bool, LinkError> {
        if !self.setup.store.is_own(&self.identity)? {
            return Err(LinkError::Cloned);
        }
        Ok(now >= self.identity.renew_at())
    }

    async fn look_after_identity(&mut self, pause: &mut Pause) -> Result<(), LinkError> {
        let now = self.clock.now();
        if !self.needs_looking_after(now)? {
            return Ok(());
        }
        if self.identity.has_ended(now) {
            error!("certificate ended before it could be renewed; enrolling anew");
            let facts = self.setup.facts.borrow().clone();
            let (address, store) = (&self.setup.address, &self.setup.store);
            if let Some(identity) = enrol((address, store), &facts, false, &self.stop).await? {
                self.identity = identity;
            }
            return Ok(());
        }
        match enrol::renew(&self.setup.address, &self.setup.store, &self.identity).await {
            Ok(identity) => {
                info!("certificate renewed");
                self.identity = identity;
            }
            // The old one is good for a while; the stream goes on with it.
            Err(broken) => drop(pause.after(&broken, "certificate not renewed")),
        }
        Ok(())
    }

    async fn attach(&mut self, pause: &mut Pause) -> Result<Ended, Broken> {
        let attached = tokio::select! {
            attached = stream::attach(&self.setup, &self.identity) => attached?,
            () = self.stop.cancelled() => return Ok(Ended::Stopped),
        };
        info!(address = self.setup.address, "attached to the aggregator");
        let began = Instant::now();
        let ended = attached.talk(self).await;
        if began.elapsed() > pause::STEADY {
            pause.reset();
        }
        match &ended {
            Ok(_) => info!("stream to the aggregator closed"),
            Err(cause) => warn!(cause = %Chain(cause), "stream to the aggregator lost"),
        }
        ended
    }
}
