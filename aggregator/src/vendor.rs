//! The way to a vendor's web service: where it is, whom we believe, who we say we are.
//!
//! Passwords come from a file that nobody else may read and go nowhere but over TLS. A certificate
//! is believed by its fingerprint or by an authority that is named, never by the system's own list.

mod trust;

use std::{
    fmt, fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, Url, redirect::Policy};
use serde::Deserialize;
use thiserror::Error;

/// How long a connection may take to come to be.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Largest file with a password or a certificate.
const FILE_LIMIT: u64 = 64 << 10;

/// Whom to believe at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Authorities in a PEM file.
    Authority(PathBuf),
    /// The one certificate with this SHA-256, in hex.
    Fingerprint(String),
}

/// A web service of a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it is.
    pub url: Url,
    /// Whom to believe there; needed where `url` is `https`.
    pub trust: Option<Trust>,
    /// A TOML file with `user` and `password`, which only we may read; `None` to say nothing.
    pub credentials: Option<PathBuf>,
}

/// Who we say we are.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// What proves it.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no way to a service.
#[derive(Debug, Error)]
pub enum AddressError {
    /// It would be reached without TLS, from elsewhere than this host.
    #[error("{0} is not encrypted; write https, or an address of this host")]
    Plain(Url),
    /// It has another scheme.
    #[error("{0} is no web service; write https://HOST")]
    Scheme(Url),
    /// It does not say whom to believe.
    #[error("{0} does not say whom to believe; give its certificate's fingerprint or an authority")]
    NoTrust(Url),
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Others may read a password.
    #[error("{} may be read by others (mode {mode:o}); chmod 600 it", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} is not understood: {what}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The means of TLS could not be set up.
    #[error("could not set up TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a call to a service gave nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nobody answered.
    #[error("{path} was not answered")]
    Unanswered {
        /// What was asked for.
        path: String,
        /// Why not.
        #[source]
        cause: reqwest::Error,
    },
    /// It was answered with a refusal.
    #[error("{path} was answered with {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// With what.
        status: StatusCode,
    },
    /// The answer is larger than any that makes sense.
    #[error("the answer to {path} is over {limit} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// What is read at most.
        limit: usize,
    },
}

impl CallError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::TooLarge { .. } => false,
        }
    }
}

impl Address {
    /// A client that believes whom it should, follows nobody elsewhere and waits for nobody for ever.
    ///
    /// # Errors
    ///
    /// See [`AddressError`].
    pub fn client(&self) -> Result<Client, AddressError> {
        let builder = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .redirect(Policy::none())
            .no_proxy();
        let tls = |cause: reqwest::Error| AddressError::Tls(Box::new(cause));
        match self.url.scheme() {
            "https" => {
                let trust =
                    self.trust.as_ref().ok_or_else(|| AddressError::NoTrust(self.url.clone()))?;
                builder.tls_backend_preconfigured(trust::config(trust)?).build().map_err(tls)
            }
            "http" if is_this_host(&self.url) => {
                // Never used, but a client without it looks for the system's authorities.
                builder.tls_backend_preconfigured(trust::none()?).build().map_err(tls)
            }
            "http" => Err(AddressError::Plain(self.url.clone())),
            _ => Err(AddressError::Scheme(self.url.clone())),
        }
    }

    /// Who we say we are, read anew each time: a password may change.
    ///
    /// # Errors
    ///
    /// See [`AddressError`].
    pub fn credentials(&self) -> Result<Option<Credentials>, AddressError> {
        let Some(path) = &self.credentials else { return Ok(None) };
        let read = |cause| AddressError::Read { path: path.clone(), cause };
        let mode = fs::metadata(path).map_err(read)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AddressError::Open { path: path.clone(), mode });
        }
        // The parser's own words would repeat the line, and the password in it.
        let parse = |_| AddressError::Parse {
            path: path.clone(),
            what: "write user = \"...\" and password = \"...\"".to_owned(),
        };
        toml::from_str(&text_of(path)?).map(Some).map_err(parse)
    }
}

/// The text of a small file.
fn text_of(path: &Path) -> Result<String, AddressError> {
    let read = |cause| AddressError::Read { path: path.to_owned(), cause };
    if fs::metadata(path).map_err(read)?.len() > FILE_LIMIT {
        let what = format!("it is over {FILE_LIMIT} bytes");
        return Err(AddressError::Parse { path: path.to_owned(), what });
    }
    fs::read_to_string(path).map_err(read)
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// The body of a good answer, read up to `limit` bytes.
///
/// # Errors
///
/// See [`CallError`].
pub async fn body(
    path: &str,
    answer: Result<Response, reqwest::Error>,
    limit: usize,
) -> Result<Vec<u8>, CallError> {
    let unanswered = |cause| CallError::Unanswered { path: path.to_owned(), cause };
    let mut answer = answer.map_err(unanswered)?;
    if !answer.status().is_success() {
        return Err(CallError::Status { path: path.to_owned(), status: answer.status() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > limit {
            return Err(CallError::TooLarge { path: path.to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn address(url: &str) -> Address {
        Address { url: url.parse().unwrap(), trust: None, credentials: None }
    }

    #[test]
    fn what_leaves_this_host_is_encrypted() {
        for url in ["http://127.0.0.1:8000", "http://[::1]", "http://localhost"] {
            assert!(address(url).client().is_ok(), "{url}");
        }
        let refused = address("http://array.example").client().unwrap_err().to_string();
        assert!(refused.ends_with("write https, or an address of this host"), "{refused}");
        let refused = address("https://array.example").client().unwrap_err().to_string();
        assert!(refused.contains("does not say whom to believe"), "{refused}");
    }

    #[test]
    fn a_password_that_others_may_read_is_refused_and_none_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array");
        fs::write(&path, "user = 'u'\npassword = 'secret'\n").unwrap();
        let mut address = address("https://array.example");
        address.credentials = Some(path.clone());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = address.credentials().unwrap_err().to_string();
        assert!(refused.ends_with("(mode 640); chmod 600 it"), "{refused}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = address.credentials().unwrap().unwrap();
        assert_eq!((read.user.as_str(), read.password.as_str()), ("u", "secret"));
        assert!(!format!("{read:?}").contains("secret"));

        fs::write(&path, "user = 'u'\npasswort = 'secret'\n").unwrap();
        let refused = common::task::Chain(&address.credentials().unwrap_err()).to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
