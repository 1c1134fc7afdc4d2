//! Volumes of clones: how they are named, made and removed, and how a source's layers are merged.
//!
//! ```text
//!  web.qcow2  <── sinter-CLONE.vda.since.qcow2   the source goes on here
//!             <── sinter-CLONE.vda.qcow2         the clone's own
//! ```

use std::time::Duration;

use common::id::VmId;
use futures::future::try_join_all;
use libvirt_rpc::{Domain, Error, Pool, Volume, XmlKind, code, xml::Element};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::{LibvirtHypervisor, description, description::Disk, refused, site::Site};
use crate::hypervisor::HypervisorError;

/// How long merging a layer may take.
const MERGE_PATIENCE: Duration = Duration::from_secs(1_800);
/// How often it is looked whether it is done.
const GLANCE: Duration = Duration::from_millis(250);

/// What all volumes for a clone are named by.
fn prefix(clone: &VmId) -> String {
    format!("sinter-{clone}.")
}

/// Name of the clone's own volume.
pub(super) fn own_name(clone: &VmId, target: &str) -> String {
    format!("{}{target}.qcow2", prefix(clone))
}

/// Name of the layer that the source goes on writing to.
pub(super) fn since_name(clone: &VmId, target: &str) -> String {
    format!("{}{target}.since.qcow2", prefix(clone))
}

/// Whether a path is that of a layer which a source was given for a clone.
fn is_since(path: &str, clone: &VmId) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(&prefix(clone)) && name.ends_with(".since.qcow2")
}

/// How a volume to be made is described; `below` is what it stands on, with its format.
pub(super) fn volume_xml(name: &str, capacity: u64, below: Option<(&str, &str)>) -> String {
    let format = |kind: &str| Element::new("format").with("type", kind);
    let size = Element::new("capacity").with("unit", "bytes").saying(capacity.to_string());
    let mut volume = Element::new("volume")
        .holding(Element::new("name").saying(name))
        .holding(size)
        .holding(Element::new("target").holding(format("qcow2")));
    if let Some((path, kind)) = below {
        let path = Element::new("path").saying(path);
        let below = Element::new("backingStore").holding(path).holding(format(kind));
        volume.children.push(below);
    }
    volume.write()
}

impl Site {
    /// The volume at a path and its pool. A pool that does not know it yet looks again.
    pub(super) async fn volume_at(&self, path: &str) -> Result<(Pool, Volume), HypervisorError> {
        let first = self.client.volume_at(path).await;
        let volume = match first {
            Err(error) if error.is(&[code::NO_VOLUME]) => {
                for pool in self.client.pools().await? {
                    self.client.refresh_pool(&pool).await?;
                }
                self.client.volume_at(path).await
            }
            other => other,
        };
        let volume = match volume {
            Err(error) if error.is(&[code::NO_VOLUME]) => {
                let remedy = "define a pool over its folder";
                return Err(refused(format!("{path} is in no pool of storage; {remedy}")));
            }
            other => other?,
        };
        Ok((self.client.pool_of(&volume).await?, volume))
    }

    /// Takes away what is left of a clone that is gone: merges its source's layers, deletes its
    /// volumes.
    pub(super) async fn sweep(&self, clone: &VmId) -> Result<(), HypervisorError> {
        let domains = self.client.domains().await?;
        let mut still_used = Vec::new();
        for domain in &domains {
            let told = match self.client.domain_xml(domain, XmlKind::Present).await {
                Err(error) if error.is(&[code::NO_DOMAIN]) => continue,
                other => other?,
            };
            // Most machines have nothing to do with it.
            if !told.contains(&prefix(clone)) {
                continue;
            }
            let told = self.describe(domain, XmlKind::Present).await?;
            for disk in description::disks(&told) {
                let is_ours = disk.path.as_ref().is_some_and(|path| is_since(path, clone));
                if is_ours && !self.merge(domain, &disk).await? {
                    still_used.extend(disk.path);
                }
            }
        }
        for pool in self.client.pools().await? {
            self.delete_volumes(&pool, clone, &still_used).await?;
        }
        Ok(())
    }

    async fn delete_volumes(
        &self,
        pool: &Pool,
        clone: &VmId,
        still_used: &[String],
    ) -> Result<(), HypervisorError> {
        let prefix = prefix(clone);
        let mut volumes = self.client.volumes(pool).await?;
        if volumes.iter().any(|volume| volume.name.starts_with(&prefix)) {
            // A layer that a snapshot made is not known to the pool before it looks.
            self.client.refresh_pool(pool).await?;
            volumes = self.client.volumes(pool).await?;
        }
        for volume in volumes.iter().filter(|volume| volume.name.starts_with(&prefix)) {
            if still_used.contains(&volume.key) {
                continue;
            }
            match self.client.delete_volume(volume).await {
                Err(error) if error.is(&[code::NO_VOLUME]) => {}
                done => {
                    done?;
                    info!(host = self.name, volume = volume.name, "volume deleted");
                }
            }
        }
        Ok(())
    }

    /// Writes a source's layer into what it stands on and lets the source go on there. `false` if
    /// that cannot be done now; the source is none the worse for it.
    async fn merge(&self, domain: &Domain, disk: &Disk) -> Result<bool, HypervisorError> {
        let Disk { target, .. } = disk;
        if !domain.is_active() {
            let remedy = "it is merged when a clone of it is removed while it runs";
            warn!(vm = %domain.uuid, disk = target, remedy, "layer kept of a machine that is off");
            return Ok(false);
        }
        if self.client.block_job(domain, target).await?.is_none() {
            self.client.commit_top_layer(domain, target).await?;
        }
        let until = Instant::now() + MERGE_PATIENCE;
        loop {
            match self.client.block_job(domain, target).await? {
                None => return Err(refused(format!("merging {target} of {} ended", domain.name))),
                Some(job) if job.is_ready() => match self.client.pivot(domain, target).await {
                    Ok(()) => break,
                    // All is written, but QEMU has not said yet that it is ready to switch.
                    Err(Error::Refused(refusal))
                        if refusal.message.contains("not ready") && Instant::now() < until => {}
                    Err(error) => return Err(error.into()),
                },
                Some(_) if Instant::now() >= until => {
                    let within = MERGE_PATIENCE.as_secs();
                    return Err(refused(format!(
                        "merging {target} of {} took more than {within} s",
                        domain.name
                    )));
                }
                Some(_) => {}
            }
            time::sleep(GLANCE).await;
        }
        info!(vm = %domain.uuid, disk = target, "layer merged");
        Ok(true)
    }
}

impl LibvirtHypervisor {
    /// As [`Site::sweep`], on every host.
    pub(super) async fn sweep(&self, clone: &VmId) -> Result<(), HypervisorError> {
        try_join_all(self.sites.iter().map(|site| site.sweep(clone))).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_apart_by_their_names() {
        let clone: VmId = "c-1".parse().unwrap();
        assert!(is_since(&format!("/pool/{}", since_name(&clone, "vda")), &clone));
        assert!(!is_since(&format!("/pool/{}", own_name(&clone, "vda")), &clone));
        assert!(!is_since("/pool/sinter-c-10.vda.since.qcow2", &clone));
        let made = Element::parse(&volume_xml("a", 7, Some(("/b<", "raw")))).unwrap();
        assert_eq!(made.text_at("backingStore/path"), Some("/b<"));
    }
}
