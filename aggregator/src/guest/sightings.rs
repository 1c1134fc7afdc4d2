//! What an agent saw last, without a table of its own: the table that its last window was committed
//! with, which the windows hold too, and the samples since, which wait in them.

use std::{mem, sync::Arc};

use common::{
    clock::Timestamp,
    delta,
    id::AgentId,
    sample::{Observation, Sample},
};

use super::LastSeen;
use crate::window::{Checkpoint, Seen};

/// Samples that are held at most, should no window be committed for long.
const MOST_SINCE: usize = 1024;

/// The samples of one agent from a full one on.
#[derive(Debug)]
pub(super) struct Sightings {
    agent: AgentId,
    received_at: Timestamp,
    base: Arc<Observation>,
    since: Vec<Arc<Sample>>,
}

impl Sightings {
    /// From a full sample on.
    pub(super) fn begin(full: &Seen) -> Self {
        Self {
            agent: full.agent.clone(),
            received_at: full.received_at,
            base: Arc::default(),
            since: vec![Arc::clone(&full.sample)],
        }
    }

    /// Adds the sample that follows; `false` if it amends what another agent saw.
    pub(super) fn add(&mut self, seen: &Seen) -> bool {
        if seen.agent != self.agent {
            return false;
        }
        self.received_at = seen.received_at;
        self.since.push(Arc::clone(&seen.sample));
        if self.since.len() > MOST_SINCE {
            let base = Arc::make_mut(&mut self.base);
            mem::take(&mut self.since).iter().for_each(|sample| delta::amend(base, sample));
        }
        true
    }

    /// Lets go of the samples that a checkpoint holds. One that ends elsewhere changes nothing.
    pub(super) fn rest_on(&mut self, checkpoint: &Checkpoint) {
        if checkpoint.agent != self.agent {
            return;
        }
        let last = self.since.binary_search_by_key(&checkpoint.last_sealed, |sample| sample.id);
        if let Ok(last) = last {
            self.since.drain(..=last);
            self.since.shrink_to_fit();
            self.base = Arc::clone(&checkpoint.observation);
        }
    }

    /// What was seen with the last sample.
    pub(super) fn last_seen(&self) -> LastSeen {
        let mut observation = Observation::clone(&self.base);
        self.since.iter().for_each(|sample| delta::amend(&mut observation, sample));
        LastSeen { received_at: self.received_at, observation }
    }
}

#[cfg(test)]
mod tests {
    use common::{delta::Stamp, sample::SampleId};

    use super::*;

    fn look(hostname: &str) -> Observation {
        let mut look = Observation::default();
        look.facts.hostname = hostname.to_owned();
        look
    }

    fn seen(before: Option<&Observation>, now: &Observation, sequence: u64) -> Seen {
        let stamp = Stamp { id: SampleId { epoch: 1, sequence }, ..Stamp::default() };
        Seen {
            agent: "agent-1".parse().unwrap(),
            vm: "vm-1".parse().unwrap(),
            sample: delta::between(before, now, stamp).into(),
            received_at: Timestamp::from_millis(sequence),
        }
    }

    fn checkpoint(sequence: u64, observation: Observation) -> Checkpoint {
        Checkpoint {
            vm: "vm-1".parse().unwrap(),
            agent: "agent-1".parse().unwrap(),
            last_sealed: SampleId { epoch: 1, sequence },
            received_at: Timestamp::from_millis(sequence),
            observation: observation.into(),
        }
    }

    #[test]
    fn a_committed_window_changes_nothing_of_what_is_seen() {
        let (first, second, third) = (look("a"), look("b"), look("c"));
        let mut sightings = Sightings::begin(&seen(None, &first, 1));
        assert!(sightings.add(&seen(Some(&first), &second, 2)));
        assert!(sightings.add(&seen(Some(&second), &third, 3)));

        sightings.rest_on(&checkpoint(2, second));

        assert_eq!(sightings.since.len(), 1);
        assert_eq!(sightings.last_seen().observation, third);
    }

    #[test]
    fn a_checkpoint_of_another_time_is_left_alone() {
        let mut sightings = Sightings::begin(&seen(None, &look("a"), 5));
        sightings.rest_on(&checkpoint(4, look("b")));
        assert_eq!(sightings.last_seen().observation, look("a"));
    }

    #[test]
    fn without_windows_the_samples_do_not_pile_up() {
        let look = look("a");
        let mut sightings = Sightings::begin(&seen(None, &look, 1));
        for sequence in 2..3000 {
            assert!(sightings.add(&seen(Some(&look), &look, sequence)));
        }
        assert!(sightings.since.len() <= MOST_SINCE);
        assert_eq!(sightings.last_seen().observation, look);
    }
}
