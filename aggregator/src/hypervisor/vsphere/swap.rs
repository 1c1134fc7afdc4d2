//! Lets a clone take its source's place, and the way back; removes clones.
//!
//! What the source was like before is written down in its own settings first, so that a swap that
//! was cut off anywhere can be made whole, or be undone.

use std::{collections::BTreeMap, time::Duration};

use common::{id::VmId, task::Chain};
use tracing::{info, warn};
use vsphere_soap::{ConfigSpec, Element};

use super::{
    VsphereHypervisor,
    device::{self, Plug},
    machine::{CHANGE_LIMIT, Found},
    mark::Displaced,
    refused,
};
use crate::hypervisor::HypervisorError;

/// How long a machine that is replaced may take to finish what it does.
const GRACE: Duration = Duration::from_secs(60);
/// How long one that is removed may take.
const SHORT_GRACE: Duration = Duration::from_secs(5);

fn must_be_clone(clone: &VmId, found: &Found<'_>, source: &VmId) -> Result<(), HypervisorError> {
    if found.facts.mark().is_some_and(|mark| mark.cloned_from == *source) {
        return Ok(());
    }
    Err(refused(format!("{clone} is no clone of {source}")))
}

/// How each link of a machine is plugged in, by its MAC.
fn plugs(found: &Found<'_>) -> BTreeMap<String, Element> {
    let plug = |device: &Element| {
        Some((device::link(device)?.mac, device::group_of(device.child("backing")?)))
    };
    found.devices.iter().filter_map(plug).collect()
}

impl VsphereHypervisor {
    pub(super) async fn swap(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let (out, into) = (self.the(source).await?, self.the(clone).await?);
        must_be_clone(clone, &into, source)?;
        // One that was begun is made whole, whatever is written there meanwhile.
        if out.displaced.is_none() {
            out.may_touch(source).await?;
        }
        let was = out.displace(clone).await?;
        out.stop(GRACE).await?;
        let plugs = plugs(&out);
        let mut spec = ConfigSpec::default();
        let mut trial = Vec::new();
        for (link, mut device) in into.own_links().await? {
            let Some(backing) = plugs.get(&link.mac) else { continue };
            if !was.unplugged.contains(&link.mac) {
                continue;
            }
            if let Plug::Standard(name, _) = &link.plug {
                trial.push(name.clone());
            }
            let before = device.clone();
            device::plug_in(&mut device, backing.clone());
            device::connect(&mut device, true, into.facts.is_on);
            let is_up = link.starts_connected && (link.is_connected || !into.facts.is_on);
            if !is_up || before.child("backing").map(device::group_of).as_ref() != Some(backing) {
                spec.devices.push(device);
            }
        }
        into.reconfigure(&spec).await?;
        into.start().await?;
        into.site.remove_empty(&trial).await?;
        info!(%source, %clone, "clone took the place of its source");
        Ok(())
    }

    pub(super) async fn swap_back(
        &self,
        source: &VmId,
        clone: &VmId,
    ) -> Result<(), HypervisorError> {
        let back = self.the(source).await?;
        if let Some(out) = self.find(clone).await? {
            must_be_clone(clone, &out, source)?;
            out.stop(GRACE).await?;
            let mut spec = ConfigSpec::default();
            for (link, mut device) in out.own_links().await? {
                if link.starts_connected {
                    device::connect(&mut device, false, false);
                    spec.devices.push(device);
                }
            }
            out.reconfigure(&spec).await?;
        }
        back.put_back(clone).await?;
        back.start().await?;
        info!(%source, %clone, "source serves again");
        Ok(())
    }

    pub(super) async fn remove_clone(&self, vm: &VmId) -> Result<(), HypervisorError> {
        if let Some(found) = self.find(vm).await? {
            let mark = found.facts.mark();
            let Some(source) = mark.map(|mark| mark.cloned_from.clone()) else {
                return Err(refused(format!("{vm} was not cloned by us")));
            };
            if self.serves_for(&source, vm).await? {
                let why = format!("it serves in the place of {source}; restore that one first");
                return Err(refused(format!("{vm} is not removed: {why}")));
            }
            found.stop(SHORT_GRACE).await?;
            let client = &found.site.client;
            match client.run("Destroy_Task", &found.of, Vec::new(), CHANGE_LIMIT).await {
                Err(error) if error.is(&["ManagedObjectNotFound"]) => {}
                done => drop(done?),
            }
            info!(%vm, name = found.facts.name, "machine removed");
        }
        for site in self.sites.iter() {
            // The machine is gone; what is left is nobody's, and goes with the next one.
            if let Err(cause) = site.remove_all_empty().await {
                warn!(site = %site.name, cause = %Chain(&cause), "empty networks not removed");
            }
        }
        Ok(())
    }

    /// Whether a clone stands in the place of its source.
    async fn serves_for(&self, source: &VmId, clone: &VmId) -> Result<bool, HypervisorError> {
        let found = self.find(source).await?;
        Ok(found.and_then(|found| found.displaced).is_some_and(|place| place.by == *clone))
    }
}

impl Found<'_> {
    /// Writes down how a machine is, and then takes it out of its place: it is not plugged in any
    /// more when it starts. How it was.
    async fn displace(&self, by: &VmId) -> Result<Displaced, HypervisorError> {
        let own = self.own_links().await?;
        let was = match self.displaced.clone() {
            Some(was) if was.by == *by => was,
            Some(was) => {
                let (name, other) = (&self.facts.name, was.by);
                return Err(refused(format!("{name} is replaced by {other} already")));
            }
            None => {
                let up = own.iter().filter(|(link, _)| link.starts_connected);
                let unplugged = up.map(|(link, _)| link.mac.clone()).collect();
                let was = Displaced { by: by.clone(), unplugged };
                let extra = vec![was.setting()];
                self.reconfigure(&ConfigSpec { extra, ..ConfigSpec::default() }).await?;
                was
            }
        };
        let mut spec = ConfigSpec::default();
        for (link, mut device) in own {
            if link.starts_connected && was.unplugged.contains(&link.mac) {
                // While it runs it finishes what it does, and then it is off.
                device::connect(&mut device, false, link.is_connected);
                spec.devices.push(device);
            }
        }
        self.reconfigure(&spec).await?;
        Ok(was)
    }

    /// Puts a machine back to how it was. One that was never displaced stays as it is.
    async fn put_back(&self, by: &VmId) -> Result<(), HypervisorError> {
        let Some(was) = self.displaced.as_ref().filter(|was| was.by == *by) else { return Ok(()) };
        let mut spec = ConfigSpec::default();
        for (link, mut device) in self.own_links().await? {
            let is_up = link.starts_connected && (link.is_connected || !self.facts.is_on);
            if was.unplugged.contains(&link.mac) && !is_up {
                device::connect(&mut device, true, self.facts.is_on);
                spec.devices.push(device);
            }
        }
        // With the links in one call, so that nothing is left to be done once the setting is gone.
        spec.extra.push(Displaced::no_setting());
        self.reconfigure(&spec).await
    }
}
