//! What processes used, summed up by application from their own figures: one line for each process.
//!
//! A process that ended stays counted, and so does a child that lived and died between two looks: its
//! parent waited for it, and the kernel adds what it used to the parent. What of that was already counted
//! while the child was seen is taken off again ([`waited`](super::waited)).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::{id::AppName, sample::ProcessKey, units::Bytes};

use super::waited::Waited;
use crate::observe::seen::Storage;

/// One living process with the application it belongs to.
#[derive(Debug, Clone)]
pub(in crate::observe) struct Charge<'a> {
    pub(in crate::observe) key: ProcessKey,
    pub(in crate::observe) parent: u32,
    pub(in crate::observe) application: &'a AppName,
    pub(in crate::observe) listed: bool,
    pub(in crate::observe) cpu_ms: u64,
    pub(in crate::observe) waited_ms: u64,
    pub(in crate::observe) resident: Bytes,
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

/// CPU time that one look found, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// Used since the process was last seen.
    pub(super) seen_ms: u64,
    /// Used at some time since the last look at everything: by what is new, and by what was waited for.
    pub(super) lump_ms: u64,
}

/// Storage that one look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) fresh: Storage,
    /// Some living process may not be asked.
    pub(super) is_hidden: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<ProcessKey, Line>,
    waited: Waited,
    /// Storage of ended children that their parents' own figures are about to repeat.
    repeated: HashMap<u32, Storage>,
    had_a_look: bool,
    busy_ms: u64,
    storage: Storage,
}

impl Lines {
    /// Takes one look at all processes in.
    pub(super) fn look(&mut self, living: &[Charge<'_>]) -> BTreeMap<AppName, Spent> {
        self.close_ended(living);
        let mut spent: BTreeMap<AppName, Spent> = BTreeMap::new();
        for charge in living {
            let (more, waited) = self.charge(charge);
            self.busy_ms += more.seen_ms + more.lump_ms;
            // What was waited for before the first look is history, and nothing of it was counted yet.
            if self.had_a_look {
                self.waited.parent_waited(charge.key.pid, charge.application, waited);
            } else {
                self.busy_ms += waited;
                add(&mut spent, charge.application, Spent { seen_ms: 0, lump_ms: waited });
            }
            add(&mut spent, charge.application, more);
        }
        for (application, ms) in self.waited.settle() {
            self.busy_ms += ms;
            add(&mut spent, &application, Spent { seen_ms: 0, lump_ms: ms });
        }
        self.had_a_look = true;
        spent
    }

    /// Takes in what some processes used that were seen before. What ended, began or was waited for
    /// meanwhile is the next look's.
    pub(super) fn glance(&mut self, some: &[Charge<'_>]) -> BTreeMap<AppName, Spent> {
        let mut spent = BTreeMap::new();
        for charge in some {
            let Some(line) = self.lines.get_mut(&charge.key) else { continue };
            let ms = charge.cpu_ms.saturating_sub(line.cpu_ms);
            line.cpu_ms = line.cpu_ms.max(charge.cpu_ms);
            self.busy_ms += ms;
            add(&mut spent, charge.application, Spent { seen_ms: ms, lump_ms: 0 });
        }
        spent
    }

    /// Takes in what the living processes read and wrote; a process that may not be asked is left out.
    pub(super) fn look_at_storage(
        &mut self,
        living: &[(ProcessKey, Option<Storage>)],
    ) -> BTreeMap<AppName, Stored> {
        let mut stored: BTreeMap<AppName, Stored> = BTreeMap::new();
        for (key, now) in living {
            let Some(line) = self.lines.get_mut(key) else { continue };
            let stored = stored.entry(line.application.clone()).or_default();
            let Some(now) = *now else {
                stored.is_hidden = true;
                continue;
            };
            let before = line.storage.replace(now).unwrap_or_default();
            let mut fresh = now.less(before);
            if let Some(repeated) = self.repeated.get(&key.pid) {
                fresh = fresh.less(*repeated);
            }
            stored.fresh.add(fresh);
            self.storage.add(fresh);
        }
        self.repeated.clear();
        stored
    }

    /// Processes whose figures of storage may by now repeat those of a child that ended: to be asked at
    /// this look, for at the next it is not known any more.
    pub(super) fn heirs(&self) -> BTreeSet<u32> {
        self.repeated.keys().copied().collect()
    }

    /// CPU of all processes so far, living and ended.
    pub(super) const fn busy_ms(&self) -> u64 {
        self.busy_ms
    }

    /// Bytes all processes moved so far, living and ended.
    pub(super) const fn storage(&self) -> Storage {
        self.storage
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

    /// What a process used, and what it waited for.
    fn charge(&mut self, charge: &Charge<'_>) -> (Spent, u64) {
        let is_new = !self.lines.contains_key(&charge.key);
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
        let (seen_ms, lump_ms) = if is_new { (0, used) } else { (used, 0) };
        (Spent { seen_ms, lump_ms }, waited)
    }
}

fn add(spent: &mut BTreeMap<AppName, Spent>, application: &AppName, more: Spent) {
    if !spent.contains_key(application) {
        spent.insert(application.clone(), more);
    } else if let Some(so_far) = spent.get_mut(application) {
        so_far.seen_ms += more.seen_ms;
        so_far.lump_ms += more.lump_ms;
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

impl Storage {
    pub(super) const fn less(self, before: Self) -> Self {
        Self {
            read: self.read.saturating_sub(before.read),
            written: self.written.saturating_sub(before.written),
        }
    }

    pub(super) const fn add(&mut self, more: Self) {
        self.read = self.read.saturating_add(more.read);
        self.written = self.written.saturating_add(more.written);
    }

    pub(super) fn or_more(self, other: Self) -> Self {
        Self { read: self.read.max(other.read), written: self.written.max(other.written) }
    }
}
