//! What comes back after every kind of end.

use std::fs;

use super::{store::Store, *};

const MOST: u64 = 8 << 20;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, MOST, at(1_000_000)).unwrap()
}

/// A sample that does not pack well.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Keeps a sample as the sampler does; every tenth is a full one.
fn keep(spool: &Spool, taken_at: u64, length: usize) -> Room {
    let room = spool.room();
    let full = room.must_be_full || room.id.sequence % 10 == 1;
    let bytes = bytes(taken_at, length);
    spool.append(&room, Kept { taken_at: at(taken_at), full, bytes: &bytes }).unwrap();
    room
}

fn ids(spool: &Spool) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let some = spool.after(cursor);
        let Some((last, _)) = some.last() else { return all };
        cursor = Some(*last);
        all.extend(some.iter().map(|(id, _)| (id.epoch, id.sequence)));
    }
}

fn id(epoch: u64, sequence: u64) -> SampleId {
    SampleId { epoch, sequence }
}

#[test]
fn samples_come_back_in_order_and_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for second in 1..=70 {
        keep(&spool, second, 10_000);
    }
    assert_eq!(ids(&spool), (1..=70).map(|n| (1, n)).collect::<Vec<_>>());
    assert_eq!(spool.after(Some(id(1, 41)))[0], (id(1, 42), bytes(42, 10_000)));
}

#[test]
fn what_is_sealed_is_forgotten_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for second in 1..=5 {
        keep(&spool, second, 100);
    }
    spool.note_received(id(1, 4));
    assert_eq!(spool.waiting(), 5);
    spool.note_sealed(id(1, 3));
    assert_eq!(ids(&spool), [(1, 4), (1, 5)]);
}

#[test]
fn an_agent_that_starts_again_has_a_new_epoch_and_says_that_it_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    assert_eq!(spool.room().gaps, Vec::new());
    keep(&spool, 500, 100);
    drop(spool);

    let spool = open(folder.path());
    let room = keep(&spool, 1_000_001, 100);
    assert!(room.must_be_full);
    assert_eq!(room.gaps.len(), 1);
    assert_eq!((room.gaps[0].from, room.gaps[0].to), (at(500), at(1_000_000)));
    assert_eq!(ids(&spool), [(1, 1), (2, 1)]);
    assert_eq!(spool.room().gaps, Vec::new());
}

#[test]
fn the_epoch_goes_up_even_if_no_sample_was_kept_or_one_of_its_places_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open(folder.path()).epoch(), 1);
    let spool = open(folder.path());
    assert_eq!(spool.epoch(), 2);
    keep(&spool, 1, 100);
    drop(spool);
    fs::write(folder.path().join("epoch"), "torn").unwrap();
    assert_eq!(open(folder.path()).epoch(), 3);
}

#[test]
fn a_full_spool_drops_the_oldest_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut gaps = Vec::new();
    let mut most_on_disk = 0;
    for second in 1..=1500 {
        gaps.extend(keep(&spool, second, 6_000).gaps);
        if second % 50 == 0 {
            most_on_disk = most_on_disk.max(size(folder.path()));
        }
    }
    let left = ids(&spool);
    let lost: u64 = gaps.iter().map(|gap| gap.samples).sum();
    assert_eq!(lost + left.len() as u64, 1500, "every sample is there or in a gap");
    assert_eq!(left.last(), Some(&(1, 1500)));
    assert_eq!(left[0].1 % 10, 1, "what is kept begins with a full sample");
    assert!(gaps.iter().all(|gap| gap.from <= gap.to));
    assert!(most_on_disk <= MOST, "{most_on_disk} bytes on the disk");
}

#[test]
fn dropping_what_the_aggregator_has_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut gaps = Vec::new();
    for second in 1..=800 {
        let room = keep(&spool, second, 6_000);
        gaps.extend(room.gaps);
        spool.note_received(room.id);
    }
    assert_eq!(gaps, Vec::new());
    assert!(spool.waiting() < 800);
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size_of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size_of).sum()
}

#[test]
fn a_damaged_spool_never_panics_and_what_it_gives_is_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let spool = open(&original);
    for second in 1..=40 {
        keep(&spool, second, 3_000);
    }
    drop(spool);
    let data = fs::read(original.join("samples/db")).unwrap();
    for round in 0..40_usize {
        let copy = folder.path().join(format!("copy-{round}"));
        fs::create_dir_all(copy.join("samples")).unwrap();
        for name in ["epoch", "samples/conf"] {
            fs::copy(original.join(name), copy.join(name)).unwrap();
        }
        let mut damaged = data.clone();
        let place = (round * 7_919 + 13) * 1_009 % 200_000;
        match round % 3 {
            0 => damaged[place] ^= 0x10,
            1 => damaged.truncate(place),
            _ => damaged[place..place + 512].fill(0),
        }
        fs::write(copy.join("samples/db"), damaged).unwrap();

        let spool = open(&copy);
        assert!(spool.epoch() >= 2, "round {round}");
        for (id, read) in spool.after(None) {
            assert_eq!(read, bytes(id.sequence, 3_000), "round {round}");
        }
        keep(&spool, 1_000_001, 100);
    }
}

#[test]
fn a_guest_that_was_set_back_goes_on_beyond_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    keep(&spool, 10, 100);
    spool.go_beyond(7, at(20)).unwrap();
    let room = keep(&spool, 30, 100);
    assert_eq!((room.id, room.must_be_full), (id(8, 1), true));
    assert_eq!(room.gaps.iter().map(|gap| gap.samples).sum::<u64>(), 1);
    assert_eq!(ids(&spool), [(8, 1)]);
    drop(spool);
    assert_eq!(open(folder.path()).epoch(), 9);
}

#[test]
fn a_wiped_spool_remembers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    keep(&open(folder.path()), 10, 100);
    Spool::wipe(folder.path()).unwrap();
    let spool = open(folder.path());
    assert_eq!((spool.epoch(), spool.waiting(), spool.room().gaps), (1, 0, Vec::new()));
}

#[test]
fn a_store_that_takes_too_much_is_written_anew_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples");
    let mut store = Store::open(&path, 1 << 20).unwrap().store;
    let first =
        fs::metadata(path.join("db")).map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    for sequence in 1..=400 {
        let bytes = bytes(sequence, 6_000);
        let sample = Kept { taken_at: at(sequence), full: true, bytes: &bytes };
        let drops: Vec<SampleId> =
            (sequence > 10).then(|| id(1, sequence - 10)).into_iter().collect();
        store.append(id(1, sequence), sample, &drops).unwrap();
    }
    let now = fs::metadata(path.join("db")).map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    assert_ne!(first.unwrap(), now.unwrap(), "it was written anew");
    drop(store);

    let found = Store::open(&path, 1 << 20).unwrap();
    assert_eq!(
        found.heads.keys().map(|id| id.sequence).collect::<Vec<_>>(),
        (391..=400).collect::<Vec<_>>()
    );
    assert_eq!(found.last, Some((id(1, 400), at(400))));
    assert_eq!(found.store.read(id(1, 395)).unwrap(), bytes(395, 6_000));
}
