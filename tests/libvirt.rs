//! Machines of a real libvirt, with real guests: what is told of them is held to what they are, and
//! every verb is made twice.
//!
//! It takes a folder of vmlab scripts: `SINTER_VMLAB=/path/to/vmlab VMLAB_STATE=/var/cache/vmlab
//! cargo test -p sinter-lab --test libvirt -- --nocapture`

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use aggregator::hypervisor::{
    Allocation, CloneOrder, Hypervisor, HypervisorError, Inventory, Machine, Power, ProbeOrder,
    Telemetry,
    check::{Check as _, Need, Standing},
    libvirt::{LibvirtHost, LibvirtHypervisor},
};
use common::{
    id::{NetworkId, VmId},
    units::{Bytes, Millicores},
};
use lab::{
    conformance::{self, LibvirtBench},
    demonstration::left_out,
    kvm::{Lab, PREFIX, until},
    vmlab::lacking,
};
use libvirt_rpc::Address;

/// How long a host that is back may stay unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

const CLONE: &str = "0b6f3b0e-1111-4000-8000-000000000002";
const TICKET: &str = "ticket-of-a-trial";

struct Kvm {
    lab: Arc<Lab>,
    hypervisor: LibvirtHypervisor,
    source: VmId,
    clone: VmId,
    trial: NetworkId,
}

impl Kvm {
    async fn inventory(&self) -> Inventory {
        self.hypervisor.inventory().await.unwrap()
    }

    async fn machine(&self, vm: &VmId) -> Machine {
        self.inventory().await.machines.remove(vm).unwrap()
    }

    async fn totals(&self) -> Telemetry {
        self.hypervisor.telemetry().await.unwrap().remove(&self.source).unwrap()
    }

    async fn order(&self) -> CloneOrder {
        CloneOrder {
            source: self.source.clone(),
            clone: self.clone.clone(),
            name: "g1-trial".to_owned(),
            host: self.machine(&self.source).await.host,
            plan: "plan-1".parse().unwrap(),
            allocation: Allocation::default(),
            ticket: TICKET.to_owned(),
        }
    }

    fn volumes(&self) -> BTreeSet<String> {
        let folder = fs::read_dir(self.lab.pool()).unwrap();
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Whether a guest reaches its host over its link.
    fn reaches_host(&self, guest: &str) -> bool {
        self.lab.run(guest, &reach_host()).is_ok()
    }
}

/// Opens a connection to the host's name server: three packets at least, each way.
fn reach_host() -> String {
    format!("timeout 3 bash -c '< /dev/tcp/{PREFIX}.1/53'")
}

fn is_refused(error: &HypervisorError, words: &str) {
    assert!(matches!(error, HypervisorError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_a_real_libvirt_are_seen_cloned_tried_swapped_and_removed() {
    if let Some(lacking) = lacking() {
        left_out("machines_of_a_real_libvirt_are_seen_cloned_tried_swapped_and_removed", &lacking);
        return;
    }
    let lab = Arc::new(Lab::up());
    let host = LibvirtHost {
        name: "lab".to_owned(),
        address: Address::of_socket(&lab.socket()),
        credentials: libvirt_rpc::Credentials::default(),
        uplinks: BTreeSet::new(),
    };
    let hypervisor = LibvirtHypervisor::new(vec![host]);
    let source = lab.virsh(&["domuuid", "g1"]).trim().parse().unwrap();
    let (clone, trial) = (CLONE.parse().unwrap(), "trial-1".parse().unwrap());
    let kvm = Kvm { lab, hypervisor, source, clone, trial };

    step("what is there", is_seen(&kvm)).await;
    step("what we may do there", rights_are_told(&kvm)).await;
    step("what it does", totals_move(&kvm)).await;
    step("cloning", is_cloned(&kvm)).await;
    step("isolating and starting", is_isolated(&kvm)).await;
    step("changing while it runs", is_changed_live(&kvm)).await;
    step("libvirt gone and back", survives_a_restart(&kvm)).await;
    step("promoting", is_promoted(&kvm)).await;
    step("restoring", is_restored(&kvm)).await;
    step("removing", is_removed(&kvm)).await;
    step("what every adapter promises", keeps_promises(&kvm)).await;
    step("cloning one that is off", is_cloned_when_off(&kvm)).await;
}

/// Of all that every adapter promises, on this guest.
async fn keeps_promises(kvm: &Kvm) {
    let mut bench = LibvirtBench::of(Arc::clone(&kvm.lab));
    let column = conformance::hold(&mut bench).await;
    let told = conformance::table(std::slice::from_ref(&column));
    println!("{told}");
    assert!(!column.is_wrong(), "{told}");
}

async fn rights_are_told(kvm: &Kvm) {
    let checked = async |socket: &str, uplinks: &[&str]| {
        let host = LibvirtHost {
            name: "lab".to_owned(),
            address: Address::of_socket(&kvm.lab.socket().with_file_name(socket)),
            credentials: libvirt_rpc::Credentials::default(),
            uplinks: uplinks.iter().map(|&name| name.to_owned()).collect(),
        };
        LibvirtHypervisor::new(vec![host]).check().await
    };
    let before = kvm.lab.virsh(&["dominfo", "g1"]);

    let all = checked("libvirt-sock", &["vmlab"]).await;
    let lacking: Vec<_> = all.iter().filter(|finding| !finding.is_granted()).collect();
    println!("{lacking:?}");
    // A driver that not every host has.
    assert!(lacking.iter().all(|finding| finding.what == "links of the host"), "{lacking:?}");

    let some = checked("libvirt-sock-ro", &["nowhere"]).await;
    let missing = some.iter().filter(|one| matches!(one.standing, Standing::Missing(_)));
    let missing: BTreeSet<&str> = missing.map(|finding| finding.what.as_str()).collect();
    for what in [
        "to change machines",
        "to change networks",
        "to look through pools",
        "to make volumes",
        "whole descriptions of machines",
        "uplink nowhere",
    ] {
        assert!(missing.contains(what), "{what}: {some:?}");
    }
    let observing = some.iter().filter(|finding| finding.need == Need::Observe);
    assert!(observing.filter(|finding| !finding.is_granted()).count() <= 1, "{some:?}");

    let none = checked("nobody", &[]).await;
    assert_eq!((none.len(), none[0].is_granted()), (1, false));
    assert_eq!(
        kvm.lab.virsh(&["dominfo", "g1"]).replace(char::is_numeric, ""),
        before.replace(char::is_numeric, "")
    );
}

async fn step(name: &str, work: impl Future<Output = ()>) {
    let begun = std::time::Instant::now();
    work.await;
    println!("{name:28} {:6.1} s", begun.elapsed().as_secs_f32());
}

async fn is_seen(kvm: &Kvm) {
    let labels = "<labels>silver gold</labels>";
    let uri = ["--uri", "urn:sinter:labels:1", "--key", "labels", "--set", labels];
    kvm.lab.virsh(&[["metadata", "g1", "--config", "--live"].as_slice(), &uri].concat());

    let inventory = kvm.inventory().await;

    let host = inventory.hosts.values().next().unwrap();
    let name = fs::read_to_string("/proc/meminfo").unwrap();
    let total = name.lines().next().unwrap().split_whitespace().nth(1).unwrap();
    assert_eq!(host.memory, Bytes(total.parse::<u64>().unwrap() << 10));
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(host.cpu, Millicores(cpus * 1000));
    assert_eq!(host.addresses, [format!("{PREFIX}.1").parse::<std::net::IpAddr>().unwrap()]);
    assert!(!host.macs.is_empty());
    let pool = &host.pools[0];
    assert_eq!(pool.id.as_str(), "vmlab");
    assert!(pool.available.unwrap() < pool.capacity);

    let machine = &inventory.machines[&kvm.source];
    assert_eq!((machine.name.as_str(), machine.power), ("g1", Power::On));
    assert_eq!(machine.host, host.id);
    let expected = Allocation {
        cpu: Some(Millicores(1000)),
        memory: Some(Bytes::mebi(512)),
        storage: Some(Bytes::mebi(2048)),
    };
    assert_eq!(machine.allocation, expected);
    let nic = &machine.nics[0];
    assert_eq!((nic.mac.as_str(), nic.kind.as_str()), ("52:54:00:63:00:01", "open"));
    assert_eq!(nic.network.as_ref().unwrap().as_str(), "vmlab");
    assert_eq!(nic.addresses, [format!("{PREFIX}.11/24").parse::<ipnet::IpNet>().unwrap()]);
    assert!(nic.up);
    let volume = &machine.volumes[0];
    assert_eq!((volume.pool.as_str(), volume.capacity), ("vmlab", Some(Bytes::mebi(2048))));
    assert!(volume.allocated.unwrap() < Bytes::mebi(2048));
    let labels = ["gold", "silver"].map(str::to_owned);
    assert_eq!(machine.labels, BTreeSet::from(labels));
    assert_eq!((&machine.cloned_from, &machine.plan), (&None, &None));
}

async fn totals_move(kvm: &Kvm) {
    const WRITTEN: Bytes = Bytes::mebi(8);
    let before = kvm.totals().await;
    kvm.lab.run("g1", "dd if=/dev/zero of=/root/big bs=1M count=8 oflag=direct").unwrap();
    kvm.lab.run("g1", &reach_host()).unwrap();
    let after = kvm.totals().await;

    let grown = |of: fn(&Telemetry) -> Option<u64>| of(&after).unwrap() - of(&before).unwrap();
    assert!(grown(|told| told.written.map(|bytes| bytes.0)) >= WRITTEN.0);
    assert!(grown(|told| told.write_operations) >= 8);
    assert!(grown(|told| told.cpu_ms) > 0);
    assert!(grown(|told| told.sent.map(|bytes| bytes.0)) >= 3 * 40);
    assert!(grown(|told| told.received.map(|bytes| bytes.0)) >= 3 * 40);
    let used = after.memory_used.unwrap();
    assert!(used > Bytes::mebi(8) && used < Bytes::mebi(400), "{used}");
    assert_eq!((after.failed_operations, after.out_of_memory), (Some(0), None));
}

async fn is_cloned(kvm: &Kvm) {
    // The image has no login manager, which its own program asks; stopping gently is part of this.
    let script = "#!/bin/sh\\nexec systemctl --no-block poweroff\\n";
    let replaced = format!("rm /sbin/shutdown; printf '{script}' > /sbin/shutdown");
    kvm.lab.run("g1", &format!("{replaced}; chmod +x /sbin/shutdown")).unwrap();
    kvm.lab.run("g1", "echo before > /root/marker && sync").unwrap();
    let order = kvm.order().await;

    kvm.hypervisor.clone_vm(&order).await.unwrap();
    kvm.lab.run("g1", "echo after > /root/later && sync").unwrap();
    kvm.hypervisor.clone_vm(&order).await.unwrap();

    let inventory = kvm.inventory().await;
    assert_eq!(inventory.machines.len(), 2, "twice made, one clone");
    let clone = &inventory.machines[&kvm.clone];
    assert_eq!((clone.name.as_str(), clone.power), ("g1-trial", Power::Off));
    assert_eq!(
        (&clone.cloned_from, &clone.plan),
        (&Some(order.source.clone()), &Some(order.plan.clone()))
    );
    assert_eq!(clone.allocation, inventory.machines[&kvm.source].allocation);
    assert!(clone.nics.iter().all(|nic| !nic.up));
    assert!(clone.volumes[0].allocated.unwrap() < Bytes::mebi(16), "it is thin");

    let other = CloneOrder { plan: "plan-2".parse().unwrap(), ..order.clone() };
    is_refused(&kvm.hypervisor.clone_vm(&other).await.unwrap_err(), "another machine already");
    let elsewhere = CloneOrder {
        clone: "0b6f3b0e-1111-4000-8000-000000000003".parse().unwrap(),
        host: "elsewhere".parse().unwrap(),
        ..order
    };
    is_refused(&kvm.hypervisor.clone_vm(&elsewhere).await.unwrap_err(), "beside its source");

    let given =
        Allocation { cpu: Some(Millicores(500)), memory: Some(Bytes::mebi(400)), storage: None };
    kvm.hypervisor.configure(&kvm.clone, &given).await.unwrap();
    kvm.hypervisor.configure(&kvm.clone, &given).await.unwrap();
    let allocation = kvm.machine(&kvm.clone).await.allocation;
    assert_eq!((allocation.cpu, allocation.memory), (given.cpu, given.memory));
}

async fn is_isolated(kvm: &Kvm) {
    let refused = kvm.hypervisor.isolate(&kvm.source, &kvm.trial).await.unwrap_err();
    is_refused(&refused, "production is never isolated");
    let foreign = "vmlab".parse().unwrap();
    is_refused(&kvm.hypervisor.isolate(&kvm.clone, &foreign).await.unwrap_err(), "not one of ours");

    for _ in 0..2 {
        kvm.hypervisor.isolate(&kvm.clone, &kvm.trial).await.unwrap();
    }
    for _ in 0..2 {
        kvm.hypervisor.start(&kvm.clone).await.unwrap();
    }

    let says = kvm.lab.run_when_up(
        "g1-trial",
        "cat /sys/class/dmi/id/product_uuid /sys/class/dmi/id/product_serial /root/marker; \
         cat /sys/class/net/eth0/address; ls /root/later || true",
    );
    let said: Vec<&str> = says.lines().collect();
    assert_eq!(said, [CLONE, TICKET, "before", "52:54:00:63:00:01"]);
    let address = format!("{PREFIX}.11/24");
    // It is given that by the trial's network, if it asks for one.
    kvm.lab
        .run("g1-trial", &format!("ip addr replace {address} dev eth0 && ip link set eth0 up"))
        .unwrap();
    assert!(!kvm.reaches_host("g1-trial"), "it is isolated");
    assert!(kvm.reaches_host("g1"), "its source is not");
    let clone = kvm.machine(&kvm.clone).await;
    let nic = &clone.nics[0];
    assert_eq!((nic.network.as_ref(), nic.kind.as_str()), (Some(&kvm.trial), "isolated"));
    assert!(nic.up && clone.power == Power::On);
    // libvirt tells of a lease with the prefix of the network that gave it, which is a link-local one.
    let address: ipnet::IpNet = address.parse().unwrap();
    assert!(nic.addresses.iter().any(|net| net.addr() == address.addr()), "{:?}", nic.addresses);

    let none = ProbeOrder::default();
    assert_eq!(kvm.hypervisor.probe(&kvm.trial, &none).await.unwrap(), []);
}

async fn is_changed_live(kvm: &Kvm) {
    let given =
        Allocation { cpu: Some(Millicores(250)), memory: Some(Bytes::mebi(320)), storage: None };
    for _ in 0..2 {
        kvm.hypervisor.configure(&kvm.clone, &given).await.unwrap();
    }
    let begun = std::time::Instant::now();
    loop {
        // The balloon takes its time.
        let allocation = kvm.machine(&kvm.clone).await.allocation;
        if (allocation.cpu, allocation.memory) == (given.cpu, given.memory) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{allocation:?}");
    }
    let more = Allocation { memory: Some(Bytes::mebi(4096)), ..Allocation::default() };
    is_refused(&kvm.hypervisor.configure(&kvm.clone, &more).await.unwrap_err(), "at most");
    let more = Allocation { cpu: Some(Millicores(1000)), ..Allocation::default() };
    kvm.hypervisor.configure(&kvm.clone, &more).await.unwrap();
    assert_eq!(kvm.machine(&kvm.clone).await.allocation.cpu, more.cpu);
}

async fn survives_a_restart(kvm: &Kvm) {
    kvm.lab.end_libvirt();
    let gone = [
        kvm.hypervisor.inventory().await.map(drop),
        kvm.hypervisor.telemetry().await.map(drop),
        // Not success: that it is absent is not known.
        kvm.hypervisor.stop(&kvm.clone, Duration::ZERO).await,
        kvm.hypervisor.remove(&kvm.clone).await,
    ];
    for error in gone.map(Result::unwrap_err) {
        assert!(matches!(error, HypervisorError::Unreachable(_)), "{error}");
    }
    kvm.lab.start_libvirt();
    let begun = std::time::Instant::now();
    let inventory = loop {
        match kvm.hypervisor.inventory().await {
            Ok(inventory) => break inventory,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert!(inventory.machines.values().all(|machine| machine.power == Power::On));
    assert_eq!(inventory.machines.len(), 2);
}

async fn is_promoted(kvm: &Kvm) {
    kvm.lab.virsh(&["autostart", "g1"]);
    for _ in 0..2 {
        kvm.hypervisor.promote(&kvm.source, &kvm.clone).await.unwrap();
    }

    let inventory = kvm.inventory().await;
    let (source, clone) = (&inventory.machines[&kvm.source], &inventory.machines[&kvm.clone]);
    assert_eq!((source.power, clone.power), (Power::Off, Power::On));
    assert_eq!(clone.nics[0].network.as_ref().unwrap().as_str(), "vmlab");
    assert!(clone.nics[0].up && !source.nics[0].up);
    until("the clone to reach the host", || kvm.reaches_host("g1-trial").then_some(()));
    let autostart = kvm.lab.virsh(&["list", "--all", "--autostart", "--name"]);
    assert_eq!(autostart.trim(), "g1-trial");
    let networks = kvm.lab.virsh(&["net-list", "--all", "--name"]);
    assert_eq!(networks.trim(), "vmlab", "the trial's network is gone");
    is_refused(&kvm.hypervisor.remove(&kvm.clone).await.unwrap_err(), "restore that one first");
}

async fn is_restored(kvm: &Kvm) {
    for _ in 0..2 {
        kvm.hypervisor.restore(&kvm.source, &kvm.clone).await.unwrap();
    }

    let inventory = kvm.inventory().await;
    let (source, clone) = (&inventory.machines[&kvm.source], &inventory.machines[&kvm.clone]);
    assert_eq!((source.power, clone.power), (Power::On, Power::Off));
    assert!(source.nics[0].up);
    let says = kvm.lab.run_when_up("g1", "cat /root/marker /root/later");
    assert_eq!(says.lines().collect::<Vec<_>>(), ["before", "after"]);
    until("the source to reach the host", || kvm.reaches_host("g1").then_some(()));
    let autostart = kvm.lab.virsh(&["list", "--all", "--autostart", "--name"]);
    assert_eq!(autostart.trim(), "g1");
    assert!(source.labels.contains("gold"), "what others wrote is kept");
}

async fn is_removed(kvm: &Kvm) {
    is_refused(&kvm.hypervisor.remove(&kvm.source).await.unwrap_err(), "not cloned by us");

    for _ in 0..2 {
        kvm.hypervisor.remove(&kvm.clone).await.unwrap();
    }

    let inventory = kvm.inventory().await;
    assert_eq!(inventory.machines.keys().collect::<Vec<_>>(), [&kvm.source]);
    assert_eq!(kvm.volumes(), BTreeSet::from(["base.qcow2", "g1.qcow2"].map(str::to_owned)));
    assert_eq!(kvm.lab.virsh(&["net-list", "--all", "--name"]).trim(), "vmlab");
    let says =
        kvm.lab.run("g1", "cat /root/marker /root/later && echo merged > /root/last && sync");
    assert_eq!(says.unwrap().lines().collect::<Vec<_>>(), ["before", "after"]);
}

async fn is_cloned_when_off(kvm: &Kvm) {
    for _ in 0..2 {
        kvm.hypervisor.stop(&kvm.source, Duration::from_secs(90)).await.unwrap();
    }
    let order = kvm.order().await;
    for _ in 0..2 {
        kvm.hypervisor.clone_vm(&order).await.unwrap();
    }
    assert_eq!(kvm.volumes().len(), 3);
    // A volume that a clone which never came to be left behind goes too.
    kvm.lab.virsh(&["undefine", "g1-trial"]);
    for _ in 0..2 {
        kvm.hypervisor.remove(&kvm.clone).await.unwrap();
    }
    assert_eq!(kvm.volumes(), BTreeSet::from(["base.qcow2", "g1.qcow2"].map(str::to_owned)));
}
