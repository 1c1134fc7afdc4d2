//! Which application opened a connection that was too short to be seen in anybody's hands.
//!
//! What the kernel told of attempts decides, one to one with the connections that have nobody; then what was
//! seen of connections to the same far end before, if it leaves little doubt. Otherwise nobody is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ahash::HashMap;
use common::{
    id::AppName,
    sample::{ProcessKey, Protocol},
};

use super::super::{naming, seen::Opening};

/// Most different pairs of process and far end remembered between two looks.
const MAX_OPENINGS: usize = 65_536;

/// Most far ends whose applications are remembered.
const MAX_FAR_ENDS: usize = 8_192;

/// Sightings before a far end's application is taken for that of others to it (inference.md, 2).
const ENOUGH: u32 = 5;

/// And the share of them, in hundredths, that it must have.
const SURE_PERCENT: u32 = 95;

/// Sightings after which all of a far end count half, so that a change of hands is noticed.
const FADE: u32 = 1_000;

/// Names a process by its number; `None` if it does not live.
pub(in crate::observe) type NameOf<'a> = &'a dyn Fn(u32) -> Option<AppName>;

/// Attempts told and not yet matched with a connection.
#[derive(Debug, Default)]
pub(super) struct Openings {
    by_far_end: HashMap<SocketAddr, BTreeMap<u32, Heard>>,
    pairs: usize,
    /// Attempts beyond the bound.
    pub(super) lost: u64,
}

#[derive(Debug)]
struct Heard {
    name: String,
    application: Option<AppName>,
    local: Option<IpAddr>,
    /// Told before the last look, and at or after it.
    old: u32,
    fresh: u32,
}

impl Heard {
    const fn count(&self) -> u32 {
        self.old + self.fresh
    }

    fn take(&mut self, count: u32) {
        let of_old = count.min(self.old);
        self.old -= of_old;
        self.fresh = self.fresh.saturating_sub(count - of_old);
    }
}

impl Openings {
    /// Takes in what was told. A process that lives is named at once, since it may be gone at the look.
    pub(super) fn hear(&mut self, openings: Vec<Opening>, name_of: NameOf<'_>) {
        for opening in openings {
            let heard = self.by_far_end.entry(opening.remote).or_default();
            if let Some(known) = heard.get_mut(&opening.pid) {
                known.fresh += 1;
                known.local = opening.local.or(known.local);
                known.application = known.application.take().or_else(|| name_of(opening.pid));
            } else if self.pairs < MAX_OPENINGS {
                let Opening { pid, name, local, .. } = opening;
                let application = name_of(pid);
                heard.insert(pid, Heard { name, application, local, old: 0, fresh: 1 });
                self.pairs += 1;
            } else {
                self.lost += 1;
            }
        }
    }

    /// Names those that could not be named when they were told by what is known now, and those that are
    /// still not known by their own name.
    pub(super) fn name_all(&mut self, name_of: NameOf<'_>) {
        for (pid, heard) in self.by_far_end.values_mut().flatten() {
            let Heard { name, application, .. } = heard;
            application
                .get_or_insert_with(|| name_of(*pid).unwrap_or_else(|| naming::by_name(name)));
        }
    }

    /// One attempt became a connection that is seen in the hands of `process`, or of `application`.
    pub(super) fn match_one(
        &mut self,
        far_end: SocketAddr,
        process: Option<ProcessKey>,
        application: &AppName,
    ) {
        let Some(heard) = self.by_far_end.get_mut(&far_end) else { return };
        let own = process.and_then(|process| heard.get_mut(&process.pid));
        if let Some(one) = own.filter(|one| one.count() > 0) {
            return one.take(1);
        }
        let mut left = heard.values_mut().filter(|one| one.count() > 0);
        if let Some(one) = left.find(|one| one.application.as_ref() == Some(application)) {
            one.take(1);
        }
    }

    /// How many attempts each application made to `far_end` that are not matched.
    pub(super) fn at(&self, far_end: SocketAddr) -> BTreeMap<AppName, u64> {
        let heard = self.by_far_end.get(&far_end).into_iter().flat_map(BTreeMap::values);
        let mut counts = BTreeMap::new();
        for one in heard.filter(|one| one.count() > 0) {
            if let Some(application) = &one.application {
                *counts.entry(application.clone()).or_default() += u64::from(one.count());
            }
        }
        counts
    }

    /// The own address that attempts of `application` to `far_end` went out from.
    pub(super) fn local(&self, far_end: SocketAddr, application: &AppName) -> Option<IpAddr> {
        let mut heard = self.by_far_end.get(&far_end)?.values();
        heard.find(|one| one.application.as_ref() == Some(application))?.local
    }

    /// The own addresses that attempts to `address` went out from which are not matched.
    pub(super) fn locals(&self, address: IpAddr) -> BTreeSet<IpAddr> {
        let of_address = self.by_far_end.iter().filter(|(end, _)| end.ip() == address);
        let left = of_address.flat_map(|(_, heard)| heard.values()).filter(|one| one.count() > 0);
        left.filter_map(|one| one.local).collect()
    }

    /// Far ends at `address` that attempts went to which are not matched.
    pub(super) fn far_ends(&self, address: IpAddr) -> Vec<SocketAddr> {
        let left =
            self.by_far_end.iter().filter(|(_, heard)| heard.values().any(|h| h.count() > 0));
        let mut ends: Vec<SocketAddr> =
            left.map(|(end, _)| *end).filter(|end| end.ip() == address).collect();
        ends.sort_unstable();
        ends
    }

    /// So many attempts of `application` to `far_end` are matched.
    pub(super) fn take(&mut self, far_end: SocketAddr, application: &AppName, count: u64) {
        let mut count = u32::try_from(count).unwrap_or(u32::MAX);
        for one in self.by_far_end.get_mut(&far_end).into_iter().flat_map(BTreeMap::values_mut) {
            if one.application.as_ref() == Some(application) {
                let taken = count.min(one.count());
                one.take(taken);
                count -= taken;
            }
        }
    }

    /// A look is over: what was told before the last one and is not matched yet never will be.
    pub(super) fn age(&mut self) {
        self.by_far_end.retain(|_, heard| {
            heard.retain(|_, one| {
                one.old = std::mem::take(&mut one.fresh);
                one.old > 0
            });
            !heard.is_empty()
        });
        self.pairs = self.by_far_end.values().map(BTreeMap::len).sum();
    }
}

/// Which applications were seen in connection with which far ends.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    by_far_end: HashMap<(Protocol, SocketAddr), Vec<(AppName, u32)>>,
}

/// What earlier sightings say of a far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Posterior {
    /// Nearly all were this application's.
    Sure(AppName),
    /// They were of several.
    Ambiguous,
    /// Too few.
    Nothing,
}

impl Sightings {
    /// A connection of `application` to `far_end` was seen for certain.
    pub(super) fn note(&mut self, protocol: Protocol, far_end: SocketAddr, application: &AppName) {
        let is_full = self.by_far_end.len() >= MAX_FAR_ENDS;
        if is_full && !self.by_far_end.contains_key(&(protocol, far_end)) {
            // Who is seen often comes back soon; the others cost others their place.
            self.by_far_end.retain(|_, seen| total(seen) >= ENOUGH);
            if self.by_far_end.len() >= MAX_FAR_ENDS {
                self.by_far_end.clear();
            }
        }
        let seen = self.by_far_end.entry((protocol, far_end)).or_default();
        match seen.iter_mut().find(|(known, _)| known == application) {
            Some((_, count)) => *count += 1,
            None => seen.push((application.clone(), 1)),
        }
        if total(seen) >= FADE {
            seen.iter_mut().for_each(|(_, count)| *count /= 2);
            seen.retain(|(_, count)| *count > 0);
        }
    }

    /// Whose a connection to `far_end` is that was seen in nobody's hands.
    pub(super) fn of(&self, protocol: Protocol, far_end: SocketAddr) -> Posterior {
        let Some(seen) = self.by_far_end.get(&(protocol, far_end)) else {
            return Posterior::Nothing;
        };
        let total = total(seen);
        let Some((application, most)) = seen.iter().max_by_key(|(_, count)| *count) else {
            return Posterior::Nothing;
        };
        match (total >= ENOUGH, most * 100 >= total * SURE_PERCENT) {
            (true, true) => Posterior::Sure(application.clone()),
            (_, false) => Posterior::Ambiguous,
            (false, true) => Posterior::Nothing,
        }
    }
}

fn total(seen: &[(AppName, u32)]) -> u32 {
    seen.iter().map(|(_, count)| count).sum()
}
