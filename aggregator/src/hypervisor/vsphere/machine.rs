//! A machine at the moment of an act: what it is now, not what it was at the last look.

use std::time::Duration;

use common::id::VmId;
use vsphere_soap::{ConfigSpec, Element, Moref, Object};

use super::{
    device::{self, Link},
    facts::MachineFacts,
    mark::{self, DISPLACED, Displaced},
    site::Site,
};
use crate::hypervisor::{HypervisorError, may_touch};

/// What is asked for besides what is watched.
const BESIDES: [&str; 18] = [
    "name",
    "parent",
    "resourcePool",
    "datastore",
    "config.uuid",
    "config.template",
    "config.annotation",
    "customValue",
    "config.cpuHotAddEnabled",
    "config.memoryHotAddEnabled",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.cpuAllocation.limit",
    "config.memoryAllocation.limit",
    "config.extraConfig",
    "runtime.powerState",
    "runtime.host",
];
/// How long a change of settings may take, or switching on or off.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(300);

/// A machine where it was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) site: &'a Site,
    pub(super) of: Moref,
    pub(super) facts: MachineFacts,
    /// Its devices as they were told, to be changed and sent back.
    pub(super) devices: Vec<Element>,
    pub(super) adds_cpus: bool,
    pub(super) adds_memory: bool,
    /// The clone that took its place.
    pub(super) displaced: Option<Displaced>,
    told: Object,
}

impl<'a> Found<'a> {
    /// The machine as it is now; `None` if it is gone.
    pub(super) async fn look(site: &'a Site, of: Moref) -> Result<Option<Self>, HypervisorError> {
        let Some(told) = site.client.object(&of, &BESIDES).await? else { return Ok(None) };
        let mut facts = MachineFacts::of(&told);
        let extra = told.properties.get("config.extraConfig");
        let setting = |name: &str| {
            let mut all = extra.into_iter().flat_map(|list| &list.children);
            all.find(|one| one.text_at("key") == Some(name))
        };
        facts.take("config.extraConfig[\"sinter.machine\"]", setting(mark::MARK));
        let displaced = setting(DISPLACED).and_then(|one| Displaced::parse(one.text_at("value")?));
        let devices = told.properties.get("config.hardware.device");
        Ok(Some(Self {
            site,
            devices: devices.map(|list| list.children.clone()).unwrap_or_default(),
            adds_cpus: told.text("config.cpuHotAddEnabled") == Some("true"),
            adds_memory: told.text("config.memoryHotAddEnabled") == Some("true"),
            displaced,
            facts,
            of,
            told,
        }))
    }

    /// For people: its name and where it is.
    pub(super) fn place(&self) -> String {
        format!("{} ({} of {})", self.facts.name, self.of, self.site.name)
    }

    /// An object that it refers to.
    pub(super) fn moref(&self, path: &str) -> Option<Moref> {
        self.told.moref(path)
    }

    pub(super) fn datastores(&self) -> Vec<Moref> {
        vsphere_soap::morefs(self.told.properties.get("datastore"))
    }

    /// Refuses what operators keep for themselves, by what they write there now.
    pub(super) async fn may_touch(&self, vm: &VmId) -> Result<(), HypervisorError> {
        // What could not be read may have said no.
        let hidden = ["config.annotation", "customValue"];
        if let Some(hidden) = hidden.iter().find(|path| self.told.refused.contains(**path)) {
            return Err(super::refused(format!(
                "whether {vm} may be touched cannot be read: its {hidden} is not shown to us"
            )));
        }
        let attribute = self.site.label_attribute().await?;
        let written = attribute.and_then(|key| self.facts.attributes.get(&key));
        let labels = mark::labels(written.map(String::as_str), &self.facts.notes);
        may_touch(vm, &labels)
    }

    /// The speed of its host's cores.
    pub(super) async fn host_hz(&self) -> Result<Option<u64>, HypervisorError> {
        let Some(host) = &self.facts.host else { return Ok(None) };
        let told = self.site.client.object(host, &["hardware.cpuInfo"]).await?;
        let info = told.as_ref().and_then(|told| told.properties.get("hardware.cpuInfo"));
        Ok(info.and_then(|info| info.number_at("hz")))
    }

    /// Whether a link leads into a network that stays.
    pub(super) async fn is_uplink(&self, link: &Link) -> Result<bool, HypervisorError> {
        if self.site.uplinks.is_empty() {
            return Ok(false);
        }
        let name = match &link.plug {
            device::Plug::Standard(name, _) => Some(name.clone()),
            device::Plug::Distributed(key) => {
                let group = Moref::new("DistributedVirtualPortgroup", key);
                let told = self.site.client.object(&group, &["name"]).await?;
                told.and_then(|told| told.text("name").map(str::to_owned))
            }
            device::Plug::Opaque(id) => Some(id.clone()),
            device::Plug::Unknown => None,
        };
        Ok(name.is_some_and(|name| self.site.uplinks.contains(&name)))
    }

    /// Its links that do not lead into such networks, with their devices.
    pub(super) async fn own_links(&self) -> Result<Vec<(Link, Element)>, HypervisorError> {
        let mut own = Vec::new();
        for device in &self.devices {
            let Some(link) = device::link(device) else { continue };
            if !self.is_uplink(&link).await? {
                own.push((link, device.clone()));
            }
        }
        Ok(own)
    }

    /// Changes its settings; nothing to be changed is success.
    pub(super) async fn reconfigure(&self, spec: &ConfigSpec) -> Result<(), HypervisorError> {
        if spec.is_empty() {
            return Ok(());
        }
        let arguments = vec![spec.write("spec")];
        self.site.client.run("ReconfigVM_Task", &self.of, arguments, CHANGE_LIMIT).await?;
        Ok(())
    }
}
