//! Machines of KVM hosts, through libvirt's own protocol: one connection to each host.
//!
//! ```text
//!  LibvirtHypervisor ─┬─ host kvm1 ── libvirtd
//!                     └─ host kvm2 ── libvirtd
//! ```
//!
//! A clone stands on thin layers over its source's disks. A source that runs is given a new top
//! layer each, by one snapshot, so that what the clone stands on never changes; removing the clone
//! merges them again. A source that is off is copied whole.
//!
//! A clone keeps its source's MACs, so that nothing in it finds itself on other hardware, and is
//! never plugged in where its source is: its links are down until it is isolated, then lead into a
//! network of its own, and into production only once the source is stopped and unplugged. Links
//! into networks that are named as uplinks stay, under a MAC of the clone's own.
//!
//! What is ours is marked: machines by an element in their metadata, volumes by their name,
//! networks by their uuid. Nothing else is ever removed. Every verb finds its own work done, so
//! that it can be made again after it was cut off anywhere.

mod tag;
mod description;
mod site;
mod inventory;
mod telemetry;
mod draft;
mod layers;
mod copy;
mod resize;
mod power;
mod trial_network;
mod prober;
mod swap;
mod verbs;
mod rights;

use std::{collections::BTreeSet, sync::Arc};

use common::id::VmId;
use futures::future::join_all;
use libvirt_rpc::{Address, Credentials, Domain, Event, XmlKind, xml::XmlError};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet};
use tracing::warn;
use uuid::Uuid;

use self::site::Site;
use super::{HypervisorError, may_touch};

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtHost {
    /// What the operator calls it.
    pub name: String,
    /// Where its server is.
    pub address: Address,
    /// How it is known if it is on another machine.
    pub credentials: Credentials,
    /// Networks or bridges by which agents reach the aggregator; no trial takes them away.
    pub uplinks: BTreeSet<String>,
}

/// Machines of KVM hosts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LibvirtHypervisor {
    sites: Arc<Vec<Site>>,
    /// They end with the last clone of this.
    _listeners: Arc<JoinSet<()>>,
}

/// A machine where it was found.
struct Found<'a> {
    site: &'a Site,
    domain: Domain,
}

impl LibvirtHypervisor {
    /// The machines of these hosts. Connects to none of them yet: one that does not answer now may
    /// later. To be called on the async runtime.
    #[must_use]
    pub fn new(hosts: Vec<LibvirtHost>) -> Self {
        let sites: Vec<Site> = hosts.into_iter().map(Site::new).collect();
        let mut listeners = JoinSet::new();
        for site in &sites {
            let (mut events, faults) = (site.client.events(), site.faults.clone());
            listeners.spawn(async move {
                loop {
                    match events.recv().await {
                        Ok(Event::IoError { domain, path, reason }) => {
                            warn!(vm = %domain, path, reason, "operation on a disk failed");
                            faults.count(domain);
                        }
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    }
                }
            });
        }
        Self { sites: Arc::new(sites), _listeners: Arc::new(listeners) }
    }

    /// Where a machine is; of two places the one where it runs. That it is nowhere is only said
    /// when all hosts say so.
    async fn find(&self, vm: &VmId) -> Result<Option<Found<'_>>, HypervisorError> {
        let uuid = uuid_of(vm)?;
        let asked = self.sites.iter().map(|site| async move {
            Ok::<_, HypervisorError>((site, site.client.domain(uuid).await?))
        });
        let (mut found, mut failed) = (None::<Found<'_>>, None);
        for answer in join_all(asked).await {
            match answer {
                Ok((site, Some(domain))) => {
                    let is_better = found.as_ref().is_none_or(|one| !one.domain.is_active());
                    if is_better {
                        found = Some(Found { site, domain });
                    }
                }
                Ok((_, None)) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (found, failed) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// As [`Self::find`], for what cannot be done to a machine that is not there.
    async fn the(&self, vm: &VmId) -> Result<Found<'_>, HypervisorError> {
        self.find(vm).await?.ok_or_else(|| refused(format!("there is no machine {vm}")))
    }
}

impl Found<'_> {
    /// Refuses what operators keep for themselves, by what they write there now: to the machine that
    /// runs, or to what it will be.
    async fn may_touch(&self, vm: &VmId) -> Result<(), HypervisorError> {
        for kind in [XmlKind::Present, XmlKind::Inactive] {
            let told = self.site.describe(&self.domain, kind).await?;
            may_touch(vm, &tag::labels(&told))?;
        }
        Ok(())
    }
}

/// libvirt knows machines by uuid alone.
fn uuid_of(vm: &VmId) -> Result<Uuid, HypervisorError> {
    Uuid::parse_str(vm.as_str()).map_err(|_| refused(format!("{vm} is no uuid")))
}

fn refused(reason: impl Into<String>) -> HypervisorError {
    HypervisorError::Refused { reason: reason.into() }
}

/// A description that cannot be read is a host that cannot be worked with.
fn unreadable(of: &str, cause: &XmlError) -> HypervisorError {
    refused(format!("could not read libvirt's description of {of}: {cause}"))
}

impl From<libvirt_rpc::Error> for HypervisorError {
    fn from(error: libvirt_rpc::Error) -> Self {
        if error.may_pass() {
            return Self::Unreachable(Box::new(error));
        }
        Self::Refused { reason: error.to_string() }
    }
}
