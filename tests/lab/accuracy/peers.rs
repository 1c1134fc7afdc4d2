//! Methods of others, from their published formulae.

#[path = "peers/rita.rs"]
pub(super) mod rita;
