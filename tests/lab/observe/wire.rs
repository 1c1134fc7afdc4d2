//! How large a sample is on the wire: whole, and as what changed.

use agent::observe::{Inputs, LinuxObserver, Observe as _, Settings};
use common::{
    clock::{Clock as _, SystemClock},
    delta::{self, Stamp},
    sample::{Observation, SampleId},
    units::Bytes,
    wire::types::v1,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::figure::{Failure, Row, Target};

/// Sizes in bytes, compressed as the line compresses.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Wire {
    whole: usize,
    next: usize,
    /// Of the next one, before it is compressed.
    of_counters: usize,
    of_applications: usize,
    a_hundredth: usize,
    rows: usize,
}

/// Sizes of samples of what there is to see now.
pub(super) fn measure() -> Result<Wire, Failure> {
    let mut observer = LinuxObserver::new(Settings::default());
    let inputs = Inputs::default();
    let first = observer.observe(&inputs, SystemClock.now())?;
    let second = observer.observe(&inputs, SystemClock.now())?;
    let mut third = second.clone();
    let changed = third.connections.len() / 100;
    for connection in third.connections.values_mut().take(changed) {
        connection.sent = Some(Bytes(connection.sent.map_or(0, |bytes| bytes.0) + 1_234));
    }
    let next = message(Some(&first), &second);
    Ok(Wire {
        whole: size(None, &first)?,
        next: size(Some(&first), &second)?,
        of_counters: next.counters.as_ref().map_or(0, prost::Message::encoded_len),
        of_applications: next.applications.iter().map(prost::Message::encoded_len).sum(),
        a_hundredth: size(Some(&second), &third)?,
        rows: first.connections.len(),
    })
}

fn size(before: Option<&Observation>, after: &Observation) -> Result<usize, Failure> {
    Ok(zstd::encode_all(message(before, after).encode_to_vec().as_slice(), 0)?.len())
}

fn message(before: Option<&Observation>, after: &Observation) -> v1::Sample {
    let id = SampleId { epoch: 1, sequence: 1 };
    let stamp = Stamp { id, taken_at: SystemClock.now(), ..Stamp::default() };
    (&delta::between(before, after, stamp)).into()
}

impl Wire {
    #[expect(clippy::cast_precision_loss, reason = "sizes of a few messages")]
    pub(super) fn rows(&self) -> [Row; 4] {
        let whole = format!("a full sample, {} connections", self.rows);
        [
            Row::new("bytes of the next sample, nothing done between", self.next as f64, "B")
                .beside(whole.clone(), self.whole as f64)
                .held_to(Target::AtMostOfPeer(0.05)),
            Row::new("of them the guest's counters", self.of_counters as f64, "B"),
            Row::new("of them what applications used", self.of_applications as f64, "B"),
            Row::new(
                "bytes where one connection of a hundred changed",
                self.a_hundredth as f64,
                "B",
            )
            .beside(whole, self.whole as f64)
            .held_to(Target::AtMostOfPeer(0.05)),
        ]
    }
}
