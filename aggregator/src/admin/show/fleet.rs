//! Machines, hosts and agents: the inventory, the last window and the agents put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use common::{
    clock::Timestamp,
    id::{AppName, VmId},
    wire::admin::v1,
};

use super::{allocation, moment, word};
use crate::{
    guest::{AttachedAgent, LastSeen},
    hypervisor::{self, Inventory, Power},
    inference::{self, Findings, Opportunity, Standing},
    policy::Scope,
    repository::{AgentRecord, AgentState},
};

/// An agent that sent nothing for so many sample periods is silent, though its stream is open.
const SILENT_AFTER_PERIODS: u32 = 5;
/// However short the period: a busy host makes agents late by seconds.
const SILENT_AFTER_AT_LEAST: Duration = Duration::from_secs(10);

/// All that machines are shown from.
pub(in super::super) struct Fleet {
    pub(in super::super) inventory: Arc<Inventory>,
    pub(in super::super) findings: Findings,
    pub(in super::super) scope: Scope,
    /// Machines with an enrolled agent.
    pub(in super::super) enrolled: BTreeSet<VmId>,
    /// Machines whose agent's stream is open, and since when.
    pub(in super::super) attached: BTreeMap<VmId, Timestamp>,
    pub(in super::super) seen: BTreeMap<VmId, LastSeen>,
    pub(in super::super) sample_period: Duration,
    pub(in super::super) now: Timestamp,
}

impl Fleet {
    /// Name of every machine that is there or was in the last window.
    pub(in super::super) fn names(&self) -> BTreeMap<VmId, String> {
        let standing = self.findings.machines.iter().map(|(vm, of)| (vm.clone(), of.name.clone()));
        let there = self.inventory.machines.iter().map(|(vm, of)| (vm.clone(), of.name.clone()));
        standing.chain(there).collect()
    }

    fn agent(&self, vm: &VmId) -> &'static str {
        let patience = (self.sample_period * SILENT_AFTER_PERIODS).max(SILENT_AFTER_AT_LEAST);
        let is_fresh = |at: Timestamp| self.now.since(at) < patience;
        let is_heard = |since: &Timestamp| {
            is_fresh(*since) || self.seen.get(vm).is_some_and(|seen| is_fresh(seen.received_at))
        };
        match self.attached.get(vm) {
            Some(since) if is_heard(since) => "reporting",
            None if !self.enrolled.contains(vm) => "no agent",
            _ => "silent",
        }
    }

    /// One machine.
    pub(in super::super) fn machine(&self, vm: &VmId, name: &str) -> v1::Machine {
        let there = self.inventory.machines.get(vm);
        let standing = self.findings.machines.get(vm);
        let seen = self.seen.get(vm);
        let mut shown = v1::Machine {
            vm: vm.to_string(),
            name: name.to_owned(),
            power: "off".to_owned(),
            agent: self.agent(vm).to_owned(),
            last_seen_at_unix_ms: seen.map_or(0, |seen| moment(seen.received_at)),
            mix: seen.map(|seen| (&seen.observation.mix).into()),
            opted_out: self.scope.opted_out.get(vm).cloned().unwrap_or_default(),
            ..v1::Machine::default()
        };
        if let Some(standing) = standing {
            judged(&mut shown, standing, seen);
            let id = standing.business_group;
            let group = self.findings.groups.iter().find(|group| Some(group.id) == id);
            shown.group = id.unwrap_or_default();
            shown.group_name = group.map(|group| group.name.clone()).unwrap_or_default();
        }
        if let Some(there) = there {
            outside(&mut shown, there);
        }
        shown
    }
}

/// What the hypervisor says.
fn outside(shown: &mut v1::Machine, there: &hypervisor::Machine) {
    let addresses = there.nics.iter().flat_map(|nic| &nic.addresses);
    let addresses: BTreeSet<_> = addresses.map(|net| net.addr().to_string()).collect();
    shown.host = there.host.to_string();
    shown.power = word(&there.power);
    shown.allocation = Some(allocation(&there.allocation));
    if !addresses.is_empty() {
        shown.addresses = addresses.into_iter().collect();
    }
    shown.cloned_from = there.cloned_from.as_ref().map(ToString::to_string).unwrap_or_default();
    shown.plan = there.plan.as_ref().map(ToString::to_string).unwrap_or_default();
}

/// What the last window says.
fn judged(shown: &mut v1::Machine, standing: &Standing, seen: Option<&LastSeen>) {
    let claim = |claim: &inference::Claim| {
        Some(v1::Claim { holds: claim.holds, reason: claim.reason.clone() })
    };
    shown.active = claim(&standing.active);
    shown.participating = claim(&standing.participating);
    shown.trusted = claim(&standing.trusted);
    shown.candidate = claim(&standing.candidate);
    shown.opportunities = standing.opportunities.iter().map(opportunity).collect();
    shown.coverage = standing.coverage;
    shown.allocation = Some(allocation(&standing.allocation));
    shown.addresses = standing.addresses.iter().map(ToString::to_string).collect();
    shown.cpu_peak_millicores = standing.cpu_peak.map(|cpu| cpu.0);
    shown.memory_peak_bytes = standing.memory_peak.map(|memory| memory.0);
    shown.applications = needs(standing, seen);
    shown.testimony = Some(testimony(&standing.testimony));
    shown.volumes = standing.volumes.iter().cloned().collect();
    if shown.mix.is_none() {
        shown.mix = standing.mix.as_ref().map(Into::into);
    }
}

/// How far it can be believed.
fn testimony(testimony: &inference::Testimony) -> v1::Testimony {
    let inference::Testimony { agrees, denies, unbacked, score, windows, doubted } = testimony;
    v1::Testimony {
        agrees: *agrees,
        denies: denies.clone(),
        unbacked: unbacked.clone(),
        score: *score,
        windows: *windows,
        doubted: *doubted,
    }
}

/// Every application that was seen or is in the mix.
fn needs(standing: &Standing, seen: Option<&LastSeen>) -> Vec<v1::Need> {
    let mix = seen.map(|seen| &seen.observation.mix).or(standing.mix.as_ref());
    let in_mix = mix.into_iter().flat_map(|mix| mix.applications.0.keys());
    let names: BTreeSet<&AppName> = standing.needs.keys().chain(in_mix).collect();
    let told = |name: &&AppName| {
        let need = standing.needs.get(*name).copied().unwrap_or_default();
        let is_in_mix = mix.is_some_and(|mix| mix.applications.0.contains_key(*name));
        let roles = standing.roles.get(*name).into_iter().flatten();
        let ports = standing.listens.get(*name).into_iter().flatten();
        v1::Need {
            application: name.to_string(),
            in_mix: is_in_mix,
            roles: roles.map(super::groups::playing).collect(),
            cpu_mean_millicores: need.cpu_mean.0,
            cpu_peak_millicores: need.cpu_peak.0,
            memory_peak_bytes: need.memory_peak.0,
            listening_ports: ports.map(|port| u32::from(*port)).collect(),
            cpu_95_millicores: need.cpu_95.map(|cpu| cpu.0),
            cpu_99_millicores: need.cpu_99.map(|cpu| cpu.0),
            working_set_peak_bytes: need.working_set_peak.map(|memory| memory.0),
            configuration_mix: standing.mixes.get(*name).map(super::need::mix),
            optimum: standing.optimum.get(*name).map(super::need::optimum),
            cpu_shared_out: need.cpu_shared_out.map(super::need::bounded),
            cpu_told_millicores: need.cpu_told.map(|cpu| cpu.0),
            profile: need.profile.iter().flat_map(super::need::profile).collect(),
            healthy: mix.filter(|_| is_in_mix).map(|mix| mix.healthy.contains(*name)),
        }
    };
    names.iter().map(told).collect()
}

/// How a machine could be changed, as a sentence.
pub(crate) fn opportunity(opportunity: &Opportunity) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    match opportunity {
        Opportunity::MixUp { cpu_headroom, memory_headroom } => format!(
            "carry more applications: {} of its cpu and {} of its memory are free at peak",
            percent(*cpu_headroom),
            percent(*memory_headroom)
        ),
        Opportunity::MixDown { application, reason } => {
            format!("give up {application}: {reason}")
        }
        Opportunity::Shrink { to } => {
            let parts = [
                to.cpu.map(|cpu| cpu.to_string()),
                to.memory.map(|memory| memory.to_string()),
                to.storage.map(|storage| storage.to_string()),
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            format!("do with {}", parts.join(" and "))
        }
    }
}

/// One host, with what its running machines are given.
pub(in super::super) fn host(host: &hypervisor::Host, inventory: &Inventory) -> v1::Host {
    let on = |machine: &&hypervisor::Machine| machine.host == host.id && machine.power == Power::On;
    let running = || inventory.machines.values().filter(on).map(|machine| machine.allocation);
    // What a pool has free is only known if every pool says it.
    let available: Option<u64> = host.pools.iter().map(|pool| Some(pool.available?.0)).sum();
    v1::Host {
        host: host.id.to_string(),
        name: host.name.clone(),
        addresses: host.addresses.iter().map(ToString::to_string).collect(),
        macs: host.macs.clone(),
        cpu_millicores: host.cpu.0,
        memory_bytes: host.memory.0,
        allocated_cpu_millicores: running().filter_map(|given| given.cpu).map(|cpu| cpu.0).sum(),
        allocated_memory_bytes: running()
            .filter_map(|given| given.memory)
            .map(|memory| memory.0)
            .sum(),
        storage_bytes: host.pools.iter().map(|pool| pool.capacity.0).sum(),
        storage_available_bytes: available.filter(|_| !host.pools.is_empty()),
    }
}

/// One agent.
pub(in super::super) fn agent(record: &AgentRecord, attached: Option<&AttachedAgent>) -> v1::Agent {
    let state = match record.state {
        AgentState::Active => "active",
        AgentState::Quarantined => "quarantined",
        AgentState::Tombstoned => "tombstoned",
    };
    let version = attached.map_or(&record.facts.agent_version, |attached| &attached.version);
    v1::Agent {
        agent_id: record.id.to_string(),
        vm: record.vm.to_string(),
        state: state.to_owned(),
        enrolled_at_unix_ms: moment(record.enrolled_at),
        plan: record.ephemeral.as_ref().map(ToString::to_string).unwrap_or_default(),
        attached: attached.is_some(),
        version: version.clone(),
        epoch: 0,
        sequence: 0,
    }
}
