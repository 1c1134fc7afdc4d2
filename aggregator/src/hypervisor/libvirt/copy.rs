//! Clones a machine: its disks first, then its definition, which makes it a machine.

use std::{collections::BTreeMap, time::Duration};

use libvirt_rpc::{Domain, Error, XmlKind, code, xml::Element};
use tracing::{info, warn};

use super::{
    Found, LibvirtHypervisor, description,
    description::Disk,
    draft,
    layers::{own_name, since_name, volume_xml},
    refused,
    site::Site,
    tag::Tag,
};
use crate::hypervisor::{CloneOrder, HypervisorError};

/// How long the agent of a guest may take to say that it is there.
const AGENT_PATIENCE: Duration = Duration::from_secs(3);

impl LibvirtHypervisor {
    pub(super) async fn clone_machine(&self, order: &CloneOrder) -> Result<(), HypervisorError> {
        if let Some(Found { site, domain }) = self.find(&order.clone).await? {
            let told = site.describe(&domain, XmlKind::Inactive).await?;
            return is_it(&Tag::of(&told), &domain.name, order);
        }
        let found = self.the(&order.source).await?;
        found.may_touch(&order.source).await?;
        let Found { site, domain } = found;
        let host = site.host_id().await?;
        if order.host != host {
            let reason = format!("{} is on host {host}, not on {}", order.source, order.host);
            return Err(refused(format!("{reason}; a clone is made beside its source")));
        }
        let source = site.describe(&domain, XmlKind::Secret).await?;
        let plain: Vec<Disk> =
            description::disks(&source).into_iter().filter(|disk| disk.is_writable).collect();
        // Refused before anything is changed.
        draft::clone(&source, order, &BTreeMap::new(), &site.uplinks)?;
        let disks = match domain.is_active() {
            true => site.stand_on(&domain, order, &plain).await?,
            false => site.copy_whole(order, &plain).await?,
        };
        let clone = draft::clone(&source, order, &disks, &site.uplinks)?;
        site.client.define_domain(&clone.write()).await?;
        info!(source = %order.source, vm = %order.clone, plan = %order.plan, "machine cloned");
        Ok(())
    }
}

/// Whether what is there is what the order would make.
fn is_it(there: &Tag, name: &str, order: &CloneOrder) -> Result<(), HypervisorError> {
    let is_it = there.cloned_from.as_ref() == Some(&order.source)
        && there.plan.as_ref() == Some(&order.plan);
    if is_it {
        return Ok(());
    }
    Err(refused(format!("{} is another machine already: {name}", order.clone)))
}

impl Site {
    /// Thin volumes on what a running machine's disks are at one moment.
    async fn stand_on(
        &self,
        domain: &Domain,
        order: &CloneOrder,
        disks: &[Disk],
    ) -> Result<BTreeMap<String, String>, HypervisorError> {
        let still = self.hold_still(domain, order, disks).await?;
        let mut made = BTreeMap::new();
        for (target, (path, format)) in still {
            let name = own_name(&order.clone, &target);
            let (pool, below) = self.volume_at(&path).await?;
            let volume = match self.client.volume_named(&pool, &name).await {
                Err(error) if error.is(&[code::NO_VOLUME]) => {
                    let size = self.client.volume_info(&below).await?.capacity;
                    let xml = volume_xml(&name, size, Some((&path, &format)));
                    self.client.create_volume(&pool, &xml).await?
                }
                found => found?,
            };
            made.insert(target, volume.key);
        }
        Ok(made)
    }

    /// Lets the machine go on in new layers, if it does not yet; what stays as it is, by disk, and
    /// in which format.
    async fn hold_still(
        &self,
        domain: &Domain,
        order: &CloneOrder,
        disks: &[Disk],
    ) -> Result<BTreeMap<String, (String, String)>, HypervisorError> {
        let told = self.describe(domain, XmlKind::Present).await?;
        let mut still = BTreeMap::new();
        let mut shot = Element::new("disks");
        for disk in description::disks(&told) {
            let Some(path) = disk.path.clone() else { continue };
            let layer = since_name(&order.clone, &disk.target);
            let is_wanted = disks.iter().any(|wanted| wanted.target == disk.target);
            let was_done = path.rsplit('/').next() == Some(layer.as_str());
            let entry = Element::new("disk").with("name", disk.target.as_str());
            match (is_wanted, was_done, disk.below) {
                (true, true, Some(below)) => {
                    still.insert(disk.target, below);
                }
                (true, true, None) => {
                    return Err(refused(format!("{path} stands on nothing that is told")));
                }
                (true, false, _) => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let source = Element::new("source").with("file", format!("{folder}/{layer}"));
                    let driver = Element::new("driver").with("type", "qcow2");
                    let entry = entry.with("snapshot", "external").holding(driver).holding(source);
                    shot.children.push(entry);
                    still.insert(disk.target, (path, disk.format));
                }
                (false, ..) => shot.children.push(entry.with("snapshot", "no")),
            }
        }
        if shot.children.iter().any(|disk| disk.attribute("snapshot") == Some("external")) {
            self.shoot(domain, &Element::new("domainsnapshot").holding(shot).write()).await?;
        }
        Ok(still)
    }

    /// Takes a snapshot, at rest if the guest's agent can bring that about.
    async fn shoot(&self, domain: &Domain, xml: &str) -> Result<(), HypervisorError> {
        if self.client.agent_answers(domain, AGENT_PATIENCE).await? {
            match self.client.snapshot(domain, xml, true).await {
                Err(Error::Refused(refusal)) => {
                    warn!(vm = %domain.uuid, %refusal, "guest not brought to rest");
                }
                done => return Ok(done?),
            }
        }
        // As after a power cut: what a journalling file system is made for.
        info!(vm = %domain.uuid, "disks taken as they are");
        Ok(self.client.snapshot(domain, xml, false).await?)
    }

    /// Whole copies of the disks of a machine that is off. One that starts meanwhile is refused by
    /// libvirt, which holds its disks.
    async fn copy_whole(
        &self,
        order: &CloneOrder,
        disks: &[Disk],
    ) -> Result<BTreeMap<String, String>, HypervisorError> {
        let mut made = BTreeMap::new();
        for disk in disks {
            let path = disk.path.as_deref().unwrap_or_default();
            let (pool, from) = self.volume_at(path).await?;
            let name = own_name(&order.clone, &disk.target);
            // One that is there may be half a copy: it counts once the machine is defined.
            match self.client.volume_named(&pool, &name).await {
                Err(error) if error.is(&[code::NO_VOLUME]) => {}
                found => self.client.delete_volume(&found?).await?,
            }
            let size = self.client.volume_info(&from).await?.capacity;
            let volume =
                self.client.copy_volume(&pool, &volume_xml(&name, size, None), &from).await?;
            made.insert(disk.target.clone(), volume.key);
        }
        Ok(made)
    }
}
