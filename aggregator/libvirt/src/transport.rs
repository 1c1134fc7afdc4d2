//! The byte stream to a server: a Unix socket, or TLS with a certificate of ours.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpStream, UnixStream},
    time,
};
use tokio_rustls::TlsConnector;

use crate::address::{Address, Credentials, Transport};

/// How long it may take until a stream stands.
const PATIENCE: Duration = Duration::from_secs(10);

/// What libvirt sends after a handshake when it takes our certificate.
const WELCOME: u8 = 1;

/// Both directions of a stream.
pub(crate) type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// Opens a stream.
pub(crate) async fn open(address: &Address, credentials: &Credentials) -> io::Result<Halves> {
    let opened = time::timeout(PATIENCE, async {
        match &address.transport {
            Transport::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                Ok::<Halves, io::Error>((Box::new(reader), Box::new(writer)))
            }
            Transport::Tls { host, port } => tls(host, *port, credentials).await,
        }
    });
    opened.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn tls(host: &str, port: u16, credentials: &Credentials) -> io::Result<Halves> {
    let credentials = credentials.clone();
    let config = tokio::task::spawn_blocking(move || config(&credentials)).await;
    let config = config.map_err(io::Error::other)??;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    if stream.read_u8().await? != WELCOME {
        let told = "it does not take our certificate";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
    }
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

fn named<T, E>(path: &Path, read: Result<T, E>) -> io::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    read.map_err(|cause| io::Error::other(format!("{}: {cause}", path.display())))
}

fn config(credentials: &Credentials) -> io::Result<ClientConfig> {
    let Credentials { authority, certificate, key } = credentials;
    let mut roots = RootCertStore::empty();
    for root in named(authority, CertificateDer::pem_file_iter(authority))? {
        let root = named(authority, root)?;
        named(authority, roots.add(root))?;
    }
    let chain = named(certificate, CertificateDer::pem_file_iter(certificate))?;
    let chain = named(certificate, chain.collect::<Result<Vec<_>, _>>())?;
    let private = named(key, PrivateKeyDer::from_pem_file(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
    named(certificate, config.with_client_auth_cert(chain, private))
}
