//! What every application used: CPU and storage so far, memory now, peaks since the sample before.
//!
//! Totals never go down. A process that ended stays counted, and so does a child that lived and died
//! between two looks: its parent waited for it, and the kernel adds what it used to the parent. What
//! of that was already counted while the child was seen is taken off again ([`waited`]).
//!
//! Pure: what was seen and how long the look before is ago go in, figures come out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use common::{
    id::AppName,
    sample::{ApplicationUse, ProcessKey},
    units::{Bytes, Millicores},
};

use super::processes::Storage;

mod waited;

use waited::Waited;

/// Most applications remembered. Unlisted names come from whatever ran once; the longest gone goes first.
const MAX_APPLICATIONS: usize = 1024;

/// One living process with the application it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Charge<'a> {
    pub(super) key: ProcessKey,
    pub(super) parent: u32,
    pub(super) application: &'a AppName,
    pub(super) listed: bool,
    pub(super) cpu_ms: u64,
    pub(super) waited_ms: u64,
    pub(super) resident: Bytes,
}

/// The process as the look before saw it.
#[derive(Debug)]
struct Line {
    parent: u32,
    application: AppName,
    cpu_ms: u64,
    waited_ms: u64,
    storage: Option<Storage>,
}

/// One application.
#[derive(Debug, Default)]
struct Account {
    usage: ApplicationUse,
    /// CPU charged by the present look.
    just_used_ms: u64,
    /// The look that last saw one of its processes.
    last_seen: u64,
    storage: Storage,
    /// Some living process of it may not be asked what it reads and writes.
    storage_hidden: bool,
}

/// Every application's account.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    lines: HashMap<ProcessKey, Line>,
    accounts: BTreeMap<AppName, Account>,
    waited: Waited,
    /// Storage of ended children that their parents' own figures are about to repeat.
    repeated: HashMap<u32, Storage>,
    looks: u64,
    busy_ms: u64,
    storage: Storage,
}

impl Accounts {
    /// Takes one look in. `elapsed` is the time since the look before, `None` at the first one, whose
    /// figures are history and make no peak. `most` is all the CPU there is: counters come in steps
    /// of a tick, which over a short time look like more.
    pub(super) fn look(
        &mut self,
        living: &[Charge<'_>],
        elapsed: Option<Duration>,
        most: Millicores,
    ) {
        self.looks += 1;
        for account in self.accounts.values_mut() {
            account.usage.processes = 0;
            account.usage.resident = Bytes(0);
            account.just_used_ms = 0;
        }
        self.close_ended(living);
        for charge in living {
            self.charge(charge);
        }
        for (application, ms) in self.waited.settle() {
            self.add_cpu(&application, ms);
        }
        for account in self.accounts.values_mut() {
            account.note_peaks(elapsed, most);
        }
        self.forget_the_longest_gone();
    }

    /// Takes in what the living processes read and wrote; a process that may not be asked is left out.
    pub(super) fn look_at_storage(&mut self, living: &[(ProcessKey, Option<Storage>)]) {
        for account in self.accounts.values_mut() {
            account.storage_hidden = false;
        }
        for (key, now) in living {
            let Some(line) = self.lines.get_mut(key) else { continue };
            let Some(account) = self.accounts.get_mut(&line.application) else { continue };
            let Some(now) = *now else {
                account.storage_hidden = true;
                continue;
            };
            let before = line.storage.replace(now).unwrap_or_default();
            let mut fresh = now.less(before);
            if let Some(repeated) = self.repeated.get(&key.pid) {
                fresh = fresh.less(*repeated);
            }
            account.storage.add(fresh);
            self.storage.add(fresh);
        }
        self.repeated.clear();
    }

    /// Every application's use; peaks start again from here.
    pub(super) fn take_uses(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        let uses = self.accounts.iter_mut().map(|(name, account)| {
            let mut usage = account.usage.clone();
            let known = !account.storage_hidden;
            usage.read = known.then_some(Bytes(account.storage.read));
            usage.written = known.then_some(Bytes(account.storage.written));
            account.usage.peak_cpu = Millicores(0);
            account.usage.peak_resident = account.usage.resident;
            (name.clone(), usage)
        });
        uses.collect()
    }

    /// CPU of all processes so far, living and ended.
    pub(super) const fn busy_ms(&self) -> u64 {
        self.busy_ms
    }

    /// Bytes all processes moved so far, living and ended.
    pub(super) const fn storage(&self) -> Storage {
        self.storage
    }

    /// Resident memory of all processes now. Pages that two share count twice.
    pub(super) fn resident(&self) -> Bytes {
        Bytes(self.accounts.values().map(|account| account.usage.resident.0).sum())
    }

    fn close_ended(&mut self, living: &[Charge<'_>]) {
        let still: BTreeSet<ProcessKey> = living.iter().map(|charge| charge.key).collect();
        let ended: Vec<(ProcessKey, Line)> =
            self.lines.extract_if(|key, _| !still.contains(key)).collect();
        let parents: HashMap<u32, u32> =
            ended.iter().map(|(key, line)| (key.pid, line.parent)).collect();
        for (_, line) in ended {
            let heritor = living_ancestor(line.parent, &parents);
            let storage = line.storage.unwrap_or_default();
            self.repeated.entry(heritor).or_default().add(storage);
            // An orphan's end is the first process's to wait for; which of the two it was is not seen.
            if heritor != line.parent {
                self.repeated.entry(1).or_default().add(storage);
            }
            self.waited.child_ended(heritor, line.application, line.cpu_ms + line.waited_ms);
        }
    }

    fn charge(&mut self, charge: &Charge<'_>) {
        let line = self.lines.entry(charge.key).or_insert_with(|| Line {
            parent: charge.parent,
            application: charge.application.clone(),
            cpu_ms: 0,
            waited_ms: 0,
            storage: None,
        });
        // What was used under a former name stays there: nothing is counted twice.
        let used = charge.cpu_ms.saturating_sub(line.cpu_ms);
        let waited = charge.waited_ms.saturating_sub(line.waited_ms);
        line.parent = charge.parent;
        line.application.clone_from(charge.application);
        line.cpu_ms = line.cpu_ms.max(charge.cpu_ms);
        line.waited_ms = line.waited_ms.max(charge.waited_ms);
        let account = self.accounts.entry(charge.application.clone()).or_default();
        account.last_seen = self.looks;
        account.usage.listed = charge.listed;
        account.usage.processes = account.usage.processes.saturating_add(1);
        account.usage.resident.0 = account.usage.resident.0.saturating_add(charge.resident.0);
        self.add_cpu(charge.application, used);
        // What was waited for before the first look is history, and nothing of it was counted yet.
        if self.looks == 1 {
            self.add_cpu(charge.application, waited);
        } else {
            self.waited.parent_waited(charge.key.pid, charge.application, waited);
        }
    }

    fn add_cpu(&mut self, application: &AppName, ms: u64) {
        self.busy_ms += ms;
        // A forgotten application's last slice has no account to go to; the guest's total keeps it.
        if let Some(account) = self.accounts.get_mut(application) {
            account.usage.cpu_ms += ms;
            account.just_used_ms += ms;
        }
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

/// The nearest ancestor from `pid` upwards that is not among those that ended, by their `parents`.
fn living_ancestor(pid: u32, parents: &HashMap<u32, u32>) -> u32 {
    let mut ancestor = pid;
    // No chain is longer than the map, and a circle must not hold us.
    for _ in 0..parents.len() {
        let Some(parent) = parents.get(&ancestor) else { break };
        ancestor = *parent;
    }
    ancestor
}

impl Account {
    fn note_peaks(&mut self, elapsed: Option<Duration>, most: Millicores) {
        self.usage.peak_resident = self.usage.peak_resident.max(self.usage.resident);
        let elapsed_ms = elapsed.map_or(0, |elapsed| elapsed.as_millis());
        if elapsed_ms == 0 {
            return;
        }
        let rate = u128::from(self.just_used_ms) * 1000 / elapsed_ms;
        let rate = Millicores(u64::try_from(rate).unwrap_or(u64::MAX)).min(most);
        self.usage.peak_cpu = self.usage.peak_cpu.max(rate);
    }

    const fn may_be_forgotten(&self) -> bool {
        !self.usage.listed && self.usage.processes == 0
    }
}

impl Storage {
    const fn less(self, before: Self) -> Self {
        Self {
            read: self.read.saturating_sub(before.read),
            written: self.written.saturating_sub(before.written),
        }
    }

    const fn add(&mut self, more: Self) {
        self.read = self.read.saturating_add(more.read);
        self.written = self.written.saturating_add(more.written);
    }
}

#[cfg(test)]
mod tests;
