//! What is there: hosts, machines, their links and disks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use common::{
    clock::{Clock as _, SystemClock},
    id::{HostId, StorageId, VmId},
    units::{Bytes, Millicores},
};
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use ipnet::IpNet;
use libvirt_rpc::{
    AddressSource, Domain, DomainStats, Interface, Volume as RpcVolume, XmlKind, xml::Element,
};
use tracing::{debug, warn};

use super::{
    LibvirtHypervisor, description,
    description::{Disk, Link},
    refused,
    site::Site,
    tag::{self, Tag},
    unreadable,
};
use crate::hypervisor::{
    Allocation, Host, HypervisorError, Inventory, Machine, Nic, Pool, Power, Volume,
};

/// Questions to one host at once; libvirt works on five of one client by default.
const AT_ONCE: usize = 5;

/// What all machines of a host have in common.
#[derive(Debug, Default)]
struct Ground {
    /// Volumes by path.
    volumes: BTreeMap<String, RpcVolume>,
    /// Kind of each network: how it leads on, or `isolated`.
    kinds: BTreeMap<String, String>,
    /// Addresses that each network gave away, by MAC: a clone on trial has its source's MAC in another.
    leases: BTreeMap<(String, String), Vec<IpNet>>,
    /// Figures of machines that run.
    stats: BTreeMap<String, DomainStats>,
    /// The host's own addresses and MACs in its networks.
    addresses: Vec<IpAddr>,
    macs: BTreeSet<String>,
    pools: Vec<Pool>,
}

impl LibvirtHypervisor {
    pub(super) async fn all(&self) -> Result<Inventory, HypervisorError> {
        let asked = self.sites.iter().map(|site| async move { (site, site.all().await) });
        let mut inventory = Inventory { taken_at: SystemClock.now(), ..Inventory::default() };
        let mut failed = None;
        for (site, answer) in join_all(asked).await {
            match answer {
                Ok((host, machines)) => {
                    inventory.hosts.insert(host.id.clone(), host);
                    for machine in machines {
                        let is_better = inventory
                            .machines
                            .get(&machine.id)
                            .is_none_or(|other| other.power == Power::Off);
                        if is_better {
                            inventory.machines.insert(machine.id.clone(), machine);
                        }
                    }
                }
                Err(error) => {
                    let cause = common::task::Chain(&error).to_string();
                    warn!(host = site.name, cause, "host not in the inventory");
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if inventory.hosts.is_empty() => Err(error),
            _ => Ok(inventory),
        }
    }
}

impl Site {
    async fn all(&self) -> Result<(Host, Vec<Machine>), HypervisorError> {
        let id = self.host_id().await?;
        let ground = self.ground().await?;
        let domains = self.client.domains().await?;
        let machines = stream::iter(domains)
            .map(|domain| {
                let (id, ground) = (&id, &ground);
                async move { self.machine(&domain, id, ground).await }
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let machines = machines.await?.into_iter().flatten().collect();
        Ok((self.host(id, ground).await?, machines))
    }

    async fn host(&self, id: HostId, ground: Ground) -> Result<Host, HypervisorError> {
        let info = self.client.node_info().await?;
        let mut macs = ground.macs;
        match self.client.interfaces().await {
            Ok(interfaces) => {
                macs.extend(interfaces.into_iter().map(|(_, mac)| mac.to_lowercase()))
            }
            // A driver of its own that a host may lack.
            Err(libvirt_rpc::Error::Refused(refusal)) => {
                debug!(host = self.name, %refusal, "host told no interfaces");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Host {
            id,
            name: self.client.hostname().await?,
            addresses: ground.addresses,
            macs: macs.into_iter().filter(|mac| mac != "00:00:00:00:00:00").collect(),
            cpu: Millicores(u64::from(info.cpus).saturating_mul(1000)),
            memory: Bytes(info.memory_kib.saturating_mul(1024)),
            pools: ground.pools,
        })
    }

    async fn ground(&self) -> Result<Ground, HypervisorError> {
        let mut ground = Ground::default();
        for stats in self.client.stats().await? {
            ground.stats.insert(stats.uuid.to_string(), stats);
        }
        for pool in self.client.pools().await? {
            let info = self.client.pool_info(&pool).await?;
            if let Ok(id) = pool.name.parse() {
                ground.pools.push(Pool {
                    id,
                    capacity: Bytes(info.capacity),
                    allocated: Some(Bytes(info.allocation)),
                    available: Some(Bytes(info.available)),
                });
            }
            let volumes = self.client.volumes(&pool).await?;
            ground.volumes.extend(volumes.into_iter().map(|volume| (volume.key.clone(), volume)));
        }
        for network in self.client.networks().await? {
            let text = self.client.network_xml(&network).await?;
            let told = Element::parse(&text).map_err(|cause| unreadable(&network.name, &cause))?;
            let forward = told.child("forward");
            let kind =
                forward.map_or("isolated", |forward| forward.attribute("mode").unwrap_or("nat"));
            ground.kinds.insert(network.name.clone(), kind.to_owned());
            let addresses =
                told.all("ip").filter_map(|ip| ip.attribute("address")?.parse::<IpAddr>().ok());
            ground.addresses.extend(addresses);
            let mac = told.child("mac").and_then(|mac| mac.attribute("address"));
            ground.macs.extend(mac.map(str::to_lowercase));
            match self.client.leases(&network).await {
                Ok(leases) => {
                    for lease in leases {
                        let place = (network.name.clone(), lease.mac.to_lowercase());
                        let given = ground.leases.entry(place).or_default();
                        given.extend(address(&lease.address, lease.prefix));
                    }
                }
                // It gives none away, or is not up.
                Err(libvirt_rpc::Error::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ground)
    }

    /// A machine; `None` if it was gone before it was looked at.
    async fn machine(
        &self,
        domain: &Domain,
        host: &HostId,
        ground: &Ground,
    ) -> Result<Option<Machine>, HypervisorError> {
        let told = match self.client.domain_xml(domain, XmlKind::Present).await {
            Ok(told) => told,
            Err(error) if error.is(&[libvirt_rpc::code::NO_DOMAIN]) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let told = Element::parse(&told).map_err(|cause| unreadable(&domain.name, &cause))?;
        let id: VmId = domain.uuid.to_string().parse().map_err(|_| refused("a uuid is no id"))?;
        let power = if domain.is_active() { Power::On } else { Power::Off };
        let volumes = self.volumes(domain, &told, ground).await?;
        let mut sizes = volumes.iter().map(|volume| volume.capacity.map(|size| size.0));
        // Of a disk whose size is not told the sum is not known either.
        let storage = sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?)).map(Bytes);
        let tag = Tag::of(&told);
        Ok(Some(Machine {
            id,
            name: domain.name.clone(),
            host: host.clone(),
            power,
            allocation: Allocation { storage, ..description::allocation(&told) },
            nics: self.nics(domain, &told, ground).await,
            volumes,
            cloned_from: tag.cloned_from,
            plan: tag.plan,
            labels: tag::labels(&told),
        }))
    }

    async fn volumes(
        &self,
        domain: &Domain,
        told: &Element,
        ground: &Ground,
    ) -> Result<Vec<Volume>, HypervisorError> {
        let stats = ground.stats.get(&domain.uuid.to_string());
        let mut volumes = Vec::new();
        for disk in description::disks(told).into_iter().filter(|disk| disk.is_writable) {
            let known = disk.path.as_ref().and_then(|path| ground.volumes.get(path));
            let sizes = match (stats.and_then(|stats| live_sizes(stats, &disk.target)), known) {
                (Some(sizes), _) => Some(sizes),
                (None, Some(volume)) => match self.client.volume_info(volume).await {
                    Ok(info) => Some((info.capacity, info.allocation)),
                    Err(error) if error.is(&[libvirt_rpc::code::NO_VOLUME]) => None,
                    Err(error) => return Err(error.into()),
                },
                (None, None) => None,
            };
            volumes.push(volume(domain, &disk, known, sizes)?);
        }
        Ok(volumes)
    }

    async fn nics(&self, domain: &Domain, told: &Element, ground: &Ground) -> Vec<Nic> {
        let links = description::links(told);
        let leased = |link: &Link| {
            let place = (link.network.clone()?, link.mac.clone());
            ground.leases.get(&place).filter(|leased| !leased.is_empty())
        };
        let is_leased = |link: &Link| leased(link).is_some();
        let must_ask =
            domain.is_active() && description::has_agent(told) && !links.iter().all(is_leased);
        let told = if must_ask { self.agent_addresses(domain).await } else { Vec::new() };
        let addresses = |link: &Link| {
            if let Some(leased) = leased(link) {
                return leased.clone();
            }
            let own = told.iter().find(|one| {
                one.mac.as_ref().is_some_and(|mac| mac.eq_ignore_ascii_case(&link.mac))
            });
            let own = own.into_iter().flat_map(|one| &one.addresses);
            own.filter_map(|one| address(&one.address, one.prefix)).collect()
        };
        let is_uplink = |link: &&Link| {
            link.network.as_ref().is_some_and(|network| self.uplinks.contains(network))
        };
        let nic = |link: &Link| Nic {
            mac: link.mac.clone(),
            network: link.network.as_ref().and_then(|network| network.parse().ok()),
            kind: match (link.kind.as_str(), &link.network) {
                ("network", Some(network)) => ground.kinds.get(network).cloned(),
                ("direct", _) => Some("macvtap".to_owned()),
                _ => None,
            }
            .unwrap_or_else(|| link.kind.clone()),
            addresses: addresses(link),
            up: domain.is_active() && link.is_up,
        };
        // The first address is where a machine serves; what leads to us comes last.
        let (up, others): (Vec<&Link>, Vec<&Link>) = links.iter().partition(is_uplink);
        others.into_iter().chain(up).map(nic).collect()
    }

    /// What the guest's agent says; nothing if it does not answer.
    async fn agent_addresses(&self, domain: &Domain) -> Vec<Interface> {
        match self.client.interface_addresses(domain, AddressSource::Agent).await {
            Ok(interfaces) => interfaces,
            Err(cause) => {
                debug!(vm = %domain.uuid, %cause, "guest told no addresses");
                Vec::new()
            }
        }
    }
}

fn address(text: &str, prefix: u32) -> Option<IpNet> {
    IpNet::new(text.parse().ok()?, u8::try_from(prefix).ok()?).ok()
}

/// Capacity and what is taken, of a disk by its name in the guest.
fn live_sizes(stats: &DomainStats, target: &str) -> Option<(u64, u64)> {
    let count = stats.number("block.count")?.min(4_096);
    let at = (0..count).find(|at| stats.text(&format!("block.{at}.name")) == Some(target))?;
    let size = |name| stats.number(&format!("block.{at}.{name}"));
    Some((size("capacity")?, size("allocation")?))
}

fn volume(
    domain: &Domain,
    disk: &Disk,
    known: Option<&RpcVolume>,
    sizes: Option<(u64, u64)>,
) -> Result<Volume, HypervisorError> {
    let by_path = disk.path.as_deref().and_then(|path| path.parse::<StorageId>().ok());
    // A path that is no id, or none: what always is one.
    let made = || format!("{}/{}", domain.uuid, disk.target).parse::<StorageId>();
    let id = by_path.map_or_else(made, Ok).map_err(|cause| refused(cause.to_string()))?;
    let folder =
        disk.path.as_deref().and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
    let pool = known.map(|volume| volume.pool.as_str()).or(folder).unwrap_or(disk.kind.as_str());
    let pool = pool.parse::<StorageId>().or_else(|_| disk.kind.parse::<StorageId>());
    Ok(Volume {
        id,
        pool: pool.map_err(|cause| refused(cause.to_string()))?,
        capacity: sizes.map(|(capacity, _)| Bytes(capacity)),
        allocated: sizes.map(|(_, allocated)| Bytes(allocated)),
    })
}
