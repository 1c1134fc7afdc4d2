//! A damaged or full store never answers wrongly: it opens with every value right or is refused,
//! and what is salvaged from it was written there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    thread,
};

use aggregator::repository::{Change, EmbeddedStore, Store, StoreError, Table, salvage};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::{Builder, Runtime};

type Key = (Table, Vec<u8>);

/// What was written: the present state, and every value a key ever had.
#[derive(Default)]
struct Written {
    present: BTreeMap<Key, Vec<u8>>,
    ever: BTreeSet<(Key, Vec<u8>)>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn value(random: &mut StdRng) -> Vec<u8> {
    // Some values are longer than a page takes.
    let length = if random.random_ratio(1, 20) { 20_000 } else { random.random_range(1..400) };
    (0..length).map(|_| random.random()).collect()
}

/// Commits of several changes each, with keys replaced and deleted again.
fn fill(folder: &Path) -> Written {
    let mut random = StdRng::seed_from_u64(7);
    let mut written = Written::default();
    let store = EmbeddedStore::open(folder).unwrap();
    for _ in 0..120 {
        let mut changes = Vec::new();
        for _ in 0..random.random_range(1..8) {
            let table = [Table::Agents, Table::Plans, Table::Entries, Table::Lists]
                [random.random_range(0..4)];
            let key = format!("key-{:03}", random.random_range(0..200)).into_bytes();
            if random.random_ratio(1, 6) {
                written.present.remove(&(table, key.clone()));
                changes.push(Change::Delete { table, key });
                continue;
            }
            let value = value(&mut random);
            written.ever.insert(((table, key.clone()), value.clone()));
            written.present.insert((table, key.clone()), value.clone());
            changes.push(Change::Put { table, key, value: value.into() });
        }
        runtime().block_on(store.commit(changes)).unwrap();
    }
    written
}

fn contents(store: &EmbeddedStore) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
    let mut all = BTreeMap::new();
    for table in Table::ALL {
        let pairs = runtime().block_on(store.scan(table, &[], &[], usize::MAX))?;
        all.extend(pairs.into_iter().map(|(key, value)| ((table, key), value.to_vec())));
    }
    Ok(all)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &there);
        } else {
            fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// Files of a store that hold something, by size.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let length = fs::metadata(&path).unwrap().len();
        if path.is_file() && length > 0 && path.file_name().unwrap() != "lock" {
            found.push((path, length));
        }
    }
    found.sort();
    found
}

/// Damages a copy, and holds what opens and what is salvaged against what was written.
fn is_never_wrong(whole: &Path, written: &Written, what: &str, damage: impl FnOnce(&Path)) -> bool {
    let place = tempfile::tempdir().unwrap();
    let (damaged, fresh) = (place.path().join("damaged"), place.path().join("fresh"));
    copy(whole, &damaged);
    damage(&damaged);

    let salvaged = salvage(&damaged, &fresh);

    if let Ok(told) = &salvaged {
        let found = contents(&EmbeddedStore::open(&fresh).unwrap()).unwrap();
        for pair in &found {
            let pair = (pair.0.clone(), pair.1.clone());
            assert!(written.ever.contains(&pair), "{what}: salvage made up {:?}", pair.0);
        }
        for (table, told) in told.tables.iter().filter(|(_, told)| told.is_whole) {
            let of = |all: &BTreeMap<Key, Vec<u8>>| {
                let pairs = all.iter().filter(|((of, _), _)| of == table);
                pairs.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
            };
            assert_eq!(of(&found), of(&written.present), "{what}: {table} is not {told:?}");
        }
    }
    match EmbeddedStore::open(&damaged).and_then(|store| contents(&store)) {
        Ok(found) => {
            assert!(found == written.present, "{what}: the store opened with wrong values");
            true
        }
        Err(StoreError::Damaged { .. }) => false,
        Err(other) => panic!("{what}: refused as {other}"),
    }
}

#[test]
fn a_whole_store_is_salvaged_whole() {
    let place = tempfile::tempdir().unwrap();
    let (store, fresh) = (place.path().join("store"), place.path().join("fresh"));
    let written = fill(&store);

    let told = salvage(&store, &fresh).unwrap();

    assert!(told.is_whole(), "{told:?}");
    assert!(contents(&EmbeddedStore::open(&fresh).unwrap()).unwrap() == written.present);
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let written = fill(place.path());
    let mut random = StdRng::seed_from_u64(11);
    let mut refused = 0;
    for (path, length) in files(place.path()) {
        let name = path.file_name().unwrap().to_owned();
        let many = if name == "db" { 60 } else { 12 };
        for _ in 0..many {
            let (at, bit) = (random.random_range(0..length), random.random_range(0..8_u8));
            let what = format!("bit {bit} of byte {at} of {}", name.display());
            let opened = is_never_wrong(place.path(), &written, &what, |damaged| {
                let path = damaged.join(&name);
                let mut bytes = fs::read(&path).unwrap();
                bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
                fs::write(path, bytes).unwrap();
            });
            refused += usize::from(!opened);
        }
    }
    assert!(refused > 0, "no damage was ever seen: the test damages nothing");
}

#[test]
fn a_shortened_file_is_refused_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let written = fill(place.path());
    let mut random = StdRng::seed_from_u64(13);
    let mut refused = 0;
    for (path, length) in files(place.path()) {
        let name = path.file_name().unwrap().to_owned();
        for _ in 0..12 {
            let left = random.random_range(0..length);
            let what = format!("{} cut to {left} of {length} bytes", name.display());
            let opened = is_never_wrong(place.path(), &written, &what, |damaged| {
                let file = fs::OpenOptions::new().write(true).open(damaged.join(&name)).unwrap();
                file.set_len(left).unwrap();
            });
            refused += usize::from(!opened);
        }
    }
    assert!(refused > 0, "no damage was ever seen: the test damages nothing");
}

#[test]
fn a_wiped_block_costs_only_what_lay_in_it() {
    let place = tempfile::tempdir().unwrap();
    let written = fill(place.path());
    let length = fs::metadata(place.path().join("db")).unwrap().len();
    let (damaged, fresh) = (place.path().join("damaged"), place.path().join("fresh"));
    let whole = tempfile::tempdir().unwrap();
    copy(place.path(), whole.path());
    copy(whole.path(), &damaged);
    let mut bytes = fs::read(damaged.join("db")).unwrap();
    let middle = usize::try_from(length / 4).unwrap();
    bytes[middle..middle + 4096].fill(0);
    fs::write(damaged.join("db"), bytes).unwrap();

    salvage(&damaged, &fresh).unwrap();

    let found = contents(&EmbeddedStore::open(&fresh).unwrap()).unwrap();
    let right = found.iter().filter(|(key, value)| written.present.get(*key) == Some(*value));
    let (right, all) = (right.count(), written.present.len());
    assert!(right * 2 > all, "of {all} values {right} came back");
}

#[test]
fn a_refused_store_says_how_to_go_on() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path());
    fs::write(place.path().join("db"), b"nothing").unwrap();

    let error = EmbeddedStore::open(place.path()).unwrap_err();

    assert!(error.to_string().contains("sinter-aggregator store salvage"), "{error}");
}

#[test]
fn a_store_in_use_is_not_salvaged() {
    let place = tempfile::tempdir().unwrap();
    let _held = EmbeddedStore::open(&place.path().join("store")).unwrap();

    let refused = salvage(&place.path().join("store"), &place.path().join("fresh")).unwrap_err();

    assert!(matches!(refused, StoreError::Held { .. }), "{refused}");
    assert!(!place.path().join("fresh").exists());
}

#[test]
fn a_folder_that_is_there_is_never_salvaged_into() {
    let place = tempfile::tempdir().unwrap();
    fill(&place.path().join("store"));
    fs::create_dir(place.path().join("mine")).unwrap();

    let refused = salvage(&place.path().join("store"), &place.path().join("mine")).unwrap_err();

    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
}

fn put(number: u32) -> (Vec<u8>, Change) {
    let key = number.to_be_bytes().to_vec();
    let value = vec![number.to_le_bytes()[0]; 8_000];
    (key.clone(), Change::Put { table: Table::Samples, key, value: value.into() })
}

#[test]
fn a_full_disk_loses_nothing_and_is_got_over() {
    if !nix::unistd::geteuid().is_root() {
        println!("LEFT OUT: a disk to be filled takes root, to mount one in a private namespace");
        assert!(std::env::var_os("SINTER_REQUIRE_ALL").is_none());
        return;
    }
    // Only this thread and the ones it starts see the mount.
    let filled = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let place = tempfile::tempdir().unwrap();
        let (size, kind) = (Some("size=24m"), Some("tmpfs"));
        mount(Some("small"), place.path(), kind, MsFlags::empty(), size).unwrap();
        fill_and_go_on(place.path());
        nix::mount::umount(place.path()).unwrap();
    });
    filled.join().unwrap();
}

fn fill_and_go_on(disk: &Path) {
    let (folder, ballast) = (disk.join("store"), disk.join("ballast"));
    let mut acknowledged = BTreeSet::new();
    {
        let store = EmbeddedStore::open(&folder).unwrap();
        fs::write(&ballast, vec![1; 4 << 20]).unwrap();
        let refused = (0..).find_map(|number| {
            let (key, change) = put(number);
            match runtime().block_on(store.commit(vec![change])) {
                Ok(()) => {
                    acknowledged.insert(key);
                    None
                }
                Err(cause) => Some(cause),
            }
        });
        assert!(matches!(refused, Some(StoreError::Full { .. })), "{refused:?}");
        // Now somebody else takes all that is left, to the last byte.
        drop(fs::write(disk.join("more"), vec![1; 24 << 20]));
        let (_, change) = put(u32::MAX);
        let refused = runtime().block_on(store.commit(vec![change])).unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        let keys: BTreeSet<_> = contents(&store).unwrap().into_keys().map(|(_, key)| key).collect();
        assert_eq!(keys, acknowledged);

        fs::remove_file(disk.join("more")).unwrap();
        fs::remove_file(&ballast).unwrap();
        let (key, change) = put(u32::MAX);
        runtime().block_on(store.commit(vec![change])).unwrap();
        acknowledged.insert(key);
    }
    let store = EmbeddedStore::open(&folder).unwrap();
    let keys: BTreeSet<_> = contents(&store).unwrap().into_keys().map(|(_, key)| key).collect();
    assert_eq!(keys, acknowledged);
}
