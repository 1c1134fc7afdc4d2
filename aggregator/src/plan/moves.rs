//! Consolidation: empties a machine into one other that has room for all it runs.
//!
//! Greedy: for each machine that may be emptied the best target that fits is taken. A move that
//! empties nothing gains nothing, so it is not planned; a machine is emptied into one target, for
//! one clone proves one new mix. Exchanges among several machines are a later search's business.

use std::collections::BTreeSet;

use common::{
    id::{AppName, VmId},
    mix::ApplicationMix,
    units::{Bytes, Millicores},
};

use super::{
    Goal, MachineChange, Move,
    costs::cost,
    draft::{Draft, Foretold},
    model::Model,
};
use crate::{
    hypervisor::{Allocation, Machine},
    inference::{Standing, free_share},
};

/// Targets held against one machine at most, best first; a search without this bound comes with
/// the full planner.
const TARGETS_TRIED: usize = 1000;

/// A machine that can carry more.
struct Target<'a> {
    vm: &'a VmId,
    standing: &'a Standing,
    machine: &'a Machine,
    room: (Millicores, Bytes),
}

/// A machine that may be emptied.
struct Source<'a> {
    vm: &'a VmId,
    standing: &'a Standing,
    machine: &'a Machine,
    leaving: Vec<&'a AppName>,
    needed: (Millicores, Bytes),
}

/// All consolidations that are right by themselves, and for machines that could be emptied but
/// into nothing, why.
pub(super) fn consolidations<'a>(model: &Model<'a>) -> (Vec<Draft>, Vec<(VmId, String)>) {
    let targets = targets(model);
    let (mut drafts, mut stuck) = (Vec::new(), Vec::new());
    for source in sources(model) {
        match best(model, &source, &targets) {
            Ok(target) => drafts.push(draft(model, &source, target)),
            Err(reason) => stuck.push((source.vm.clone(), reason)),
        }
    }
    (drafts, stuck)
}

fn sources<'a>(model: &Model<'a>) -> Vec<Source<'a>> {
    let mut sources = Vec::new();
    for (vm, machine) in model.running() {
        let Some(standing) = model.standing(vm) else { continue };
        let Ok(leaving) = model.emptiable(vm, standing) else { continue };
        let needs = || leaving.iter().filter_map(|name| standing.needs.get(*name));
        let cpu = needs().map(|need| need.cpu_peak.max(need.cpu_mean).0).sum();
        let memory = needs().map(|need| need.memory_peak.0).sum();
        let needed = (Millicores(cpu), Bytes(memory));
        sources.push(Source { vm, standing, machine, leaving, needed });
    }
    sources
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
    let (room_cpu, room_memory) = target.room;
    (share(room_cpu.0, cpu.map(|c| c.0)), share(room_memory.0, memory.map(|m| m.0)))
}

/// The first target that fits; machines that the leaving applications talk to come first.
fn best<'t, 'a>(
    model: &Model<'a>,
    source: &Source<'a>,
    targets: &'t [Target<'a>],
) -> Result<&'t Target<'a>, String> {
    let peers = model.outbound(source.vm).iter().filter_map(|(key, _)| key.server.vm());
    let peers: BTreeSet<&VmId> = peers.collect();
    let others = || targets.iter().filter(|target| target.vm != source.vm);
    let near = || others().filter(|target| peers.contains(target.vm));
    let far = || others().filter(|target| !peers.contains(target.vm));
    let mut nearest_miss = None;
    for target in near().chain(far()).take(TARGETS_TRIED) {
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
    if source.needed.0 > target.room.0 {
        return Err(format!("has room for {}, {} needed", target.room.0, source.needed.0));
    }
    if source.needed.1 > target.room.1 {
        return Err(format!("has room for {}, {} needed", target.room.1, source.needed.1));
    }
    let Some(mix) = &target.standing.mix else { return Err("its mix is not known".to_owned()) };
    if let Some(name) = source.leaving.iter().find(|name| mix.applications.0.contains_key(**name)) {
        return Err(format!("runs {name} already"));
    }
    if !model.networks(target.vm).is_superset(&model.networks(source.vm)) {
        return Err("is not on all of its networks".to_owned());
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
    let never = |one: &AppName, other: &AppName| {
        catalogue.get(one).is_some_and(|application| application.never_with.contains(other))
    };
    match there.iter().find(|other| never(name, other) || never(other, name)) {
        Some(other) => Err(format!("{name} and {other} never share a machine")),
        None => Ok(()),
    }
}

fn names(names: &[&AppName]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn draft(model: &Model<'_>, source: &Source<'_>, target: &Target<'_>) -> Draft {
    let there = mix_of(target.standing);
    let here = mix_of(source.standing);
    let mut more = there.clone();
    for name in &source.leaving {
        let setup = here.0.get(*name).cloned().unwrap_or_default();
        more.0.insert((*name).clone(), setup);
    }
    let nothing = Allocation {
        cpu: source.machine.allocation.cpu.map(|_| Millicores(0)),
        memory: source.machine.allocation.memory.map(|_| Bytes(0)),
        // A retired machine is stopped, its disks stay.
        storage: source.machine.allocation.storage,
    };
    let kept = change(target.standing, target.machine, (there, more), target.machine.allocation);
    let gone = change(source.standing, source.machine, (here, ApplicationMix::default()), nothing);
    let gone = MachineChange { retired: true, ..gone };
    let moves = source.leaving.iter().map(|name| Move {
        application: (*name).clone(),
        from: source.vm.clone(),
        to: target.vm.clone(),
    });
    let moves: Vec<Move> = moves.collect();
    let gain = cost(&source.machine.allocation);
    Draft {
        goal: Goal::Consolidate,
        source: target.vm.clone(),
        allocation: target.machine.allocation,
        summary: format!(
            "move {} from {} to {} and retire {}",
            names(&source.leaving),
            source.standing.name,
            target.standing.name,
            source.standing.name
        ),
        // Each moved application is interrupted once, and the machine goes.
        #[expect(clippy::cast_precision_loss, reason = "applications are few")]
        disruption: moves.len() as f64 + 1.0,
        gain,
        moves,
        changes: [(target.vm.clone(), kept), (source.vm.clone(), gone)].into(),
        groups: [model.group(source.vm).clone(), model.group(target.vm).clone()].into(),
        foretold: foretold(source, target),
    }
}

fn foretold(source: &Source<'_>, target: &Target<'_>) -> Vec<Foretold> {
    let (cpu, memory) = (target.standing.cpu_peak, target.standing.memory_peak);
    let (cpu, memory) = (cpu.unwrap_or_default(), memory.unwrap_or_default());
    let then = (Millicores(cpu.0 + source.needed.0.0), Bytes(memory.0 + source.needed.1.0));
    let gone = (
        source.standing.cpu_peak.unwrap_or_default(),
        source.standing.memory_peak.unwrap_or_default(),
    );
    vec![
        Foretold { vm: target.vm.clone(), before: (cpu, memory), after: then },
        Foretold { vm: source.vm.clone(), before: gone, after: Default::default() },
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
