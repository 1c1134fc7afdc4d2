//! What agents count, as edges; and the names that rows of the same pair get from it.

use std::{collections::BTreeMap, net::SocketAddr};

use common::sample::{Coverage, Protocol};

use super::{Carried, Ends, Merger, View, sum};
use crate::join::{
    EdgeKey, EndCount, Outcome, Party,
    flows::{self, Caller, Counted, End, Pair, Share},
};

impl Carried {
    /// Takes in what one end, or both, counted, and how much of what was due they saw.
    fn count(&mut self, share: &Share, counted: Option<Coverage>) {
        let flow = &share.flow;
        self.starts.merge(&share.starts);
        self.detected.count(flow.opened, counted);
        let well = self.by_outcome.entry(Outcome::Ok).or_default();
        well.opened = well.opened.saturating_add(flow.opened);
        well.seen = well.seen.saturating_add(flow.opened);
        well.bytes = sum(well.bytes, flows::bytes(flow));
        if flow.failed > 0 {
            let failed = self.by_outcome.entry(Outcome::Failed).or_default();
            failed.opened = failed.opened.saturating_add(flow.failed);
            failed.seen = failed.seen.saturating_add(flow.failed);
        }
        self.reset = self.reset.saturating_add(flow.reset);
        self.exchanges = sum(self.exchanges, flows::exchanges(flow));
        let both = [
            (&mut self.told.by_client, share.by_client),
            (&mut self.told.by_server, share.by_server),
        ];
        for (so_far, more) in both {
            let Some(more) = more else { continue };
            let so_far = so_far.get_or_insert_with(|| EndCount { opened: 0, bytes: None });
            so_far.opened = so_far.opened.saturating_add(more.opened);
            so_far.bytes = sum(so_far.bytes, more.bytes);
        }
    }
}

impl<'a> Merger<'a> {
    /// Adds what both ends of a pair counted.
    pub(super) fn add_counted(
        &self,
        edges: &mut BTreeMap<EdgeKey, Carried>,
        pair: &Pair,
        told: &Counted<'a>,
    ) {
        let server = self.answering(pair, told);
        let ends = [&told.client, &told.server].into_iter().flatten();
        let watched = ends.clone().map(|end| end.guest.counted_over).max().unwrap_or_default();
        let by_share = |end: &&End<'_>| end.guest.counted.and_then(|counted| counted.share());
        let counted = ends.clone().max_by_key(by_share).and_then(|end| end.guest.counted);
        let coverage = ends.map(|end| end.guest.edge_coverage()).fold(0.0, f64::max);
        for mut share in told.shares() {
            if pair.protocol != Protocol::Tcp {
                (share.by_client, share.by_server) = (None, None);
            }
            let client = match &pair.client {
                Caller::Address(address) => Party::External { address: *address },
                Caller::Machine(vm) => {
                    let application =
                        share.client.clone().or_else(|| self.by_habit(vm, pair.server).cloned());
                    Party::Machine { vm: vm.clone(), application }
                }
            };
            let key = EdgeKey { client, server: server.clone(), port: pair.server.port() };
            if self.is_the_agents(&key, pair.server) {
                continue;
            }
            let carried = edges.entry(key).or_default();
            carried.answered_at.insert(pair.server);
            carried.both_ends |= told.client.is_some() && told.server.is_some();
            carried.coverage = carried.coverage.max(coverage);
            carried.watched = carried.watched.max(watched);
            carried.count(&share, counted);
        }
    }

    fn answering(&self, pair: &Pair, told: &Counted<'a>) -> Party {
        let address = pair.server.ip();
        let viewer = match &pair.client {
            Caller::Machine(vm) => self.owners.owner(vm, address),
            Caller::Address(_) => None,
        };
        let Some(vm) = told.server.as_ref().map(|end| end.vm).or(viewer) else {
            return Party::External { address };
        };
        let seen = told.answering().or_else(|| self.by_port(vm, pair.server.port()));
        Party::Machine { vm: vm.clone(), application: seen.cloned() }
    }

    /// Names a connection as what was counted on its pair names it, and says whether it is among
    /// what was counted.
    pub(super) fn name_by_count(
        &self,
        key: &mut EdgeKey,
        both: &[(Ends<'a>, View<'a>)],
        (client, server): (SocketAddr, SocketAddr),
    ) -> bool {
        let Some((ends, _)) = both.first() else { return false };
        let caller = match &key.client {
            Party::Machine { vm, .. } => Caller::Machine(vm.clone()),
            Party::External { .. } => Caller::Address(client.ip()),
        };
        let within = ends.within.cloned();
        let pair = Pair { within, protocol: ends.protocol, client: caller, server };
        let Some(told) = self.flows.pairs.get(&pair) else {
            let parties = [&key.client, &key.server];
            return parties
                .into_iter()
                .filter_map(|party| party.vm())
                .any(|vm| self.flows.counts_all(vm));
        };
        if let (Party::Machine { application, .. }, Some(name)) = (&mut key.client, told.calling())
        {
            application.get_or_insert_with(|| name.clone());
        }
        if let (Party::Machine { application, .. }, Some(name)) =
            (&mut key.server, told.answering())
        {
            *application = Some(name.clone());
        }
        true
    }
}
