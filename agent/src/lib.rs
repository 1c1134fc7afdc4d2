//! The program inside each virtual machine: it looks, tells, and applies.
//!
//! ```text
//!  observe ─> spool ─> link ═══> aggregator
//!  apply  <──────────── link <══
//! ```
//!
//! The modules stand in the order of the layers, as in the aggregator.

pub mod platform;
pub mod file;
pub mod config;

// Adapters: the machine we live in.
pub mod observe;
pub mod driver;

// Remembering.
pub mod spool;
pub mod ledger;

// Acting.
pub mod apply;
pub mod identity;
pub mod link;

// Driving.
pub mod run;

// Telling a person at the machine.
pub mod doctor;
pub mod show;
