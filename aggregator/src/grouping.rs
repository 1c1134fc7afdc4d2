//! What the operator says of business groups: which machines belong to which, which belong together
//! or apart, and whose services everybody shares. It holds whatever the edges say.

use std::collections::{BTreeMap, BTreeSet};

use common::id::VmId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Named groups, and sets of machines, at most.
const MOST_SETS: usize = 1_000;
/// Machines of one set that are to be in one group, at most.
const MOST_TOGETHER: usize = 10_000;
/// Machines of one set no two of which may be in one group, at most: every pair is a rule.
const MOST_APART: usize = 100;
/// Longest name of a group.
const LONGEST_NAME: usize = 64;

/// A service that everybody shares, such as a name server: it binds nobody to anybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SharedService {
    /// The machine it runs on.
    pub vm: VmId,
    /// On which port; `None` for all of the machine.
    #[serde(default)]
    pub port: Option<u16>,
}

/// The rules of grouping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRules {
    /// Counts the changes, so that nobody overwrites what he has not seen.
    pub version: u64,
    /// Machines pinned to a group of that name.
    pub named: BTreeMap<String, BTreeSet<VmId>>,
    /// Machines of each set are in one group.
    pub together: Vec<BTreeSet<VmId>>,
    /// No two machines of a set are in one group.
    pub apart: Vec<BTreeSet<VmId>>,
    /// What everybody shares.
    pub shared: BTreeSet<SharedService>,
}

/// A rule nobody can work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} is {value}; {remedy}")]
pub struct BadRules {
    /// Which field.
    pub field: String,
    /// What was written.
    pub value: String,
    /// What may be written.
    pub remedy: String,
}

impl GroupRules {
    /// The machines that must be in one group, set by set, those of named groups first.
    pub fn joined(&self) -> impl Iterator<Item = &BTreeSet<VmId>> {
        self.named.values().chain(&self.together)
    }

    /// Whether a service on a machine is on the operator's list.
    #[must_use]
    pub fn is_shared(&self, vm: &VmId, port: u16) -> bool {
        let listed = |port| self.shared.contains(&SharedService { vm: vm.clone(), port });
        !self.shared.is_empty() && (listed(None) || listed(Some(port)))
    }

    /// Checks every rule, and that none contradicts another.
    ///
    /// # Errors
    ///
    /// The first that nobody can work with.
    pub fn check(&self) -> Result<(), BadRules> {
        self.check_sizes()?;
        let mut groups = Joined::default();
        for (name, machines) in &self.named {
            for vm in machines {
                if let Some(other) = groups.name(vm).filter(|other| *other != name.as_str()) {
                    let remedy = format!("it is pinned to {other} too; pin it to one group");
                    return Err(bad(format!("named.{name}"), vm, remedy));
                }
                groups.pin(vm, name);
            }
        }
        for (at, machines) in self.together.iter().enumerate() {
            if let Some((vm, one, other)) = groups.join(machines) {
                let remedy = format!("it would make {one} and {other} one; drop this merge");
                return Err(bad(format!("together[{at}]"), vm, remedy));
            }
        }
        for (at, machines) in self.apart.iter().enumerate() {
            let mut seen = BTreeMap::new();
            for vm in machines {
                if let Some(other) = seen.insert(groups.group(vm), vm) {
                    let remedy = format!("it is held together with {other}; drop one of the rules");
                    return Err(bad(format!("apart[{at}]"), vm, remedy));
                }
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), BadRules> {
        for (field, sets) in [
            ("named", self.named.len()),
            ("together", self.together.len()),
            ("apart", self.apart.len()),
            ("shared", self.shared.len()),
        ] {
            if sets > MOST_SETS {
                return Err(bad(field, sets, format!("write at most {MOST_SETS} of them")));
            }
        }
        for name in self.named.keys() {
            let is_plain = |c: char| c.is_alphanumeric() || " -_.".contains(c);
            let is_right = !name.trim().is_empty() && name.chars().all(is_plain);
            if !is_right || name.len() > LONGEST_NAME {
                let remedy = format!(
                    "write letters, digits, blanks, dots, - or _, {LONGEST_NAME} bytes at most"
                );
                return Err(bad("named", format!("{name:?}"), remedy));
            }
        }
        let named = self.named.values().map(|set| ("named", set, 1, MOST_TOGETHER));
        let together = self.together.iter().map(|set| ("together", set, 2, MOST_TOGETHER));
        let apart = self.apart.iter().map(|set| ("apart", set, 2, MOST_APART));
        for (field, set, least, most) in named.chain(together).chain(apart) {
            if !(least..=most).contains(&set.len()) {
                let told = format!("a set of {}", set.len());
                return Err(bad(field, told, format!("write {least} to {most} machines")));
            }
        }
        Ok(())
    }
}

fn bad(field: impl Into<String>, value: impl ToString, remedy: String) -> BadRules {
    BadRules { field: field.into(), value: value.to_string(), remedy }
}

/// Machines held together, as rules are taken in one after the other.
#[derive(Debug, Default)]
struct Joined<'a> {
    parents: BTreeMap<&'a VmId, &'a VmId>,
    names: BTreeMap<&'a VmId, &'a str>,
    /// A machine of each name.
    firsts: BTreeMap<&'a str, &'a VmId>,
}

impl<'a> Joined<'a> {
    fn group(&self, vm: &'a VmId) -> &'a VmId {
        let mut at = vm;
        while let Some(parent) = self.parents.get(at) {
            at = parent;
        }
        at
    }

    fn name(&self, vm: &'a VmId) -> Option<&'a str> {
        self.names.get(self.group(vm)).copied()
    }

    fn pin(&mut self, vm: &'a VmId, name: &'a str) {
        let first = *self.firsts.entry(name).or_insert(vm);
        self.names.insert(first, name);
        if self.group(vm) != first {
            self.parents.insert(vm, first);
        }
    }

    /// Joins machines; the first that would make two named groups one, with their names.
    fn join(&mut self, machines: &'a BTreeSet<VmId>) -> Option<(&'a VmId, &'a str, &'a str)> {
        let first = machines.first()?;
        for vm in machines {
            let (one, other) = (self.group(first), self.group(vm));
            if one == other {
                continue;
            }
            match (self.names.get(one).copied(), self.names.get(other).copied()) {
                (Some(name), Some(second)) => return Some((vm, name, second)),
                (None, Some(_)) => drop(self.parents.insert(one, other)),
                _ => drop(self.parents.insert(other, one)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(names: [&str; N]) -> BTreeSet<VmId> {
        names.map(|name| name.parse().unwrap()).into()
    }

    fn rules() -> GroupRules {
        GroupRules {
            named: [("shop".to_owned(), set(["a", "b"])), ("bank".to_owned(), set(["c"]))].into(),
            together: vec![set(["c", "d"]), set(["e", "f"])],
            apart: vec![set(["a", "d", "e"])],
            ..GroupRules::default()
        }
    }

    fn refused(rules: &GroupRules) -> String {
        rules.check().unwrap_err().to_string()
    }

    #[test]
    fn rules_that_go_together_are_right() {
        assert_eq!(rules().check(), Ok(()));
        assert_eq!(GroupRules::default().check(), Ok(()));
    }

    #[test]
    fn a_machine_pinned_twice_is_named() {
        let mut rules = rules();
        rules.named.insert("zoo".to_owned(), set(["b"]));
        assert_eq!(
            refused(&rules),
            "named.zoo is b; it is pinned to shop too; pin it to one group"
        );
    }

    #[test]
    fn a_merge_of_two_named_groups_is_refused() {
        let mut rules = rules();
        rules.together.push(set(["d", "e"]));
        rules.together.push(set(["b", "f"]));
        let told = refused(&rules);
        assert!(told.starts_with("together[3] is f; it would make shop and bank one"), "{told}");
    }

    #[test]
    fn a_split_of_what_is_held_together_is_refused() {
        let mut rules = rules();
        rules.apart.push(set(["e", "f"]));
        let told = refused(&rules);
        assert_eq!(told, "apart[1] is f; it is held together with e; drop one of the rules");
    }

    #[test]
    fn sets_of_one_and_names_of_nothing_are_refused() {
        let one = GroupRules { together: vec![set(["a"])], ..GroupRules::default() };
        assert_eq!(refused(&one), "together is a set of 1; write 2 to 10000 machines");
        let nameless =
            GroupRules { named: [(" ".to_owned(), set(["a"]))].into(), ..GroupRules::default() };
        assert!(refused(&nameless).starts_with("named is \" \"; write letters"));
    }

    #[test]
    fn a_service_is_shared_by_its_port_or_by_all_of_its_machine() {
        let vm: VmId = "a".parse().unwrap();
        let with = |port| GroupRules {
            shared: [SharedService { vm: vm.clone(), port }].into(),
            ..GroupRules::default()
        };
        assert!(with(Some(53)).is_shared(&vm, 53) && !with(Some(53)).is_shared(&vm, 80));
        assert!(with(None).is_shared(&vm, 80));
    }
}
