//! What can go wrong between us and vSphere.

use std::time::Duration;

use reqwest::StatusCode;
use thiserror::Error;

use crate::xml::{Element, XmlError};

/// Faults after which the same call may succeed: somebody else was at work, or a host was away.
const PASSING: [&str; 11] = [
    "ConcurrentAccess",
    "HostCommunication",
    "HostConnectFault",
    "HostNotConnected",
    "HostNotReachable",
    "NetworkDisruptedAndConfigRolledBack",
    "NotAuthenticated",
    "RequestCanceled",
    "ResourceInUse",
    "TaskInProgress",
    "Timedout",
];
/// Parts of a fault that say what it is about.
const TELLING: [&str; 7] =
    ["privilegeId", "invalidProperty", "property", "reason", "name", "obj", "existingState"];
/// Most letters of a fault that are repeated.
const WORDS_LIMIT: usize = 400;

/// A refusal in vSphere's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its type, such as `InvalidPowerState`.
    pub kind: String,
    /// What it says.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&self.kind);
        }
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Fault {
    /// Of a `LocalizedMethodFault`.
    pub(crate) fn of_localized(told: &Element) -> Self {
        let fault = told.child("fault");
        let kind = fault.and_then(|fault| fault.kind.clone()).unwrap_or_default();
        Self::new(kind, told.text_at("localizedMessage"), fault)
    }

    /// Of a SOAP fault.
    pub(crate) fn of_envelope(told: &Element) -> Self {
        let detail = told.child("detail").and_then(|detail| detail.children.first());
        let named = detail.and_then(|detail| {
            let by_name = detail.name.strip_suffix("Fault").unwrap_or(&detail.name);
            detail.kind.clone().or_else(|| Some(by_name.to_owned()))
        });
        let code = || told.text_at("faultcode").unwrap_or("fault").to_owned();
        Self::new(named.unwrap_or_else(code), told.text_at("faultstring"), detail)
    }

    fn new(kind: String, message: Option<&str>, told: Option<&Element>) -> Self {
        let mut words: Vec<String> = message.map(str::to_owned).into_iter().collect();
        for part in told.iter().flat_map(|told| &told.children) {
            if TELLING.contains(&part.name.as_str()) && !part.text.is_empty() {
                words.push(format!("{} {}", part.name, part.text));
            }
        }
        let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
        let words = words.join(", ");
        let message = words.chars().filter(|c| !c.is_control()).take(WORDS_LIMIT).collect();
        Self { kind, message }
    }
}

/// Why a call gave nothing.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody answered.
    #[error("{method} was not answered")]
    Unanswered {
        /// The call.
        method: String,
        /// Why not.
        #[source]
        cause: reqwest::Error,
    },
    /// Somebody answered who does not speak SOAP.
    #[error("{method} was answered with {status}")]
    Status {
        /// The call.
        method: String,
        /// With what.
        status: StatusCode,
    },
    /// The answer is larger than any that makes sense.
    #[error("the answer to {method} is over {limit} bytes")]
    TooLarge {
        /// The call.
        method: String,
        /// What is read at most.
        limit: usize,
    },
    /// The answer cannot be read.
    #[error("the answer to {method} is not understood")]
    Unreadable {
        /// The call.
        method: String,
        /// Why not.
        #[source]
        cause: XmlError,
    },
    /// The answer lacks what it is for.
    #[error("the answer to {method} has no {what}")]
    Lacking {
        /// The call.
        method: String,
        /// What it lacks.
        what: &'static str,
    },
    /// It was refused.
    #[error("{method}: {fault}")]
    Fault {
        /// The call.
        method: String,
        /// In vSphere's words.
        fault: Fault,
    },
    /// Who we are could not be said.
    #[error("there is nobody to log in as")]
    Login(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task did not end in time; it may yet.
    #[error("{method} did not end within {} s", within.as_secs())]
    Late {
        /// The call that began it.
        method: String,
        /// How long it was waited for.
        within: Duration,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered { .. } | Self::Late { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Fault { fault, .. } => PASSING.contains(&fault.kind.as_str()),
            _ => false,
        }
    }

    /// Whether it is a fault of one of these types.
    #[must_use]
    pub fn is(&self, kinds: &[&str]) -> bool {
        matches!(self, Self::Fault { fault, .. } if kinds.contains(&fault.kind.as_str()))
    }
}
