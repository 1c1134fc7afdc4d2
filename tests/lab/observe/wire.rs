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
    Ok(Wire {
        whole: size(None, &first)?,
        next: size(Some(&first), &second)?,
        a_hundredth: size(Some(&second), &third)?,
        rows: first.connections.len(),
    })
}

fn size(before: Option<&Observation>, after: &Observation) -> Result<usize, Failure> {
    let id = SampleId { epoch: 1, sequence: 1 };
    let stamp = Stamp { id, taken_at: SystemClock.now(), ..Stamp::default() };
    let message = v1::Sample::from(&delta::between(before, after, stamp));
    Ok(zstd::encode_all(message.encode_to_vec().as_slice(), 0)?.len())
}

impl Wire {
    #[expect(clippy::cast_precision_loss, reason = "sizes of a few messages")]
    pub(super) fn rows(&self) -> [Row; 2] {
        let whole = format!("a full sample, {} connections", self.rows);
        [
            Row::new("bytes of the next sample, nothing done between", self.next as f64, "B")
                .beside(whole.clone(), self.whole as f64)
                .held_to(Target::AtMostOfPeer(0.05)),
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
