//! Clones a machine: a full copy with our mark, which a second call then makes other than its
//! source.

use std::{collections::BTreeMap, time::Duration};

use common::id::VmId;
use tracing::info;
use vsphere_soap::{CloneSpec, ConfigSpec, Moref, morefs};

use super::{
    VsphereHypervisor, device,
    machine::Found,
    mark::{Displaced, Mark, TICKET},
    refused,
};
use crate::hypervisor::{CloneOrder, HypervisorError};

/// How long copying disks may take. The task goes on when we stop waiting, and the next call waits for
/// it again.
const COPY_LIMIT: Duration = Duration::from_secs(7_200);

impl VsphereHypervisor {
    pub(super) async fn clone_machine(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        if let Some(clone) = self.find(&order.clone).await? {
            return self.complete(&clone, order).await;
        }
        let source = self.the(&order.source).await?;
        // A copy that was begun by a call whose answer was lost.
        let made = source.site.client.settle(&source.of, COPY_LIMIT).await?;
        if let Some(clone) = self.find(&order.clone).await? {
            return self.complete(&clone, order).await;
        }
        if let Some(clone) = source.nameless_copy(made, order).await? {
            return self.make_other(&clone, order).await;
        }
        // That may have taken long, and its labels be others by now.
        let source = self.the(&order.source).await?;
        source.may_touch(&order.source).await?;
        source.may_be_cloned(order)?;
        let spec = source.place_for(order).await?;
        let client = &source.site.client;
        let made = client.run("CloneVM_Task", &source.of, spec.write(), COPY_LIMIT).await?;
        info!(source = %order.source, vm = %order.clone, plan = %order.plan, "machine cloned");
        let clone = match made {
            Some(made) => Found::look(source.site, made).await?,
            None => self.find(&order.clone).await?,
        };
        let gone = || refused(format!("{} is gone as soon as it was made", order.name));
        self.make_other(&clone.ok_or_else(gone)?, order).await
    }

    /// Makes a clone other than its source, if that was not done yet.
    async fn complete(&self, clone: &Found<'_>, order: &CloneOrder) -> Result<(), HypervisorError> {
        let other = || {
            let name = &clone.facts.name;
            refused(format!("{} is another machine already: {name}", order.clone))
        };
        let mark = clone.facts.mark().ok_or_else(other)?;
        if mark.cloned_from != order.source || mark.plan != order.plan {
            return Err(other());
        }
        if mark.is_whole {
            return Ok(());
        }
        clone.site.client.settle(&clone.of, COPY_LIMIT).await?;
        self.make_other(clone, order).await
    }

    async fn make_other(
        &self,
        clone: &Found<'_>,
        order: &CloneOrder,
    ) -> Result<(), HypervisorError> {
        let source = self.the(&order.source).await?;
        let mut spec = clone.spec_for(&order.clone, &order.allocation).await?;
        clone.part(&source, &order.clone, &mut spec).await?;
        spec.uuid = Some(order.clone.to_string());
        spec.extra.extend(settings(order, true));
        clone.reconfigure(&spec).await
    }
}

/// What a clone is marked with and told.
fn settings(order: &CloneOrder, is_whole: bool) -> Vec<(String, String)> {
    vec![
        mark_of(order, is_whole).setting(),
        (TICKET.to_owned(), order.ticket.clone()),
        // What its source was replaced by is nothing of the clone's.
        Displaced::no_setting(),
    ]
}

fn mark_of(order: &CloneOrder, is_whole: bool) -> Mark {
    Mark {
        of: order.clone.clone(),
        cloned_from: order.source.clone(),
        plan: order.plan.clone(),
        is_whole,
    }
}

impl<'a> Found<'a> {
    /// A copy that a lost call made where the server did not mark it at once, as it is asked to: what
    /// a late task of this machine led to, under the name that the plan chose.
    async fn nameless_copy(
        &self,
        made: Vec<Moref>,
        order: &CloneOrder,
    ) -> Result<Option<Found<'a>>, HypervisorError> {
        for of in made.into_iter().filter(|of| of.kind == "VirtualMachine") {
            let found = Found::look(self.site, of).await?;
            let is_it = |found: &Found<'_>| {
                let facts = &found.facts;
                facts.name == order.name && !facts.is_on && facts.mark().is_none()
            };
            if let Some(found) = found.filter(is_it) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn may_be_cloned(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        let source = &order.source;
        if self.facts.is_template {
            return Err(refused(format!("{source} is a template")));
        }
        if let Some(why) = self.devices.iter().find_map(device::why_unique) {
            return Err(refused(format!("{source} cannot be cloned: it has {why}")));
        }
        Ok(())
    }

    /// Where the copy shall be, and what is said of it from its first moment.
    async fn place_for(&self, order: &CloneOrder) -> Result<CloneSpec, HypervisorError> {
        let host = self.host_of(order)?;
        let lacking = |what: &str| refused(format!("{} has no {what}", self.facts.name));
        let own = self.facts.host.clone().ok_or_else(|| lacking("host"))?;
        let paths = ["name", "parent", "datastore"];
        let hosts = [own.clone(), host.clone()];
        let told = self.site.client.properties("HostSystem", &hosts, &paths).await?;
        let told: BTreeMap<_, _> = told.into_iter().map(|told| (told.of.clone(), told)).collect();
        let there = told.get(&host).ok_or_else(|| refused(format!("no host {}", order.host)))?;
        let reached = morefs(there.properties.get("datastore"));
        if let Some(out) = self.datastores().iter().find(|store| !reached.contains(store)) {
            let name = there.text("name").unwrap_or_default();
            let reason = format!("host {name} does not reach {out}, where {} is", order.source);
            return Err(refused(reason));
        }
        let parent = |host: &Moref| told.get(host).and_then(|told| told.moref("parent"));
        let is_together = parent(&own).is_some() && parent(&own) == parent(&host);
        let pool = match self.moref("resourcePool").filter(|_| is_together) {
            Some(pool) => pool,
            None => self.root_pool(parent(&host)).await?,
        };
        let uuid = Some(order.clone.to_string());
        Ok(CloneSpec {
            name: order.name.clone(),
            folder: self
                .moref("parent")
                .ok_or_else(|| lacking("folder; take it out of its vApp"))?,
            pool,
            host,
            config: ConfigSpec { uuid, extra: settings(order, false), ..ConfigSpec::default() },
        })
    }

    fn host_of(&self, order: &CloneOrder) -> Result<Moref, HypervisorError> {
        let value = order.host.as_str().strip_prefix(&format!("{}/", self.site.name));
        let elsewhere = || {
            let reason =
                format!("{} is at {}, {} is not", order.source, self.site.name, order.host);
            refused(format!("{reason}; a clone is made at its source's centre"))
        };
        Ok(Moref::new("HostSystem", value.ok_or_else(elsewhere)?))
    }

    async fn root_pool(&self, of: Option<Moref>) -> Result<Moref, HypervisorError> {
        let lacking = || refused("the host has no pool of resources");
        let of = of.ok_or_else(lacking)?;
        let told = self.site.client.object(&of, &["resourcePool"]).await?;
        told.and_then(|told| told.moref("resourcePool")).ok_or_else(lacking)
    }

    /// Links of the source's addresses, unplugged; those that stay plugged in under one of their own.
    async fn part(
        &self,
        source: &Found<'_>,
        vm: &VmId,
        spec: &mut ConfigSpec,
    ) -> Result<(), HypervisorError> {
        let macs = source.devices.iter().filter_map(device::link);
        let macs: BTreeMap<u32, String> = macs.map(|link| (link.key, link.mac)).collect();
        for device in &self.devices {
            let Some(link) = device::link(device) else { continue };
            let mut device = device.clone();
            let mac = macs.get(&link.key).unwrap_or(&link.mac);
            if self.is_uplink(&link).await? {
                device::address(&mut device, &device::mac_of(vm.as_str(), mac));
            } else {
                device::address(&mut device, mac);
                device::connect(&mut device, false, false);
            }
            spec.extra.push(device::unchecked(&link));
            spec.devices.push(device);
        }
        Ok(())
    }
}
