//! One connection, from the first frame to the last: calls in flight, events, signs of life.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::{self, Instant},
};
use tracing::{debug, warn};

use crate::{
    address::{Address, Credentials},
    error::{Error, Refusal},
    event::{self, Event},
    frame::{Frame, KEEPALIVE, Kind},
    procedure::{AUTH_LIST, CONNECT_OPEN, EVENT_REGISTER, Procedure},
    transport::{self, Halves},
    xdr::{Decoder, Encoder},
};

/// After so long without a frame the server is asked whether it is there.
const QUIET: Duration = Duration::from_secs(5);
/// After so long without one it is not.
const DEAD: Duration = Duration::from_secs(30);
/// Frames that may wait to be sent; calls wait for room.
const OUTBOX: usize = 64;

const PING: u32 = 1;
const PONG: u32 = 2;

/// Ways to say who one is, by number.
const AUTHENTICATIONS: [&str; 3] = ["nothing", "SASL", "polkit"];

type Answer = oneshot::Sender<Frame>;

/// Calls whose answers are to come; `None` once no answer will.
#[derive(Debug)]
struct Waiting(Mutex<Option<BTreeMap<u32, Answer>>>);

impl Waiting {
    fn held(&self) -> MutexGuard<'_, Option<BTreeMap<u32, Answer>>> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that stands until it is dropped or ends.
#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    outbox: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    serial: AtomicU32,
    /// Its reader and writer, which end with it.
    _tasks: JoinSet<()>,
}

impl Connection {
    /// Connects, says who we are, opens the driver, and orders the events.
    pub(crate) async fn open(
        address: &Address,
        credentials: &Credentials,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, Error> {
        let failed = |cause| Error::Connect { address: address.to_string(), cause };
        let halves = transport::open(address, credentials).await.map_err(failed)?;
        let connection = Self::over(address.to_string(), halves, events);
        connection.greet(&address.driver).await?;
        Ok(connection)
    }

    fn over(address: String, halves: Halves, events: broadcast::Sender<Event>) -> Self {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let waiting = Arc::new(Waiting(Mutex::new(Some(BTreeMap::new()))));
        let (reader, writer) = halves;
        let mut tasks = JoinSet::new();
        let (theirs, name, answers) = (Arc::clone(&waiting), address.clone(), outbox.clone());
        tasks.spawn(async move {
            let ended = read(reader, &theirs, &events, &answers).await;
            // Who waits hears that no answer will come: the senders are dropped.
            theirs.held().take();
            match ended {
                Ok(()) => debug!(server = name, "connection ended"),
                Err(cause) => warn!(server = name, %cause, "connection lost"),
            }
        });
        let theirs = Arc::clone(&waiting);
        tasks.spawn(async move {
            if let Err(cause) = write(writer, inbox).await {
                debug!(%cause, "connection could not be written to");
            }
            theirs.held().take();
        });
        Self { address, outbox, waiting, serial: AtomicU32::new(1), _tasks: tasks }
    }

    /// Whether calls can be made on it.
    pub(crate) fn is_alive(&self) -> bool {
        self.waiting.held().is_some()
    }

    async fn greet(&self, driver: &str) -> Result<(), Error> {
        let body = self.call(AUTH_LIST, &Encoder::new()).await?;
        let offered = Decoder::new(&body).list(20, Decoder::u32);
        let offered = offered.map_err(|cause| Error::Malformed { call: AUTH_LIST.name, cause })?;
        if let Some(wanted) = offered.iter().find(|wanted| **wanted != 0)
            && !offered.contains(&0)
        {
            let name = usize::try_from(*wanted).ok().and_then(|at| AUTHENTICATIONS.get(at));
            let wanted = name.copied().unwrap_or("something unknown").to_owned();
            return Err(Error::Authentication { address: self.address.clone(), wanted });
        }
        let open = Encoder::new().optional_text(Some(driver)).u32(0);
        self.call(CONNECT_OPEN, &open).await?;
        for number in event::ORDERED {
            let order = Encoder::new().i32(number).u32(0);
            match self.call(EVENT_REGISTER, &order).await {
                Ok(_) => {}
                // A driver without events is one that is asked more often.
                Err(Error::Refused(refusal)) => {
                    debug!(server = self.address, number, %refusal, "events not told");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a call; the answer's body.
    pub(crate) async fn call(
        &self,
        procedure: Procedure,
        arguments: &Encoder,
    ) -> Result<Vec<u8>, Error> {
        let Procedure { program, number, name, within } = procedure;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let frame = Frame {
            program,
            procedure: number,
            kind: Kind::Call,
            serial,
            is_error: false,
            body: arguments.bytes().to_vec(),
        };
        let bytes = arguments.bytes().len();
        let frame = frame.encode().ok_or(Error::TooLong { call: name, bytes })?;
        let lost = || Error::Lost { address: self.address.clone() };
        let (sender, receiver) = oneshot::channel();
        self.waiting.held().as_mut().ok_or_else(lost)?.insert(serial, sender);
        // Forgotten however this ends, also when nobody waits for it any more.
        let _forgotten = Forgotten { waiting: &self.waiting, serial };
        let answered = time::timeout(within, async {
            self.outbox.send(frame).await.map_err(|_| lost())?;
            receiver.await.map_err(|_| lost())
        });
        let answer = answered.await.map_err(|_| Error::Deadline {
            address: self.address.clone(),
            call: name,
            within,
        })??;
        if answer.is_error {
            let refusal = Refusal::decode(&answer.body);
            let refusal = refusal.map_err(|cause| Error::Malformed { call: name, cause })?;
            return Err(refusal.into());
        }
        Ok(answer.body)
    }
}

/// Takes a call out of those that are waited for when it is dropped.
struct Forgotten<'a> {
    waiting: &'a Waiting,
    serial: u32,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.held().as_mut() {
            waiting.remove(&self.serial);
        }
    }
}

fn sign_of_life(procedure: u32) -> Option<Vec<u8>> {
    let kind = Kind::Message;
    let frame =
        Frame { program: KEEPALIVE, procedure, kind, serial: 0, is_error: false, body: Vec::new() };
    frame.encode()
}

/// Takes frames until the connection ends, or is silent for too long.
async fn read(
    mut reader: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    waiting: &Waiting,
    events: &broadcast::Sender<Event>,
    outbox: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        // Kept over the signs of life: a frame is not taken up in its middle again.
        let next = Frame::read(&mut reader);
        tokio::pin!(next);
        let frame = loop {
            match time::timeout(QUIET, &mut next).await {
                Ok(frame) => break frame?,
                Err(_) if last.elapsed() > DEAD => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    // A full outbox is no reason to wait here: who fills it waits for us.
                    if let Some(ping) = sign_of_life(PING)
                        && let Err(cause) = outbox.try_send(ping)
                    {
                        debug!(%cause, "sign of life not sent");
                    }
                }
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        last = Instant::now();
        take(frame, waiting, events, outbox)?;
    }
}

fn take(
    frame: Frame,
    waiting: &Waiting,
    events: &broadcast::Sender<Event>,
    outbox: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    if frame.program == KEEPALIVE {
        if frame.procedure == PING
            && let Some(pong) = sign_of_life(PONG)
            && let Err(cause) = outbox.try_send(pong)
        {
            debug!(%cause, "sign of life not answered");
        }
        return Ok(());
    }
    match frame.kind {
        Kind::Reply => {
            let answer = waiting.held().as_mut().and_then(|waiting| waiting.remove(&frame.serial));
            // Nobody waits for an answer that came too late.
            if let Some(answer) = answer
                && answer.send(frame).is_err()
            {
                debug!("an answer came too late");
            }
        }
        Kind::Message => {
            let event = event::decode(frame.procedure, &frame.body)
                .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
            // Nobody listening is fine.
            if let Some(event) = event
                && events.send(event).is_err()
            {
                debug!("an event that nobody hears");
            }
        }
        Kind::Call | Kind::Other => {
            debug!(procedure = frame.procedure, "a frame that nobody asked for");
        }
    }
    Ok(())
}

async fn write(
    mut writer: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    mut inbox: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(frame) = inbox.recv().await {
        writer.write_all(&frame).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests;
