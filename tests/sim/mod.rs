//! Simulated surroundings: a hypervisor, its machines and their agents as one world in memory.
//!
//! ```text
//!  Cycle ─> SimHypervisor ─┐
//!        ─> SimGuests ─────┼─ line ─> World: machines, mixes, limits, power, clones
//!        ─> SimStore ──────┘          (it outlives every aggregator)
//! ```
//!
//! Every aggregator reaches the world through a [`Line`]. Once that is cut, nothing that goes
//! through it ever answers: for the world the aggregator is dead, wherever it was. Worlds refuse,
//! stall, stay silent, do what they were asked and lose the reply, and count every deed.

mod guests;
mod hypervisor;
mod line;
mod plans;
mod rig;
mod store;
mod world;

pub use self::{
    guests::SimGuests,
    hypervisor::SimHypervisor,
    line::{Line, SimClock},
    plans::{consolidation, swap},
    rig::{Aggregator, Death, Rig},
    store::SimStore,
    world::{Deed, Fault, How, SimMachine, World, app, vm},
};
