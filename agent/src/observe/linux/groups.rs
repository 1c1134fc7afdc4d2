//! The names of control groups: the service, scope or container that a path or the kernel's number stands for.
//!
//! The kernel tells of a socket the number of the control group (version 2) that made it, which is the inode of
//! the group's folder. To find it the tree is walked, when a number is asked for that the last walk did not see,
//! and not more often than it is worth. A group that is gone keeps its name: its sockets outlive it.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::mounts::{self, Mount};

/// Most groups that are known at a time; more than one machine sensibly runs.
const MOST: usize = 16_384;

/// Deepest folder that is looked into. systemd and the container runtimes stay below ten.
const DEEPEST: usize = 24;

/// Time between two walks: at least this, and so many times what the last one took.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);
const WALK_SHARE: u32 = 50;

/// Characters of a container's id that people use.
const SHORT_ID: usize = 12;

/// Names groups by their number.
#[derive(Debug)]
pub(in crate::observe) struct Groups {
    /// Where version 2 is mounted; `None` if it is not.
    root: Option<PathBuf>,
    names: HashMap<u64, Option<Arc<str>>>,
    /// When the tree was walked last, and when that may be done again.
    again_at: Option<Instant>,
}

impl Groups {
    /// Names of the tree that this process sees mounted.
    pub(in crate::observe) fn new() -> Self {
        Self::below(mounted(&mounts::read()))
    }

    fn below(root: Option<PathBuf>) -> Self {
        Self { root, names: HashMap::new(), again_at: None }
    }

    /// The name of the service, scope, container or plain folder that `id` ([`Row::cgroup`]) is, by
    /// [`unit_of`]; `None` of the root, of a group that is outside of what this process sees, and of one that
    /// was gone before it was first asked for.
    ///
    /// Costs a look into a table, but for a number that was never asked for: then a walk over the tree, of
    /// which there is one in a second at most.
    ///
    /// [`Row::cgroup`]: crate::observe::seen::Row::cgroup
    pub(in crate::observe) fn unit(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let now = Instant::now();
        if self.again_at.is_some_and(|again_at| now < again_at) {
            return None;
        }
        self.walk();
        self.again_at = Some(Instant::now() + BETWEEN_WALKS.max(now.elapsed() * WALK_SHARE));
        // What was not there now never will be: the kernel does not use a number again.
        self.names.entry(id).or_default().clone()
    }

    fn walk(&mut self) {
        if self.names.len() > MOST {
            // Of these most are gone.
            self.names.clear();
        }
        let Some(root) = self.root.clone() else { return };
        if let Ok(inode) = fs::metadata(&root).map(|metadata| metadata.ino()) {
            self.names.insert(inode, None);
        }
        let mut folders = vec![(root.clone(), 0)];
        let mut seen = 0;
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || seen == MOST {
                    continue;
                }
                seen += 1;
                let path = entry.path();
                let name = path.strip_prefix(&root).ok().and_then(Path::to_str).and_then(unit_of);
                self.names.insert(entry.ino(), name.map(Arc::from));
                if depth < DEEPEST {
                    folders.push((path, depth + 1));
                }
            }
        }
    }
}

/// The folder where control groups of version 2 are mounted.
fn mounted(mounts: &[Mount]) -> Option<PathBuf> {
    let tree = mounts.iter().find(|mount| mount.kind == "cgroup2");
    tree.map(|mount| PathBuf::from(&mount.point))
}

/// The innermost service of a control group's path: `/system.slice/nginx.service` is `nginx.service`.
pub(in crate::observe) fn service_of(path: &str) -> Option<&str> {
    path.rsplit('/').find(|part| is_service(part))
}

fn is_service(part: &str) -> bool {
    part.len() > ".service".len() && part.ends_with(".service")
}

/// What a control group's path stands for: the innermost service, container or scope, else the innermost
/// folder; `None` of the root. A container goes by its runtime and the start of its id: `docker-0123456789ab`.
fn unit_of(path: &str) -> Option<Cow<'_, str>> {
    let parts = || path.rsplit('/').filter(|part| !part.is_empty());
    let outer = |part: &str| path.split_once(part).map_or("", |(outer, _)| outer);
    let named = parts().find_map(|part| {
        if is_service(part) {
            return Some(Cow::Borrowed(part));
        }
        // A manager within a service has its own processes in a scope of this name; they are the service's.
        let is_scope = part.ends_with(".scope") && part != "init.scope";
        container(part, outer(part)).or_else(|| is_scope.then_some(Cow::Borrowed(part)))
    });
    named.or_else(|| parts().next().map(Cow::Borrowed))
}

/// The container that `part` of a path is, below `outer`.
fn container<'a>(part: &'a str, outer: &str) -> Option<Cow<'a, str>> {
    if let Some(name) =
        part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("lxc.monitor."))
    {
        return Some(Cow::Borrowed(name));
    }
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let (runtime, id) = stem.rsplit_once('-').unwrap_or((runtime_of(outer), stem));
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let runtime = runtime.strip_suffix("-conmon").unwrap_or(runtime);
    (is_id && !runtime.is_empty()).then(|| format!("{runtime}-{}", &id[..SHORT_ID]).into())
}

/// Whose containers live below a path, if their folders do not say it themselves.
fn runtime_of(outer: &str) -> &'static str {
    ["kubepods", "docker", "libpod", "lxc"]
        .into_iter()
        .find(|runtime| outer.contains(runtime))
        .unwrap_or("container")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_service_is_the_innermost_of_the_path() {
        assert_eq!(service_of("/system.slice/nginx.service"), Some("nginx.service"));
        let nested = "/user.slice/user-1000.slice/user@1000.service/app.slice/chat.service/inner";
        assert_eq!(service_of(nested), Some("chat.service"));
        assert_eq!(service_of("/user.slice/session-2.scope"), None);
        assert_eq!(service_of("/.service"), None);
    }

    #[test]
    fn a_path_stands_for_its_innermost_service_container_or_scope() {
        let cases = [
            ("/system.slice/nginx.service".to_owned(), "nginx.service"),
            ("system.slice/docker.service/inner".to_owned(), "docker.service"),
            ("/user.slice/user-0.slice/session-2.scope".to_owned(), "session-2.scope"),
            ("/user@1000.service/init.scope".to_owned(), "user@1000.service"),
            ("/init.scope".to_owned(), "init.scope"),
            (format!("/system.slice/docker-{ID}.scope"), "docker-0123456789ab"),
            (format!("/docker/{ID}"), "docker-0123456789ab"),
            (format!("/machine.slice/libpod-{ID}.scope/container"), "libpod-0123456789ab"),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), "libpod-0123456789ab"),
            (
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                "cri-containerd-0123456789ab",
            ),
            (format!("/kubepods/burstable/pod7/{ID}"), "kubepods-0123456789ab"),
            (format!("/docker-{ID}.scope/system.slice/web.service"), "web.service"),
            ("/lxc.payload.db/system.slice".to_owned(), "db"),
            ("/sinter/web".to_owned(), "web"),
            ("/system.slice".to_owned(), "system.slice"),
        ];
        for (path, expected) in cases {
            assert_eq!(unit_of(&path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(unit_of("/"), None);
    }

    #[test]
    fn the_tree_of_version_2_is_found_beside_those_of_version_1() {
        let hybrid = "36 31 0:33 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
            38 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mounted(&mounts::parse(hybrid)), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let version_1 = "36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        assert_eq!(mounted(&mounts::parse(version_1)), None);
    }

    #[test]
    fn a_group_is_found_by_its_number_and_keeps_its_name() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("system.slice/web.service");
        fs::create_dir_all(&folder).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let (service, root) = (inode(&folder), inode(tree.path()));
        let mut groups = Groups::below(Some(tree.path().to_owned()));

        assert_eq!(groups.unit(service).as_deref(), Some("web.service"));
        assert_eq!(groups.unit(root), None);
        fs::remove_dir(&folder).unwrap();
        assert_eq!(groups.unit(service).as_deref(), Some("web.service"));
    }

    #[test]
    fn a_number_of_nobody_does_not_have_the_tree_walked_again_and_again() {
        let tree = tempfile::tempdir().unwrap();
        let mut groups = Groups::below(Some(tree.path().to_owned()));
        assert_eq!(groups.unit(u64::MAX), None);
        let late = tree.path().join("late.service");
        fs::create_dir(&late).unwrap();

        assert_eq!(groups.unit(fs::metadata(&late).unwrap().ino()), None);
    }

    #[test]
    fn without_the_tree_nothing_has_a_name() {
        assert_eq!(Groups::below(None).unit(1), None);
    }
}
