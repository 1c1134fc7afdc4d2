//! An aggregator whose machines exist on paper only: everything from the port to the store is the
//! real thing, the hypervisor is a list of names.

use std::{
    collections::BTreeMap, fs, io, io::Write as _, net::TcpListener, path::Path, sync::Arc,
    time::Duration,
};

use aggregator::{
    catalogue::Catalogue,
    cycle::{Cycle, CycleSetup, Settings},
    guest::{AgentHub, HubSetup},
    hypervisor::{
        Allocation, CloneOrder, Host, Hypervisor, HypervisorError, Inventory, Machine, Power,
        ProbeOrder, ProbeResult, Telemetry,
    },
    listener::{self, Certificates, Limits, Port},
    policy::Policy,
    repository::{Repository, TokenRecord},
};
use async_trait::async_trait;
use common::{
    clock::{Clock, SystemClock},
    id::{NetworkId, VmId},
    pki::Authority,
    signing::ListKey,
    task::Tasks,
    units::{Bytes, Millicores},
};
use sha2::{Digest as _, Sha256};

use crate::{child::Greeting, figure::Failure};

const TOKEN: &str = "laboratory-token-0123456789abcdef0123456789abcdef";
const DAY: Duration = Duration::from_secs(86_400);

/// The uuid of the machine of that number.
#[must_use]
pub fn machine_id(number: usize) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("lab-{number}").as_bytes()).to_string()
}

/// The policy of load tests: short windows, so that many are committed.
#[must_use]
pub fn policy() -> Policy {
    Policy { window_seconds: 2, sample_period_ms: 100, ..Policy::default() }
}

struct OnPaper(Inventory);

impl OnPaper {
    fn new(machines: usize) -> Result<Self, Failure> {
        let host: common::id::HostId = "paper".parse()?;
        let mut inventory = Inventory::default();
        for number in 0..machines {
            let id: VmId = machine_id(number).parse()?;
            let machine = Machine {
                id: id.clone(),
                name: format!("paper-{number}"),
                host: host.clone(),
                power: Power::On,
                allocation: Allocation::default(),
                nics: Vec::new(),
                volumes: Vec::new(),
                cloned_from: None,
                plan: None,
                labels: ["sinter:never-touch".to_owned()].into(),
            };
            inventory.machines.insert(id, machine);
        }
        let paper = Host {
            id: host.clone(),
            name: "paper".into(),
            addresses: Vec::new(),
            macs: Vec::new(),
            cpu: Millicores(1_000_000),
            memory: Bytes(1 << 40),
            pools: Vec::new(),
        };
        inventory.hosts.insert(host, paper);
        Ok(Self(inventory))
    }
}

fn refused<T>() -> Result<T, HypervisorError> {
    Err(HypervisorError::Refused { reason: "these machines exist on paper only".into() })
}

#[async_trait]
impl Hypervisor for OnPaper {
    fn name(&self) -> &str {
        "paper"
    }

    async fn inventory(&self) -> Result<Inventory, HypervisorError> {
        Ok(Inventory { taken_at: SystemClock.now(), ..self.0.clone() })
    }

    async fn telemetry(&self) -> Result<BTreeMap<VmId, Telemetry>, HypervisorError> {
        Ok(BTreeMap::new())
    }

    async fn clone_vm(&self, _order: &CloneOrder) -> Result<(), HypervisorError> {
        refused()
    }

    async fn configure(&self, _vm: &VmId, _to: &Allocation) -> Result<(), HypervisorError> {
        refused()
    }

    async fn start(&self, _vm: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn stop(&self, _vm: &VmId, _deadline: Duration) -> Result<(), HypervisorError> {
        refused()
    }

    async fn isolate(&self, _vm: &VmId, _network: &NetworkId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn probe(
        &self,
        _network: &NetworkId,
        _order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        refused()
    }

    async fn promote(&self, _source: &VmId, _clone: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn restore(&self, _source: &VmId, _clone: &VmId) -> Result<(), HypervisorError> {
        refused()
    }

    async fn remove(&self, _vm: &VmId) -> Result<(), HypervisorError> {
        refused()
    }
}

/// The authority of `folder`, made at the first start.
fn authority(folder: &Path) -> Result<Authority, Failure> {
    let (certificate, key) = (folder.join("authority.pem"), folder.join("authority.key"));
    if certificate.exists() {
        let (certificate, key) = (fs::read_to_string(certificate)?, fs::read_to_string(key)?);
        return Ok(Authority::from_pem(&certificate, &key)?);
    }
    let authority = Authority::create(SystemClock.now())?;
    fs::write(key, authority.key_pem())?;
    fs::write(certificate, authority.certificate_pem())?;
    Ok(authority)
}

/// The port of `folder`: any free one at the first start, the same one ever after.
fn socket(folder: &Path) -> Result<TcpListener, Failure> {
    let file = folder.join("port");
    if let Ok(port) = fs::read_to_string(&file) {
        return Ok(TcpListener::bind(("127.0.0.1", port.trim().parse()?))?);
    }
    let socket = TcpListener::bind("127.0.0.1:0")?;
    fs::write(file, socket.local_addr()?.port().to_string())?;
    Ok(socket)
}

async fn put_token(repository: &Repository) -> Result<(), Failure> {
    let now = SystemClock.now();
    let token = TokenRecord {
        name: "laboratory".into(),
        hash: Sha256::digest(TOKEN.as_bytes()).into(),
        created_by: "laboratory".into(),
        created_at: now,
        expires_at: now + DAY,
        uses_left: None,
        bound_vm: None,
        plan: None,
        revoked: false,
    };
    Ok(repository.put_token(&token).await?)
}

/// Serves over `folder` until it is killed; prints how to be reached.
///
/// # Errors
///
/// If it cannot listen, or the store cannot be opened.
pub async fn serve(folder: &Path, machines: usize) -> Result<(), Failure> {
    let repository = Repository::open(&folder.join("store"))?;
    put_token(&repository).await?;
    let authority = Arc::new(authority(folder)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(OnPaper::new(machines)?);
    let (hub, seen) = AgentHub::new(HubSetup {
        repository: repository.clone(),
        authority: Arc::clone(&authority),
        list_key: Arc::new(ListKey::generate()?),
        clock: Arc::clone(&clock),
        hypervisor: Arc::clone(&hypervisor),
        policy: policy(),
        catalogue: Catalogue::default(),
    });
    let setup = CycleSetup {
        repository,
        hypervisor,
        arrays: Vec::new(),
        guests: Arc::new(hub.clone()),
        clock: Arc::clone(&clock),
        seen,
        defaults: Settings { policy: policy(), ..Settings::default() },
        after_event: None,
    };
    let (cycle, _steering) = Cycle::new(setup).await?;
    let socket = socket(folder)?;
    let greeting = Greeting {
        address: socket.local_addr()?.to_string(),
        authority_pem: authority.certificate_pem().to_owned(),
        token: TOKEN.to_owned(),
        identity: None,
    };
    let port = Port {
        sockets: vec![socket],
        certificates: Certificates::Optional,
        routes: hub.routes(),
        limits: Limits { connections: 20_000, per_source: 20_000 },
    };
    let tasks = Tasks::default();
    tasks.spawn("cycle", cycle.run(tasks.stop()));
    writeln!(io::stdout(), "{}", serde_json::to_string(&greeting)?)?;
    Ok(listener::serve(port, authority, clock, tasks.stop()).await?)
}
