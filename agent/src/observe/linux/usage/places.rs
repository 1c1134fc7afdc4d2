//! Where the trees of control groups are mounted, and where in them a group's folder is.

use std::path::{Path, PathBuf};

use crate::observe::{
    linux::{
        mounts::{self, Mount},
        processes::text::tree_of,
    },
    seen::{Counter, Group, Tree},
};

/// One tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    tree: Tree,
    /// The group that stands at the mount point; above it nothing can be seen.
    root: String,
    folder: PathBuf,
}

/// All trees that accounts can be kept by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places(Vec<Mounted>);

/// Which part of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// CPU time, and what was waited for it.
    Cpu,
    /// Time held back.
    CpuLimit,
    /// Memory.
    Memory,
    /// Storage.
    Storage,
}

impl Places {
    /// The trees of this machine.
    pub(super) fn find() -> Self {
        Self::of(&mounts::read())
    }

    fn of(mounts: &[Mount]) -> Self {
        let mut places: Vec<Mounted> = Vec::new();
        for mounted in mounts.iter().flat_map(mounted) {
            let known = places.iter_mut().find(|place| place.tree == mounted.tree);
            match known {
                // The mount that shows most of the tree.
                Some(known) if mounted.root.len() < known.root.len() => *known = mounted,
                Some(_) => {}
                None => places.push(mounted),
            }
        }
        Self(places)
    }

    /// A version 2 tree alone, at a folder.
    #[cfg(test)]
    pub(super) fn whole_at(folder: &Path) -> Self {
        let (root, folder) = ("/".to_owned(), folder.to_owned());
        Self(vec![Mounted { tree: Tree::Whole, root, folder }])
    }

    /// The folder of a group; `None` if it cannot be seen from here.
    pub(super) fn folder(&self, group: &Group) -> Option<PathBuf> {
        let mounted = self.0.iter().find(|mounted| mounted.tree == group.tree)?;
        let below = Path::new(&group.path).strip_prefix(&mounted.root).ok()?;
        let is_in_sight = !group.path.split('/').any(|part| part == "..");
        is_in_sight.then(|| mounted.folder.join(below))
    }

    /// Whether a tree keeps a part of the account. A controller of version 1 is not in version 2.
    pub(super) fn keeps(&self, tree: Tree, part: Part) -> bool {
        let own = match part {
            Part::Cpu => Tree::Cpu,
            Part::CpuLimit => Tree::CpuLimit,
            Part::Memory => Tree::Memory,
            Part::Storage => Tree::Storage,
        };
        let is_split = self.0.iter().any(|mounted| mounted.tree == own);
        tree == if is_split { own } else { Tree::Whole }
    }
}

impl Part {
    /// The part that a counter belongs to.
    pub(super) const fn of(counter: Counter) -> Self {
        match counter {
            Counter::Cpu | Counter::WaitedForCpu => Self::Cpu,
            Counter::Throttled => Self::CpuLimit,
            Counter::Killed | Counter::WaitedForMemory => Self::Memory,
            Counter::WaitedForStorage => Self::Storage,
        }
    }
}

/// The trees of one mount; several where controllers share one.
fn mounted(mount: &Mount) -> Vec<Mounted> {
    let trees: Vec<Tree> = match mount.kind.as_str() {
        "cgroup2" => vec![Tree::Whole],
        "cgroup" => {
            let controllers = mount.options.split(',');
            controllers.filter(|name| !name.is_empty()).filter_map(tree_of).collect()
        }
        _ => return Vec::new(),
    };
    let one =
        |tree| Mounted { tree, root: mount.root.clone(), folder: PathBuf::from(&mount.point) };
    trees.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /elsewhere rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn group(tree: Tree, path: &str) -> Group {
        Group { tree, path: path.to_owned() }
    }

    #[test]
    fn each_controller_has_its_folder_by_the_mount_that_shows_most() {
        let places = Places::of(&mounts::parse(SPLIT));
        let folder = |tree| places.folder(&group(tree, "/a/b"));
        let shared = Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!((folder(Tree::Cpu), folder(Tree::CpuLimit)), (shared.clone(), shared));
        assert_eq!(folder(Tree::Memory), Some("/sys/fs/cgroup/mem ory/a/b".into()));
        assert_eq!(folder(Tree::Storage), None);
    }

    #[test]
    fn a_container_sees_its_own_groups_and_no_others() {
        let text = "5 4 0:32 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let places = Places::of(&mounts::parse(text));
        let folder = |path| places.folder(&group(Tree::Whole, path));
        assert_eq!(folder("/docker/abc/x"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!((folder("/docker/abcd"), folder("/docker/abc/../d")), (None, None));
    }

    #[test]
    fn a_part_is_kept_by_one_tree_only() {
        let places = Places::of(&mounts::parse(SPLIT));
        assert!(places.keeps(Tree::Cpu, Part::Cpu) && !places.keeps(Tree::Whole, Part::Cpu));
        assert!(places.keeps(Tree::Whole, Part::Storage));
        let whole = Places::whole_at(Path::new("/sys/fs/cgroup"));
        assert!(whole.keeps(Tree::Whole, Part::Cpu) && !whole.keeps(Tree::Cpu, Part::Cpu));
    }
}
