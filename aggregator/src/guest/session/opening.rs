//! How a stream begins: hello, what it claims, and whose seat it is.

use std::sync::Arc;

use common::{
    sample::Facts,
    task::Chain,
    wire::{
        LARGEST_MESSAGE, PROTOCOL_VERSION,
        agent::v1::{Hello, attach_request::Message as Up},
    },
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tracing::{error, info};

use super::Session;
use crate::{
    access,
    guest::{
        codec::Arrived,
        intake::{Bad, is_of},
        streams::{Contest, Open, Seat},
    },
    repository::AgentState,
};

impl Session {
    pub(super) async fn hello(&mut self) -> Result<Hello, Status> {
        let bad = match self.inbound.next().await {
            None => return Err(Status::cancelled("stream ended before its hello")),
            Some(Err(status)) => return Err(self.broken(status)),
            Some(Ok(Arrived { message: Err(cause), .. })) => {
                Bad::new("undecodable_message", cause.to_string())
            }
            Some(Ok(Arrived { size, message: Ok(request), .. })) => match request.message {
                Some(Up::Hello(hello)) if size <= LARGEST_MESSAGE => return Ok(hello),
                Some(Up::Hello(_)) => Bad::new("message_too_large", "hello is larger than 1 MiB"),
                _ => Bad::new("no_hello", "the first message is no hello; send it first"),
            },
        };
        Err(self.refuse_stream(&bad, Code::InvalidArgument))
    }

    pub(super) fn check(&self, hello: &Hello) -> Result<Facts, Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            let told = format!("protocol_version is {}; speak 1", hello.protocol_version);
            let bad = Bad::new("wrong_version", told);
            return Err(self.refuse_stream(&bad, Code::FailedPrecondition));
        }
        let facts = Facts::try_from(hello.facts.clone().unwrap_or_default()).map_err(|bad| {
            let bad = Bad::new("bad_hello", bad.within("facts").to_string());
            self.refuse_stream(&bad, Code::InvalidArgument)
        })?;
        if !is_of(&facts, &self.record.vm) {
            let told = format!(
                "facts.product_uuid is not {}, for which this identity was given; enrol again",
                self.record.vm
            );
            let bad = Bad::new("claims_another_machine", told);
            return Err(self.refuse_stream(&bad, Code::PermissionDenied));
        }
        Ok(facts)
    }

    /// Takes the seat of this identity, unless another stream has it and lives.
    pub(super) async fn sit(&mut self, facts: Facts) -> Result<Seat, Status> {
        let (agent, vm) = (self.record.id.clone(), self.record.vm.clone());
        let open = Open::new(vm, self.hub.clock.now(), facts.agent_version);
        let open = Arc::new(open);
        loop {
            let other = match self.hub.streams.enter(&agent, &open) {
                Ok(seat) => return Ok(seat),
                Err(other) => other,
            };
            info!(%agent, "second stream of one identity: asked the first whether it lives");
            if other.contest(self.hub.period()).await == Contest::TwoLive {
                return Err(self.quarantine(&other).await);
            }
        }
    }

    async fn quarantine(&self, other: &Open) -> Status {
        let agent = &self.record.id;
        let told = "two live streams have this identity: a guest was cloned with it";
        self.hub.refusals.count(Some(agent), "two_live_streams", told);
        if let Err(cause) = self.hub.set_state(agent, AgentState::Quarantined, told).await {
            error!(%agent, cause = %Chain(&cause), "quarantine could not be remembered");
        }
        error!(%agent, vm = %self.record.vm, "agent quarantined: two live streams; revoke it and enrol both anew");
        let status = access::refused(Code::PermissionDenied, "QUARANTINED", told);
        other.close(status.clone());
        status
    }
}
