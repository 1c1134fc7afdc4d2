//! The samples of one agent: in order, each once, held until their window closes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use common::{
    clock::Timestamp,
    delta,
    id::{AgentId, VmId},
    sample::{ConnectionKey, Observation, Sample, SampleId},
    sketch::Sketch,
    wire::MOST_ROWS,
};

use super::{
    Checkpoint, Seen, Timing,
    clock::GuestClock,
    flows,
    guest::{Change, GuestWindow},
};

/// What one agent sent that is in no closed window, and what it had seen before.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    agent: AgentId,
    vm: VmId,
    clock: GuestClock,
    /// What the agent saw with the last sample of a closed window; `None` while it is not known,
    /// from a hole on up to the next full sample.
    state: Option<Arc<Observation>>,
    /// The last sample that lies in a closed window.
    sealed: Option<Sealed>,
    /// When the last sample of a closed window was taken.
    previous_at: Option<Timestamp>,
    held: BTreeMap<SampleId, Held>,
    duplicates: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sealed {
    id: SampleId,
    received_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Held {
    sample: Arc<Sample>,
    received_at: Timestamp,
    taken_at: Timestamp,
}

impl Stream {
    pub(super) fn new(first: &Seen) -> Self {
        Self {
            agent: first.agent.clone(),
            vm: first.vm.clone(),
            clock: GuestClock::default(),
            state: None,
            sealed: None,
            previous_at: None,
            held: BTreeMap::new(),
            duplicates: 0,
        }
    }

    pub(super) fn resume(checkpoint: Checkpoint) -> Self {
        let Checkpoint { vm, agent, last_sealed, received_at, observation } = checkpoint;
        Self {
            agent,
            vm,
            clock: GuestClock::default(),
            state: Some(observation),
            sealed: Some(Sealed { id: last_sealed, received_at }),
            previous_at: Some(received_at),
            held: BTreeMap::new(),
            duplicates: 0,
        }
    }

    pub(super) const fn vm(&self) -> &VmId {
        &self.vm
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn has_before(&self, to: Timestamp) -> bool {
        self.held.first_key_value().is_some_and(|(_, held)| held.taken_at < to)
    }

    /// Holds a sample and says when it was taken, on our clock; `None` if it is known already.
    pub(super) fn take(&mut self, seen: Seen, timing: Timing) -> Option<Timestamp> {
        let Seen { sample, received_at, .. } = seen;
        let is_sealed = self.sealed.is_some_and(|sealed| sample.id <= sealed.id);
        if is_sealed || self.held.contains_key(&sample.id) {
            self.duplicates += 1;
            return None;
        }
        let taken_at = self.clock.read(sample.taken_at, received_at, timing.period);
        self.held.insert(sample.id, Held { sample, received_at, taken_at });
        Some(taken_at)
    }

    /// Takes out what lies before `to`: what happened from `from` on, and how far it goes if
    /// anything was taken out.
    pub(super) fn cut(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        due: u64,
        timing: Timing,
    ) -> (GuestWindow, Option<Checkpoint>) {
        let mut guest = GuestWindow::opened(self.agent.clone(), due, self.state.as_deref());
        guest.duplicates = mem::take(&mut self.duplicates);
        let mut took_any = false;
        // A prefix, never a choice: what is sealed is all that lies before one sample.
        while let Some(first) = self.held.first_entry().filter(|held| held.get().taken_at < to) {
            let held = first.remove();
            took_any = true;
            self.apply(&held, from, timing, &mut guest);
        }
        guest.close(self.state.as_deref());
        let checkpoint = self.checkpoint().filter(|_| took_any);
        (guest, checkpoint)
    }

    fn apply(&mut self, held: &Held, from: Timestamp, timing: Timing, guest: &mut GuestWindow) {
        let Held { sample, received_at, taken_at } = held;
        guest.gaps.extend(sample.gaps.iter().cloned());
        if !self.follows(sample) {
            guest.note_hole(sample.id);
            self.state = None;
        }
        let opened = opened(self.state.as_deref(), sample);
        let is_new_epoch = self.sealed.is_some_and(|sealed| sealed.id.epoch != sample.id.epoch);
        let flows = self.state.as_deref().map(|state| flows::step(state, sample, is_new_epoch));
        // The first change after a commit is one of a copy: the checkpoint stays as it is.
        let was = self
            .state
            .as_mut()
            .map(Arc::make_mut)
            .map(|state| (mem::take(&mut state.counters), mem::take(&mut state.applications)));
        let since = self.previous_at.map(|previous| taken_at.since(previous));
        self.sealed = Some(Sealed { id: sample.id, received_at: *received_at });
        self.previous_at = Some(*taken_at);
        if sample.full {
            self.state = Some(Arc::default());
        }
        let Some(state) = &mut self.state else {
            guest.unusable += 1;
            return;
        };
        let state = Arc::make_mut(state);
        delta::amend(state, sample);
        if state.connections.len().max(state.flows.len()) > MOST_ROWS {
            // No sample could carry it whole: it grew by changes alone, and would go on to.
            guest.unusable += 1;
            self.state = None;
            return;
        }
        if *taken_at < from {
            guest.note_late(Some(state));
            return;
        }
        // What lies beyond three periods was not watched, whatever is seen at its end.
        let watched = since.filter(|_| was.is_some()).map(|since| since.min(timing.period * 3));
        let flows = flows.as_ref().filter(|step| step.coverage.is_some());
        guest.take(&Change {
            was: was.as_ref(),
            now: state,
            flows,
            opened: &opened,
            at: *taken_at,
            since,
            watched,
        });
        // They are whole in every sample and in the window by now: to hold them for every guest
        // from window to window would be for nothing.
        for used in state.applications.values_mut() {
            used.cpu_quantiles = Sketch::default();
            used.memory_quantiles = Sketch::default();
        }
    }

    /// Whether a sample amends what the one before it left.
    fn follows(&self, sample: &Sample) -> bool {
        let next = |last: Sealed| {
            last.id.epoch == sample.id.epoch && last.id.sequence + 1 == sample.id.sequence
        };
        sample.full || self.sealed.is_some_and(next)
    }

    /// While the state is not known nothing is sealed: the samples stay until a full one comes.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let Sealed { id, received_at } = self.sealed?;
        Some(Checkpoint {
            vm: self.vm.clone(),
            agent: self.agent.clone(),
            last_sealed: id,
            received_at,
            observation: self.state.clone()?,
        })
    }
}

/// The connections that a sample shows for the first time. With nothing known before, none is:
/// they may be old.
fn opened(state: Option<&Observation>, sample: &Sample) -> BTreeSet<ConnectionKey> {
    let Some(state) = state else { return BTreeSet::new() };
    let is_new = |key: &ConnectionKey, first_seen: Timestamp| match state.connections.get(key) {
        None => true,
        // In a full sample an agent that started anew sees all for the first time.
        Some(known) => !sample.full && known.first_seen < first_seen,
    };
    let rows = sample.connections.upserted.iter();
    rows.filter(|(key, row)| is_new(key, row.first_seen)).map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::sample::{Direction, Flow, FlowKey, Protocol, TableDelta};

    use super::*;

    fn seen(sequence: u64, edges: std::ops::Range<u32>) -> Seen {
        let upserted = edges.map(|edge| {
            let key = FlowKey {
                protocol: Protocol::Tcp,
                direction: Direction::Inbound,
                local: "10.0.0.1".parse().unwrap(),
                remote: std::net::Ipv4Addr::from(edge).into(),
                port: 80,
                application: None,
            };
            (key, Flow { opened: 1, ..Flow::default() })
        });
        let at = Timestamp::from_millis(sequence * 1000);
        let sample = Sample {
            id: SampleId { epoch: 1, sequence },
            taken_at: at,
            full: sequence == 1,
            flows: TableDelta { upserted: upserted.collect(), removed: Vec::new() },
            ..Sample::default()
        };
        let (agent, vm) = ("a".parse().unwrap(), "v".parse().unwrap());
        Seen { agent, vm, sample: sample.into(), received_at: at }
    }

    #[test]
    fn a_table_that_grew_beyond_what_a_sample_may_carry_is_not_known_any_more() {
        let timing = Timing {
            window: Duration::from_secs(60),
            period: Duration::from_secs(1),
            lateness: Duration::ZERO,
        };
        let first = seen(1, 0..40_000);
        let mut stream = Stream::new(&first);
        let samples = [first, seen(2, 40_000..60_000), seen(3, 60_000..80_000), seen(4, 0..1)];
        for sample in samples {
            stream.take(sample, timing);
        }
        let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(60_000));
        let (guest, checkpoint) = stream.cut((from, to), 60, timing);
        assert_eq!((guest.came, guest.unusable), (2, 2));
        assert!(checkpoint.is_none() && stream.state.is_none());
    }
}
