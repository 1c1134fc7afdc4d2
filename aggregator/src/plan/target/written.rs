//! The model as numbers: a bin for each machine that something may come to or leave, an item for each
//! set of applications that may leave, and what must not meet as marks.

use std::collections::{BTreeMap, BTreeSet};

use algorithms::packing::{Bin, End, Host, Item, Tie};
use common::{
    id::{AppName, HostId, VmId},
    units::Millicores,
};

use super::{
    super::{
        constraints::{Origin, Place},
        costs::{cost, present},
        model::Model,
    },
    Movable,
};
use crate::{
    hypervisor::Machine,
    inference::{Party, Standing},
};

/// What all preferences together may weigh, in cost units: they choose among equals only.
const PREFERENCE: f64 = 1e-4;
/// Cost of a busy edge per unit of distance; more than a preference, less than any machine.
const DISTANCE: f64 = 1e-3;

/// What each application costs that comes to a machine which runs nothing: more than it gains there by
/// being near to what it calls, and less than a machine. Who is filled so is the next to be emptied,
/// and one interruption more is made than it takes.
const UNUSED: f64 = 10.0 * DISTANCE;

/// So many times the cost of the whole fleet is what nobody pays.
const DEAREST: f64 = 10.0;

/// What must not meet on one machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark<'a> {
    Port(u16),
    Application(&'a AppName),
}

pub(super) struct Written<'m, 'a> {
    model: &'m Model<'a>,
    pub(super) machines: Vec<&'a VmId>,
    pub(super) index: BTreeMap<&'a VmId, usize>,
    pub(super) movables: Vec<Movable<'a>>,
    pub(super) items: Vec<Item>,
    pub(super) bins: Vec<Bin>,
    pub(super) hosts: Vec<Host>,
    pub(super) reach: Vec<Vec<bool>>,
    marks: BTreeMap<Mark<'a>, u32>,
    origins: BTreeMap<Vec<Origin<'a>>, usize>,
    places: BTreeMap<Place<'a>, usize>,
    /// One movable of each class of origins, and one machine of each class of places.
    likes: (Vec<usize>, Vec<&'a VmId>),
    /// How many machines run.
    running: u64,
    /// What leaving an application costs on a machine that shall be emptied: more than all else.
    dearest: f64,
    on: BTreeMap<&'a HostId, usize>,
}

impl<'m, 'a> Written<'m, 'a> {
    pub(super) fn new(model: &'m Model<'a>) -> Self {
        Self {
            model,
            machines: Vec::new(),
            index: BTreeMap::new(),
            movables: Vec::new(),
            items: Vec::new(),
            bins: Vec::new(),
            hosts: Vec::new(),
            reach: Vec::new(),
            marks: BTreeMap::new(),
            origins: BTreeMap::new(),
            places: BTreeMap::new(),
            likes: (Vec::new(), Vec::new()),
            running: model.running().count().max(1) as u64,
            dearest: dearest(model),
            on: BTreeMap::new(),
        }
    }

    pub(super) fn write(&mut self, ranks: &BTreeMap<&'a VmId, usize>) {
        for (vm, machine) in self.model.running() {
            let Ok((standing, _)) = self.model.candidate(vm) else { continue };
            let leaving = self.model.leaving(vm, standing);
            let carries = self.model.room(standing).is_some();
            if leaving.is_empty() && !carries {
                continue;
            }
            let bin = self.machines.len();
            self.machines.push(vm);
            self.index.insert(vm, bin);
            for applications in self.model.together(&leaving) {
                self.movables.push(Movable { applications, home: bin });
            }
            let rank = ranks.get(vm).copied().unwrap_or(ranks.len());
            let made = self.bin((vm, machine, standing), &leaving, rank);
            self.bins.push(made);
        }
        for at in 0..self.movables.len() {
            let made = self.item(at);
            self.items.push(made);
        }
        self.reach = self.reached();
        self.raise_hosts();
    }

    /// Which class of origins may go to which class of places.
    fn reached(&self) -> Vec<Vec<bool>> {
        let (origins, places) = &self.likes;
        let may = |movable: usize, to: &VmId| {
            let Movable { applications, home } = &self.movables[movable];
            let from = self.machines[*home];
            applications.iter().all(|name| self.model.bar(name, from, to).is_none())
        };
        let row = |like: &usize| places.iter().map(|to| may(*like, to)).collect();
        origins.iter().map(row).collect()
    }

    fn bin(
        &mut self,
        (vm, machine, standing): (&'a VmId, &'a Machine, &'a Standing),
        leaving: &[&'a AppName],
        rank: usize,
    ) -> Bin {
        let policy = self.model.situation.policy;
        let (moving, base) = self.model.moving_and_staying(standing, leaving);
        let capacity = self.model.usable(standing).unwrap_or_else(|| base.less(&base));
        // Peaks of its own applications that never met may exceed what it may carry.
        let mut whole = base.clone();
        whole.add(&moving);
        let fits = whole.fits(&capacity).is_ok();
        let gain = cost(policy, &machine.allocation) - policy.gain_per_disruption;
        let is_drained = self.model.is_drained(vm);
        let stays = (gain <= 0.0 && !is_drained) || self.model.emptiable(vm, standing).is_err();
        let (holds, excludes) = self.marks_that_stay(standing, leaving);
        let mix = standing.mix.as_ref();
        let is_unused = mix.is_some_and(|mix| mix.applications.0.is_empty());
        let unused = if is_unused { UNUSED } else { 0.0 };
        let preference = PREFERENCE * float(rank as u64) / float(self.running);
        Bin {
            capacity: capacity.row(),
            base: base.row(),
            fixed_cost: gain.max(0.0),
            unit_cost: Vec::new(),
            stays,
            accepts: fits && !is_drained && self.model.room(standing).is_some(),
            reluctance: if is_drained { self.dearest } else { preference + unused },
            class: self.place_of(vm, machine),
            host: self.host_of(machine),
            holds,
            excludes,
        }
    }

    fn item(&mut self, at: usize) -> Item {
        let Movable { applications, home } = &self.movables[at];
        let (applications, home) = (applications.clone(), *home);
        let vm = self.machines[home];
        let standing = self.model.standing(vm);
        let mut demand = self.model.buckets.level(Millicores(0), 0);
        let (mut holds, mut excludes, mut ties) = (Vec::new(), Vec::new(), Vec::new());
        for name in applications.iter().copied() {
            let need = standing.and_then(|standing| Model::need(standing, name));
            demand.add(&self.model.buckets.demand(&need.unwrap_or_default()));
            if let Some(standing) = standing {
                let (held, excluded) = self.marks_of(standing, name);
                holds.extend(held);
                excludes.extend(excluded);
            }
            ties.extend(self.ties(vm, name));
        }
        // What a machine runs once it does not run twice.
        excludes.extend(holds.iter().copied());
        let interruption = self.model.situation.policy.gain_per_disruption;
        Item {
            demand: demand.row(),
            home: Some(home),
            move_cost: interruption * float(applications.len() as u64),
            class: self.origin_of(at, vm, &applications),
            ties,
            holds,
            excludes,
        }
    }

    /// Marks an application brings: itself and its ports; and those it must not meet.
    fn marks_of(&mut self, standing: &'a Standing, name: &'a AppName) -> (Vec<u32>, Vec<u32>) {
        let catalogue = &self.model.situation.catalogue.0;
        let entry = catalogue.get(name);
        let served = entry.into_iter().flat_map(|entry| entry.serves.keys());
        let ports: BTreeSet<u16> =
            standing.listens.get(name).into_iter().flatten().chain(served).copied().collect();
        let mut holds = vec![self.mark(Mark::Application(name))];
        holds.extend(ports.into_iter().map(|port| self.mark(Mark::Port(port))));
        let shunned = self.model.shunned(name).into_iter();
        let excludes = shunned.map(|other| self.mark(Mark::Application(other))).collect();
        (holds, excludes)
    }

    fn marks_that_stay(
        &mut self,
        standing: &'a Standing,
        leaving: &[&'a AppName],
    ) -> (Vec<u32>, Vec<u32>) {
        let mix = standing.mix.iter().flat_map(|mix| mix.applications.0.keys());
        let there: BTreeSet<&AppName> =
            standing.listens.keys().chain(standing.needs.keys()).chain(mix).collect();
        let (mut holds, mut excludes) = (Vec::new(), Vec::new());
        for name in there.into_iter().filter(|name| !leaving.contains(name)) {
            let (held, excluded) = self.marks_of(standing, name);
            holds.extend(held);
            excludes.extend(excluded);
        }
        (holds, excludes)
    }

    fn mark(&mut self, mark: Mark<'a>) -> u32 {
        let next = u32::try_from(self.marks.len()).unwrap_or(u32::MAX);
        *self.marks.entry(mark).or_insert(next)
    }

    fn origin_of(&mut self, at: usize, vm: &VmId, applications: &[&'a AppName]) -> usize {
        let origins = applications.iter().map(|name| self.model.origin(vm, name)).collect();
        let next = self.origins.len();
        let class = *self.origins.entry(origins).or_insert(next);
        if class == next {
            self.likes.0.push(at);
        }
        class
    }

    fn place_of(&mut self, vm: &'a VmId, machine: &'a Machine) -> usize {
        let next = self.places.len();
        let class = *self.places.entry(self.model.place(vm, machine)).or_insert(next);
        if class == next {
            self.likes.1.push(vm);
        }
        class
    }

    fn host_of(&mut self, machine: &'a Machine) -> Option<usize> {
        let host = self.model.situation.inventory.hosts.get(&machine.host)?;
        let next = self.hosts.len();
        let index = *self.on.entry(&machine.host).or_insert(next);
        if index == next {
            let mut capacity = self.model.buckets.level(host.cpu, 0).row();
            // A machine's memory is its own already.
            let cpus = capacity.len() / 2;
            capacity[cpus..].fill(f64::MAX);
            self.hosts.push(Host { capacity });
        }
        Some(index)
    }

    /// What an application talks to, as far as that is in the model.
    fn ties(&self, vm: &VmId, application: &AppName) -> Vec<Tie> {
        let edges = self.model.outbound(vm).iter().filter_map(|(key, edge)| {
            // Who is not known to call may be the one that moves.
            let calls = key.client.application().is_none_or(|name| name == application);
            let Party::Machine { vm: server, .. } = &key.server else { return None };
            let to = self.index.get(server).filter(|_| calls)?;
            let rate = edge.connections.per_second + edge.open_mean;
            Some(Tie { to: End::Bin(*to), cost: DISTANCE * rate / (1.0 + rate) })
        });
        edges.collect()
    }

    /// A host that gives more than it has today may go on doing so, but takes no more on; what is
    /// not in the model uses its part.
    fn raise_hosts(&mut self) {
        let cpus = self.model.buckets.dims() / 2;
        let mut used = vec![vec![0.0; cpus]; self.hosts.len()];
        for (vm, machine) in self.model.running() {
            let Some(host) = self.on.get(&machine.host) else { continue };
            if !self.index.contains_key(vm) {
                let course = self.model.load(vm, machine).row();
                let capacity = self.hosts[*host].capacity.iter_mut();
                capacity.zip(course).take(cpus).for_each(|(most, used)| *most -= used);
            }
        }
        let mut count = |host: Option<usize>, amounts: &[f64]| {
            let row = host.and_then(|host| used.get_mut(host)).into_iter().flatten();
            row.zip(amounts).for_each(|(used, more)| *used += more);
        };
        for bin in &self.bins {
            count(bin.host, &bin.base);
        }
        for item in &self.items {
            count(item.home.and_then(|home| self.bins[home].host), &item.demand);
        }
        for (host, used) in self.hosts.iter_mut().zip(used) {
            host.capacity.iter_mut().zip(used).for_each(|(most, used)| *most = most.max(used));
        }
    }
}

/// More than the whole fleet costs, and all interruptions with it.
fn dearest(model: &Model<'_>) -> f64 {
    let standings = model.situation.findings.machines.values();
    let applications = standings.map(|standing| standing.needs.len() as u64).sum();
    let interruptions = model.situation.policy.gain_per_disruption * float(applications);
    DEAREST * (1.0 + present(model) + interruptions)
}

fn float(amount: u64) -> f64 {
    amount as f64
}
