//! The course of one connection: handshake, requests, end.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use common::{clock::Clock, pki};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng as _;
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{self, Instant},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::debug;

use super::{Terms, tls};
use crate::access::{Caller, Gate, Source};

/// Largest list of headers of one request: a dozen short ones are usual.
const LARGEST_HEADERS: u32 = 16 << 10;
/// What one stream and one connection may send ahead of us. More would be memory that any peer can
/// take, less would slow a spool that empties over a long line.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Streams that were reset and are still remembered; what goes beyond ends the connection.
const RESETS_PENDING: usize = 20;
const RESETS_OF_OURS: usize = 1024;

/// What all connections of a port have in common.
pub(super) struct Course {
    pub(super) tls: TlsAcceptor,
    pub(super) routes: tonic::service::Routes,
    /// Streams at once on one connection.
    pub(super) streams: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) terms: Terms,
    pub(super) stop: CancellationToken,
}

impl Course {
    /// Serves one connection to its end, whatever that is.
    pub(super) async fn run(&self, stream: TcpStream, peer: SocketAddr) {
        // Acknowledgements are small and waited for.
        if let Err(cause) = stream.set_nodelay(true) {
            debug!(%peer, cause = %cause, "delay not turned off");
        }
        let shaken = time::timeout(self.terms.deadlines.handshake, self.tls.accept(stream));
        let stopped = self.stop.cancelled();
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = stopped => return,
        };
        match shaken {
            Ok(Ok(tls)) => self.converse(tls, peer).await,
            Ok(Err(cause)) => {
                debug!(%peer, cause = %cause, "handshake failed");
                self.terms.tally.count("handshake_failed", peer);
            }
            Err(_) => self.terms.tally.count("handshake_timed_out", peer),
        }
    }

    async fn converse(&self, tls: TlsStream<TcpStream>, peer: SocketAddr) {
        let (caller, lasts) = self.caller(&tls, peer);
        let asked = Notify::new();
        let gate = Gate(self.routes.clone());
        let service = service_fn(|mut request: http::Request<Incoming>| {
            asked.notify_one();
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(Source(peer));
            let mut gate = gate.clone();
            async move {
                futures::future::poll_fn(|cx| {
                    tower::Service::<http::Request<Incoming>>::poll_ready(&mut gate, cx)
                })
                .await?;
                gate.call(request).await as Result<_, Infallible>
            }
        });
        let deadlines = self.terms.deadlines;
        let connection = self.http2().serve_connection(TokioIo::new(tls), service);
        let mut connection = pin!(connection);
        let first = tokio::select! {
            ended = connection.as_mut() => return told(ended, peer),
            () = asked.notified() => true,
            () = time::sleep(deadlines.first_request) => false,
            () = self.stop.cancelled() => true,
        };
        if !first {
            return self.terms.tally.count("no_request_in_time", peer);
        }
        let end = Instant::now() + lasts;
        tokio::select! {
            ended = connection.as_mut() => return told(ended, peer),
            () = time::sleep_until(end) => debug!(%peer, "connection is old"),
            () = self.stop.cancelled() => {}
        }
        // New calls go elsewhere; those under way get a moment.
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = time::timeout(deadlines.grace, connection).await {
            told(ended, peer);
        }
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let deadlines = self.terms.deadlines;
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.streams)
            .keep_alive_interval(deadlines.ping)
            .keep_alive_timeout(deadlines.answer)
            .max_header_list_size(LARGEST_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(RESETS_PENDING)
            .max_local_error_reset_streams(RESETS_OF_OURS);
        http2
    }

    /// Who is at the other end, and how long they may stay: never beyond their certificate.
    fn caller(&self, tls: &TlsStream<TcpStream>, peer: SocketAddr) -> (Caller, Duration) {
        let deadlines = self.terms.deadlines;
        let certificates = tls.get_ref().1.peer_certificates();
        let Some(certificate) = certificates.and_then(|chain| chain.first()) else {
            return (Caller(None), deadlines.without_certificate);
        };
        match pki::principal(certificate) {
            Ok(principal) => {
                let left = tls::not_after(certificate).since(self.clock.now());
                let age = deadlines.age.mul_f64(rand::rng().random_range(0.9..1.1));
                (Caller(Some(principal)), age.min(left))
            }
            Err(cause) => {
                debug!(%peer, cause = %common::task::Chain(&cause), "certificate names nobody");
                self.terms.tally.count("certificate_of_nobody", peer);
                (Caller(None), deadlines.without_certificate)
            }
        }
    }
}

fn told(ended: hyper::Result<()>, peer: SocketAddr) {
    if let Err(cause) = ended {
        debug!(%peer, cause = %common::task::Chain(&cause), "connection broke");
    }
}
