//! The list of every kind of id. Two kinds never mix: a [`VmId`] is no [`HostId`].
//!
//! An id is copied into every table that speaks of it, so its text is shared, not copied.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// Longest id a hypervisor may give us; vSphere and libvirt both stay below.
const MAX_LEN: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing, or only blanks.
    #[error("id is empty")]
    Empty,
    /// More bytes than an id may have.
    #[error("id has {0} bytes, at most {MAX_LEN} are allowed")]
    TooLong(usize),
    /// A character that a terminal, a path or a log line would take for something else.
    #[error("id has the character {0:?}; letters, digits and -_.:@+/ are allowed")]
    Forbidden(char),
}

/// Ids reach terminals, paths and logs; what could be misread there is refused at the edge.
fn forbidden(text: &str) -> Option<char> {
    text.chars().find(|c| !(c.is_alphanumeric() || "-_.:@+/".contains(*c)))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let text = text.trim();
                match text.len() {
                    0 => return Err(IdError::Empty),
                    len if len > MAX_LEN => return Err(IdError::TooLong(len)),
                    _ => {}
                }
                forbidden(text).map_or_else(|| Ok(Self(text.into())), |c| Err(IdError::Forbidden(c)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// A virtual machine: the hypervisor's uuid of it, lower case.
    VmId;
    /// A physical virtual host.
    HostId;
    /// A virtual network of a hypervisor.
    NetworkId;
    /// A storage device behind the hosts.
    StorageId;
    /// An application inside a virtual machine.
    AppName;
    /// An enrolled agent; never given to another.
    AgentId;
    /// A plan.
    PlanId;
    /// A sampling window.
    WindowId;
}
