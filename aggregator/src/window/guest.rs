//! What one machine did in one window, by its agent: sums and peaks of the changes from sample to
//! sample. Unknown is not zero: a sum over counters that nobody can read is `None`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AgentId, AppName},
    mix::EffectiveMix,
    sample::{
        ApplicationUse, Connection, ConnectionKey, ConnectionState, Counters, Coverage, Facts,
        Flow, FlowKey, Gap, Observation, SampleId,
    },
    units::Bytes,
};

use super::{
    flows::{self, FlowStep},
    room::{Kept, LeftOut, Room},
    spans::{ApplicationSpan, ConnectionSpan, CounterSpan},
    starts::{self, Starts},
};

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
    /// What came to pass on its edges in the window, as its agent counted: every connection,
    /// however short. Empty if the agent does not count.
    pub flows: BTreeMap<FlowKey, Flow>,
    /// When the connections of those edges came to be.
    pub starts: BTreeMap<FlowKey, Starts>,
    /// How much of that was seen; `None` if the agent does not count, or its count was not known
    /// before.
    pub counted: Option<Coverage>,
    /// Time over which its agent counted. Totals go on while no sample comes, so this may be more
    /// than was watched.
    pub counted_over: Duration,
    /// Its applications.
    pub applications: BTreeMap<AppName, ApplicationSpan>,
    /// Its counters.
    pub counters: CounterSpan,
    /// Its facts at the end; `None` if not known.
    pub facts: Option<Facts>,
    /// The mix it ran at the end; `None` if not known.
    pub mix: Option<EffectiveMix>,
    before: BTreeMap<ConnectionKey, (Option<Bytes>, Option<Bytes>)>,
    room: Room,
}

/// One step from sample to sample.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// What counted before; `None` if not known.
    pub(super) was: Option<&'a (Counters, BTreeMap<AppName, ApplicationUse>)>,
    /// What is seen now.
    pub(super) now: &'a Observation,
    /// What its edges counted since; `None` if what they counted before is not known.
    pub(super) flows: Option<&'a FlowStep>,
    /// When it was seen, on our clock.
    pub(super) at: Timestamp,
    /// Connections that were not there before.
    pub(super) opened: &'a BTreeSet<ConnectionKey>,
    /// Time since the sample before.
    pub(super) since: Option<Duration>,
    /// The part of it that was watched.
    pub(super) watched: Option<Duration>,
}

impl Change<'_> {
    /// When what is new came to be: between two samples, unless some are missing there.
    fn moment(&self) -> Option<Timestamp> {
        let since = self.since.filter(|since| self.watched == Some(*since))?;
        Some(starts::middle(self.at, since))
    }
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
            flows: BTreeMap::new(),
            starts: BTreeMap::new(),
            counted: None,
            counted_over: Duration::ZERO,
            applications: BTreeMap::new(),
            counters: CounterSpan::default(),
            facts: None,
            mix: None,
            room: Room::default(),
            before: rows.map(|(key, row)| (*key, (row.sent, row.received))).collect(),
        }
    }

    /// Share of the samples due that came.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "samples of one window are few")]
    pub fn coverage(&self) -> f64 {
        (self.came as f64 / self.due.max(1) as f64).min(1.0)
    }

    /// Share of the connections due in the window that were seen: of the samples that came, of the
    /// connections that the kernel counted, where it says how many, and of the edges that found room.
    #[must_use]
    pub fn edge_coverage(&self) -> f64 {
        let seen = self.counted.and_then(|counted| counted.share());
        let seen = seen.map_or(1.0, |hundredths| f64::from(hundredths) / 10_000.0);
        self.coverage() * seen * self.kept_share()
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
        if let Some(step) = change.flows {
            self.take_flows(step, change.moment());
            flows::add_coverage(&mut self.counted, step.coverage);
            self.counted_over += change.since.unwrap_or_default();
        }
        for (name, now) in &change.now.applications {
            let was = change.was.map(|(_, applications)| applications.get(name));
            self.applications.entry(name.clone()).or_default().take(was, now, change.watched);
        }
        let was = change.was.map(|(counters, _)| counters);
        self.counters.take(was, &change.now.counters, change.since);
    }

    fn take_flows(&mut self, step: &FlowStep, moment: Option<Timestamp>) {
        let mut kept = Kept { flows: &mut self.flows, starts: &mut self.starts };
        for (key, more) in &step.rows {
            self.room.add(&mut kept, key, more);
            if more.opened > 0 {
                starts::add(kept.starts, key, moment, more.opened);
            }
        }
    }

    /// Edges that found no room, and what went with them.
    #[must_use]
    pub const fn left_out(&self) -> LeftOut {
        self.room.left_out()
    }

    /// Share of the connections counted that are in the edges which found room.
    #[expect(clippy::cast_precision_loss, reason = "connections of a window are far below 2^52")]
    fn kept_share(&self) -> f64 {
        let left_out = self.left_out().connections;
        if left_out == 0 {
            return 1.0;
        }
        let kept: u64 = self.flows.values().map(|flow| flow.opened).sum();
        kept as f64 / kept.saturating_add(left_out) as f64
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
            let began = change.opened.contains(key).then(|| change.moment());
            self.begin_span(*key, row, began);
        }
    }

    /// `began` is `None` if the connection may be older than the sample that shows it first.
    fn begin_span(
        &mut self,
        key: ConnectionKey,
        row: &Connection,
        began: Option<Option<Timestamp>>,
    ) {
        let opened = began.is_some();
        let spans = self.connections.entry(key).or_default();
        if spans.is_empty() {
            // Nearly all ends are used once; a vector that grows by itself starts with room for four.
            spans.reserve_exact(1);
        }
        if opened || spans.is_empty() {
            let nought = (row.sent.map(|_| Bytes(0)), row.received.map(|_| Bytes(0)));
            let known = self.before.get(&key).copied();
            let last = if opened { nought } else { known.unwrap_or((row.sent, row.received)) };
            let mut span = ConnectionSpan::begin(key, row.direction, opened, last);
            span.began = began.flatten();
            spans.push(span);
        }
        if let Some(span) = spans.last_mut() {
            span.take(row);
        }
    }
}
