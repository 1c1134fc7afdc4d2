//! What the hypervisor's looks at one machine add up to over a window.

use std::time::Duration;

use common::{
    id::VmId,
    sketch::Sketch,
    units::{Bytes, Millicores},
};

use super::Use;
use crate::{hypervisor::Telemetry, window::Look};

/// Shorter than this between two looks, a CPU counter that ticks in hundredths says nothing.
const SHORTEST_SPAN: Duration = Duration::from_millis(100);

/// How far a running total went, and over what time that is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    total: Option<u64>,
    over: Duration,
}

impl Counted {
    /// A total that fell began anew; what it lost in between is not known and left out.
    pub(super) fn take(&mut self, was: Option<u64>, now: Option<u64>, over: Duration) {
        let Some(more) = now.zip(was).and_then(|(now, was)| now.checked_sub(was)) else { return };
        self.total = Some(self.total.unwrap_or(0).saturating_add(more));
        self.over += over;
    }

    /// How far it went; `None` if it is not known.
    pub(super) const fn total(self) -> Option<u64> {
        self.total
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate has no more than 52 bits of truth")]
    fn per_second(self) -> Option<f64> {
        let seconds = self.over.as_secs_f64();
        self.total.filter(|_| seconds > 0.0).map(|total| total as f64 / seconds)
    }
}

/// The sums over one window.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    pub(super) cpu_ms: Counted,
    pub(super) read: Counted,
    pub(super) written: Counted,
    pub(super) read_operations: Counted,
    pub(super) write_operations: Counted,
    pub(super) failed_operations: Counted,
    pub(super) out_of_memory: Counted,
    received: Counted,
    sent: Counted,
    /// CPU from look to look.
    pub(super) cpu_looks: Sketch,
    cpu_peak: Option<Millicores>,
    memory_peak: Option<Bytes>,
    watched: Duration,
}

impl Outside {
    /// What `looks` say of `vm`, in order.
    pub(super) fn of(looks: &[Look], vm: &VmId) -> Self {
        let mut outside = Self::default();
        let mut was: Option<&Telemetry> = None;
        for now in looks.iter().filter_map(|look| look.telemetry.get(vm)) {
            outside.memory_peak = outside.memory_peak.max(now.memory_used);
            if let Some(was) = was {
                outside.take(was, now);
            }
            was = Some(now);
        }
        outside
    }

    fn take(&mut self, was: &Telemetry, now: &Telemetry) {
        let over = now.taken_at.since(was.taken_at);
        if over.is_zero() {
            return;
        }
        let bytes = |amount: Option<Bytes>| amount.map(|bytes| bytes.0);
        self.watched += over;
        self.cpu_ms.take(was.cpu_ms, now.cpu_ms, over);
        self.received.take(bytes(was.received), bytes(now.received), over);
        self.sent.take(bytes(was.sent), bytes(now.sent), over);
        self.read.take(bytes(was.read), bytes(now.read), over);
        self.written.take(bytes(was.written), bytes(now.written), over);
        self.read_operations.take(was.read_operations, now.read_operations, over);
        self.write_operations.take(was.write_operations, now.write_operations, over);
        self.failed_operations.take(was.failed_operations, now.failed_operations, over);
        self.out_of_memory.take(was.out_of_memory, now.out_of_memory, over);
        let cpu = now.cpu_ms.zip(was.cpu_ms).and_then(|(now, was)| now.checked_sub(was));
        if let Some(cpu) = cpu.filter(|_| over >= SHORTEST_SPAN) {
            let cpu = millicores(cpu, over);
            self.cpu_peak = self.cpu_peak.max(cpu);
            cpu.into_iter().for_each(|cpu| self.cpu_looks.insert(cpu.0));
        }
    }

    /// As one side of a machine's use.
    pub(super) fn seen(&self) -> Use {
        Use {
            watched: self.watched,
            cpu_mean: self.cpu_ms.total.and_then(|cpu| millicores(cpu, self.cpu_ms.over)),
            cpu_peak: self.cpu_peak,
            memory_peak: self.memory_peak,
            received_per_second: self.received.per_second(),
            sent_per_second: self.sent.per_second(),
            written_per_second: self.written.per_second(),
        }
    }
}

/// CPU time over time; `None` over no time.
pub(super) fn millicores(cpu_ms: u64, over: Duration) -> Option<Millicores> {
    let over_ms = u64::try_from(over.as_millis()).ok().filter(|ms| *ms > 0)?;
    Some(Millicores(cpu_ms.saturating_mul(1000) / over_ms))
}
