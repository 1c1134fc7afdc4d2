//! Whose a thread was that is gone: the births of threads and processes, as the kernel told them.
//!
//! Pure. A process stands where the one that made it stands until somebody moves it, and the kernel tells both;
//! so a program that lived for a millisecond is known by those it came from, though nobody saw it. What was not
//! told is not guessed.

use std::collections::HashMap;

use crate::observe::seen::{Kin, Standing};

/// Most births of one half. Of the older half those go that are older than all of the younger.
const MOST: usize = 4096;

/// Most steps from one to another: a shell in a shell in a shell is three.
const DEEPEST: usize = 32;

/// Flags of clone(2): a thread of the same process, and one that begins in a group of its own.
const THREAD: u64 = 0x1_0000;
const INTO_GROUP: u64 = 0x2_0000_0000;

/// One birth.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Birth {
    /// The thread that made it.
    parent: u32,
    is_thread: bool,
    standing: Standing,
}

/// The births that are remembered, by number of the thread.
#[derive(Debug, Default)]
pub(super) struct Births {
    young: HashMap<u32, Birth>,
    old: HashMap<u32, Birth>,
}

/// Where a line of descent begins that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The nearest thread above that lives, or of whose birth nothing was told.
    pub(super) thread: u32,
    /// The process and what it has of its kin; `None` if it is the process of that thread itself.
    pub(super) process: Option<(u32, Standing)>,
}

impl Origin {
    /// As it is told, once the process of the thread above is known.
    pub(super) fn told(self, ancestor: u32) -> (u32, Option<Kin>) {
        match self.process {
            Some((process, standing)) => (process, Some(Kin { ancestor, standing })),
            None => (ancestor, None),
        }
    }
}

impl Births {
    /// `thread` was made by `parent`, with these flags of clone(2).
    pub(super) fn born(&mut self, thread: u32, parent: u32, flags: u64) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        let is_placed = flags & INTO_GROUP != 0;
        let standing = if is_placed { Standing::Unknown } else { Standing::Inherited };
        self.old.remove(&thread);
        self.young.insert(thread, Birth { parent, is_thread: flags & THREAD != 0, standing });
    }

    /// A process was moved to a group: of a service, if `unit` names one. Others of those told are of trees that
    /// say nothing of services, unless `is_whole`.
    pub(super) fn moved(&mut self, process: u32, unit: Option<&str>, is_whole: bool) {
        let birth = self.young.get_mut(&process).or_else(|| self.old.get_mut(&process));
        let Some(birth) = birth else { return };
        match unit {
            Some(unit) => birth.standing = Standing::In(unit.to_owned()),
            None if is_whole => birth.standing = Standing::Nowhere,
            None => {}
        }
    }

    /// From whom `thread` came; `None` if nothing was told of it.
    pub(super) fn origin(&self, thread: u32, lives: impl Fn(u32) -> bool) -> Option<Origin> {
        let mut origin = Origin { thread, process: None };
        for _ in 0..DEEPEST {
            let Some(birth) = self.of(origin.thread) else { break };
            if !birth.is_thread {
                let (process, standing) =
                    origin.process.take().unwrap_or((origin.thread, Standing::Inherited));
                let is_open = standing == Standing::Inherited;
                let standing = if is_open { birth.standing.clone() } else { standing };
                origin.process = Some((process, standing));
            }
            origin.thread = birth.parent;
            if lives(birth.parent) {
                break;
            }
        }
        (origin.thread != thread).then_some(origin)
    }

    fn of(&self, thread: u32) -> Option<&Birth> {
        self.young.get(&thread).or_else(|| self.old.get(&thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORK: u64 = 0x120_0000;

    fn births(told: &[(u32, u32, u64)]) -> Births {
        let mut births = Births::default();
        for (thread, parent, flags) in told {
            births.born(*thread, *parent, *flags);
        }
        births
    }

    fn origin(births: &Births, thread: u32, alive: &[u32]) -> Option<(u32, Option<Kin>)> {
        let origin = births.origin(thread, |thread| alive.contains(&thread))?;
        let ancestor = origin.thread;
        Some(origin.told(ancestor))
    }

    fn kin(ancestor: u32, standing: Standing) -> Option<Kin> {
        Some(Kin { ancestor, standing })
    }

    #[test]
    fn a_program_that_is_gone_is_known_by_the_nearest_that_lives() {
        let births = births(&[(20, 10, FORK), (30, 20, FORK), (40, 30, FORK)]);
        assert_eq!(origin(&births, 40, &[10, 1]), Some((40, kin(10, Standing::Inherited))));
        assert_eq!(origin(&births, 40, &[20, 10]), Some((40, kin(20, Standing::Inherited))));
        // It is gone too, and may still be known from the last look.
        assert_eq!(origin(&births, 40, &[]), Some((40, kin(10, Standing::Inherited))));
        assert_eq!(origin(&births, 50, &[10]), None);
    }

    #[test]
    fn a_thread_that_is_gone_is_its_process_and_not_its_child() {
        let births = births(&[(11, 10, THREAD), (20, 11, FORK), (21, 20, THREAD)]);
        assert_eq!(origin(&births, 11, &[10]), Some((10, None)));
        assert_eq!(origin(&births, 21, &[10]), Some((20, kin(10, Standing::Inherited))));
    }

    #[test]
    fn who_was_moved_stands_where_it_was_moved_to_and_so_do_its_children() {
        let mut births = births(&[(20, 1, FORK), (30, 20, FORK), (40, 20, FORK), (50, 1, FORK)]);
        births.moved(20, Some("web.service"), true);
        births.moved(40, None, true);
        births.moved(50, None, false);
        births.moved(60, Some("nobody.service"), true);

        let web = Standing::In("web.service".to_owned());
        assert_eq!(origin(&births, 30, &[1]), Some((30, kin(1, web))));
        assert_eq!(origin(&births, 40, &[1]), Some((40, kin(1, Standing::Nowhere))));
        assert_eq!(origin(&births, 50, &[1]), Some((50, kin(1, Standing::Inherited))));
    }

    #[test]
    fn who_began_in_a_group_that_was_not_told_is_not_taken_for_its_parents() {
        let births = births(&[(20, 1, INTO_GROUP | FORK), (30, 20, FORK)]);
        assert_eq!(origin(&births, 30, &[1]), Some((30, kin(1, Standing::Unknown))));
    }

    #[test]
    fn a_number_that_is_used_again_is_its_last_bearer() {
        let births = births(&[(20, 10, FORK), (20, 11, FORK)]);
        assert_eq!(origin(&births, 20, &[10, 11]), Some((20, kin(11, Standing::Inherited))));
    }

    #[test]
    fn the_oldest_are_forgotten_and_a_circle_ends() {
        let mut births = births(&[(20, 10, FORK), (7, 8, FORK), (8, 7, FORK)]);
        assert_eq!(origin(&births, 7, &[]), None);
        for thread in 1_000..1_000 + 2 * u32::try_from(MOST).unwrap() {
            births.born(thread, 10, FORK);
        }
        assert_eq!(origin(&births, 20, &[10]), None);
        assert!(births.young.len() + births.old.len() <= 2 * MOST);
    }
}
