//! The KVM hosts of a configuration, each under a name of its own.
//!
//! ```toml
//! [hypervisor.kvm1]
//! kind = "libvirt"
//! uri = "qemu+tls://kvm1.example/system"
//! uplinks = ["management"]
//!
//! [hypervisor.kvm2]
//! kind = "libvirt"
//! socket = "/run/libvirt/libvirt-sock"
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use libvirt_rpc::{Address, Credentials};
use serde::Deserialize;

use crate::hypervisor::libvirt::LibvirtHost;

/// A host as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    kind: String,
    uri: Option<String>,
    socket: Option<PathBuf>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    uplinks: BTreeSet<String>,
}

/// A field, the value that was written, and what may be.
pub(super) type Bad = (&'static str, String, &'static str);

pub(super) fn checked(written: BTreeMap<String, Written>) -> Result<Vec<LibvirtHost>, Bad> {
    if written.is_empty() {
        let remedy = "write [hypervisor] with kind = \"namespace\", or [hypervisor.NAME]";
        return Err(("hypervisor", String::new(), remedy));
    }
    written.into_iter().map(host).collect()
}

fn host((name, written): (String, Written)) -> Result<LibvirtHost, Bad> {
    let Written { kind, uri, socket, authority, certificate, key, uplinks } = written;
    if kind != "libvirt" {
        let remedy = "of several hypervisors each is \"libvirt\"";
        return Err(("hypervisor.NAME.kind", kind, remedy));
    }
    let address = match (uri, socket) {
        (Some(uri), None) => Address::parse(&uri).map_err(|_| {
            let remedy = "write qemu:///system here, qemu+tls://HOST/system elsewhere";
            ("hypervisor.NAME.uri", uri, remedy)
        })?,
        (None, Some(socket)) if socket.is_absolute() => Address::of_socket(&socket),
        (None, Some(socket)) => {
            let shown = socket.display().to_string();
            return Err(("hypervisor.NAME.socket", shown, "write a path from /"));
        }
        _ => return Err(("hypervisor.NAME", name, "write either its uri or its socket")),
    };
    let usual = Credentials::default();
    let credentials = Credentials {
        authority: authority.unwrap_or(usual.authority),
        certificate: certificate.unwrap_or(usual.certificate),
        key: key.unwrap_or(usual.key),
    };
    Ok(LibvirtHost { name, address, credentials, uplinks })
}
