//! The calls that change something, and the specifications that they take. vSphere reads elements in
//! their one order, which is kept here alone.

use crate::{
    client::Client,
    error::Error,
    xml::{Element, Moref},
};

/// What a machine's configuration shall be; what is `None` or empty stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ConfigSpec {
    /// Its uuid.
    pub uuid: Option<String>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MB.
    pub memory_mb: Option<u64>,
    /// Devices as they shall be, each with the key of one that is there.
    pub devices: Vec<Element>,
    /// Most CPU in MHz; -1 for no limit.
    pub cpu_limit_mhz: Option<i64>,
    /// Most memory in MB; -1 for no limit.
    pub memory_limit_mb: Option<i64>,
    /// Further settings by name; an empty value takes one away.
    pub extra: Vec<(String, String)>,
}

impl ConfigSpec {
    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let sizes = self.cpus.is_some() || self.memory_mb.is_some();
        let limits = self.cpu_limit_mhz.is_some() || self.memory_limit_mb.is_some();
        let lists = !self.devices.is_empty() || !self.extra.is_empty();
        !(self.uuid.is_some() || sizes || limits || lists)
    }

    /// As an element of that name.
    #[must_use]
    pub fn write(&self, name: &str) -> Element {
        let number =
            |name: &'static str, value: Option<u64>| value.map(|value| Element::text(name, value));
        let limit = |name: &'static str, value: Option<i64>| {
            value.map(|value| Element::new(name).holding(Element::text("limit", value)))
        };
        let device = |device: &Element| {
            Element::new("deviceChange")
                .of_kind("VirtualDeviceConfigSpec")
                .holding(Element::text("operation", "edit"))
                .holding(Element { name: "device".to_owned(), ..device.clone() })
        };
        let extra = |(key, value): &(String, String)| {
            let value = Element::text("value", value).of_kind("xsd:string");
            Element::new("extraConfig")
                .of_kind("OptionValue")
                .holding(Element::text("key", key))
                .holding(value)
        };
        Element::new(name)
            .holding_all(self.uuid.as_ref().map(|uuid| Element::text("uuid", uuid)))
            .holding_all(number("numCPUs", self.cpus.map(u64::from)))
            .holding_all(number("memoryMB", self.memory_mb))
            .holding_all(self.devices.iter().map(device))
            .holding_all(limit("cpuAllocation", self.cpu_limit_mhz))
            .holding_all(limit("memoryAllocation", self.memory_limit_mb))
            .holding_all(self.extra.iter().map(extra))
    }
}

/// A copy that shall be made.
#[derive(Debug, Clone)]
pub struct CloneSpec {
    /// Its name.
    pub name: String,
    /// The folder it lies in.
    pub folder: Moref,
    /// The pool of resources it runs in.
    pub pool: Moref,
    /// The host it runs on.
    pub host: Moref,
    /// What is other than the source's.
    pub config: ConfigSpec,
}

impl CloneSpec {
    /// As the arguments of `CloneVM_Task`. The copy is not started.
    #[must_use]
    pub fn write(&self) -> Vec<Element> {
        let location = Element::new("location")
            .holding(Element::reference("pool", &self.pool))
            .holding(Element::reference("host", &self.host));
        let spec = Element::new("spec")
            .holding(location)
            .holding(Element::text("template", false))
            .holding(self.config.write("config"))
            .holding(Element::text("powerOn", false));
        vec![Element::reference("folder", &self.folder), Element::text("name", &self.name), spec]
    }
}

/// The arguments of `FindAllByUuid` for a machine's uuid, which its guest knows it by.
#[must_use]
pub fn search_by_uuid(uuid: &str) -> Vec<Element> {
    vec![
        Element::text("uuid", uuid),
        Element::text("vmSearch", true),
        Element::text("instanceUuid", false),
    ]
}

impl Client {
    /// All machines with that uuid; a copy of files may have made two.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn machines_of(&self, uuid: &str) -> Result<Vec<Moref>, Error> {
        let index = self.session().await?.content.object("searchIndex")?;
        let answer = self.call("FindAllByUuid", &index, search_by_uuid(uuid)).await?;
        Ok(answer.all("returnval").filter_map(Element::moref).collect())
    }

    /// Makes a switch of a host's that leads nowhere, and a port group on it.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn make_network(&self, at: &Moref, switch: &str, name: &str) -> Result<(), Error> {
        let arguments = vec![Element::text("vswitchName", switch)];
        match self.call("AddVirtualSwitch", at, arguments).await {
            Err(error) if error.is(&["AlreadyExists"]) => {}
            done => drop(done?),
        }
        let group = Element::new("portgrp")
            .holding(Element::text("name", name))
            .holding(Element::text("vlanId", 0))
            .holding(Element::text("vswitchName", switch))
            .holding(Element::new("policy"));
        self.call("AddPortGroup", at, vec![group]).await.map(drop)
    }

    /// The way back of [`Self::make_network`].
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn remove_network(&self, at: &Moref, switch: &str, name: &str) -> Result<(), Error> {
        let calls =
            [("RemovePortGroup", "pgName", name), ("RemoveVirtualSwitch", "vswitchName", switch)];
        for (method, argument, name) in calls {
            match self.call(method, at, vec![Element::text(argument, name)]).await {
                Err(error) if error.is(&["NotFound"]) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_says_only_what_shall_change_and_in_order() {
        assert!(ConfigSpec::default().is_empty());
        assert_eq!(ConfigSpec::default().write("spec").children, []);
        let spec = ConfigSpec {
            uuid: Some("u".to_owned()),
            cpus: Some(2),
            memory_limit_mb: Some(-1),
            devices: vec![Element::new("val").of_kind("VirtualE1000")],
            extra: vec![("a".to_owned(), "b".to_owned())],
            ..ConfigSpec::default()
        };
        let written = spec.write("spec");
        let names: Vec<_> = written.children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!(names, ["uuid", "numCPUs", "deviceChange", "memoryAllocation", "extraConfig"]);
        let device = written.at("deviceChange/device").unwrap();
        assert_eq!(device.kind.as_deref(), Some("VirtualE1000"));
        assert!(!spec.is_empty());
    }
}
