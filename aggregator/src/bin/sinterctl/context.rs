//! Which aggregator is meant, and how it is spoken to: the context file.
//!
//! ```toml
//! current = "lab"
//! [context.lab]
//! address = "https://127.0.0.1:7402"
//! authority = "/etc/sinter/authority.pem"
//! certificate = "/etc/sinter/ann.pem"
//! key = "/etc/sinter/ann.key"
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use aggregator::dev::context_file as dev_context_file;
use common::pki::SERVER_NAME;

use serde::Deserialize;
use thiserror::Error;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::arguments::Global;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    current: Option<String>,
    #[serde(default)]
    context: BTreeMap<String, Context>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    address: String,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Why no aggregator can be spoken to.
#[derive(Debug, Error)]
pub(crate) enum ContextError {
    #[error(
        "no context file at {}, and no `sinter-aggregator dev` is running; give --context-file, or write one (see the README)", .0.display()
    )]
    None(PathBuf),
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not understand the context file {}", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        cause: toml::de::Error,
    },
    #[error("{} has no context {name:?}; it has {known}", path.display())]
    Unknown { path: PathBuf, name: String, known: String },
    #[error("{} belongs to user {owner}; a context file of somebody else is not trusted", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("context {name}: address {address:?} is not of the form https://HOST:PORT")]
    Address {
        name: String,
        address: String,
        #[source]
        cause: tonic::transport::Error,
    },
    #[error("could not reach the aggregator at {address}")]
    Connect {
        address: String,
        #[source]
        cause: tonic::transport::Error,
    },
}

fn home_file() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".config");
    config.unwrap_or_else(home).join("sinter/contexts.toml")
}

fn read(path: &Path) -> Result<String, ContextError> {
    fs::read_to_string(path).map_err(|cause| ContextError::Read { path: path.to_owned(), cause })
}

fn chosen(global: &Global) -> Result<(PathBuf, String, Context), ContextError> {
    let home = home_file();
    let dev = dev_context_file();
    let candidates = [global.context_file.clone(), home.exists().then(|| home.clone())];
    let found = candidates.into_iter().flatten().next().or_else(|| dev.exists().then_some(dev));
    let path = found.ok_or(ContextError::None(home))?;
    let owner = fs::metadata(&path)
        .map_err(|cause| ContextError::Read { path: path.clone(), cause })?
        .uid();
    // The default file of `dev` lies where anybody may write; only our own, or root's, counts.
    if owner != 0 && owner != nix::unistd::getuid().as_raw() {
        return Err(ContextError::Foreign { path, owner });
    }
    let written: Written = toml::from_str(&read(&path)?)
        .map_err(|cause| ContextError::Parse { path: path.clone(), cause })?;
    let name = global.context.clone().or(written.current).unwrap_or_default();
    let known = written.context.keys().cloned().collect::<Vec<_>>().join(", ");
    match written.context.get(&name) {
        Some(context) => Ok((path, name, context.clone())),
        None => Err(ContextError::Unknown { path, name, known }),
    }
}

/// Connects to the aggregator that `global` means.
///
/// # Errors
///
/// See [`ContextError`].
pub(crate) async fn connect(global: &Global) -> Result<Channel, ContextError> {
    let (path, name, context) = chosen(global)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let authority = Certificate::from_pem(read(&folder.join(&context.authority))?);
    let certificate = read(&folder.join(&context.certificate))?;
    let identity = Identity::from_pem(certificate, read(&folder.join(&context.key))?);
    let tls = ClientTlsConfig::new()
        .domain_name(SERVER_NAME)
        .ca_certificate(authority)
        .identity(identity);
    let address = context.address;
    let endpoint = Endpoint::from_shared(address.clone())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|cause| ContextError::Address { name, address: address.clone(), cause })?;
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(global.timeout))
        .connect()
        .await
        .map_err(|cause| ContextError::Connect { address, cause })
}
