//! What every application used: CPU and storage so far, memory now, peaks and sketches since the sample before.
//!
//! ```text
//!  processes ─> lines ──┐
//!                       ├─> account ─> use      one account for each application
//!  groups ─> kernel ────┘
//! ```
//!
//! Where the kernel itself keeps an account of groups of processes and an application fills such groups, that
//! account counts: nothing is too short for it. Elsewhere the processes' own figures are summed up. Totals
//! never go down, whichever of the two it is and when one follows the other.
//!
//! Pure: what was seen and when go in, figures come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::{
    id::AppName,
    sample::{ApplicationUse, ProcessKey},
    units::{Bytes, Millicores},
};

use super::seen::Storage;

mod waited;
mod lines;
pub(super) mod groups;
mod kernel;
mod span;
mod account;

pub(super) use kernel::{Depth, Reading};
pub(super) use lines::Charge;

use account::{Account, Moment};
use lines::Lines;

/// Most applications remembered. Unlisted names come from whatever ran once; the longest gone goes first.
const MAX_APPLICATIONS: usize = 1024;

/// What one look found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    /// The processes that were looked at.
    pub(super) living: &'a [Charge<'a>],
    /// What the kernel counts for applications that fill groups of their own.
    pub(super) groups: &'a BTreeMap<AppName, Vec<Reading>>,
    /// Time since the observer began.
    pub(super) at: Duration,
    /// All the CPU there is: counters come in steps of a tick, which over a short time look like more.
    pub(super) most: Millicores,
}

/// Every application's account.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    lines: Lines,
    accounts: BTreeMap<AppName, Account>,
    looks: u64,
    /// When the last look at everything was, and the one before it.
    looked_at: Option<Duration>,
    looked_at_before: Option<Duration>,
}

impl Accounts {
    /// Takes in a look at everything. What the first one finds is history and makes no peak.
    pub(super) fn look(&mut self, look: &Look<'_>) {
        self.looks += 1;
        self.count_living(look.living);
        let mut spent = self.lines.look(look.living);
        let moment = self.moment(look);
        for (name, account) in &mut self.accounts {
            let readings = look.groups.get(name).map_or(&[][..], Vec::as_slice);
            let told = account.kernel.look(readings, Depth::Whole);
            account.look(spent.remove(name).unwrap_or_default(), told, moment);
        }
        self.looked_at_before = self.looked_at.replace(look.at);
        self.forget_the_longest_gone();
    }

    /// Takes in a look at some applications only: at all groups of each, or all processes of each that were
    /// there at the last look.
    pub(super) fn glance(&mut self, look: &Look<'_>) {
        let spent = self.lines.glance(look.living);
        for name in spent.keys() {
            let resident = look.living.iter().filter(|charge| charge.application == name);
            let resident = Bytes(resident.map(|charge| charge.resident.0).sum());
            if let Some(account) = self.accounts.get_mut(name) {
                account.resident = resident;
            }
        }
        let moment = self.moment(look);
        let names: BTreeSet<&AppName> = spent.keys().chain(look.groups.keys()).collect();
        for name in names {
            let Some(account) = self.accounts.get_mut(name) else { continue };
            let readings = look.groups.get(name).map_or(&[][..], Vec::as_slice);
            let told = account.kernel.look(readings, Depth::Brief);
            account.glance(spent.get(name).copied().unwrap_or_default(), told, moment);
        }
    }

    /// The kernel told of a process killed for want of memory in one of an application's groups. To be said
    /// before the look that reads the groups again.
    pub(super) fn note_kill(&mut self, application: &AppName) {
        self.accounts.entry(application.clone()).or_default().kernel.note_kills(1);
    }

    /// Takes in what the living processes read and wrote; a process that may not be asked is left out.
    pub(super) fn look_at_storage(&mut self, living: &[(ProcessKey, Option<Storage>)]) {
        let mut stored = self.lines.look_at_storage(living);
        for (name, account) in &mut self.accounts {
            account.look_at_storage(stored.remove(name).unwrap_or_default());
        }
    }

    /// Processes that must be asked what they read and wrote at this look.
    pub(super) fn heirs(&self) -> BTreeSet<u32> {
        self.lines.heirs()
    }

    /// Every application's use; peaks and sketches start again from here.
    pub(super) fn take_uses(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        let accounts = self.accounts.iter_mut();
        accounts.map(|(name, account)| (name.clone(), account.hand_out())).collect()
    }

    /// What was taken last got lost: its peaks and sketches are in what is taken next.
    pub(super) fn take_back(&mut self) {
        self.accounts.values_mut().for_each(Account::take_back);
    }

    /// Listed applications that run.
    pub(super) fn listed(&self) -> impl Iterator<Item = &AppName> {
        let listed = self.accounts.iter().filter(|(_, it)| it.listed && it.processes > 0);
        listed.map(|(name, _)| name)
    }

    /// Those of them whose CPU is not counted by groups, each with how many processes it has.
    pub(super) fn listed_by_processes(&self) -> impl Iterator<Item = (&AppName, u32)> {
        let accounts = self.accounts.iter().filter(|(_, it)| it.listed && !it.goes_by_groups());
        accounts.map(|(name, account)| (name, account.processes))
    }

    /// Whether the bytes an application reads and writes are counted by its groups.
    pub(super) fn stores_by_groups(&self, application: &AppName) -> bool {
        self.accounts.get(application).is_some_and(Account::stores_by_groups)
    }

    /// CPU of all processes so far, living and ended.
    pub(super) const fn busy_ms(&self) -> u64 {
        self.lines.busy_ms()
    }

    /// Bytes all processes moved so far, living and ended.
    pub(super) const fn storage(&self) -> Storage {
        self.lines.storage()
    }

    /// Resident memory of all processes now. Pages that two share count twice.
    pub(super) fn resident(&self) -> Bytes {
        Bytes(self.accounts.values().map(|account| account.resident.0).sum())
    }

    fn count_living(&mut self, living: &[Charge<'_>]) {
        for account in self.accounts.values_mut() {
            account.processes = 0;
            account.resident = Bytes(0);
        }
        for charge in living {
            if !self.accounts.contains_key(charge.application) {
                self.accounts.insert(charge.application.clone(), Account::default());
            }
            let Some(account) = self.accounts.get_mut(charge.application) else { continue };
            account.last_seen = self.looks;
            account.listed = charge.listed;
            account.processes = account.processes.saturating_add(1);
            account.resident.0 = account.resident.0.saturating_add(charge.resident.0);
        }
    }

    fn moment(&self, look: &Look<'_>) -> Moment {
        let before = self.looked_at;
        let now = before.map_or(Duration::ZERO, |before| look.at.saturating_sub(before));
        let earlier = before.zip(self.looked_at_before).map(|(at, from)| at.saturating_sub(from));
        let lump = now.max(earlier.unwrap_or_default());
        Moment { at: look.at, before, lump, most: look.most }
    }

    fn forget_the_longest_gone(&mut self) {
        while self.accounts.len() > MAX_APPLICATIONS {
            let gone = self.accounts.iter().filter(|(_, account)| account.may_be_forgotten());
            let Some(name) = gone.min_by_key(|(_, account)| account.last_seen) else { return };
            let name = name.0.clone();
            self.accounts.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
