//! Finds an aggregator's addresses: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! Not by the C library: in a program without shared libraries that one loads modules of whatever C library
//! the guest has, and another version of it than ours ends the program.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

/// The addresses of `HOST:PORT`, in the order to try them.
///
/// # Errors
///
/// If it is no `HOST:PORT`, or nobody knows the name.
pub(crate) async fn addresses(address: &str) -> io::Result<Vec<SocketAddr>> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidInput, "it is no HOST:PORT");
    let (host, port) = address.rsplit_once(':').ok_or_else(unreadable)?;
    let port: u16 = port.parse().map_err(|_| unreadable())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = resolver()?.lookup_ip(host).await.map_err(io::Error::other)?;
    Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Made anew for every line: what stands in its files may have changed.
fn resolver() -> io::Result<TokioResolver> {
    // Without name servers the hosts file is all there is.
    let mut builder = Resolver::builder_tokio().unwrap_or_else(|_| {
        let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        Resolver::builder_with_config(nobody, TokioRuntimeProvider::default())
    });
    builder.options_mut().use_hosts_file = ResolveHosts::Always;
    builder.build().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_name_server() {
        let one = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(addresses("127.0.0.1:7401").await.unwrap(), [one("127.0.0.1:7401")]);
        assert_eq!(addresses("[::1]:7401").await.unwrap(), [one("[::1]:7401")]);
    }

    #[tokio::test]
    async fn a_name_of_the_hosts_file_is_found() {
        let found = addresses("localhost:7401").await.unwrap();
        assert!(found.contains(&"127.0.0.1:7401".parse().unwrap()), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        assert!(addresses("nowhere").await.is_err());
        assert!(addresses("a:port").await.is_err());
    }
}
