//! The machines of a window: what the inventory lists and what the guests say, matched by uuid.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use common::{
    id::VmId,
    sample::{ConnectionState, Facts, Flow, FlowKey},
    units::Bytes,
};

use super::{
    JoinedMachine, OwnCount, Use, Used,
    links::Carried,
    outside::{Outside, millicores},
};
use crate::{
    hypervisor::{Inventory, Machine, Power},
    window::{ApplicationSpan, ConnectionSpan, GuestWindow, SamplingWindow},
};

/// Share of the connections due that an agent must have seen for its silence to mean anything, in
/// hundredths of a per cent.
const COMPLETE: u32 = 9_500;
/// Share of its samples that must have come. Totals go on while none comes: what was missed is told by
/// the next.
const REPORTED: f64 = 0.5;

/// Every machine that the inventory or an agent speaks of.
pub(super) fn machines(
    window: &SamplingWindow,
    remarks: &mut Vec<String>,
) -> BTreeMap<VmId, JoinedMachine> {
    let mut machines = BTreeMap::new();
    for (vm, known) in window.inventory.iter().flat_map(|inventory| &inventory.machines) {
        let mut machine = of_inventory(known);
        machine.on_trial = window.inventory.as_ref().is_some_and(|all| is_on_trial(known, all));
        machines.insert(vm.clone(), machine);
    }
    for (vm, guest) in &window.guests {
        if !machines.contains_key(vm) && window.inventory.is_some() {
            remarks.push(format!("an agent reports from {vm}, which the hypervisor does not know"));
        }
        let machine = machines.entry(vm.clone()).or_default();
        let known = window.inventory.as_ref().and_then(|all| all.machines.get(vm));
        take_guest(machine, vm, guest, known);
        for contradiction in &machine.contradictions {
            remarks.push(format!("{}: {contradiction}", machine.name));
        }
    }
    for (vm, machine) in &mut machines {
        let outside = Outside::of(&window.looks, vm);
        machine.outside = outside.seen();
        machine.cpu_looks = outside.cpu_looks;
        // Most hypervisors do not know; the guest's own kernel does.
        let guest = window.guests.get(vm).and_then(|guest| guest.counters.out_of_memory);
        machine.out_of_memory = outside.out_of_memory.total().or(guest);
    }
    machines
}

fn of_inventory(known: &Machine) -> JoinedMachine {
    JoinedMachine {
        name: known.name.clone(),
        host: Some(known.host.clone()),
        power: Some(known.power),
        allocation: known.allocation,
        pools: known.volumes.iter().map(|volume| volume.pool.clone()).collect(),
        labels: known.labels.clone(),
        addresses: addresses_of(known),
        ..JoinedMachine::default()
    }
}

fn addresses_of(known: &Machine) -> BTreeSet<IpAddr> {
    known.nics.iter().flat_map(|nic| &nic.addresses).map(ipnet::IpNet::addr).collect()
}

/// A clone beside its running source bears its source's addresses and does its work a second
/// time; once the source is off, the clone has taken its place.
fn is_on_trial(machine: &Machine, inventory: &Inventory) -> bool {
    let source = machine.cloned_from.as_ref().and_then(|source| inventory.machines.get(source));
    source.is_some_and(|source| source.power == Power::On)
}

fn take_guest(
    machine: &mut JoinedMachine,
    vm: &VmId,
    guest: &GuestWindow,
    known: Option<&Machine>,
) {
    machine.has_agent = true;
    machine.coverage = guest.coverage();
    machine.guest = use_of(guest);
    machine.mix.clone_from(&guest.mix);
    machine.counted = own_count(guest, known);
    machine.applications =
        guest.applications.iter().map(|(name, span)| (name.clone(), used(span))).collect();
    let spans = guest.connections.values().flatten();
    machine.half_closed = spans.filter(|span| is_half_closed(span)).map(|_| 1).sum();
    if let Some(facts) = &guest.facts {
        if machine.name.is_empty() {
            machine.name.clone_from(&facts.hostname);
        }
        machine.contradictions = contradictions(vm, facts, known);
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        machine.operating_system = told(&facts.operating_system);
        machine.architecture = told(&facts.architecture);
        let interfaces = facts.interfaces.iter().flat_map(|interface| &interface.addresses);
        machine.addresses.extend(interfaces.map(ipnet::IpNet::addr));
    }
    machine.addresses.retain(|address| !address.is_loopback());
    if machine.name.is_empty() {
        machine.name = vm.to_string();
    }
}

fn use_of(guest: &GuestWindow) -> Use {
    let counters = &guest.counters;
    let per_second = |total: Option<u64>| per_second(total, counters.watched);
    Use {
        watched: counters.watched,
        cpu_mean: counters.cpu_ms.and_then(|cpu| millicores(cpu, counters.watched)),
        cpu_peak: counters.cpu_peak,
        memory_peak: counters.memory_peak,
        received_per_second: per_second(counters.received),
        sent_per_second: per_second(counters.sent),
        written_per_second: per_second(counters.written),
    }
}

/// What its flows come to. Those between its own addresses pass no link, and neither do those of
/// addresses that its hypervisor knows nothing of, such as those of containers behind a bridge.
fn own_count(guest: &GuestWindow, known: Option<&Machine>) -> Option<OwnCount> {
    let counted = guest.counted?;
    let own = known.map(addresses_of).unwrap_or_default();
    let passes = |key: &FlowKey| {
        own.contains(&key.local) && !own.contains(&key.remote) && !key.remote.is_loopback()
    };
    let passing = || guest.flows.iter().filter(|(key, _)| passes(key));
    let sum = |part: fn(&Flow) -> Option<Bytes>| {
        let known = passing().filter_map(|(_, flow)| part(flow));
        let sum = known.map(|bytes| bytes.0).fold(0, u64::saturating_add);
        per_second(Some(sum), guest.counted_over).filter(|_| !own.is_empty())
    };
    let mut carried = Carried::default();
    passing().for_each(|(key, flow)| carried.take(key, flow));
    let on_links = carried.per_second(guest.counted_over).filter(|_| !own.is_empty());
    Some(OwnCount {
        complete: counted.ends_are_told
            && counted.merged_edges == 0
            && guest.left_out().edges == 0
            && guest.coverage() >= REPORTED
            && counted.share().is_none_or(|hundredths| hundredths >= COMPLETE),
        received_per_second: sum(|flow| flow.received),
        sent_per_second: sum(|flow| flow.sent),
        received_on_links: on_links.map(|(received, _)| received),
        sent_on_links: on_links.map(|(_, sent)| sent),
    })
}

fn used(span: &ApplicationSpan) -> Used {
    Used {
        listed: span.listed,
        seen: span.seen,
        cpu_mean: millicores(span.cpu_ms, span.watched),
        cpu_peak: span.peak_cpu,
        memory_peak: span.peak_resident,
        cpu_quantiles: span.cpu_quantiles.clone(),
        memory_quantiles: span.memory_quantiles.clone(),
        written_per_second: per_second(span.written, span.watched),
        listens: span.listens.clone(),
        records: Vec::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate has no more than 52 bits of truth")]
fn per_second(total: Option<u64>, over: Duration) -> Option<f64> {
    let seconds = over.as_secs_f64();
    total.filter(|_| seconds > 0.0).map(|total| total as f64 / seconds)
}

/// Whether a connection was open both ways, or had been when it was last seen: `TIME_WAIT` is
/// what is left of one that ended well. One that only waits to be closed, or was never answered,
/// carries nothing.
pub(super) fn is_alive(span: &ConnectionSpan) -> bool {
    span.states.meets(&[
        ConnectionState::Established,
        ConnectionState::TimeWait,
        ConnectionState::Stateless,
    ])
}

fn is_half_closed(span: &ConnectionSpan) -> bool {
    let waits = span.states.meets(&[
        ConnectionState::CloseWait,
        ConnectionState::FinWait1,
        ConnectionState::FinWait2,
        ConnectionState::LastAck,
        ConnectionState::Closing,
    ]);
    waits && !is_alive(span)
}

/// Why the guest is not the machine that the hypervisor means by this uuid. A guest may have more
/// links and addresses than its hypervisor knows of, never none of them.
fn contradictions(vm: &VmId, facts: &Facts, known: Option<&Machine>) -> Vec<String> {
    let mut found = Vec::new();
    let uuid = facts.product_uuid.as_deref().filter(|uuid| !uuid.eq_ignore_ascii_case(vm.as_str()));
    if let Some(uuid) = uuid {
        found.push(format!("the guest says it is {uuid}, its certificate says {vm}"));
    }
    let Some(known) = known else { return found };
    let theirs: BTreeSet<&str> =
        facts.interfaces.iter().filter_map(|interface| interface.mac.as_deref()).collect();
    let ours: BTreeSet<&str> = known.nics.iter().map(|nic| nic.mac.as_str()).collect();
    if !theirs.is_empty() && !ours.is_empty() && theirs.is_disjoint(&ours) {
        let (theirs, ours) = (listed(&theirs), listed(&ours));
        found.push(format!("the guest has the MACs {theirs}, the hypervisor says {ours}"));
    }
    let interfaces = facts.interfaces.iter().flat_map(|interface| &interface.addresses);
    let theirs: BTreeSet<IpAddr> =
        interfaces.map(ipnet::IpNet::addr).filter(|address| !address.is_loopback()).collect();
    let ours = addresses_of(known);
    if !theirs.is_empty() && !ours.is_empty() && theirs.is_disjoint(&ours) {
        let (theirs, ours) = (listed(&theirs), listed(&ours));
        found.push(format!("the guest has the addresses {theirs}, the hypervisor says {ours}"));
    }
    found
}

fn listed<T: ToString>(values: &BTreeSet<T>) -> String {
    let shown: Vec<String> = values.iter().take(4).map(ToString::to_string).collect();
    shown.join(", ")
}
