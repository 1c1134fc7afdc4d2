//! What groups that come, go and begin anew add up to.

use common::units::Bytes;

use super::*;

const SELF: &str = "/web.service";

fn reading(path: &str, identity: u64, cpu_us: u64) -> Reading {
    let group = Group { tree: Tree::Whole, path: path.to_owned() };
    let counters = [(Counter::Cpu, cpu_us)].into();
    let seen = GroupUse { identity, counters, ..GroupUse::default() };
    Reading { group, origin: Origin::New, seen }
}

fn killed(mut reading: Reading, count: u64) -> Reading {
    reading.seen.counters.insert(Counter::Killed, count);
    reading
}

fn on_vda(mut reading: Reading, written: u64) -> Reading {
    let used = DeviceUse { writes: written / 512, written: Bytes(written), ..DeviceUse::default() };
    reading.seen.devices = Some([("vda".to_owned(), used)].into());
    reading
}

#[test]
fn a_restarted_group_begins_anew_and_the_total_goes_on() {
    let mut kernel = Kernel::default();
    kernel.look(&[on_vda(reading(SELF, 1, 900), 4096)], Depth::Whole);

    let told = kernel.look(&[on_vda(reading(SELF, 2, 950), 512)], Depth::Whole);

    assert_eq!((told.cpu_us, kernel.total(Counter::Cpu, false)), (Some(950), Some(1850)));
    assert_eq!(told.storage, Some(Storage { read: 0, written: 512 }));
    assert_eq!(kernel.devices(false)["vda"].written, Bytes(4608));
}

#[test]
fn a_counter_set_to_nought_is_counted_from_there() {
    let mut kernel = Kernel::default();
    kernel.look(&[on_vda(reading(SELF, 1, 900), 4096)], Depth::Whole);
    let told = kernel.look(&[on_vda(reading(SELF, 1, 100), 1024)], Depth::Whole);
    assert_eq!((told.cpu_us, kernel.total(Counter::Cpu, false)), (Some(100), Some(1000)));
    assert_eq!(kernel.devices(false)["vda"].written, Bytes(5120));
}

#[test]
fn a_group_that_goes_takes_nothing_along() {
    let mut kernel = Kernel::default();
    kernel.look(&[reading("/a", 1, 500), reading("/b", 2, 300)], Depth::Whole);
    kernel.look(&[reading("/b", 2, 310)], Depth::Whole);
    assert_eq!(kernel.total(Counter::Cpu, false), Some(810));

    kernel.look(&[], Depth::Whole);
    assert_eq!(
        (kernel.total(Counter::Cpu, false), kernel.total(Counter::Cpu, true)),
        (None, Some(810))
    );
}

#[test]
fn the_past_of_a_group_that_held_others_is_theirs() {
    let mut kernel = Kernel::default();
    let mut first = killed(reading(SELF, 1, 5000), 7);
    first.origin = Origin::Others;
    let told = kernel.look(&[first], Depth::Whole);
    assert_eq!((told.cpu_us, told.cpu_in_all_us), (Some(0), None));

    kernel.look(&[killed(reading(SELF, 1, 5300), 8)], Depth::Whole);
    assert_eq!(kernel.total(Counter::Cpu, false), Some(300));
    assert_eq!(kernel.total(Counter::Killed, false), Some(1));
}

#[test]
fn what_one_group_of_several_does_not_tell_is_not_known() {
    let mut kernel = Kernel::default();
    let told =
        kernel.look(&[killed(reading("/a", 1, 500), 1), reading("/b", 2, 300)], Depth::Whole);
    assert_eq!(kernel.total(Counter::Killed, false), None);
    assert_eq!((told.cpu_us, told.storage, kernel.memory()), (Some(800), None, None));
    assert!(kernel.devices(false).is_empty());
}

#[test]
fn a_brief_reading_leaves_what_it_does_not_tell() {
    let mut kernel = Kernel::default();
    kernel.look(&[on_vda(killed(reading(SELF, 1, 100), 2), 512)], Depth::Whole);
    kernel.look(&[reading(SELF, 1, 150)], Depth::Brief);
    assert_eq!(kernel.total(Counter::Killed, false), Some(2));
    kernel.look(&[on_vda(killed(reading(SELF, 1, 200), 3), 1024)], Depth::Whole);
    assert_eq!(kernel.total(Counter::Killed, false), Some(3));
    assert_eq!(kernel.devices(false)["vda"].written, Bytes(1024));
    assert_eq!(kernel.total(Counter::Cpu, false), Some(200));
}

#[test]
fn memory_adds_up_and_its_mark_stays() {
    let with = |path: &str, identity, charged, mark| {
        let mut reading = reading(path, identity, 0);
        let memory = GroupMemory { charged, working_set: charged / 2, resident: charged / 4 };
        reading.seen.memory = Some(memory);
        reading.seen.high_water = Some(mark);
        reading
    };
    let mut kernel = Kernel::default();
    kernel.look(&[with("/a", 1, 400, 900), with("/b", 2, 800, 800)], Depth::Whole);
    let memory = GroupMemory { charged: 1200, working_set: 600, resident: 300 };
    assert_eq!((kernel.memory(), kernel.high_water()), (Some(memory), Some(1200)));

    kernel.look(&[with("/a", 3, 100, 100)], Depth::Whole);
    assert_eq!(kernel.high_water(), Some(1200));
}

#[test]
fn a_kill_that_took_its_group_along_is_counted_and_none_twice() {
    let mut kernel = Kernel::default();
    kernel.look(&[killed(reading(SELF, 1, 100), 3)], Depth::Whole);
    // The log and the group both say it.
    kernel.note_kills(1);
    kernel.look(&[killed(reading(SELF, 1, 100), 4)], Depth::Whole);
    assert_eq!(kernel.killed(false), Some(4));
    // Only the log does: the group went, and another stands in its place.
    kernel.note_kills(1);
    kernel.look(&[killed(reading(SELF, 2, 100), 0)], Depth::Whole);
    assert_eq!(kernel.killed(false), Some(5));
    kernel.note_kills(1);
    kernel.look(&[killed(reading(SELF, 2, 100), 1)], Depth::Whole);
    assert_eq!(kernel.killed(false), Some(6));
}

#[test]
fn a_kill_before_the_group_was_first_read_is_counted_once() {
    let mut kernel = Kernel::default();
    kernel.note_kills(1);
    assert_eq!(kernel.killed(false), Some(1));
    kernel.look(&[killed(reading(SELF, 1, 100), 1)], Depth::Whole);
    assert_eq!(kernel.killed(false), Some(1));
    assert_eq!(Kernel::default().killed(true), None);
}
