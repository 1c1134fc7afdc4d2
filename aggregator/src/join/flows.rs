//! What both ends counted on each edge, put together: the connections of a pair count once, by the
//! end that saw more of them, and go to the client's applications as the client's own end splits
//! them. A server's end alone never makes a second edge beside the one that the client's end knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use common::{
    id::{AppName, VmId},
    sample::{Direction, Flow, FlowKey, Protocol},
};

use super::{
    EndCount, JoinedMachine, SIGHTINGS_NEEDED,
    addresses::Owners,
    translations::{Leads, Translations},
};
use crate::window::{GuestWindow, SamplingWindow, Starts};

/// From here on up kernels pick the port of a client.
pub(super) const EPHEMERAL_FROM: u16 = 32_768;

/// Whether of so many sightings so many are enough to put the rest down to the same.
pub(super) const fn is_habit(most: u64, all: u64) -> bool {
    all >= SIGHTINGS_NEEDED && most.saturating_mul(20) >= all.saturating_mul(19)
}

/// Who calls, whichever of its applications it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// A machine.
    Machine(VmId),
    /// An address that is nobody's.
    Address(IpAddr),
}

/// Who calls, and where it is answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    /// The machine, if the addresses mean something else on every machine.
    pub(super) within: Option<VmId>,
    pub(super) protocol: Protocol,
    pub(super) client: Caller,
    pub(super) server: SocketAddr,
}

/// What one end counted, by its application.
#[derive(Debug, Clone)]
pub(super) struct End<'a> {
    pub(super) vm: &'a VmId,
    pub(super) guest: &'a GuestWindow,
    pub(super) by_application: BTreeMap<Option<AppName>, Flow>,
    starts: BTreeMap<Option<AppName>, Starts>,
}

impl<'a> End<'a> {
    const fn of(vm: &'a VmId, guest: &'a GuestWindow) -> Self {
        Self { vm, guest, by_application: BTreeMap::new(), starts: BTreeMap::new() }
    }

    fn total(&self) -> Flow {
        let mut sum = Flow::default();
        self.by_application.values().for_each(|flow| sum.add(flow));
        sum
    }

    /// When the connections of all its applications came to be.
    fn all_starts(&self) -> Starts {
        let mut all = Starts::default();
        self.starts.values().for_each(|starts| all.merge(starts));
        all
    }
}

/// What both ends of a pair counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted<'a> {
    pub(super) client: Option<End<'a>>,
    pub(super) server: Option<End<'a>>,
}

/// One edge of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// The client's application.
    pub(super) client: Option<AppName>,
    /// What it carried.
    pub(super) flow: Flow,
    /// When its connections came to be.
    pub(super) starts: Starts,
    /// What the client's end counted of it.
    pub(super) by_client: Option<EndCount>,
    /// What the server's end counted of it.
    pub(super) by_server: Option<EndCount>,
}

impl Share {
    const fn of(client: Option<AppName>, flow: Flow, starts: Starts) -> Self {
        Self { client, flow, starts, by_client: None, by_server: None }
    }
}

/// What one end counted.
fn end_count(flow: &Flow) -> EndCount {
    EndCount { opened: flow.opened, bytes: bytes(flow) }
}

impl Counted<'_> {
    /// The application that answers: the one that counted most.
    pub(super) fn answering(&self) -> Option<&AppName> {
        let told = self.server.iter().flat_map(|end| &end.by_application);
        let named = told.filter_map(|(name, flow)| Some((name.as_ref()?, flow)));
        named.max_by_key(|(_, flow)| (flow.opened, flow.sent)).map(|(name, _)| name)
    }

    /// Whose connections those are that the client's end puts down to nobody, or does not know of:
    /// the one application that makes nearly all the others.
    fn by_habit(&self) -> Option<&AppName> {
        let told = self.client.iter().flat_map(|end| &end.by_application);
        let named = || told.clone().filter_map(|(name, flow)| Some((name.as_ref()?, flow.opened)));
        let all: u64 = named().map(|(_, opened)| opened).sum();
        let (name, most) = named().max_by_key(|(_, opened)| *opened)?;
        is_habit(most, all).then_some(name)
    }

    /// The application that calls: the one that the client's end counted most of.
    pub(super) fn calling(&self) -> Option<&AppName> {
        let told = self.client.iter().flat_map(|end| &end.by_application);
        let named = told.filter_map(|(name, flow)| Some((name.as_ref()?, flow)));
        named.max_by_key(|(_, flow)| (flow.opened, flow.sent)).map(|(name, _)| name)
    }

    /// What the client's applications carried, each its own part.
    pub(super) fn shares(&self) -> Vec<Share> {
        let (client, server) = (self.client.as_ref(), self.server.as_ref());
        let mut own = client.map(|end| self.split(end)).unwrap_or_default();
        for share in &mut own {
            share.by_client = Some(end_count(&share.flow));
        }
        let Some(server) = server else { return own };
        let total = server.total();
        if own.is_empty() {
            let by_server = Some(end_count(&total));
            return vec![Share { by_server, ..Share::of(None, total, server.all_starts()) }];
        }
        let mut shares = spread(&own, &total);
        for (own, share) in own.iter_mut().zip(&mut shares) {
            let by_server = end_count(&share.flow);
            (own.by_server, share.by_server) = (Some(by_server), Some(by_server));
        }
        if client.is_some_and(|client| sees_more(client, server)) {
            return own;
        }
        // Whose they are the client's end alone tells; of one application they are all.
        if let [only] = shares.as_mut_slice() {
            only.starts = server.all_starts();
        }
        shares
    }

    fn split(&self, end: &End<'_>) -> Vec<Share> {
        let mut split: BTreeMap<Option<AppName>, (Flow, Starts)> = BTreeMap::new();
        let habit = self.by_habit();
        for (name, flow) in &end.by_application {
            let (sum, starts) = split.entry(name.as_ref().or(habit).cloned()).or_default();
            sum.add(flow);
            end.starts.get(name).into_iter().for_each(|more| starts.merge(more));
        }
        let shares = split.into_iter();
        shares.map(|(client, (flow, starts))| Share::of(client, flow, starts)).collect()
    }
}

/// Whether the client's end saw at least as much as the server's.
fn sees_more(client: &End<'_>, server: &End<'_>) -> bool {
    let (near, far) = (client.guest.edge_coverage(), server.guest.edge_coverage());
    if (near - far).abs() > 1e-9 {
        return near > far;
    }
    client.total().opened >= server.total().opened
}

/// What the server's end counted, split as the client's end splits it. Attempts that failed never
/// reached the server: they stay as the client's end counted them. What the server's end sends the
/// client's receives.
fn spread(own: &[Share], total: &Flow) -> Vec<Share> {
    let opened: Vec<u64> = own.iter().map(|share| share.flow.opened).collect();
    let by = |part: fn(&Flow) -> Option<u64>, total: Option<u64>| -> Vec<Option<u64>> {
        let weights: Vec<u64> = own.iter().map(|share| part(&share.flow).unwrap_or(0)).collect();
        let weights =
            if weights.iter().any(|weight| *weight > 0) { weights } else { opened.clone() };
        match total {
            Some(total) => split(total, &weights).into_iter().map(Some).collect(),
            None => own.iter().map(|share| part(&share.flow)).collect(),
        }
    };
    let counts = by(|flow| Some(flow.opened), Some(total.opened));
    let closed = by(|flow| Some(flow.closed), Some(total.closed));
    let reset = by(|flow| Some(flow.reset), Some(total.reset));
    let sent = by(|flow| flow.sent.map(|bytes| bytes.0), total.received.map(|bytes| bytes.0));
    let received = by(|flow| flow.received.map(|bytes| bytes.0), total.sent.map(|bytes| bytes.0));
    let out = by(|flow| flow.data_segments_sent, total.data_segments_received);
    let back = by(|flow| flow.data_segments_received, total.data_segments_sent);
    let parts = own.iter().enumerate().map(|(row, share)| Share {
        client: share.client.clone(),
        starts: share.starts.clone(),
        by_client: share.by_client,
        by_server: None,
        flow: Flow {
            opened: counts[row].unwrap_or(0),
            closed: closed[row].unwrap_or(0),
            reset: reset[row].unwrap_or(0),
            failed: share.flow.failed,
            sent: sent[row].map(common::units::Bytes),
            received: received[row].map(common::units::Bytes),
            data_segments_sent: out[row],
            data_segments_received: back[row],
            retransmitted: share.flow.retransmitted,
        },
    });
    parts.collect()
}

/// `total` in whole parts as the weights say; the parts sum up to it. Without weights the first
/// part is all of it.
fn split(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut left, mut weight_left) = (total, sum);
    let parts = weights.iter().enumerate().map(|(row, weight)| {
        let part = match weight_left {
            0 if row == 0 => left,
            0 => 0,
            all => u64::try_from(u128::from(left) * u128::from(*weight) / all).unwrap_or(left),
        };
        // What is left over is spread over what is still to come, so that nothing is lost.
        weight_left -= u128::from(*weight);
        left -= part;
        part
    });
    parts.collect()
}

/// Requests and answers that went to and fro: segments with data, of the direction that had fewer.
pub(super) fn exchanges(flow: &Flow) -> Option<u64> {
    Some(flow.data_segments_sent?.min(flow.data_segments_received?))
}

/// Bytes both ways.
pub(super) fn bytes(flow: &Flow) -> Option<u64> {
    match (flow.sent, flow.received) {
        (None, None) => None,
        (sent, received) => {
            Some(sent.unwrap_or_default().0.saturating_add(received.unwrap_or_default().0))
        }
    }
}

/// What every pair counted in a window, by either end, and the machines whose agents count all.
#[derive(Debug, Default)]
pub(super) struct Flows<'a> {
    pub(super) pairs: BTreeMap<Pair, Counted<'a>>,
    counting: BTreeSet<&'a VmId>,
    /// Connections of which nobody can tell who opened them.
    pub(super) unclear: u64,
}

impl<'a> Flows<'a> {
    pub(super) fn of(
        window: &'a SamplingWindow,
        machines: &BTreeMap<VmId, JoinedMachine>,
        owners: &Owners,
        translations: &Translations<'_>,
    ) -> Self {
        let mut flows = Self::default();
        for (vm, guest) in &window.guests {
            let Some(counted) = guest.counted else { continue };
            if machines.get(vm).is_none_or(|machine| machine.on_trial) {
                continue;
            }
            if counted.merged_edges == 0 && guest.left_out().edges == 0 {
                flows.counting.insert(vm);
            }
            for (key, flow) in &guest.flows {
                let asked = SocketAddr::new(key.remote, key.port);
                let leads = match key.direction {
                    Direction::Inbound => Leads::AsAsked,
                    _ => translations.of_counted(vm, key.protocol, asked),
                };
                flows.take((vm, guest), (key, flow), leads, (machines, owners));
            }
        }
        flows
    }

    /// Whether the connections of a machine are all in its flows, so that its rows add none.
    pub(super) fn counts_all(&self, vm: &VmId) -> bool {
        self.counting.contains(vm)
    }

    fn take(
        &mut self,
        (vm, guest): (&'a VmId, &'a GuestWindow),
        (key, flow): (&FlowKey, &Flow),
        leads: Leads,
        (machines, owners): (&BTreeMap<VmId, JoinedMachine>, &Owners),
    ) {
        // Many edges that were merged into one have no far end.
        if key.remote.is_unspecified() {
            return;
        }
        let reached = match leads {
            Leads::To(reached) => Some(reached),
            Leads::AsAsked | Leads::Nobody => None,
        };
        let is_within =
            owners.is_local(key.local) || reached.is_some_and(|end| end.ip().is_loopback());
        let within = is_within.then(|| vm.clone());
        let peer = owners.owner(vm, key.remote);
        let is_inbound = match key.direction {
            Direction::Inbound => true,
            Direction::Outbound => false,
            Direction::Listener | Direction::Unknown => {
                if !is_service(key, peer.and_then(|peer| machines.get(peer))) {
                    self.unclear += flow.opened;
                    return;
                }
                false
            }
        };
        let (client, server) = if is_inbound {
            let caller = peer.map_or(Caller::Address(key.remote), |vm| Caller::Machine(vm.clone()));
            (caller, key.local)
        } else {
            (Caller::Machine(vm.clone()), key.remote)
        };
        let server = reached.unwrap_or_else(|| SocketAddr::new(server, key.port));
        let told = self.pairs.entry(Pair { within, protocol: key.protocol, client, server });
        let told = told.or_default();
        let end = if is_inbound { &mut told.server } else { &mut told.client };
        let end = end.get_or_insert_with(|| End::of(vm, guest));
        let sum = end.by_application.entry(key.application.clone()).or_default();
        sum.add(flow);
        if let Some(starts) = guest.starts.get(key) {
            end.starts.entry(key.application.clone()).or_default().merge(starts);
        }
    }
}

/// Whether the far end of a flow without direction serves on its port.
fn is_service(key: &FlowKey, peer: Option<&JoinedMachine>) -> bool {
    let listens = peer.is_some_and(|peer| {
        peer.applications.values().any(|used| used.listens.contains(&key.port))
    });
    listens || (key.port > 0 && key.port < EPHEMERAL_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(opened: u64) -> Flow {
        Flow { opened, ..Flow::default() }
    }

    #[test]
    fn parts_sum_up_to_the_whole() {
        for (total, weights) in
            [(10, vec![1, 1, 1]), (1, vec![3, 5]), (7, vec![0, 0]), (0, vec![2])]
        {
            let parts = split(total, &weights);
            assert_eq!(parts.iter().sum::<u64>(), total, "{weights:?}");
        }
        assert_eq!(split(100, &[1, 3]), [25, 75]);
        assert_eq!(split(u64::MAX, &[u64::MAX, u64::MAX]).iter().sum::<u64>(), u64::MAX);
    }

    #[test]
    fn what_the_server_counted_goes_where_the_client_says_and_failures_stay() {
        let own = |name: &str, opened, failed| {
            let name = Some(name.parse().unwrap());
            Share::of(name, Flow { failed, ..flow(opened) }, Starts::default())
        };
        let total = Flow { sent: Some(common::units::Bytes(40)), ..flow(8) };
        let spread = spread(&[own("shop", 3, 2), own("web", 1, 0)], &total);
        let told: Vec<_> =
            spread.iter().map(|share| (share.flow.opened, share.flow.failed)).collect();
        assert_eq!(told, [(6, 2), (2, 0)]);
        assert_eq!(spread[0].flow.received, Some(common::units::Bytes(30)));
        assert_eq!(spread[0].flow.sent, None);
    }
}
