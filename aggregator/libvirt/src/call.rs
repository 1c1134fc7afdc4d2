//! The calls, by what they are about.

pub(crate) mod host;
pub(crate) mod domain;
pub(crate) mod device;
pub(crate) mod stats;
pub(crate) mod storage;
pub(crate) mod network;
