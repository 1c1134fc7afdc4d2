use std::time::Duration;

use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::{TimeVal, TimeValLike as _},
};

/// What the calling thread used of the processors, the kernel's work for it included.
pub(super) fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds().try_into().unwrap());
    of(usage.user_time()) + of(usage.system_time())
}
