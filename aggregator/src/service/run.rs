//! Runs the service that a configuration describes, from the first start to the last signal.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use common::{clock::Clock, pki::Role};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{
    Home, HomeError, Operator, Service, ServiceError, ServiceSetup, listen, programs, reachable,
    write_operator,
};
use crate::{
    config::{ArrayKind, Config, HypervisorConfig},
    cycle::Settings,
    hypervisor::{
        Hypervisor, libvirt::LibvirtHypervisor, namespace::NamespaceHypervisor,
        vsphere::VsphereHypervisor,
    },
    storage::{
        StorageArray,
        pushed::{PushedArray, PushedArrays},
        swordfish::Swordfish,
        target::IscsiTarget,
    },
};

/// The signals that mean: stop. One that comes before anybody waits for it is not lost.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl StopSignals {
    /// Hears them from now on.
    ///
    /// # Errors
    ///
    /// If the system does not tell us its signals.
    pub fn hear() -> Result<Self, ServiceError> {
        let hear = |kind| signal(kind).map_err(ServiceError::Signals);
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hang_up: hear(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn told_to_stop(&mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        };
        info!(signal = name, "told to stop");
    }
}

/// Writes the first operator's files once, when the port's address is known.
fn write_first_operator(
    home: &Home,
    address: SocketAddr,
    clock: &dyn Clock,
) -> Result<(), HomeError> {
    let out = home.folder.join("operators/admin");
    if out.join("contexts.toml").exists() {
        return Ok(());
    }
    let operator =
        Operator { name: "admin".to_owned(), role: Role::Admin, address: reachable(address) };
    let context = write_operator(&out, &home.authority, &operator, clock.now())?;
    info!(context_file = %context.display(), "administrator's certificate made");
    Ok(())
}

/// The hypervisor, and where its machines reach us if not by the network.
async fn hypervisor_of(
    config: &Config,
) -> Result<(Arc<dyn Hypervisor>, Vec<TcpListener>), ServiceError> {
    match &config.hypervisor {
        HypervisorConfig::Namespace { folder } => {
            let agent = programs::agent()?;
            let hypervisor = NamespaceHypervisor::open(folder, &agent).await?;
            let uplink = hypervisor.uplink(config.agents.port())?;
            Ok((Arc::new(hypervisor), vec![uplink]))
        }
        HypervisorConfig::Libvirt { hosts } => {
            // A host that does not answer now may later: the cycle asks again.
            Ok((Arc::new(LibvirtHypervisor::new(hosts.clone())), Vec::new()))
        }
        HypervisorConfig::Vsphere { centres } => {
            let hypervisor =
                VsphereHypervisor::new(centres.clone()).map_err(ServiceError::Centre)?;
            Ok((Arc::new(hypervisor), Vec::new()))
        }
    }
}

/// The arrays, none of which is asked yet.
fn arrays_of(config: &Config) -> Result<Vec<Arc<dyn StorageArray>>, ServiceError> {
    let mut arrays: Vec<Arc<dyn StorageArray>> = Vec::new();
    for array in &config.storage {
        let name = array.name.clone();
        match &array.kind {
            ArrayKind::Swordfish(address) => arrays.push(Arc::new(
                Swordfish::new(name.clone(), address.clone())
                    .map_err(|cause| ServiceError::Array { name, cause })?,
            )),
            ArrayKind::IscsiTarget { program, socket } => {
                arrays.push(Arc::new(IscsiTarget::new(name, program.clone(), socket.clone())));
            }
            ArrayKind::Pushed { .. } => {}
        }
    }
    Ok(arrays)
}

/// The arrays that are not asked but told of.
fn pushed_of(config: &Config, clock: &Arc<dyn Clock>) -> PushedArrays {
    let pushed = config.storage.iter().filter_map(|array| match &array.kind {
        ArrayKind::Pushed { away_after, collectors } => {
            let told_of = PushedArray::new(array.name.clone(), *away_after, Arc::clone(clock));
            let told_of = match collectors {
                Some(collectors) => told_of.only_by(collectors.clone()),
                None => told_of,
            };
            Some((array.name.clone(), Arc::new(told_of)))
        }
        ArrayKind::Swordfish(_) | ArrayKind::IscsiTarget { .. } => None,
    });
    Arc::new(pushed.collect())
}

/// Runs the aggregator that a configuration describes until it is told to stop.
///
/// # Errors
///
/// See [`ServiceError`].
pub async fn run(config: &Config, clock: Arc<dyn Clock>) -> Result<(), ServiceError> {
    let mut signals = StopSignals::hear()?;
    let home = opened(&config.folder, &clock).await?;
    let (agents, admin) = (listen(config.agents)?, listen(config.admin)?);
    let address = |socket: &TcpListener, asked| socket.local_addr().unwrap_or(asked);
    let (agents_at, admin_at) = (address(&agents, config.agents), address(&admin, config.admin));
    write_first_operator(&home, admin_at, &*clock)?;
    let fingerprint = home.fingerprint()?;
    let (hypervisor, uplinks) = hypervisor_of(config).await?;
    let service = Service::start(ServiceSetup {
        home,
        hypervisor,
        arrays: arrays_of(config)?,
        pushed: pushed_of(config, &clock),
        defaults: Settings::default(),
        agents: uplinks.into_iter().chain([agents]).collect(),
        admin: vec![admin],
        clock,
        after_event: None,
    })
    .await?;
    info!(agents = %agents_at, operators = %admin_at, authority = %fingerprint, "aggregator runs");
    let is_whole = tokio::select! {
        () = signals.told_to_stop() => true,
        () = service.failed() => false,
    };
    service.shut_down().await?;
    if is_whole {
        info!("aggregator stopped");
        return Ok(());
    }
    warn!("aggregator stopped because a part of it failed");
    Err(ServiceError::Failed)
}

/// Opens a folder where nobody waits on this thread.
///
/// # Errors
///
/// See [`HomeError`].
pub async fn opened(folder: &Path, clock: &Arc<dyn Clock>) -> Result<Home, ServiceError> {
    let (folder, clock) = (folder.to_owned(), Arc::clone(clock));
    let opened = tokio::task::spawn_blocking(move || Home::open(&folder, &*clock)).await;
    Ok(opened.map_err(|_| ServiceError::Failed)??)
}
