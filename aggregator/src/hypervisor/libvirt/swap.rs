//! Lets a clone take its source's place, and the way back; removes clones.
//!
//! What the source was like before is written down in its own metadata first, so that a swap that
//! was cut off anywhere can be made whole, or be undone.

use std::{collections::BTreeMap, time::Duration};

use common::id::VmId;
use libvirt_rpc::{Domain, XmlKind, xml::Element};
use tracing::info;

use super::{
    Found, LibvirtHypervisor, description, refused,
    site::Site,
    tag::{Displaced, Tag},
    trial_network::replug,
};
use crate::hypervisor::HypervisorError;

/// How long a machine that is replaced may take to finish what it does.
const GRACE: Duration = Duration::from_secs(60);
/// How long one that is removed may take.
const SHORT_GRACE: Duration = Duration::from_secs(5);

fn must_be_clone(clone: &VmId, told: &Element, source: &VmId) -> Result<(), HypervisorError> {
    if Tag::of(told).cloned_from.as_ref() == Some(source) {
        return Ok(());
    }
    Err(refused(format!("{clone} is no clone of {source}")))
}

fn set_link(interface: &mut Element, state: &str) {
    interface.child_mut("link").set("state", state);
}

/// How each link of a machine is plugged in, by its MAC.
fn plugs(told: &Element) -> BTreeMap<String, (String, Element)> {
    let plug = |interface: &Element| {
        let link = description::link(interface)?;
        Some((link.mac, (link.kind, interface.child("source")?.clone())))
    };
    description::interfaces(told).filter_map(plug).collect()
}

impl LibvirtHypervisor {
    pub(super) async fn swap(&self, source: &VmId, clone: &VmId) -> Result<(), HypervisorError> {
        let (out, into) = (self.the(source).await?, self.the(clone).await?);
        let told = into.site.describe(&into.domain, XmlKind::Inactive).await?;
        must_be_clone(clone, &told, source)?;
        let place = out.site.describe(&out.domain, XmlKind::Inactive).await?;
        // One that was begun is made whole, whatever is written there meanwhile.
        if Tag::of(&place).displaced.is_none() {
            out.may_touch(source).await?;
        }
        let was = out.site.displace(&out.domain, &place, clone).await?;
        out.site.stop(&out.domain, GRACE).await?;
        let trial = description::networks(&told);
        let plugs = plugs(&place);
        let plug_in = |interface: &mut Element| {
            let mac = description::link(interface).map(|link| link.mac);
            let plug =
                mac.filter(|mac| was.unplugged.contains(mac)).and_then(|mac| plugs.get(&mac));
            if let Some((kind, source)) = plug {
                replug(interface, kind, source.clone());
            }
        };
        into.site.change_links(&into.domain, plug_in).await?;
        into.site.client.set_autostart(&into.domain, was.autostart).await?;
        into.site.start(&into.domain).await?;
        for network in &trial {
            into.site.remove_network_if_empty(network).await?;
        }
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
            let told = out.site.describe(&out.domain, XmlKind::Inactive).await?;
            must_be_clone(clone, &told, source)?;
            out.site.stop(&out.domain, GRACE).await?;
            out.site.client.set_autostart(&out.domain, false).await?;
            let uplinks = &out.site.uplinks;
            let unplug = |interface: &mut Element| {
                let network = description::link(interface).and_then(|link| link.network);
                if !network.is_some_and(|network| uplinks.contains(&network)) {
                    set_link(interface, "down");
                }
            };
            // It is off now, whatever it was when it was found.
            let domain = Domain { id: -1, ..out.domain };
            out.site.change_links(&domain, unplug).await?;
        }
        back.site.put_back(&back.domain, clone).await?;
        back.site.start(&back.domain).await?;
        info!(%source, %clone, "source serves again");
        Ok(())
    }

    pub(super) async fn remove_clone(&self, vm: &VmId) -> Result<(), HypervisorError> {
        if let Some(Found { site, domain }) = self.find(vm).await? {
            let told = site.describe(&domain, XmlKind::Inactive).await?;
            let Some(source) = Tag::of(&told).cloned_from else {
                return Err(refused(format!("{vm} was not cloned by us")));
            };
            if self.serves_for(&source, vm).await? {
                let why = format!("it serves in the place of {source}; restore that one first");
                return Err(refused(format!("{vm} is not removed: {why}")));
            }
            site.stop(&domain, SHORT_GRACE).await?;
            site.client.undefine_domain(&domain).await?;
            info!(%vm, name = domain.name, "machine removed");
        }
        self.sweep(vm).await?;
        for site in self.sites.iter() {
            site.remove_empty_networks().await?;
        }
        Ok(())
    }

    /// Whether a clone stands in the place of its source.
    pub(super) async fn serves_for(
        &self,
        source: &VmId,
        clone: &VmId,
    ) -> Result<bool, HypervisorError> {
        let Some(Found { site, domain }) = self.find(source).await? else { return Ok(false) };
        let told = site.describe(&domain, XmlKind::Inactive).await?;
        Ok(Tag::of(&told).displaced.is_some_and(|place| place.by == *clone))
    }
}

impl Site {
    /// Writes down how a machine is, and then takes it out of its place: it neither starts with its
    /// host nor is plugged in any more. How it was.
    async fn displace(
        &self,
        domain: &Domain,
        told: &Element,
        by: &VmId,
    ) -> Result<Displaced, HypervisorError> {
        let mut tag = Tag::of(told);
        let was = match tag.displaced.clone() {
            Some(was) if was.by == *by => was,
            Some(was) => {
                let other = was.by;
                return Err(refused(format!("{} is replaced by {other} already", domain.name)));
            }
            None => {
                let is_taken = |link: &description::Link| {
                    let is_uplink =
                        link.network.as_ref().is_some_and(|network| self.uplinks.contains(network));
                    link.is_up && !is_uplink
                };
                let links = description::links(told).into_iter().filter(is_taken);
                let was = Displaced {
                    by: by.clone(),
                    autostart: self.client.autostart(domain).await?,
                    unplugged: links.map(|link| link.mac).collect(),
                };
                tag.displaced = Some(was.clone());
                tag.write(&self.client, domain).await?;
                was
            }
        };
        self.client.set_autostart(domain, false).await?;
        // Only where it is defined: while it runs it finishes what it does, and then it is off.
        let defined = Domain { id: -1, ..domain.clone() };
        let unplug = |interface: &mut Element| {
            let mac = description::link(interface).map(|link| link.mac);
            if mac.is_some_and(|mac| was.unplugged.contains(&mac)) {
                set_link(interface, "down");
            }
        };
        self.change_links(&defined, unplug).await?;
        Ok(was)
    }

    /// Puts a machine back to how it was. One that was never displaced stays as it is.
    async fn put_back(&self, domain: &Domain, by: &VmId) -> Result<(), HypervisorError> {
        let told = self.describe(domain, XmlKind::Inactive).await?;
        let mut tag = Tag::of(&told);
        let Some(was) = tag.displaced.clone().filter(|was| was.by == *by) else { return Ok(()) };
        let plug_in = |interface: &mut Element| {
            let mac = description::link(interface).map(|link| link.mac);
            if mac.is_some_and(|mac| was.unplugged.contains(&mac)) {
                set_link(interface, "up");
            }
        };
        self.change_links(domain, plug_in).await?;
        self.client.set_autostart(domain, was.autostart).await?;
        // Last: until then the same call finds what is left to do.
        tag.displaced = None;
        tag.write(&self.client, domain).await
    }
}
