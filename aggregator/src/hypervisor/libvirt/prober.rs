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

/// Addresses of the machines in a trial's network. A clone that nobody tells of has its source's.
/// The one that is asked comes first: the prober's own is one beside it.
fn inhabitants(inventory: &Inventory, network: &NetworkId, order: &ProbeOrder) -> Vec<IpNet> {
    let is_in =
        |machine: &&Machine| machine.nics.iter().any(|nic| nic.network.as_ref() == Some(network));
    let mut addresses = Vec::new();
    for machine in inventory.machines.values().filter(is_in) {
        let source = machine.cloned_from.as_ref().and_then(|id| inventory.machines.get(id));
        for nic in machine.nics.iter().filter(|nic| nic.network.as_ref() == Some(network)) {
            let of_source = source.into_iter().flat_map(|source| &source.nics);
            let same = of_source.filter(|other| other.mac == nic.mac);
            addresses.extend(nic.addresses.iter().chain(same.flat_map(|nic| &nic.addresses)));
        }
    }
    let is_asked =
        |net: &IpNet| order.targets.iter().any(|target| target.address.ip() == net.addr());
    addresses.sort_by_key(|net| !is_asked(net));
    addresses.dedup();
    addresses.into_iter().filter(|net| net.addr().is_ipv4()).collect()
}
