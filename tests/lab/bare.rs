//! The floor under ingest: tonic alone, which decodes the same messages over the same TLS and
//! acknowledges each, and does nothing else with them.

use std::{io, io::Write as _, path::Path, time::Duration};

use common::{
    clock::{Clock as _, SystemClock},
    id::AgentId,
    pki::{AgentKey, Authority},
    wire::agent::v1::{
        AttachRequest, AttachResponse, Received, SampleId, Welcome,
        agent_link_service_server::{AgentLinkService, AgentLinkServiceServer},
        attach_request, attach_response,
    },
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::{child::Greeting, figure::Failure};

const DAY: Duration = Duration::from_secs(86_400);

struct Bare;

#[tonic::async_trait]
impl AgentLinkService for Bare {
    type AttachStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let answers = request.into_inner().map(|request| Ok(answer(&request?)));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(request: &AttachRequest) -> AttachResponse {
    let message = match &request.message {
        Some(attach_request::Message::Sample(sample)) => {
            let id = SampleId { epoch: sample.epoch, sequence: sample.sequence };
            attach_response::Message::Received(Received { sample: Some(id) })
        }
        _ => attach_response::Message::Welcome(Welcome::default()),
    };
    AttachResponse { message: Some(message) }
}

/// Serves until it is killed; prints how to be reached.
///
/// # Errors
///
/// If it cannot listen.
pub async fn serve(_folder: &Path, _machines: usize) -> Result<(), Failure> {
    let now = SystemClock.now();
    let authority = Authority::create(now)?;
    let server = authority.issue_server(now, DAY)?;
    let key = AgentKey::generate()?;
    let agent: AgentId = "bare".parse()?;
    let client = authority.issue_agent(&key.request()?, &agent, now, DAY)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let greeting = Greeting {
        address: listener.local_addr()?.to_string(),
        authority_pem: authority.certificate_pem().to_owned(),
        token: String::new(),
        identity: Some((client.certificate_pem, key.key_pem())),
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&greeting)?)?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(server.certificate_pem, server.key_pem.unwrap_or_default()))
        .client_ca_root(Certificate::from_pem(authority.certificate_pem()));
    let service = AgentLinkServiceServer::new(Bare)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    Server::builder()
        .tls_config(tls)?
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
