//! One stream, from its hello to its end.

use std::{collections::VecDeque, time::Duration};

use common::{
    clock::Timestamp,
    signing::SignedList,
    wire::{
        PROTOCOL_VERSION,
        agent::v1::{
            AttachRequest, AttachResponse, Hello, Welcome,
            agent_link_service_client::AgentLinkServiceClient, attach_request::Message as Up,
            attach_response::Message as Down,
        },
        types,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, codec::CompressionEncoding};
use tracing::{debug, warn};

use super::{
    Broken, Ended, LOOK_EVERY, Link, LinkSetup,
    dial::dial,
    sent::{RECEIVED_WITHIN, Sent, blocking},
    tls,
    words::{self, up},
};
use crate::{
    apply::{Offer, Report, Standing},
    identity::Identity,
};

/// How long the aggregator may take to take the stream, and to say welcome: it may first have to
/// ask a former stream of this agent whether it lives.
const WELCOMED_WITHIN: Duration = Duration::from_secs(60);
/// Messages that wait for the line.
const UP_WAITING: usize = 8;
/// Largest message down that is read: a list, and some.
const LARGEST_DOWN: usize = 1 << 20;

/// A stream that was welcomed.
pub(super) struct Attached {
    up: mpsc::Sender<AttachRequest>,
    down: Streaming<AttachResponse>,
    sent: Sent,
    /// The aggregator's clock, and when it showed that.
    server_clock: (Timestamp, Instant),
}

/// Opens a stream and waits for its welcome.
pub(super) async fn attach(setup: &LinkSetup, identity: &Identity) -> Result<Attached, Broken> {
    let channel = dial(&setup.address, tls::mutual(identity)?).await?;
    let mut client = AgentLinkServiceClient::new(channel)
        .send_compressed(CompressionEncoding::Zstd)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(LARGEST_DOWN);
    let (up_sender, up_waiting) = mpsc::channel(UP_WAITING);
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        epoch: setup.spool.epoch(),
        facts: Some((&*setup.facts.borrow()).into()),
        mix: Some((&*setup.mix.borrow()).into()),
        spooled_samples: setup.spool.waiting(),
    };
    if up_sender.try_send(up(Up::Hello(hello))).is_err() {
        return Err(Broken::Strange("the stream was closed before it was opened".into()));
    }
    let welcomed = async {
        let mut down = client.attach(ReceiverStream::new(up_waiting)).await?.into_inner();
        match down.message().await?.and_then(|first| first.message) {
            Some(Down::Welcome(welcome)) => Ok((down, welcome)),
            _ => Err(Broken::Strange("its first message is no welcome".into())),
        }
    };
    let late = |_| Broken::Late { what: "say welcome", within: WELCOMED_WITHIN };
    let (down, welcome) = time::timeout(WELCOMED_WITHIN, welcomed).await.map_err(late)??;
    let sent = take_welcome(setup, &welcome).await?;
    let server_clock = (words::moment(welcome.now_unix_ms), Instant::now());
    Ok(Attached { up: up_sender, down, sent, server_clock })
}

async fn take_welcome(setup: &LinkSetup, welcome: &Welcome) -> Result<Sent, Broken> {
    if welcome.protocol_version != PROTOCOL_VERSION {
        let spoken = welcome.protocol_version;
        return Err(Broken::Strange(format!("protocol version {spoken}, we speak 1")));
    }
    let received = words::sample_id(welcome.last_received);
    let sealed = words::sample_id(welcome.last_sealed);
    let (spool, now) = (setup.spool.clone(), words::moment(welcome.now_unix_ms));
    let next = setup.spool.room().id;
    let set_back = received.filter(|received| *received >= next);
    blocking(move || {
        if let Some(beyond) = set_back {
            warn!(known = ?beyond, "this guest was set back to an earlier state");
            if let Err(cause) = spool.go_beyond(beyond.epoch, now) {
                warn!(cause = %common::task::Chain(&cause), "epoch not kept");
            }
        }
        if let Some(received) = received {
            spool.note_received(received);
        }
        if let Some(sealed) = sealed {
            spool.note_sealed(sealed);
        }
    })
    .await?;
    if set_back.is_some() {
        return Err(Broken::Strange("it knows more of this guest than the guest; again".into()));
    }
    if let Some(policy) = welcome.sampling_policy.clone() {
        change(&setup.sampling, policy.into());
    }
    Ok(Sent {
        cursor: received,
        waiting: VecDeque::new(),
        unreceived: VecDeque::new(),
        moved_at: Instant::now(),
    })
}

fn change<T: PartialEq>(watched: &watch::Sender<T>, value: T) {
    watched.send_if_modified(|known| {
        let is_new = *known != value;
        *known = value;
        is_new
    });
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Attached {
    /// Talks until the line breaks, the agent stops, or the identity is to be looked after.
    pub(super) async fn talk(mut self, link: &mut Link) -> Result<Ended, Broken> {
        let line = self.up.clone();
        let mut kept = link.setup.spool.changes();
        let mut look = time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        self.say_last(link).await?;
        loop {
            kept.mark_unchanged();
            self.sent.fill(&link.setup.spool).await?;
            let may_send = !self.sent.waiting.is_empty();
            tokio::select! {
                () = link.stop.cancelled() => return Ok(Ended::Stopped),
                message = self.down.message() => match message? {
                    Some(message) => self.hear(link, message).await?,
                    None => return Err(Broken::Strange("it closed the stream".into())),
                },
                Some(report) = link.setup.reports.recv() => self.say(&report).await?,
                place = line.reserve(), if may_send => {
                    let place = place.map_err(|_| gone())?;
                    if let Some((id, sample)) = self.sent.waiting.pop_front() {
                        place.send(up(Up::Sample(sample)));
                        self.sent.unreceived.push_back(id);
                    }
                }
                changed = kept.changed(), if !may_send => {
                    if changed.is_err() {
                        return Ok(Ended::Stopped);
                    }
                }
                () = until(self.sent.stuck_at()) => {
                    return Err(Broken::Late { what: "receive a sample", within: RECEIVED_WITHIN });
                }
                _ = look.tick() => {
                    let now = link.clock.now();
                    // Whatever is wrong with the identity is found out by who looks after it.
                    if link.needs_looking_after(now).unwrap_or(true) {
                        return Ok(Ended::LookAfter);
                    }
                }
            }
        }
    }

    /// Steps that were told while nobody listened are let go; the last end is said again.
    async fn say_last(&self, link: &mut Link) -> Result<(), Broken> {
        while link.setup.reports.try_recv().is_ok() {}
        let last = link.setup.last_report.borrow().clone();
        match last {
            Some(report) => self.say(&report).await,
            None => Ok(()),
        }
    }

    async fn say(&self, report: &Report) -> Result<(), Broken> {
        let message = up(Up::ApplyReport(words::report(report)));
        let late = |_| Broken::Late { what: "take a report", within: RECEIVED_WITHIN };
        let sent = time::timeout(RECEIVED_WITHIN, self.up.send(message)).await.map_err(late)?;
        sent.map_err(|_| gone())
    }

    async fn hear(&mut self, link: &Link, message: AttachResponse) -> Result<(), Broken> {
        let setup = &link.setup;
        match message.message {
            Some(Down::Received(received)) => {
                if let Some(id) = words::sample_id(received.sample) {
                    self.sent.note_received(id);
                    setup.spool.note_received(id);
                }
            }
            Some(Down::Sealed(sealed)) => {
                if let Some(id) = words::sample_id(sealed.sample) {
                    let spool = setup.spool.clone();
                    blocking(move || spool.note_sealed(id)).await?;
                }
            }
            Some(Down::ConfigurationList(list)) => self.take_list(link, list).await?,
            Some(Down::SamplingPolicy(policy)) => change(&setup.sampling, policy.into()),
            Some(Down::Resynchronise(why)) => {
                debug!(reason = why.reason, "full sample asked for");
                setup.resynchronise.send_modify(|asked| *asked += 1);
            }
            Some(Down::Welcome(_)) => warn!("second welcome left out"),
            None => debug!("message of a newer aggregator left out"),
        }
        Ok(())
    }

    async fn take_list(
        &self,
        link: &Link,
        list: types::v1::SignedConfigurationList,
    ) -> Result<(), Broken> {
        let refused = match SignedList::try_from(list) {
            Ok(signed) => {
                let (shown, at) = self.server_clock;
                let server_time = shown + at.elapsed();
                let keys = link.identity.list_keys().to_vec();
                match link.setup.offers.try_send(Offer { signed, keys, server_time }) {
                    Ok(()) => return Ok(()),
                    Err(_) => "too many lists wait to be applied; offer it again".to_owned(),
                }
            }
            Err(bad) => bad.to_string(),
        };
        warn!(reason = refused, "list refused");
        let report = Report {
            generation: 0,
            standing: Standing::Refused,
            reason: refused,
            mix: link.setup.mix.borrow().clone(),
            at: link.clock.now(),
        };
        self.say(&report).await
    }
}

fn gone() -> Broken {
    Broken::Strange("the stream is closed".into())
}
