//! Who is wrong where one end tells of an edge and the other denies it.
//!
//! The fewest machines are blamed that explain all such pairs: who contradicts many is blamed before the
//! many who contradict it. Of two who contradict only each other nobody can tell, unless who denies
//! listens nowhere the call could have gone; then neither is blamed, and neither is trusted.

use std::collections::{BTreeMap, BTreeSet};

use common::id::VmId;

use super::{Account, Blame};
use crate::join::{Joined, JoinedMachine};

/// Claimers of the same service from which on it is there though its agent cannot see it, such as that
/// of a container: two may have agreed on a lie.
const WITNESSES: usize = 3;
/// Machines that must contradict another before it is blamed for that alone.
const CONTRADICTED_BY: usize = 2;
/// Bytes per second that any machine's links carry besides what its connections do.
const LINK_NOISE: f64 = 4096.0;
/// By how much what is told of a machine may exceed what its links carried.
const LINK_TOLERANCE: f64 = 1.1;
/// What a connection that opens and closes carries both ways, in headers alone.
const HEADERS: f64 = 160.0;

/// One end tells of an edge, the other denies it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dispute<'a> {
    pub(super) claimer: &'a VmId,
    pub(super) denier: &'a VmId,
    pub(super) port: u16,
    /// Who denies could have the edge: it would call, or listens there.
    pub(super) is_credible: bool,
}

type Blamed<'a> = (BTreeMap<&'a VmId, Blame>, BTreeMap<&'a VmId, &'a VmId>);

/// Who is blamed, and who stands against whom where that cannot be told.
pub(super) fn blame<'a>(
    accounts: &BTreeMap<&'a VmId, Account<'a>>,
    mut open: Vec<Dispute<'a>>,
    recent: &[&'a Joined],
) -> Blamed<'a> {
    let mut blamed = BTreeMap::new();
    drop_the_corroborated(&mut open, accounts);
    let deniers: BTreeSet<&VmId> = open.iter().map(|dispute| dispute.denier).collect();
    let refuted = refuted(&deniers, recent);
    for dispute in &mut open {
        dispute.is_credible &= !refuted.contains(dispute.denier);
    }
    let hides =
        |vm: &&VmId| accounts.get(*vm).is_some_and(Account::hides) && !refuted.contains(*vm);
    for hider in deniers.into_iter().filter(hides) {
        blamed.insert(hider, Blame::Hides);
        open.retain(|dispute| dispute.denier != hider);
    }
    while let Some((vm, why)) = most_contradicted(&open) {
        blamed.insert(vm, why);
        open.retain(|one| one.claimer != vm && (one.denier != vm || !one.is_credible));
    }
    let mut disputed = BTreeMap::new();
    for Dispute { claimer, denier, is_credible, .. } in open {
        if is_credible {
            disputed.insert(claimer, denier);
            disputed.insert(denier, claimer);
        } else {
            blamed.insert(claimer, Blame::Invents);
        }
    }
    (blamed, disputed)
}

/// Whom most machines contradict, and for what it is to blame; of equals rather who denies, for those
/// who tell of its edges do not know of each other.
fn most_contradicted<'a>(open: &[Dispute<'a>]) -> Option<(&'a VmId, Blame)> {
    let mut counts: BTreeMap<&VmId, (usize, usize)> = BTreeMap::new();
    for dispute in open {
        counts.entry(dispute.claimer).or_default().0 += 1;
        if dispute.is_credible {
            counts.entry(dispute.denier).or_default().1 += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, (claims, denials))| (claims + denials, *denials));
    let (vm, (claims, denials)) = most?;
    let why = if denials >= claims { Blame::Hides } else { Blame::Invents };
    (claims + denials >= CONTRADICTED_BY).then_some((vm, why))
}

/// A service that several machines tell of, each believed by its other peers, is there, though the
/// agent of its machine cannot see it: nobody is held to have made it up.
fn drop_the_corroborated(open: &mut Vec<Dispute<'_>>, accounts: &BTreeMap<&VmId, Account<'_>>) {
    let mut claimers: BTreeMap<(&VmId, u16), usize> = BTreeMap::new();
    let is_believed = |vm: &VmId| {
        accounts.get(vm).is_some_and(|known| known.agrees.len() >= 2 * known.unbacked.len())
    };
    let unseen = |dispute: &Dispute<'_>| !dispute.is_credible && is_believed(dispute.claimer);
    for dispute in open.iter().filter(|dispute| unseen(dispute)) {
        *claimers.entry((dispute.denier, dispute.port)).or_default() += 1;
    }
    open.retain(|dispute| {
        let known = claimers.get(&(dispute.denier, dispute.port));
        !(unseen(dispute) && known.is_some_and(|known| *known >= WITNESSES))
    });
}

/// Those whose links did not carry what others say of them.
fn refuted<'a>(of: &BTreeSet<&'a VmId>, recent: &[&Joined]) -> BTreeSet<&'a VmId> {
    let mut told: BTreeMap<&VmId, f64> = BTreeMap::new();
    for window in recent {
        let seconds = window.to.since(window.from).as_secs_f64();
        for (key, traffic) in &window.edges {
            let ends = [key.client.vm(), key.server.vm()].into_iter().flatten();
            let bytes = as_float(traffic.bytes.unwrap_or(0)) + as_float(traffic.opened) * HEADERS;
            for vm in ends.filter(|vm| of.contains(*vm)) {
                *told.entry(vm).or_default() += bytes / seconds;
            }
        }
    }
    let noise = LINK_NOISE * as_float(recent.len() as u64);
    let did_not = |vm: &&&VmId| {
        let machines = recent.iter().filter_map(|window| window.machines.get(**vm));
        let passed: Option<f64> = machines.map(links).sum();
        let told = told.get(**vm).copied().unwrap_or(0.0);
        passed.is_some_and(|passed| told > passed * LINK_TOLERANCE + noise)
    };
    of.iter().filter(did_not).copied().collect()
}

/// Bytes both ways per second on a machine's links, as its hypervisor says.
fn links(machine: &JoinedMachine) -> Option<f64> {
    let (received, sent) =
        machine.outside.received_per_second.zip(machine.outside.sent_per_second)?;
    Some(received + sent)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are compared")]
fn as_float(amount: u64) -> f64 {
    amount as f64
}
