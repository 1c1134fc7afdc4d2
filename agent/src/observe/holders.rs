//! Which processes hold a socket, by its inode.
//!
//! To read every descriptor of every process is the dearest part of a look, so what was found is kept:
//! the walk is made again only when a socket is new, when a holder is gone, or after some looks anyway,
//! because a descriptor can be handed on without either.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use common::sample::ProcessKey;

/// Looks after which the walk is made again though nothing asks for it.
const LOOKS_BETWEEN_WALKS: u32 = 10;

/// The holders of every socket of the last look.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_inode: HashMap<u32, Vec<ProcessKey>>,
    looks_since_walk: u32,
    /// Some process's descriptors may not be read.
    denied: bool,
}

impl Holders {
    /// Brings the holders of `inodes` up to date; `sockets_of` lists the sockets of a process.
    pub(super) fn update(
        &mut self,
        inodes: &HashSet<u32>,
        living: &HashSet<ProcessKey>,
        sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>,
    ) {
        self.by_inode.retain(|inode, _| inodes.contains(inode));
        self.looks_since_walk += 1;
        let is_new = inodes.len() > self.by_inode.len();
        let mut holders = self.by_inode.values().flatten();
        let lost_a_holder = holders.any(|holder| !living.contains(holder));
        if is_new || lost_a_holder || self.looks_since_walk >= LOOKS_BETWEEN_WALKS {
            self.walk(inodes, living, sockets_of);
        }
    }

    /// Who holds `inode`, the one that most likely speaks through it first.
    pub(super) fn of(&self, inode: u32) -> &[ProcessKey] {
        self.by_inode.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Whether a holder may be missing because its descriptors may not be read.
    pub(super) const fn denied(&self) -> bool {
        self.denied
    }

    fn walk(
        &mut self,
        inodes: &HashSet<u32>,
        living: &HashSet<ProcessKey>,
        sockets_of: impl Fn(u32) -> io::Result<Vec<u32>>,
    ) {
        self.looks_since_walk = 0;
        self.denied = false;
        self.by_inode = inodes.iter().map(|inode| (*inode, Vec::new())).collect();
        for process in living {
            match sockets_of(process.pid) {
                Ok(sockets) => {
                    for inode in sockets {
                        self.by_inode.entry(inode).and_modify(|held| held.push(*process));
                    }
                }
                Err(cause) => self.denied |= cause.kind() == io::ErrorKind::PermissionDenied,
            }
        }
        for held in self.by_inode.values_mut() {
            // Processes inherit descriptors from those that started before them, so the first one made
            // the socket. Only the first process of the guest makes sockets for others.
            held.sort_by_key(|process| (process.pid == 1, process.started_at, process.pid));
            held.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use common::clock::Timestamp;

    use super::*;

    fn process(pid: u32, started: u64) -> ProcessKey {
        ProcessKey { pid, started_at: Timestamp::from_millis(started) }
    }

    #[test]
    fn the_one_that_started_first_holds_a_shared_socket_unless_it_only_hands_it_out() {
        let living = [process(1, 0), process(20, 5), process(30, 9)].into();
        let mut holders = Holders::default();

        holders.update(&[7].into(), &living, |_| Ok(vec![7]));

        assert_eq!(holders.of(7), [process(20, 5), process(30, 9), process(1, 0)]);
        assert_eq!(holders.of(8), []);
    }

    #[test]
    fn a_table_that_does_not_change_is_not_walked_again() {
        let living = [process(20, 5)].into();
        let walks = Cell::new(0);
        let sockets_of = |_| {
            walks.set(walks.get() + 1);
            Ok(vec![7])
        };
        let mut holders = Holders::default();

        for _ in 0..5 {
            holders.update(&[7, 8].into(), &living, sockets_of);
        }
        assert_eq!(walks.get(), 1);
        holders.update(&[7, 9].into(), &living, sockets_of);
        assert_eq!(walks.get(), 2);
    }

    #[test]
    fn a_holder_that_is_gone_is_looked_for_again() {
        let mut holders = Holders::default();
        holders.update(&[7].into(), &[process(20, 5)].into(), |_| Ok(vec![7]));

        holders.update(&[7].into(), &[process(21, 6)].into(), |_| Ok(vec![7]));

        assert_eq!(holders.of(7), [process(21, 6)]);
    }

    #[test]
    fn descriptors_that_may_not_be_read_are_said() {
        let mut holders = Holders::default();
        let denied = |_| Err(io::ErrorKind::PermissionDenied.into());
        holders.update(&[7].into(), &[process(20, 5)].into(), denied);
        assert!(holders.denied());
        assert_eq!(holders.of(7), []);
    }
}
