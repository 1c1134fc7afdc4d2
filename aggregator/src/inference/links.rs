//! What a machine's links carried, as its hypervisor counts it, beside what its connections account for.
//!
//! ```text
//!  least that told connections put on links <= what links carried <= most of them + what nobody tells of
//! ```
//!
//! Two ends that agree can tell of an edge that is none, or not tell of one that is. Their links know. What
//! is told beyond what passed is a lie, and makes who tells it no candidate; what passed beyond what is told
//! may be calls, so nothing leaves a machine for want of them. Where either side does not count, nothing
//! is known, and so nothing is held against anybody.

use common::units::Bytes;

use super::{measured::Measured, witness::PERSISTENT};
use crate::join::{JoinedMachine, OnLinks};

/// Both are read at different moments: by so much one may be ahead of the other.
const TOLERANCE: f64 = 1.1;
/// Bytes per second that may pass in vain, or besides connections: names are asked for, neighbours looked
/// for, and some hypervisors count in kilobytes.
const NOISE: f64 = 1_024.0;
/// Windows of which it must be known what links carried.
const WINDOWS_NEEDED: usize = 2;

/// One direction of a window: the verb of it, what connections account for, what links carried.
type Side = (&'static str, OnLinks, f64);

fn sides(window: &JoinedMachine) -> [Option<Side>; 2] {
    let payload = |told: f64| OnLinks { least: told, most: f64::INFINITY };
    let Some(counted) = window.counted else { return [None; 2] };
    let received = counted.received_on_links.or(counted.received_per_second.map(payload));
    let sent = counted.sent_on_links.or(counted.sent_per_second.map(payload));
    let side = |verb, told: Option<OnLinks>, passed: Option<f64>| Some((verb, told?, passed?));
    [
        side("received", received, window.outside.received_per_second),
        side("sent", sent, window.outside.sent_per_second),
    ]
}

/// What its connections say they carried that its links did not. A burst at the border of a window may be
/// told by one side in it and by the other in the next: so one window shows nothing, and over several it
/// is their sum that counts.
pub(super) fn beyond(machine: &Measured<'_>) -> Option<String> {
    [0, 1].into_iter().find_map(|direction| {
        let known = machine.recent().iter().filter_map(|window| sides(window)[direction]);
        let known: Vec<Side> = known.collect();
        let beyond = known.iter().filter(|(_, told, passed)| told.least > *passed).count();
        let least = known.iter().map(|(_, told, _)| told.least).sum::<f64>();
        let passed = known.iter().map(|(_, _, passed)| passed).sum::<f64>();
        let windows = as_float(known.len());
        let is_more = least > passed * TOLERANCE + NOISE * windows;
        let (verb, ..) = *known.first().filter(|_| beyond >= PERSISTENT && is_more)?;
        let (least, passed) = (bytes(least / windows), bytes(passed / windows));
        Some(format!(
            "its connections {verb} at least {least} per second, its links {passed} by the hypervisor"
        ))
    })
}

/// What its links sent that none of its connections accounts for. What they received is not asked: others
/// call out to everybody on a network.
pub(super) fn untold(machine: &Measured<'_>) -> Option<String> {
    let known = machine.recent().iter().filter_map(|window| {
        let counted = window.counted?;
        Some((counted.sent_on_links?.most, window.outside.sent_per_second?))
    });
    let known: Vec<(f64, f64)> = known.collect();
    let most = known.iter().map(|(most, _)| most).sum::<f64>();
    let passed = known.iter().map(|(_, passed)| passed).sum::<f64>();
    let windows = as_float(known.len());
    let is_more = passed > most * TOLERANCE + NOISE * windows;
    (known.len() >= WINDOWS_NEEDED && is_more).then(|| {
        let (most, passed) = (bytes(most / windows), bytes(passed / windows));
        format!(
            "its links sent {passed} per second by the hypervisor, of which its connections account for {most} \
             at most"
        )
    })
}

#[expect(clippy::cast_precision_loss, reason = "windows are few")]
const fn as_float(count: usize) -> f64 {
    count as f64
}

/// A rate in whole bytes, to be told.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is none below zero, and a float to u64 saturates"
)]
pub(super) fn bytes(amount: f64) -> Bytes {
    Bytes(amount.round() as u64)
}
