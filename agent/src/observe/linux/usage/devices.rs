//! Names of block devices by their numbers. Only devices that are real have one here: a partition, a mapping
//! or a loop would count the same bytes again.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
};

use common::sample::DeviceUse;

/// Where the kernel keeps them.
const BY_NUMBERS: &str = "/sys/dev/block";

/// Most names remembered; devices come and go.
const MAX_NAMES: usize = 1024;

/// The names asked for so far.
#[derive(Debug)]
pub(super) struct Devices {
    folder: PathBuf,
    names: HashMap<(u32, u32), Option<String>>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { folder: BY_NUMBERS.into(), names: HashMap::new() }
    }
}

impl Devices {
    /// The same by names; what has none is left out.
    pub(super) fn named(
        &mut self,
        devices: BTreeMap<(u32, u32), DeviceUse>,
    ) -> BTreeMap<String, DeviceUse> {
        devices
            .into_iter()
            .filter_map(|(numbers, used)| Some((self.name(numbers)?, used)))
            .collect()
    }

    /// Forgets all: a number may have come to another device.
    pub(super) fn forget(&mut self) {
        self.names.clear();
    }

    fn name(&mut self, numbers: (u32, u32)) -> Option<String> {
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        let folder = &self.folder;
        let name = self.names.entry(numbers).or_insert_with(|| {
            let link = folder.join(format!("{}:{}", numbers.0, numbers.1));
            let is_real = link.join("device").exists() && !link.join("partition").exists();
            let place = fs::read_link(link).ok().filter(|_| is_real)?;
            Some(place.file_name()?.to_str()?.to_owned())
        });
        name.clone()
    }
}

/// `254:0`.
pub(super) fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_real_devices_have_a_name() {
        let folder = tempfile::tempdir().unwrap();
        for (numbers, name, inside) in [
            ("254:0", "vda", vec!["device"]),
            ("254:1", "vda1", vec!["device", "partition"]),
            ("7:0", "loop0", vec![]),
        ] {
            let device = folder.path().join(name);
            fs::create_dir(&device).unwrap();
            inside.iter().for_each(|file| fs::create_dir(device.join(file)).unwrap());
            symlink(&device, folder.path().join(numbers)).unwrap();
        }
        let mut devices = Devices { folder: folder.path().to_owned(), ..Devices::default() };

        let all = [(254, 0), (254, 1), (7, 0), (9, 9)];
        let named = devices.named(all.map(|numbers| (numbers, DeviceUse::default())).into());

        assert_eq!(named.into_keys().collect::<Vec<_>>(), ["vda"]);
    }

    #[test]
    fn numbers_are_two() {
        assert_eq!(numbers("254:0"), Some((254, 0)));
        assert_eq!((numbers("Total"), numbers("1:x")), (None, None));
    }
}
