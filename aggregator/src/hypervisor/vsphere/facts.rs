//! What is known of each object, taken from its properties one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use common::id::VmId;
use ipnet::IpNet;
use vsphere_soap::{Element, Moref, Object, moref, morefs};

use super::{
    device::{self, Disk, Link},
    mark::Mark,
};
use crate::hypervisor::Power;

/// What is asked of a machine.
pub(super) const MACHINE: [&str; 15] = [
    "name",
    "config.uuid",
    "config.template",
    "config.changeVersion",
    "config.annotation",
    "customValue",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.cpuAllocation.limit",
    "config.memoryAllocation.limit",
    "config.extraConfig[\"sinter.machine\"]",
    "runtime.powerState",
    "runtime.host",
    "guest.net",
];
/// What its disks take; asked for beside the others, since it is as long as all of them.
pub(super) const LAYOUT: &str = "layoutEx";
/// What is asked of a host.
pub(super) const HOST: [&str; 6] = [
    "name",
    "hardware.cpuInfo",
    "hardware.memorySize",
    "config.network.vnic",
    "config.network.pnic",
    "datastore",
];
/// What is asked of a datastore.
pub(super) const DATASTORE: [&str; 4] =
    ["name", "summary.capacity", "summary.freeSpace", "summary.uncommitted"];

/// A machine.
#[derive(Debug, Clone, Default)]
pub(super) struct MachineFacts {
    pub(super) name: String,
    pub(super) uuid: Option<VmId>,
    pub(super) is_template: bool,
    /// Changes with each change of its configuration.
    pub(super) version: String,
    pub(super) notes: String,
    /// Values of custom attributes by their number.
    pub(super) attributes: BTreeMap<i32, String>,
    pub(super) cpus: Option<u64>,
    pub(super) memory_mb: Option<u64>,
    /// In MHz; below zero for no limit.
    pub(super) cpu_limit: Option<i64>,
    /// In MB; below zero for no limit.
    pub(super) memory_limit: Option<i64>,
    pub(super) links: Vec<Link>,
    pub(super) disks: Vec<Disk>,
    /// What each disk takes, by its number.
    pub(super) taken: BTreeMap<u32, u64>,
    mark: Option<Mark>,
    pub(super) is_on: bool,
    pub(super) host: Option<Moref>,
    /// What its guest's tools say, by MAC.
    pub(super) addresses: BTreeMap<String, Vec<IpNet>>,
}

impl MachineFacts {
    pub(super) fn of(object: &Object) -> Self {
        let mut facts = Self::default();
        for (path, value) in &object.properties {
            facts.take(path, Some(value));
        }
        facts
    }

    /// The mark, if it is this machine's own.
    pub(super) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref().filter(|mark| Some(&mark.of) == self.uuid.as_ref())
    }

    pub(super) const fn power(&self) -> Power {
        if self.is_on { Power::On } else { Power::Off }
    }

    /// Takes one property in; `None` if it is not set any more.
    pub(super) fn take(&mut self, path: &str, value: Option<&Element>) {
        let text = value.map(|value| value.text.as_str()).unwrap_or_default();
        let list = || value.into_iter().flat_map(|list| &list.children);
        match path {
            "name" => self.name = text.to_owned(),
            "config.uuid" => self.uuid = text.to_lowercase().parse().ok(),
            "config.template" => self.is_template = text == "true",
            "config.changeVersion" => self.version = text.to_owned(),
            "config.annotation" => self.notes = text.to_owned(),
            "customValue" => {
                let one = |value: &Element| {
                    Some((value.number_at("key")?, value.text_at("value")?.to_owned()))
                };
                self.attributes = list().filter_map(one).collect();
            }
            "config.hardware.numCPU" => self.cpus = text.parse().ok(),
            "config.hardware.memoryMB" => self.memory_mb = text.parse().ok(),
            "config.cpuAllocation.limit" => self.cpu_limit = text.parse().ok(),
            "config.memoryAllocation.limit" => self.memory_limit = text.parse().ok(),
            "config.hardware.device" => {
                self.links = list().filter_map(device::link).collect();
                self.disks = list().filter_map(device::disk).collect();
            }
            LAYOUT => self.taken = value.map(device::taken).unwrap_or_default(),
            "config.extraConfig[\"sinter.machine\"]" => {
                self.mark = value.and_then(|value| Mark::parse(value.text_at("value")?));
            }
            "runtime.powerState" => self.is_on = text == "poweredOn",
            "runtime.host" => self.host = value.and_then(moref),
            "guest.net" => self.addresses = list().filter_map(of_guest).collect(),
            _ => {}
        }
    }
}

/// A link as the guest's tools tell it.
fn of_guest(nic: &Element) -> Option<(String, Vec<IpNet>)> {
    let address = |told: &Element| {
        let prefix = told.number_at("prefixLength")?;
        IpNet::new(told.text_at("ipAddress")?.parse().ok()?, prefix).ok()
    };
    let configured = nic.child("ipConfig").into_iter().flat_map(|config| config.all("ipAddress"));
    let mut addresses: Vec<IpNet> = configured.filter_map(address).collect();
    if addresses.is_empty() {
        // Old tools tell no prefix.
        let told = nic.all("ipAddress").filter_map(|told| told.text.parse::<IpAddr>().ok());
        addresses = told.map(IpNet::from).collect();
    }
    Some((nic.text_at("macAddress")?.to_lowercase(), addresses))
}

/// A host.
#[derive(Debug, Clone, Default)]
pub(super) struct HostFacts {
    pub(super) name: String,
    pub(super) cores: Option<u64>,
    pub(super) hz: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) virtual_macs: BTreeSet<String>,
    pub(super) physical_macs: BTreeSet<String>,
    pub(super) datastores: Vec<Moref>,
}

impl HostFacts {
    pub(super) fn take(&mut self, path: &str, value: Option<&Element>) {
        let text = value.map(|value| value.text.as_str()).unwrap_or_default();
        let list = || value.into_iter().flat_map(|list| &list.children);
        match path {
            "name" => self.name = text.to_owned(),
            "hardware.cpuInfo" => {
                self.cores = value.and_then(|info| info.number_at("numCpuCores"));
                self.hz = value.and_then(|info| info.number_at("hz"));
            }
            "hardware.memorySize" => self.memory = text.parse().ok(),
            "config.network.vnic" => {
                let address = |nic: &Element| nic.text_at("spec/ip/ipAddress")?.parse().ok();
                self.addresses = list().filter_map(address).collect();
                let macs = list().filter_map(|nic| nic.text_at("spec/mac"));
                self.virtual_macs = macs.map(str::to_lowercase).collect();
            }
            "config.network.pnic" => {
                let macs = list().filter_map(|nic| nic.text_at("mac"));
                self.physical_macs = macs.map(str::to_lowercase).collect();
            }
            "datastore" => self.datastores = morefs(value),
            _ => {}
        }
    }
}

/// A datastore.
#[derive(Debug, Clone, Default)]
pub(super) struct DatastoreFacts {
    pub(super) name: String,
    pub(super) capacity: Option<u64>,
    pub(super) free: Option<u64>,
    /// What machines may take besides, on top of what they have.
    pub(super) uncommitted: Option<u64>,
}

impl DatastoreFacts {
    pub(super) fn take(&mut self, path: &str, value: Option<&Element>) {
        let text = value.map(|value| value.text.as_str()).unwrap_or_default();
        match path {
            "name" => self.name = text.to_owned(),
            "summary.capacity" => self.capacity = text.parse().ok(),
            "summary.freeSpace" => self.free = text.parse().ok(),
            "summary.uncommitted" => self.uncommitted = text.parse().ok(),
            _ => {}
        }
    }
}
