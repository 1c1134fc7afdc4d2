//! What goes down a stream unasked: seals, policy, lists, and the question whether it lives.

use std::sync::Arc;

use common::{
    id::{AgentId, WindowId},
    sample::SampleId,
    wire::agent::v1::{Resynchronise, SamplingPolicy, Sealed, attach_response::Message},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Hub,
    machines::{Guest, Offer},
    streams::Open,
};

/// The end of what is sealed, and the window it lies in.
pub(super) type Seal = Option<(SampleId, WindowId)>;

/// The news of one stream. Of several of one kind only the last is told.
pub(super) struct News {
    seals: watch::Receiver<Seal>,
    sampling: watch::Receiver<SamplingPolicy>,
    offers: watch::Receiver<Option<Offer>>,
    challenges: watch::Receiver<Option<Instant>>,
    wants: watch::Receiver<u64>,
}

impl News {
    /// The news from now on. What was sealed and said before is in the welcome.
    pub(super) fn new(hub: &Hub, agent: &AgentId, guest: &Arc<Guest>, open: &Open) -> Self {
        Self {
            seals: hub.seals_of(agent),
            sampling: hub.sampling.subscribe(),
            offers: guest.offers(),
            challenges: open.challenges(),
            wants: open.wants(),
        }
    }

    /// Waits for the next piece of news.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            let news = tokio::select! {
                Ok(()) = self.challenges.changed() => self.challenge(),
                Ok(()) = self.wants.changed() => {
                    let reason = "an operator asks for a sample".to_owned();
                    Some(Message::Resynchronise(Resynchronise { reason }))
                }
                Ok(()) = self.offers.changed() => self.offer(),
                Ok(()) = self.sampling.changed() => {
                    Some(Message::SamplingPolicy(self.sampling.borrow_and_update().clone()))
                }
                Ok(()) = self.seals.changed() => self.seal(),
                else => std::future::pending().await,
            };
            if let Some(news) = news {
                return news;
            }
        }
    }

    fn challenge(&mut self) -> Option<Message> {
        (*self.challenges.borrow_and_update())?;
        let reason = "another stream says it is this agent".to_owned();
        Some(Message::Resynchronise(Resynchronise { reason }))
    }

    fn offer(&mut self) -> Option<Message> {
        let offer = self.offers.borrow_and_update().clone()?;
        Some(Message::ConfigurationList(offer.signed.as_ref().into()))
    }

    fn seal(&mut self) -> Option<Message> {
        let (last, window) = self.seals.borrow_and_update().clone()?;
        let sample = Some((&last).into());
        Some(Message::Sealed(Sealed { sample, window: window.as_str().to_owned() }))
    }
}
