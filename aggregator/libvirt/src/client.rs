//! A server, as long as we have to do with it: connected when needed, and again when that ended.

use std::{
    fmt,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, broadcast},
    time::Instant,
};
use tracing::info;

use crate::{
    address::{Address, Credentials},
    connection::Connection,
    error::Error,
    event::Event,
    procedure::Procedure,
    xdr::{Decoder, Encoder, XdrError},
};

/// The first pause after a try to connect that failed; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Events that may wait for a slow listener.
const EVENTS: usize = 1_024;

/// What is known of tries that failed.
#[derive(Debug, Clone)]
struct Failed {
    again_at: Instant,
    pause: Duration,
    cause: String,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failed: Option<Failed>,
    /// Whether there ever was a connection, so that the next one is a second.
    was_connected: bool,
}

/// A server. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Client {
    address: Address,
    credentials: Credentials,
    events: broadcast::Sender<Event>,
    state: Arc<Mutex<State>>,
    /// The connection that calls use, so that a call need not wait for a try to connect.
    current: Arc<Lock<Option<Arc<Connection>>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// A server at that address; nothing is connected yet.
    #[must_use]
    pub fn new(address: Address, credentials: Credentials) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        let (state, current) = (Arc::default(), Arc::default());
        Self { address, credentials, events, state, current }
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What it tells unasked from now on, while there is a connection. After each new connection
    /// comes [`Event::Missed`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Connects if that was not done yet.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn connect(&self) -> Result<(), Error> {
        self.connection().await.map(drop)
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|connection| connection.is_alive())
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.clone().filter(|one| one.is_alive()) {
            return Ok(connection);
        }
        if let Some(failed) = state.failed.clone().filter(|last| Instant::now() < last.again_at) {
            let address = self.address.to_string();
            return Err(Error::Backoff { address, cause: failed.cause });
        }
        match Connection::open(&self.address, &self.credentials, self.events.clone()).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                state.connection = Some(Arc::clone(&connection));
                state.failed = None;
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                *current = Some(Arc::clone(&connection));
                if std::mem::replace(&mut state.was_connected, true) {
                    info!(server = %self.address, "connected again");
                    // Nobody listening is fine.
                    drop(self.events.send(Event::Missed));
                }
                Ok(connection)
            }
            Err(error) => {
                let pause = state.failed.take().map_or(FIRST_PAUSE, |last| last.pause * 2);
                let pause = pause.min(LONGEST_PAUSE);
                let cause = chain(&error);
                state.failed = Some(Failed { again_at: Instant::now() + pause, pause, cause });
                Err(error)
            }
        }
    }

    /// Makes a call and reads its answer.
    pub(crate) async fn ask<T>(
        &self,
        procedure: Procedure,
        arguments: Encoder,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, XdrError>,
    ) -> Result<T, Error> {
        let body = self.connection().await?.call(procedure, &arguments).await?;
        read(&mut Decoder::new(&body))
            .map_err(|cause| Error::Malformed { call: procedure.name, cause })
    }

    /// Makes a call that has no answer but that it was done.
    pub(crate) async fn tell(&self, procedure: Procedure, arguments: Encoder) -> Result<(), Error> {
        self.ask(procedure, arguments, |_| Ok(())).await
    }
}

fn chain(error: &Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        told = format!("{told}: {inner}");
        cause = inner.source();
    }
    told
}
