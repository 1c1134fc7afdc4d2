//! From socket rows and what the kernel told to the connection table, the flows, and how much of them was
//! seen.
//!
//! ```text
//!  told at ticks ─> heard ──┐                     ┌─> undecided ─> openings, sightings ─┐
//!  rows ─> listeners ─> ends settled ─> rows seen ─> rows gone ─────────────────────────┴─> edges
//! ```
//!
//! Pure but for what it remembers of the look before. Every connection is counted once: by its row, by its
//! end, or by what remains of it. An end that was told is settled at the next look, for only the table says
//! whether its socket closed first. A row that no process holds is said to be so, with the reason; its
//! application is named only where it is certain or nearly so without the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use ahash::HashMap;
use common::{
    clock::Timestamp,
    id::AppName,
    sample::{Connection, ConnectionKey, Coverage, Flow, FlowKey, Holder, ProcessKey},
};

use super::{
    holders::Holders,
    seen::{Ended, Row, Sockets, Told},
};

mod books;
mod ends;
mod listeners;
mod near;
mod openings;
mod order;
mod payload;
mod rows;
mod track;

use books::Books;
use ends::Late;
use listeners::Listeners;
use near::NearEnds;
pub(super) use openings::NameOf;
use openings::Openings;
use order::in_order;
use track::Track;

/// Most ends kept until the next look. Beyond, they are settled at once, and what they received may be one
/// byte off.
const MAX_HEARD: usize = 65_536;

/// Longest time between two looks over which a closed connection is taken for the one that was open:
/// within `TIME_WAIT` the same pair of ends is not used again.
const SAME_WITHIN: Duration = Duration::from_secs(60);

/// A control group that made sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Its unit or container.
    pub(super) name: String,
    /// The application of all its processes; `None` if they belong to several.
    pub(super) application: Option<AppName>,
}

/// Everything of one look that the table is made from.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) rows: &'a [Row],
    pub(super) holders: &'a Holders,
    pub(super) applications: &'a HashMap<ProcessKey, AppName>,
    pub(super) groups: &'a HashMap<u64, Group>,
    pub(super) ephemeral: RangeInclusive<u16>,
    pub(super) ends_are_told: bool,
    pub(super) now: Timestamp,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Connections {
    looks: u64,
    looked_at: Timestamp,
    tracks: HashMap<ConnectionKey, Track>,
    by_cookie: HashMap<u64, ConnectionKey>,
    listeners: Listeners,
    heard: Vec<Ended>,
    late: HashMap<u64, Late>,
    near: NearEnds,
    books: Books,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    overruns: u64,
    restarts: u64,
    /// What the kernel had counted at the first look.
    counted_before: Option<u64>,
    /// Ends were lost since the last look.
    lost: bool,
}

/// Ports that each process listens on.
pub(super) fn listening(
    rows: &[Row],
    holders: &Holders,
    ephemeral: &RangeInclusive<u16>,
) -> HashMap<ProcessKey, BTreeSet<u16>> {
    let mut ports: HashMap<ProcessKey, BTreeSet<u16>> = HashMap::default();
    for row in rows.iter().filter(|row| row.listens(ephemeral)) {
        for holder in holders.of(row.inode) {
            ports.entry(*holder).or_default().insert(row.key.local.port());
        }
    }
    ports
}

impl Look<'_> {
    /// Who holds `row`, as far as its socket itself says.
    fn certain(&self, row: &Row) -> Option<Holder> {
        for process in self.holders.of(row.inode) {
            if let Some(application) = self.applications.get(process) {
                let (process, application) = (*process, Some(application.clone()));
                return Some(Holder::Process { process, application });
            }
        }
        let group = self.groups.get(&row.cgroup?).filter(|_| row.inode != 0)?;
        Some(Holder::Group { group: group.name.clone(), application: group.application.clone() })
    }
}

impl Connections {
    /// Takes in what the kernel told since it was last asked. To be asked at every tick, and once more just
    /// before the table is read.
    pub(super) fn hear(&mut self, told: Told, name_of: NameOf<'_>) {
        self.tally.overruns += told.ends_lost + told.openings_lost;
        self.tally.lost |= told.ends_lost > 0;
        self.books.openings.hear(told.openings, name_of);
        self.heard.extend(told.ended);
        // Before the first look nobody knows what had been there before.
        if self.heard.len() > MAX_HEARD && self.looks > 0 {
            for ended in std::mem::take(&mut self.heard) {
                self.settle(&ended, None);
            }
        }
        self.heard.truncate(MAX_HEARD);
    }

    /// Makes the table of this look and counts what happened since the last one. `after` is what was told
    /// right after the table was read.
    pub(super) fn look(
        &mut self,
        look: &Look<'_>,
        after: Told,
        name_of: NameOf<'_>,
    ) -> BTreeMap<ConnectionKey, Connection> {
        let before = std::mem::take(&mut self.heard);
        if self.looks == 0 {
            // What began or ended before the first look may have been there before the agent.
            self.books.openings = Openings::default();
        }
        self.hear(after, name_of);
        self.books.openings.name_all(name_of);
        self.begin(look);
        self.note_near_ends(&before, look);
        self.settle_all(before, look);
        let rows = in_order(look.rows);
        let mut table = Vec::with_capacity(rows.len());
        let mut undecided = Vec::new();
        for row in rows {
            let (connection, is_new) = self.see(row, look);
            if is_new && let Some(edge) = self.undecided(&row.key, &connection) {
                undecided.push((table.len(), edge));
            }
            table.push((row.key, connection));
        }
        // What was seen is remembered, so that nothing is gone if no more is.
        if self.tracks.len() > table.len() {
            self.let_go(look);
        }
        self.forget_late(look);
        let decisions = self.books.decide();
        for (at, edge) in undecided {
            let Some((key, connection)) = table.get_mut(at) else { continue };
            self.note_decision(key, connection, decisions.get(&edge));
        }
        self.looked_at = look.now;
        self.tally.lost = false;
        self.books.openings.age();
        table.into_iter().collect()
    }

    /// What happened on each edge so far.
    pub(super) fn flows(&mut self, now: Timestamp) -> BTreeMap<FlowKey, Flow> {
        self.books.edges.tell(now)
    }

    /// How much of it was seen.
    pub(super) fn coverage(&mut self, sockets: &Sockets) -> Coverage {
        self.tally.restarts += u64::from(sockets.restarts);
        if self.looks <= 1 {
            self.tally.counted_before = sockets.counted;
        }
        let counted = sockets.counted.zip(self.tally.counted_before);
        Coverage {
            reader: sockets.reader,
            ends_are_told: sockets.ends_are_told,
            opens_are_told: sockets.opens_are_told,
            due: counted.map(|(now, before)| now.saturating_sub(before)),
            seen: self.books.edges.seen(),
            attributed: self.books.edges.attributed(),
            overruns: self.tally.overruns + self.books.openings.lost,
            restarts: self.tally.restarts,
            merged_edges: self.books.edges.merged(),
        }
    }

    fn begin(&mut self, look: &Look<'_>) {
        self.looks += 1;
        self.books.turn_to(look.ephemeral.clone(), look.now);
        self.listeners.note(look);
    }

    /// An end that does not say from which address it was spoken to is settled by what the table says. A row is
    /// noted when it is first seen; only these need it sooner.
    fn note_near_ends(&mut self, before: &[Ended], look: &Look<'_>) {
        let has_no_own = |ended: &Ended| ended.key.local.ip().is_unspecified();
        if before.iter().chain(&self.heard).any(has_no_own) {
            look.rows.iter().for_each(|row| self.near.note(&row.key));
        }
    }

    /// Settles what was told before the table was read. Of what was told after, those whose remains are in
    /// the table already; the others wait for the next look.
    fn settle_all(&mut self, before: Vec<Ended>, look: &Look<'_>) {
        if self.looks == 1 {
            return;
        }
        if before.is_empty() && self.heard.is_empty() {
            return;
        }
        let remains: HashMap<ConnectionKey, u64> = look
            .rows
            .iter()
            .filter(|row| track::remains(row))
            .map(|row| (row.key, row.cookie))
            .collect();
        // Of several that had the same ends, what remains is of the last: the others made room for it.
        let last: HashMap<ConnectionKey, u64> =
            before.iter().map(|ended| (ended.key, ended.cookie)).collect();
        for ended in before {
            let is_last = last.get(&ended.key) == Some(&ended.cookie);
            let its_own = remains.get(&ended.key).filter(|name| is_last || **name == ended.cookie);
            self.settle(&ended, Some(its_own.is_some()));
        }
        for ended in std::mem::take(&mut self.heard) {
            if remains.contains_key(&ended.key) {
                self.settle(&ended, Some(true));
            } else {
                self.heard.push(ended);
            }
        }
    }
}

#[cfg(test)]
mod counts;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told;
#[cfg(test)]
mod whose;
