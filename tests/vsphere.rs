//! Machines of a simulated vCenter, which is another maker's program: what is told of them is held
//! to what the simulator says of itself, every verb is made twice, and answers are lost.
//!
//! It takes that program: `(cd tests/fixtures/vcsim && go build -o /tmp/vcsim .)`, then
//! `SINTER_VCSIM=/tmp/vcsim cargo test -p sinter-lab --test vsphere -- --nocapture`

use std::{collections::BTreeSet, time::Duration};

use aggregator::{
    hypervisor::{
        Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, Machine, Power, ProbeOrder,
        vsphere::{VsphereCentre, VsphereHypervisor},
    },
    vendor::Trust,
};
use common::{
    id::{NetworkId, VmId},
    units::{Bytes, Millicores},
};
use lab::{
    centre::{self, Between, Centre, PASSWORD, until},
    conformance::{self, VsphereBench},
    demonstration::left_out,
};
use vsphere_soap::{Element, Moref};

const CLONE: &str = "0b6f3b0e-1111-4000-8000-000000000002";
const OTHER: &str = "0b6f3b0e-1111-4000-8000-000000000003";
const TICKET: &str = "ticket-of-a-trial";
const LABELLED: &str = "DC0_C0_RP0_VM1";

struct Bench {
    centre: Centre,
    hypervisor: VsphereHypervisor,
    source: VmId,
    clone: VmId,
    trial: NetworkId,
}

impl Bench {
    async fn inventory(&self) -> Inventory {
        self.hypervisor.inventory().await.unwrap()
    }

    async fn machine(&self, vm: &VmId) -> Machine {
        self.inventory().await.machines.remove(vm).unwrap()
    }

    async fn order(&self) -> CloneOrder {
        CloneOrder {
            source: self.source.clone(),
            clone: self.clone.clone(),
            name: "vm0-trial".to_owned(),
            host: self.machine(&self.source).await.host,
            plan: "plan-1".parse().unwrap(),
            allocation: Allocation {
                cpu: Some(Millicores(500)),
                memory: Some(Bytes::mebi(30)),
                storage: None,
            },
            ticket: TICKET.to_owned(),
        }
    }

    async fn networks(&self) -> BTreeSet<String> {
        let told = self.centre.all("Network", &["name"]).await;
        told.iter().map(|network| network.text("name").unwrap().to_owned()).collect()
    }
}

fn is_refused(error: &HypervisorError, words: &str) {
    assert!(matches!(error, HypervisorError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn is_unreachable(error: &HypervisorError) {
    assert!(matches!(error, HypervisorError::Unreachable(_)), "{error}");
}

fn hypervisor_of(centre: VsphereCentre) -> VsphereHypervisor {
    VsphereHypervisor::new(vec![centre]).unwrap()
}

/// The bench, or `None` once it was said why there is none.
async fn bench(test: &str) -> Option<Bench> {
    bench_with(test, &["-machines", "3"]).await
}

async fn bench_with(test: &str, arguments: &[&str]) -> Option<Bench> {
    let centre = match Centre::up(arguments).await {
        Ok(centre) => centre,
        Err(lacking) => {
            left_out(test, &lacking);
            return None;
        }
    };
    let hypervisor = hypervisor_of(centre.described());
    let source = centre.uuid_of("DC0_C0_RP0_VM0").await.parse().unwrap();
    let (clone, trial) = (CLONE.parse().unwrap(), "trial-1".parse().unwrap());
    Some(Bench { centre, hypervisor, source, clone, trial })
}

async fn step(name: &str, work: impl Future<Output = ()>) {
    let begun = std::time::Instant::now();
    work.await;
    println!("{name:28} {:6.1} s", begun.elapsed().as_secs_f32());
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_a_vcenter_are_seen_cloned_tried_swapped_and_removed() {
    let name = "machines_of_a_vcenter_are_seen_cloned_tried_swapped_and_removed";
    let Some(bench) = bench(name).await else { return };

    step("what is there", is_seen(&bench)).await;
    step("what it does", totals_move(&bench)).await;
    step("only what changed is told", costs_what_changed(&bench)).await;
    step("cloning", is_cloned(&bench)).await;
    step("isolating and starting", is_isolated(&bench)).await;
    step("changing while it runs", is_changed_live(&bench)).await;
    step("session over", survives_its_session(&bench)).await;
    step("promoting", is_promoted(&bench)).await;
    step("restoring", is_restored(&bench)).await;
    step("removing", is_removed(&bench)).await;
    step("labels at the act", is_never_touched(&bench)).await;
}

async fn is_seen(bench: &Bench) {
    let inventory = bench.inventory().await;

    assert_eq!((inventory.hosts.len(), inventory.machines.len()), (2, 3));
    let machine = &inventory.machines[&bench.source];
    assert_eq!((machine.name.as_str(), machine.power), ("DC0_C0_RP0_VM0", Power::On));
    let expected = Allocation {
        cpu: Some(Millicores(1000)),
        memory: Some(Bytes::mebi(32)),
        storage: Some(Bytes(10 << 30)),
    };
    assert_eq!(machine.allocation, expected);
    let nic = &machine.nics[0];
    assert_eq!(nic.network.as_ref().unwrap().as_str(), "DC0_DVPG0");
    assert_eq!((nic.kind.as_str(), nic.up), ("distributed port group", true));
    assert!(nic.mac.starts_with("00:0c:29:"), "{}", nic.mac);
    let volume = &machine.volumes[0];
    assert_eq!((volume.pool.as_str(), volume.capacity), ("LocalDS_0", Some(Bytes(10 << 30))));
    assert!(volume.allocated.is_some());
    assert_eq!((&machine.cloned_from, &machine.plan), (&None, &None));

    let host = &inventory.hosts[&machine.host];
    let told = bench.centre.all("HostSystem", &["name", "hardware.memorySize"]).await;
    let same = told.iter().find(|told| told.text("name") == Some(&host.name)).unwrap();
    assert_eq!(same.number::<u64>("hardware.memorySize"), Some(host.memory.0));
    assert!(host.cpu.0 >= 1000 && !host.macs.is_empty() && !host.addresses.is_empty());
    let pool = &host.pools[0];
    assert_eq!(pool.id.as_str(), "LocalDS_0");
    assert!(pool.available.unwrap() <= pool.capacity);
}

async fn totals_move(bench: &Bench) {
    let before = bench.hypervisor.telemetry().await.unwrap();
    assert_eq!(before.len(), 3, "all that run");
    let first = before[&bench.source];
    assert_eq!((first.cpu_ms, first.out_of_memory), (Some(0), None));
    assert!(first.memory_used.is_some());

    // The simulator dates its samples by the second.
    let after = until("a later sample", async || {
        let told = bench.hypervisor.telemetry().await.unwrap()[&bench.source];
        (told.taken_at.since(first.taken_at) >= Duration::from_secs(2)).then_some(told)
    })
    .await;
    let known = [after.cpu_ms, after.sent.map(|sent| sent.0), after.written.map(|all| all.0)];
    assert!(known.iter().all(Option::is_some), "{after:?}");
    assert!(after.cpu_ms > first.cpu_ms, "{after:?}");
}

async fn costs_what_changed(bench: &Bench) {
    bench.inventory().await;
    let before = bench.hypervisor.calls();
    bench.inventory().await;
    assert_eq!(bench.hypervisor.calls() - before, 2, "what changed, and the names of attributes");

    bench.centre.rename(&bench.source, "renamed").await;
    bench.centre.power("PowerOffVM_Task", &bench.source).await;
    let machine = bench.machine(&bench.source).await;
    assert_eq!((machine.name.as_str(), machine.power), ("renamed", Power::Off));
    assert!(!bench.hypervisor.telemetry().await.unwrap().contains_key(&bench.source));
    bench.centre.rename(&bench.source, "DC0_C0_RP0_VM0").await;
    bench.centre.power("PowerOnVM_Task", &bench.source).await;
}

async fn is_cloned(bench: &Bench) {
    let order = bench.order().await;

    for _ in 0..2 {
        bench.hypervisor.clone_vm(&order).await.unwrap();
    }

    let inventory = bench.inventory().await;
    assert_eq!(inventory.machines.len(), 4, "twice made, one clone");
    let (source, clone) = (&inventory.machines[&bench.source], &inventory.machines[&bench.clone]);
    assert_eq!((clone.name.as_str(), clone.power), ("vm0-trial", Power::Off));
    let provenance = (clone.cloned_from.as_ref(), clone.plan.as_ref());
    assert_eq!(provenance, (Some(&order.source), Some(&order.plan)));
    assert_eq!(
        (clone.allocation.cpu, clone.allocation.memory),
        (order.allocation.cpu, order.allocation.memory)
    );
    assert_eq!(clone.nics[0].mac, source.nics[0].mac);
    assert!(clone.nics.iter().all(|nic| !nic.up));
    assert_ne!(clone.volumes[0].id, source.volumes[0].id);
    let settings = bench.centre.settings(&bench.clone).await;
    assert_eq!(settings["guestinfo.sinter.ticket"], TICKET);
    assert_eq!(source.power, Power::On);

    let other = CloneOrder { plan: "plan-2".parse().unwrap(), ..order.clone() };
    is_refused(&bench.hypervisor.clone_vm(&other).await.unwrap_err(), "another machine already");
    let named = CloneOrder { clone: OTHER.parse().unwrap(), ..order.clone() };
    is_refused(&bench.hypervisor.clone_vm(&named).await.unwrap_err(), "DuplicateName");
    let elsewhere = CloneOrder { host: "elsewhere/host-1".parse().unwrap(), ..named };
    is_refused(&bench.hypervisor.clone_vm(&elsewhere).await.unwrap_err(), "source's centre");

    let given =
        Allocation { cpu: Some(Millicores(1250)), memory: Some(Bytes::mebi(64)), storage: None };
    for _ in 0..2 {
        bench.hypervisor.configure(&bench.clone, &given).await.unwrap();
    }
    let allocation = bench.machine(&bench.clone).await.allocation;
    assert_eq!((allocation.cpu, allocation.memory), (given.cpu, given.memory));
    let disk = Allocation { storage: Some(Bytes(1 << 30)), ..Allocation::default() };
    is_refused(&bench.hypervisor.configure(&bench.clone, &disk).await.unwrap_err(), "stay so");
}

async fn is_isolated(bench: &Bench) {
    let refused = bench.hypervisor.isolate(&bench.source, &bench.trial).await.unwrap_err();
    is_refused(&refused, "production is never isolated");
    let foreign = "DC0_DVPG0".parse().unwrap();
    let refused = bench.hypervisor.isolate(&bench.clone, &foreign).await.unwrap_err();
    is_refused(&refused, "not one of ours");

    for _ in 0..2 {
        bench.hypervisor.isolate(&bench.clone, &bench.trial).await.unwrap();
    }
    for _ in 0..2 {
        bench.hypervisor.start(&bench.clone).await.unwrap();
    }

    let clone = bench.machine(&bench.clone).await;
    let nic = &clone.nics[0];
    assert_eq!((nic.network.as_ref(), nic.kind.as_str()), (Some(&bench.trial), "port group"));
    assert!(nic.up && clone.power == Power::On);
    assert!(bench.networks().await.contains("trial-1"));
    let source = bench.machine(&bench.source).await;
    assert_eq!(source.nics[0].network.as_ref().unwrap().as_str(), "DC0_DVPG0");
    assert!(source.nics[0].up);
    assert_eq!(bench.hypervisor.probe(&bench.trial, &ProbeOrder::default()).await.unwrap(), []);
}

async fn is_changed_live(bench: &Bench) {
    let given =
        Allocation { cpu: Some(Millicores(250)), memory: Some(Bytes::mebi(33)), storage: None };
    for _ in 0..2 {
        bench.hypervisor.configure(&bench.clone, &given).await.unwrap();
    }
    let allocation = bench.machine(&bench.clone).await.allocation;
    assert_eq!((allocation.cpu, allocation.memory), (given.cpu, given.memory));

    let more = Allocation { memory: Some(Bytes::mebi(4096)), ..Allocation::default() };
    is_refused(
        &bench.hypervisor.configure(&bench.clone, &more).await.unwrap_err(),
        "while it is off",
    );
    let back = Allocation { cpu: Some(Millicores(2000)), ..Allocation::default() };
    bench.hypervisor.configure(&bench.clone, &back).await.unwrap();
    assert_eq!(bench.machine(&bench.clone).await.allocation.cpu, back.cpu);
}

async fn survives_its_session(bench: &Bench) {
    for _ in 0..2 {
        let ended = bench.centre.end_other_sessions().await;
        assert!(ended > 0);
        assert_eq!(bench.inventory().await.machines.len(), 4);
    }
    bench.centre.end_other_sessions().await;
    assert_eq!(bench.hypervisor.telemetry().await.unwrap().len(), 4);
    bench.centre.end_other_sessions().await;
    bench.hypervisor.start(&bench.clone).await.unwrap();
}

async fn is_promoted(bench: &Bench) {
    for _ in 0..2 {
        bench.hypervisor.promote(&bench.source, &bench.clone).await.unwrap();
    }

    let inventory = bench.inventory().await;
    let (source, clone) = (&inventory.machines[&bench.source], &inventory.machines[&bench.clone]);
    assert_eq!((source.power, clone.power), (Power::Off, Power::On));
    assert_eq!(clone.nics[0].network.as_ref().unwrap().as_str(), "DC0_DVPG0");
    assert!(clone.nics[0].up && !source.nics[0].up);
    assert!(!bench.networks().await.contains("trial-1"), "the trial's network is gone");
    let refused = bench.hypervisor.remove(&bench.clone).await.unwrap_err();
    is_refused(&refused, "restore that one first");
    // Started by hand, it stays unplugged.
    bench.centre.power("PowerOnVM_Task", &bench.source).await;
    assert!(!bench.machine(&bench.source).await.nics[0].up);
    bench.centre.power("PowerOffVM_Task", &bench.source).await;
}

async fn is_restored(bench: &Bench) {
    for _ in 0..2 {
        bench.hypervisor.restore(&bench.source, &bench.clone).await.unwrap();
    }

    let inventory = bench.inventory().await;
    let (source, clone) = (&inventory.machines[&bench.source], &inventory.machines[&bench.clone]);
    assert_eq!((source.power, clone.power), (Power::On, Power::Off));
    assert!(source.nics[0].up);
    let settings = bench.centre.settings(&bench.source).await;
    assert!(settings.get("sinter.displaced").is_none_or(String::is_empty), "{settings:?}");
}

async fn is_removed(bench: &Bench) {
    bench.hypervisor.isolate(&bench.clone, &bench.trial).await.unwrap();
    bench.hypervisor.start(&bench.clone).await.unwrap();
    let refused = bench.hypervisor.remove(&bench.source).await.unwrap_err();
    is_refused(&refused, "was not cloned by us");
    // Whoever copies a clone copies its settings, and gets no clone of ours.
    let copy = bench.centre.copy(&bench.clone, "copy").await;
    let copied: VmId = bench.centre.uuid(&copy).await.parse().unwrap();
    assert_eq!(bench.machine(&copied).await.cloned_from, None);
    is_refused(&bench.hypervisor.remove(&copied).await.unwrap_err(), "was not cloned by us");
    bench.centre.destroy(&copy).await;

    for _ in 0..2 {
        bench.hypervisor.remove(&bench.clone).await.unwrap();
    }

    assert_eq!(bench.inventory().await.machines.len(), 3);
    assert!(!bench.networks().await.contains("trial-1"));
    bench.hypervisor.stop(&bench.clone, Duration::ZERO).await.unwrap();
}

async fn is_never_touched(bench: &Bench) {
    let vm: VmId = bench.centre.uuid_of(LABELLED).await.parse().unwrap();
    let order = CloneOrder { source: vm.clone(), ..bench.order().await };
    bench.centre.label(LABELLED, "gold sinter:never-touch").await;

    let none = Allocation::default();
    for refused in [
        bench.hypervisor.clone_vm(&order).await,
        bench.hypervisor.configure(&vm, &none).await,
        bench.hypervisor.stop(&vm, Duration::ZERO).await,
    ] {
        is_refused(&refused.unwrap_err(), "is labelled sinter:never-touch");
    }
    // Of attributes the simulator tells no changes, so that only who comes anew sees them.
    let anew = hypervisor_of(bench.centre.described());
    let machine = anew.inventory().await.unwrap().machines.remove(&vm).unwrap();
    let labels = ["gold", "sinter:never-touch"].map(str::to_owned);
    assert_eq!(machine.labels, BTreeSet::from(labels));
    assert_eq!(machine.power, Power::On);
}

/// What each verb does when its call is carried out and its answer lost: not known, and done by the
/// same call made again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_found_done_by_the_next_call() {
    let name = "an_answer_that_is_lost_is_found_done_by_the_next_call";
    let Some(bench) = bench_with(name, &["-machines", "3", "-plain"]).await else { return };
    let between = Between::open(bench.centre.address()).await;
    let hypervisor = hypervisor_of(bench.centre.described_at(between.address()));
    let (order, networks) = (bench.order().await, bench.networks().await);
    let given = Allocation { cpu: Some(Millicores(750)), ..Allocation::default() };
    let (source, clone, trial) = (&bench.source, &bench.clone, &bench.trial);

    for call in ["CloneVM_Task", "ReconfigVM_Task"] {
        between.lose_answer_to(call);
        is_unreachable(&hypervisor.clone_vm(&order).await.unwrap_err());
        assert_eq!(between.lost(), 1, "{call}");
        if call == "CloneVM_Task" {
            continue;
        }
        hypervisor.clone_vm(&order).await.unwrap();
    }
    assert_eq!(bench.inventory().await.machines.len(), 4);

    between.lose_answer_to("ReconfigVM_Task");
    is_unreachable(&hypervisor.configure(clone, &given).await.unwrap_err());
    hypervisor.configure(clone, &given).await.unwrap();
    for call in ["AddVirtualSwitch", "AddPortGroup", "ReconfigVM_Task"] {
        between.lose_answer_to(call);
        is_unreachable(&hypervisor.isolate(clone, trial).await.unwrap_err());
        assert_eq!(between.lost(), 1, "{call}");
    }
    hypervisor.isolate(clone, trial).await.unwrap();
    between.lose_answer_to("PowerOnVM_Task");
    is_unreachable(&hypervisor.start(clone).await.unwrap_err());
    hypervisor.start(clone).await.unwrap();
    for call in ["ReconfigVM_Task", "ShutdownGuest", "RemovePortGroup"] {
        between.lose_answer_to(call);
        is_unreachable(&hypervisor.promote(source, clone).await.unwrap_err());
        assert_eq!(between.lost(), 1, "{call}");
    }
    hypervisor.promote(source, clone).await.unwrap();
    for call in ["ShutdownGuest", "ReconfigVM_Task", "PowerOnVM_Task"] {
        between.lose_answer_to(call);
        is_unreachable(&hypervisor.restore(source, clone).await.unwrap_err());
        assert_eq!(between.lost(), 1, "{call}");
    }
    hypervisor.restore(source, clone).await.unwrap();
    between.lose_answer_to("Destroy_Task");
    is_unreachable(&hypervisor.remove(clone).await.unwrap_err());
    hypervisor.remove(clone).await.unwrap();

    // The task that removes it may be on its way still.
    let inventory = until("the clone to be gone", async || {
        Some(bench.inventory().await).filter(|inventory| !inventory.machines.contains_key(clone))
    })
    .await;
    assert_eq!(inventory.machines.len(), 3);
    let machine = &inventory.machines[source];
    assert!(machine.power == Power::On && machine.nics[0].up);
    assert_eq!(bench.networks().await, networks);
    let switches = bench.centre.switches().await;
    assert!(switches.iter().all(|name| name == "vSwitch0"), "{switches:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_who_was_said_is_not_spoken_to() {
    let Some(bench) = bench("whoever_is_not_who_was_said_is_not_spoken_to").await else { return };
    let described = bench.centre.described();

    let mut other = described.clone();
    other.address.trust = Some(Trust::Fingerprint("ab".repeat(32)));
    is_unreachable(&hypervisor_of(other).inventory().await.unwrap_err());

    let mut wrong = described.clone();
    wrong.address.credentials = Some(bench.centre.credentials("wrong"));
    let error = hypervisor_of(wrong).inventory().await.unwrap_err();
    is_refused(&error, "InvalidLogin");
    assert!(!error.to_string().contains("wrong"), "{error}");

    let mut missing = described.clone();
    missing.address.credentials = Some("/nowhere/at/all".into());
    is_refused(&hypervisor_of(missing).inventory().await.unwrap_err(), "/nowhere/at/all");

    // A password that was changed is read anew with the next session.
    let path = bench.centre.credentials("wrong");
    let mut changing = described;
    changing.address.credentials = Some(path.clone());
    let hypervisor = hypervisor_of(changing);
    is_refused(&hypervisor.inventory().await.unwrap_err(), "InvalidLogin");
    centre::write_credentials(&path, PASSWORD);
    assert_eq!(hypervisor.inventory().await.unwrap().machines.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_centre_that_goes_and_comes_back_is_found_again() {
    let name = "a_centre_that_goes_and_comes_back_is_found_again";
    let Some(mut bench) = bench(name).await else { return };
    let order = bench.order().await;
    bench.hypervisor.clone_vm(&order).await.unwrap();

    bench.centre.end();
    for error in [
        bench.hypervisor.inventory().await.map(drop),
        bench.hypervisor.telemetry().await.map(drop),
        // Not success: that it is absent is not known.
        bench.hypervisor.stop(&bench.clone, Duration::ZERO).await,
        bench.hypervisor.remove(&bench.clone).await,
    ] {
        is_unreachable(&error.unwrap_err());
    }
    bench.centre.begin_again().await;

    // It forgot all that was not there at its beginning: so the clone is gone, and that is known.
    let inventory = bench.inventory().await;
    assert_eq!(inventory.machines.len(), 3);
    assert!(inventory.machines.contains_key(&bench.source));
    bench.hypervisor.remove(&bench.clone).await.unwrap();
    bench.hypervisor.clone_vm(&order).await.unwrap();
    assert_eq!(bench.inventory().await.machines.len(), 4);
    assert_eq!(bench.hypervisor.telemetry().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_into_an_uplink_stays_under_a_mac_of_the_clones_own() {
    let name = "a_link_into_an_uplink_stays_under_a_mac_of_the_clones_own";
    let Some(bench) = bench(name).await else { return };
    let mut described = bench.centre.described();
    described.uplinks = BTreeSet::from(["DC0_DVPG0".to_owned()]);
    let hypervisor = hypervisor_of(described);

    hypervisor.clone_vm(&bench.order().await).await.unwrap();
    hypervisor.isolate(&bench.clone, &bench.trial).await.unwrap();
    hypervisor.start(&bench.clone).await.unwrap();

    let (source, clone) = (bench.machine(&bench.source).await, bench.machine(&bench.clone).await);
    let nic = &clone.nics[0];
    assert_eq!(nic.network.as_ref().unwrap().as_str(), "DC0_DVPG0");
    assert!(nic.up && nic.mac.starts_with("00:50:56:") && nic.mac != source.nics[0].mac);
    hypervisor.promote(&bench.source, &bench.clone).await.unwrap();
    hypervisor.restore(&bench.source, &bench.clone).await.unwrap();
    hypervisor.remove(&bench.clone).await.unwrap();
    let source = bench.machine(&bench.source).await;
    assert!(source.power == Power::On && source.nics[0].up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_two_machines_cannot_have_is_not_cloned() {
    let name = "a_device_that_two_machines_cannot_have_is_not_cloned";
    let Some(bench) = bench(name).await else { return };
    let device =
        Element::new("device").of_kind("VirtualPCIPassthrough").holding(Element::text("key", -1));
    bench.centre.add_device(&bench.source, device).await;

    let refused = bench.hypervisor.clone_vm(&bench.order().await).await.unwrap_err();

    is_refused(&refused, "a device of its host");
    assert_eq!(bench.inventory().await.machines.len(), 3);
    assert_eq!(bench.centre.find(&bench.clone).await, None::<Moref>);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_adapter_promises_is_kept() {
    let name = "what_every_adapter_promises_is_kept";
    let mut bench = match VsphereBench::up().await {
        Ok(bench) => bench,
        Err(lacking) => return left_out(name, &lacking),
    };

    let column = conformance::hold(&mut bench).await;

    let told = conformance::table(std::slice::from_ref(&column));
    println!("{told}");
    assert!(!column.is_wrong(), "{told}");
}

/// A server may let come what is there already without telling all of it anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_a_second_time_costs_no_other() {
    let name = "a_machine_that_comes_a_second_time_costs_no_other";
    let Some(bench) = bench_with(name, &["-machines", "3", "-plain"]).await else { return };
    let between = Between::open(bench.centre.address()).await;
    let hypervisor = hypervisor_of(bench.centre.described_at(between.address()));
    let before = hypervisor.inventory().await.unwrap();
    bench.centre.rename(&bench.source, "renamed").await;
    between.say_instead("<kind>modify</kind>", "<kind >enter</kind>");

    let after = hypervisor.inventory().await.unwrap();

    assert_eq!(after.machines[&bench.source].name, "renamed");
    let ids = |of: &Inventory| of.machines.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!((ids(&after), &after.hosts), (ids(&before), &before.hosts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_look_says_how_far_it_is() {
    let name = "a_first_look_says_how_far_it_is";
    // Several pages, each of which takes its time.
    let slow = ["-machines", "150", "-latency", "100"];
    let Some(bench) = bench_with(name, &slow).await else { return };
    let hypervisor = hypervisor_of(bench.centre.described());
    assert_eq!(hypervisor.first_look(), None);

    let looking = hypervisor.inventory();
    tokio::pin!(looking);
    let seen = until("how far it is", async || {
        let waited = tokio::time::timeout(Duration::from_millis(20), &mut looking).await;
        assert!(waited.is_err(), "it was over before it said how far it is");
        hypervisor.first_look().filter(|look| look.read > 0)
    })
    .await;

    assert!(seen.read < seen.all && seen.all > 150, "{seen:?}");
    assert_eq!(looking.await.unwrap().machines.len(), 150);
    assert_eq!(hypervisor.first_look(), None);
}
