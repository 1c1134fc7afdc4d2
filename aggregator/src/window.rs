//! Cuts what the agents sent into sampling windows, closed once and then immutable.
//!
//! ```text
//!  Seen ─> stream of one agent ─> held until its window closes ─> SamplingWindow
//!          (in order, each once,                                   (what changed in it, and
//!           on our clock)                                           a checkpoint per agent)
//! ```
//!
//! Windows are aligned to 1970 and follow each other without a hole while samples come. A sample
//! belongs to the window it was *taken* in, on the aggregator's clock: the guest's clock corrected
//! by what it is seen to be off (see `clock`). Receipt alone would put an hour that an agent
//! spent in its spool into one window; the guest's clock alone would lose a guest whose clock is
//! wrong. A sample that comes when its window is closed is late: it is taken in for what it says
//! of the present and counted, and its traffic goes into no window.
//!
//! What is in a window is a prefix of each agent's samples, so a window and the end of its samples
//! can be committed as one. Nothing here reads a clock or keeps anything but in memory.

mod clock;
mod flows;
mod guest;
mod operations;
mod room;
mod shared;
mod spans;
mod starts;
mod states;
mod stream;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AgentId, VmId, WindowId},
    sample::{Observation, Sample, SampleId},
};
use serde::{Deserialize, Serialize};

use self::stream::Stream;
pub use self::{
    guest::GuestWindow,
    operations::{OperationKey, OperationKind, Operations},
    room::{EDGES_KEPT, LeftOut},
    spans::{ApplicationSpan, ConnectionSpan, CounterSpan},
    starts::{MOMENTS_KEPT, Starts},
    states::States,
};
use crate::{
    hypervisor::{Inventory, Telemetry},
    policy::Policy,
    storage::Survey,
};

/// A sample, and whence and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whose.
    pub agent: AgentId,
    /// Of which machine: the one its certificate is bound to.
    pub vm: VmId,
    /// The sample, which the hub holds too.
    pub sample: Arc<Sample>,
    /// When it reached us.
    pub received_at: Timestamp,
}

/// What an agent had seen when its last window was committed: the base its next sample amends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Of which machine.
    pub vm: VmId,
    /// Whose.
    pub agent: AgentId,
    /// The last sample of a committed window.
    pub last_sealed: SampleId,
    /// When it reached us.
    pub received_at: Timestamp,
    /// What the agent had seen with it.
    #[serde(with = "shared")]
    pub observation: Arc<Observation>,
}

/// What hypervisor and storage said at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// When, on the aggregator's clock.
    pub at: Timestamp,
    /// Running totals by machine.
    pub telemetry: BTreeMap<VmId, Telemetry>,
    /// What each array that answered said, by its name.
    pub arrays: BTreeMap<String, Survey>,
}

/// How long windows are, and what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Length of a window.
    pub window: Duration,
    /// Time between two samples of an agent.
    pub period: Duration,
    /// How long after its end a window waits for its last samples.
    pub lateness: Duration,
}

impl Timing {
    /// What the policy says. Two sample periods are waited: one that a sample may be on its way,
    /// one that an agent may be behind; never more than a quarter of a window.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let (window, period) = (policy.window(), policy.sample_period());
        Self { window, period, lateness: (period * 2).min(window / 4) }
    }
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accepted {
    /// It waits for its window to close.
    Taken,
    /// It is known already and was left out.
    Duplicate,
    /// Its window is closed: it counts as late in the next one.
    Late,
}

/// One closed window: all that reasoning knows of that time.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingWindow {
    /// Its id.
    pub id: WindowId,
    /// When it opened.
    pub from: Timestamp,
    /// When it closed.
    pub to: Timestamp,
    /// What each machine with an agent did in it.
    pub guests: BTreeMap<VmId, GuestWindow>,
    /// What was there at its end; `None` if the hypervisor never answered.
    pub inventory: Option<Inventory>,
    /// The hypervisor's looks from its start to its end, in order: the last one at or before the
    /// start, if there was one, and all in it.
    pub looks: Vec<Look>,
    /// Per agent with samples in it: how far it goes. To be committed with it.
    pub checkpoints: Vec<Checkpoint>,
}

impl SamplingWindow {
    /// Samples in it, late ones left out.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.guests.values().map(|guest| guest.came).sum()
    }

    /// Share of the samples due that came, by machine.
    #[must_use]
    pub fn coverage(&self) -> BTreeMap<VmId, f64> {
        self.guests.iter().map(|(vm, guest)| (vm.clone(), guest.coverage())).collect()
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// The windows to come: what is held until they close.
#[derive(Debug, Clone)]
pub struct Windows {
    timing: Timing,
    /// Start of the window that closes next; `None` before the first sample or look.
    next: Option<Timestamp>,
    streams: BTreeMap<AgentId, Stream>,
    inventory: Option<Inventory>,
    looks: VecDeque<Look>,
}

impl Windows {
    /// With nothing in them.
    #[must_use]
    pub const fn new(timing: Timing) -> Self {
        Self {
            timing,
            next: None,
            streams: BTreeMap::new(),
            inventory: None,
            looks: VecDeque::new(),
        }
    }

    /// As they were before a restart: from the checkpoints of the last committed windows, the end
    /// of the last one, and the samples that are kept but in no committed window, in any order.
    #[must_use]
    pub fn restore(
        timing: Timing,
        checkpoints: impl IntoIterator<Item = Checkpoint>,
        closed_to: Option<Timestamp>,
        kept: impl IntoIterator<Item = Seen>,
    ) -> Self {
        let mut windows = Self::new(timing);
        windows.next = closed_to;
        for checkpoint in checkpoints {
            windows.streams.insert(checkpoint.agent.clone(), Stream::resume(checkpoint));
        }
        let mut kept: Vec<Seen> = kept.into_iter().collect();
        kept.sort_by(|a, b| (&a.agent, a.sample.id).cmp(&(&b.agent, b.sample.id)));
        for seen in kept {
            windows.accept(seen);
        }
        windows
    }

    /// Takes a sample in. One that is known already, or lies before the end of a committed
    /// window, changes nothing.
    pub fn accept(&mut self, seen: Seen) -> Accepted {
        let stream = self.streams.entry(seen.agent.clone()).or_insert_with(|| Stream::new(&seen));
        let Some(taken_at) = stream.take(seen, self.timing) else { return Accepted::Duplicate };
        match self.next {
            Some(next) if taken_at < next => Accepted::Late,
            Some(_) => Accepted::Taken,
            None => {
                self.next = Some(aligned(taken_at, self.timing.window));
                Accepted::Taken
            }
        }
    }

    /// Takes in what the hypervisor said. Looks that no window to come can use are let go.
    pub fn look(&mut self, look: Look, inventory: Inventory) {
        self.next.get_or_insert_with(|| aligned(look.at, self.timing.window));
        self.inventory = Some(inventory);
        let place = self.looks.partition_point(|known| known.at <= look.at);
        self.looks.insert(place, look);
        while self.looks.len() > LOOKS_HELD {
            self.looks.pop_front();
        }
    }

    /// Changes lengths; windows that are open take the new ones, committed ones keep theirs.
    pub const fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// When the next window may be closed; `None` before the first sample or look.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        Some(self.end()? + self.timing.lateness)
    }

    /// Closes the next window if it is over. To be asked again until it says `None`.
    ///
    /// A stretch that lies wholly in the past and that no sample speaks of, such as a time in
    /// which we were away, makes no windows: nobody looked, which is not the same as silence.
    pub fn close(&mut self, now: Timestamp) -> Option<SamplingWindow> {
        while self.is_blank(now)? {
            self.next = self.end();
        }
        if now < self.due_at()? {
            return None;
        }
        let (from, to) = (self.next?, self.end()?);
        self.forget_the_gone();
        let mut window = SamplingWindow {
            id: window_id(from),
            from,
            to,
            guests: BTreeMap::new(),
            inventory: self.inventory.clone(),
            looks: self.looks_of(from, to),
            checkpoints: Vec::new(),
        };
        let due = due(to.since(from), self.timing.period);
        for stream in self.streams.values_mut() {
            let (guest, checkpoint) = stream.cut((from, to), due, self.timing);
            window.checkpoints.extend(checkpoint);
            match window.guests.entry(stream.vm().clone()) {
                Entry::Vacant(place) => drop(place.insert(guest)),
                // An agent that enrolled anew left its former self behind: who says more, speaks.
                Entry::Occupied(mut place) if place.get().came < guest.came => {
                    place.insert(guest);
                }
                Entry::Occupied(_) => {}
            }
        }
        self.next = Some(to);
        Some(window)
    }

    /// End of the window that closes next. After a change of length, or a restart amid another
    /// length, the first window is what is left up to the next aligned moment.
    fn end(&self) -> Option<Timestamp> {
        Some(aligned(self.next?, self.timing.window) + self.timing.window)
    }

    fn is_blank(&self, now: Timestamp) -> Option<bool> {
        let to = self.end()?;
        let long_over = now >= to + self.timing.window + self.timing.lateness;
        Some(long_over && !self.streams.values().any(|stream| stream.has_before(to)))
    }

    /// Agents of machines that are no more are not waited for.
    fn forget_the_gone(&mut self) {
        let Some(inventory) = &self.inventory else { return };
        self.streams
            .retain(|_, stream| !stream.is_idle() || inventory.machines.contains_key(stream.vm()));
    }

    fn looks_of(&mut self, from: Timestamp, to: Timestamp) -> Vec<Look> {
        while self.looks.get(1).is_some_and(|second| second.at <= from) {
            self.looks.pop_front();
        }
        self.looks.iter().filter(|look| look.at <= to).cloned().collect()
    }
}

/// Looks that are held at most, so that a cycle that stands still does not fill the memory.
const LOOKS_HELD: usize = 4096;

fn aligned(at: Timestamp, window: Duration) -> Timestamp {
    let length = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
    Timestamp::from_millis(at.as_millis() / length * length)
}

/// Samples due in a time so long.
fn due(length: Duration, period: Duration) -> u64 {
    u64::try_from(length.as_millis() / period.as_millis().max(1)).unwrap_or(u64::MAX).max(1)
}

/// The id of the window that opened then.
#[expect(clippy::expect_used, reason = "a letter, a hyphen and digits are an id")]
fn window_id(from: Timestamp) -> WindowId {
    format!("w-{}", from.as_millis() / 1000).parse().expect("digits are an id")
}
