//! One centre: its client, what is known of it, and how its machines are found.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex as Lock, PoisonError},
};

use common::id::{HostId, VmId};
use tokio::{
    sync::{Mutex, oneshot},
    task::JoinSet,
};
use vsphere_soap::{Client, Login, LoginSource, Moref};

use super::{
    VsphereCentre, known::Known, machine::Found, progress::Progress, refused, telemetry::Ledger,
};
use crate::{
    hypervisor::HypervisorError,
    vendor::{Address, AddressError},
};

/// One centre.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) client: Arc<Client>,
    pub(super) uplinks: BTreeSet<String>,
    pub(super) known: Arc<Mutex<Option<Known>>>,
    pub(super) progress: Arc<Progress>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// Held while a network of a trial is made and moved into, or looked at and removed: between the
    /// two it is empty, and would be taken for one that is left over.
    pub(super) moving: Mutex<()>,
    works: Lock<JoinSet<()>>,
}

/// Reads who we are each time a session begins.
fn source_of(address: Address) -> LoginSource {
    Box::new(move || match address.credentials()? {
        Some(known) => Ok(Login { user: known.user, password: known.password }),
        None => Err("no credentials are configured".into()),
    })
}

impl Site {
    pub(super) fn new(centre: VsphereCentre) -> Result<Self, AddressError> {
        let VsphereCentre { name, address, uplinks } = centre;
        let http = address.client()?;
        let client = Client::new(http, address.url.clone(), source_of(address));
        Ok(Self {
            name,
            client: Arc::new(client),
            uplinks,
            known: Arc::default(),
            progress: Arc::default(),
            ledger: Arc::default(),
            moving: Mutex::default(),
            works: Lock::default(),
        })
    }

    /// Does a work to its end, also if whoever asked for it waits no longer: a page of changes that
    /// was sent and not taken in is lost. All works end with the site.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (tell, told) = oneshot::channel();
        {
            let mut works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
            while works.try_join_next().is_some() {}
            works.spawn(async move {
                // Nobody may wait for it any more.
                drop(tell.send(work.await));
            });
        }
        told.await.map_err(|cause| HypervisorError::Unreachable(Box::new(cause)))
    }

    /// Brings what is known up to date.
    pub(super) async fn refresh(&self) -> Result<(), HypervisorError> {
        let (client, known) = (Arc::clone(&self.client), Arc::clone(&self.known));
        let progress = Arc::clone(&self.progress);
        let work =
            async move { Known::refresh(&mut *known.lock().await, &client, &progress).await };
        Ok(self.to_its_end(work).await??)
    }

    /// References are of one centre alone, so that its name comes first.
    pub(super) fn host_id(&self, host: &Moref) -> Result<HostId, HypervisorError> {
        let id = format!("{}/{}", self.name, host.value);
        id.parse().map_err(|cause| refused(format!("host {id}: {cause}")))
    }

    /// The machines of a uuid.
    pub(super) async fn find(&self, vm: &VmId) -> Result<Vec<Found<'_>>, HypervisorError> {
        let mut found = Vec::new();
        for machine in self.client.machines_of(vm.as_str()).await? {
            found.extend(Found::look(self, machine).await?);
        }
        Ok(found)
    }
}
