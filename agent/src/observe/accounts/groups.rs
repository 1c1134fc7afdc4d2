//! Which groups of processes are whose, so that the kernel's account of a group is an application's.
//!
//! A group counts for an application if every process in it and below it is that application's. Of groups
//! within each other the highest counts, for it remembers what ended below it. In each tree an application
//! goes by groups only if they hold all its processes, otherwise something would be left out. The root of a
//! tree holds everybody and is nobody's; neither is a slice, which is there to hold whatever comes.
//!
//! A group that its last process left stays its application's while nobody else moves in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::id::AppName;

use crate::observe::seen::{Group, Tree};

/// Deepest group that is looked at; one below it is no application's.
const MAX_DEPTH: usize = 32;

/// Ending of the names of groups that only hold others.
const SLICE: &str = ".slice";

/// A process: whose it is and where it stands.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Place<'a> {
    pub(in crate::observe) application: &'a AppName,
    /// Empty if it ended before it could be asked.
    pub(in crate::observe) groups: &'a [Group],
}

/// The groups of every application that has some.
#[derive(Debug, Default)]
pub(in crate::observe) struct Choice {
    chosen: BTreeMap<AppName, BTreeMap<Group, Origin>>,
    inhabited: BTreeSet<Group>,
    was_made: bool,
}

/// What a group was before it came to its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::observe) enum Origin {
    /// Nothing: all that the kernel counts in it is the application's.
    New,
    /// It held others, or it is not known whom: what was counted so far is not the application's.
    Others,
}

/// The one whose processes fill a group; `None` if they are several.
type Owners<'a> = HashMap<(Tree, &'a str), Option<&'a AppName>>;

impl Choice {
    /// Chooses anew for the processes there are.
    pub(in crate::observe) fn update(&mut self, places: &[Place<'_>]) {
        let owners = owners(places);
        let mut covered: BTreeMap<(&AppName, Tree), Option<BTreeSet<&str>>> = BTreeMap::new();
        for place in places {
            for group in place.groups {
                let paths = covered.entry((place.application, group.tree));
                let paths = paths.or_insert_with(|| Some(BTreeSet::new()));
                match highest(group, place.application, &owners) {
                    Some(path) => paths.iter_mut().for_each(|paths| _ = paths.insert(path)),
                    None => *paths = None,
                }
            }
        }
        let mut chosen: BTreeMap<AppName, BTreeMap<Group, Origin>> = BTreeMap::new();
        for ((application, tree), paths) in &covered {
            for path in paths.iter().flatten() {
                let group = Group { tree: *tree, path: (*path).to_owned() };
                let is_new = !self.was_made || !self.inhabited.contains(&group);
                let origin = if is_new { Origin::New } else { Origin::Others };
                chosen.entry((*application).clone()).or_default().insert(group, origin);
            }
        }
        for (application, groups) in std::mem::take(&mut self.chosen) {
            let stays = |group: &Group| {
                let is_left = !owners.contains_key(&(group.tree, group.path.as_str()));
                is_left && !matches!(covered.get(&(&application, group.tree)), Some(None))
            };
            let left: Vec<_> = groups.into_iter().filter(|(group, _)| stays(group)).collect();
            if !left.is_empty() {
                chosen.entry(application).or_default().extend(left);
            }
        }
        self.inhabited = owners.keys().map(|(tree, path)| group_at(*tree, path)).collect();
        self.chosen = chosen;
        self.was_made = true;
    }

    /// Every application with its groups.
    pub(in crate::observe) fn iter(
        &self,
    ) -> impl Iterator<Item = (&AppName, &BTreeMap<Group, Origin>)> {
        self.chosen.iter()
    }

    /// Whose group accounts for the memory of what stands at a path.
    pub(in crate::observe) fn owner(&self, path: &str) -> Option<&AppName> {
        let holds = |group: &Group| {
            let is_memory = matches!(group.tree, Tree::Whole | Tree::Memory);
            is_memory && upwards(path).any(|above| above == group.path)
        };
        self.chosen.iter().find(|(_, groups)| groups.keys().any(holds)).map(|(name, _)| name)
    }

    /// Leaves out a group that is no more.
    pub(in crate::observe) fn forget(&mut self, application: &AppName, gone: &Group) {
        if let Some(groups) = self.chosen.get_mut(application) {
            groups.remove(gone);
            if groups.is_empty() {
                self.chosen.remove(application);
            }
        }
    }
}

fn group_at(tree: Tree, path: &str) -> Group {
    Group { tree, path: path.to_owned() }
}

fn owners<'a>(places: &[Place<'a>]) -> Owners<'a> {
    let mut owners = Owners::new();
    for place in places {
        for group in place.groups {
            for path in upwards(&group.path) {
                let owner = owners.entry((group.tree, path)).or_insert(Some(place.application));
                if owner.is_some_and(|owner| owner != place.application) {
                    *owner = None;
                }
            }
        }
    }
    owners
}

/// The highest group around a process that is all its application's.
fn highest<'a>(group: &'a Group, application: &AppName, owners: &Owners<'_>) -> Option<&'a str> {
    let is_own = |path: &str| owners.get(&(group.tree, path)) == Some(&Some(application));
    upwards(&group.path).filter(|path| !path.ends_with(SLICE) && is_own(path)).last()
}

/// A path and those above it, the root left out; none of a path that leads out of what can be seen.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    let is_in_sight = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let first = Some(path).filter(|path| is_in_sight && path.len() > 1);
    let is_too_deep = path.split('/').count() > MAX_DEPTH;
    std::iter::successors(first.filter(|_| !is_too_deep), |path| {
        path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AppName {
        text.parse().unwrap()
    }

    /// Applications of processes, each with its path.
    fn choose(choice: &mut Choice, processes: &[(&str, &str)]) {
        let places: Vec<(AppName, Vec<Group>)> = processes
            .iter()
            .map(|(application, path)| (name(application), vec![group_at(Tree::Whole, path)]))
            .collect();
        let places: Vec<Place<'_>> =
            places.iter().map(|(application, groups)| Place { application, groups }).collect();
        choice.update(&places);
    }

    fn chosen(choice: &Choice) -> Vec<(String, String)> {
        let groups = choice.iter().flat_map(|(application, groups)| {
            groups.keys().map(|group| (application.to_string(), group.path.clone()))
        });
        groups.collect()
    }

    fn pair(application: &str, path: &str) -> (String, String) {
        (application.to_owned(), path.to_owned())
    }

    #[test]
    fn a_group_of_one_application_is_its_and_a_shared_one_is_nobodys() {
        let mut choice = Choice::default();
        let session = "/user.slice/session-2.scope";
        let processes = [
            ("web", "/system.slice/web.service"),
            ("web", "/system.slice/web.service"),
            ("bash", session),
            ("vim", session),
        ];
        choose(&mut choice, &processes);
        assert_eq!(chosen(&choice), [pair("web", "/system.slice/web.service")]);
    }

    #[test]
    fn of_groups_within_each_other_the_highest_counts_but_never_a_slice_or_the_root() {
        let mut choice = Choice::default();
        let processes = [
            ("db", "/only.slice/db.service/workers/1"),
            ("db", "/only.slice/db.service/workers/2"),
            ("lonely", "/lonely.slice"),
        ];
        choose(&mut choice, &processes);
        assert_eq!(chosen(&choice), [pair("db", "/only.slice/db.service")]);
    }

    #[test]
    fn several_groups_add_up_but_only_if_they_hold_all_of_the_application() {
        let mut choice = Choice::default();
        choose(&mut choice, &[("web", "/a"), ("web", "/b")]);
        assert_eq!(chosen(&choice), [pair("web", "/a"), pair("web", "/b")]);

        choose(&mut choice, &[("web", "/a"), ("web", "/b"), ("web", "/c"), ("job", "/c")]);
        assert_eq!(chosen(&choice), []);
    }

    #[test]
    fn what_leads_out_of_sight_is_nobodys() {
        let mut choice = Choice::default();
        choose(&mut choice, &[("web", "/../other"), ("job", "/"), ("db", "relative")]);
        assert_eq!(chosen(&choice), []);
    }

    #[test]
    fn a_group_that_held_others_does_not_bring_their_past_along() {
        let mut choice = Choice::default();
        choose(&mut choice, &[("web", "/a"), ("job", "/a"), ("db", "/d")]);
        choose(&mut choice, &[("web", "/a"), ("db", "/d"), ("web", "/b")]);
        let web = &choice.chosen[&name("web")];
        assert_eq!(web[&group_at(Tree::Whole, "/a")], Origin::Others);
        assert_eq!(web[&group_at(Tree::Whole, "/b")], Origin::New);
    }

    #[test]
    fn an_empty_group_stays_its_applications_until_it_goes_or_others_move_in() {
        let mut choice = Choice::default();
        choose(&mut choice, &[("web", "/a"), ("job", "/b")]);
        choose(&mut choice, &[("other", "/b")]);
        assert_eq!(chosen(&choice), [pair("other", "/b"), pair("web", "/a")]);

        choice.forget(&name("web"), &group_at(Tree::Whole, "/a"));
        choose(&mut choice, &[("other", "/b")]);
        assert_eq!(chosen(&choice), [pair("other", "/b")]);
    }

    #[test]
    fn what_stands_below_a_group_is_its_owners() {
        let mut choice = Choice::default();
        choose(&mut choice, &[("web", "/s.slice/web.service"), ("db", "/s.slice/db.service")]);
        assert_eq!(choice.owner("/s.slice/web.service/inner"), Some(&name("web")));
        assert_eq!((choice.owner("/s.slice"), choice.owner("/")), (None, None));
    }

    #[test]
    fn each_tree_is_chosen_for_by_itself() {
        let mut choice = Choice::default();
        let web = [group_at(Tree::Cpu, "/"), group_at(Tree::Memory, "/m/web")];
        let job = [group_at(Tree::Cpu, "/"), group_at(Tree::Memory, "/m/job")];
        let (web_name, job_name) = (name("web"), name("job"));
        let gone = Place { application: &web_name, groups: &[] };
        choice.update(&[
            Place { application: &web_name, groups: &web },
            Place { application: &job_name, groups: &job },
            gone,
        ]);
        assert_eq!(chosen(&choice), [pair("job", "/m/job"), pair("web", "/m/web")]);
    }
}
