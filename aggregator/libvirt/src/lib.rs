//! A client of libvirt's remote protocol, spoken over a Unix socket or TLS.
//!
//! ```text
//!  call ─> Client ─> Connection ─> frames ─> libvirtd (or virtqemud, virtproxyd)
//!            │           │  many calls in flight, told apart by serial
//!            └ again     └─> events (started, stopped, I/O error)
//! ```
//!
//! Nothing of libvirt's is linked: the protocol is XDR (RFC 4506) in frames of its own, described
//! at <https://libvirt.org/kbase/internals/rpc.html>. No call blocks a thread. Everything a server
//! sends is bounded before it is believed: a bad message costs the connection, never the process.
//!
//! The client opens a connection when it is first needed and again after it was lost. A call that
//! was under way when the connection ended is not made again: whether it was done is for the
//! caller to find out.

pub mod xdr;
pub mod xml;
pub mod error;
pub mod address;
mod frame;
mod procedure;
mod transport;
pub mod event;
mod connection;
mod client;
mod call;

pub use self::{
    address::{Address, Credentials},
    call::{
        domain::{
            AddressSource, BlockJob, CREATE_SNAPSHOT_CLONE, Change, Domain, DomainState, Interface,
            InterfaceAddress, XmlKind,
        },
        host::NodeInfo,
        network::{Lease, Network},
        stats::{DomainStats, Value},
        storage::{Pool, PoolInfo, Volume, VolumeInfo},
    },
    client::Client,
    error::{Error, Refusal, code},
    event::Event,
};
