//! Networks for one trial each: a switch of one host that leads nowhere, and a port group on it.
//!
//! Such a switch has no card of the host's, so that production's addresses can be used on it. That
//! a port group is ours shows in the name of its switch, which only its own name leads to.

use common::id::{NetworkId, VmId};
use tracing::info;
use uuid::Uuid;
use vsphere_soap::{ConfigSpec, Moref, morefs};

use super::{
    VsphereHypervisor,
    device::{self, Plug},
    machine::Found,
    refused,
    site::Site,
};
use crate::hypervisor::HypervisorError;

/// Of the names of our switches.
const OURS: Uuid = Uuid::from_u128(0x5f0c_9f62_6d0e_4f6b_9c7d_1a53_696e_7465);
const GROUPS: &str = "networkInfo.portgroup";
const SWITCHES: &str = "networkInfo.vswitch";
/// How names of our switches begin; twelve hex digits follow.
const PREFIX: &str = "sinter-";

/// The switch that a port group of that name is on if it is ours. vSphere takes 31 letters.
fn switch_of(name: &str) -> String {
    let [a, b, c, d, e, f, ..] = Uuid::new_v5(&OURS, name.as_bytes()).into_bytes();
    format!("{PREFIX}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

fn is_our_switch(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// A port group of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The host's network system.
    at: Moref,
    name: String,
    switch: String,
}

impl Group {
    fn is_ours(&self) -> bool {
        self.switch == switch_of(&self.name)
    }
}

impl VsphereHypervisor {
    pub(super) async fn isolate_machine(
        &self,
        vm: &VmId,
        network: &NetworkId,
    ) -> Result<(), HypervisorError> {
        let found = self.the(vm).await?;
        if found.facts.mark().is_none() {
            let why = "it was not cloned by us, and production is never isolated";
            return Err(refused(format!("{vm} stays where it is: {why}")));
        }
        let moving = found.site.moving.lock().await;
        found.make_network(network.as_str()).await?;
        let mut spec = ConfigSpec::default();
        let mut left = Vec::new();
        for (link, mut device) in found.own_links().await? {
            let is_there =
                matches!(&link.plug, Plug::Standard(name, _) if name == network.as_str());
            if let Plug::Standard(name, _) = &link.plug
                && !is_there
            {
                left.push(name.clone());
            }
            let is_up = link.starts_connected && (link.is_connected || !found.facts.is_on);
            if !is_there {
                device::plug_in(&mut device, device::standard_plug(network.as_str()));
            }
            if !is_there || !is_up {
                device::connect(&mut device, true, found.facts.is_on);
                spec.devices.push(device);
            }
        }
        found.reconfigure(&spec).await?;
        drop(moving);
        found.site.remove_empty(&left).await?;
        info!(%vm, %network, "machine isolated");
        Ok(())
    }
}

impl Found<'_> {
    async fn make_network(&self, name: &str) -> Result<(), HypervisorError> {
        let host = self.facts.host.as_ref();
        let host = host.ok_or_else(|| refused(format!("{} has no host", self.facts.name)))?;
        let client = &self.site.client;
        let told = client.object(host, &["configManager.networkSystem"]).await?;
        let at = told.and_then(|told| told.moref("configManager.networkSystem"));
        let at = at.ok_or_else(|| refused(format!("host {host} has no network system")))?;
        let groups = self.site.groups(std::slice::from_ref(&at)).await?;
        let not_ours = || refused(format!("{name} is a network already, and not one of ours"));
        match groups.iter().find(|group| group.name == name) {
            Some(group) if group.is_ours() => return Ok(()),
            Some(_) => return Err(not_ours()),
            None => {}
        }
        match client.make_network(&at, &switch_of(name), name).await {
            Err(error) if error.is(&["AlreadyExists", "DuplicateName"]) => {
                let groups = self.site.groups(std::slice::from_ref(&at)).await?;
                let is_made = groups.iter().any(|group| group.name == name && group.is_ours());
                if is_made {
                    return Ok(());
                }
                // A switch without a group stays behind else.
                client.remove_network(&at, &switch_of(name), &switch_of(name)).await?;
                Err(not_ours())
            }
            done => Ok(done?),
        }
    }
}

impl Site {
    /// The port groups of some hosts.
    async fn groups(&self, at: &[Moref]) -> Result<Vec<Group>, HypervisorError> {
        let told = self.client.properties("HostNetworkSystem", at, &[GROUPS]).await?;
        let groups = told.iter().flat_map(|told| {
            let list = told.properties.get(GROUPS).into_iter().flat_map(|list| &list.children);
            list.filter_map(|group| {
                Some(Group {
                    at: told.of.clone(),
                    name: group.text_at("spec/name")?.to_owned(),
                    switch: group.text_at("spec/vswitchName")?.to_owned(),
                })
            })
        });
        Ok(groups.collect())
    }

    /// Removes those of the named networks that are ours and that nobody is in.
    pub(super) async fn remove_empty(&self, names: &[String]) -> Result<(), HypervisorError> {
        if names.is_empty() {
            return Ok(());
        }
        let _moving = self.moving.lock().await;
        self.remove_those(|group| names.contains(&group.name)).await.map(drop)
    }

    /// Removes our networks that nobody is in, and our switches that no port group is left on.
    pub(super) async fn remove_all_empty(&self) -> Result<(), HypervisorError> {
        let _moving = self.moving.lock().await;
        let at = self.remove_those(|_| true).await?;
        for told in self.client.properties("HostNetworkSystem", &at, &[SWITCHES]).await? {
            let list = told.properties.get(SWITCHES).into_iter().flat_map(|list| &list.children);
            let is_left = |name: &&str| is_our_switch(name);
            let empty = list.filter(|switch| switch.child("portgroup").is_none());
            for name in empty.filter_map(|switch| switch.text_at("name")).filter(is_left) {
                self.client.remove_network(&told.of, name, name).await?;
            }
        }
        Ok(())
    }

    /// Gives the network systems of all hosts.
    async fn remove_those(
        &self,
        is_it: impl Fn(&Group) -> bool,
    ) -> Result<Vec<Moref>, HypervisorError> {
        self.refresh().await?;
        let hosts: Vec<Moref> = {
            let known = self.known.lock().await;
            known.iter().flat_map(|known| known.hosts.keys().cloned()).collect()
        };
        let paths = ["configManager.networkSystem", "network"];
        let hosts = self.client.properties("HostSystem", &hosts, &paths).await?;
        let at: Vec<Moref> = hosts.iter().filter_map(|host| host.moref(paths[0])).collect();
        let groups = self.groups(&at).await?;
        let ours: Vec<_> = groups.iter().filter(|one| one.is_ours() && is_it(one)).collect();
        if ours.is_empty() {
            return Ok(at);
        }
        let networks = hosts.iter().flat_map(|host| morefs(host.properties.get("network")));
        let networks: Vec<Moref> = networks.filter(|network| network.kind == "Network").collect();
        let networks = self.client.properties("Network", &networks, &["name", "vm"]).await?;
        for group in ours {
            let mut same = networks.iter().filter(|one| one.text("name") == Some(&group.name));
            if same.any(|one| !morefs(one.properties.get("vm")).is_empty()) {
                continue;
            }
            // Whoever was plugged in since is refused the removal by vSphere itself.
            self.client.remove_network(&group.at, &group.switch, &group.name).await?;
            info!(centre = self.name, network = group.name, "trial network removed");
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_ours_by_a_switch_that_only_its_name_leads_to() {
        let at = Moref::new("HostNetworkSystem", "n");
        let group = |name: &str, switch: &str| Group {
            at: at.clone(),
            name: name.to_owned(),
            switch: switch.to_owned(),
        };
        assert!(group("trial-1", &switch_of("trial-1")).is_ours());
        assert!(!group("trial-2", &switch_of("trial-1")).is_ours());
        assert!(!group("VM Network", "vSwitch0").is_ours());
        assert!(switch_of("trial-1").len() <= 31 && is_our_switch(&switch_of("trial-1")));
        assert!(!is_our_switch("sinter-of-the-operator"));
    }
}
