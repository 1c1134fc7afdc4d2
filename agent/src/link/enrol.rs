//! Gets an identity, and a new certificate before the old one ends.

use std::time::Duration;

use common::{
    pki::AgentKey,
    sample::Facts,
    wire::agent::v1::{
        EnrollRequest, RenewRequest, enrollment_service_client::EnrollmentServiceClient,
    },
};
use tokio::time;
use tonic::{Code, Response, Status};
use tracing::info;

use super::{Broken, dial::dial, tls};
use crate::identity::{Given, Identity, IdentityError, IdentityStore};

/// How long the aggregator may take: it asks the hypervisor.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

async fn answered<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Broken> {
    let late = |_| Broken::Late { what: "answer", within: ANSWERED_WITHIN };
    Ok(time::timeout(ANSWERED_WITHIN, call).await.map_err(late)??.into_inner())
}

/// Tries each secret once, until one is taken.
pub(super) async fn enrol(
    (address, store): (&str, &IdentityStore),
    facts: &Facts,
    secrets: &[String],
) -> Result<Identity, Broken> {
    let mut refused = Broken::NoToken;
    let channel = dial(address, tls::pinned(store.pinned())?).await?;
    let mut client = EnrollmentServiceClient::new(channel);
    let key = AgentKey::generate().map_err(IdentityError::from)?;
    let request = key.request().map_err(IdentityError::from)?;
    for secret in secrets {
        let request = EnrollRequest {
            token: secret.clone(),
            certificate_request: request.clone(),
            facts: Some(facts.into()),
        };
        match answered(client.enroll(request)).await {
            Ok(given) => {
                let of = (given.agent_id.as_str(), given.vm.as_str());
                let kept = Given {
                    certificate_pem: given.certificate_pem,
                    authority_pem: given.authority_pem,
                    list_keys: given.list_keys,
                };
                return Ok(store.enrolled(&key, of, kept)?);
            }
            Err(Broken::Status(status))
                if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) =>
            {
                info!(cause = status.message(), "one secret to enrol with was refused");
                refused = Broken::Status(status);
            }
            Err(other) => return Err(other),
        }
    }
    Err(refused)
}

/// A new certificate over a new key, for the same agent.
pub(super) async fn renew(
    address: &str,
    store: &IdentityStore,
    identity: &Identity,
) -> Result<Identity, Broken> {
    let channel = dial(address, tls::mutual(identity)?).await?;
    let key = AgentKey::generate().map_err(IdentityError::from)?;
    let certificate_request = key.request().map_err(IdentityError::from)?;
    let mut client = EnrollmentServiceClient::new(channel);
    let given = answered(client.renew(RenewRequest { certificate_request })).await?;
    let renewed = identity.renewed(
        &key,
        Given {
            certificate_pem: given.certificate_pem,
            authority_pem: given.authority_pem,
            list_keys: given.list_keys,
        },
    )?;
    store.keep(&renewed)?;
    Ok(renewed)
}
