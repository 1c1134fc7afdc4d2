//! What both ends say of the same edge, held against each other.
//!
//! ```text
//!  edges of the recent windows ─> both tell │ their figures are apart │ one tells, the other denies
//!                                                                        └─> who is not believed
//! ```
//!
//! A pair of machines counts once, however many edges it has: nobody gains weight by telling more. An
//! end denies an edge if its agent counts every connection it has and tells nothing of that one in any
//! of the windows; one that only samples its tables denies nothing.

mod blame;

use std::collections::{BTreeMap, BTreeSet};

use common::id::VmId;
use serde::{Deserialize, Serialize};

use self::blame::Dispute;
use super::{Context, edges::Held};
use crate::join::{EdgeKey, EndCount, Joined, JoinedMachine};

/// What an edge counts by that one end tells of and the other denies.
pub(super) const CLAIMED: f64 = 0.2;
/// Windows in which something must be told before the other end's silence is a denial: what falls on the
/// border of a window may be told by one end in it and by the other in the next.
pub(super) const PERSISTENT: usize = 2;
/// Both ends' figures are apart from this factor on: their samples are not taken at the same moments.
const APART: u64 = 2;
/// Figures below these are apart by chance, over all windows looked at.
const BYTES_NOISE: u64 = 1 << 20;
const OPENED_NOISE: u64 = 100;

/// How an edge is backed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// Only one end could tell of it.
    #[default]
    Unchecked,
    /// Both ends tell of it.
    Both,
    /// Both tell of it, and their figures are far apart.
    Apart,
    /// One end tells of it, the other denies it.
    Claimed,
}

/// The ends of an edge, whichever applications they are.
type Link<'a> = (&'a VmId, &'a VmId, u16);

/// What one end told over the recent windows.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    windows: usize,
    opened: u64,
    bytes: u64,
}

impl End {
    fn take(&mut self, told: EndCount) {
        self.windows += 1;
        self.opened = self.opened.saturating_add(told.opened);
        self.bytes = self.bytes.saturating_add(told.bytes.unwrap_or(0));
    }
}

/// Both ends of a link.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    client: End,
    server: End,
}

/// Where a machine stands among its peers.
#[derive(Debug, Clone, Default)]
pub(super) struct Account<'a> {
    /// Those with whom it agrees about an edge.
    pub(super) agrees: BTreeSet<&'a VmId>,
    /// Those who tell of an edge with it that it denies.
    pub(super) denies: BTreeSet<&'a VmId>,
    /// Those who deny an edge with them that it tells of.
    pub(super) unbacked: BTreeSet<&'a VmId>,
    /// Those whose figures of an edge are far apart from its own.
    pub(super) apart: BTreeSet<&'a VmId>,
}

impl Account<'_> {
    /// Those who have to do with it, by either end.
    pub(super) fn peers(&self) -> usize {
        self.denies.union(&self.agrees).count()
    }

    /// Whether it tells nothing of most of those who say that they work with it.
    fn hides(&self) -> bool {
        self.denies.len() >= 2 && self.denies.len() * 2 > self.peers()
    }

    /// Whether its figures are apart from those of most of its peers.
    pub(super) fn is_apart(&self) -> bool {
        self.apart.len() >= 2 && self.apart.len() * 2 > self.agrees.len()
    }
}

/// What a machine is blamed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It does not tell of edges that it has.
    Hides,
    /// It tells of edges that it does not have.
    Invents,
}

/// What all ends say of each other.
#[derive(Debug, Default)]
pub(super) struct Witnesses<'a> {
    accounts: BTreeMap<&'a VmId, Account<'a>>,
    backing: BTreeMap<Link<'a>, (Backing, Option<&'a VmId>)>,
    blamed: BTreeMap<&'a VmId, Blame>,
    /// Of those who contradict each other, and nobody can tell who is wrong: with whom.
    disputed: BTreeMap<&'a VmId, &'a VmId>,
}

impl<'a> Witnesses<'a> {
    /// What the ends said of each other in the last windows that are needed to act.
    pub(super) fn of(windows: &[&'a Joined], context: &Context<'_>) -> Self {
        let needed = context.policy.windows_needed;
        let Some(recent) = windows.len().checked_sub(needed).map(|from| &windows[from..]) else {
            return Self::default();
        };
        let telling = telling(recent);
        let mut witnesses = Self::default();
        for (link, ends) in links(recent) {
            witnesses.judge(link, &ends, (&telling, PERSISTENT.min(needed)));
        }
        let (blamed, disputed) =
            blame::blame(&witnesses.accounts, witnesses.disputes(recent), recent);
        (witnesses.blamed, witnesses.disputed) = (blamed, disputed);
        witnesses
    }

    /// Where a machine stands among its peers.
    pub(super) fn account(&self, vm: &VmId) -> Account<'a> {
        self.accounts.get(vm).cloned().unwrap_or_default()
    }

    /// What a machine is blamed for; `None` for nothing.
    pub(super) fn blamed(&self, vm: &VmId) -> Option<Blame> {
        self.blamed.get(vm).copied()
    }

    /// With whom a machine does not agree, and nobody can tell which of the two is wrong.
    pub(super) fn disputed(&self, vm: &VmId) -> Option<&'a VmId> {
        self.disputed.get(vm).copied()
    }

    /// Writes down how each edge is backed, and what it counts by: what a machine that is not trusted
    /// says alone proves nothing.
    pub(super) fn mark(&self, held: &mut [Held<'_>], distrusted: &BTreeSet<&VmId>) {
        for edge in held {
            let Some(link) = link(edge.key) else { continue };
            let (backing, claimer) = self.backing.get(&link).copied().unwrap_or_default();
            let denier = claimer.map(|claimer| if claimer == link.0 { link.1 } else { link.0 });
            let is_void = denier.is_some_and(|denier| self.blamed(denier) == Some(Blame::Hides));
            let has_liar = [link.0, link.1].iter().any(|vm| distrusted.contains(vm));
            edge.backing = backing;
            edge.weight = match (backing, claimer) {
                (Backing::Claimed, _) if is_void => 1.0,
                (Backing::Claimed, Some(claimer)) if distrusted.contains(claimer) => 0.0,
                (Backing::Claimed, _) => CLAIMED,
                (Backing::Unchecked, _) if has_liar && !edge.is_told_by_both() => CLAIMED,
                _ => 1.0,
            };
        }
    }

    fn judge(
        &mut self,
        link: Link<'a>,
        ends: &Ends,
        (telling, persistent): (&BTreeSet<&VmId>, usize),
    ) {
        let (client, server, _) = link;
        let mut claims = |claimer: &'a VmId, denier: &'a VmId| {
            self.accounts.entry(claimer).or_default().unbacked.insert(denier);
            self.accounts.entry(denier).or_default().denies.insert(claimer);
            self.backing.insert(link, (Backing::Claimed, Some(claimer)));
        };
        match (ends.client.windows, ends.server.windows) {
            (0, by_server) if by_server >= persistent && telling.contains(client) => {
                claims(server, client);
            }
            (by_client, 0) if by_client >= persistent && telling.contains(server) => {
                claims(client, server);
            }
            (0, _) | (_, 0) => {}
            _ => {
                let is_apart = telling.contains(client) && telling.contains(server) && apart(ends);
                for (one, other) in [(client, server), (server, client)] {
                    let account = self.accounts.entry(one).or_default();
                    account.agrees.insert(other);
                    if is_apart {
                        account.apart.insert(other);
                    }
                }
                let backing = if is_apart { Backing::Apart } else { Backing::Both };
                self.backing.insert(link, (backing, None));
            }
        }
    }

    /// Each pair of which one end denies what the other tells of, once.
    fn disputes(&self, recent: &[&'a Joined]) -> Vec<Dispute<'a>> {
        let mut disputes: BTreeMap<(&VmId, &VmId), Dispute<'_>> = BTreeMap::new();
        for ((client, server, port), (_, claimer)) in &self.backing {
            let Some(claimer) = *claimer else { continue };
            let denier = if claimer == *client { *server } else { *client };
            let is_credible = denier == *client || listens(recent, denier, *port);
            let dispute = disputes.entry((claimer, denier)).or_insert_with(|| Dispute {
                claimer,
                denier,
                port: *port,
                is_credible: false,
            });
            dispute.is_credible |= is_credible;
        }
        disputes.into_values().collect()
    }
}

/// Whether a machine's own agent says that something listens there.
fn listens(recent: &[&Joined], vm: &VmId, port: u16) -> bool {
    let machines = recent.iter().filter_map(|window| window.machines.get(vm));
    machines
        .flat_map(|machine| machine.applications.values())
        .any(|used| used.listens.contains(&port))
}

/// Machines whose agents told of every connection in all of the windows.
fn telling<'a>(recent: &[&'a Joined]) -> BTreeSet<&'a VmId> {
    let Some(present) = recent.last() else { return BTreeSet::new() };
    let tells = |machine: &JoinedMachine| machine.counted.is_some_and(|counted| counted.complete);
    let always =
        |vm: &&VmId| recent.iter().all(|window| window.machines.get(*vm).is_some_and(tells));
    present.machines.keys().filter(always).collect()
}

fn links<'a>(recent: &[&'a Joined]) -> BTreeMap<Link<'a>, Ends> {
    let mut links: BTreeMap<Link<'_>, Ends> = BTreeMap::new();
    for window in recent {
        let mut here: BTreeMap<Link<'_>, [Option<EndCount>; 2]> = BTreeMap::new();
        for (key, traffic) in &window.edges {
            let Some(link) = link(key) else { continue };
            let sums = here.entry(link).or_default();
            for (sum, told) in sums.iter_mut().zip([traffic.told.by_client, traffic.told.by_server])
            {
                let Some(told) = told.filter(|told| is_any(*told)) else { continue };
                let sum = sum.get_or_insert_default();
                sum.opened = sum.opened.saturating_add(told.opened);
                let bytes = sum.bytes.unwrap_or(0).saturating_add(told.bytes.unwrap_or(0));
                sum.bytes = Some(bytes);
            }
        }
        for (link, [client, server]) in here {
            let ends = links.entry(link).or_default();
            client.into_iter().for_each(|told| ends.client.take(told));
            server.into_iter().for_each(|told| ends.server.take(told));
        }
    }
    links
}

/// Attempts in vain, and what only stays open, are no claim: the other end may know nothing of them.
fn is_any(told: EndCount) -> bool {
    told.opened > 0 || told.bytes.is_some_and(|bytes| bytes > 0)
}

fn link(key: &EdgeKey) -> Option<Link<'_>> {
    let (client, server) = key.client.vm().zip(key.server.vm())?;
    (client != server).then_some((client, server, key.port))
}

fn apart(ends: &Ends) -> bool {
    let far = |one: u64, other: u64, noise: u64| {
        one.abs_diff(other) > noise && one.max(other) > one.min(other).saturating_mul(APART)
    };
    far(ends.client.bytes, ends.server.bytes, BYTES_NOISE)
        || far(ends.client.opened, ends.server.opened, OPENED_NOISE)
}
