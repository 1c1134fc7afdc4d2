//! Consolidation: moves of a target that empty machines, each a plan of its own.
//!
//! The target is searched as a whole ([`super::target`]). A plan moves applications of one machine
//! to one other, for one clone proves one new mix; what is only worth it together says so, and what
//! must wait for another move's room waits.

use std::collections::{BTreeMap, BTreeSet};

use algorithms::packing::Packing;
use common::{
    id::{AppName, VmId},
    mix::ApplicationMix,
    units::{Bytes, Millicores},
};

use super::{
    Goal, Limits, MachineChange, Move,
    buckets::Amounts,
    chains::{Chain, chains},
    costs::cost,
    draft::{Draft, Foretold},
    model::Model,
    target::{self, target},
};
use crate::{
    hypervisor::{Allocation, Machine},
    inference::{Standing, free_share},
};

/// Targets looked at to say why a machine fits nowhere, at most and for all machines together.
const TARGETS_TRIED: usize = 1_000;
const TARGETS_TRIED_IN_ALL: usize = 1_000_000;

/// A machine that can carry more.
struct Target<'a> {
    vm: &'a VmId,
    standing: &'a Standing,
    machine: &'a Machine,
    room: Amounts,
}

/// The machines that can carry more, best first, and where each stands.
struct Targets<'a> {
    all: Vec<Target<'a>>,
    ranks: BTreeMap<&'a VmId, usize>,
    /// How many are looked at for one machine that fits nowhere.
    tried: usize,
}

impl<'a> Targets<'a> {
    fn of(model: &Model<'a>) -> Self {
        let all = targets(model);
        let ranks = all.iter().enumerate().map(|(rank, target)| (target.vm, rank)).collect();
        Self { all, ranks, tried: TARGETS_TRIED }
    }

    fn get(&self, vm: &VmId) -> Option<&Target<'a>> {
        self.ranks.get(vm).map(|rank| &self.all[*rank])
    }
}

/// A machine that may be emptied.
struct Source<'a> {
    vm: &'a VmId,
    standing: &'a Standing,
    machine: &'a Machine,
    leaving: Vec<&'a AppName>,
    needed: Amounts,
}

/// The consolidations of the best target.
pub(super) struct Consolidations {
    pub(super) drafts: Vec<Draft>,
    /// Why machines that could be emptied are not.
    pub(super) stuck: Vec<(VmId, String)>,
    /// What the target's moves gain in all, once all are made.
    pub(super) gain: f64,
    /// No plan brings the fleet below this.
    pub(super) bound: f64,
}

/// The moves of the best target within limits.
pub(super) fn consolidations(model: &Model<'_>, limits: &Limits<'_>) -> Consolidations {
    let mut targets = Targets::of(model);
    let searched = target(model, &targets.ranks, limits);
    let threshold = model.situation.policy.gain_per_disruption;
    let (mut drafts, mut gain) = (Vec::new(), 0.0);
    for chain in chains(model, &searched) {
        if chain.gain > 0.0 || chain.is_ordered {
            gain += if chain.worth() > threshold { chain.gain } else { 0.0 };
            drafts.extend(chain_drafts(model, &chain, &targets));
        }
    }
    let emptied: BTreeSet<&VmId> =
        drafts.iter().flat_map(|draft| draft.moves.iter().map(|moved| &moved.from)).collect();
    let stuck = sources(model).into_iter().filter(|source| !emptied.contains(source.vm));
    let stuck: Vec<Source<'_>> = stuck.collect();
    targets.tried = (TARGETS_TRIED_IN_ALL / stuck.len().max(1)).clamp(1, TARGETS_TRIED);
    let stuck = stuck.iter().map(|source| (source.vm.clone(), why_not(model, source, &targets)));
    let stuck = stuck.collect();
    Consolidations { stuck, gain, bound: searched.bound, drafts }
}

/// The problem of a target, as numbers.
pub(super) fn problem(model: &Model<'_>) -> (Vec<VmId>, Packing) {
    target::problem(model, &Targets::of(model).ranks)
}

fn chain_drafts(model: &Model<'_>, chain: &Chain<'_>, targets: &Targets<'_>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut last = None;
    for part in &chain.parts {
        let target = targets.get(part.to);
        let source = source(model, part.from, part.applications.clone());
        let (Some(source), Some(target)) = (source, target) else { continue };
        let mut made = draft(model, &source, target, part.retires);
        made.worth = chain.worth();
        if !part.retires {
            made.summary = format!("{}, {}", made.summary, part.purpose);
        }
        if fits(model, &source, target).is_err() {
            made.after = last.clone();
        }
        last = Some(made.summary.clone());
        drafts.push(made);
    }
    drafts
}

/// Why a machine that could be emptied is not.
fn why_not(model: &Model<'_>, source: &Source<'_>, targets: &Targets<'_>) -> String {
    let target = match best(model, source, targets) {
        Ok(target) => target,
        Err(reason) => return reason,
    };
    let Draft { summary, worth, .. } = draft(model, source, target, true);
    let threshold = model.situation.policy.gain_per_disruption;
    if worth > threshold {
        return format!("{summary}: the room there serves what gains more");
    }
    too_little(&summary, worth, threshold)
}

/// What is said of a change that is not worth it.
pub(super) fn too_little(summary: &str, worth: f64, threshold: f64) -> String {
    format!("{summary}: gains {worth:.3} cost units per interruption, {threshold} are needed")
}

fn sources<'a>(model: &Model<'a>) -> Vec<Source<'a>> {
    let running = model.running().filter_map(|(vm, _)| {
        let standing = model.standing(vm)?;
        source(model, vm, model.emptiable(vm, standing).ok()?)
    });
    running.collect()
}

fn source<'a>(model: &Model<'a>, vm: &'a VmId, leaving: Vec<&'a AppName>) -> Option<Source<'a>> {
    let (standing, machine) = (model.standing(vm)?, model.machine(vm)?);
    let (needed, _) = model.moving_and_staying(standing, &leaving);
    Some(Source { vm, standing, machine, leaving, needed })
}

/// Those that work in concert first, then those with most room: the fleet's working machines are
/// the ones that stay.
fn targets<'a>(model: &Model<'a>) -> Vec<Target<'a>> {
    let mut targets = Vec::new();
    for (vm, _) in model.running() {
        let Ok((standing, machine)) = model.candidate(vm) else { continue };
        let Some(room) = model.room(standing) else { continue };
        targets.push(Target { vm, standing, machine, room });
    }
    targets.sort_by(|left, right| {
        let by_part = right.standing.participating.holds.cmp(&left.standing.participating.holds);
        let (more, less) = (free_shares(left), free_shares(right));
        let by_scarcer = less.0.min(less.1).total_cmp(&more.0.min(more.1));
        let by_both = (less.0 + less.1).total_cmp(&(more.0 + more.1));
        by_part.then(by_scarcer).then(by_both).then_with(|| left.vm.cmp(right.vm))
    });
    targets
}

/// Shares of a target's CPU and memory that more applications may use.
fn free_shares(target: &Target<'_>) -> (f64, f64) {
    let share = |room: u64, given: Option<u64>| 1.0 - free_share(room, given.unwrap_or(0));
    let Allocation { cpu, memory, .. } = target.standing.allocation;
    let (room_cpu, room_memory) = target.room.mean();
    (share(room_cpu.0, cpu.map(|c| c.0)), share(room_memory.0, memory.map(|m| m.0)))
}

/// The first target that fits; machines that the leaving applications talk to come first.
fn best<'t, 'a>(
    model: &Model<'a>,
    source: &Source<'a>,
    targets: &'t Targets<'a>,
) -> Result<&'t Target<'a>, String> {
    let peers = model.outbound(source.vm).iter().filter_map(|(key, _)| key.server.vm());
    let peers: BTreeSet<usize> = peers.filter_map(|vm| targets.ranks.get(vm)).copied().collect();
    let near = peers.iter().map(|rank| &targets.all[*rank]);
    let far = targets.all.iter().enumerate().filter(|(rank, _)| !peers.contains(rank));
    let others = near.chain(far.map(|(_, target)| target)).filter(|target| target.vm != source.vm);
    let mut nearest_miss = None;
    for target in others.take(targets.tried) {
        match fits(model, source, target) {
            Ok(()) => return Ok(target),
            Err(reason) => drop(nearest_miss.get_or_insert((target, reason))),
        }
    }
    let what = names(&source.leaving);
    Err(nearest_miss.map_or_else(
        || format!("{what} could leave it, but no machine can carry more"),
        |(target, reason)| {
            let name = &target.standing.name;
            format!("{what} could leave it, but no machine fits; {name}: {reason}")
        },
    ))
}

fn fits(model: &Model<'_>, source: &Source<'_>, target: &Target<'_>) -> Result<(), String> {
    source.needed.fits(&target.room).map_err(|short| short.to_string())?;
    let Some(mix) = &target.standing.mix else { return Err("its mix is not known".to_owned()) };
    if let Some(name) = source.leaving.iter().find(|name| mix.applications.0.contains_key(**name)) {
        return Err(format!("runs {name} already"));
    }
    let barred = source.leaving.iter().find_map(|name| model.bar(name, source.vm, target.vm));
    if let Some(reason) = barred {
        return Err(reason);
    }
    source.leaving.iter().try_for_each(|name| no_clash(model, source, target, name))
}

/// Ports and neighbours.
fn no_clash(
    model: &Model<'_>,
    source: &Source<'_>,
    target: &Target<'_>,
    name: &AppName,
) -> Result<(), String> {
    let catalogue = &model.situation.catalogue.0;
    let serves = |name: &AppName| {
        catalogue.get(name).into_iter().flat_map(|application| application.serves.keys())
    };
    let mine = source.standing.listens.get(name).into_iter().flatten().chain(serves(name));
    let there = target.standing.listens.keys().chain(target.standing.needs.keys());
    let there: BTreeSet<&AppName> = there.collect();
    for port in mine {
        let takes = |other: &&&AppName| {
            let listens = target.standing.listens.get(**other);
            listens.is_some_and(|ports| ports.contains(port)) || serves(other).any(|p| p == port)
        };
        if let Some(other) = there.iter().find(takes) {
            return Err(format!("{other} has port {port} there, {name} needs it"));
        }
    }
    there.iter().find_map(|other| model.kept_apart(name, other)).map_or(Ok(()), Err)
}

fn names(names: &[&AppName]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn draft(model: &Model<'_>, source: &Source<'_>, target: &Target<'_>, retires: bool) -> Draft {
    let (there, here) = (mix_of(target.standing), mix_of(source.standing));
    let (mut more, mut less) = (there.clone(), here.clone());
    for name in &source.leaving {
        let setup = less.0.remove(*name).unwrap_or_default();
        more.0.insert((*name).clone(), setup);
    }
    let given = source.machine.allocation;
    let nothing = Allocation {
        cpu: given.cpu.map(|_| Millicores(0)),
        memory: given.memory.map(|_| Bytes(0)),
        // A retired machine is stopped, its disks stay.
        storage: given.storage,
    };
    let kept = change(target.standing, target.machine, (there, more), target.machine.allocation);
    let then = if retires { nothing } else { given };
    let left = change(source.standing, source.machine, (here, less), then);
    let left = MachineChange { retired: retires, ..left };
    let moves = source.leaving.iter().map(|name| Move {
        application: (*name).clone(),
        from: source.vm.clone(),
        to: target.vm.clone(),
    });
    let moves: Vec<Move> = moves.collect();
    let gain = if retires { cost(model.situation.policy, &given) } else { 0.0 };
    let (from, to) = (&source.standing.name, &target.standing.name);
    let goes = if retires { format!(" and retire {from}") } else { String::new() };
    Draft {
        goal: Goal::Consolidate,
        source: target.vm.clone(),
        allocation: target.machine.allocation,
        summary: format!("move {} from {from} to {to}{goes}", names(&source.leaving)),
        // Each moved application is interrupted once, and the machine goes.
        worth: gain / (moves.len() as f64 + 1.0),
        after: None,
        gain,
        moves,
        changes: [(target.vm.clone(), kept), (source.vm.clone(), left)].into(),
        groups: [model.group(source.vm).clone(), model.group(target.vm).clone()].into(),
        foretold: foretold(model, source, target, retires),
    }
}

fn foretold(
    model: &Model<'_>,
    source: &Source<'_>,
    target: &Target<'_>,
    retires: bool,
) -> Vec<Foretold> {
    let (cpu, memory) = (target.standing.cpu_peak, target.standing.memory_peak);
    let (cpu, memory) = (cpu.unwrap_or_default(), memory.unwrap_or_default());
    let mut load = model.load(target.vm, target.machine);
    load.add(&source.needed);
    let then = load.peak();
    let whole = (
        source.standing.cpu_peak.unwrap_or_default(),
        source.standing.memory_peak.unwrap_or_default(),
    );
    let (_, staying) = model.moving_and_staying(source.standing, &source.leaving);
    let left = if retires { Default::default() } else { staying.peak() };
    vec![
        Foretold { vm: target.vm.clone(), before: (cpu, memory), after: then },
        Foretold { vm: source.vm.clone(), before: whole, after: left },
    ]
}

pub(super) fn mix_of(standing: &Standing) -> ApplicationMix {
    standing.mix.as_ref().map(|mix| mix.applications.clone()).unwrap_or_default()
}

pub(super) fn change(
    standing: &Standing,
    machine: &Machine,
    (mix_before, mix_after): (ApplicationMix, ApplicationMix),
    allocation_after: Allocation,
) -> MachineChange {
    MachineChange {
        name: standing.name.clone(),
        mix_before,
        mix_after,
        allocation_before: machine.allocation,
        allocation_after,
        retired: false,
    }
}
