//! Machines made of namespaces, for real: what they see, what they are held to, how they are
//! cloned, isolated, probed and swapped, and that nothing of them is left.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use aggregator::hypervisor::{
    Allocation, CloneOrder, Hypervisor, HypervisorError, Machine, Power, ProbeKind, ProbeOrder,
    ProbeTarget,
    namespace::{MachineOrder, NamespaceError, NamespaceHypervisor},
};
use common::{
    id::{NetworkId, VmId},
    units::{Bytes, Millicores},
};
use lab::{
    conformance::{self, NamespaceBench},
    demonstration::left_out,
    programs::program,
};
use tempfile::TempDir;
use uuid::Uuid;

/// How long something that shall come about may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent of these machines: it does what their /etc/sinter/start says.
const AGENT: &str = "#!/bin/sh\nexec /bin/bash /etc/sinter/start\n";

struct Lab {
    folder: TempDir,
    hypervisor: NamespaceHypervisor,
}

impl Lab {
    /// `None`, said loudly, where machines cannot be made.
    async fn new() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("sinter-namespace-").tempdir().unwrap();
        let agent = folder.path().join("agent.sh");
        fs::write(&agent, AGENT).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let inner = program("sinter-aggregator").unwrap();
        let state = folder.path().join("state");
        match NamespaceHypervisor::open_with(&state, &agent, &inner).await {
            Ok(hypervisor) => Some(Self { folder, hypervisor }),
            Err(error @ NamespaceError::Host { .. }) => {
                println!("LEFT OUT: {error}");
                let all = std::env::var("SINTER_REQUIRE_ALL").is_ok_and(|all| all == "1");
                assert!(!all, "{error}");
                None
            }
            Err(error) => panic!("{}", common::task::Chain(&error)),
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn create(&self, name: &str, address: &str, start: &str) -> VmId {
        self.create_with(name, address, start, Allocation::default()).await
    }

    async fn create_with(
        &self,
        name: &str,
        address: &str,
        start: &str,
        allocation: Allocation,
    ) -> VmId {
        let vm: VmId = Uuid::new_v4().to_string().parse().unwrap();
        let start = (0o644, start.as_bytes().to_vec());
        let order = MachineOrder {
            vm: vm.clone(),
            name: name.to_owned(),
            address: address.parse().unwrap(),
            allocation,
            files: BTreeMap::from([(PathBuf::from("/etc/sinter/start"), start)]),
            labels: ["tier:test".to_owned()].into(),
        };
        self.hypervisor.create(&order).await.unwrap();
        vm
    }

    async fn started(&self, name: &str, address: &str, start: &str) -> VmId {
        let vm = self.create(name, address, start).await;
        self.hypervisor.start(&vm).await.unwrap();
        vm
    }

    async fn clone_of(&self, source: &VmId) -> VmId {
        let clone: VmId = Uuid::new_v4().to_string().parse().unwrap();
        self.hypervisor.clone_vm(&self.order(source, &clone).await).await.unwrap();
        clone
    }

    async fn order(&self, source: &VmId, clone: &VmId) -> CloneOrder {
        CloneOrder {
            source: source.clone(),
            clone: clone.clone(),
            name: "copy".to_owned(),
            host: self.machine(source).await.host,
            plan: "plan-1".parse().unwrap(),
            allocation: Allocation::default(),
            ticket: "ticket-1".to_owned(),
        }
    }

    async fn machine(&self, vm: &VmId) -> Machine {
        self.hypervisor.inventory().await.unwrap().machines[vm].clone()
    }

    /// What a machine wrote to a file in it; empty until it did.
    fn said(&self, vm: &VmId, path: &str) -> String {
        fs::read_to_string(self.hypervisor.path_in(vm, Path::new(path))).unwrap_or_default()
    }

    async fn says(&self, vm: &VmId, path: &str, text: &str) {
        until(&format!("{text:?} in {path}"), async || self.said(vm, path).contains(text)).await;
    }

    async fn end(self) {
        NamespaceHypervisor::destroy(&self.state()).await.unwrap();
    }
}

impl Drop for Lab {
    /// Also after a test that failed.
    fn drop(&mut self) {
        let state = self.state();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(NamespaceHypervisor::destroy(&state))
        });
        if let Ok(Err(error)) = ended.join() {
            println!("{}", common::task::Chain(&error));
        }
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn network(name: &str) -> NetworkId {
    name.parse().unwrap()
}

/// A script that serves HTTP with the demonstration's workload.
fn serving(listen: &str) -> String {
    let workload = program("sinter-workload").unwrap();
    format!("exec {} serve --listen {listen} --fault-file /var/fault", workload.display())
}

/// A script that says again and again whether it reaches an address.
fn watching(host: &str, port: u16) -> String {
    format!(
        "while true; do
           if timeout 1 bash -c ': < /dev/tcp/{host}/{port}' 2> /dev/null
           then echo yes > /var/next; else echo no > /var/next; fi
           mv /var/next /var/reached; sleep 0.1; done"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_sees_its_own_identity_and_nothing_else_of_the_host() {
    let Some(lab) = Lab::new().await else { return };
    let start = "exec > /var/facts 2>&1
        echo name $(hostname) $(cat /etc/hostname)
        echo uuid $(cat /run/sinter/dmi/product_uuid) serial $(cat /run/sinter/dmi/product_serial)
        echo limits $(cat /run/sinter/limits.toml)
        echo machine $(cat /etc/machine-id)
        echo first $(cat /proc/1/comm) processes $(ls /proc | grep -c '^[0-9]')
        echo folders $(ls /)
        echo homes $(ls /home) tmp $(ls /tmp)
        echo links $(ls /sys/class/net)
        for file in /usr/x /run/sinter/x /etc/machine-id /proc/sys/kernel/domainname /x
        do (echo mine >> $file) 2> /dev/null && echo WROTE $file; done
        umount /proc/sys 2> /dev/null && echo UNMOUNTED
        mount -o remount,bind,rw /usr 2> /dev/null && echo REMOUNTED
        mknod /var/disk b 254 0 2> /dev/null && echo MADE A DEVICE
        hostname other 2> /dev/null && echo RENAMED
        echo done; sleep 1000";
    let allocation =
        Allocation { cpu: Some(Millicores(500)), memory: Some(Bytes::mebi(64)), storage: None };
    let vm = lab.create_with("web-1", "10.77.0.1/24", start, allocation).await;

    lab.hypervisor.start(&vm).await.unwrap();
    lab.says(&vm, "/var/facts", "done").await;

    let facts = lab.said(&vm, "/var/facts");
    println!("{facts}");
    for fact in [
        "name web-1 web-1",
        &format!("uuid {vm} serial {vm}"),
        "limits cpu_millicores = 500 memory_bytes = 67108864",
        "first sinter-init processes",
        "links eth0 lo mgmt0",
    ] {
        assert!(facts.contains(fact), "{fact}");
    }
    for word in ["WROTE", "UNMOUNTED", "REMOUNTED", "DEVICE", "RENAMED"] {
        assert!(!facts.contains(word), "{word}");
    }
    let host = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    assert!(host.trim().is_empty() || !facts.contains(host.trim()));
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_seen_from_outside_with_what_it_uses() {
    let Some(lab) = Lab::new().await else { return };
    let vm = lab.started("web", "10.77.0.1/24", &serving("10.77.0.1:8080")).await;
    let quiet = lab.create("quiet", "10.77.0.2/24", "sleep 1000").await;
    let call = watching("10.77.0.1", 8080);
    let watcher = lab.started("watcher", "10.77.0.3/24", &call).await;
    lab.says(&watcher, "/var/reached", "yes").await;

    let inventory = lab.hypervisor.inventory().await.unwrap();
    let telemetry = lab.hypervisor.telemetry().await.unwrap();

    let machine = &inventory.machines[&vm];
    assert_eq!((machine.name.as_str(), machine.power), ("web", Power::On));
    assert_eq!(inventory.machines[&quiet].power, Power::Off);
    assert_eq!(machine.nics[0].network, Some(network("production")));
    assert_eq!(machine.nics[0].addresses, ["10.77.0.1/24".parse().unwrap()]);
    assert!(machine.nics[0].up && machine.labels.contains("tier:test"));
    assert!(machine.volumes[0].allocated.unwrap() > Bytes(0));
    let host = &inventory.hosts[&machine.host];
    assert!(host.cpu >= Millicores(1000) && host.memory > Bytes::mebi(64));
    assert!(!telemetry.contains_key(&quiet));
    let seen = telemetry[&vm];
    assert!(seen.received.unwrap() > Bytes(0) && seen.sent.unwrap() > Bytes(0), "{seen:?}");
    assert!(seen.memory_used.unwrap() > Bytes(100_000), "{seen:?}");
    assert!(seen.memory_used.unwrap() < Bytes::mebi(200), "{seen:?}");
    assert!(seen.cpu_ms.is_some() && seen.read.is_some() && seen.failed_operations.is_none());
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_and_memory_limits_hold_and_can_be_changed_while_it_runs() {
    let Some(lab) = Lab::new().await else { return };
    let workload = program("sinter-workload").unwrap();
    let start = format!(
        "(while true; do :; done) &
         for i in 1 2; do (while true; do :; done) & done
         while true; do {} job --memory-mib 120; echo $? >> /var/ended; sleep 0.2; done",
        workload.display()
    );
    let allocation =
        Allocation { cpu: Some(Millicores(200)), memory: Some(Bytes::mebi(64)), storage: None };
    let vm = lab.create_with("busy", "10.77.0.1/24", &start, allocation).await;
    lab.hypervisor.start(&vm).await.unwrap();
    if lab.machine(&vm).await.labels.contains("sinter:limits-not-enforced") {
        println!("LEFT OUT: no control group is ours to divide");
        assert!(std::env::var("SINTER_REQUIRE_ALL").is_err());
        return lab.end().await;
    }

    let seen = async || lab.hypervisor.telemetry().await.unwrap()[&vm];
    until("a kill for want of memory", async || seen().await.out_of_memory > Some(0)).await;
    let cores_used = async || {
        let (begun, before) = (Instant::now(), seen().await.cpu_ms.unwrap());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let used = seen().await.cpu_ms.unwrap() - before;
        used as f64 / begun.elapsed().as_millis() as f64
    };
    let limited = cores_used().await;
    let more =
        Allocation { cpu: Some(Millicores(800)), memory: Some(Bytes::mebi(512)), storage: None };
    lab.hypervisor.configure(&vm, &more).await.unwrap();
    let raised = cores_used().await;

    assert!((0.1..0.26).contains(&limited), "{limited} of 0.2 cores");
    assert!(raised > 0.3, "{raised} of 0.8 cores");
    assert_eq!(lab.machine(&vm).await.allocation, more);
    until("the memory it wants", async || seen().await.memory_used.unwrap() > Bytes::mebi(110))
        .await;
    let less = Allocation { memory: Some(Bytes::mebi(32)), ..Allocation::default() };
    let error = lab.hypervisor.configure(&vm, &less).await.unwrap_err();
    assert!(matches!(&error, HypervisorError::Refused { reason } if reason.contains("more than")));
    assert_eq!(lab.machine(&vm).await.allocation, more);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloning_twice_makes_one_machine_with_an_identity_of_its_own() {
    let Some(lab) = Lab::new().await else { return };
    let start = "cat /run/sinter/dmi/product_uuid /run/sinter/dmi/product_serial /etc/machine-id \
                 /etc/hostname /sys/class/net/eth0/address > /var/identity
                 i=0; while true; do i=$((i+1)); echo $i > /var/count; sleep 0.02; done";
    let source = lab.started("web", "10.77.0.1/24", start).await;
    lab.says(&source, "/var/count", "5").await;
    let clone: VmId = Uuid::new_v4().to_string().parse().unwrap();
    let order = lab.order(&source, &clone).await;

    lab.hypervisor.clone_vm(&order).await.unwrap();
    let (first, second) =
        tokio::join!(lab.hypervisor.clone_vm(&order), lab.hypervisor.clone_vm(&order));
    let other_plan = CloneOrder { plan: "plan-2".parse().unwrap(), ..order.clone() };
    let other = lab.hypervisor.clone_vm(&other_plan).await.unwrap_err();

    first.and(second).unwrap();
    assert!(matches!(other, HypervisorError::Refused { .. }), "{other}");
    let machine = lab.machine(&clone).await;
    assert_eq!((machine.power, machine.cloned_from), (Power::Off, Some(source.clone())));
    assert_eq!((machine.plan, machine.nics[0].network.as_ref()), (Some(order.plan), None));
    assert_eq!(lab.hypervisor.inventory().await.unwrap().machines.len(), 2);
    let count = lab.said(&source, "/var/count");
    until("the source to go on", async || lab.said(&source, "/var/count") != count).await;
    assert!(!lab.said(&clone, "/var/count").is_empty());
    fs::remove_file(lab.hypervisor.path_in(&clone, Path::new("/var/identity"))).unwrap();
    lab.hypervisor.start(&clone).await.unwrap();
    lab.says(&clone, "/var/identity", ":").await;
    let (of_source, of_clone) =
        (lab.said(&source, "/var/identity"), lab.said(&clone, "/var/identity"));
    let (of_source, of_clone): (Vec<_>, Vec<_>) =
        (of_source.lines().collect(), of_clone.lines().collect());
    assert_eq!(of_clone[..2], [clone.as_str(), "ticket-1"]);
    assert_eq!(of_clone[3], "copy");
    assert!(of_source.iter().zip(&of_clone).all(|(one, other)| one != other), "{of_clone:?}");
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_starts_processes_all_the_time_is_held_still_and_goes_on() {
    let Some(lab) = Lab::new().await else { return };
    let start = "for i in 1 2 3; do (while true; do sleep 0.002; done) & done
                 i=0; while true; do i=$((i+1)); echo $i > /var/count; sleep 0.002; done";
    let source = lab.started("web", "10.77.0.1/24", start).await;
    lab.says(&source, "/var/count", "1").await;

    for _ in 0..40 {
        lab.clone_of(&source).await;
    }

    let count = lab.said(&source, "/var/count");
    until("the source to go on", async || lab.said(&source, "/var/count") != count).await;
    assert_eq!(lab.hypervisor.inventory().await.unwrap().machines.len(), 41);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_clone_is_unreachable_from_production_and_reaches_us() {
    let Some(lab) = Lab::new().await else { return };
    let listener = lab.hypervisor.uplink(7401).unwrap();
    listener.set_nonblocking(false).unwrap();
    let uplink = lab.hypervisor.uplink_address();
    let start = format!(
        "(while true; do bash -c \"cat /run/sinter/dmi/product_uuid > /dev/tcp/{uplink}/7401\"
           sleep 0.1; done) &
         {}",
        serving("0.0.0.0:8080")
    );
    let source = lab.create("web", "10.77.0.1/24", &start).await;
    let clone = lab.clone_of(&source).await;
    let watcher = lab.started("watcher", "10.77.0.9/24", &watching("10.77.0.1", 8080)).await;

    // Not isolated, so it must come up unplugged.
    lab.hypervisor.start(&clone).await.unwrap();
    let heard = heard(&listener);
    lab.says(&watcher, "/var/reached", "no").await;
    assert_eq!(heard, clone.as_str());
    assert!(!lab.machine(&clone).await.nics[0].up);
    lab.hypervisor.isolate(&clone, &network("trial-1")).await.unwrap();
    lab.hypervisor.isolate(&clone, &network("trial-1")).await.unwrap();
    // The source runs beside it under the same address.
    lab.hypervisor.start(&source).await.unwrap();
    lab.says(&watcher, "/var/reached", "yes").await;
    lab.hypervisor.stop(&source, PATIENCE).await.unwrap();
    lab.says(&watcher, "/var/reached", "no").await;

    until("the clone to call us", async || self::heard(&listener) == clone.as_str()).await;
    let refused = lab.hypervisor.isolate(&clone, &network("production")).await.unwrap_err();
    assert!(matches!(refused, HypervisorError::Refused { .. }));
    lab.end().await;
}

/// What the next caller says.
fn heard(listener: &std::net::TcpListener) -> String {
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    said.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_measures_a_machine_that_finds_stand_ins_for_whom_it_calls() {
    let Some(lab) = Lab::new().await else { return };
    let workload = program("sinter-workload").unwrap();
    let start =
        format!("exec {} serve --listen 10.77.0.1:8080 --call 10.77.0.2:8081", workload.display());
    let source = lab.create("web", "10.77.0.1/24", &start).await;
    let clone = lab.clone_of(&source).await;
    let trial = network("trial-1");
    lab.hypervisor.isolate(&clone, &trial).await.unwrap();
    lab.hypervisor.start(&clone).await.unwrap();
    let target = |port: u16, path: &str, rate_per_second| ProbeTarget {
        address: ([10, 77, 0, 1], port).into(),
        kind: ProbeKind::HttpGet { path: path.to_owned() },
        rate_per_second,
    };
    let order = |seconds, stand_ins: &[&str]| ProbeOrder {
        targets: vec![target(8080, "/work", 20.0), target(9, "/", 5.0)],
        stand_ins: stand_ins.iter().map(|text| text.parse().unwrap()).collect(),
        duration: Duration::from_secs(seconds),
    };
    until("the machine to serve", async || {
        let health = ProbeOrder { targets: vec![target(8080, "/health", 1.0)], ..order(0, &[]) };
        lab.hypervisor.probe(&trial, &health).await.unwrap()[0].successes > 0
    })
    .await;

    let alone = lab.hypervisor.probe(&trial, &order(1, &[])).await.unwrap();
    let stood_in = lab.hypervisor.probe(&trial, &order(2, &["10.77.0.2:8081"])).await.unwrap();

    assert_eq!(alone[0].successes, 0, "{alone:?}");
    assert_eq!((stood_in[0].attempts, stood_in[1].attempts), (40, 10));
    assert!(stood_in[0].successes >= 38, "{stood_in:?}");
    assert!(stood_in[0].median_us.unwrap() <= stood_in[0].p95_us.unwrap());
    assert_eq!((stood_in[1].successes, stood_in[1].median_us), (0, None));
    let empty = lab.hypervisor.probe(&network("trial-2"), &order(1, &[])).await.unwrap_err();
    assert!(matches!(empty, HypervisorError::Refused { .. }));
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_clone_serves_under_the_old_address_and_the_source_comes_back() {
    let Some(lab) = Lab::new().await else { return };
    let source = lab.started("web", "10.77.0.1/24", &serving("10.77.0.1:8080")).await;
    let watcher = lab.started("watcher", "10.77.0.9/24", &watching("10.77.0.1", 8080)).await;
    lab.says(&watcher, "/var/reached", "yes").await;
    let clone = lab.clone_of(&source).await;
    lab.hypervisor.isolate(&clone, &network("trial-1")).await.unwrap();
    lab.hypervisor.start(&clone).await.unwrap();

    lab.hypervisor.promote(&source, &clone).await.unwrap();
    lab.hypervisor.promote(&source, &clone).await.unwrap();

    let (old, new) = (lab.machine(&source).await, lab.machine(&clone).await);
    assert_eq!((old.power, old.nics[0].network.as_ref()), (Power::Off, None));
    assert_eq!((new.power, &new.nics[0].network), (Power::On, &Some(network("production"))));
    let asked = Instant::now();
    lab.says(&watcher, "/var/reached", "yes").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "neighbours still call the old MAC");
    let double = lab.hypervisor.start(&source).await;
    assert!(double.is_ok(), "a machine that is unplugged may run");
    lab.hypervisor.stop(&source, PATIENCE).await.unwrap();

    lab.hypervisor.restore(&source, &clone).await.unwrap();
    lab.hypervisor.restore(&source, &clone).await.unwrap();

    let (old, new) = (lab.machine(&source).await, lab.machine(&clone).await);
    assert_eq!((old.power, &old.nics[0].network), (Power::On, &Some(network("production"))));
    assert_eq!((new.power, new.nics[0].network.as_ref()), (Power::Off, None));
    lab.says(&watcher, "/var/reached", "yes").await;
    lab.hypervisor.remove(&clone).await.unwrap();
    lab.hypervisor.remove(&clone).await.unwrap();
    lab.hypervisor.restore(&source, &clone).await.unwrap();
    let refused = lab.hypervisor.remove(&source).await.unwrap_err();
    assert!(matches!(refused, HypervisorError::Refused { .. }));
    assert_eq!(lab.hypervisor.inventory().await.unwrap().machines.len(), 2);
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_serves_already_is_not_given_to_a_second_machine() {
    let Some(lab) = Lab::new().await else { return };
    let first = lab.started("web", "10.77.0.1/24", "sleep 1000").await;
    let second = lab.create("twin", "10.77.0.1/24", "sleep 1000").await;

    let refused = lab.hypervisor.start(&second).await.unwrap_err();
    lab.hypervisor.stop(&first, PATIENCE).await.unwrap();
    lab.hypervisor.start(&second).await.unwrap();

    assert!(matches!(&refused, HypervisorError::Refused { reason } if reason.contains("web has")));
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_stops_gently_then_by_force_and_restarts_its_agent() {
    let Some(lab) = Lab::new().await else { return };
    let gentle = "trap 'echo bye > /var/bye; exit 0' TERM
                  (trap 'echo bye > /var/child; exit 0' TERM; while true; do sleep 0.1; done) &
                  echo $$ >> /var/starts; while true; do sleep 0.1; done";
    let gentle = lab.started("gentle", "10.77.0.1/24", gentle).await;
    let deaf = "trap '' TERM; echo up > /var/up; while true; do sleep 1; done";
    let deaf = lab.started("deaf", "10.77.0.2/24", deaf).await;
    let crash = "echo up >> /var/starts; exit 1";
    let crash = lab.started("crash", "10.77.0.3/24", crash).await;
    until("the agent's second start", async || lab.said(&crash, "/var/starts").lines().count() > 1)
        .await;
    lab.says(&deaf, "/var/up", "up").await;
    until("the gentle one", async || !lab.said(&gentle, "/var/starts").is_empty()).await;

    let begun = Instant::now();
    lab.hypervisor.stop(&gentle, PATIENCE).await.unwrap();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(lab.said(&gentle, "/var/bye") + &lab.said(&gentle, "/var/child"), "bye\nbye\n");
    let begun = Instant::now();
    lab.hypervisor.stop(&deaf, Duration::from_millis(500)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    for vm in [&gentle, &deaf] {
        lab.hypervisor.stop(vm, PATIENCE).await.unwrap();
        assert_eq!(lab.machine(vm).await.power, Power::Off);
    }
    let absent: VmId = Uuid::new_v4().to_string().parse().unwrap();
    lab.hypervisor.stop(&absent, PATIENCE).await.unwrap();
    lab.hypervisor.start(&absent).await.unwrap_err();
    lab.hypervisor.start(&gentle).await.unwrap();
    lab.hypervisor.start(&gentle).await.unwrap();
    until("one more start", async || lab.said(&gentle, "/var/starts").lines().count() == 2).await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_calls_a_machine_as_anybody_in_production_would() {
    let Some(lab) = Lab::new().await else { return };
    let web = lab.started("web", "10.77.0.1/24", &serving("10.77.0.1:8080")).await;
    let workload = program("sinter-workload").unwrap().display().to_string();
    let command = [&workload, "visit", "--call", "10.77.0.1:8080", "--rate", "20"];
    let command = command.map(str::to_owned);
    let address = "10.77.0.200/24".parse().unwrap();

    lab.hypervisor.visit("visitor", address, &command).await.unwrap();
    lab.hypervisor.visit("visitor", address, &command).await.unwrap();

    until("bytes from the visitor", async || {
        lab.hypervisor.telemetry().await.unwrap()[&web].received > Some(Bytes(4_000))
    })
    .await;
    lab.end().await;
}

/// Everything on the host that names `folder`, or `name` in the control groups.
fn left_over(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let mounts = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        if line.contains(&folder) || mounts.contains(&folder) {
            found.push(format!("{} {line}", path.display()));
        }
    }
    let output = Command::new("find").args(["/sys/fs/cgroup", "-name", "sinter-*"]).output();
    let groups = String::from_utf8(output.unwrap().stdout).unwrap();
    found.extend(groups.lines().map(str::to_owned));
    found
}

fn has_dead_child() -> bool {
    let own = std::process::id().to_string();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(own.as_str())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_the_end() {
    let Some(lab) = Lab::new().await else { return };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let links = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    let group = {
        let text = fs::read_to_string(lab.state().join("fabric.json")).unwrap();
        text.split('"').find(|word| word.contains("/sinter-")).map(PathBuf::from)
    };
    let fork = "for i in 1 2 3; do (while true; do sleep 1; done) & done; wait";
    let web = lab.started("web", "10.77.0.1/24", fork).await;
    let clone = lab.clone_of(&web).await;
    lab.hypervisor.isolate(&clone, &network("trial-1")).await.unwrap();
    lab.hypervisor.start(&clone).await.unwrap();
    let nothing = ProbeOrder::default();
    lab.hypervisor.probe(&network("trial-1"), &nothing).await.unwrap();
    let sleep = ["/bin/sleep".to_owned(), "1000".to_owned()];
    lab.hypervisor.visit("visitor", "10.77.0.7/24".parse().unwrap(), &sleep).await.unwrap();
    fs::write(lab.folder.path().join("other"), "somebody else's").unwrap();
    let found = left_over(&lab.state());
    assert!(found.len() > 5, "the search finds too little to begin with: {found:?}");
    assert!(group.as_ref().is_none_or(|group| group.is_dir()));

    NamespaceHypervisor::destroy(&lab.state()).await.unwrap();
    NamespaceHypervisor::destroy(&lab.state()).await.unwrap();

    until("no child of ours that nobody waits for", async || !has_dead_child()).await;
    let processes = left_over(&lab.state());
    let processes: Vec<_> = processes.iter().filter(|line| line.starts_with("/proc")).collect();
    assert!(processes.is_empty(), "{processes:?}");
    assert!(group.is_none_or(|group| !group.exists()));
    assert!(!lab.state().exists());
    assert!(lab.folder.path().join("other").exists());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    assert_eq!(fs::read_to_string("/proc/net/dev").unwrap().lines().count(), links);
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_at_the_same_time_leave_one_whole_machine() {
    let Some(lab) = Lab::new().await else { return };
    let vm = lab.create("web", "10.77.0.1/24", "echo $$ >> /var/starts; sleep 1000").await;
    let hypervisor = Arc::new(lab.hypervisor.clone());

    let mut calls = tokio::task::JoinSet::new();
    for call in 0..12 {
        let (hypervisor, vm) = (Arc::clone(&hypervisor), vm.clone());
        calls.spawn(async move {
            match call % 3 {
                0 | 1 => hypervisor.start(&vm).await,
                _ => hypervisor.configure(&vm, &Allocation::default()).await,
            }
        });
    }
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }

    lab.says(&vm, "/var/starts", "\n").await;
    assert_eq!(lab.said(&vm, "/var/starts").lines().count(), 1);
    std::io::stdout().flush().unwrap();
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_adapter_promises_is_kept() {
    let mut bench = match NamespaceBench::up().await {
        Ok(bench) => bench,
        Err(lacking) => return left_out("what_every_adapter_promises_is_kept", &lacking),
    };

    let column = conformance::hold(&mut bench).await;

    bench.end().await;
    let told = conformance::table(std::slice::from_ref(&column));
    println!("{told}");
    assert!(!column.is_wrong(), "{told}");
}
