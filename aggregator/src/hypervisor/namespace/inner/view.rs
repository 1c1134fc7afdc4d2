//! What a machine sees: programs of the host, read-only; its own folders; its own /proc, and the
//! kernel's /sys; nothing else.
//!
//! All of it is mounted in the machine's own mount namespace, from which nothing comes back to
//! the host. No process of the machine runs yet, but earlier ones may have left links in its
//! folders that lead elsewhere: none of them is followed.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::{FsFlags, statvfs},
    unistd::{chdir, pivot_root},
};

use super::machine::Order;
use crate::hypervisor::namespace::{Attempt, NamespaceError, layout::DISK};

/// Folders of the host in which programs lie, some of them links into others.
const LENT: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Parts of the host's /etc that programs need to start.
const LENT_ETC: [&str; 2] = ["ld.so.cache", "alternatives"];

/// What the host hands the machine under names of /etc.
const HANDED_ETC: [&str; 3] = ["machine-id", "hostname", "hosts"];

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Parts of /proc through which root of any namespace would change the host.
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

type Done = Result<(), NamespaceError>;

/// Builds the view and makes it this process's root.
pub(super) fn build(order: &Order) -> Done {
    let nothing = None::<&Path>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .or_could_not(|| "keep mounts to ourselves".to_owned())?;
    let root = order.folder.join("view");
    ephemeral(&root, "size=1m,mode=0755")?;
    lend_programs(&root)?;
    own_folders(&root, &order.folder)?;
    for program in &order.programs {
        let target = place(&root, program, false)?;
        bind(program, &target)?;
        read_only(&target)?;
    }
    devices(&root.join("dev"))?;
    kernel(&root, &order.folder.join("board/dmi"))?;
    enter(&root)
}

fn ephemeral(target: &Path, options: &str) -> Done {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("sinter"), target, Some("tmpfs"), flags, Some(options))
        .or_could_not(|| format!("mount {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Done {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&Path>, flags, None::<&Path>)
        .or_could_not(|| format!("show {} to the machine", source.display()))
}

/// Flags that are set already must be said again: without root they may not be dropped.
fn flags_of(target: &Path) -> io::Result<MsFlags> {
    let set = statvfs(target)?.flags();
    let known = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let again = known.iter().filter(|(there, _)| set.contains(*there));
    Ok(again.fold(MsFlags::empty(), |flags, (_, flag)| flags | *flag))
}

fn remount(target: &Path, more: MsFlags) -> Done {
    let flags = flags_of(target).or_could_not(|| format!("look at {}", target.display()))?;
    let flags = flags | more | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    mount(None::<&Path>, target, None::<&Path>, flags, None::<&Path>)
        .or_could_not(|| format!("protect {}", target.display()))
}

/// Makes a mount read-only, and all that is mounted in it.
fn read_only(target: &Path) -> Done {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.or_could_not(|| "read the mounts".to_owned())?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    for point in points.filter(|point| point.starts_with(target)) {
        remount(&point, MsFlags::MS_RDONLY)?;
    }
    Ok(())
}

/// The kernel writes a blank in a path as `\040`, and so on.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                path.push(char::from(code));
                path.push_str(&part[3..]);
            }
            None => path.push_str(part),
        }
    }
    path.into()
}

/// Makes what can be mounted over at `path` as the machine sees it. A link on the way is refused,
/// one at its end replaced.
fn place(root: &Path, path: &Path, is_folder: bool) -> Result<PathBuf, NamespaceError> {
    let mut target = root.to_owned();
    let parts: Vec<_> =
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    for (at, part) in parts.iter().enumerate() {
        target.push(part);
        let is_last = at + 1 == parts.len();
        let there = fs::symlink_metadata(&target).ok().map(|there| there.file_type());
        let outcome = match there {
            Some(kind) if is_last && !is_folder && kind.is_file() => Ok(()),
            Some(kind) if (!is_last || is_folder) && kind.is_dir() => Ok(()),
            Some(kind) if is_last && !kind.is_dir() => {
                fs::remove_file(&target).and_then(|()| make(&target, is_folder))
            }
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => make(&target, is_folder || !is_last),
        };
        outcome.or_could_not(|| format!("make a place for {}", path.display()))?;
    }
    Ok(target)
}

fn make(target: &Path, is_folder: bool) -> io::Result<()> {
    if is_folder {
        return DirBuilder::new().mode(0o755).create(target);
    }
    File::options().write(true).create_new(true).mode(0o644).open(target).map(drop)
}

fn lend_programs(root: &Path) -> Done {
    for name in LENT {
        let source = Path::new("/").join(name);
        let Ok(there) = fs::symlink_metadata(&source) else { continue };
        if there.is_symlink() {
            let copied = fs::read_link(&source).and_then(|link| symlink(link, root.join(name)));
            copied.or_could_not(|| format!("copy the link {}", source.display()))?;
            continue;
        }
        let target = place(root, &source, true)?;
        bind(&source, &target)?;
        read_only(&target)?;
    }
    Ok(())
}

fn own_folders(root: &Path, folder: &Path) -> Done {
    for name in DISK {
        let target = place(root, Path::new(name), true)?;
        bind(&folder.join("disk").join(name), &target)?;
        remount(&target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    }
    let board = place(root, Path::new("run/sinter"), true)?;
    bind(&folder.join("board"), &board)?;
    read_only(&board)?;
    let handed = HANDED_ETC.map(|name| (folder.join("board").join(name), name));
    let lent = LENT_ETC.map(|name| (Path::new("/etc").join(name), name));
    for (source, name) in handed.iter().chain(&lent) {
        if source.exists() {
            let target = place(root, &Path::new("etc").join(name), source.is_dir())?;
            bind(source, &target)?;
            read_only(&target)?;
        }
    }
    Ok(())
}

fn devices(dev: &Path) -> Done {
    make(dev, true).or_could_not(|| "make /dev".to_owned())?;
    ephemeral(dev, "size=64k,mode=0755")?;
    for name in DEVICES {
        let source = Path::new("/dev").join(name);
        if source.exists() {
            bind(&source, &place(dev, Path::new(name), false)?)?;
        }
    }
    for (link, name) in [("", "fd"), ("/0", "stdin"), ("/1", "stdout"), ("/2", "stderr")] {
        symlink(format!("/proc/self/fd{link}"), dev.join(name))
            .or_could_not(|| format!("make /dev/{name}"))?;
    }
    let shared = place(dev, Path::new("shm"), true)?;
    ephemeral(&shared, "size=64m,mode=1777")
}

/// The machine's own /proc, and /sys as far as the host lets us show it.
fn kernel(root: &Path, board: &Path) -> Done {
    let proc = place(root, Path::new("proc"), true)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&Path>)
        .or_could_not(|| "mount /proc; the host may hide parts of its own".to_owned())?;
    for name in PROC_READ_ONLY {
        let part = proc.join(name);
        if part.exists() {
            bind(&part, &part)?;
            remount(&part, MsFlags::MS_RDONLY)?;
        }
    }
    let sys = place(root, Path::new("sys"), true)?;
    let flags = flags | MsFlags::MS_RDONLY;
    if mount(Some("sysfs"), &sys, Some("sysfs"), flags, None::<&Path>).is_err() {
        return Ok(());
    }
    // The host's own identity is not the machine's.
    let dmi = sys.join("devices/virtual/dmi/id");
    if dmi.is_dir() {
        bind(board, &dmi)?;
        read_only(&dmi)?;
    }
    Ok(())
}

/// Makes `root` the root and lets go of the host's.
fn enter(root: &Path) -> Done {
    let what = || "change the root".to_owned();
    chdir(root).or_could_not(what)?;
    // The old root comes to lie over the new one, and is taken off.
    pivot_root(".", ".").or_could_not(what)?;
    umount2(".", MntFlags::MNT_DETACH).or_could_not(what)?;
    chdir("/").or_could_not(what)?;
    remount(Path::new("/"), MsFlags::MS_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_a_machine_left_is_not_followed_out_of_it() {
        let host = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(host.path(), root.path().join("home")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(host.path().join("secret"), "kept").unwrap();
        symlink(host.path().join("secret"), root.path().join("etc/hosts")).unwrap();

        place(root.path(), Path::new("/home/build/agent"), false).unwrap_err();
        let target = place(root.path(), Path::new("/etc/hosts"), false).unwrap();

        assert!(!host.path().join("build").exists());
        assert_eq!(fs::read_to_string(host.path().join("secret")).unwrap(), "kept");
        assert!(fs::symlink_metadata(target).unwrap().is_file());
    }

    #[test]
    fn a_mount_point_with_a_blank_is_read_as_it_is() {
        assert_eq!(unescaped("/mnt/a\\040b\\134c"), Path::new("/mnt/a b\\c"));
        assert_eq!(unescaped("/usr"), Path::new("/usr"));
    }
}
