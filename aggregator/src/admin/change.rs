//! Requests that change something: done once under one request id, and written to the audit log.

use std::future::Future;

use common::{pki::Principal, wire::admin::v1};
use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    refusal::{self, bad_field, not_now},
};
use crate::{access, repository::Logged};

/// Longest request id: a uuid and room to spare.
const LONGEST_ID: usize = 128;
const FINGERPRINT: usize = 32;

/// A request that changes something.
pub(super) trait Change: Message {
    /// What it does, as the audit log has it.
    const ACTION: &'static str;
    /// The cycle writes it to the audit log itself, with the journal: it would stand there twice.
    const IS_JOURNALED: bool;
    /// What it is about, as the audit log has it.
    fn subject(&self) -> &str;
    /// Why, or what to; empty if there is nothing to say.
    fn detail(&self) -> String {
        String::new()
    }
    fn request_id(&self) -> &str;
    fn validate_only(&self) -> bool;
}

macro_rules! changes {
    ($($message:ident $action:literal $journaled:literal $subject:expr, $detail:expr;)+) => {$(
        impl Change for v1::$message {
            const ACTION: &'static str = $action;
            const IS_JOURNALED: bool = $journaled;

            fn subject(&self) -> &str {
                let subject: fn(&Self) -> &str = $subject;
                subject(self)
            }

            fn detail(&self) -> String {
                let detail: fn(&Self) -> String = $detail;
                detail(self)
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn validate_only(&self) -> bool {
                self.validate_only
            }
        }
    )+};
}

changes! {
    RevokeAgentRequest "agent revoke" false |r| &r.agent_id, |_| String::new();
    SetCatalogueRequest "catalogue set" false |_| "catalogue", |r| fingerprint(r.catalogue_toml.as_bytes());
    SetPolicyRequest "policy set" false |_| "policy", |r| r.policy_toml.trim().replace('\n', "; ");
    SetScopeRequest "scope set" false |r| &r.vm, |r| if r.opted_in { "in".into() } else { format!("out: {}", r.reason) };
    SetGroupRulesRequest "group rules set" false |_| "group rules", |r| super::groups::detail(r.rules.as_ref());
    ApprovePlanRequest "plan approve" true |r| &r.plan, |r| r.basis.clone();
    RejectPlanRequest "plan reject" true |r| &r.plan, |r| r.reason.clone();
    CancelPlanRequest "plan cancel" true |r| &r.plan, |r| r.reason.clone();
    RollBackPlanRequest "plan roll back" true |r| &r.plan, |r| r.reason.clone();
    CreateTokenRequest "token create" false |r| &r.name, |r| format!("{} uses, {} s", r.uses, r.lifetime_seconds);
    RevokeTokenRequest "token revoke" false |r| &r.token, |_| String::new();
}

fn fingerprint(bytes: &[u8]) -> String {
    format!("sha256 {}", hex::encode(Sha256::digest(bytes)))
}

/// The name a request stands under in the audit log.
pub(super) fn actor<T>(request: &Request<T>) -> Result<String, Status> {
    Ok(match access::caller(request)? {
        Principal::User { name, .. } => name.clone(),
        agent @ Principal::Agent(_) => agent.to_string(),
    })
}

impl Admin {
    /// Does `work` once for all requests of one id; it is handed the request and the caller's name.
    /// One that only validates changes nothing, is remembered nowhere and logged nowhere.
    pub(super) async fn change<Q, A, F>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(Q, String) -> F,
    ) -> Result<Response<A>, Status>
    where
        Q: Change,
        A: Message + Default,
        F: Future<Output = Result<A, Status>>,
    {
        let actor = actor(&request)?;
        let request = request.into_inner();
        if request.request_id().len() > LONGEST_ID {
            return Err(bad_field("request_id", "is longer than 128 bytes; a uuid does"));
        }
        if request.validate_only() {
            return work(request, actor).await.map(Response::new);
        }
        let _turn = self.0.turn.lock().await;
        let id = request.request_id().to_owned();
        let print = print_of(&request, &actor);
        if let Some(answer) = self.answered(&id, &print).await? {
            return Ok(Response::new(answer));
        }
        let (subject, detail) = (request.subject().to_owned(), request.detail());
        let answer = work(request, actor.clone()).await?;
        let at = self.clock.now();
        if !Q::IS_JOURNALED {
            let logged = Logged { at, actor, action: Q::ACTION.to_owned(), subject, detail };
            self.repository.log(logged).await.map_err(refusal::repository)?;
        }
        if !id.is_empty() {
            let mut kept = print.to_vec();
            kept.extend(answer.encode_to_vec());
            let remembered = self.repository.remember_request(&id, &kept, at).await;
            remembered.map_err(refusal::repository)?;
        }
        Ok(Response::new(answer))
    }

    /// The answer that was given to this very request before.
    async fn answered<A: Message + Default>(
        &self,
        id: &str,
        print: &[u8; FINGERPRINT],
    ) -> Result<Option<A>, Status> {
        if id.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let kept = self.repository.request(id, now).await;
        let Some(kept) = kept.map_err(refusal::repository)? else {
            return Ok(None);
        };
        match kept.split_at_checked(FINGERPRINT) {
            Some((former, answer)) if former == print => {
                let answer = A::decode(answer).map_err(|cause| refusal::internal(&cause))?;
                Ok(Some(answer))
            }
            _ => {
                let told = "this request id was used for another request; make a new one";
                Err(not_now("REQUEST_ID", id, told))
            }
        }
    }
}

/// What a request is told apart by from another under the same id.
fn print_of<Q: Change>(request: &Q, actor: &str) -> [u8; FINGERPRINT] {
    let mut hash = Sha256::new();
    for part in [Q::ACTION.as_bytes(), actor.as_bytes(), &request.encode_to_vec()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
