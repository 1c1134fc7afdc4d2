//! Networks for one trial each: a bridge that leads nowhere.
//!
//! Such a network has no address of the host's, no DHCP and no way out, so that production's
//! addresses can be used in it. That it is ours shows in its uuid, which only its name leads to.

use common::id::{NetworkId, VmId};
use libvirt_rpc::{Change, Domain, Error, Network, XmlKind, code, xml::Element};
use tracing::info;
use uuid::Uuid;

use super::{Found, LibvirtHypervisor, description, refused, site::Site, tag::Tag};
use crate::hypervisor::HypervisorError;

/// Of the uuids of our networks.
const OURS: Uuid = Uuid::from_u128(0x5f0c_9f62_6d0e_4f6b_9c7d_1a53_696e_7465);

/// The uuid that a network of that name has if it is ours.
fn uuid_of(name: &str) -> Uuid {
    Uuid::new_v5(&OURS, name.as_bytes())
}

fn is_ours(network: &Network) -> bool {
    network.uuid == uuid_of(&network.name)
}

fn network_xml(name: &str) -> String {
    let uuid = uuid_of(name);
    let [a, b, c, d, ..] = uuid.into_bytes();
    // The kernel takes fifteen letters.
    let bridge = format!("sntr{a:02x}{b:02x}{c:02x}{d:02x}");
    Element::new("network")
        .holding(Element::new("name").saying(name))
        .holding(Element::new("uuid").saying(uuid.to_string()))
        .holding(Element::new("bridge").with("name", bridge).with("stp", "off").with("delay", "0"))
        .write()
}

/// Plugs an interface in elsewhere. What only fits the former place goes.
pub(super) fn replug(interface: &mut Element, kind: &str, source: Element) {
    interface.set("type", kind);
    for name in ["source", "virtualport", "filterref", "vlan", "link", "target", "actual"] {
        interface.remove(name);
    }
    interface.children.push(source);
    interface.children.push(Element::new("link").with("state", "up"));
}

impl LibvirtHypervisor {
    pub(super) async fn isolate_machine(
        &self,
        vm: &VmId,
        network: &NetworkId,
    ) -> Result<(), HypervisorError> {
        let Found { site, domain } = self.the(vm).await?;
        let told = site.describe(&domain, XmlKind::Inactive).await?;
        if Tag::of(&told).cloned_from.is_none() {
            let why = "it was not cloned by us, and production is never isolated";
            return Err(refused(format!("{vm} stays where it is: {why}")));
        }
        site.make_network(network.as_str()).await?;
        let left = description::networks(&told);
        let source = Element::new("source").with("network", network.as_str());
        let uplinks = &site.uplinks;
        let into = |interface: &mut Element| {
            let is_uplink = description::link(interface)
                .and_then(|link| link.network)
                .is_some_and(|network| uplinks.contains(&network));
            if !is_uplink {
                replug(interface, "network", source.clone());
            }
        };
        site.change_links(&domain, into).await?;
        for other in left.iter().filter(|left| *left != network.as_str()) {
            site.remove_network_if_empty(other).await?;
        }
        info!(%vm, %network, "machine isolated");
        Ok(())
    }
}

impl Site {
    /// Changes all links of a machine, where it is defined and where it runs.
    pub(super) async fn change_links(
        &self,
        domain: &Domain,
        change: impl Fn(&mut Element),
    ) -> Result<(), HypervisorError> {
        let mut told = self.describe(domain, XmlKind::Secret).await?;
        let before = told.clone();
        told.child_mut("devices").all_mut("interface").for_each(&change);
        if told != before {
            self.client.define_domain(&told.write()).await?;
        }
        if !domain.is_active() {
            return Ok(());
        }
        let running = self.describe(domain, XmlKind::Present).await?;
        for before in description::interfaces(&running) {
            let mut after = before.clone();
            change(&mut after);
            if description::link(before) != description::link(&after) {
                self.client.update_device(domain, &after.write(), Change::Live).await?;
            }
        }
        Ok(())
    }

    async fn make_network(&self, name: &str) -> Result<(), HypervisorError> {
        let network = match self.client.network_named(name).await {
            Err(error) if error.is(&[code::NO_NETWORK]) => {
                self.client.define_network(&network_xml(name)).await?
            }
            found => found?,
        };
        if !is_ours(&network) {
            return Err(refused(format!("{name} is a network already, and not one of ours")));
        }
        // A clone is in it as long as it is there, also over a restart of the host.
        self.client.set_network_autostart(&network, true).await?;
        match self.client.create_network(&network).await {
            // It is up already.
            Err(error) if error.is(&[code::OPERATION_INVALID]) => Ok(()),
            done => Ok(done?),
        }
    }

    /// A trial's network goes with the last machine in it. One that is not ours stays.
    pub(super) async fn remove_network_if_empty(&self, name: &str) -> Result<(), HypervisorError> {
        let network = match self.client.network_named(name).await {
            Err(error) if error.is(&[code::NO_NETWORK]) => return Ok(()),
            found => found?,
        };
        if !is_ours(&network) {
            return Ok(());
        }
        for domain in self.client.domains().await? {
            match self.client.domain_xml(&domain, XmlKind::Inactive).await {
                Err(error) if error.is(&[code::NO_DOMAIN]) => {}
                told => {
                    let told = Element::parse(&told?)
                        .map_err(|cause| super::unreadable(&domain.name, &cause))?;
                    if description::networks(&told).contains(name) {
                        return Ok(());
                    }
                }
            }
        }
        for done in [
            self.client.destroy_network(&network).await,
            self.client.undefine_network(&network).await,
        ] {
            match done {
                // Down already, or gone.
                Err(Error::Refused(refusal))
                    if matches!(refusal.code, code::OPERATION_INVALID | code::NO_NETWORK) => {}
                done => done?,
            }
        }
        info!(host = self.name, network = name, "trial network removed");
        Ok(())
    }

    /// Removes our networks that nobody is in.
    pub(super) async fn remove_empty_networks(&self) -> Result<(), HypervisorError> {
        for network in self.client.networks().await?.iter().filter(|network| is_ours(network)) {
            self.remove_network_if_empty(&network.name).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_ours_by_a_uuid_that_only_its_name_leads_to() {
        let told = Element::parse(&network_xml("trial-1")).unwrap();
        let uuid = told.text_at("uuid").unwrap().parse().unwrap();
        assert!(is_ours(&Network { name: "trial-1".to_owned(), uuid }));
        assert!(!is_ours(&Network { name: "trial-2".to_owned(), uuid }));
        assert!(told.child("bridge").unwrap().attribute("name").unwrap().len() <= 15);
        assert!(told.child("forward").is_none() && told.child("ip").is_none());
    }

    #[test]
    fn a_link_keeps_its_card_when_it_is_plugged_in_elsewhere() {
        let text = "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source \
                    bridge='br0'/><model type='virtio'/><link state='down'/></interface>";
        let mut interface = Element::parse(text).unwrap();
        replug(&mut interface, "network", Element::new("source").with("network", "trial-1"));
        let link = description::link(&interface).unwrap();
        assert_eq!((link.network.as_deref(), link.is_up), (Some("trial-1"), true));
        assert!(interface.child("model").is_some());
    }
}
