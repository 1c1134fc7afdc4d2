//! What the files of a process say: bytes in, values out.
//!
//! Only what is used is taken from a line, for these files are read more often than all others together.

use crate::observe::{
    linux::groups::service_of,
    seen::{Group, Moved, Tree},
};

/// The line of /proc/PID/stat, as far as it is used. Times are in ticks, memory in pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) parent: u32,
    pub(super) flags: u32,
    pub(super) used: u64,
    pub(super) waited: u64,
    pub(super) started: u64,
    pub(super) resident: u64,
}

/// The line of /proc/PID/stat. The name stands in brackets and may have brackets itself.
pub(super) fn stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let name = line.get(open + 1..close)?;
    let mut rest = line.get(close + 2..)?.split(|byte| *byte == b' ');
    // Numbers as in proc_pid_stat(5), where the state is the third.
    let parent = number(rest.nth(1)?)?;
    let flags = number(rest.nth(4)?)?;
    let used = number(rest.nth(4)?)?.saturating_add(number(rest.next()?)?);
    let waited = number(rest.next()?)?.saturating_add(number(rest.next()?)?);
    let started = number(rest.nth(4)?)?;
    let resident = number(rest.nth(1)?)?;
    Some(Stat {
        pid: u32::try_from(number(line.get(..open)?.trim_ascii())?).ok()?,
        name: String::from_utf8_lossy(name).into_owned(),
        parent: u32::try_from(parent).ok()?,
        flags: u32::try_from(flags).ok()?,
        used,
        waited,
        started,
        resident,
    })
}

/// /proc/PID/io.
pub(super) fn io(text: &[u8]) -> Option<Moved> {
    let mut moved = Moved::default();
    let mut found = 0;
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
        let into = match key {
            b"syscr" => &mut moved.reads,
            b"syscw" => &mut moved.writes,
            b"read_bytes" => &mut moved.storage.read,
            b"write_bytes" => &mut moved.storage.written,
            _ => continue,
        };
        *into = number(value.trim_ascii())?;
        found += 1;
    }
    (found == 4).then_some(moved)
}

/// The groups of /proc/PID/cgroup that accounts can be kept by.
pub(super) fn groups(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let trees = controllers.split(',').filter_map(tree_of);
        // Of a process that ended, the group may be gone.
        if path.ends_with(" (deleted)") {
            continue;
        }
        groups.extend(trees.map(|tree| Group { tree, path: path.to_owned() }));
    }
    groups
}

/// The tree of a controller as version 1 names it; version 2 has no name at this place.
pub(in crate::observe::linux) fn tree_of(controller: &str) -> Option<Tree> {
    match controller {
        "" => Some(Tree::Whole),
        "cpuacct" => Some(Tree::Cpu),
        "cpu" => Some(Tree::CpuLimit),
        "memory" => Some(Tree::Memory),
        "blkio" => Some(Tree::Storage),
        _ => None,
    }
}

/// The innermost service of the control groups of /proc/PID/cgroup.
pub(super) fn unit(text: &str) -> Option<&str> {
    text.lines().find_map(|line| service_of(line.splitn(3, ':').nth(2)?))
}

/// A whole number; one below nought, as the kernel shows for what overflowed, is nought.
fn number(text: &[u8]) -> Option<u64> {
    if text.first() == Some(&b'-') {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::seen::Storage;

    #[test]
    fn a_stat_line_with_brackets_in_its_name_is_read() {
        let line =
            b"4711 (a) (b c) S 17 4711 4711 0 -1 4194560 90 80 70 60 11 22 33 44 20 0 5 0 987654 \
            1000000 321 18446744073709551615 1 1 0 0\n";
        let stat = stat(line).unwrap();
        let wanted = Stat {
            pid: 4711,
            name: "a) (b c".to_owned(),
            parent: 17,
            flags: 4_194_560,
            used: 33,
            waited: 77,
            started: 987_654,
            resident: 321,
        };
        assert_eq!(stat, wanted);
    }

    #[test]
    fn the_own_line_says_what_procfs_says() {
        let bytes = std::fs::read("/proc/self/stat").unwrap();
        let own = stat(&bytes).unwrap();
        let other = procfs::process::Process::myself().unwrap().stat().unwrap();
        assert_eq!((own.name, own.started), (other.comm, other.starttime));
        assert_eq!((own.parent, own.flags), (other.ppid.try_into().unwrap(), other.flags));
    }

    #[test]
    fn half_a_line_says_nothing() {
        for line in [&b""[..], b"4711 (a", b"4711 (a) S 17 4711", b"x (a) S 1 2 3 4 5 6 7 8 9 1 2"]
        {
            assert_eq!(stat(line), None);
        }
        assert_eq!(io(b"rchar: 5\nsyscr: 1\n"), None);
        assert_eq!(groups("nonsense\n0:\n"), []);
    }

    #[test]
    fn what_a_process_moved_is_read() {
        let text = b"rchar: 5\nwchar: 6\nsyscr: 7\nsyscw: 8\nread_bytes: 4096\nwrite_bytes: 8192\n\
            cancelled_write_bytes: 0\n";
        let storage = Storage { read: 4096, written: 8192 };
        assert_eq!(io(text), Some(Moved { storage, reads: 7, writes: 8 }));
    }

    #[test]
    fn every_tree_has_its_path() {
        let text = "4:memory:/m\n3:cpu,cpuacct:/c:d\n2:freezer:/f\n1:name=systemd:/s\n0::/u\n";
        let group = |tree, path: &str| Group { tree, path: path.to_owned() };
        let wanted = [
            group(Tree::Memory, "/m"),
            group(Tree::CpuLimit, "/c:d"),
            group(Tree::Cpu, "/c:d"),
            group(Tree::Whole, "/u"),
        ];
        assert_eq!(groups(text), wanted);
    }

    #[test]
    fn a_unit_is_the_innermost_service_of_the_path() {
        assert_eq!(unit("0::/system.slice/nginx.service\n"), Some("nginx.service"));
        let nested = "/user.slice/user-1000.slice/user@1000.service/app.slice/chat.service/inner";
        assert_eq!(service_of(nested), Some("chat.service"));
        assert_eq!(service_of("/user.slice/session-2.scope"), None);
        assert_eq!(service_of("/.service"), None);
    }
}
