//! Where a server is, as libvirt's own URIs say it.
//!
//! ```text
//!  qemu:///system                          the local server's usual socket
//!  qemu:///system?socket=/run/x/sock       another socket of this machine
//!  qemu+tls://host[:16514]/system          TLS, with certificates as Credentials name them
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Where a local server listens: libvirtd itself, or virtproxyd in its place.
const USUAL_SOCKET: &str = "/run/libvirt/libvirt-sock";

/// Where a server listens for TLS.
const USUAL_PORT: u16 = 16_514;

/// Longest URI that is looked at.
const MAX_URI: usize = 1_024;

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{uri:?} is no address of libvirt: {reason}")]
pub struct AddressError {
    /// The text.
    pub uri: String,
    /// What is wrong with it, and what may be written.
    pub reason: String,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By a socket of this machine.
    Unix(PathBuf),
    /// By TLS.
    Tls {
        /// Its name, which its certificate must bear.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Files by which we know a server of another machine, and it knows us. PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who may vouch for a server.
    pub authority: PathBuf,
    /// Our certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Credentials {
    /// Where libvirt's own client looks for them.
    fn default() -> Self {
        Self {
            authority: "/etc/pki/CA/cacert.pem".into(),
            certificate: "/etc/pki/libvirt/clientcert.pem".into(),
            key: "/etc/pki/libvirt/private/clientkey.pem".into(),
        }
    }
}

/// A server, and which of its drivers is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// How it is reached.
    pub transport: Transport,
    /// What the server is told to open, such as `qemu:///system`.
    pub driver: String,
}

impl Address {
    /// Reads a URI.
    ///
    /// # Errors
    ///
    /// [`AddressError`] with what may be written instead.
    pub fn parse(uri: &str) -> Result<Self, AddressError> {
        let bad = |reason: &str| AddressError { uri: shortened(uri), reason: reason.to_owned() };
        if uri.len() > MAX_URI {
            return Err(bad("it is too long"));
        }
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| bad("write qemu:///system"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').ok_or_else(|| bad("write qemu:///system"))?;
        let (driver, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(driver, "qemu" | "test") || path.is_empty() {
            return Err(bad("only qemu is known; write qemu:///system"));
        }
        let transport = match (kind, authority) {
            ("" | "unix", "") => Transport::Unix(socket(query).map_err(bad)?),
            ("tls", host) if !host.is_empty() => tls(host, query).map_err(bad)?,
            ("" | "unix", _) | ("tls", _) => {
                return Err(bad("write qemu:///system here, qemu+tls://HOST/system elsewhere"));
            }
            _ => return Err(bad("only unix and tls are known ways to a server")),
        };
        Ok(Self { transport, driver: format!("{driver}:///{path}") })
    }

    /// A socket of this machine, for virtual machines of the system.
    #[must_use]
    pub fn of_socket(path: &Path) -> Self {
        Self { transport: Transport::Unix(path.to_owned()), driver: "qemu:///system".to_owned() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Unix(path) => write!(f, "libvirt at {}", path.display()),
            Transport::Tls { host, port } => write!(f, "libvirt at {host}:{port}"),
        }
    }
}

fn shortened(uri: &str) -> String {
    uri.chars().take(120).collect()
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|part| !part.is_empty()).filter_map(|part| part.split_once('='))
}

fn socket(query: &str) -> Result<PathBuf, &'static str> {
    let mut path = PathBuf::from(USUAL_SOCKET);
    for (name, value) in parameters(query) {
        match name {
            "socket" if value.starts_with('/') => path = value.into(),
            "socket" => return Err("its socket is a path from /"),
            _ => return Err("of parameters only socket is known"),
        }
    }
    Ok(path)
}

fn tls(authority: &str, query: &str) -> Result<Transport, &'static str> {
    if !query.is_empty() {
        return Err("over TLS no parameter is known; name certificates in the configuration");
    }
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Ok(USUAL_PORT), str::parse).map_err(|_| "its port is no number")?;
    Ok(Transport::Tls { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_own_uris_are_understood() {
        let local = Address::parse("qemu:///system").unwrap();
        assert_eq!(local, Address::of_socket(Path::new(USUAL_SOCKET)));
        let other = Address::parse("qemu+unix:///system?socket=/run/x").unwrap();
        assert_eq!(other.transport, Transport::Unix("/run/x".into()));
        let far = Address::parse("qemu+tls://kvm1.example/system").unwrap();
        let expected = Transport::Tls { host: "kvm1.example".to_owned(), port: USUAL_PORT };
        assert_eq!((far.transport, far.driver.as_str()), (expected, "qemu:///system"));
        let six = Address::parse("qemu+tls://[2001:db8::1]:7/system").unwrap().transport;
        assert_eq!(six, Transport::Tls { host: "2001:db8::1".to_owned(), port: 7 });
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for (uri, words) in [
            ("kvm1", "write qemu:///system"),
            ("xen:///system", "only qemu is known"),
            ("qemu+ssh://h/system", "only unix and tls"),
            ("qemu://h/system", "qemu+tls://HOST/system"),
            ("qemu+tls:///system", "qemu+tls://HOST/system"),
            ("qemu+tls://h:x/system", "port is no number"),
            ("qemu:///system?socket=x", "path from /"),
            ("qemu:///system?mode=direct", "only socket is known"),
        ] {
            let error = Address::parse(uri).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
