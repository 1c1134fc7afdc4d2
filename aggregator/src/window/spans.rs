//! What changes from sample to sample add up to: of a connection, of an application, of a guest's
//! counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::AppName,
    sample::{ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Direction},
    sketch::Sketch,
    units::{Bytes, Millicores},
};

use super::{
    operations::{self, OperationKey, Operations},
    states::States,
};

/// One connection in a window. The same addresses used again are another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSpan {
    /// Its ends.
    pub key: ConnectionKey,
    /// Which side opened it.
    pub direction: Direction,
    /// The far end that its own machine put in place of that which was asked for.
    pub translated: Option<SocketAddr>,
    /// Who holds it, if it was known at any time.
    pub application: Option<AppName>,
    /// It came to be in this window; `false` if it may be older.
    pub opened: bool,
    /// When it came to be; `None` if that is not in this window, or not known.
    pub began: Option<Timestamp>,
    /// The states it was seen in.
    pub states: States,
    /// Samples that show it.
    pub seen: u64,
    /// Samples that show it open both ways.
    pub open: u64,
    /// Bytes it sent in the window; `None` where the reader cannot tell.
    pub sent: Option<u64>,
    /// Bytes it received in the window; `None` where the reader cannot tell.
    pub received: Option<u64>,
    last: (Option<Bytes>, Option<Bytes>),
}

/// What one application did in a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplicationSpan {
    /// Whether the catalogue lists it.
    pub listed: bool,
    /// Samples that show it with a process.
    pub seen: u64,
    /// CPU time it used, in milliseconds.
    pub cpu_ms: u64,
    /// Time over which its CPU and storage were watched.
    pub watched: Duration,
    /// Most CPU.
    pub peak_cpu: Millicores,
    /// Most resident memory.
    pub peak_resident: Bytes,
    /// Bytes read from storage; `None` if unknown.
    pub read: Option<u64>,
    /// Bytes written to storage; `None` if unknown.
    pub written: Option<u64>,
    /// Ports it listened on.
    pub listens: BTreeSet<u16>,
    /// What it did on block devices, by device, kind and size of the operations.
    pub operations: BTreeMap<OperationKey, Operations>,
    /// CPU over its agent's inner cadence, in thousandths of a core.
    pub cpu_quantiles: Sketch,
    /// Memory it worked with over the same cadence, in bytes.
    pub memory_quantiles: Sketch,
}

/// What the guest's own counters say of a window; `None` is not known, never zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CounterSpan {
    /// Time over which they were watched.
    pub watched: Duration,
    /// CPU time in use over all cores, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Most CPU from one sample to the next.
    pub cpu_peak: Option<Millicores>,
    /// Most memory that applications could not have had.
    pub memory_peak: Option<Bytes>,
    /// Most memory the guest had.
    pub memory_total: Option<Bytes>,
    /// Most swap in use.
    pub swap_peak: Option<Bytes>,
    /// Bytes its interfaces received.
    pub received: Option<u64>,
    /// Bytes its interfaces sent.
    pub sent: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to block devices.
    pub written: Option<u64>,
    /// Times its kernel killed something for want of memory.
    pub out_of_memory: Option<u64>,
}

impl ConnectionSpan {
    /// A connection of which nothing is known yet but what it had sent and received before.
    pub(super) fn begin(
        key: ConnectionKey,
        direction: Direction,
        opened: bool,
        last: (Option<Bytes>, Option<Bytes>),
    ) -> Self {
        Self {
            key,
            direction,
            translated: None,
            application: None,
            opened,
            began: None,
            states: States::default(),
            seen: 0,
            open: 0,
            sent: None,
            received: None,
            last,
        }
    }

    pub(super) fn take(&mut self, row: &Connection) {
        self.seen += 1;
        let is_open =
            matches!(row.state, ConnectionState::Established | ConnectionState::Stateless);
        self.open += u64::from(is_open);
        self.states.insert(row.state);
        if row.direction != Direction::Unknown {
            self.direction = row.direction;
        }
        self.translated = row.translated.or(self.translated);
        // The process of a closed connection is gone, what it was is not.
        if let Some(application) = row.holder.application() {
            self.application = Some(application.clone());
        }
        let (sent, received) = (row.sent.or(self.last.0), row.received.or(self.last.1));
        add(&mut self.sent, counted(self.last.0, sent));
        add(&mut self.received, counted(self.last.1, received));
        self.last = (sent, received);
    }
}

impl ApplicationSpan {
    /// `was` is `None` if nothing is known of before, and `Some(None)` if it was not there.
    pub(super) fn take(
        &mut self,
        was: Option<Option<&ApplicationUse>>,
        now: &ApplicationUse,
        watched: Option<Duration>,
    ) {
        self.listed |= now.listed;
        self.seen += u64::from(now.processes > 0);
        self.peak_cpu = self.peak_cpu.max(now.peak_cpu);
        self.peak_resident = self.peak_resident.max(now.peak_resident).max(now.resident);
        self.listens.extend(&now.listening_ports);
        self.cpu_quantiles.merge(&now.cpu_quantiles);
        self.memory_quantiles.merge(&now.memory_quantiles);
        let Some(was) = was else { return };
        self.watched += watched.unwrap_or_default();
        // A count that fell began anew; what it lost in between is not known and left out.
        self.cpu_ms += now.cpu_ms.saturating_sub(was.map_or(0, |was| was.cpu_ms));
        let before = |then: Option<Option<Bytes>>| then.unwrap_or(Some(Bytes(0)));
        add(&mut self.read, counted(before(was.map(|was| was.read)), now.read));
        add(&mut self.written, counted(before(was.map(|was| was.written)), now.written));
        for (device, now) in &now.devices {
            let was = was.and_then(|was| was.devices.get(device).copied()).unwrap_or_default();
            operations::take(&mut self.operations, device, was, *now);
        }
    }
}

impl CounterSpan {
    pub(super) fn take(&mut self, was: Option<&Counters>, now: &Counters, since: Option<Duration>) {
        let used = now.memory_total.zip(now.memory_available);
        let used = used.map(|(total, available)| Bytes(total.0.saturating_sub(available.0)));
        self.memory_peak = self.memory_peak.max(used);
        self.memory_total = self.memory_total.max(now.memory_total);
        self.swap_peak = self.swap_peak.max(now.swap_used);
        let Some((was, since)) = was.zip(since) else { return };
        self.watched += since;
        let cpu = was.cpu_busy_ms.zip(now.cpu_busy_ms);
        let cpu = cpu.and_then(|(was, now)| now.checked_sub(was));
        add(&mut self.cpu_ms, cpu);
        self.cpu_peak = self.cpu_peak.max(cpu.and_then(|cpu| rate(cpu, since)));
        let interfaces = |side: fn(&common::sample::InterfaceCounters) -> u64| {
            let each = now.interfaces.iter().map(|(name, now)| {
                let was = was.interfaces.get(name).map_or(0, side);
                side(now).saturating_sub(was)
            });
            (!now.interfaces.is_empty()).then(|| each.sum())
        };
        add(&mut self.received, interfaces(|counters| counters.received_bytes));
        add(&mut self.sent, interfaces(|counters| counters.sent_bytes));
        add(&mut self.read, counted(was.disk_read, now.disk_read));
        add(&mut self.written, counted(was.disk_written, now.disk_written));
        let killed = was.out_of_memory_kills.zip(now.out_of_memory_kills);
        add(&mut self.out_of_memory, killed.and_then(|(was, now)| now.checked_sub(was)));
    }
}

/// CPU time over time as thousandths of a core. Over less than a tenth of a second, counters that
/// tick in hundredths say nothing.
pub(crate) fn rate(cpu_ms: u64, over: Duration) -> Option<Millicores> {
    let over_ms = u64::try_from(over.as_millis()).ok()?;
    (over_ms >= 100).then(|| Millicores(cpu_ms.saturating_mul(1000) / over_ms))
}

/// How far a running total went; `None` if it is not known or began anew.
pub(super) fn counted(was: Option<Bytes>, now: Option<Bytes>) -> Option<u64> {
    now?.0.checked_sub(was?.0)
}

pub(super) fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    }
}
