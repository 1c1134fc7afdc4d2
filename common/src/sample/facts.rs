//! What names the guest and what it is made of.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, units::Bytes};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, lower case with colons.
    pub mac: Option<String>,
    /// Its addresses with prefix length.
    pub addresses: Vec<IpNet>,
    /// Whether it is up.
    pub up: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; `None` if the network is attached.
    pub gateway: Option<std::net::IpAddr>,
    /// The interface it leaves by.
    pub interface: String,
    /// Its metric.
    pub metric: u32,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The device or server it comes from.
    pub device: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Its kind.
    pub kind: String,
    /// Its size.
    pub total: Bytes,
    /// What is free.
    pub available: Bytes,
}

/// A block device of the guest, with what joins it to a volume outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// Its name, such as `vda`.
    pub name: String,
    /// Its size.
    pub size: Bytes,
    /// Its serial, as the hypervisor or array gave it.
    pub serial: Option<String>,
    /// Its world-wide name.
    pub wwn: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its place on the bus, such as a PCI address.
    pub bus: Option<String>,
    /// Whether it is a spinning disk; `None` if it does not say.
    pub rotational: Option<bool>,
}

/// Storage that comes over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteStorage {
    /// How it comes, such as `nfs4`, `cifs` or `iscsi`.
    pub kind: String,
    /// The server as it is written: a name or an address.
    pub server: String,
    /// The server's address, where it is known without asking anybody.
    pub address: Option<IpAddr>,
    /// What of the server: an export, a share, a target.
    pub source: String,
    /// Where it is mounted, or which block device it is.
    pub place: String,
}

/// What names the guest and what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// SMBIOS product uuid, lower case.
    pub product_uuid: Option<String>,
    /// SMBIOS product serial.
    pub product_serial: Option<String>,
    /// `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// The kernel's boot id.
    pub boot_id: Option<String>,
    /// The host name.
    pub hostname: String,
    /// Operating system as it names itself.
    pub operating_system: String,
    /// Kernel release.
    pub kernel: String,
    /// Instruction set.
    pub architecture: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Interfaces but loopback.
    pub interfaces: Vec<Interface>,
    /// Routes.
    pub routes: Vec<Route>,
    /// File systems.
    pub file_systems: Vec<FileSystem>,
    /// When it booted.
    pub booted_at: Timestamp,
    /// Where services were read from, or why they could not be.
    pub services_source: String,
    /// How connections were read, and what that reader cannot see.
    pub connections_source: String,
    /// Anything else worth knowing.
    pub other: BTreeMap<String, String>,
    /// Block devices.
    #[serde(default)]
    pub block_devices: Vec<BlockDevice>,
    /// Storage that comes over the network.
    #[serde(default)]
    pub remote_storage: Vec<RemoteStorage>,
    /// The state the machine was started into, such as `multi-user.target`.
    pub run_level: Option<String>,
}
