//! `TokenService`: join tokens. A secret is in one answer and nowhere else: it is made from the
//! request id, the caller and a key of ours, so that a repeated request gets the same one though
//! only its hash is kept.

use std::time::Duration;

use common::{
    clock::Timestamp,
    wire::admin::v1::{self, token_service_server::TokenService},
};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::actor,
    refusal::{self, bad_field, missing, taken},
    show,
};
use crate::repository::TokenRecord;

const USUAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const LONGEST_NAME: usize = 64;
/// Bytes of a secret, and of its hash that make its id.
const SECRET: usize = 20;
const ID: usize = 6;

/// What a token is called in the calls that follow.
fn id(record: &TokenRecord) -> String {
    hex::encode(&record.hash[..ID])
}

fn shown(record: &TokenRecord) -> v1::Token {
    v1::Token {
        token: id(record),
        name: record.name.clone(),
        expires_at_unix_ms: show::moment(record.expires_at),
        uses_left: record.uses_left,
        created_by: record.created_by.clone(),
        revoked: record.revoked,
    }
}

/// The secret of the request with that id.
fn secret(key: &[u8; 32], actor: &str, request_id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [key.as_slice(), b"sinter join token", actor.as_bytes(), request_id.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("sinter-{}", hex::encode(&hash.finalize()[..SECRET]))
}

fn checked_name(name: &str) -> Result<(), Status> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(bad_field("name", format_args!("is {shown:?}; write 1 to 64 letters, digits and -_.")))
}

fn record(
    request: &v1::CreateTokenRequest,
    secret: &str,
    (by, now): (String, Timestamp),
) -> Result<TokenRecord, Status> {
    checked_name(&request.name)?;
    let lifetime = match request.lifetime_seconds {
        0 => USUAL_LIFETIME,
        seconds => Duration::from_secs(seconds),
    };
    if lifetime > LONGEST_LIFETIME {
        let told = format!("is {}; write at most a year, 31536000", request.lifetime_seconds);
        return Err(bad_field("lifetime_seconds", told));
    }
    Ok(TokenRecord {
        name: request.name.clone(),
        hash: Sha256::digest(secret).into(),
        created_by: by,
        created_at: now,
        expires_at: now + lifetime,
        uses_left: Some(request.uses).filter(|uses| *uses > 0),
        bound_vm: None,
        plan: None,
        revoked: false,
    })
}

#[tonic::async_trait]
impl TokenService for Admin {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let admin = self.clone();
        let request_id = match request.get_ref().request_id.as_str() {
            "" => uuid::Uuid::new_v4().to_string(),
            given => given.to_owned(),
        };
        let secret = secret(&self.token_key, &actor(&request)?, &request_id);
        let of_token = secret.clone();
        let is_real = !request.get_ref().validate_only;
        let mut answer = self
            .change(request, |request, by| async move {
                let now = admin.clock.now();
                let record = record(&request, &of_token, (by, now))?;
                let known = admin.repository.tokens().await.map_err(refusal::repository)?;
                if known.iter().any(|other| other.name == record.name && other.is_good(now)) {
                    return Err(taken("token", &record.name, "write another name or revoke it"));
                }
                if request.validate_only {
                    return Ok(v1::CreateTokenResponse::default());
                }
                admin.repository.put_token(&record).await.map_err(refusal::repository)?;
                let token = Some(shown(&record));
                Ok(v1::CreateTokenResponse { secret: String::new(), token })
            })
            .await?;
        if is_real {
            answer.get_mut().secret = secret;
        }
        Ok(answer)
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let mut tokens = self.repository.tokens().await.map_err(refusal::repository)?;
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        let tokens = tokens.iter().map(shown).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let admin = self.clone();
        self.change(request, |request, _| async move {
            let known = admin.repository.tokens().await.map_err(refusal::repository)?;
            let token = known.iter().find(|token| id(token) == request.token);
            let token = token.ok_or_else(|| missing("token", &request.token, "tokens list"))?;
            if !request.validate_only {
                let ended = admin.repository.end_token(&token.hash).await;
                ended.map_err(refusal::repository)?;
            }
            Ok(v1::RevokeTokenResponse {})
        })
        .await
    }
}
