//! The methods behind the inference and the planner, as numbers in and numbers out: no machine, no
//! application, no clock, no I/O. What they are applied to is the aggregator's business; here each
//! can be held against its source, a brute-force answer or another method.

pub mod dependency;
pub mod detection;
pub mod dispersion;
pub mod heavy;
pub mod interval;
pub mod leiden;
pub mod nnls;
pub mod normal;
pub mod packed;
pub mod packing;
pub mod partition;
pub mod period;
pub mod ring;
