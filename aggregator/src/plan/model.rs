//! The situation, indexed for planning: who calls whom on which machine, and what may leave it.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    id::{AppName, NetworkId, VmId},
    units::{Bytes, Millicores},
};

use super::{
    Situation,
    buckets::{Amounts, Buckets},
};
use crate::{
    hypervisor::{Machine, Power},
    inference::{Edge, EdgeKey, NEVER_TOUCH, Need, Opportunity, Standing},
};

type Edges<'a> = BTreeMap<&'a VmId, Vec<&'a (EdgeKey, Edge)>>;

/// The situation, indexed.
pub(super) struct Model<'a> {
    pub(super) situation: &'a Situation<'a>,
    pub(super) buckets: Buckets,
    inbound: Edges<'a>,
    outbound: Edges<'a>,
}

impl<'a> Model<'a> {
    pub(super) fn new(situation: &'a Situation<'a>) -> Self {
        let (mut inbound, mut outbound) = (Edges::new(), Edges::new());
        for edge in &situation.findings.edges {
            if let Some(vm) = edge.0.server.vm() {
                inbound.entry(vm).or_default().push(edge);
            }
            if let Some(vm) = edge.0.client.vm() {
                outbound.entry(vm).or_default().push(edge);
            }
        }
        let buckets = Buckets::of(situation.findings);
        Self { situation, buckets, inbound, outbound }
    }

    pub(super) fn inbound(&self, vm: &VmId) -> &[&'a (EdgeKey, Edge)] {
        self.inbound.get(vm).map_or(&[], Vec::as_slice)
    }

    pub(super) fn outbound(&self, vm: &VmId) -> &[&'a (EdgeKey, Edge)] {
        self.outbound.get(vm).map_or(&[], Vec::as_slice)
    }

    pub(super) fn standing(&self, vm: &VmId) -> Option<&'a Standing> {
        self.situation.findings.machines.get(vm)
    }

    pub(super) fn machine(&self, vm: &VmId) -> Option<&'a Machine> {
        self.situation.inventory.machines.get(vm)
    }

    /// What runs, clones on trial left out.
    pub(super) fn running(&self) -> impl Iterator<Item = (&'a VmId, &'a Machine)> {
        let machines = &self.situation.inventory.machines;
        machines.iter().filter(move |(_, machine)| {
            let source = machine.cloned_from.as_ref().and_then(|source| machines.get(source));
            let on_trial = source.is_some_and(|source| source.power == Power::On);
            machine.power == Power::On && !on_trial
        })
    }

    /// Whether a machine may be changed now.
    pub(super) fn candidate(&self, vm: &VmId) -> Result<(&'a Standing, &'a Machine), String> {
        let standing = self.standing(vm).ok_or("no window speaks of it yet")?;
        let machine = self.machine(vm).ok_or("the hypervisor does not know it")?;
        if machine.power == Power::Off {
            return Err("is powered off".to_owned());
        }
        // What the operator and other plans did since the window closed counts already.
        if let Some(why) = self.situation.scope.opted_out.get(vm) {
            return Err(format!("is left out by the operator: {why}"));
        }
        if machine.labels.contains(NEVER_TOUCH) {
            return Err(format!("bears the label {NEVER_TOUCH}"));
        }
        if self.situation.restraint.own.contains(vm) {
            return Err("the aggregator itself runs on it".to_owned());
        }
        if self.situation.busy.contains(vm) {
            return Err("a plan under way touches it".to_owned());
        }
        if standing.candidate.holds {
            Ok((standing, machine))
        } else {
            Err(standing.candidate.reason.clone())
        }
    }

    /// The applications of a machine, if all of them may leave it and nothing else would miss it;
    /// or why not.
    pub(super) fn emptiable(
        &self,
        vm: &VmId,
        standing: &'a Standing,
    ) -> Result<Vec<&'a AppName>, String> {
        self.candidate(vm)?;
        let mix = standing.mix.as_ref().ok_or("its application mix is not known")?;
        let names: Vec<&AppName> = mix.applications.0.keys().collect();
        if names.is_empty() {
            return Err("it runs no application of its mix, so there is nothing to move".to_owned());
        }
        if let Some((name, reason)) = standing.stays.iter().next() {
            return Err(format!("{name} stays: it {reason}"));
        }
        for name in &names {
            if let Some(reason) = self.stays(vm, standing, name) {
                return Err(format!("{name} stays: {reason}"));
            }
        }
        let leaving = self.leaving(vm, standing);
        if let Some(name) = names.iter().find(|name| !leaving.contains(*name)) {
            return Err(format!("{name} stays: nothing shows that it may leave"));
        }
        standing.besides.clone().map_or(Ok(names), Err)
    }

    /// What more applications may use on a machine, by bucket; `None` if it can carry none.
    pub(super) fn room(&self, standing: &Standing) -> Option<Amounts> {
        let can_carry = |o: &Opportunity| matches!(o, Opportunity::MixUp { .. });
        if !standing.candidate.holds || !standing.opportunities.iter().any(can_carry) {
            return None;
        }
        let (usable, load) = (self.usable(standing)?, self.load_of(standing)?);
        // A machine that is too full at one time is none that takes something in.
        load.fits(&usable).ok()?;
        Some(usable.less(&load))
    }

    /// What of a machine's allocation may be used; `None` if that is not known.
    pub(super) fn usable(&self, standing: &Standing) -> Option<Amounts> {
        let usable = 1.0 - self.situation.policy.headroom;
        let cpu = Millicores(scaled(standing.allocation.cpu?.0, usable));
        let memory = Bytes(scaled(standing.allocation.memory?.0, usable));
        // Memory that is free is rounded down, what is used is rounded up.
        Some(self.buckets.level(cpu, memory.0 >> 10))
    }

    fn load_of(&self, standing: &Standing) -> Option<Amounts> {
        let memory = Bytes(standing.memory_peak?.0.saturating_add(held_back(standing)));
        Some(self.buckets.course((standing.cpu_peak?, memory), Self::needs(standing)))
    }

    /// What a machine uses at most, by bucket; what it is given where that is not known.
    pub(super) fn load(&self, vm: &VmId, machine: &Machine) -> Amounts {
        let given = &machine.allocation;
        let standing = self.standing(vm);
        let cpu = standing.and_then(|standing| standing.cpu_peak).or(given.cpu);
        let memory = standing.and_then(|standing| standing.memory_peak).or(given.memory);
        let memory = memory.unwrap_or_default().0.saturating_add(standing.map_or(0, held_back));
        let needs = standing.into_iter().flat_map(Self::needs);
        self.buckets.course((cpu.unwrap_or_default(), Bytes(memory)), needs)
    }

    /// What those that leave a machine need, and what it uses without them.
    pub(super) fn moving_and_staying(
        &self,
        standing: &Standing,
        leaving: &[&AppName],
    ) -> (Amounts, Amounts) {
        let mut moving = self.buckets.level(Millicores(0), 0);
        let mut peaks = (Millicores(0), Bytes(0));
        for name in leaving {
            let need = Self::need(standing, name).unwrap_or_default();
            moving.add(&self.buckets.demand(&need));
            peaks.0.0 += need.cpu_peak.max(need.cpu_mean).0;
            // Each takes whole KiB.
            peaks.1.0 += need.memory_peak.0.next_multiple_of(1 << 10);
        }
        let staying = standing.needs.keys().filter(|name| !leaving.contains(name));
        let cpu = standing.cpu_peak.unwrap_or_default().0.saturating_sub(peaks.0.0);
        let memory = standing.memory_peak.unwrap_or_default().0.saturating_add(held_back(standing));
        let memory = memory.saturating_sub(peaks.1.0);
        let needs = staying.filter_map(|name| Self::need(standing, name));
        (moving, self.buckets.course((Millicores(cpu), Bytes(memory)), needs))
    }

    /// Networks a machine is plugged into.
    pub(super) fn networks(&self, vm: &VmId) -> BTreeSet<&'a NetworkId> {
        let nics = self.machine(vm).into_iter().flat_map(|machine| &machine.nics);
        nics.filter_map(|nic| nic.network.as_ref()).collect()
    }

    /// Whether a machine is to be emptied whatever that gains.
    pub(super) fn is_drained(&self, vm: &VmId) -> bool {
        self.situation.restraint.drained.contains(vm)
    }

    /// What an application needs on a machine. Memory that was too little for it once goes with it,
    /// however little it was seen to use since.
    pub(super) fn need(standing: &Standing, name: &AppName) -> Option<Need> {
        let need = standing.needs.get(name)?;
        Some(raised(standing, name, need))
    }

    fn needs(standing: &Standing) -> impl Iterator<Item = Need> {
        standing.needs.iter().map(|(name, need)| raised(standing, name, need))
    }

    /// The machine that stands for a machine's group.
    pub(super) fn group(&self, vm: &'a VmId) -> &'a VmId {
        self.standing(vm).and_then(|standing| standing.group.as_ref()).unwrap_or(vm)
    }
}

fn raised(standing: &Standing, name: &AppName, need: &Need) -> Need {
    let floor = standing.mixes.get(name).and_then(|mix| mix.memory_floor).unwrap_or(0);
    Need { memory_peak: Bytes(need.memory_peak.0.max(floor)), ..*need }
}

/// Memory that is kept for applications that once had too little, beyond what they were seen to use.
fn held_back(standing: &Standing) -> u64 {
    let beyond = standing
        .needs
        .iter()
        .map(|(name, need)| raised(standing, name, need).memory_peak.0 - need.memory_peak.0);
    beyond.sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates, and no amount has more than 52 bits of truth"
)]
pub(super) fn scaled(amount: u64, share: f64) -> u64 {
    (amount as f64 * share).floor() as u64
}
