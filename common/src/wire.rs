//! The generated gRPC types and the only conversions out of them and into them.

/// The descriptors of every service and message, as reflection serves them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sinter.bin"));

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
