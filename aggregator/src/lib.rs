//! The central service: it watches virtual machines, infers which of them could carry another
//! application mix, tries the new mix on a clone, and promotes it.
//!
//! ```text
//!  guest ──┐
//!  storage ┼─> window ─> join ─> inference ─> plan
//!  hyper-  │                                   │
//!  visor ──┘   audit <─ migration <─ trial <─ assembly
//! ```
//!
//! The modules below stand in the order of the layers: a module may use only modules that stand
//! above it in this list. `tests/layering.rs` holds us to that.

// Adapters: what lies outside; each a trait, the values it speaks, and its implementations.
pub mod vendor;
pub mod hypervisor;
pub mod storage;
pub mod access;
pub mod listener;

// Reasoning: values in, values out. No I/O, no clock, no `await`.
pub mod policy;
pub mod grouping;
pub mod catalogue;
pub mod window;
pub mod join;
pub mod regularity;
pub mod history;
pub mod inference;
pub mod past;
pub mod plan;
pub mod journal;

// Remembering.
pub mod repository;
pub mod tables;

// Adapter to the agents: what they send is remembered before it is acknowledged.
pub mod guest;

// Acting: each does one thing through an adapter, and may safely do it twice.
pub mod assembly;
pub mod trial;
pub mod migration;
pub mod audit;

// Driving.
pub mod cycle;
pub mod admin;
pub mod config;
pub mod service;
pub mod dev;
pub mod analyse;
