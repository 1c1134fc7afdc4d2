//! The world: machines and what runs on them. Faults are told to it beforehand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use aggregator::hypervisor::{Allocation, Power};
use common::{
    clock::Timestamp,
    id::{AppName, NetworkId, PlanId, VmId},
    list::ConfigurationList,
    mix::{ApplicationMix, EffectiveMix, Setup},
    units::{Bytes, Millicores},
};

/// A machine's id.
#[must_use]
pub fn vm(name: &str) -> VmId {
    name.parse().unwrap()
}

/// An application's name.
#[must_use]
pub fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

/// One machine, and its guest.
#[derive(Debug, Clone)]
pub struct SimMachine {
    /// Whether it runs.
    pub power: Power,
    /// What it is given.
    pub allocation: Allocation,
    /// The network it is cut off in; `None` for production.
    pub isolated_in: Option<NetworkId>,
    /// Its production link is up.
    pub is_plugged: bool,
    /// What it runs.
    pub mix: EffectiveMix,
    /// When it last came to run.
    pub booted_at: Timestamp,
    /// The machine it was cloned from.
    pub cloned_from: Option<VmId>,
    /// The plan it was cloned for.
    pub plan: Option<PlanId>,
    /// Labels at the vendor's.
    pub labels: BTreeSet<String>,
    /// The last octet of its address.
    pub address: u8,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It is refused, and nothing happens.
    Refuse,
    /// It does not arrive.
    Silence,
    /// It is done, and the reply is lost.
    LoseReply,
    /// It is done after a while.
    Stall(Duration),
    /// For a list: it is taken after a while, when nobody waits for it any more.
    TakeLate(Duration),
}

/// A call that goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which call, such as `clone_vm`.
    pub call: &'static str,
    /// Only for this machine.
    pub vm: Option<VmId>,
    /// What happens.
    pub how: How,
    /// How many such calls pass before.
    pub after: u32,
    /// How often.
    pub times: u32,
}

/// Something that was done to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Which call.
    pub call: &'static str,
    /// To which machine.
    pub vm: VmId,
    /// For a list: its generation.
    pub generation: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) machines: BTreeMap<VmId, SimMachine>,
    pub(super) deeds: Vec<Deed>,
    pub(super) faults: Vec<Fault>,
    /// Lists that are taken later.
    pub(super) late: Vec<(Timestamp, ConfigurationList)>,
    /// Applications whose health check fails wherever they run, and from when on.
    pub(super) sick: BTreeMap<AppName, Timestamp>,
    /// Machines whose agents say nothing.
    pub(super) away: BTreeSet<VmId>,
    /// Machines in whose last window something was killed for want of memory.
    pub(super) killed: BTreeMap<VmId, u64>,
    /// Who calls whom, on which port.
    pub(super) calls: Vec<(AppName, AppName, u16)>,
    pub(super) probes: Vec<(u64, u64)>,
    pub(super) forgotten: BTreeSet<VmId>,
    pub(super) is_reachable: bool,
}

/// The world.
#[derive(Debug)]
pub struct World(Mutex<State>);

impl Default for World {
    fn default() -> Self {
        Self(Mutex::new(State { is_reachable: true, ..State::default() }))
    }
}

impl World {
    /// `web` calls `api`, `api` calls `store`, `report` runs alone, `idle` runs a clock.
    #[must_use]
    pub fn fleet() -> Self {
        let world = Self::default();
        for (place, name) in ["web", "api", "store", "report", "idle"].into_iter().enumerate() {
            world.add(name, u8::try_from(place + 11).unwrap());
        }
        world.state().calls =
            vec![(app("web"), app("api"), 8080), (app("api"), app("store"), 5432)];
        world
    }

    fn add(&self, name: &str, address: u8) {
        let applications = ApplicationMix([(app(name), Setup::default())].into());
        let mix = EffectiveMix { applications, ..EffectiveMix::default() };
        let machine = SimMachine {
            power: Power::On,
            allocation: Allocation {
                cpu: Some(Millicores(1000)),
                memory: Some(Bytes::mebi(256)),
                storage: None,
            },
            isolated_in: None,
            is_plugged: true,
            mix,
            booted_at: Timestamp::default(),
            cloned_from: None,
            plan: None,
            labels: BTreeSet::new(),
            address,
        };
        self.state().machines.insert(vm(name), machine);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// All that a way back has to lead back to, as text: mixes, limits, power, links and clones.
    #[must_use]
    pub fn picture(&self) -> String {
        let mut picture = String::new();
        for (id, machine) in &self.state().machines {
            let SimMachine { power, allocation, isolated_in, is_plugged, cloned_from, .. } =
                machine;
            let mix: Vec<_> = machine.mix.applications.0.iter().collect();
            writeln!(
                picture,
                "{id}: {power:?} {allocation:?} {isolated_in:?} {is_plugged} {cloned_from:?} {mix:?}"
            )
            .unwrap();
        }
        picture
    }

    /// All that was done to it.
    #[must_use]
    pub fn deeds(&self) -> Vec<Deed> {
        self.state().deeds.clone()
    }

    /// Machines that were cloned and are still there.
    #[must_use]
    pub fn clones(&self) -> Vec<VmId> {
        let state = self.state();
        let clones = state.machines.iter().filter(|(_, machine)| machine.cloned_from.is_some());
        clones.map(|(id, _)| id.clone()).collect()
    }

    /// One machine.
    #[must_use]
    pub fn machine(&self, vm: &VmId) -> Option<SimMachine> {
        self.state().machines.get(vm).cloned()
    }

    /// Changes one machine, as somebody else does.
    pub fn meddle(&self, vm: &VmId, how: impl FnOnce(&mut SimMachine)) {
        how(self.state().machines.get_mut(vm).unwrap());
    }

    /// Has a call go wrong.
    pub fn fail(&self, call: &'static str, how: How) {
        self.fail_for(call, None, how, 1);
    }

    /// Has calls for one machine go wrong.
    pub fn fail_for(&self, call: &'static str, vm: Option<VmId>, how: How, times: u32) {
        self.state().faults.push(Fault { call, vm, how, after: 0, times });
    }

    /// Has calls go wrong once others have passed.
    pub fn fail_later(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// All goes right from now on.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.sick.clear();
        state.away.clear();
        state.is_reachable = true;
    }

    /// The health check of an application fails from then on, wherever it runs.
    pub fn sicken(&self, application: &str, from: Timestamp) {
        self.state().sick.insert(app(application), from);
    }

    /// The agent of a machine says nothing any more, or speaks again.
    pub fn silence(&self, vm: &VmId, is_away: bool) {
        let mut state = self.state();
        if is_away {
            state.away.insert(vm.clone())
        } else {
            state.away.remove(vm)
        };
    }

    /// Something in a machine is killed for want of memory.
    pub fn kill_in(&self, vm: &VmId) {
        *self.state().killed.entry(vm.clone()).or_default() += 1;
    }

    /// Whether the hypervisor answers at all.
    pub fn set_reachable(&self, is_reachable: bool) {
        self.state().is_reachable = is_reachable;
    }

    /// Nobody calls this application any more.
    pub fn still(&self, server: &str) {
        self.state().calls.retain(|(_, called, _)| *called != app(server));
    }

    /// What the next probe of each target finds, as attempts and successes.
    pub fn set_probe(&self, attempts: u64, successes: u64) {
        self.state().probes = vec![(attempts, successes)];
    }

    /// What was on its way until now has arrived.
    pub fn settle(&self, now: Timestamp) {
        self.state().catch_up(now);
    }

    /// Machines whose agents are forgotten.
    #[must_use]
    pub fn forgotten(&self) -> BTreeSet<VmId> {
        self.state().forgotten.clone()
    }
}

impl State {
    /// What shall happen to a call.
    pub(super) fn fate(&mut self, call: &str, vm: &VmId) -> Option<How> {
        let fault = self.faults.iter_mut().find(|fault| {
            fault.call == call && fault.vm.as_ref().is_none_or(|of| of == vm) && fault.times > 0
        })?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.how.clone())
    }

    pub(super) fn note(&mut self, call: &'static str, vm: &VmId, generation: u64) {
        self.deeds.push(Deed { call, vm: vm.clone(), generation });
    }

    /// Lists whose time has come are taken.
    pub(super) fn catch_up(&mut self, now: Timestamp) {
        let (due, late) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Timestamp, ConfigurationList)> = due;
        for (at, list) in due {
            // What it says then is heard by nobody.
            drop(self.take_list(&list, at));
        }
    }

    /// What an agent does with a list: the mix that runs then, or why it took nothing of it, and
    /// whether it had begun.
    pub(super) fn take_list(
        &mut self,
        list: &ConfigurationList,
        now: Timestamp,
    ) -> Result<EffectiveMix, (String, bool)> {
        let sick: BTreeSet<AppName> = self
            .sick
            .iter()
            .filter(|(_, from)| **from <= now)
            .map(|(name, _)| name.clone())
            .collect();
        let Some(machine) = self.machines.get_mut(&list.vm).filter(|m| m.power == Power::On) else {
            return Err(("the machine does not run".into(), false));
        };
        if machine.mix.generation == list.generation {
            return Ok(machine.mix.clone());
        }
        if list.generation <= machine.mix.generation.max(machine.mix.attempted_generation) {
            return Err((format!("generation {} is not new", list.generation), false));
        }
        if list.expires_at < now {
            return Err(("it has expired".into(), false));
        }
        let mix = list.resolve(&machine.mix.applications).map_err(|e| (e.to_string(), false))?;
        machine.mix.attempted_generation = list.generation;
        if let Some(name) = mix.0.keys().find(|name| sick.contains(*name)) {
            return Err((format!("{name} is not healthy"), true));
        }
        machine.mix.applications = mix;
        machine.mix.generation = list.generation;
        self.note("apply", &list.vm, list.generation);
        Ok(self.machines[&list.vm].mix.clone())
    }
}
