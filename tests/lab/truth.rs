//! Ground truth: machines made of network namespaces in which processes open connections that are
//! known one by one, and what agents in the same namespaces say of them.
//!
//! ```text
//!  script ─> act (a process under the application's name) ─> what it did ─┐
//!  order  ─> look (the agent's own observer, and plain pollers) ─> report ┴> compare ─> score
//! ```
//!
//! Nothing leaves the namespaces. Every process is bounded in connections and in time, and all of
//! them end with whoever started them.

pub mod script;
pub mod act;
pub mod pollers;
pub mod look;
pub mod machines;
pub mod group;
pub mod processes;
pub mod compare;
pub mod course;
