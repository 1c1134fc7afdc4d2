//! Time of children that their parents waited for, without what was counted while they were seen.
//!
//! The kernel adds an ended child's time to its parent when the parent waits for it. A look may read
//! the parent before that moment and find the child gone, or read the child before it and the parent
//! after; so what a parent waited for is settled one look later, when both sides are known, and what a
//! child counted is held against it for two looks more. What is left over was never seen.

use std::collections::HashMap;

use common::id::AppName;

/// Looks for which the time of an ended child is held against what parents waited for.
/// A parent that lets the kernel reap its children never shows it.
const HELD_LOOKS: usize = 3;

/// The balance.
#[derive(Debug, Default)]
pub(super) struct Waited {
    /// What parents waited for: seen by the present look, and by the one before.
    new: Vec<Claim>,
    due: Vec<Claim>,
    /// Time already counted of children that ended, the newest look last.
    counted: [u64; HELD_LOOKS],
    /// Of the children that ended below each parent the one that had used most: what was used after they were
    /// last seen is most likely its.
    heirs: HashMap<u32, Heir>,
    former_heirs: HashMap<u32, Heir>,
}

#[derive(Debug)]
struct Heir {
    application: AppName,
    ms: u64,
}

#[derive(Debug)]
struct Claim {
    parent: u32,
    application: AppName,
    ms: u64,
}

impl Waited {
    /// A process that the look before saw is gone, with `ms` counted of it and of its own children.
    pub(super) fn child_ended(&mut self, parent: u32, application: AppName, ms: u64) {
        self.counted[HELD_LOOKS - 1] += ms;
        if self.heirs.get(&parent).is_none_or(|heir| heir.ms <= ms) {
            self.heirs.insert(parent, Heir { application, ms });
        }
    }

    /// A process waited for `ms` more of children's time since the look before.
    pub(super) fn parent_waited(&mut self, parent: u32, application: &AppName, ms: u64) {
        if ms > 0 {
            self.new.push(Claim { parent, application: application.clone(), ms });
        }
    }

    /// Ends a look: who is to be charged how much.
    pub(super) fn settle(&mut self) -> Vec<(AppName, u64)> {
        let mut charges = Vec::new();
        for claim in std::mem::take(&mut self.due) {
            let unseen = self.unseen(claim.ms);
            if unseen == 0 {
                continue;
            }
            let heir =
                self.heirs.get(&claim.parent).or_else(|| self.former_heirs.get(&claim.parent));
            let heir = heir.map(|heir| heir.application.clone());
            charges.push((heir.unwrap_or(claim.application), unseen));
        }
        self.due = std::mem::take(&mut self.new);
        self.counted.rotate_left(1);
        self.counted[HELD_LOOKS - 1] = 0;
        self.former_heirs = std::mem::take(&mut self.heirs);
        charges
    }

    fn unseen(&mut self, mut ms: u64) -> u64 {
        for counted in &mut self.counted {
            let taken = ms.min(*counted);
            *counted -= taken;
            ms -= taken;
        }
        ms
    }
}
