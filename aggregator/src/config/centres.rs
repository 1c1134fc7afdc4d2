//! The vCenters of a configuration, each under a name of its own.
//!
//! ```toml
//! [hypervisor.vc1]
//! kind = "vsphere"
//! url = "https://vc1.example"
//! fingerprint = "9f86d081..."              # SHA-256 of its certificate, or authority = "FILE"
//! credentials = "/etc/sinter/vc1.toml"     # user and password, mode 600
//! uplinks = ["management"]
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Deserialize;

use super::arrays::{Bad, absolute, trust};
use crate::{hypervisor::vsphere::VsphereCentre, vendor::Address};

/// What kind of hypervisor these are.
pub(super) const KIND: &str = "vsphere";

/// A centre as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    kind: String,
    url: String,
    fingerprint: Option<String>,
    authority: Option<PathBuf>,
    credentials: PathBuf,
    #[serde(default)]
    uplinks: BTreeSet<String>,
}

pub(super) fn checked(written: BTreeMap<String, Written>) -> Result<Vec<VsphereCentre>, Bad> {
    written.into_iter().map(centre).collect()
}

fn centre((name, written): (String, Written)) -> Result<VsphereCentre, Bad> {
    let Written { kind, url, fingerprint, authority, credentials, uplinks } = written;
    if kind != KIND {
        let remedy = "hypervisors of several kinds do not stand side by side";
        return Err(("hypervisor.NAME.kind", kind, remedy));
    }
    // It is part of the ids of the centre's hosts.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
        let remedy = "write a name of at most 32 letters, digits and -_.";
        return Err(("hypervisor.NAME", name, remedy));
    }
    let at = "hypervisor.NAME.url";
    let url = url.parse().map_err(|_| (at, url, "write https://HOST"))?;
    let trust = trust(
        fingerprint,
        authority,
        ["hypervisor.NAME.fingerprint", "hypervisor.NAME.authority"],
    )?;
    let credentials = absolute("hypervisor.NAME.credentials", credentials)?;
    let address = Address { url, trust, credentials: Some(credentials) };
    match address.client() {
        Ok(_) => Ok(VsphereCentre { name, address, uplinks }),
        Err(cause) => {
            let remedy = "write https://HOST with a fingerprint or an authority that can be read";
            Err((at, format!("{}: {cause}", address.url), remedy))
        }
    }
}
