//! What may be wrong with a sample before it is kept. Values in, a verdict out.

use std::time::Duration;

use common::{
    clock::Timestamp,
    id::VmId,
    sample::{Sample, SampleId},
    wire::{BadMessage, types::v1},
};

/// 2000-01-01: a guest that shows an earlier time has not set its clock yet.
const EARLIEST: Timestamp = Timestamp::from_millis(946_684_800_000);
/// How far a guest's clock may be ahead of ours; windows correct what is less.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Why a message is refused: the name it is counted under, and what its agent is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) name: &'static str,
    pub(super) told: String,
}

impl Bad {
    pub(super) fn new(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, told: told.into() }
    }
}

/// What a sample is held against.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The machine the agent speaks for.
    pub(super) vm: VmId,
    /// The epoch of its hello; its spool may hold older ones.
    pub(super) epoch: u64,
    /// The last sample that is kept or waits to be.
    pub(super) last: Option<SampleId>,
}

/// Where a good sample stands among those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It follows, or needs nothing before it.
    Next,
    /// It is here already.
    Known,
    /// Others are missing before it.
    AfterHole,
}

impl Standing {
    /// Reads a sample and checks what it claims.
    pub(super) fn read(&self, wire: v1::Sample, now: Timestamp) -> Result<Sample, Bad> {
        let sample: Sample =
            wire.try_into().map_err(|bad: BadMessage| Bad::new("bad_sample", bad.to_string()))?;
        if sample.taken_at < EARLIEST {
            let told = "taken_at_unix_ms lies before the year 2000; set the guest's clock";
            return Err(Bad::new("sample_from_the_past", told));
        }
        if sample.taken_at > now + AHEAD {
            let told = "taken_at_unix_ms lies more than a day ahead; set the guest's clock";
            return Err(Bad::new("sample_from_the_future", told));
        }
        if sample.id.epoch > self.epoch {
            let told = format!("epoch {} is not the one of hello, {}", sample.id.epoch, self.epoch);
            return Err(Bad::new("epoch_of_the_future", told));
        }
        if sample.facts.as_ref().is_some_and(|facts| !is_of(facts, &self.vm)) {
            let told = format!("facts are another machine's than {}", self.vm);
            return Err(Bad::new("claims_another_machine", told));
        }
        Ok(sample)
    }

    /// Where a sample stands.
    pub(super) fn place(&self, id: SampleId) -> Place {
        match self.last {
            Some(last) if id <= last => Place::Known,
            Some(last) if id.epoch == last.epoch && id.sequence != last.sequence + 1 => {
                Place::AfterHole
            }
            Some(last) if id.epoch != last.epoch && id.sequence != 1 => Place::AfterHole,
            None if id.sequence != 1 => Place::AfterHole,
            _ => Place::Next,
        }
    }
}

/// Whether facts name this machine.
pub(super) fn is_of(facts: &common::sample::Facts, vm: &VmId) -> bool {
    facts.product_uuid.as_deref() == Some(vm.as_str())
}

#[cfg(test)]
mod tests {
    use common::{
        delta::{self, Stamp},
        sample::{Facts, Observation},
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn standing(last: Option<(u64, u64)>) -> Standing {
        let last = last.map(|(epoch, sequence)| SampleId { epoch, sequence });
        Standing { vm: "vm-1".parse().unwrap(), epoch: 2, last }
    }

    fn sample(epoch: u64, taken_at: Timestamp, uuid: &str) -> v1::Sample {
        let facts = Facts { product_uuid: Some(uuid.into()), ..Facts::default() };
        let observation = Observation { facts, ..Observation::default() };
        let id = SampleId { epoch, sequence: 1 };
        let stamp = Stamp { id, taken_at, ..Stamp::default() };
        (&delta::between(None, &observation, stamp)).into()
    }

    fn refused(wire: v1::Sample) -> &'static str {
        standing(None).read(wire, NOW).unwrap_err().name
    }

    #[test]
    fn a_sample_of_ones_own_machine_and_time_is_read() {
        assert!(standing(None).read(sample(2, NOW, "vm-1"), NOW).is_ok());
        let behind = Timestamp::from_millis(1_700_000_000_000);
        assert!(standing(None).read(sample(1, behind, "vm-1"), NOW).is_ok());
    }

    #[test]
    fn an_absurd_time_is_refused_by_name() {
        let ahead = NOW + Duration::from_secs(25 * 3600);
        assert_eq!(refused(sample(2, ahead, "vm-1")), "sample_from_the_future");
        let past = Timestamp::from_millis(1000);
        assert_eq!(refused(sample(2, past, "vm-1")), "sample_from_the_past");
    }

    #[test]
    fn anothers_machine_or_epoch_is_refused_by_name() {
        assert_eq!(refused(sample(2, NOW, "vm-10")), "claims_another_machine");
        assert_eq!(refused(sample(3, NOW, "vm-1")), "epoch_of_the_future");
    }

    #[test]
    fn a_sequence_shows_what_is_known_and_what_is_missing() {
        let id = |epoch, sequence| SampleId { epoch, sequence };
        let after = standing(Some((1, 5)));
        assert_eq!(after.place(id(1, 5)), Place::Known);
        assert_eq!(after.place(id(1, 6)), Place::Next);
        assert_eq!(after.place(id(1, 7)), Place::AfterHole);
        assert_eq!(after.place(id(2, 1)), Place::Next);
        assert_eq!(after.place(id(2, 2)), Place::AfterHole);
        assert_eq!(standing(None).place(id(2, 1)), Place::Next);
    }
}
