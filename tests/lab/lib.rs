//! Sinter's laboratory: every figure the project claims, measured beside a peer or a floor in the
//! same run, and the surroundings that the measurements and the tests need.
//!
//! ```text
//!  sinter-lab NAME ─> figure ─> rows: value, unit, peer, target, met or not
//!  tests/*.rs ──────> surroundings: binaries, machines, load, a demonstration that runs
//! ```

pub mod figure;
pub mod programs;
pub mod load;
pub mod child;
pub mod bare;
pub mod serve;
pub mod ingest;
pub mod kills;
pub mod demonstration;
pub mod vcsim;
pub mod centre;
pub mod vmlab;
pub mod kvm;
pub mod conformance;
pub mod turn;
pub mod truth;
pub mod connections;
pub mod observe;
pub mod fleet;
pub mod inference;
pub mod plan;
pub mod accuracy;
pub mod grouping;
pub mod inventory;
#[path = "../sim/mod.rs"]
pub mod sim;
#[path = "../ingress/mod.rs"]
pub mod ingress;
