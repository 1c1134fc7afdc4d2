//! The bounded accept loop of both ports.
//!
//! ```text
//!  socket ─> room? ─> TLS 1.3 ─> first request ─> access table ─> routes
//!            cap      deadline   deadline
//! ```
//!
//! A connection holds nothing before it has room, and keeps it only while it gets on: whoever
//! connects and is silent is cut off in time, whoever takes too much is turned away, and when the
//! process runs out of descriptors the loop waits instead of spinning. Every turning away is
//! counted by name. One connection's trouble ends that connection, never the loop.

mod connection;
mod door;
mod room;
mod tls;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{clock::Clock, pki::Authority};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{connection::Course, door::Door, room::Room};

/// Why a port could not be served.
#[derive(Debug, Error)]
#[error("could not serve")]
pub struct ListenError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Whether a certificate is asked of who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// One may have none: the agents' port, where they enrol.
    Optional,
    /// Without one no handshake succeeds: the operators' port.
    Required,
}

/// What a port bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub per_source: usize,
}

/// How long a connection may take to get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the first request.
    pub first_request: Duration,
    /// How long a connection without a certificate lasts: enrolling is one call.
    pub without_certificate: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// From a ping to its answer.
    pub answer: Duration,
    /// How long any connection lasts, give or take a tenth, so that not all return at once.
    pub age: Duration,
    /// How long calls under way may take when the connection is to end.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
            without_certificate: Duration::from_secs(60),
            ping: Duration::from_secs(30),
            answer: Duration::from_secs(10),
            age: Duration::from_secs(24 * 3600),
            grace: Duration::from_secs(2),
        }
    }
}

/// A port that serves `routes` behind the table of [`crate::access`].
#[derive(Debug)]
pub struct Port {
    /// Where it listens; all of them serve the same.
    pub sockets: Vec<TcpListener>,
    /// Whether a certificate is asked for.
    pub certificates: Certificates,
    /// What it serves.
    pub routes: tonic::service::Routes,
    /// What it bears.
    pub limits: Limits,
}

/// Connections turned away or cut off, counted by name since the start. Cheap to clone; all clones
/// are one count.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Tally {
    /// How often each thing happened: `connections_at_cap`, `source_at_cap`, `out_of_descriptors`,
    /// `handshake_timed_out`, `handshake_failed`, `no_request_in_time`, `certificate_of_nobody`.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, name: &'static str, source: impl std::fmt::Display) {
        let count = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(name).or_default();
            *count += 1;
            *count
        };
        // A flood must not become a flood of lines.
        if count.is_power_of_two() {
            warn!(name, count, %source, "connection turned away");
        }
    }
}

/// How a port treats who connects, where the defaults do not do.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How long a connection may take.
    pub deadlines: Deadlines,
    /// Where it is counted who was turned away.
    pub tally: Tally,
}

/// Serves a port until `stop`; its own certificate is issued by `authority` and renewed in time.
///
/// # Errors
///
/// If no certificate can be made.
pub async fn serve(
    port: Port,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    serve_under(Terms::default(), port, authority, clock, stop).await
}

/// The same under other terms.
///
/// # Errors
///
/// If no certificate can be made, or the sockets cannot be used.
pub async fn serve_under(
    terms: Terms,
    port: Port,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    let own = tls::OwnCertificate::issue(Arc::clone(&authority), Arc::clone(&clock))
        .map_err(|cause| ListenError(Box::new(cause)))?;
    let own = Arc::new(own);
    let config = tls::config(&authority, Arc::clone(&own), port.certificates, Arc::clone(&clock))?;
    let course = Arc::new(Course {
        tls: tokio_rustls::TlsAcceptor::from(Arc::new(config)),
        routes: port.routes.prepare(),
        streams: streams(port.certificates),
        clock,
        terms: terms.clone(),
        stop: stop.clone(),
    });
    let room = Room::new(port.limits);
    let mut loops = JoinSet::new();
    for socket in port.sockets {
        let door = Door::new(socket, Arc::clone(&room), Arc::clone(&course))
            .map_err(|cause| ListenError(Box::new(cause)))?;
        info!(address = %door.address(), "port opened");
        loops.spawn(door.keep());
    }
    tokio::select! {
        () = own.keep_fresh() => {}
        () = async { while loops.join_next().await.is_some() {} } => {}
    }
    Ok(())
}

/// Streams at once on one connection: an agent has one and renews beside it; an operator's tool
/// may watch many things.
const fn streams(certificates: Certificates) -> u32 {
    match certificates {
        Certificates::Optional => 8,
        Certificates::Required => 64,
    }
}
