//! Sets the stage: the service, the machines and the visitor; then the story is followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use common::{clock::Clock, id::VmId, pki::Role, task::Chain};
use sha2::{Digest as _, Sha256};

use super::{
    DevError, Options,
    fleet::{self, Introduction},
    follow, io, machines_folder,
    story::{Story, columns},
};
use crate::{
    cycle::{AfterEvent, Settings},
    hypervisor::{Hypervisor as _, Inventory, Machine, Power, namespace::NamespaceHypervisor},
    policy::Policy,
    repository::{Repository, TokenRecord},
    service::{self, Home, Operator, Service, ServiceSetup, StopSignals},
    storage::pushed::PushedArrays,
};

/// Port of the agents on the link that machines reach us by. Nothing else is on that link.
const AGENTS: u16 = 7401;
/// How long a demonstration's join token is good: longer than anybody watches.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// All that is on stage.
pub(super) struct Stage {
    pub(super) hypervisor: NamespaceHypervisor,
    pub(super) service: Service,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) names: BTreeMap<VmId, String>,
    /// The machines that ran when the stage was set.
    pub(super) running: BTreeSet<VmId>,
    /// It goes on where another was killed.
    pub(super) resumes: bool,
}

/// Sets everything up, follows the story, takes the service down again.
pub(super) async fn play(
    options: &Options,
    clock: &Arc<dyn Clock>,
    signals: &mut StopSignals,
) -> Result<(), DevError> {
    let story = Story::new(options.coloured);
    let agent = service::agent_program().map_err(service::ServiceError::from)?;
    let workload = service::workload_program().map_err(service::ServiceError::from)?;
    let machines = machines_folder(&options.folder);
    let hypervisor = NamespaceHypervisor::open(&machines, &agent).await?;
    let home = service::opened(&options.folder.join("home"), clock).await?;
    let introduction = introduction(&home, &hypervisor, &**clock).await?;
    let service = started(options, home, &hypervisor, clock).await?;
    story.tell(&format!(
        "authority and join token made; agents reach us at {}, operators by sinterctl",
        introduction.aggregator
    ))?;
    if options.resume {
        story.tell("going on with the machines that are there")?;
    } else {
        make_machines(options, &hypervisor, &introduction, &workload).await?;
    }
    let inventory = hypervisor.inventory().await?;
    tell_machines(&story, &inventory)?;
    let machines = inventory.machines.values();
    let running = |machine: &&Machine| machine.power == Power::On;
    let stage = Stage {
        running: machines.clone().filter(running).map(|machine| machine.id.clone()).collect(),
        names: machines.map(|machine| (machine.id.clone(), machine.name.clone())).collect(),
        hypervisor,
        service,
        clock: Arc::clone(clock),
        resumes: options.resume,
    };
    let ended = tokio::select! {
        ended = follow::follow(&stage, options, &story) => ended,
        () = stage.service.failed() => Err(service::ServiceError::Failed.into()),
        () = signals.told_to_stop() => story.tell("told to stop; all of it goes"),
    };
    let stopped = stage.service.shut_down().await;
    ended.and(stopped.map_err(Into::into))
}

/// Makes a join token and says how agents find and trust us.
async fn introduction(
    home: &Home,
    hypervisor: &NamespaceHypervisor,
    clock: &dyn Clock,
) -> Result<Introduction, DevError> {
    let token = format!("sinter-{}", uuid::Uuid::new_v4().simple());
    put_token(&home.repository, &token, clock).await?;
    let fingerprint = home.fingerprint().map_err(service::ServiceError::from)?;
    let aggregator = SocketAddr::new(hypervisor.uplink_address(), AGENTS);
    Ok(Introduction { aggregator, fingerprint, token })
}

async fn put_token(
    repository: &Repository,
    token: &str,
    clock: &dyn Clock,
) -> Result<(), DevError> {
    let now = clock.now();
    let record = TokenRecord {
        name: format!("dev-{}", now.as_millis()),
        hash: Sha256::digest(token).into(),
        created_by: "dev".to_owned(),
        created_at: now,
        expires_at: now + TOKEN_LIFETIME,
        uses_left: None,
        bound_vm: None,
        plan: None,
        revoked: false,
    };
    Ok(repository.put_token(&record).await?)
}

async fn started(
    options: &Options,
    home: Home,
    hypervisor: &NamespaceHypervisor,
    clock: &Arc<dyn Clock>,
) -> Result<Service, DevError> {
    let loopback = |port| service::listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    let agents = vec![loopback(0)?, hypervisor.uplink(AGENTS)?];
    let admin = loopback(0)?;
    let address = admin.local_addr().map_err(io("look at the port of", &options.folder))?;
    let operator = Operator {
        name: "admin".to_owned(),
        role: Role::Admin,
        address: service::reachable(address),
    };
    service::write_operator(&options.folder, &home.authority, &operator, clock.now())
        .map_err(service::ServiceError::from)?;
    let catalogue = fleet::catalogue().unwrap_or_else(|cause| {
        tracing::error!(cause = %Chain(&cause), "catalogue of the demonstration not read");
        Default::default()
    });
    // Not the small change first: with all machines alike, each could do with a little less.
    let policy = Policy { gain_per_disruption: 0.2, ..Policy::demonstration() };
    let setup = ServiceSetup {
        home,
        hypervisor: Arc::new(hypervisor.clone()),
        arrays: Vec::new(),
        pushed: PushedArrays::default(),
        defaults: Settings { policy, catalogue, ..Settings::default() },
        agents,
        admin: vec![admin],
        clock: Arc::clone(clock),
        after_event: options.kill_after_event.map(death),
    };
    Ok(Service::start(setup).await?)
}

/// Dies as suddenly as a process can once so many events are written.
fn death(after: u64) -> AfterEvent {
    use nix::{sys::signal, unistd::Pid};
    Arc::new(move |written| {
        if written >= after
            && let Err(cause) = signal::kill(Pid::this(), signal::Signal::SIGKILL)
        {
            tracing::error!(%cause, "could not die");
        }
    })
}

async fn make_machines(
    options: &Options,
    hypervisor: &NamespaceHypervisor,
    introduction: &Introduction,
    workload: &PathBuf,
) -> Result<(), DevError> {
    let program = fs::read(workload).map_err(io("read", workload))?;
    let orders = fleet::machines(options.machines, introduction, &program)
        .map_err(|cause| DevError::NotAsAsked(cause.to_string()))?;
    for order in &orders {
        hypervisor.create(order).await?;
        hypervisor.start(&order.vm).await?;
    }
    let (address, words) = fleet::visitor();
    let mut command = vec![workload.display().to_string()];
    command.extend(words);
    Ok(hypervisor.visit(fleet::VISITOR, address, &command).await?)
}

/// Tells what machines there are.
fn tell_machines(story: &Story, inventory: &Inventory) -> Result<(), DevError> {
    let mut machines: Vec<_> = inventory.machines.values().collect();
    machines.sort_by_key(|machine| machine.nics.iter().flat_map(|nic| nic.addresses.clone()).min());
    let rows: Vec<_> = machines
        .iter()
        .map(|machine| {
            // The first link is the production network's; the other leads to us.
            let addresses = machine.nics.iter().take(1).flat_map(|nic| &nic.addresses);
            let addresses: Vec<_> = addresses.map(|net| net.addr().to_string()).collect();
            let given = &machine.allocation;
            let of = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
            [
                machine.name.clone(),
                addresses.join(" "),
                of(given.cpu.map(|cpu| cpu.to_string())),
                of(given.memory.map(|memory| memory.to_string())),
            ]
        })
        .collect();
    let running = machines.iter().filter(|machine| machine.power == Power::On).count();
    let heading = story.heading(&format!("{running} machines are up"));
    story.tell(&format!("{heading}\n{}", columns(&rows)))
}
