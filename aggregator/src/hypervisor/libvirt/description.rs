//! What a domain's description says of a machine.

use std::collections::BTreeSet;

use common::units::{Bytes, Millicores};
use libvirt_rpc::xml::Element;

use crate::hypervisor::Allocation;

/// Where the agent of the guest is plugged in.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// The name the guest's bus gives it, such as `vda`.
    pub(super) target: String,
    /// Its file or device, if it is one of this host.
    pub(super) path: Option<String>,
    /// Kind of the source: `file`, `block`, `network`, `volume`.
    pub(super) kind: String,
    /// Format of the file.
    pub(super) format: String,
    /// What its top layer stands on; only told of machines that run.
    pub(super) below: Option<(String, String)>,
    /// Whether the machine may write to it.
    pub(super) is_writable: bool,
    /// Whether others may too.
    pub(super) is_shared: bool,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its MAC, lower case.
    pub(super) mac: String,
    /// How it is plugged in: `network`, `bridge`, `direct`.
    pub(super) kind: String,
    /// What it is plugged into.
    pub(super) network: Option<String>,
    /// Whether it is up while the machine runs.
    pub(super) is_up: bool,
}

/// In which unit libvirt writes sizes if it says none.
fn bytes(element: &Element) -> Option<Bytes> {
    let factor = match element.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    element.text.parse::<u64>().ok()?.checked_mul(factor).map(Bytes)
}

/// Memory the machine has now, which its balloon may have made less than it was started with.
pub(super) fn memory(domain: &Element) -> Option<Bytes> {
    bytes(domain.child("currentMemory").or_else(|| domain.child("memory"))?)
}

/// Memory the machine is started with, and may have at most.
pub(super) fn most_memory(domain: &Element) -> Option<Bytes> {
    bytes(domain.child("memory")?)
}

/// CPUs the machine has now, and may have at most.
pub(super) fn vcpus(domain: &Element) -> Option<(u64, u64)> {
    let element = domain.child("vcpu")?;
    let most = element.text.parse().ok()?;
    let now = element.attribute("current").map_or(Some(most), |count| count.parse().ok())?;
    Some((now, most))
}

/// CPU the machine may use: its CPUs, less where a quota says so.
pub(super) fn cpu(domain: &Element) -> Option<Millicores> {
    let (count, _) = vcpus(domain)?;
    let number = |name: &str| domain.at("cputune")?.text_at(name)?.parse::<i64>().ok();
    // Of all CPUs together, and of each.
    let quota = |quota: &str, period: &str, times: u64| {
        let quota = u64::try_from(number(quota)?).ok().filter(|quota| *quota > 0)?;
        let period = number(period).and_then(|period| u64::try_from(period).ok());
        let period = period.filter(|period| *period > 0).unwrap_or(100_000);
        Some(quota.saturating_mul(times).saturating_mul(1000) / period)
    };
    let limits = [
        Some(count.saturating_mul(1000)),
        quota("global_quota", "global_period", 1),
        quota("quota", "period", count),
    ];
    limits.into_iter().flatten().min().map(Millicores)
}

/// What the machine is given, its disks left out: the description does not say how large they are.
pub(super) fn allocation(domain: &Element) -> Allocation {
    Allocation { cpu: cpu(domain), memory: memory(domain), storage: None }
}

pub(super) fn disks(domain: &Element) -> Vec<Disk> {
    let devices = domain.child("devices").into_iter().flat_map(|devices| devices.all("disk"));
    devices.filter_map(disk).collect()
}

fn source_path(element: &Element) -> Option<&str> {
    let source = element.child("source")?;
    source.attribute("file").or_else(|| source.attribute("dev"))
}

fn disk(element: &Element) -> Option<Disk> {
    let below = element.child("backingStore").and_then(|below| {
        let format = below.child("format")?.attribute("type")?;
        Some((source_path(below)?.to_owned(), format.to_owned()))
    });
    let is_plain = matches!(element.attribute("device"), None | Some("disk" | "lun"));
    let format = element.child("driver").and_then(|driver| driver.attribute("type"));
    Some(Disk {
        target: element.child("target")?.attribute("dev")?.to_owned(),
        path: source_path(element).map(str::to_owned),
        kind: element.attribute("type").unwrap_or("file").to_owned(),
        format: format.unwrap_or("raw").to_owned(),
        below,
        is_writable: is_plain && element.child("readonly").is_none(),
        is_shared: element.child("shareable").is_some(),
    })
}

/// The link that an interface element describes; `None` if it has no MAC.
pub(super) fn link(element: &Element) -> Option<Link> {
    let kind = element.attribute("type").unwrap_or("network").to_owned();
    let source = element.child("source");
    let network = source.and_then(|source| {
        ["network", "bridge", "dev"].into_iter().find_map(|name| source.attribute(name))
    });
    let state = element.child("link").and_then(|link| link.attribute("state"));
    Some(Link {
        mac: element.child("mac")?.attribute("address")?.to_lowercase(),
        kind,
        network: network.map(str::to_owned),
        is_up: state != Some("down"),
    })
}

pub(super) fn interfaces(domain: &Element) -> impl Iterator<Item = &Element> {
    domain.child("devices").into_iter().flat_map(|devices| devices.all("interface"))
}

pub(super) fn links(domain: &Element) -> Vec<Link> {
    interfaces(domain).filter_map(link).collect()
}

/// Whether the agent of the guest has opened its channel; only told of machines that run.
pub(super) fn has_agent(domain: &Element) -> bool {
    let channels = domain.child("devices").into_iter().flat_map(|all| all.all("channel"));
    let mut targets = channels.filter_map(|channel| channel.child("target"));
    targets.any(|target| {
        target.attribute("name") == Some(AGENT_CHANNEL)
            && target.attribute("state") == Some("connected")
    })
}

/// Whether the machine's memory can be changed while it runs.
pub(super) fn has_balloon(domain: &Element) -> bool {
    let balloon = domain.at("devices/memballoon");
    balloon.is_none_or(|balloon| balloon.attribute("model") != Some("none"))
}

/// The networks that a machine is plugged into.
pub(super) fn networks(domain: &Element) -> BTreeSet<String> {
    links(domain).into_iter().filter_map(|link| link.network).collect()
}

#[cfg(test)]
pub(super) const EXAMPLE: &str = "<domain type='kvm' id='3'><name>web</name>\
    <uuid>0b6f3b0e-0000-4000-8000-000000000001</uuid>\
    <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory>\
    <vcpu placement='static' current='2'>4</vcpu>\
    <cputune><global_period>100000</global_period><global_quota>150000</global_quota></cputune>\
    <os><type arch='x86_64'>hvm</type><nvram>/v/web.fd</nvram></os><devices>\
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
    <source file='/pool/web.qcow2'/><backingStore type='file'><format type='raw'/>\
    <source file='/pool/base.img'/><backingStore/></backingStore>\
    <target dev='vda' bus='virtio'/></disk>\
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>\
    <disk type='file' device='disk'><driver type='raw'/><source file='/pool/tools.img'/>\
    <target dev='vdb'/><readonly/><shareable/></disk>\
    <interface type='network'><mac address='52:54:00:AA:00:01'/>\
    <source network='prod' bridge='virbr0'/><target dev='vnet0'/><model type='virtio'/></interface>\
    <interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br0'/>\
    <link state='down'/></interface>\
    <serial type='file'><source path='/log/web'/><target port='0'/></serial>\
    <channel type='unix'><source mode='bind' path='/run/x'/>\
    <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>\
    <graphics type='vnc' port='5901' autoport='no'/><memballoon model='virtio'/>\
    </devices></domain>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_is_given_is_the_least_of_what_limits_it() {
        let mut domain = Element::parse(EXAMPLE).unwrap();
        let given = allocation(&domain);
        assert_eq!((given.cpu, given.memory), (Some(Millicores(1500)), Some(Bytes::mebi(1024))));
        assert_eq!(most_memory(&domain), Some(Bytes::mebi(2048)));
        domain.child_mut("cputune").child_mut("global_quota").text = "-1".to_owned();
        assert_eq!(cpu(&domain), Some(Millicores(2000)), "no quota is none");
        domain.remove("vcpu");
        assert_eq!(cpu(&domain), None, "what is not told is not known");
    }

    #[test]
    fn disks_and_links_are_read_as_they_are() {
        let domain = Element::parse(EXAMPLE).unwrap();
        let disks = disks(&domain);
        assert_eq!(disks.len(), 3);
        assert!(disks[0].is_writable && !disks[1].is_writable && disks[2].is_shared);
        assert_eq!(disks[0].below, Some(("/pool/base.img".to_owned(), "raw".to_owned())));
        let links = links(&domain);
        assert_eq!(links[0].mac, "52:54:00:aa:00:01");
        assert_eq!(links[0].network.as_deref(), Some("prod"));
        assert!(links[0].is_up && !links[1].is_up);
        assert!(has_agent(&domain) && has_balloon(&domain));
        assert_eq!(networks(&domain), BTreeSet::from(["br0".to_owned(), "prod".to_owned()]));
    }
}
