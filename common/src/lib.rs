//! The words that Sinter's programs speak: ids, time, units, samples, mixes, configuration lists.
//!
//! Nothing in this crate reads a disk or opens a socket. Generated wire types live in [`wire`]
//! and are turned into the words here at the edge, once.
//!
//! The modules stand in the order of the layers: a module uses only modules above it.

pub mod id;
pub mod clock;
pub mod units;
pub mod mix;
pub mod sketch;
pub mod sample;
pub mod delta;
pub mod netstat;
pub mod list;
pub mod signing;
pub mod wire;
pub mod pki;
pub mod task;
