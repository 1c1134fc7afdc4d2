//! Who this agent is: its key, its certificate, whom it trusts, and the machine all that is for.
//!
//! All of it is one file, written whole: an identity of which a part is missing is none. It is
//! bound to the SMBIOS uuid it was given for. An agent that finds another uuid lives in a clone:
//! it forgets key and spool, remembers only that it was somebody else, and enrols with the ticket
//! that stands in the clone's SMBIOS serial. The ledger is not touched: the clone runs its
//! source's mix.

mod store;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    clock::Timestamp,
    id::{AgentId, VmId},
    pki::{self, AgentKey, PkiError},
    signing::{ListPublicKey, SigningError},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::store::{Found, IdentityStore, Standing};
use crate::file::FileError;

/// Longest token, ticket or SMBIOS string that is looked at.
const LONGEST_SECRET: usize = 512;

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Its file could not be read or written.
    #[error("could not keep the identity")]
    File(#[from] FileError),
    /// A key or certificate in it makes no sense.
    #[error("could not use the identity")]
    Pki(#[from] PkiError),
    /// A list key in it makes no sense.
    #[error("could not use the keys that sign lists")]
    ListKey(#[from] SigningError),
    /// The aggregator gave something that is none.
    #[error("the aggregator gave {what} that cannot be used: {value}")]
    Given {
        /// What.
        what: &'static str,
        /// What it is, as far as can be shown.
        value: String,
    },
    /// The guest has no uuid.
    #[error("could not read the machine's uuid from {}; an identity is bound to it", .0.display())]
    NoUuid(PathBuf),
}

/// What SMBIOS says of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its uuid, lower case.
    pub uuid: VmId,
    /// Its serial: in a clone made for a trial, the ticket.
    pub serial: Option<String>,
}

impl Machine {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoUuid`] if there is none.
    pub fn read(dmi: &Path) -> Result<Self, IdentityError> {
        let serial = line(&dmi.join("product_serial"));
        let told = || line(&dmi.join("product_uuid")).map(|uuid| uuid.to_lowercase());
        let in_serial = serial.as_deref().and_then(uuid_of_vmware);
        // Such a serial is no ticket.
        let serial = serial.filter(|_| in_serial.is_none());
        let uuid = in_serial.or_else(told);
        let uuid = uuid.and_then(|uuid| uuid.parse().ok());
        let uuid = uuid.ok_or_else(|| IdentityError::NoUuid(dmi.join("product_uuid")))?;
        Ok(Self { uuid, serial })
    }
}

/// The uuid in the serial of a virtual machine of VMware's, such as `VMware-42 1f 0a ...-9c 3d ...`.
/// Its first three parts stand there as vSphere itself writes them; as SMBIOS uuid the kernel of a
/// machine of newer virtual hardware tells them with their bytes the other way round.
fn uuid_of_vmware(serial: &str) -> Option<String> {
    let told = serial.strip_prefix("VMware-")?;
    let digits: String = told.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let part = |from: usize, to: usize| digits.get(from..to);
    let parts = [part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?];
    is_uuid.then(|| parts.join("-").to_lowercase())
}

/// The one line of a small file; `None` if it has none.
fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty() && text.len() <= LONGEST_SECRET).then(|| text.to_owned())
}

/// An identity as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    agent: AgentId,
    vm: VmId,
    uuid: VmId,
    /// The pinned fingerprint under which it was given: another aggregator is another identity.
    pinned: String,
    key_pem: String,
    certificate_pem: String,
    authority_pem: String,
    list_keys: Vec<[u8; 32]>,
}

/// An identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    written: Written,
    list_keys: Vec<ListPublicKey>,
    from: Timestamp,
    to: Timestamp,
}

impl std::fmt::Debug for Identity {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("agent", &self.written.agent)
            .field("vm", &self.written.vm)
            .finish_non_exhaustive()
    }
}

/// What an aggregator gave for a certificate request.
#[derive(Debug, Clone)]
pub struct Given {
    /// The certificate chain.
    pub certificate_pem: String,
    /// Whom to trust.
    pub authority_pem: String,
    /// Keys that sign lists.
    pub list_keys: Vec<Vec<u8>>,
}

impl Identity {
    fn of(written: Written) -> Result<Self, IdentityError> {
        let (from, to) = pki::validity(&written.certificate_pem)?;
        AgentKey::from_pem(&written.key_pem)?;
        let keys = written.list_keys.iter().map(ListPublicKey::from_bytes);
        let list_keys = keys.collect::<Result<_, _>>()?;
        Ok(Self { written, list_keys, from, to })
    }

    /// The agent's id.
    #[must_use]
    pub const fn agent(&self) -> &AgentId {
        &self.written.agent
    }

    /// The machine the aggregator takes the guest for.
    #[must_use]
    pub const fn vm(&self) -> &VmId {
        &self.written.vm
    }

    /// Keys whose lists are trusted.
    #[must_use]
    pub fn list_keys(&self) -> &[ListPublicKey] {
        &self.list_keys
    }

    /// Certificate chain, key and authorities, each as PEM.
    #[must_use]
    pub fn pems(&self) -> (&str, &str, &str) {
        let Written { certificate_pem, key_pem, authority_pem, .. } = &self.written;
        (certificate_pem, key_pem, authority_pem)
    }

    /// When to ask for the next certificate: after two thirds of this one's time.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.from + self.to.since(self.from) * 2 / 3
    }

    /// When its certificate ends.
    #[must_use]
    pub const fn ends_at(&self) -> Timestamp {
        self.to
    }

    /// Its certificate ended: nobody lets it in, and it cannot be renewed.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.to
    }

    /// The same agent with a new certificate over a new key.
    ///
    /// # Errors
    ///
    /// If what was given cannot be used.
    pub fn renewed(&self, key: &AgentKey, given: Given) -> Result<Self, IdentityError> {
        let Given { certificate_pem, authority_pem, list_keys } = given;
        Self::of(Written {
            key_pem: key.key_pem(),
            certificate_pem,
            authority_pem,
            list_keys: keys(&list_keys)?,
            ..self.written.clone()
        })
    }
}

fn keys(given: &[Vec<u8>]) -> Result<Vec<[u8; 32]>, IdentityError> {
    let key = |key: &Vec<u8>| {
        let bytes: Result<[u8; 32], _> = key.as_slice().try_into();
        bytes.map_err(|_| bad("a list key", format!("{} bytes", key.len())))
    };
    given.iter().map(key).collect()
}

fn bad(what: &'static str, value: impl Into<String>) -> IdentityError {
    let value = value.into().chars().take(80).flat_map(char::escape_debug).collect();
    IdentityError::Given { what, value }
}

#[cfg(test)]
mod tests;
