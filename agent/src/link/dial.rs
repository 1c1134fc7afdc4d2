//! Opens a connection. Every one is made anew, so that a renewed certificate is used at once.

use std::{io, sync::Arc, time::Duration};

use common::pki::SERVER_NAME;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Broken, resolve};

/// How long the name may take to be found, then the address to answer, then the handshake.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often a silent line is asked whether it is there, and how long it may take to say so.
const ASK_EVERY: Duration = Duration::from_secs(30);
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// Connects to `address`, whose certificate must bear the aggregator's name.
pub(super) async fn dial(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Broken> {
    let target = address.to_owned();
    let connector = service_fn(move |_| connect(target.clone(), Arc::clone(&tls)));
    let origin = http_uri("https");
    Endpoint::from(http_uri("http"))
        .origin(origin)
        .connect_timeout(ANSWERS_WITHIN * 3)
        .http2_keep_alive_interval(ASK_EVERY)
        .keep_alive_timeout(ASKED_WITHIN)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|cause| Broken::Dial { address: address.to_owned(), cause: Box::new(cause) })
}

/// What is asked for is a name, not an address: the line is ours to make.
#[expect(clippy::expect_used, reason = "a constant name behind a constant scheme is a uri")]
fn http_uri(scheme: &str) -> tonic::transport::Uri {
    format!("{scheme}://{SERVER_NAME}").parse().expect("a constant uri")
}

async fn connect(
    address: String,
    tls: Arc<ClientConfig>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let addresses = time::timeout(ANSWERS_WITHIN, resolve::addresses(&address)).await??;
    let tcp = time::timeout(ANSWERS_WITHIN, TcpStream::connect(addresses.as_slice())).await??;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let stream =
        time::timeout(ANSWERS_WITHIN, TlsConnector::from(tls).connect(name, tcp)).await??;
    Ok(TokioIo::new(stream))
}
