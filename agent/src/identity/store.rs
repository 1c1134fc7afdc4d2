//! Where the identity is kept, and when it is forgotten.

use std::path::PathBuf;

use common::{
    id::VmId,
    pki::{self, AgentKey},
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Given, Identity, IdentityError, Machine, Written, bad, keys, line};
use crate::{
    config::{Config, Token},
    file::{self, FileError},
};

const KIND: &str = "identity";

/// What is in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    /// An identity.
    Held(Box<Written>),
    /// This was somebody else's: the uuid it had. The ticket goes before the token then.
    Left(VmId),
}

/// What was found when the agent started.
#[derive(Debug)]
pub enum Found {
    /// The identity of this machine.
    Own(Box<Identity>),
    /// None yet.
    None,
    /// This is a clone: what there was belonged to another machine, and is gone.
    Clone,
}

/// What stands in the identity's file, whatever is to be done about it.
#[derive(Debug)]
pub enum Standing {
    /// The identity of this machine.
    Own(Box<Identity>),
    /// None yet.
    None,
    /// It belongs to the machine with that uuid.
    Another(VmId),
    /// It was given under another authority than the pinned one.
    OtherAuthority,
    /// It was forgotten: the machine with that uuid had it.
    Left(VmId),
    /// It is damaged, and how.
    Damaged(String),
}

/// Where the identity is kept.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    pub(super) path: PathBuf,
    pub(super) pinned: String,
    pub(super) dmi: PathBuf,
    pub(super) token: Option<Token>,
}

impl IdentityStore {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            path: config.folder.join("identity"),
            pinned: config.authority_fingerprint.clone(),
            dmi: config.dmi.clone(),
            token: config.token.clone(),
        }
    }

    /// What SMBIOS says of the machine now.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoUuid`].
    pub fn machine(&self) -> Result<Machine, IdentityError> {
        Machine::read(&self.dmi)
    }

    /// SHA-256 of the authority's certificate that is trusted before there is an identity, in hex.
    #[must_use]
    pub fn pinned(&self) -> &str {
        &self.pinned
    }

    /// Reads the identity, and forgets one that is not this machine's or cannot be used.
    ///
    /// # Errors
    ///
    /// If the disk refuses, or the machine has no uuid.
    pub fn find(&self) -> Result<Found, IdentityError> {
        match self.standing()? {
            Standing::Own(identity) => Ok(Found::Own(identity)),
            Standing::None => Ok(Found::None),
            Standing::Left(_) => Ok(Found::Clone),
            Standing::Another(former) => {
                info!(%former, "this is a clone; the identity of its source is forgotten");
                file::write_sealed(&self.path, KIND, &Content::Left(former))?;
                Ok(Found::Clone)
            }
            Standing::OtherAuthority => {
                info!("another authority is pinned; the identity of the former one is forgotten");
                self.forget()?;
                Ok(Found::None)
            }
            Standing::Damaged(what) => {
                warn!(path = %self.path.display(), what, "identity damaged; a new one is asked for");
                self.forget()?;
                Ok(Found::None)
            }
        }
    }

    /// What is there, untouched.
    ///
    /// # Errors
    ///
    /// If the disk refuses, or the machine has no uuid.
    pub fn standing(&self) -> Result<Standing, IdentityError> {
        let machine = self.machine()?;
        let content = match file::read_sealed::<Content>(&self.path, KIND) {
            Ok(content) => content,
            Err(FileError::Damaged { what, .. }) => return Ok(Standing::Damaged(what)),
            Err(cause) => return Err(cause.into()),
        };
        Ok(match content {
            None => Standing::None,
            Some(Content::Left(former)) => Standing::Left(former),
            Some(Content::Held(written)) if written.uuid != machine.uuid => {
                Standing::Another(written.uuid)
            }
            Some(Content::Held(written)) if written.pinned != self.pinned => {
                Standing::OtherAuthority
            }
            Some(Content::Held(written)) => Standing::Own(Box::new(Identity::of(*written)?)),
        })
    }

    /// Whether the identity is still this machine's. A machine can be cloned while it runs.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoUuid`].
    pub fn is_own(&self, identity: &Identity) -> Result<bool, IdentityError> {
        Ok(self.machine()?.uuid == identity.written.uuid)
    }

    /// The secrets to enrol with, best first. In a clone the ticket goes before the token.
    ///
    /// # Errors
    ///
    /// If the machine has no uuid.
    pub fn secrets(&self, is_clone: bool) -> Result<Vec<String>, IdentityError> {
        let ticket = self.machine()?.serial;
        let token = match &self.token {
            Some(Token::Here(token)) => Some(token.clone()),
            Some(Token::File(path)) => line(path),
            None => None,
        };
        let ordered = if is_clone { [ticket, token] } else { [token, ticket] };
        Ok(ordered.into_iter().flatten().collect())
    }

    /// Keeps what an enrolment gave.
    ///
    /// # Errors
    ///
    /// If it cannot be used, or the disk refuses.
    pub fn enrolled(
        &self,
        key: &AgentKey,
        (agent, vm): (&str, &str),
        given: Given,
    ) -> Result<Identity, IdentityError> {
        let Given { certificate_pem, authority_pem, list_keys } = given;
        // The line was pinned, and what comes over it shall be too.
        let first = pki::fingerprint_of_pem(&authority_pem)?;
        if first != self.pinned {
            return Err(bad("an authority that is not the pinned one", first));
        }
        let written = Written {
            agent: agent.parse().map_err(|_| bad("an agent id", agent))?,
            vm: vm.parse().map_err(|_| bad("a machine's uuid", vm))?,
            uuid: self.machine()?.uuid,
            pinned: self.pinned.clone(),
            key_pem: key.key_pem(),
            certificate_pem,
            authority_pem,
            list_keys: keys(&list_keys)?,
        };
        let identity = Identity::of(written)?;
        self.keep(&identity)?;
        Ok(identity)
    }

    /// Keeps an identity.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn keep(&self, identity: &Identity) -> Result<(), IdentityError> {
        let content = Content::Held(Box::new(identity.written.clone()));
        Ok(file::write_sealed(&self.path, KIND, &content)?)
    }

    /// Forgets the identity.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn forget(&self) -> Result<(), IdentityError> {
        Ok(file::remove(&self.path)?)
    }
}
