//! Which processes hold a socket, by its inode.
//!
//! To read every descriptor of every process is the dearest part of a look, so what was found is kept, and
//! for a new socket the likely ones are read first: processes that are new, then those that were found to hold
//! new sockets lately, of its unit or user before others. All are read only now and then, because a descriptor
//! can be handed on without anything to notice. Sockets whose control group names their application need no
//! process and are not asked for.

use std::{cmp::Reverse, io};

use ahash::{HashMap, HashSet};
use common::sample::ProcessKey;

/// Looks after which every process is read though nothing asks for it.
const LOOKS_BETWEEN_WALKS: u32 = 20;

/// The process that makes sockets for others: to find one there is not to find who speaks through it.
const FIRST_PROCESS: u32 = 1;

/// A socket whose holder is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) inode: u32,
    /// Whose it is; `None` if not known.
    pub(super) user: Option<u32>,
    /// The unit that made it; `None` if not known.
    pub(super) unit: Option<&'a str>,
    /// It waits for others. Its process is named by its port, so that it is looked for everywhere at once.
    pub(super) listens: bool,
}

/// A process that may hold one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) key: ProcessKey,
    pub(super) user: u32,
    pub(super) unit: Option<&'a str>,
}

/// The holders of every socket asked for at the last look.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_inode: HashMap<u32, Held>,
    /// The processes read so far, with the look at which each was last found to hold what was missing.
    read: HashMap<ProcessKey, u32>,
    look: u32,
    walked_at: u32,
    /// The last search went through all that were left and found nothing.
    is_vain: bool,
    /// Some process's descriptors may not be read.
    denied: bool,
}

#[derive(Debug, Default)]
struct Held {
    by: Vec<ProcessKey>,
    /// The look that asked for it last; 0 before the first.
    look: u32,
}

impl Holders {
    /// Brings the holders of the sockets asked for up to date; `sockets_of` lists the sockets of a process.
    pub(super) fn update(
        &mut self,
        wanted: &[Wanted<'_>],
        living: &[Candidate<'_>],
        sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>,
    ) {
        self.look += 1;
        let lives: HashSet<ProcessKey> = living.iter().map(|candidate| candidate.key).collect();
        self.read.retain(|key, _| lives.contains(key));
        let mut missing: HashMap<u32, Wanted<'_>> = HashMap::default();
        let mut asked = 0;
        for one in wanted {
            let held = self.by_inode.entry(one.inode).or_default();
            let is_new = held.look == 0;
            asked += usize::from(held.look != self.look);
            held.look = self.look;
            let had_holder = !held.by.is_empty();
            held.by.retain(|holder| lives.contains(holder));
            if is_new || (had_holder && held.by.is_empty()) {
                missing.insert(one.inode, *one);
            }
        }
        let look = self.look;
        if self.by_inode.len() > asked {
            self.by_inode.retain(|_, held| held.look == look);
        }
        let is_due = self.look - self.walked_at >= LOOKS_BETWEEN_WALKS && !wanted.is_empty();
        if is_due {
            self.walk(living, sockets_of);
        } else if !missing.is_empty() {
            self.search(missing, living, sockets_of);
        }
    }

    /// Who holds `inode`, the one that most likely speaks through it first.
    pub(super) fn of(&self, inode: u32) -> &[ProcessKey] {
        self.by_inode.get(&inode).map_or(&[], |held| held.by.as_slice())
    }

    /// Whether a holder may be missing because its descriptors may not be read.
    pub(super) const fn denied(&self) -> bool {
        self.denied
    }

    /// Reads every process.
    fn walk(&mut self, living: &[Candidate<'_>], sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>) {
        self.walked_at = self.look;
        self.is_vain = false;
        self.denied = false;
        self.by_inode.values_mut().for_each(|held| held.by.clear());
        for candidate in living {
            self.read.entry(candidate.key).or_default();
            self.read_one(candidate.key, &sockets_of);
        }
        self.by_inode.values_mut().for_each(Held::sort);
    }

    /// Reads the likely ones until every missing socket has a holder.
    fn search(
        &mut self,
        mut missing: HashMap<u32, Wanted<'_>>,
        living: &[Candidate<'_>],
        sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>,
    ) {
        let asked = missing.len();
        let mut listeners = missing.values().filter(|wanted| wanted.listens).count();
        let mut touched: HashSet<u32> = HashSet::default();
        for (is_skipped, process) in self.order(&missing, living) {
            if missing.is_empty() || (is_skipped && listeners == 0) {
                break;
            }
            self.read.entry(process).or_default();
            for inode in self.read_one(process, &sockets_of) {
                touched.insert(inode);
                if process.pid == FIRST_PROCESS {
                    continue;
                }
                if let Some(found) = missing.remove(&inode) {
                    listeners -= usize::from(found.listens);
                    self.read.insert(process, self.look);
                }
            }
        }
        self.is_vain = missing.len() == asked;
        for inode in touched {
            self.by_inode.entry(inode).and_modify(Held::sort);
        }
    }

    /// The processes as they are to be read, likely ones first. Last come those that may be skipped: they were
    /// read and held nothing, and are read again only for a listener while nobody seems to hold what is missing.
    fn order(
        &self,
        missing: &HashMap<u32, Wanted<'_>>,
        living: &[Candidate<'_>],
    ) -> Vec<(bool, ProcessKey)> {
        let is_likely = likely(missing);
        let mut order: Vec<_> = living
            .iter()
            .map(|candidate| {
                let found = self.read.get(&candidate.key).copied();
                let is_skipped = self.is_vain && found == Some(0);
                let rank = (is_skipped, !is_likely(candidate), found.is_some(), Reverse(found));
                (rank, candidate.key)
            })
            .collect();
        order.sort_unstable_by_key(|(rank, process)| (*rank, process.started_at, process.pid));
        order.into_iter().map(|(rank, process)| (rank.0, process)).collect()
    }

    /// Notes what a process holds; gives what of it was asked for and not known of it.
    fn read_one(
        &mut self,
        process: ProcessKey,
        sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>,
    ) -> Vec<u32> {
        let mut sockets = match sockets_of(process.pid) {
            Ok(sockets) => sockets,
            Err(cause) => {
                self.denied |= cause.kind() == io::ErrorKind::PermissionDenied;
                return Vec::new();
            }
        };
        sockets.retain(|inode| match self.by_inode.get_mut(inode) {
            Some(held) if !held.by.contains(&process) => {
                held.by.push(process);
                true
            }
            _ => false,
        });
        sockets
    }
}

impl Held {
    /// Processes inherit descriptors from those that started before them, so the first one made the socket.
    /// Only the first process of the guest makes sockets for others.
    fn sort(&mut self) {
        self.by
            .sort_by_key(|process| (process.pid == FIRST_PROCESS, process.started_at, process.pid));
    }
}

/// Whether a process is of a unit or user that one of the sockets is of.
fn likely<'a>(missing: &HashMap<u32, Wanted<'a>>) -> impl Fn(&Candidate<'_>) -> bool + use<'a> {
    let units: HashSet<Option<&str>> = missing.values().map(|wanted| wanted.unit).collect();
    let users: HashSet<Option<u32>> = missing.values().map(|wanted| wanted.user).collect();
    let has_unit = units.iter().any(Option::is_some);
    move |candidate| {
        let is_of_unit = has_unit && candidate.unit.is_some_and(|unit| units.contains(&Some(unit)));
        is_of_unit || users.contains(&None) || users.contains(&Some(candidate.user))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use common::clock::Timestamp;

    use super::*;

    fn process(pid: u32, started: u64) -> ProcessKey {
        ProcessKey { pid, started_at: Timestamp::from_millis(started) }
    }

    fn candidate(pid: u32, started: u64) -> Candidate<'static> {
        Candidate { key: process(pid, started), user: 0, unit: None }
    }

    fn wanted(inode: u32) -> Wanted<'static> {
        Wanted { inode, user: None, unit: None, listens: false }
    }

    /// Processes with their sockets, and the order in which they were read.
    #[derive(Default)]
    struct Table {
        sockets: HashMap<u32, Vec<u32>>,
        read: RefCell<Vec<u32>>,
    }

    impl Table {
        fn with(sockets: &[(u32, &[u32])]) -> Self {
            let sockets = sockets.iter().map(|(pid, held)| (*pid, held.to_vec())).collect();
            Self { sockets, ..Self::default() }
        }

        fn sockets_of(&self) -> impl Fn(u32) -> io::Result<Vec<u32>> {
            |pid| {
                self.read.borrow_mut().push(pid);
                Ok(self.sockets.get(&pid).cloned().unwrap_or_default())
            }
        }

        fn take_read(&self) -> Vec<u32> {
            self.read.take()
        }
    }

    #[test]
    fn one_that_only_hands_sockets_out_does_not_end_the_search() {
        let living = [candidate(1, 0), candidate(20, 5), candidate(30, 9)];
        let table = Table::with(&[(1, &[7]), (20, &[7]), (30, &[8])]);
        let mut holders = Holders::default();

        holders.update(&[wanted(7)], &living, table.sockets_of());

        assert_eq!(holders.of(7), [process(20, 5), process(1, 0)]);
        assert_eq!(holders.of(8), []);
    }

    #[test]
    fn the_one_that_started_first_holds_a_shared_socket() {
        let living = [candidate(30, 9), candidate(20, 5)];
        let table = Table::with(&[(20, &[7]), (30, &[7])]);
        let mut holders = Holders::default();
        for _ in 0..LOOKS_BETWEEN_WALKS {
            holders.update(&[wanted(7)], &living, table.sockets_of());
            assert_eq!(holders.of(7)[0], process(20, 5));
        }
        assert_eq!(holders.of(7), [process(20, 5), process(30, 9)]);
    }

    #[test]
    fn a_table_that_does_not_change_is_not_read_again() {
        let living = [candidate(20, 5), candidate(30, 9)];
        let table = Table::with(&[(20, &[7]), (30, &[8])]);
        let mut holders = Holders::default();
        holders.update(&[wanted(7), wanted(8)], &living, table.sockets_of());
        table.take_read();

        for _ in 2..LOOKS_BETWEEN_WALKS {
            holders.update(&[wanted(7), wanted(8)], &living, table.sockets_of());
        }

        assert!(table.take_read().is_empty());
        holders.update(&[wanted(7), wanted(8)], &living, table.sockets_of());
        assert_eq!(table.take_read(), [20, 30]);
    }

    #[test]
    fn a_new_socket_is_looked_for_at_its_likely_holder_only() {
        let mut living: Vec<_> = (100..200).map(|pid| candidate(pid, pid.into())).collect();
        let mut table = Table::with(&[(150, &[7])]);
        let mut holders = Holders::default();
        holders.update(&[wanted(7)], &living, table.sockets_of());
        table.take_read();

        table.sockets.insert(150, vec![7, 8]);
        holders.update(&[wanted(7), wanted(8)], &living, table.sockets_of());
        // Those after it were not read at the first look, and count as new.
        let read = table.take_read();
        assert!(read.ends_with(&[150]) && !read.contains(&120), "{read:?}");

        living.push(candidate(300, 300));
        table.sockets.insert(300, vec![9]);
        holders.update(&[wanted(7), wanted(8), wanted(9)], &living, table.sockets_of());
        assert_eq!(table.take_read(), [300]);
        table.sockets.insert(150, vec![7, 8, 10]);
        let all = [wanted(7), wanted(8), wanted(9), wanted(10)];
        holders.update(&all, &living, table.sockets_of());
        assert_eq!(holders.of(10), [process(150, 150)]);
        assert!(table.take_read().len() <= 2);
    }

    #[test]
    fn a_process_of_the_sockets_unit_is_read_before_others() {
        let living =
            [candidate(20, 5), Candidate { unit: Some("web.service"), ..candidate(30, 9) }];
        let table = Table::with(&[(30, &[7])]);
        let mut holders = Holders::default();
        let of_unit = Wanted { user: Some(33), unit: Some("web.service"), ..wanted(7) };
        holders.update(&[of_unit], &living, table.sockets_of());
        assert_eq!(table.take_read(), [30]);
    }

    #[test]
    fn a_holder_that_is_gone_is_looked_for_again() {
        let table = Table::with(&[(20, &[7]), (21, &[7])]);
        let mut holders = Holders::default();
        holders.update(&[wanted(7)], &[candidate(20, 5)], table.sockets_of());

        holders.update(&[wanted(7)], &[candidate(21, 6)], table.sockets_of());

        assert_eq!(holders.of(7), [process(21, 6)]);
    }

    #[test]
    fn what_nobody_holds_is_not_looked_for_everywhere_every_time() {
        let living: Vec<_> = (100..200).map(|pid| candidate(pid, pid.into())).collect();
        let table = Table::default();
        let mut holders = Holders::default();
        holders.update(&[wanted(1)], &living, table.sockets_of());
        assert_eq!(table.take_read().len(), 100);
        for inode in 2..LOOKS_BETWEEN_WALKS {
            holders.update(&[wanted(inode)], &living, table.sockets_of());
            assert!(table.take_read().is_empty());
        }
    }

    #[test]
    fn a_listener_is_found_at_once_though_nobody_holds_what_else_is_missing() {
        let living: Vec<_> = (100..200).map(|pid| candidate(pid, pid.into())).collect();
        let mut table = Table::default();
        let mut holders = Holders::default();
        holders.update(&[wanted(1)], &living, table.sockets_of());
        table.sockets.insert(120, vec![3]);

        let listener = Wanted { listens: true, ..wanted(3) };
        holders.update(&[wanted(2), listener], &living, table.sockets_of());

        assert_eq!(holders.of(3), [process(120, 120)]);
        table.take_read();
        holders.update(&[wanted(2), listener, wanted(4)], &living, table.sockets_of());
        assert_eq!(table.take_read().len(), 100, "the last search was not vain");
        holders.update(&[wanted(4), listener, wanted(5)], &living, table.sockets_of());
        assert_eq!(table.take_read(), [120]);
    }

    #[test]
    fn descriptors_that_may_not_be_read_are_said() {
        let mut holders = Holders::default();
        let denied = |_| Err(io::ErrorKind::PermissionDenied.into());
        holders.update(&[wanted(7)], &[candidate(20, 5)], denied);
        assert!(holders.denied());
        assert_eq!(holders.of(7), []);
    }
}
