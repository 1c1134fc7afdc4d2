//! The description of a clone, made from its source's.
//!
//! What two machines cannot have at once is given anew (uuid, ports, consoles), and what they must
//! not share (devices of the host, disks or folders that both could write to) is refused.

use std::collections::{BTreeMap, BTreeSet};

use libvirt_rpc::xml::Element;
use uuid::Uuid;

use super::{description, refused, tag::Tag};
use crate::hypervisor::{Allocation, CloneOrder, HypervisorError};

/// Consoles that lead to a file or a socket of the source's own.
const CONSOLES: [&str; 3] = ["serial", "console", "parallel"];

/// Period of a CPU quota, as libvirt itself sets it.
pub(super) const PERIOD_US: u64 = 100_000;

/// The clone's description: `disks` are its files by their name in the guest, `uplinks` the
/// networks whose links stay up.
pub(super) fn clone(
    source: &Element,
    order: &CloneOrder,
    disks: &BTreeMap<String, String>,
    uplinks: &BTreeSet<String>,
) -> Result<Element, HypervisorError> {
    check(source, &order.source)?;
    let mut clone = source.clone();
    clone.attributes.retain(|(name, _)| name != "id");
    clone.child_mut("name").text = order.name.clone();
    clone.child_mut("uuid").text = order.clone.to_string();
    let tag = Tag {
        cloned_from: Some(order.source.clone()),
        plan: Some(order.plan.clone()),
        displaced: None,
    };
    tag.put(&mut clone);
    identify(&mut clone, order);
    give(&mut clone, &order.allocation);
    let os = clone.child_mut("os");
    // The firmware's variables are made anew from their template.
    for variables in os.all_mut("nvram") {
        variables.text.clear();
        variables.children.clear();
        variables.attributes.retain(|(name, _)| name.starts_with("template"));
    }
    let devices = clone.child_mut("devices");
    for disk in devices.all_mut("disk") {
        replace_disk(disk, disks);
    }
    for interface in devices.all_mut("interface") {
        unplug(interface, order, uplinks);
    }
    devices.children.iter_mut().for_each(separate);
    Ok(clone)
}

fn check(source: &Element, vm: &common::id::VmId) -> Result<(), HypervisorError> {
    let no = |what: &str, remedy: &str| {
        Err(refused(format!("{vm} cannot be cloned: it has {what}; {remedy}")))
    };
    let Some(devices) = source.child("devices") else { return Ok(()) };
    if devices.child("hostdev").is_some() {
        return no("a device of its host", "two machines cannot have it");
    }
    if description::links(source).iter().any(|link| link.kind == "hostdev") {
        return no("a network card of its host", "two machines cannot have it");
    }
    if devices.all("filesystem").any(|folder| folder.child("readonly").is_none()) {
        return no("a folder of its host that it may write to", "let it be read-only");
    }
    for disk in description::disks(source).into_iter().filter(|disk| disk.is_writable) {
        if disk.is_shared {
            return no(&format!("the shared disk {}", disk.target), "let it be read-only");
        }
        if disk.kind != "file" || disk.path.is_none() {
            let what = format!("the disk {} of kind {}", disk.target, disk.kind);
            return no(&what, "only disks that are files of a pool can be cloned");
        }
    }
    Ok(())
}

/// What the agent finds as its machine's identity.
fn identify(clone: &mut Element, order: &CloneOrder) {
    clone.child_mut("os").child_mut("smbios").set("mode", "sysinfo");
    let is_smbios = |element: &Element| {
        element.name == "sysinfo" && element.attribute("type") == Some("smbios")
    };
    if !clone.children.iter().any(is_smbios) {
        clone.children.push(Element::new("sysinfo").with("type", "smbios"));
    }
    let entries = [("uuid", order.clone.as_str()), ("serial", order.ticket.as_str())];
    for sysinfo in clone.children.iter_mut().filter(|element| is_smbios(element)) {
        let system = sysinfo.child_mut("system");
        for (name, value) in entries {
            system.children.retain(|entry| entry.attribute("name") != Some(name));
            if !value.is_empty() {
                system.children.push(Element::new("entry").with("name", name).saying(value));
            }
        }
    }
}

/// Gives what is ordered, as far as the description has room for it. A part that is not ordered
/// stays.
pub(super) fn give(clone: &mut Element, allocation: &Allocation) {
    if let (Some(cpu), Some((_, most))) = (allocation.cpu, description::vcpus(clone)) {
        let count = cpu.0.div_ceil(1000).max(1);
        let vcpu = clone.child_mut("vcpu");
        vcpu.text = most.max(count).to_string();
        vcpu.set("current", count.to_string());
        // Which CPUs there are is said anew by their number.
        clone.remove("vcpus");
        let tune = clone.child_mut("cputune");
        for name in ["global_period", "global_quota", "period", "quota"] {
            tune.remove(name);
        }
        if !cpu.0.is_multiple_of(1000) {
            let quota = cpu.0.saturating_mul(PERIOD_US) / 1000;
            tune.children.push(Element::new("global_period").saying(PERIOD_US.to_string()));
            tune.children.push(Element::new("global_quota").saying(quota.to_string()));
        }
        if tune.children.is_empty() {
            clone.remove("cputune");
        }
    }
    if let Some(memory) = allocation.memory {
        let kib = memory.0.div_ceil(1024);
        let most = description::most_memory(clone).map_or(0, |most| most.0.div_ceil(1024));
        // Without a balloon nothing but the most it may have counts.
        let most = if description::has_balloon(clone) { most.max(kib) } else { kib };
        for (name, kib) in [("memory", most), ("currentMemory", kib)] {
            let element = clone.child_mut(name);
            element.set("unit", "KiB");
            element.text = kib.to_string();
        }
    }
}

fn replace_disk(disk: &mut Element, disks: &BTreeMap<String, String>) {
    disk.remove("backingStore");
    disk.remove("mirror");
    let target = disk.child("target").and_then(|target| target.attribute("dev"));
    let Some(path) = target.and_then(|target| disks.get(target)) else { return };
    disk.remove("source");
    disk.children.push(Element::new("source").with("file", path.as_str()));
    disk.child_mut("driver").set("type", "qcow2");
}

/// Takes the link down, or gives it a MAC of its own where it stays up.
fn unplug(interface: &mut Element, order: &CloneOrder, uplinks: &BTreeSet<String>) {
    // The name of the host's end, which is the source's.
    interface.remove("target");
    let Some(link) = description::link(interface) else { return };
    if link.network.as_ref().is_some_and(|network| uplinks.contains(network)) {
        interface.child_mut("mac").set("address", mac_of(order.clone.as_str(), &link.mac));
    } else {
        interface.child_mut("link").set("state", "down");
    }
}

/// A MAC in QEMU's range, always the same for the same link of the same machine.
fn mac_of(vm: &str, of: &str) -> String {
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{vm} {of}").as_bytes());
    let [a, b, c, ..] = digest.into_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Gives what leads outside an end of its own.
fn separate(device: &mut Element) {
    let kind = device.attribute("type").unwrap_or_default().to_owned();
    match device.name.as_str() {
        name if CONSOLES.contains(&name) => {
            device.set("type", "pty");
            device.remove("source");
            device.remove("log");
            device.remove("protocol");
        }
        "channel" if kind == "unix" => device.remove("source"),
        "graphics" => {
            device.attributes.retain(|(name, _)| {
                !matches!(name.as_str(), "port" | "tlsPort" | "websocket" | "socket" | "autoport")
            });
            if kind != "egl-headless" {
                device.set("autoport", "yes");
            }
        }
        "vsock" => {
            let cid = device.child_mut("cid");
            cid.attributes.clear();
            cid.set("auto", "yes");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use common::units::{Bytes, Millicores};

    use super::*;

    const CLONE: &str = "0b6f3b0e-0000-4000-8000-000000000002";

    fn order(cpu: u64) -> CloneOrder {
        CloneOrder {
            source: "0b6f3b0e-0000-4000-8000-000000000001".parse().unwrap(),
            clone: CLONE.parse().unwrap(),
            name: "web-trial".to_owned(),
            host: "h".parse().unwrap(),
            plan: "p-1".parse().unwrap(),
            allocation: Allocation {
                cpu: Some(Millicores(cpu)),
                memory: Some(Bytes::mebi(512)),
                storage: None,
            },
            ticket: "<ticket>".to_owned(),
        }
    }

    fn cloned(source: &Element, order: &CloneOrder) -> Element {
        let disks = BTreeMap::from([("vda".to_owned(), "/pool/new.qcow2".to_owned())]);
        let uplinks = BTreeSet::from(["br0".to_owned()]);
        let clone = clone(source, order, &disks, &uplinks).unwrap();
        Element::parse(&clone.write()).unwrap()
    }

    #[test]
    fn a_clone_has_its_own_identity_and_its_sources_hardware() {
        let source = Element::parse(description::EXAMPLE).unwrap();
        let clone = cloned(&source, &order(750));

        assert_eq!(
            (clone.text_at("name"), clone.text_at("uuid")),
            (Some("web-trial"), Some(CLONE))
        );
        assert_eq!(clone.attribute("id"), None);
        let entries: Vec<_> = clone.at("sysinfo/system").unwrap().all("entry").collect();
        assert_eq!((entries[0].text.as_str(), entries[1].text.as_str()), (CLONE, "<ticket>"));
        let tag = Tag::of(&clone);
        assert_eq!(tag.cloned_from, Some(order(0).source));
        assert_eq!(clone.text_at("os/nvram"), None);
        let devices = clone.child("devices").unwrap();
        assert_eq!(devices.child("serial").unwrap().attribute("type"), Some("pty"));
        assert_eq!(devices.child("graphics").unwrap().attribute("port"), None);
        assert!(devices.child("channel").unwrap().child("source").is_none());
        let disks = description::disks(&clone);
        assert_eq!(disks[0].path.as_deref(), Some("/pool/new.qcow2"));
        assert_eq!((disks[0].format.as_str(), &disks[0].below), ("qcow2", &None));
        assert_eq!(disks[2].path.as_deref(), Some("/pool/tools.img"), "read-only ones are shared");
    }

    #[test]
    fn a_clone_is_plugged_in_nowhere_but_at_uplinks() {
        let mut source = Element::parse(description::EXAMPLE).unwrap();
        for interface in source.child_mut("devices").all_mut("interface") {
            interface.remove("link");
        }
        let links = description::links(&cloned(&source, &order(1000)));
        assert_eq!((links[0].mac.as_str(), links[0].is_up), ("52:54:00:aa:00:01", false));
        assert!(links[1].is_up && links[1].mac != "52:54:00:aa:00:02", "{links:?}");
    }

    #[test]
    fn a_clone_is_given_what_was_ordered() {
        let source = Element::parse(description::EXAMPLE).unwrap();
        let small = cloned(&source, &order(750));
        assert_eq!(description::allocation(&small), order(750).allocation);
        assert_eq!(description::vcpus(&small), Some((1, 4)));
        assert_eq!(description::most_memory(&small), Some(Bytes::mebi(2048)), "it may grow again");
        let whole = cloned(&source, &order(3000));
        assert_eq!(description::cpu(&whole), Some(Millicores(3000)), "the old quota is gone");
    }

    #[test]
    fn what_two_machines_must_not_share_is_refused_with_its_name() {
        for (device, words) in [
            ("<hostdev mode='subsystem'/>", "a device of its host"),
            ("<filesystem type='mount'/>", "a folder of its host"),
            ("<disk type='network'><target dev='vdc'/></disk>", "vdc of kind network"),
            (
                "<disk type='file'><source file='/x'/><target dev='vdc'/><shareable/></disk>",
                "shared",
            ),
        ] {
            let mut source = Element::parse(description::EXAMPLE).unwrap();
            source.child_mut("devices").children.push(Element::parse(device).unwrap());
            let error = check(&source, &order(0).source).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
