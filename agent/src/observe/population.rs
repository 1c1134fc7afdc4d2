//! The living processes, each with what hardly changes and the application it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use ahash::{HashMap, HashSet};
use common::{
    id::AppName,
    sample::{Process, ProcessKey, ServiceState},
    units::Bytes,
};

use super::{
    accounts::{Charge, groups::Place},
    holders::Candidate,
    naming::{self, Rules, Signs},
    seen::{Group, Moved, Seen, Traits},
};

/// Longest chain of parents followed; a longer one is no application's tree.
const MAX_DEPTH: usize = 64;

/// Looks after which a process is asked again which groups it stands in; hardly one ever moves.
const ROUND: u32 = 32;

/// An application that the agent's own drivers keep. All processes below its root belong to it, and stay
/// its when their parent ends before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervised {
    /// Its name.
    pub application: AppName,
    /// Its first process; `None` while it does not run.
    pub pid: Option<u32>,
    /// Whether it runs.
    pub state: ServiceState,
    /// Whether it starts with the machine.
    pub enabled: bool,
}

/// One living process.
#[derive(Debug)]
pub(super) struct Member {
    seen: Seen,
    traits: Traits,
    /// The traits were read when the process was first seen: it may have been a copy of its parent about
    /// to become another program, so they are read once more.
    is_new: bool,
    /// The supervised application whose tree it was last seen in.
    tree: Option<AppName>,
    application: AppName,
    listed: bool,
}

/// The living processes by number.
#[derive(Debug, Default)]
pub(super) struct Population {
    members: BTreeMap<u32, Member>,
    /// Ports each process listened on at the last look at the sockets.
    listening: HashMap<ProcessKey, BTreeSet<u16>>,
    looks: u32,
    /// Some process came, went, changed its application or its groups.
    moved: bool,
}

impl Population {
    /// Takes one pass over the process table in. `traits_of` reads what is not known yet; one that ended
    /// before that is none that was seen: it may be known by its birth, and a name without a unit is wrong.
    pub(super) fn update(&mut self, seen: Vec<Seen>, traits_of: impl Fn(u32) -> Option<Traits>) {
        let mut former = std::mem::take(&mut self.members);
        for seen in seen {
            let pid = seen.key.pid;
            let known = former.remove(&pid).filter(|member| member.seen.key == seen.key);
            let member = match known {
                Some(member) if member.seen.name == seen.name && !member.is_new => {
                    Member { seen, ..member }
                }
                Some(member) => {
                    self.moved = true;
                    let traits = traits_of(pid).unwrap_or_else(|| member.traits.clone());
                    Member { traits, is_new: false, seen, ..member }
                }
                None => {
                    self.moved = true;
                    let Some(traits) = traits_of(pid) else { continue };
                    Member::new(seen, traits)
                }
            };
            self.members.insert(pid, member);
        }
        self.moved |= !former.is_empty();
    }

    /// Asks some of the processes anew which unit and groups they belong to; in a round it comes to all.
    pub(super) fn stand(
        &mut self,
        groups_of: impl Fn(u32) -> Option<(Option<String>, Vec<Group>)>,
    ) {
        self.looks = self.looks.wrapping_add(1);
        for (pid, member) in &mut self.members {
            let is_due = self.looks.wrapping_add(*pid).is_multiple_of(ROUND);
            if !is_due || member.is_over() {
                continue;
            }
            let Some((unit, groups)) = groups_of(*pid) else { continue };
            self.moved |= groups != member.traits.groups;
            member.traits.unit = unit;
            member.traits.groups = groups;
        }
    }

    /// Whether some process came, went, changed its application or its groups since this was last asked.
    pub(super) const fn has_moved(&mut self) -> bool {
        std::mem::replace(&mut self.moved, false)
    }

    /// Every process with its application and where it stands.
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let places = self.members.values().map(|member| Place {
            application: &member.application,
            groups: if member.is_over() { &[] } else { &member.traits.groups },
        });
        places.collect()
    }

    /// The processes of some applications.
    pub(super) fn members_of(&self, applications: &BTreeSet<&AppName>) -> HashSet<ProcessKey> {
        if applications.is_empty() {
            return HashSet::default();
        }
        let members = self.members.values();
        let members = members.filter(|member| applications.contains(&member.application));
        members.map(|member| member.seen.key).collect()
    }

    /// Takes in some processes that were seen again between two passes.
    pub(super) fn glance(&mut self, seen: Vec<Seen>) -> Vec<Charge<'_>> {
        let mut glanced = Vec::new();
        for seen in seen {
            let pid = seen.key.pid;
            if let Some(member) = self.members.get_mut(&pid).filter(|it| it.seen.key == seen.key) {
                member.seen = Seen { name: std::mem::take(&mut member.seen.name), ..seen };
                glanced.push(pid);
            }
        }
        glanced.iter().filter_map(|pid| self.members.get(pid)).map(Member::charge).collect()
    }

    /// Notes which process listens where; [`Self::name`] uses it.
    pub(super) fn listen(&mut self, listening: HashMap<ProcessKey, BTreeSet<u16>>) {
        self.listening = listening;
    }

    /// Gives every process its application.
    pub(super) fn name(&mut self, rules: &Rules, supervised: &[Supervised]) {
        let roots: HashMap<u32, &AppName> =
            supervised.iter().filter_map(|one| Some((one.pid?, &one.application))).collect();
        let parents: HashMap<u32, u32> =
            self.members.iter().map(|(pid, member)| (*pid, member.seen.parent)).collect();
        let no_port = BTreeSet::new();
        for (pid, member) in &mut self.members {
            if let Some(root) = root_of(*pid, &parents, &roots) {
                member.tree = Some(root.clone());
            }
            let signs = Signs {
                name: &member.seen.name,
                executable: member.traits.executable.as_deref(),
                unit: member.traits.unit.as_deref(),
                ports: self.listening.get(&member.seen.key).unwrap_or(&no_port),
            };
            let listed = member.tree.as_ref().or_else(|| rules.name(&signs)).cloned();
            let application = listed.unwrap_or_else(|| naming::unlisted(&signs));
            // By name, not by how this process got it: one application has one row.
            let listed = member.tree.is_some() || rules.list(&application);
            self.moved |= member.application != application;
            member.listed = listed;
            member.application = application;
        }
    }

    /// Every process as its application's account takes it.
    pub(super) fn charges(&self) -> Vec<Charge<'_>> {
        self.members.values().map(Member::charge).collect()
    }

    /// Every process with its CPU time and its application, and whether that is listed.
    pub(super) fn movers(&self) -> impl Iterator<Item = (ProcessKey, u64, &AppName, bool)> {
        self.members.values().map(|member| {
            let cpu_ms = member.seen.cpu_ms.saturating_add(member.seen.waited_ms);
            (member.seen.key, cpu_ms, &member.application, member.listed)
        })
    }

    /// The application of a process that came after the last pass, by what is read of it now.
    pub(super) fn stranger(&self, seen: &Seen, traits: &Traits, rules: &Rules) -> AppName {
        let tree = self.members.get(&seen.parent).and_then(|parent| parent.tree.as_ref());
        let signs = Signs {
            name: &seen.name,
            executable: traits.executable.as_deref(),
            unit: traits.unit.as_deref(),
            ports: &BTreeSet::new(),
        };
        let listed = tree.or_else(|| rules.name(&signs)).cloned();
        listed.unwrap_or_else(|| naming::unlisted(&signs))
    }

    /// What was last seen of the process that has a number now.
    pub(super) fn known(&self, pid: u32) -> Option<(&Seen, &Traits)> {
        self.members.get(&pid).map(|member| (&member.seen, &member.traits))
    }

    /// The application of the process that has a number now.
    pub(super) fn application_of(&self, pid: u32) -> Option<&AppName> {
        self.members.get(&pid).map(|member| &member.application)
    }

    /// The application of all processes of a unit; `None` if they belong to several.
    pub(super) fn units(&self) -> HashMap<&str, Option<&AppName>> {
        let mut units: HashMap<&str, Option<&AppName>> = HashMap::default();
        for member in self.members.values() {
            let Some(unit) = member.traits.unit.as_deref() else { continue };
            let known = units.entry(unit).or_insert(Some(&member.application));
            *known = known.filter(|known| **known == member.application);
        }
        units
    }

    /// The processes as those that may hold a socket.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        let candidates = self.members.values().map(|member| Candidate {
            key: member.seen.key,
            user: member.traits.user,
            unit: member.traits.unit.as_deref(),
        });
        candidates.collect()
    }

    /// The application of each process.
    pub(super) fn applications(&self) -> HashMap<ProcessKey, AppName> {
        let named = self.members.values();
        named.map(|member| (member.seen.key, member.application.clone())).collect()
    }

    /// Ports each application listens on.
    pub(super) fn ports(&self) -> BTreeMap<AppName, BTreeSet<u16>> {
        let mut ports: BTreeMap<AppName, BTreeSet<u16>> = BTreeMap::new();
        for (key, listened) in &self.listening {
            let member = self.members.get(&key.pid).filter(|member| member.seen.key == *key);
            if let Some(member) = member {
                ports.entry(member.application.clone()).or_default().extend(listened);
            }
        }
        ports
    }

    /// The processes as rows of an observation; `moved_by` says what each moved.
    pub(super) fn rows(
        &self,
        moved_by: impl Fn(ProcessKey) -> Option<Moved>,
    ) -> BTreeMap<ProcessKey, Process> {
        let rows = self.members.values().map(|member| {
            let moved = moved_by(member.seen.key);
            let row = Process {
                parent: member.seen.parent,
                name: member.seen.name.clone(),
                executable: member.traits.executable.clone(),
                user: member.traits.user,
                unit: member.traits.unit.clone(),
                application: Some(member.application.clone()),
                cpu_ms: member.seen.cpu_ms,
                resident: member.seen.resident,
                read: moved.map(|moved| Bytes(moved.storage.read)),
                written: moved.map(|moved| Bytes(moved.storage.written)),
                reads: moved.map(|moved| moved.reads),
                writes: moved.map(|moved| moved.writes),
                arguments: member.traits.arguments.clone(),
            };
            (member.seen.key, row)
        });
        rows.collect()
    }
}

impl Member {
    fn new(seen: Seen, traits: Traits) -> Self {
        let ports = BTreeSet::new();
        let signs = Signs { name: &seen.name, executable: None, unit: None, ports: &ports };
        let application = naming::unlisted(&signs);
        Self { seen, traits, is_new: true, tree: None, application, listed: false }
    }

    fn charge(&self) -> Charge<'_> {
        Charge {
            key: self.seen.key,
            parent: self.seen.parent,
            application: &self.application,
            listed: self.listed,
            cpu_ms: self.seen.cpu_ms,
            waited_ms: self.seen.waited_ms,
            resident: self.seen.resident,
        }
    }

    /// It ended and was not waited for yet: it has no memory, and where it stands is told wrongly.
    const fn is_over(&self) -> bool {
        self.seen.resident.0 == 0
    }
}

/// The supervised application whose tree `pid` stands in.
fn root_of<'a>(
    pid: u32,
    parents: &HashMap<u32, u32>,
    roots: &HashMap<u32, &'a AppName>,
) -> Option<&'a AppName> {
    let mut at = pid;
    for _ in 0..MAX_DEPTH {
        if let Some(application) = roots.get(&at) {
            return Some(application);
        }
        at = *parents.get(&at)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::*;
    use crate::observe::naming::Rule;

    fn name(text: &str) -> AppName {
        text.parse().unwrap()
    }

    fn seen(pid: u32, parent: u32, name: &str) -> Seen {
        Seen {
            key: ProcessKey { pid, started_at: Timestamp::from_millis(u64::from(pid)) },
            parent,
            name: name.to_owned(),
            cpu_ms: 0,
            waited_ms: 0,
            resident: Bytes(0),
        }
    }

    fn supervised(application: &str, pid: u32) -> Supervised {
        let state = ServiceState::Active;
        Supervised { application: name(application), pid: Some(pid), state, enabled: true }
    }

    fn application(population: &Population, pid: u32) -> &str {
        population.members[&pid].application.as_str()
    }

    fn traits(executable: &str) -> Option<Traits> {
        Some(Traits { executable: Some(executable.to_owned()), ..Traits::default() })
    }

    #[test]
    fn the_supervised_tree_goes_before_a_rule_and_a_rule_before_the_file() {
        let executable = Some("/usr/bin/python3".to_owned());
        let rules =
            Rules(vec![Rule { application: name("by-rule"), executable, unit: None, port: None }]);
        let mut population = Population::default();
        let rows =
            vec![seen(1, 0, "init"), seen(10, 1, "sh"), seen(11, 10, "py"), seen(12, 1, "py")];
        population
            .update(rows, |pid| traits(if pid > 10 { "/usr/bin/python3" } else { "/bin/sh" }));

        population.name(&rules, &[supervised("report", 10)]);

        assert_eq!(application(&population, 10), "report");
        assert_eq!(application(&population, 11), "report");
        assert_eq!(application(&population, 12), "by-rule");
        assert_eq!(application(&population, 1), "sh");
        assert!(population.members[&11].listed && population.members[&12].listed);
        assert!(!population.members[&1].listed);
    }

    #[test]
    fn a_process_that_outlives_its_parent_stays_in_its_tree() {
        let mut population = Population::default();
        let report = [supervised("report", 10)];
        population.update(vec![seen(10, 1, "sh"), seen(11, 10, "py")], |_| traits("/bin/sh"));
        population.name(&Rules::default(), &report);

        population.update(vec![seen(11, 1, "py")], |_| traits("/bin/sh"));
        population.name(&Rules::default(), &[]);

        assert_eq!(application(&population, 11), "report");
    }

    #[test]
    fn a_copy_that_became_another_program_is_read_again() {
        let mut population = Population::default();
        population.update(vec![seen(10, 1, "sh")], |_| traits("/bin/sh"));
        population.update(vec![seen(10, 1, "sh")], |_| traits("/usr/bin/nginx"));
        population.name(&Rules::default(), &[]);
        assert_eq!(application(&population, 10), "nginx");

        population.update(vec![seen(10, 1, "sh")], |_| panic!("it is known by now"));
        population.update(vec![seen(10, 1, "top")], |_| traits("/usr/bin/top"));
        population.name(&Rules::default(), &[]);
        assert_eq!(application(&population, 10), "top");
    }

    #[test]
    fn one_that_ended_before_it_was_read_is_none_and_one_that_was_known_keeps_its_unit() {
        let unit = Some("web.service".to_owned());
        let mut population = Population::default();
        population.update(vec![seen(10, 1, "sh")], |_| {
            Some(Traits { unit: unit.clone(), ..Traits::default() })
        });
        population.update(vec![seen(10, 1, "sh"), seen(11, 10, "curl")], |_| None);
        population.name(&Rules::default(), &[]);

        assert_eq!(application(&population, 10), "web");
        assert_eq!(population.application_of(11), None);
    }

    #[test]
    fn a_port_names_its_listener() {
        let rule = Rule { application: name("web"), executable: None, unit: None, port: Some(80) };
        let mut population = Population::default();
        population.update(vec![seen(10, 1, "a"), seen(11, 1, "b")], |_| Some(Traits::default()));
        let listener = seen(11, 1, "b").key;
        population.listen([(listener, BTreeSet::from([80]))].into_iter().collect());

        population.name(&Rules(vec![rule]), &[]);

        assert_eq!(application(&population, 10), "a");
        assert_eq!(application(&population, 11), "web");
        assert_eq!(population.ports(), [(name("web"), BTreeSet::from([80]))].into());
    }

    #[test]
    fn a_circle_of_parents_ends_the_search() {
        let mut population = Population::default();
        population.update(vec![seen(10, 11, "a"), seen(11, 10, "b")], |_| Some(Traits::default()));
        population.name(&Rules::default(), &[supervised("web", 99)]);
        assert_eq!(application(&population, 10), "a");
    }
}
