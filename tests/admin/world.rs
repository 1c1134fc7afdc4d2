//! A whole service in this process, over machines that are only told of, with something to show.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
    time::Duration,
};

use aggregator::{
    cycle::Settings,
    hypervisor::{
        Allocation, CloneOrder, Host, Hypervisor, HypervisorError, Inventory, Machine, Nic, Pool,
        Power, ProbeOrder, ProbeResult, Telemetry,
    },
    inference::{
        Claim, Edge, EdgeKey, Estimate, Evidence, Findings, Need, Opportunity, Party, Peak, Rate,
        Regularity, Standing, StorageEdge, StorageOperation,
    },
    join::{Joined, JoinedMachine, Outcome, Record, Traffic},
    plan::{Goal, MachineChange, Move, Plan, Planned, Step},
    repository::{AgentRecord, AgentState, Incoming, Repository, WindowCommit, WindowRow},
    service::{self, Home, Operator, Service, ServiceSetup},
    storage::pushed::PushedArray,
};
use async_trait::async_trait;
use common::{
    clock::{Clock as _, SystemClock, Timestamp},
    delta,
    id::{NetworkId, VmId},
    mix::{ApplicationMix, EffectiveMix, MixHash, Setup},
    pki::Role,
    sample::{Facts, Package, PackageKey, PackageManager, SampleId, Software},
    units::{Bytes, Millicores},
    wire::types::v1,
};
use prost::Message as _;
use tempfile::TempDir;

/// Machines that are only told of. Whatever is to be done to them is refused.
#[derive(Debug)]
struct Told;

fn given() -> Allocation {
    Allocation { cpu: Some(Millicores(500)), memory: Some(Bytes::mebi(256)), storage: None }
}

fn machine(name: &str, last: u8) -> Machine {
    Machine {
        id: vm(name),
        name: name.to_owned(),
        host: "host-1".parse().unwrap(),
        power: Power::On,
        allocation: given(),
        nics: vec![Nic {
            mac: format!("02:00:00:00:00:{last:02x}"),
            network: Some("production".parse().unwrap()),
            kind: "bridge".to_owned(),
            addresses: vec![format!("10.0.0.{last}/24").parse().unwrap()],
            up: true,
        }],
        volumes: Vec::new(),
        cloned_from: None,
        plan: None,
        labels: BTreeSet::new(),
    }
}

fn refused<T>() -> Result<T, HypervisorError> {
    Err(HypervisorError::Refused { reason: "these machines are only told of".to_owned() })
}

#[async_trait]
impl Hypervisor for Told {
    fn name(&self) -> &str {
        "told"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        let host = Host {
            id: "host-1".parse().unwrap(),
            name: "rack one".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            macs: Vec::new(),
            cpu: Millicores(4000),
            memory: Bytes::mebi(4096),
            pools: vec![Pool {
                id: "pool".parse().unwrap(),
                capacity: Bytes::mebi(1024),
                allocated: None,
                available: Some(Bytes::mebi(512)),
            }],
        };
        let machines = [machine("web", 11), machine("report", 12), machine("idle", 13)];
        Ok(Inventory {
            taken_at: SystemClock.now(),
            hosts: BTreeMap::from([(host.id.clone(), host)]),
            machines: machines.into_iter().map(|machine| (machine.id.clone(), machine)).collect(),
        })
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        Ok(BTreeMap::new())
    }

    async fn clone_vm(&self, _: &CloneOrder) -> Result<(), HypervisorError> {
        refused()
    }

    async fn configure(&self, _: &VmId, _: &Allocation) -> Result<(), HypervisorError> {
        refused()
    }

    async fn start(&self, _: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn stop(&self, _: &VmId, _: Duration) -> Result<(), HypervisorError> {
        refused()
    }

    async fn isolate(&self, _: &VmId, _: &NetworkId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn probe(
        &self,
        _: &NetworkId,
        _: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        refused()
    }

    async fn promote(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn restore(&self, _: &VmId, _: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn remove(&self, _: &VmId) -> Result<(), HypervisorError> {
        Ok(())
    }
}

pub(crate) fn vm(name: &str) -> VmId {
    format!("00000000-0000-0000-0000-{:0>12}", hex(name)).parse().unwrap()
}

fn hex(name: &str) -> String {
    name.bytes().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn mix(names: &[&str]) -> ApplicationMix {
    ApplicationMix(names.iter().map(|name| (name.parse().unwrap(), Setup::default())).collect())
}

fn standing(name: &str, application: Option<&str>) -> Standing {
    let names: Vec<_> = application.into_iter().collect();
    let claim = |holds| Claim { holds, reason: format!("{name} says so") };
    let need = Need { cpu_peak: Millicores(40), ..Need::default() };
    Standing {
        name: name.to_owned(),
        has_agent: true,
        active: claim(true),
        participating: claim(application.is_some()),
        trusted: claim(true),
        candidate: claim(name != "web"),
        opportunities: vec![Opportunity::MixUp { cpu_headroom: 0.9, memory_headroom: 0.8 }],
        coverage: 0.99,
        allocation: given(),
        cpu_peak: Some(Millicores(50)),
        memory_peak: None,
        mix: Some(EffectiveMix { applications: mix(&names), ..EffectiveMix::default() }),
        needs: names.iter().map(|name| (name.parse().unwrap(), need)).collect(),
        ..Standing::default()
    }
}

/// A visitor who comes every five minutes, and what the machine it visits writes.
fn graph() -> (Vec<(EdgeKey, Edge)>, Vec<StorageEdge>) {
    let period = Regularity {
        seconds: 300.0,
        lower: 298.0,
        upper: 302.0,
        false_alarm: 4e-7,
        events: 40,
        trusted: true,
        by: Evidence::Coherence,
    };
    let edge = Edge {
        connections: Rate { per_second: 5.0, lower: 4.5, upper: 5.5 },
        exchanges: Some(Rate { per_second: 20.0, lower: 18.0, upper: 22.0 }),
        seen: 50,
        open_mean: 0.5,
        both_ends: false,
        coverage: 1.0,
        records: vec!["r-1".to_owned()],
        burstiness: Some(Estimate { value: 3.25, lower: 2.0, upper: 5.0 }),
        peak: Some(Peak { per_second_95: 9.5, per_second_most: 12.0, windows: 100 }),
        period: Some(period),
        ..Edge::default()
    };
    let key = EdgeKey {
        client: Party::External { address: "10.0.0.250".parse().unwrap() },
        server: Party::Machine { vm: vm("web"), application: Some("web".parse().unwrap()) },
        port: 8080,
    };
    let storage = StorageEdge {
        vm: vm("web"),
        application: None,
        volume: "vda".to_owned(),
        operation: StorageOperation::Write,
        size_class: Some(12),
        operations: Rate { per_second: 40.0, lower: 38.0, upper: 42.0 },
        succeeded: Some(Estimate { value: 0.9999, lower: 0.999, upper: 1.0 }),
        bytes_per_second: Some(163_840.0),
        coverage: 1.0,
        source: "hypervisor".to_owned(),
        records: vec!["r-2".to_owned()],
    };
    (vec![(key, edge)], vec![storage])
}

fn findings(window: &WindowRow) -> Findings {
    let (edges, storage) = graph();
    Findings {
        window: Some(window.id.clone()),
        closed_at: window.closed_at,
        machines: BTreeMap::from([
            (vm("web"), standing("web", Some("web"))),
            (vm("report"), standing("report", Some("report"))),
            (vm("idle"), standing("idle", None)),
        ]),
        edges,
        storage,
        remarks: vec!["an oddity".to_owned()],
        ..Findings::default()
    }
}

/// A plan that nothing is ever done for: its hypervisor refuses.
pub(crate) fn plan(id: &str, window: &WindowRow) -> Plan {
    let change = |name: &str, before: &[&str], after: &[&str]| MachineChange {
        name: name.to_owned(),
        mix_before: mix(before),
        mix_after: mix(after),
        allocation_before: given(),
        allocation_after: given(),
        retired: after.is_empty(),
    };
    let clone = vm("clone");
    Plan {
        id: id.parse().unwrap(),
        made_at: window.closed_at,
        window: window.id.clone(),
        basis: MixHash([7; 32]),
        goal: Goal::Consolidate,
        summary: "report moves to idle, its machine is released".to_owned(),
        source: vm("idle"),
        clone: clone.clone(),
        host: "host-1".parse().unwrap(),
        moves: vec![Move {
            application: "report".parse().unwrap(),
            from: vm("report"),
            to: vm("idle"),
        }],
        changes: BTreeMap::from([
            (vm("idle"), change("idle", &[], &["report"])),
            (vm("report"), change("report", &["report"], &[])),
        ]),
        steps: vec![Step::Start { clone: clone.clone() }, Step::Audit, Step::RemoveClone { clone }],
        effects: Vec::new(),
        evidence: Vec::new(),
        not_if: "report is called by others".to_owned(),
        bound_by: Vec::new(),
    }
}

fn joined(window: &WindowRow) -> Joined {
    let web = JoinedMachine { name: "web".to_owned(), ..JoinedMachine::default() };
    let key = EdgeKey {
        client: Party::External { address: "10.0.0.250".parse().unwrap() },
        server: Party::Machine { vm: vm("web"), application: Some("web".parse().unwrap()) },
        port: 80,
    };
    Joined {
        window: window.id.clone(),
        from: window.opened_at,
        to: window.closed_at,
        sampled_every: Duration::from_secs(1),
        machines: BTreeMap::from([(vm("web"), web)]),
        edges: BTreeMap::from([(key, Traffic { opened: 50, ..Traffic::default() })]),
        records: Vec::new(),
        remarks: Vec::new(),
    }
}

async fn remember(repository: &Repository) {
    let now = SystemClock.now();
    // Newer than any window that the service closes meanwhile: what is shown stays what it is.
    let opened_at = now + Duration::from_secs(24 * 3600);
    for (id, samples) in [("w-1", 10), ("w-2", 20)] {
        let window = WindowRow {
            id: id.parse().unwrap(),
            opened_at,
            closed_at: Timestamp::from_millis(opened_at.as_millis() + samples),
            samples,
            late: 0,
            missing: Some(1),
            records: 1,
            coverage: BTreeMap::from([(vm("web"), 0.99)]),
        };
        let record = Record {
            key: format!("{id}-r"),
            vm: vm("web"),
            application: Some("web".parse().unwrap()),
            operation: "answer".to_owned(),
            target: "10.0.0.250".to_owned(),
            size_class: None,
            outcome: Outcome::Ok,
            count: 50,
            bytes: None,
            source: "agent".to_owned(),
        };
        // As every window that an earlier version closed, the second was not kept as it was joined.
        let joined = (id == "w-1").then(|| Arc::new(joined(&window)));
        let planned = Planned {
            left_alone: BTreeMap::from([(vm("web"), "it has clients".to_owned())]),
            ..Planned::default()
        };
        let findings = findings(&window);
        let commit = WindowCommit {
            window,
            records: vec![record],
            joined,
            findings,
            planned,
            checkpoints: Vec::new(),
        };
        repository.commit_window(&commit).await.unwrap();
    }
    let row = repository.windows(None, 1).await.unwrap().rows.remove(0);
    for id in ["p-1", "p-2", "p-3"] {
        repository.put_plan(&plan(id, &row)).await.unwrap();
    }
    let agent = AgentRecord {
        id: "a-1".parse().unwrap(),
        vm: vm("web"),
        enrolled_at: now,
        certificate_fingerprint: [1; 32],
        certificate_expires_at: now,
        facts: Facts { agent_version: "0.1.0".to_owned(), ..Facts::default() },
        ephemeral: None,
        state: AgentState::Active,
        reason: String::new(),
    };
    repository.put_agent(&agent).await.unwrap();
    let key = PackageKey {
        manager: PackageManager::Dpkg,
        name: "web-server".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let package = Package { version: "1.2-3".to_owned(), ..Package::default() };
    let all = Software { packages: [(key, package)].into(), ..Software::default() };
    let wire = v1::Sample { epoch: 1, sequence: 1, ..v1::Sample::default() };
    let sample = Incoming {
        id: SampleId { epoch: 1, sequence: 1 },
        received_at: now,
        bytes: wire.encode_to_vec().into(),
        software: delta::of_software(None, &all),
        after_hole: false,
    };
    repository.append_sample(&agent.id, &agent.vm, sample).await.unwrap();
}

/// A service that runs, with an array that is told of, and a context file for each role.
pub(crate) struct World {
    pub(crate) place: TempDir,
    pub(crate) service: Option<Service>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sinter");
        let home = Home::open(&folder, &SystemClock).unwrap();
        remember(&home.repository).await;
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = socket();
        for role in [Role::Collector, Role::Viewer, Role::Operator, Role::Admin] {
            let operator = Operator {
                name: role.name().to_owned(),
                role,
                address: service::reachable(admin.local_addr().unwrap()),
            };
            let out = place.path().join(role.name());
            service::write_operator(&out, &home.authority, &operator, SystemClock.now()).unwrap();
        }
        let filer =
            PushedArray::new("filer".to_owned(), Duration::from_secs(300), Arc::new(SystemClock));
        let vault =
            PushedArray::new("vault".to_owned(), Duration::from_secs(300), Arc::new(SystemClock));
        let vault = vault.only_by(["vault-1".to_owned()].into());
        let setup = ServiceSetup {
            home,
            hypervisor: Arc::new(Told),
            arrays: Vec::new(),
            pushed: Arc::new(
                [("filer".to_owned(), Arc::new(filer)), ("vault".to_owned(), Arc::new(vault))]
                    .into(),
            ),
            defaults: Settings::default(),
            agents: vec![socket()],
            admin: vec![admin],
            clock: Arc::new(SystemClock),
            after_event: None,
        };
        let service = Service::start(setup).await.unwrap();
        until(|| service.steering.inventory().is_some()).await;
        Self { place, service: Some(service) }
    }

    pub(crate) fn context(&self, who: &str) -> PathBuf {
        self.place.path().join(who).join("contexts.toml")
    }

    /// Calls `sinterctl` as the administrator.
    pub(crate) async fn ctl(&self, words: &[&str]) -> Answer {
        self.ctl_as("admin", words).await
    }

    pub(crate) async fn ctl_as(&self, who: &str, words: &[&str]) -> Answer {
        sinterctl(&self.context(who), words).await
    }

    pub(crate) async fn close(mut self) {
        if let Some(service) = self.service.take() {
            service.shut_down().await.unwrap();
        }
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }
}

pub(crate) fn command(program: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(lab::programs::program(program).unwrap());
    command.kill_on_drop(true);
    command
}

pub(crate) async fn sinterctl(context: &Path, words: &[&str]) -> Answer {
    let mut command = command("sinterctl");
    command.arg("--context-file").arg(context).args(words);
    command.output().await.unwrap().into()
}

/// Waits until something holds; fails after a while.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came to hold");
}
