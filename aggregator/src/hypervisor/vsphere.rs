//! Machines of vCenters, or of hosts without one, through vSphere's SOAP interface.
//!
//! ```text
//!  VsphereHypervisor ─┬─ centre a ── inventory kept by change sets ── hosts, machines, datastores
//!                     └─ centre b
//! ```
//!
//! Machines are known by the uuid that their guest sees, hosts by their reference under the centre's
//! name. What is there is read whole once in a session; after that a look costs what changed.
//! Counters are samples of twenty seconds that are added up here: a total begins with the first
//! look, and is not known over a time whose samples are gone.
//!
//! A clone is a full copy, made and marked by one call and changed by a second: it keeps its
//! source's MACs, so that nothing in it finds itself on other hardware, and its links are down
//! until it is isolated, then lead to a port group on a switch of its host that leads nowhere, and
//! into production only once the source is stopped and unplugged. Links into networks that are named
//! as uplinks stay, under a MAC of the clone's own.
//!
//! Our mark is a setting of the machine that names the machine itself, so that whoever copies a
//! clone does not get another. Nothing without it is ever removed or isolated. What operators label
//! `sinter:never-touch` is refused at the moment of the act. Every verb finds its own work done, also
//! by a task whose beginner never heard of it.

mod mark;
mod device;
mod facts;
mod progress;
mod known;
mod site;
mod inventory;
mod telemetry;
mod machine;
mod copy;
mod resize;
mod power;
mod trial_network;
mod swap;
mod verbs;
mod rights;

use std::{collections::BTreeSet, sync::Arc};

use common::{id::VmId, task::Chain};
use futures::future::join_all;

use self::{machine::Found, site::Site};
use super::HypervisorError;
use crate::vendor::{Address, AddressError};

/// One vCenter, or a host without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsphereCentre {
    /// What the operator calls it.
    pub name: String,
    /// Where it is, whom to believe there, and who we are.
    pub address: Address,
    /// Networks by which agents reach the aggregator; no trial takes them away.
    pub uplinks: BTreeSet<String>,
}

/// Machines of vCenters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VsphereHypervisor {
    sites: Arc<Vec<Site>>,
}

impl VsphereHypervisor {
    /// The machines of these centres. Connects to none of them yet: one that does not answer now
    /// may later.
    ///
    /// # Errors
    ///
    /// If an address does not say whom to believe.
    pub fn new(centres: Vec<VsphereCentre>) -> Result<Self, AddressError> {
        let sites = centres.into_iter().map(Site::new).collect::<Result<_, _>>()?;
        Ok(Self { sites: Arc::new(sites) })
    }

    /// How many calls were made of all centres.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.sites.iter().map(|site| site.client.calls()).sum()
    }

    /// Where a machine is. That it is nowhere is only said when all centres say so.
    async fn find(&self, vm: &VmId) -> Result<Option<Found<'_>>, HypervisorError> {
        let asked = self.sites.iter().map(|site| site.find(vm));
        let (mut found, mut failed) = (Vec::new(), None);
        for answer in join_all(asked).await {
            match answer {
                Ok(one) => found.extend(one),
                Err(error) => failed = Some(error),
            }
        }
        match (found.pop(), found.pop(), failed) {
            (Some(one), Some(other), _) => Err(refused(format!(
                "{vm} is {} and {}; give one of them another uuid",
                one.place(),
                other.place()
            ))),
            (Some(found), None, _) => Ok(Some(found)),
            (None, _, Some(error)) => Err(error),
            (None, _, None) => Ok(None),
        }
    }

    /// As [`Self::find`], for what cannot be done to a machine that is not there.
    async fn the(&self, vm: &VmId) -> Result<Found<'_>, HypervisorError> {
        self.find(vm).await?.ok_or_else(|| refused(format!("there is no machine {vm}")))
    }
}

fn refused(reason: impl Into<String>) -> HypervisorError {
    HypervisorError::Refused { reason: reason.into() }
}

impl From<vsphere_soap::Error> for HypervisorError {
    fn from(error: vsphere_soap::Error) -> Self {
        if error.may_pass() {
            return Self::Unreachable(Box::new(error));
        }
        Self::Refused { reason: Chain(&error).to_string() }
    }
}
