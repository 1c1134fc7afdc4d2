//! Machines that work in concert, and so are never changed two at a time. Whom a tie joins, however
//! faint, belongs together here: business groups, which are drawn closer, stand in `groups`.

use std::collections::HashMap;

use common::id::VmId;

/// Sets of machines that grow together as ties between them are told.
#[derive(Debug, Default)]
pub(super) struct Concert<'a> {
    /// A tied machine's way towards the machine that stands for its group.
    parents: HashMap<&'a VmId, &'a VmId>,
}

impl<'a> Concert<'a> {
    pub(super) fn tie(&mut self, one: &'a VmId, other: &'a VmId) {
        let (one, other) = (self.root(one), self.root(other));
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        if low != high {
            self.parents.insert(high, low);
        }
    }

    /// The machine with the smallest id of a machine's group: itself if it is tied to nobody.
    pub(super) fn root(&mut self, vm: &'a VmId) -> &'a VmId {
        let mut root = vm;
        while let Some(parent) = self.parents.get(root) {
            root = parent;
        }
        // The way is made short, so that a long chain is walked once.
        let mut at = vm;
        while at != root {
            let Some(parent) = self.parents.insert(at, root) else { break };
            at = parent;
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_make_groups_whatever_their_order() {
        let vms: Vec<VmId> = ["a", "b", "c", "d", "e"].map(|id| id.parse().unwrap()).into();
        let ties = [(0, 1), (3, 4), (1, 4)];
        for turn in 0..3 {
            let mut groups = Concert::default();
            for index in 0..3 {
                let (one, other) = ties[(index + turn) % 3];
                groups.tie(&vms[one], &vms[other]);
            }
            let roots: Vec<_> = vms.iter().map(|vm| groups.root(vm).as_str()).collect();
            assert_eq!(roots, ["a", "a", "c", "a", "a"]);
        }
    }
}
