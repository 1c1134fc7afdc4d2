//! What an operator needs to call the aggregator: certificate, key, the authority to trust, and a
//! context file for `sinterctl`, all in one folder that may be copied elsewhere.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    clock::Timestamp,
    pki::{Authority, Role},
};

use super::home::{HomeError, authority_error, make_private, write_whole};

/// How long a certificate for people is good.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who is to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// What the audit log calls them.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Where they reach the aggregator, such as `https://127.0.0.1:7402`.
    pub address: String,
}

/// Where operators on this machine reach a port that is bound to `address`.
#[must_use]
pub fn reachable(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, address.port()))
}

/// Issues a certificate and writes all of it into `out`; gives the context file's path.
///
/// # Errors
///
/// If the name cannot stand in a certificate, or a file cannot be written.
pub fn write_operator(
    out: &Path,
    authority: &Authority,
    operator: &Operator,
    now: Timestamp,
) -> Result<PathBuf, HomeError> {
    let Operator { name, role, address } = operator;
    let issued = authority.issue_user(*role, name, now, LIFETIME).map_err(authority_error(out))?;
    make_private(out)?;
    let key = issued.key_pem.unwrap_or_default();
    write_whole(&out.join(format!("{name}.key")), 0o600, key.as_bytes())?;
    let certificate = issued.certificate_pem.as_bytes();
    write_whole(&out.join(format!("{name}.pem")), 0o644, certificate)?;
    write_whole(&out.join("authority.pem"), 0o644, authority.certificate_pem().as_bytes())?;
    let context = format!(
        "# For sinterctl; the files beside it belong to it.\n\
         current = \"sinter\"\n\n\
         [context.sinter]\n\
         address = \"{address}\"\n\
         authority = \"authority.pem\"\n\
         certificate = \"{name}.pem\"\n\
         key = \"{name}.key\"\n"
    );
    let path = out.join("contexts.toml");
    write_whole(&path, 0o600, context.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_every_address_is_reached_on_this_machines_own() {
        assert_eq!(reachable("0.0.0.0:7402".parse().unwrap()), "https://127.0.0.1:7402");
        assert_eq!(reachable("[::]:7402".parse().unwrap()), "https://[::1]:7402");
        assert_eq!(reachable("10.0.0.1:1".parse().unwrap()), "https://10.0.0.1:1");
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let authority = Authority::create(now).unwrap();
        let operator = Operator {
            name: "../ann".to_owned(),
            role: Role::Viewer,
            address: "https://127.0.0.1:7402".to_owned(),
        };
        let out = place.path().join("out");
        assert!(write_operator(&out, &authority, &operator, now).is_err());
        assert!(!out.exists());
    }
}
