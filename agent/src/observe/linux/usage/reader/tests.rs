//! Groups of version 2 in an imitated folder: what is told, what is not, and when one is another.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::observe::seen::GroupMemory;

const ALL: Wanted = Wanted { depth: Depth::Whole, may_rest: false };
const BRIEF: Wanted = Wanted { depth: Depth::Brief, may_rest: false };

fn group(path: &str) -> Group {
    Group { tree: Tree::Whole, path: path.to_owned() }
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// A tree with one group, `/web`, and all that the kernel says of it.
fn web() -> (TempDir, GroupReader) {
    let tree = tempfile::tempdir().unwrap();
    let web = tree.path().join("web");
    fs::create_dir(&web).unwrap();
    let files = [
        ("cgroup.procs", "10\n11\n"),
        ("cpu.stat", "usage_usec 7000\nnr_throttled 1\nthrottled_usec 30\n"),
        ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"),
        ("memory.current", "10000\n"),
        ("memory.stat", "anon 1000\nfile_mapped 50\ninactive_file 6000\n"),
        ("memory.peak", "20000\n"),
        ("memory.events", "oom 1\noom_kill 1\n"),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=22\n"),
        ("io.stat", ""),
        ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=33\n"),
    ];
    write(&web, &files);
    let reader = GroupReader::of(Places::whole_at(tree.path()), true);
    (tree, reader)
}

#[test]
fn everything_of_a_group_is_told() {
    let (_tree, mut reader) = web();
    let seen = reader.read(&group("/web"), ALL, false).unwrap();
    let counters = [
        (Counter::Cpu, 7000),
        (Counter::Throttled, 30),
        (Counter::Killed, 1),
        (Counter::WaitedForCpu, 11),
        (Counter::WaitedForMemory, 22),
        (Counter::WaitedForStorage, 33),
    ];
    assert_eq!(seen.counters, counters.into());
    let memory = GroupMemory { charged: 10_000, working_set: 4000, resident: 1050 };
    assert_eq!((seen.memory, seen.high_water), (Some(memory), Some(20_000)));
    assert_eq!(seen.devices, Some(BTreeMap::new()));
}

#[test]
fn a_file_that_is_missing_tells_nothing() {
    let (tree, mut reader) = web();
    for file in ["memory.peak", "memory.current", "io.stat", "memory.events", "cpu.pressure"] {
        fs::remove_file(tree.path().join("web").join(file)).unwrap();
    }
    let seen = reader.read(&group("/web"), ALL, false).unwrap();
    assert_eq!((seen.memory, seen.high_water, &seen.devices), (None, None, &None));
    assert!(!seen.counters.contains_key(&Counter::Killed));
    assert!(!seen.counters.contains_key(&Counter::WaitedForCpu));
    assert_eq!(seen.counters[&Counter::Cpu], 7000);
}

#[test]
fn a_brief_reading_is_cpu_and_memory_from_files_kept_open() {
    let (tree, mut reader) = web();
    let first = reader.read(&group("/web"), BRIEF, false).unwrap();
    assert_eq!((first.counters.len(), first.devices), (2, None));
    assert!(first.memory.is_some());
    assert_eq!(reader.open(), 3);

    write(&tree.path().join("web"), &[("cpu.stat", "usage_usec 7500\n")]);
    let second = reader.read(&group("/web"), BRIEF, false).unwrap();
    assert_eq!((second.counters[&Counter::Cpu], second.identity), (7500, first.identity));
}

#[test]
fn a_group_made_again_is_another_and_one_that_is_gone_is_none() {
    let (tree, mut reader) = web();
    reader.read(&group("/web"), BRIEF, false).unwrap();
    let first = reader.read(&group("/web"), ALL, false).unwrap();
    fs::rename(tree.path().join("web"), tree.path().join("old")).unwrap();
    assert_eq!(reader.read(&group("/web"), ALL, false), None);

    fs::create_dir(tree.path().join("web")).unwrap();
    write(&tree.path().join("web"), &[("cpu.stat", "usage_usec 5\n")]);
    let second = reader.read(&group("/web"), ALL, false).unwrap();
    assert_ne!(first.identity, second.identity);
    assert_eq!(second.counters, [(Counter::Cpu, 5)].into());
}

#[test]
fn a_quiet_group_that_may_rest_is_as_it_was_read() {
    let (tree, mut reader) = web();
    let resting = Wanted { depth: Depth::Whole, may_rest: true };
    let first = reader.read(&group("/web"), resting, false).unwrap();
    write(&tree.path().join("web"), &[("memory.current", "9000\n")]);
    assert_eq!(reader.read(&group("/web"), resting, false), Some(first.clone()));

    write(&tree.path().join("web"), &[("cpu.stat", "usage_usec 7001\n")]);
    assert_ne!(reader.read(&group("/web"), resting, false), Some(first));
}

#[test]
fn where_the_kernel_is_others_too_a_group_counts_only_if_all_in_it_is_seen() {
    let (tree, mut reader) = web();
    let told = reader.read(&group("/web"), ALL, true).unwrap();
    assert!(told.counters.contains_key(&Counter::Cpu));

    let inner = tree.path().join("web/inner");
    fs::create_dir(&inner).unwrap();
    write(&inner, &[("cgroup.procs", "12\n0\n")]);
    let hidden = reader.read(&group("/web"), ALL, true).unwrap();
    assert_eq!((hidden.counters, hidden.memory), (BTreeMap::new(), None));

    let mut contained = GroupReader::of(Places::whole_at(tree.path()), false);
    assert_eq!(contained.read(&group("/web"), ALL, false).unwrap().counters, BTreeMap::new());
}

#[test]
fn what_lies_out_of_sight_tells_nothing() {
    let (_tree, mut reader) = web();
    assert_eq!(reader.read(&group("/../web"), ALL, false), Some(GroupUse::default()));
}
