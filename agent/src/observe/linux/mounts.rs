//! What is mounted where, from the kernel's own list.
//!
//! Nothing mounted is touched: a file system whose server is away can hold whoever asks it for ever.

use std::path::Path;

/// Most mounts looked at; a machine with more is seen as far as that.
const MAX_MOUNTS: usize = 4096;

/// Kinds of file systems that come over the network, or from a program that may stand still.
const REMOTE: [&str; 18] = [
    "9p",
    "afs",
    "autofs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
    "virtiofs",
    "fuse",
];

/// Kinds that keep their files on this machine and hold something.
const LOCAL: [&str; 17] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "jfs", "msdos",
    "nilfs2", "ntfs3", "overlay", "reiserfs", "vfat", "xfs", "zfs",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::observe) struct Mount {
    /// What of the file system stands there: `/` unless a part of it is mounted.
    pub(in crate::observe) root: String,
    /// Where.
    pub(in crate::observe) point: String,
    /// Its kind.
    pub(in crate::observe) kind: String,
    /// What is mounted, as it was written.
    pub(in crate::observe) source: String,
    /// The file system's options.
    pub(in crate::observe) options: String,
}

impl Mount {
    /// Whether it can stand still for want of somebody else.
    pub(in crate::observe) fn is_remote(&self) -> bool {
        REMOTE.contains(&self.kind.as_str()) || self.kind.starts_with("fuse")
    }

    /// Whether it keeps files on this machine, so that it may be asked how full it is.
    pub(in crate::observe) fn is_local(&self) -> bool {
        LOCAL.contains(&self.kind.as_str())
    }

    /// The value of one option.
    pub(in crate::observe) fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.split(',').filter_map(|option| option.split_once('='));
        options.find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// The mounts now; none if the kernel does not say.
pub(in crate::observe) fn read() -> Vec<Mount> {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The mounts of a text such as /proc/self/mountinfo.
pub(in crate::observe) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).take(MAX_MOUNTS).collect()
}

/// Whether `path` stands on a mount that can stand still. Symbolic links are not followed: whoever opens the
/// path must not follow them either.
pub(in crate::observe) fn is_remote(mounts: &[Mount], path: &Path) -> bool {
    let holds = |mount: &&Mount| path.starts_with(&mount.point);
    // Of two at one point the later covers the earlier.
    let innermost = mounts.iter().filter(holds).max_by_key(|mount| mount.point.len());
    innermost.is_some_and(Mount::is_remote)
}

/// One line: id, parent, device, root, point, options, optional fields, a dash, kind, source, the file
/// system's options.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let (root, point) = (before.nth(3)?, before.next()?);
    let mut after = after.split(' ');
    let (kind, source) = (after.next()?, after.next()?);
    Some(Mount {
        root: unescaped(root),
        point: unescaped(point),
        kind: kind.to_owned(),
        source: unescaped(source),
        options: after.next().unwrap_or_default().to_owned(),
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = text.to_owned();
    for (written, meant) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(written, meant);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        40 22 0:50 / /srv/my\\040files rw - nfs4 10.0.0.9:/export rw,vers=4.2,addr=10.0.0.9\n\
        41 40 254:2 / /srv/my\\040files/here rw - xfs /dev/vdb rw\n\
        nonsense\n";

    #[test]
    fn a_line_is_a_mount_and_nonsense_is_none() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[1].point.as_str(), mounts[1].kind.as_str()), ("/srv/my files", "nfs4"));
        assert_eq!(mounts[1].option("addr"), Some("10.0.0.9"));
        assert!(mounts[0].is_local() && mounts[1].is_remote());
    }

    #[test]
    fn the_innermost_mount_decides_whether_a_path_is_remote() {
        let mounts = parse(TEXT);
        assert!(!is_remote(&mounts, Path::new("/etc/hosts")));
        assert!(is_remote(&mounts, Path::new("/srv/my files/a")));
        assert!(!is_remote(&mounts, Path::new("/srv/my files/here/a")));
        assert!(!is_remote(&mounts, Path::new("/srv/my filesystem")));
    }
}
