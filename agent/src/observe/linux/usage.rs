//! What applications use, from control groups where they fill some and from their processes elsewhere.
//!
//! ```text
//!  every sample   look     /proc/PID/stat of all, all files of all groups, /proc/PID/io of who moved
//!  every second   glance   of listed applications only: CPU and memory of their groups,
//!                          or /proc/PID/stat of their known processes where they have none
//! ```
//!
//! So peaks and sketches of listed applications have the inner cadence, those of unlisted ones that of the
//! samples, and an idle guest's ticks cost next to nothing however many processes it has.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use common::{
    id::AppName,
    sample::{ApplicationUse, ProcessKey},
};

mod devices;
mod files;
mod folder;
mod kills;
mod places;
mod reader;
mod v1;
mod v2;

use files::{Files, Mover};
use kills::Kills;
use reader::{GroupReader, Wanted};

use super::{
    counters::Sums,
    processes::{self, Units},
};
use crate::observe::{
    accounts::{Accounts, Depth, Look, Reading, groups::Choice},
    population::Population,
    seen::{Group, Moved},
};

/// Most processes read between two samples. Applications beyond that are seen at samples only.
const MAX_GLANCED: u32 = 256;

/// Most groups read between two samples, likewise.
const MAX_GLANCED_GROUPS: usize = 64;

/// Of the time between two glances, the part that one may take; where it takes more, some are left out. What
/// it takes on an idle guest is bounded by the above.
const GLANCE_SHARE: u32 = 20;

/// How far a look goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// The kernel is others' too: their processes may stand in the same groups.
    pub(super) is_shared: bool,
    /// What each process moved is read as well.
    pub(super) is_detailed: bool,
}

/// The accounts and what they are read from.
#[derive(Debug)]
pub(super) struct Usage {
    began: Instant,
    accounts: Accounts,
    choice: Choice,
    reader: GroupReader,
    files: Files,
    reach: Reach,
    kills: Kills,
    glanced: Option<(Instant, Duration)>,
}

impl Usage {
    /// Accounts with nothing in them.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            accounts: Accounts::default(),
            choice: Choice::default(),
            reader: GroupReader::find(),
            files: Files::default(),
            reach: Reach { is_shared: false, is_detailed: true },
            kills: Kills::from_now(),
            glanced: None,
        }
    }

    /// Looks at everything, after the processes were read and named.
    pub(super) fn look(&mut self, population: &mut Population, reach: Reach, cores: Option<u32>) {
        self.reach = reach;
        population.stand(processes::groups);
        self.choose(population);
        let groups = self.read_groups();
        self.accounts.look(&Look {
            living: &population.charges(),
            groups: &groups,
            at: self.began.elapsed(),
            most: processes::all_of(cores),
        });
        self.look_at_files(population);
    }

    /// Chooses the groups, and notes whose processes were killed: a group may be gone by now, or be new.
    fn choose(&mut self, population: &mut Population) {
        let killed = self.kills.told();
        let owner = |choice: &Choice, path: &String| choice.owner(path).cloned();
        let before: Vec<_> = killed.iter().map(|path| owner(&self.choice, path)).collect();
        if population.has_moved() {
            self.choice.update(&population.places());
        }
        // On a kernel that others use too, its log is theirs.
        if self.reach.is_shared || !self.reader.sees_all() {
            return;
        }
        for (path, before) in killed.iter().zip(before) {
            if let Some(application) = before.or_else(|| owner(&self.choice, path)) {
                self.accounts.note_kill(&application);
            }
        }
    }

    fn look_at_files(&mut self, population: &Population) {
        if !self.reach.is_detailed {
            // Left out is unknown, and the accounts are told so: a figure that stands still would be a claim.
            let untold: Vec<_> = population.movers().map(|(key, ..)| (key, None)).collect();
            self.accounts.look_at_storage(&untold);
            return;
        }
        let movers = population.movers().map(|(key, cpu_ms, application, listed)| {
            let is_exact = listed && !self.accounts.stores_by_groups(application);
            Mover { key, cpu_ms, is_exact }
        });
        self.files.look(&movers.collect::<Vec<_>>(), &self.accounts.heirs());
        let moved = self.files.all();
        let storage: Vec<_> =
            moved.map(|(key, moved)| (key, moved.map(|moved| moved.storage))).collect();
        self.accounts.look_at_storage(&storage);
    }

    /// Looks at what listed applications use just now.
    pub(super) fn glance(&mut self, population: &mut Population, units: Units, cores: Option<u32>) {
        let is_too_soon = |(at, took): (Instant, Duration)| at.elapsed() < took * GLANCE_SHARE;
        if self.glanced.is_some_and(is_too_soon) {
            return;
        }
        let began = Instant::now();
        let groups = self.read_listed_groups();
        let mut count = 0;
        let by_processes = self.accounts.listed_by_processes().filter(|(_, processes)| {
            let has_room = count + processes <= MAX_GLANCED;
            count += if has_room { *processes } else { 0 };
            has_room
        });
        let known = population.members_of(&by_processes.map(|(name, _)| name).collect());
        let seen = processes::again(units, &known);
        self.accounts.glance(&Look {
            living: &population.glance(seen),
            groups: &groups,
            at: self.began.elapsed(),
            most: processes::all_of(cores),
        });
        self.glanced = Some((began, began.elapsed()));
    }

    /// Every application's use since the sample before.
    pub(super) fn take(&mut self) -> BTreeMap<AppName, ApplicationUse> {
        self.accounts.take_uses()
    }

    /// What was last taken got lost.
    pub(super) fn take_back(&mut self) {
        self.accounts.take_back();
    }

    /// What a process moved; `None` if it may not be asked.
    pub(super) fn moved(&self, key: ProcessKey) -> Option<Moved> {
        self.files.of(key).filter(|_| self.reach.is_detailed)
    }

    /// What all processes used.
    pub(super) fn sums(&self) -> Sums {
        Sums {
            busy_ms: self.accounts.busy_ms(),
            resident: self.accounts.resident(),
            storage: self.accounts.storage(),
        }
    }

    fn read_groups(&mut self) -> BTreeMap<AppName, Vec<Reading>> {
        let Self { choice, reader, accounts, reach, .. } = self;
        let wanted: HashSet<&Group> = choice.iter().flat_map(|(_, groups)| groups.keys()).collect();
        reader.begin(|group| wanted.contains(group));
        let listed: HashSet<&AppName> = accounts.listed().collect();
        let mut gone = Vec::new();
        let mut read: BTreeMap<AppName, Vec<Reading>> = BTreeMap::new();
        for (name, groups) in choice.iter() {
            let may_rest = !listed.contains(name);
            for (group, origin) in groups {
                let wanted = Wanted { depth: Depth::Whole, may_rest };
                let Some(seen) = reader.read(group, wanted, reach.is_shared) else {
                    gone.push((name.clone(), group.clone()));
                    continue;
                };
                let reading = Reading { group: group.clone(), origin: *origin, seen };
                read.entry(name.clone()).or_default().push(reading);
            }
        }
        for (name, group) in gone {
            choice.forget(&name, &group);
        }
        read
    }

    fn read_listed_groups(&mut self) -> BTreeMap<AppName, Vec<Reading>> {
        let Self { choice, reader, accounts, reach, .. } = self;
        let listed: HashSet<&AppName> = accounts.listed().collect();
        let listed = choice.iter().filter(|(name, _)| listed.contains(name));
        let mut count = 0;
        let mut read = BTreeMap::new();
        for (name, groups) in listed {
            count += groups.len();
            if count > MAX_GLANCED_GROUPS {
                break;
            }
            let readings = groups.iter().filter_map(|(group, origin)| {
                let wanted = Wanted { depth: Depth::Brief, may_rest: false };
                let seen = reader.read(group, wanted, reach.is_shared)?;
                Some(Reading { group: group.clone(), origin: *origin, seen })
            });
            read.insert(name.clone(), readings.collect());
        }
        read
    }
}

/// The figure of a file that has one name and one number in each line.
fn flat(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}
