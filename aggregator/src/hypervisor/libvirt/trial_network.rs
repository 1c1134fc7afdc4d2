//! Networks for one trial each: a bridge that leads nowhere.
//!
//! Such a network has no way out and no address of production's on the host, so that production's
//! addresses can be used in it. Whoever asks for an address there is given the one that its source
//! has. That it is ours shows in its uuid, which only its name leads to.

use std::collections::BTreeSet;

use common::id::{NetworkId, VmId};
use ipnet::{IpNet, Ipv4Net};
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

/// Name of its bridge on the host: the kernel takes fifteen letters.
pub(super) fn bridge(name: &str) -> String {
    let [a, b, c, d, ..] = uuid_of(name).into_bytes();
    format!("sntr{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// An address that a machine shall be given in its trial's network, as it has it in production.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reserved {
    mac: String,
    address: Ipv4Net,
}

fn network_xml(name: &str, reserved: &[Reserved]) -> String {
    let bridge = bridge(name);
    let plug = Element::new("bridge").with("name", &*bridge).with("stp", "off").with("delay", "0");
    let network = Element::new("network")
        .holding(Element::new("name").saying(name))
        .holding(Element::new("uuid").saying(uuid_of(name).to_string()))
        .holding(plug);
    if reserved.is_empty() {
        return network.write();
    }
    // Whoever gives addresses away needs one. Of the production network it must have none: the host
    // would look for production here. So one that leads nowhere, and two of this range may meet.
    let [.., third, fourth] = uuid_of(name).into_bytes();
    let own = format!("169.254.{}.{}", third.clamp(1, 254), (fourth & 0xfc) | 1);
    let mut options = Element::new("dnsmasq:options");
    for value in options_of(&bridge, reserved) {
        options.children.push(Element::new("dnsmasq:option").with("value", value));
    }
    network
        .with("xmlns:dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0")
        .holding(Element::new("ip").with("address", own).with("prefix", "30"))
        .holding(options)
        .write()
}

/// What dnsmasq is told: each machine its own address, nobody else any, no names, and no way out.
fn options_of(bridge: &str, reserved: &[Reserved]) -> Vec<String> {
    let mut options = vec!["port=0".to_owned(), "dhcp-option=3".to_owned()];
    let nets: BTreeSet<Ipv4Net> = reserved.iter().map(|one| one.address.trunc()).collect();
    for net in nets {
        options.push(format!("shared-network={bridge},{}", net.addr()));
        options.push(format!("dhcp-range={},static,{}", net.addr(), net.netmask()));
    }
    let hosts = reserved.iter().map(|one| format!("dhcp-host={},{}", one.mac, one.address.addr()));
    options.extend(hosts);
    options
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
        let reserved = self.reserved_for(&told).await?;
        let moving = site.moving.lock().await;
        site.make_network(network.as_str(), &reserved).await?;
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
        drop(moving);
        for other in left.iter().filter(|left| *left != network.as_str()) {
            site.remove_network_if_empty(other).await?;
        }
        info!(%vm, %network, "machine isolated");
        Ok(())
    }
}

impl LibvirtHypervisor {
    /// The addresses that a clone's source has by the MACs they share: a guest that asks for its
    /// address at boot shall be given the same.
    async fn reserved_for(&self, clone: &Element) -> Result<Vec<Reserved>, HypervisorError> {
        let Some(source) = Tag::of(clone).cloned_from else { return Ok(Vec::new()) };
        let inventory = self.all().await?;
        let nics = inventory.machines.get(&source).into_iter().flat_map(|source| &source.nics);
        let mut reserved = Vec::new();
        for link in description::links(clone) {
            for nic in nics.clone().filter(|nic| nic.mac == link.mac) {
                let own = nic.addresses.iter().filter_map(|address| match address {
                    IpNet::V4(address) => Some(*address),
                    IpNet::V6(_) => None,
                });
                // More than one it was not given by anybody.
                let own = own.take(1).map(|address| Reserved { mac: link.mac.clone(), address });
                reserved.extend(own);
            }
        }
        Ok(reserved)
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

    async fn make_network(&self, name: &str, reserved: &[Reserved]) -> Result<(), HypervisorError> {
        let network = match self.client.network_named(name).await {
            Err(error) if error.is(&[code::NO_NETWORK]) => {
                self.client.define_network(&network_xml(name, reserved)).await?
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
        let _moving = self.moving.lock().await;
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
        let told = Element::parse(&network_xml("trial-1", &[])).unwrap();
        let uuid = told.text_at("uuid").unwrap().parse().unwrap();
        assert!(is_ours(&Network { name: "trial-1".to_owned(), uuid }));
        assert!(!is_ours(&Network { name: "trial-2".to_owned(), uuid }));
        assert!(told.child("bridge").unwrap().attribute("name").unwrap().len() <= 15);
        assert!(told.child("forward").is_none() && told.child("ip").is_none());
    }

    #[test]
    fn a_machine_is_given_its_own_address_on_trial_and_no_way_out() {
        let address = "10.1.2.77/24".parse().unwrap();
        let reserved = [Reserved { mac: "52:54:00:aa:00:01".to_owned(), address }];
        let told = Element::parse(&network_xml("trial-1", &reserved)).unwrap();
        let own = told.child("ip").unwrap().attribute("address").unwrap();
        assert!(own.parse::<std::net::Ipv4Addr>().unwrap().is_link_local());
        let options = told.child("dnsmasq:options").unwrap();
        let values: Vec<_> =
            options.children.iter().filter_map(|option| option.attribute("value")).collect();
        let shared = format!("shared-network={},10.1.2.0", bridge("trial-1"));
        let range = "dhcp-range=10.1.2.0,static,255.255.255.0";
        let host = "dhcp-host=52:54:00:aa:00:01,10.1.2.77";
        assert_eq!(values, ["port=0", "dhcp-option=3", &shared, range, host]);
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
