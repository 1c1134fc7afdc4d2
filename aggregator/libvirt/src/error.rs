//! What can go wrong between a call and its answer.

use std::{io, time::Duration};

use thiserror::Error;

use crate::xdr::{Decoder, XdrError};

/// Codes of refusals that callers tell apart, by libvirt's numbers.
pub mod code {
    /// Something inside the server went wrong.
    pub const INTERNAL: i32 = 1;
    /// The driver cannot do that.
    pub const NO_SUPPORT: i32 = 3;
    /// It was tried and did not work.
    pub const OPERATION_FAILED: i32 = 9;
    /// Only reading is allowed on this connection.
    pub const OPERATION_DENIED: i32 = 29;
    /// The system underneath failed.
    pub const SYSTEM: i32 = 38;
    /// There is no such domain.
    pub const NO_DOMAIN: i32 = 42;
    /// There is no such network.
    pub const NO_NETWORK: i32 = 43;
    /// Authentication failed.
    pub const AUTH_FAILED: i32 = 45;
    /// There is no such pool.
    pub const NO_POOL: i32 = 49;
    /// There is no such volume.
    pub const NO_VOLUME: i32 = 50;
    /// Not in the state it is in.
    pub const OPERATION_INVALID: i32 = 55;
    /// Somebody else works on it for too long.
    pub const OPERATION_TIMEOUT: i32 = 68;
    /// There is no such metadata.
    pub const NO_METADATA: i32 = 80;
    /// The guest's agent does not answer.
    pub const AGENT_UNRESPONSIVE: i32 = 86;
    /// This user may not do that.
    pub const ACCESS_DENIED: i32 = 88;
    /// There is such a volume already.
    pub const VOLUME_EXISTS: i32 = 90;
}

/// What a server answers instead of doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (libvirt error {code} of part {domain})")]
pub struct Refusal {
    /// Which error, as [`code`] names some.
    pub code: i32,
    /// The part of libvirt that it comes from, by libvirt's number.
    pub domain: i32,
    /// In libvirt's words.
    pub message: String,
}

impl Refusal {
    /// From an answer whose status is an error. Only what is needed is read: what follows differs
    /// between versions.
    ///
    /// # Errors
    ///
    /// If it is no error's body.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, XdrError> {
        let mut decoder = Decoder::new(body);
        let (code, domain) = (decoder.i32()?, decoder.i32()?);
        let message = decoder.optional(Decoder::text)?;
        Ok(Self { code, domain, message: message.unwrap_or_else(|| "no reason given".to_owned()) })
    }
}

/// What can go wrong with a call.
#[derive(Debug, Error)]
pub enum Error {
    /// There is nobody at that address, or they do not speak the protocol.
    #[error("could not connect to {address}")]
    Connect {
        /// Which.
        address: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The last try to connect failed a moment ago; the next one is not due yet.
    #[error("{address} did not answer a moment ago: {cause}")]
    Backoff {
        /// Which.
        address: String,
        /// What went wrong then.
        cause: String,
    },
    /// The server wants us to say who we are in a way that we do not know.
    #[error(
        "{address} wants authentication by {wanted}; let it take this user without (auth_unix_rw \
         = \"none\" with the socket's group, or TLS with a client certificate)"
    )]
    Authentication {
        /// Which.
        address: String,
        /// What it wants.
        wanted: String,
    },
    /// The connection ended; whether the call was done is not known.
    #[error("the connection to {address} ended")]
    Lost {
        /// To whom.
        address: String,
    },
    /// There was no answer in time; whether the call was done is not known.
    #[error("{address} did not answer {call} within {} s", within.as_secs_f32())]
    Deadline {
        /// Who.
        address: String,
        /// Which call, by its name in the protocol.
        call: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The answer is none.
    #[error("the answer to {call} could not be understood")]
    Malformed {
        /// To which call.
        call: &'static str,
        /// What is wrong with it.
        #[source]
        cause: XdrError,
    },
    /// The call is longer than a message may be.
    #[error("{call} would take {bytes} bytes, more than a message may have")]
    TooLong {
        /// Which call.
        call: &'static str,
        /// How long.
        bytes: usize,
    },
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// The code of a refusal; `None` for all else.
    #[must_use]
    pub const fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether it is a refusal with one of these codes.
    #[must_use]
    pub fn is(&self, codes: &[i32]) -> bool {
        self.code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the same call may succeed later with nobody changing anything: nobody answered, or
    /// somebody was busy.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(_) => {
                self.is(&[code::OPERATION_TIMEOUT, code::AGENT_UNRESPONSIVE, code::SYSTEM])
            }
            Self::Authentication { .. } | Self::TooLong { .. } => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Encoder;

    #[test]
    fn a_refusal_says_what_and_why_whatever_follows_it() {
        let body = Encoder::new().i32(42).i32(10).u32(1).text("Domain not found").u32(9).u32(9);
        let refusal = Refusal::decode(body.bytes()).unwrap();
        assert_eq!(refusal.to_string(), "Domain not found (libvirt error 42 of part 10)");
        let error = Error::from(refusal);
        assert!(error.is(&[code::NO_DOMAIN]) && !error.may_pass());
        assert!(Refusal::decode(&body.bytes()[..10]).is_err());
    }
}
