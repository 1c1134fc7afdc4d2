//! One host: its connection, its name, and what it told unasked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use common::id::HostId;
use libvirt_rpc::{Client, Domain, XmlKind, xml::Element};
use tokio::sync::{Mutex as Held, OnceCell};
use uuid::Uuid;

use super::{LibvirtHost, refused, unreadable};
use crate::hypervisor::HypervisorError;

/// Operations on disks that failed since we listen, by machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Mutex<BTreeMap<Uuid, u64>>>);

impl Faults {
    pub(super) fn count(&self, vm: Uuid) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *faults.entry(vm).or_default() += 1;
    }

    pub(super) fn of(&self, vm: Uuid) -> u64 {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.get(&vm).copied().unwrap_or_default()
    }
}

/// One host.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) uplinks: BTreeSet<String>,
    pub(super) faults: Faults,
    /// Held while a network of a trial is made and moved into, or looked at and removed: between the
    /// two it is empty, and would be taken for one that is left over.
    pub(super) moving: Held<()>,
    id: OnceCell<HostId>,
}

impl Site {
    pub(super) fn new(host: LibvirtHost) -> Self {
        let LibvirtHost { name, address, credentials, uplinks } = host;
        let client = Client::new(address, credentials);
        let (faults, moving, id) = (Faults::default(), Held::default(), OnceCell::new());
        Self { name, client, uplinks, faults, moving, id }
    }

    /// The host's own uuid, which stays when it is given another name.
    pub(super) async fn host_id(&self) -> Result<HostId, HypervisorError> {
        let id = self.id.get_or_try_init(async || {
            let text = self.client.capabilities().await?;
            let capabilities =
                Element::parse(&text).map_err(|cause| unreadable("itself", &cause))?;
            let uuid = capabilities.text_at("host/uuid").map(str::to_lowercase);
            let uuid = uuid.ok_or_else(|| refused(format!("host {} has no uuid", self.name)))?;
            uuid.parse().map_err(|cause| refused(format!("uuid of host {}: {cause}", self.name)))
        });
        id.await.cloned()
    }

    /// A machine's description.
    pub(super) async fn describe(
        &self,
        domain: &Domain,
        kind: XmlKind,
    ) -> Result<Element, HypervisorError> {
        let text = self.client.domain_xml(domain, kind).await?;
        Element::parse(&text).map_err(|cause| unreadable(&domain.name, &cause))
    }
}
