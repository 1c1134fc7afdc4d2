//! Load on a machine on trial. libvirt runs no prober, so that somebody of ours is plugged in beside
//! the machine: that takes the aggregator to run on the machine's host, as root.

use common::id::NetworkId;
use ipnet::IpNet;
use tracing::{info, warn};

use super::{LibvirtHypervisor, refused, trial_network};
use crate::hypervisor::{
    HypervisorError, Inventory, Machine, ProbeOrder, ProbeResult, namespace::beside,
};

impl LibvirtHypervisor {
    pub(super) async fn put_load(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, HypervisorError> {
        let bridge = trial_network::bridge(network.as_str());
        if let Some(why) = beside::why_not(&bridge).await {
            if order.targets.is_empty() {
                warn!(%network, why, "nobody stands in for those that the machine on trial calls");
                return Ok(Vec::new());
            }
            let count = order.targets.len();
            let what = format!("nobody can call the {count} ports to be probed in {network}");
            return Err(refused(format!("{what}: {why}")));
        }
        let inhabitants = inhabitants(&self.all().await?, network, order);
        let results = beside::probe(&bridge, &inhabitants, order).await?;
        info!(%network, targets = results.len(), "machine probed");
        Ok(results)
    }
}

/// Addresses of the machines in a trial's network. A clone that nobody tells of has its source's, and
/// one that has them has them in the source's net: libvirt tells of its lease in the net of who gave it.
/// The one that is asked comes first: the prober's own is one beside it.
fn inhabitants(inventory: &Inventory, network: &NetworkId, order: &ProbeOrder) -> Vec<IpNet> {
    let is_in =
        |machine: &&Machine| machine.nics.iter().any(|nic| nic.network.as_ref() == Some(network));
    let mut addresses: Vec<IpNet> = Vec::new();
    for machine in inventory.machines.values().filter(is_in) {
        let source = machine.cloned_from.as_ref().and_then(|id| inventory.machines.get(id));
        for nic in machine.nics.iter().filter(|nic| nic.network.as_ref() == Some(network)) {
            let of_source = source.into_iter().flat_map(|source| &source.nics);
            let same = of_source.filter(|other| other.mac == nic.mac);
            for net in same.flat_map(|nic| &nic.addresses).chain(&nic.addresses) {
                if addresses.iter().all(|known| known.addr() != net.addr()) {
                    addresses.push(*net);
                }
            }
        }
    }
    let is_asked =
        |net: &IpNet| order.targets.iter().any(|target| target.address.ip() == net.addr());
    addresses.sort_by_key(|net| !is_asked(net));
    addresses.into_iter().filter(|net| net.addr().is_ipv4()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use common::{clock::Timestamp, id::VmId};

    use super::*;
    use crate::hypervisor::{Allocation, Nic, Power, ProbeKind, ProbeTarget};

    fn machine(id: &VmId, address: &str, network: &str, cloned_from: Option<VmId>) -> Machine {
        Machine {
            id: id.clone(),
            name: id.to_string(),
            host: "host-1".parse().unwrap(),
            power: Power::On,
            allocation: Allocation::default(),
            nics: vec![Nic {
                mac: "52:54:00:63:00:01".to_owned(),
                network: Some(network.parse().unwrap()),
                kind: "bridge".to_owned(),
                addresses: vec![address.parse().unwrap()],
                up: true,
            }],
            volumes: Vec::new(),
            cloned_from,
            plan: None,
            labels: BTreeSet::new(),
        }
    }

    #[test]
    fn a_clone_is_in_the_net_of_its_source_whatever_its_lease_is_told_with() {
        let (source, clone): (VmId, VmId) = ("vm-1".parse().unwrap(), "vm-2".parse().unwrap());
        let trial: NetworkId = "t-1".parse().unwrap();
        let machines = [
            (source.clone(), machine(&source, "10.98.6.11/24", "production", None)),
            (clone.clone(), machine(&clone, "10.98.6.11/30", "t-1", Some(source))),
        ];
        let inventory = Inventory {
            taken_at: Timestamp::from_millis(0),
            hosts: BTreeMap::new(),
            machines: machines.into(),
        };
        let target = ProbeTarget {
            address: "10.98.6.11:80".parse().unwrap(),
            kind: ProbeKind::TcpConnect,
            rate_per_second: 1.0,
        };
        let order = ProbeOrder { targets: vec![target], ..ProbeOrder::default() };

        let found = inhabitants(&inventory, &trial, &order);

        assert_eq!(found, ["10.98.6.11/24".parse::<IpNet>().unwrap()]);
    }
}
