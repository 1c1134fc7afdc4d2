//! A fleet that is not there: planning on it shows what a change would bring before it is made.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    id::{HostId, NetworkId, VmId},
    mix::EffectiveMix,
    units::{Bytes, Millicores},
};
use thiserror::Error;
use uuid::Uuid;

use super::{Limits, Planned, Restraint, Situation, hosts::Hosts, model::Model, plan_within};
use crate::{
    hypervisor::{Allocation, Inventory, Machine, Nic, Power},
    inference::{Claim, EdgeKey, Findings, Opportunity, Party, Standing},
};

/// Our own name space of uuids: the same addition is the same machine in every question.
const NAMESPACE: Uuid = Uuid::from_u128(0x1c3e_0c25_8f0b_4a52_9d0e_6c6b_20b4_17f3);
/// Machines that may be added to one question.
const MOST_ADDED: usize = 1_000;

/// How a fleet differs from the one that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supposition {
    /// Machines that are not there.
    pub without: BTreeSet<VmId>,
    /// Machines that shall be emptied, whatever that gains.
    pub drained: BTreeSet<VmId>,
    /// Machines that are there besides.
    pub added: Vec<Addition>,
}

/// An empty machine that is not there and may take applications in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Its name.
    pub name: String,
    /// CPU it is given.
    pub cpu: Millicores,
    /// Memory it is given.
    pub memory: Bytes,
    /// The host it is on; `None` for one of its own.
    pub host: Option<HostId>,
    /// What the operator would put on it at the vendor's.
    pub labels: BTreeSet<String>,
}

/// Why nobody can plan on a supposition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value}; {remedy}")]
pub struct BadSupposition {
    /// The value, with what is wrong with it.
    pub value: String,
    /// What may stand there.
    pub remedy: String,
}

fn bad(value: impl Into<String>, remedy: impl Into<String>) -> BadSupposition {
    BadSupposition { value: value.into(), remedy: remedy.into() }
}

impl Addition {
    /// The id it has wherever it is asked about.
    ///
    /// # Errors
    ///
    /// If its name is none.
    pub fn vm(&self) -> Result<VmId, BadSupposition> {
        let remedy = "give it a name of letters, digits and -_.:@+/";
        let name: VmId = self
            .name
            .parse()
            .map_err(|cause| bad(format!("name {:?} cannot be one: {cause}", self.name), remedy))?;
        let id = Uuid::new_v5(&NAMESPACE, name.as_str().as_bytes());
        id.to_string().parse().map_err(|_| bad(self.name.clone(), remedy))
    }
}

/// Plans for the fleet as it would be, within limits.
///
/// # Errors
///
/// If a machine that is added cannot be.
pub fn plan_supposed(
    situation: &Situation<'_>,
    supposition: &Supposition,
    limits: &Limits<'_>,
) -> Result<Planned, BadSupposition> {
    let Supposition { without, drained, added } = supposition;
    let is_there = |party: &Party| match party {
        Party::Machine { vm, .. } => !without.contains(vm),
        Party::External { .. } => true,
    };
    let mut findings = situation.findings.clone();
    findings.machines.retain(|vm, _| !without.contains(vm));
    let meets = |key: &EdgeKey| is_there(&key.client) && is_there(&key.server);
    findings.edges.retain(|(key, _)| meets(key));
    let mut inventory = situation.inventory.clone();
    inventory.machines.retain(|vm, _| !without.contains(vm));
    add(situation, added, (&mut findings, &mut inventory))?;
    let restraint = Restraint { drained: drained.clone(), ..situation.restraint.clone() };
    let supposed = Situation {
        findings: &findings,
        inventory: &inventory,
        restraint: &restraint,
        ..*situation
    };
    Ok(plan_within(&supposed, limits))
}

/// What had to be assumed of the machines that are added.
#[must_use]
pub fn assumed(situation: &Situation<'_>, supposition: &Supposition) -> Vec<String> {
    if supposition.added.is_empty() {
        return Vec::new();
    }
    let usual = Usual::of(situation.findings, situation.inventory);
    let shown = |what: Option<&str>| what.unwrap_or("unknown").to_owned();
    let mut told = vec![format!(
        "what is added uses nothing by itself, is on all {} networks, and runs {} on {}, as most do",
        usual.networks.len(),
        shown(usual.operating_system.as_deref()),
        shown(usual.architecture.as_deref())
    )];
    let alone = supposition.added.iter().filter(|addition| addition.host.is_none());
    told.extend(alone.map(|addition| format!("{} has a host of its own", addition.name)));
    told
}

/// What machines that are added have in common with the fleet.
struct Usual {
    networks: BTreeSet<NetworkId>,
    operating_system: Option<String>,
    architecture: Option<String>,
}

impl Usual {
    fn of(findings: &Findings, inventory: &Inventory) -> Self {
        let running = inventory.machines.iter().filter(|(_, machine)| machine.power == Power::On);
        let mut networks = BTreeSet::new();
        let mut platforms: BTreeMap<(Option<&String>, Option<&String>), usize> = BTreeMap::new();
        for (vm, machine) in running {
            networks.extend(machine.nics.iter().filter_map(|nic| nic.network.clone()));
            if let Some(standing) = findings.machines.get(vm) {
                let platform = (standing.operating_system.as_ref(), standing.architecture.as_ref());
                *platforms.entry(platform).or_default() += 1;
            }
        }
        let most = platforms.into_iter().max_by_key(|(_, machines)| *machines);
        let (operating_system, architecture) =
            most.map(|(platform, _)| platform).unwrap_or_default();
        Self {
            networks,
            operating_system: operating_system.cloned(),
            architecture: architecture.cloned(),
        }
    }
}

fn add(
    situation: &Situation<'_>,
    added: &[Addition],
    (findings, inventory): (&mut Findings, &mut Inventory),
) -> Result<(), BadSupposition> {
    if added.len() > MOST_ADDED {
        let remedy = format!("add {MOST_ADDED} at most");
        return Err(bad(format!("{} machines are added", added.len()), remedy));
    }
    let usual = Usual::of(findings, inventory);
    for addition in added {
        let vm = addition.vm()?;
        let machine = machine(situation, addition, (&vm, &usual), (findings, inventory))?;
        findings.machines.insert(vm.clone(), standing(addition, &vm, &usual));
        inventory.machines.insert(vm, machine);
    }
    Ok(())
}

fn given(addition: &Addition) -> Allocation {
    Allocation { cpu: Some(addition.cpu), memory: Some(addition.memory), storage: None }
}

fn machine(
    situation: &Situation<'_>,
    addition: &Addition,
    (vm, usual): (&VmId, &Usual),
    (findings, inventory): (&Findings, &Inventory),
) -> Result<Machine, BadSupposition> {
    let name = &addition.name;
    let mut known = inventory.machines.iter();
    if known.any(|(known, machine)| known == vm || machine.name == *name) {
        return Err(bad(format!("there is a machine {name:?} already"), "give it another name"));
    }
    if addition.cpu.0 == 0 || addition.memory.0 == 0 {
        return Err(bad(format!("{name} has no CPU or no memory"), "give it some of both"));
    }
    let host = match &addition.host {
        Some(host) => {
            let now = Situation { findings, inventory, ..*situation };
            has_room(&now, host, addition)?;
            host.clone()
        }
        None => format!("new:{vm}").parse().map_err(|_| bad(name.clone(), "name its host"))?,
    };
    let nics = usual.networks.iter().map(|network| Nic {
        mac: String::new(),
        network: Some(network.clone()),
        kind: "supposed".to_owned(),
        addresses: Vec::new(),
        up: true,
    });
    Ok(Machine {
        id: vm.clone(),
        name: name.clone(),
        host,
        power: Power::On,
        allocation: given(addition),
        nics: nics.collect(),
        volumes: Vec::new(),
        cloned_from: None,
        plan: None,
        labels: addition.labels.clone(),
    })
}

fn has_room(
    situation: &Situation<'_>,
    host: &HostId,
    addition: &Addition,
) -> Result<(), BadSupposition> {
    let left = Hosts::of(&Model::new(situation)).memory_left(host).ok_or_else(|| {
        let hosts: Vec<&str> = situation.inventory.hosts.keys().map(HostId::as_str).collect();
        let remedy = format!("write one of {}, or none for one of its own", hosts.join(", "));
        bad(format!("there is no host {host}"), remedy)
    })?;
    if left < addition.memory {
        let value = format!("host {host} has {left} of memory left, {} needs more", addition.name);
        return Err(bad(value, "give it less, or name another host"));
    }
    Ok(())
}

/// What windows would say of it: it works, does nothing, and has room for anything.
fn standing(addition: &Addition, vm: &VmId, usual: &Usual) -> Standing {
    let claim = |holds, reason: &str| Claim { holds, reason: reason.to_owned() };
    let (idle, supposed) = ("it is supposed, and runs nothing", "it is supposed to be there");
    Standing {
        name: addition.name.clone(),
        has_agent: true,
        active: claim(false, idle),
        participating: claim(false, idle),
        trusted: claim(true, supposed),
        candidate: claim(true, supposed),
        opportunities: vec![Opportunity::MixUp { cpu_headroom: 1.0, memory_headroom: 1.0 }],
        coverage: 1.0,
        allocation: given(addition),
        cpu_peak: Some(Millicores(0)),
        cpu_mean: Some(Millicores(0)),
        memory_peak: Some(Bytes(0)),
        mix: Some(EffectiveMix::default()),
        group: Some(vm.clone()),
        operating_system: usual.operating_system.clone(),
        architecture: usual.architecture.clone(),
        ..Standing::default()
    }
}
