//! What is known of each machine's guest since we started: what its agent last saw, the mix it
//! runs, the list it is offered, and what it said of that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::{id::VmId, mix::EffectiveMix, signing::SignedList};
use tokio::sync::watch;

use super::{LastSeen, sightings::Sightings};
use crate::{
    repository::ListState,
    window::{Checkpoint, Seen},
};

/// A list as it waits for its agent.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) generation: u64,
    pub(super) signed: Arc<SignedList>,
}

/// All machines.
#[derive(Debug, Default)]
pub(super) struct Machines(Mutex<BTreeMap<VmId, Arc<Guest>>>);

/// The guest of one machine.
#[derive(Debug)]
pub(super) struct Guest {
    state: Mutex<State>,
    /// Goes up with every change; who waits looks again.
    changes: watch::Sender<u64>,
    offer: watch::Sender<Option<Offer>>,
}

#[derive(Debug, Default)]
struct State {
    attached: bool,
    /// A sample came since the agent attached.
    sampled: bool,
    last: Option<Sightings>,
    /// A change is missing: `last` is how it was, and no change can be added to it.
    lost: bool,
    mix: Option<EffectiveMix>,
    answer: Option<(u64, ListState)>,
}

impl Machines {
    pub(super) fn of(&self, vm: &VmId) -> Arc<Guest> {
        let mut machines = self.lock();
        Arc::clone(machines.entry(vm.clone()).or_default())
    }

    pub(super) fn known(&self, vm: &VmId) -> Option<Arc<Guest>> {
        self.lock().get(vm).cloned()
    }

    pub(super) fn forget(&self, vm: &VmId) {
        self.lock().remove(vm);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, Arc<Guest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            offer: watch::Sender::new(None),
        }
    }
}

impl Guest {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
        result
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Hears of what is offered from now on; what is offered already counts as new.
    pub(super) fn offers(&self) -> watch::Receiver<Option<Offer>> {
        let mut offers = self.offer.subscribe();
        offers.mark_changed();
        offers
    }

    pub(super) fn attach(&self, mix: EffectiveMix) {
        self.change(|state| {
            (state.attached, state.sampled) = (true, false);
            state.mix = Some(mix);
        });
    }

    pub(super) fn detach(&self) {
        self.change(|state| (state.attached, state.sampled) = (false, false));
    }

    /// Takes a sample in. `follows`: nothing is missing between it and the one before.
    pub(super) fn observe(&self, seen: &Seen, follows: bool) {
        let sample = &seen.sample;
        self.change(|state| {
            state.lost = !sample.full && (state.lost || !follows);
            if let Some(mix) = &sample.mix {
                state.mix = Some(mix.clone());
            }
            if state.lost {
                return;
            }
            if sample.full {
                state.last = Some(Sightings::begin(seen));
            } else if state.last.as_mut().is_none_or(|last| !last.add(seen)) {
                state.last = None;
            }
            state.sampled |= state.last.is_some();
        });
    }

    /// Goes on from what a window was committed with. What is seen stays the same.
    pub(super) fn rest_on(&self, checkpoint: &Checkpoint) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &mut state.last {
            last.rest_on(checkpoint);
        }
    }

    /// A message is lost that may have been a change.
    pub(super) fn lose(&self) {
        self.change(|state| state.lost = true);
    }

    /// Whether the next change can be added to what is known.
    pub(super) fn has_base(&self) -> bool {
        self.look(|state| state.last.is_some() && !state.lost)
    }

    pub(super) fn last_seen(&self) -> Option<LastSeen> {
        self.look(State::last_seen)
    }

    /// What was seen, once the agent is attached and its first sample is here.
    pub(super) fn seen_attached(&self) -> Option<LastSeen> {
        self.look(|state| state.last_seen().filter(|_| state.attached && state.sampled))
    }

    /// The mix that runs, if it is that generation's.
    pub(super) fn effective(&self, generation: u64) -> Option<EffectiveMix> {
        self.look(|state| state.mix.clone().filter(|mix| mix.generation == generation))
    }

    /// What the agent said of that generation since it was offered.
    pub(super) fn answer(&self, generation: u64) -> Option<ListState> {
        let of_this =
            |(answered, state): &(u64, ListState)| (*answered == generation).then(|| state.clone());
        self.look(|state| state.answer.as_ref().and_then(of_this))
    }

    pub(super) fn note_mix(&self, mix: EffectiveMix) {
        self.change(|state| state.mix = Some(mix));
    }

    pub(super) fn note_answer(&self, generation: u64, answer: ListState) {
        self.change(|state| state.answer = Some((generation, answer)));
    }

    pub(super) fn offer(self: &Arc<Self>, offer: Offer) -> Offered {
        let generation = offer.generation;
        self.change(|state| state.answer = None);
        self.offer.send_replace(Some(offer));
        Offered { guest: Arc::clone(self), generation }
    }
}

impl State {
    fn last_seen(&self) -> Option<LastSeen> {
        self.last.as_ref().map(Sightings::last_seen)
    }
}

/// A list stands offered for as long as this lives: nobody waits for it afterwards, so nobody
/// shall apply it afterwards.
#[derive(Debug)]
pub(super) struct Offered {
    guest: Arc<Guest>,
    generation: u64,
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.guest.offer.send_if_modified(|offer| {
            let is_ours = offer.as_ref().is_some_and(|offer| offer.generation == self.generation);
            if is_ours {
                *offer = None;
            }
            is_ours
        });
    }
}

#[cfg(test)]
mod tests {
    use common::{
        clock::Timestamp,
        delta::{self, Stamp},
        sample::{Observation, Sample, SampleId, Service, ServiceState, Supervisor},
    };

    use super::*;

    fn looks() -> (Observation, Observation) {
        let service = Service {
            supervisor: Supervisor::Agent,
            state: ServiceState::Active,
            enabled: true,
            main_pid: None,
        };
        let after = [("a".to_owned(), service)].into();
        (Observation::default(), Observation { services: after, ..Observation::default() })
    }

    fn stamp(sequence: u64) -> Stamp {
        Stamp { id: SampleId { epoch: 1, sequence }, ..Stamp::default() }
    }

    fn seen(sample: Sample) -> Seen {
        let (agent, vm) = ("agent-1".parse().unwrap(), "vm-1".parse().unwrap());
        Seen { agent, vm, sample: sample.into(), received_at: Timestamp::from_millis(5) }
    }

    #[test]
    fn what_was_last_seen_follows_the_changes() {
        let (before, after) = looks();
        let guest = Guest::default();
        guest.observe(&seen(delta::between(None, &before, stamp(1))), true);
        guest.observe(&seen(delta::between(Some(&before), &after, stamp(2))), true);
        assert_eq!(guest.last_seen().unwrap().observation, after);
    }

    #[test]
    fn a_change_after_a_hole_is_not_added_to_what_is_old() {
        let (before, after) = looks();
        let guest = Guest::default();
        guest.observe(&seen(delta::between(None, &before, stamp(1))), true);
        guest.observe(&seen(delta::between(Some(&before), &after, stamp(3))), false);
        assert_eq!(guest.last_seen().unwrap().observation, before);
        assert!(!guest.has_base());
        guest.observe(&seen(delta::between(None, &after, stamp(4))), true);
        assert_eq!(guest.last_seen().unwrap().observation, after);
    }

    #[test]
    fn a_change_of_what_another_agent_saw_is_no_base() {
        let (before, after) = looks();
        let guest = Guest::default();
        guest.observe(&seen(delta::between(None, &before, stamp(1))), true);
        let other = "agent-2".parse().unwrap();
        let change = seen(delta::between(Some(&before), &after, stamp(2)));
        guest.observe(&Seen { agent: other, ..change }, true);
        assert!(!guest.has_base());
    }

    #[test]
    fn an_offer_ends_with_the_one_who_waits_for_it() {
        let guest = Arc::new(Guest::default());
        let signed = SignedList { list: vec![], signature: vec![], key_id: String::new() };
        let offers = guest.offers();
        let offered = guest.offer(Offer { generation: 2, signed: Arc::new(signed) });
        assert!(offers.borrow().is_some());
        drop(offered);
        assert!(offers.borrow().is_none());
    }
}
