//! The generated gRPC types and the only conversions out of them and into them.
//!
//! What comes from outside is checked here, once: every text, number, enum and table is bounded,
//! and the first thing that is wrong is named with its place, its value and what may stand there.
//! **One bad row costs its whole message**: a sample is a change of the one before, so a message
//! that is half taken in would be the wrong base of all that follow.
//!
//! A text that only people read has its control characters replaced, so that nothing behind this
//! edge can be made to write to a terminal. Into the wire such texts are cut to the same bounds:
//! what one end of Sinter sends, the other takes.

mod connections;
mod counters;
mod field;
mod flows;
mod guest;
mod mix;
mod rows;
mod sample;
mod software;
mod usage;

use std::fmt::Display;

/// The descriptors of every service and message, as reflection serves them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sinter.bin"));

/// Largest message an agent may send, in bytes, unpacked: some ten thousand rows.
pub const LARGEST_MESSAGE: usize = 1 << 20;

/// The version of `sinter.agent.v1` that this version speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest text, in bytes.
pub const LONGEST_TEXT: usize = 256;

/// Longest path of a file, in bytes: the kernel's own bound.
pub const LONGEST_PATH: usize = 4096;

/// Longest content of a configuration file, in bytes.
pub const LONGEST_CONTENT: usize = 65_536;

/// Most rows of one table or list: a port each, of one address.
pub const MOST_ROWS: usize = 65_536;

/// The generated code, in the module tree that its own references expect.
#[expect(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod generated {
    pub mod sinter {
        pub mod types {
            pub mod v1 {
                tonic::include_proto!("sinter.types.v1");
            }
        }
        pub mod agent {
            pub mod v1 {
                tonic::include_proto!("sinter.agent.v1");
            }
        }
        pub mod admin {
            pub mod v1 {
                tonic::include_proto!("sinter.admin.v1");
            }
        }
    }
}

pub use generated::sinter::{admin, agent, types};

/// Why a message from outside is refused: which field, what it has, and what may stand there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; {remedy}")]
pub struct BadMessage {
    /// Path of the field, such as `connections.upserted[3].key.local`.
    pub field: String,
    /// What was sent, cut to a readable length, safe to print.
    pub value: String,
    /// What may be sent.
    pub remedy: &'static str,
}

/// Characters of a refused value that are shown.
const SHOWN: usize = 80;

impl BadMessage {
    /// A refusal that is safe to print, whatever was sent.
    #[must_use]
    pub fn new(field: impl Into<String>, value: impl Display, remedy: &'static str) -> Self {
        let value = value.to_string();
        let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if value.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        if shown.is_empty() {
            shown.push_str("empty");
        }
        Self { field: field.into(), value: shown, remedy }
    }

    /// The same, of a message that stands in `field` of a larger one.
    #[must_use]
    pub fn within(self, field: &str) -> Self {
        Self { field: format!("{field}.{}", self.field), ..self }
    }
}
