//! A machine's devices: its links and disks, and what they are changed to.

use std::collections::BTreeMap;

use uuid::Uuid;
use vsphere_soap::Element;

/// Parts of a device that stand before its place of the same list.
const BEFORE_BACKING: [&str; 2] = ["key", "deviceInfo"];
const BEFORE_CONNECTABLE: [&str; 3] = ["key", "deviceInfo", "backing"];
const BEFORE_ADDRESS: [&str; 9] = [
    "key",
    "deviceInfo",
    "backing",
    "connectable",
    "slotInfo",
    "controllerKey",
    "unitNumber",
    "numaNode",
    "deviceGroupInfo",
];
/// The number of the first link's device; the guest's settings count from it.
const FIRST_LINK_KEY: u32 = 4000;

/// Where a link is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plug {
    /// A port group of the host's, by name, with its reference where that is told.
    Standard(String, Option<String>),
    /// A port group of a distributed switch, by its key, which is its reference too.
    Distributed(String),
    /// Another's network, such as NSX's, by its own id.
    Opaque(String),
    /// Nothing that we know.
    Unknown,
}

/// A link of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number in the machine.
    pub(super) key: u32,
    /// Its MAC, lower case with colons.
    pub(super) mac: String,
    /// Where it is plugged in.
    pub(super) plug: Plug,
    /// Whether it is connected now.
    pub(super) is_connected: bool,
    /// Whether it is when the machine starts.
    pub(super) starts_connected: bool,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// Its number in the machine.
    pub(super) key: u32,
    /// Its file, with its datastore in brackets.
    pub(super) file: String,
    /// The reference of its datastore.
    pub(super) datastore: Option<String>,
    /// Its size.
    pub(super) capacity: Option<u64>,
}

/// How the kinds of network cards begin.
const CARDS: [&str; 5] = [
    "VirtualE1000",
    "VirtualVmxnet",
    "VirtualPCNet32",
    "VirtualSriovEthernetCard",
    "VirtualEthernetCard",
];

fn is_card(device: &Element) -> bool {
    let kind = device.kind.as_deref().unwrap_or_default();
    CARDS.iter().any(|card| kind.starts_with(card)) || device.text_at("macAddress").is_some()
}

/// A device as a link; `None` if it is another. A card that leads nobody knows where is a link all the same:
/// it must not be passed over when links are taken away.
pub(super) fn link(device: &Element) -> Option<Link> {
    if !is_card(device) {
        return None;
    }
    let plug = match device.child("backing") {
        Some(backing) => match backing.kind.as_deref() {
            Some("VirtualEthernetCardNetworkBackingInfo") => {
                let network = backing.text_at("network").map(str::to_owned);
                let name = backing.text_at("deviceName");
                name.map_or(Plug::Unknown, |name| Plug::Standard(name.to_owned(), network))
            }
            Some("VirtualEthernetCardDistributedVirtualPortBackingInfo") => {
                let group = backing.text_at("port/portgroupKey");
                group.map_or(Plug::Unknown, |group| Plug::Distributed(group.to_owned()))
            }
            Some("VirtualEthernetCardOpaqueNetworkBackingInfo") => {
                let id = backing.text_at("opaqueNetworkId");
                id.map_or(Plug::Unknown, |id| Plug::Opaque(id.to_owned()))
            }
            _ => Plug::Unknown,
        },
        None => Plug::Unknown,
    };
    Some(Link {
        key: device.number_at("key")?,
        mac: device.text_at("macAddress").unwrap_or_default().to_lowercase(),
        plug,
        is_connected: device.is_true_at("connectable/connected"),
        starts_connected: device.is_true_at("connectable/startConnected"),
    })
}

/// Where a card is plugged in, without which port of a distributed group it was given: that one stays the
/// other machine's.
pub(super) fn group_of(backing: &Element) -> Element {
    let mut group = backing.clone();
    for port in group.children.iter_mut().filter(|child| child.name == "port") {
        port.children.retain(|part| !["portKey", "connectionCookie"].contains(&part.name.as_str()));
    }
    group
}

/// A device as a disk; `None` if it is another.
pub(super) fn disk(device: &Element) -> Option<Disk> {
    if device.kind.as_deref() != Some("VirtualDisk") {
        return None;
    }
    let in_kb = || device.number_at::<u64>("capacityInKB")?.checked_mul(1024);
    Some(Disk {
        key: device.number_at("key")?,
        file: device.text_at("backing/fileName").unwrap_or_default().to_owned(),
        datastore: device.text_at("backing/datastore").map(str::to_owned),
        capacity: device.number_at("capacityInBytes").or_else(in_kb),
    })
}

/// Why a machine with a device cannot be copied.
pub(super) fn why_unique(device: &Element) -> Option<String> {
    let kind = device.kind.as_deref().unwrap_or_default();
    let backing = device.child("backing");
    let backed = backing.and_then(|backing| backing.kind.as_deref()).unwrap_or_default();
    if matches!(kind, "VirtualPCIPassthrough" | "VirtualSriovEthernetCard") {
        return Some("a device of its host, which two machines cannot have".to_owned());
    }
    if backed.starts_with("VirtualDiskRawDiskMapping") {
        return Some(
            "a disk that is a device of an array, which two machines cannot have".to_owned(),
        );
    }
    if device.text_at("backing/sharing") == Some("sharingMultiWriter") {
        return Some("a disk that several machines write to".to_owned());
    }
    None
}

/// What each disk's files take, by the disk's number: all files in its chain.
pub(super) fn taken(layout: &Element) -> BTreeMap<u32, u64> {
    let size = |file: &Element| Some((file.text_at("key")?.to_owned(), file.number_at("size")?));
    let sizes: BTreeMap<String, u64> = layout.all("file").filter_map(size).collect();
    let sum = |disk: &Element| {
        let mut keys = disk.all("chain").flat_map(|chain| chain.all("fileKey"));
        // Of a file whose size is not told the sum is not known either.
        let sum = keys.try_fold(0_u64, |sum, key| sum.checked_add(*sizes.get(&key.text)?))?;
        Some((disk.number_at("key")?, sum))
    };
    layout.all("disk").filter_map(sum).collect()
}

/// Connects or disconnects a link, now and whenever its machine starts.
pub(super) fn connect(device: &mut Element, starts: bool, now: bool) {
    let guest = device.is_true_at("connectable/allowGuestControl");
    let connectable = Element::new("connectable")
        .holding(Element::text("startConnected", starts))
        .holding(Element::text("allowGuestControl", guest))
        .holding(Element::text("connected", now));
    device.put(connectable, &BEFORE_CONNECTABLE);
}

/// Gives a link that MAC.
pub(super) fn address(device: &mut Element, mac: &str) {
    device.put(Element::text("addressType", "manual"), &BEFORE_ADDRESS);
    let mut before = BEFORE_ADDRESS.to_vec();
    before.push("addressType");
    device.put(Element::text("macAddress", mac), &before);
}

/// Plugs a link in elsewhere. The summary in its description is the former place's.
pub(super) fn plug_in(device: &mut Element, backing: Element) {
    device.remove("deviceInfo");
    device.put(Element { name: "backing".to_owned(), ..backing }, &BEFORE_BACKING);
}

/// A port group of the host's.
pub(super) fn standard_plug(name: &str) -> Element {
    Element::new("backing")
        .of_kind("VirtualEthernetCardNetworkBackingInfo")
        .holding(Element::text("deviceName", name))
}

/// The setting by which a host takes a MAC that it did not give itself.
pub(super) fn unchecked(link: &Link) -> (String, String) {
    let number = link.key.saturating_sub(FIRST_LINK_KEY);
    (format!("ethernet{number}.checkMACAddress"), "FALSE".to_owned())
}

/// A MAC in the range that is left to administrators, always the same for the same link of the same
/// machine.
pub(super) fn mac_of(vm: &str, of: &str) -> String {
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{vm} {of}").as_bytes());
    let [a, b, c, ..] = digest.into_bytes();
    format!("00:50:56:{:02x}:{b:02x}:{c:02x}", a & 0x3f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "<d><key>4001</key><deviceInfo><label>n</label></deviceInfo><backing \
        x:type='VirtualEthernetCardDistributedVirtualPortBackingInfo'><port><portgroupKey>dv-1\
        </portgroupKey></port></backing><controllerKey>100</controllerKey><unitNumber>8</unitNumber>\
        <addressType>generated</addressType><macAddress>00:0C:29:00:00:01</macAddress></d>";

    #[test]
    fn a_link_keeps_its_card_when_it_is_plugged_in_elsewhere() {
        let mut card = Element::parse(CARD).unwrap();
        assert_eq!(link(&card).unwrap().plug, Plug::Distributed("dv-1".to_owned()));

        plug_in(&mut card, standard_plug("trial-1"));
        connect(&mut card, true, false);
        address(&mut card, "00:50:56:00:00:01");

        let link = link(&card).unwrap();
        assert_eq!(link.plug, Plug::Standard("trial-1".to_owned(), None));
        assert_eq!((link.mac.as_str(), link.starts_connected), ("00:50:56:00:00:01", true));
        let names: Vec<_> = card.children.iter().map(|child| child.name.as_str()).collect();
        let expected = [
            "key",
            "backing",
            "connectable",
            "controllerKey",
            "unitNumber",
            "addressType",
            "macAddress",
        ];
        assert_eq!(names, expected);
        assert_eq!(unchecked(&link).0, "ethernet1.checkMACAddress");
    }

    #[test]
    fn what_a_disk_takes_is_not_known_if_one_of_its_files_is_not() {
        let layout = "<l><file><key>0</key><size>5</size></file><file><key>1</key><size>7</size>\
            </file><disk><key>2000</key><chain><fileKey>0</fileKey><fileKey>1</fileKey></chain></disk>\
            <disk><key>2001</key><chain><fileKey>9</fileKey></chain></disk></l>";
        assert_eq!(taken(&Element::parse(layout).unwrap()), BTreeMap::from([(2000, 12)]));
    }

    #[test]
    fn a_mac_of_a_clone_is_in_the_administrators_range() {
        let mac = mac_of("a", "00:0c:29:00:00:01");
        assert!(mac.starts_with("00:50:56:") && mac.as_str() < "00:50:56:40");
        assert_ne!(mac, mac_of("b", "00:0c:29:00:00:01"));
    }
}
