//! What one machine did in one window, by its agent: sums and peaks of the changes from sample to
//! sample. Unknown is not zero: a sum over counters that nobody can read is `None`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    id::{AgentId, AppName},
    mix::EffectiveMix,
    sample::{
        ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Direction, Facts,
        Gap, Observation, SampleId,
    },
    units::{Bytes, Millicores},
};

use super::states::States;

/// One connection in a window. The same addresses used again are another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSpan {
    /// Its ends.
    pub key: ConnectionKey,
    /// Which side opened it.
    pub direction: Direction,
    /// Who holds it, if it was known at any time.
    pub application: Option<AppName>,
    /// It came to be in this window; `false` if it may be older.
    pub opened: bool,
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
}

/// What one machine did in one window, by its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestWindow {
    /// Who says so.
    pub agent: AgentId,
    /// Samples that were due.
    pub due: u64,
    /// Samples that came in time and could be read.
    pub came: u64,
    /// Samples that came when their window was closed.
    pub late: u64,
    /// Samples that were known already.
    pub duplicates: u64,
    /// Samples that amend a table which is not known here.
    pub unusable: u64,
    /// Samples before which others are missing.
    pub holes: Vec<SampleId>,
    /// Stretches without samples, in the agent's words.
    pub gaps: Vec<Gap>,
    /// Time that lies between samples which follow each other.
    pub watched: Duration,
    /// Its connections, listeners left out.
    pub connections: BTreeMap<ConnectionKey, Vec<ConnectionSpan>>,
    /// Its applications.
    pub applications: BTreeMap<AppName, ApplicationSpan>,
    /// Its counters.
    pub counters: CounterSpan,
    /// Its facts at the end; `None` if not known.
    pub facts: Option<Facts>,
    /// The mix it ran at the end; `None` if not known.
    pub mix: Option<EffectiveMix>,
    before: BTreeMap<ConnectionKey, (Option<Bytes>, Option<Bytes>)>,
}

/// One step from sample to sample.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// What counted before; `None` if not known.
    pub(super) was: Option<&'a (Counters, BTreeMap<AppName, ApplicationUse>)>,
    /// What is seen now.
    pub(super) now: &'a Observation,
    /// Connections that were not there before.
    pub(super) opened: &'a BTreeSet<ConnectionKey>,
    /// Time since the sample before.
    pub(super) since: Option<Duration>,
    /// The part of it that was watched.
    pub(super) watched: Option<Duration>,
}

impl GuestWindow {
    pub(super) fn opened(agent: AgentId, due: u64, state: Option<&Observation>) -> Self {
        let rows = state.into_iter().flat_map(|state| &state.connections);
        Self {
            agent,
            due,
            came: 0,
            late: 0,
            duplicates: 0,
            unusable: 0,
            holes: Vec::new(),
            gaps: Vec::new(),
            watched: Duration::ZERO,
            connections: BTreeMap::new(),
            applications: BTreeMap::new(),
            counters: CounterSpan::default(),
            facts: None,
            mix: None,
            before: rows.map(|(key, row)| (*key, (row.sent, row.received))).collect(),
        }
    }

    /// Share of the samples due that came.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "samples of one window are few")]
    pub fn coverage(&self) -> f64 {
        (self.came as f64 / self.due.max(1) as f64).min(1.0)
    }

    pub(super) fn note_hole(&mut self, before: SampleId) {
        self.holes.push(before);
    }

    /// A late sample says what is; what it counted belongs to a window that is closed.
    pub(super) fn note_late(&mut self, state: Option<&Observation>) {
        self.late += 1;
        let rows = state.into_iter().flat_map(|state| &state.connections);
        self.before = rows.map(|(key, row)| (*key, (row.sent, row.received))).collect();
    }

    pub(super) fn take(&mut self, change: &Change<'_>) {
        self.came += 1;
        self.watched += change.watched.unwrap_or_default();
        self.take_connections(change);
        for (name, now) in &change.now.applications {
            let was = change.was.map(|(_, applications)| applications.get(name));
            self.applications.entry(name.clone()).or_default().take(was, now, change.watched);
        }
        let was = change.was.map(|(counters, _)| counters);
        self.counters.take(was, &change.now.counters, change.since);
    }

    pub(super) fn close(&mut self, state: Option<&Observation>) {
        self.facts = state.map(|state| state.facts.clone());
        self.mix = state.map(|state| state.mix.clone());
        self.before.clear();
    }

    /// Both tables have one order and are walked side by side: to look every row up would cost
    /// more than all that is done with it.
    fn take_connections(&mut self, change: &Change<'_>) {
        let rows = change.now.connections.iter();
        let rows = rows.filter(|(_, row)| row.state != ConnectionState::Listen);
        let mut new = Vec::new();
        let mut known = self.connections.iter_mut().peekable();
        for (key, row) in rows {
            while known.next_if(|(earlier, _)| *earlier < key).is_some() {}
            match known.next_if(|(same, _)| *same == key) {
                Some((_, spans)) if !change.opened.contains(key) => {
                    if let Some(span) = spans.last_mut() {
                        span.take(row);
                    }
                }
                _ => new.push((key, row)),
            }
        }
        for (key, row) in new {
            self.begin_span(*key, row, change.opened.contains(key));
        }
    }

    fn begin_span(&mut self, key: ConnectionKey, row: &Connection, opened: bool) {
        let spans = self.connections.entry(key).or_default();
        if spans.is_empty() {
            // Nearly all ends are used once; a vector that grows by itself starts with room for four.
            spans.reserve_exact(1);
        }
        if opened || spans.is_empty() {
            let nought = (row.sent.map(|_| Bytes(0)), row.received.map(|_| Bytes(0)));
            let known = self.before.get(&key).copied();
            let last = if opened { nought } else { known.unwrap_or((row.sent, row.received)) };
            spans.push(ConnectionSpan {
                key,
                direction: row.direction,
                application: None,
                opened,
                states: States::default(),
                seen: 0,
                open: 0,
                sent: None,
                received: None,
                last,
            });
        }
        if let Some(span) = spans.last_mut() {
            span.take(row);
        }
    }
}

impl ConnectionSpan {
    fn take(&mut self, row: &Connection) {
        self.seen += 1;
        let is_open =
            matches!(row.state, ConnectionState::Established | ConnectionState::Stateless);
        self.open += u64::from(is_open);
        self.states.insert(row.state);
        if row.direction != Direction::Unknown {
            self.direction = row.direction;
        }
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
    fn take(
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
        let Some(was) = was else { return };
        self.watched += watched.unwrap_or_default();
        // A count that fell began anew; what it lost in between is not known and left out.
        self.cpu_ms += now.cpu_ms.saturating_sub(was.map_or(0, |was| was.cpu_ms));
        let before = |then: Option<Option<Bytes>>| then.unwrap_or(Some(Bytes(0)));
        add(&mut self.read, counted(before(was.map(|was| was.read)), now.read));
        add(&mut self.written, counted(before(was.map(|was| was.written)), now.written));
    }
}

impl CounterSpan {
    fn take(&mut self, was: Option<&Counters>, now: &Counters, since: Option<Duration>) {
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
    }
}

/// CPU time over time as thousandths of a core. Over less than a tenth of a second, counters that
/// tick in hundredths say nothing.
pub(crate) fn rate(cpu_ms: u64, over: Duration) -> Option<Millicores> {
    let over_ms = u64::try_from(over.as_millis()).ok()?;
    (over_ms >= 100).then(|| Millicores(cpu_ms.saturating_mul(1000) / over_ms))
}

/// How far a running total went; `None` if it is not known or began anew.
fn counted(was: Option<Bytes>, now: Option<Bytes>) -> Option<u64> {
    now?.0.checked_sub(was?.0)
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    }
}
