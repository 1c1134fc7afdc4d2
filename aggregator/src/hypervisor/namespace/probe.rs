//! Puts a prober beside a machine on trial: it calls the machine as production does, and answers
//! in the place of those the machine calls.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use common::{id::NetworkId, task::Chain};
use ipnet::IpNet;
use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::{
    Attempt, NamespaceError, inner, launch,
    layout::{self, PRODUCTION, Record, UPLINK},
    world::World,
};
use crate::hypervisor::{ProbeOrder, ProbeResult};

/// Longest probe; a longer order is a mistake.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(3_600);

/// How much later than its load's end a probe may report.
pub(super) const LATE: Duration = Duration::from_secs(20);

impl World {
    /// Puts load on machines in a trial's network.
    pub(super) fn probe(
        &self,
        network: &NetworkId,
        order: &ProbeOrder,
    ) -> Result<Vec<ProbeResult>, NamespaceError> {
        if network.as_str() == PRODUCTION || order.duration > MAX_DURATION {
            let reason = format!("no probe of {:?} in {network}", order.duration);
            return Err(NamespaceError::refused(reason));
        }
        let records = self.layout.records()?;
        let inhabitants: Vec<&Record> =
            records.iter().filter(|record| record.is_plugged_into(network.as_str())).collect();
        let subnet = inhabitants.first().map(|record| record.address);
        let subnet = subnet
            .ok_or_else(|| NamespaceError::refused(format!("there is no machine in {network}")))?;
        let occupied: BTreeSet<IpAddr> =
            inhabitants.iter().map(|record| record.address.addr()).collect();
        let stand_ins = stand_ins(&order.stand_ins, &occupied);
        let addresses = addresses(subnet, &occupied, order, &stand_ins)?;
        let results = self.ask(network, addresses, order, stand_ins)?;
        info!(%network, targets = results.len(), "machine probed");
        Ok(results)
    }

    fn ask(
        &self,
        network: &NetworkId,
        addresses: Vec<IpNet>,
        order: &ProbeOrder,
        stand_ins: Vec<SocketAddr>,
    ) -> Result<Vec<ProbeResult>, NamespaceError> {
        let what = "probe a machine";
        let log = File::create(self.layout.folder().join("probe.log"));
        let log = log.or_could_not(|| "make a probe's log".to_owned())?;
        let waiting = launch::launch(&self.program, &self.fabric.keeper, "probe", log)?;
        let process = waiting.process.clone();
        let near = format!("q{}", layout::digest(&format!("{network} {}", process.pid()), 12));
        let answer = self
            .fabric
            .wire_guest(&near, network, addresses, &waiting.netns)
            .and_then(|()| {
                let order = ProbeOrder { stand_ins, ..order.clone() };
                waiting.go(&inner::ProbeOrder(order))
            })
            .and_then(|lines| launch::next(&lines, order.duration + LATE, what));
        if let Err(cause) = process.signal(Signal::SIGKILL) {
            warn!(cause = %Chain(&cause), "probe not ended");
        }
        serde_json::from_str(&answer?).map_err(io::Error::other).or_could_not(|| what.to_owned())
    }
}

/// Addresses at which somebody may stand in: none that is the machine's own or ours.
pub(super) fn stand_ins(wanted: &[SocketAddr], occupied: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let is_free = |address: &&SocketAddr| {
        let ip = address.ip();
        let is_nobodys = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
        !is_nobodys && ip != IpAddr::V4(UPLINK) && !occupied.contains(&ip)
    };
    wanted.iter().filter(is_free).copied().collect()
}

/// The prober's own address, which nobody in the order has, and those of all it stands in for.
pub(super) fn addresses(
    subnet: IpNet,
    occupied: &BTreeSet<IpAddr>,
    order: &ProbeOrder,
    stand_ins: &[SocketAddr],
) -> Result<Vec<IpNet>, NamespaceError> {
    let mut taken = occupied.clone();
    taken.extend(order.targets.iter().map(|target| target.address.ip()));
    let others: BTreeSet<IpAddr> = stand_ins.iter().map(SocketAddr::ip).collect();
    taken.extend(&others);
    // The subnet is as large as it likes, the taken ones are few.
    let own = subnet.hosts().take(taken.len() + 1).find(|address| !taken.contains(address));
    let own = own.or(others.iter().find(|address| subnet.contains(*address)).copied());
    let own = own.ok_or_else(|| {
        NamespaceError::refused(format!("{} has no address left for a prober", subnet.trunc()))
    })?;
    let with_length = |address: IpAddr| {
        let is_inside = subnet.contains(&address);
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = if is_inside { subnet.prefix_len() } else { whole };
        IpNet::new(address, length).map_err(io::Error::other)
    };
    let all = std::iter::once(own).chain(others.into_iter().filter(|other| *other != own));
    let all: io::Result<Vec<IpNet>> = all.map(with_length).collect();
    all.or_could_not(|| "choose the prober's addresses".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{ProbeKind, ProbeTarget};

    #[test]
    fn the_prober_has_an_address_of_its_own_beside_those_it_stands_in_for() {
        let subnet: IpNet = "10.77.0.1/24".parse().unwrap();
        let occupied = BTreeSet::from([subnet.addr()]);
        let target = ProbeTarget {
            address: "10.77.0.1:80".parse().unwrap(),
            kind: ProbeKind::TcpConnect,
            rate_per_second: 1.0,
        };
        let order = ProbeOrder { targets: vec![target], ..ProbeOrder::default() };
        let wanted = ["10.77.0.2:80", "10.77.0.2:81", "192.0.2.1:5", "10.77.0.1:9", "127.0.0.1:1"];
        let wanted: Vec<SocketAddr> = wanted.map(|text| text.parse().unwrap()).into();

        let stand_ins = stand_ins(&wanted, &occupied);
        let addresses = addresses(subnet, &occupied, &order, &stand_ins).unwrap();

        let expected = ["10.77.0.3/24", "10.77.0.2/24", "192.0.2.1/32"];
        assert_eq!(stand_ins, wanted[..3]);
        assert_eq!(addresses, expected.map(|text| text.parse::<IpNet>().unwrap()));
    }
}
