//! What of the software goes up with a sample: what changed, as far as there is room, the rest with the next.
//!
//! ```text
//!  known now ─┐
//!  told so far ┴─> changes ─> as many as fit ─> the sample; once it is kept they are told
//! ```

use std::sync::Arc;

use common::{
    delta,
    sample::{ConfigurationFile, Package, PackageKey, Software, SoftwareDelta, TableDelta},
};

/// What stands around a package on the wire: tags, lengths, numbers.
const AROUND_PACKAGE: usize = 32;
/// The same of a file, with its digest.
const AROUND_FILE: usize = 112;
/// The same of a row that is gone.
const AROUND_REMOVED: usize = 16;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Telling {
    told: Option<Arc<Software>>,
}

impl Telling {
    /// What is to be told of `known`, all of it if `anew`; `None` if there is no news.
    pub(super) fn due(&self, known: Option<&Arc<Software>>, anew: bool) -> Option<SoftwareDelta> {
        let known = known?;
        let told = self.told.as_ref().filter(|_| !anew);
        // As long as nothing changes it is one and the same, which need not be compared.
        if told.is_some_and(|told| Arc::ptr_eq(told, known)) {
            return None;
        }
        delta::of_software(told.map(AsRef::as_ref), known)
    }

    /// Takes note that `delta` was kept; `known` is where it leads once nothing is left.
    pub(super) fn tell(&mut self, delta: &SoftwareDelta, known: &Arc<Software>) {
        let mut told = match self.told.take() {
            Some(told) if !delta.full => Arc::unwrap_or_clone(told),
            _ => Software::default(),
        };
        delta::amend_software(&mut told, delta);
        let is_all = told == **known;
        self.told = Some(if is_all { Arc::clone(known) } else { Arc::new(told) });
    }

    /// Takes note that nothing told counts any more.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

/// About how many bytes the changes take on the wire.
pub(super) fn size(delta: &SoftwareDelta) -> usize {
    let packages = delta.packages.upserted.iter().map(package_size).sum::<usize>();
    let files = delta.files.upserted.iter().map(file_size).sum::<usize>();
    let removed = delta.packages.removed.iter().map(key_size).sum::<usize>();
    let gone = delta.files.removed.iter().map(|path| path.len() + AROUND_REMOVED).sum::<usize>();
    packages + files + removed + gone
}

/// As much of the changes as takes about `room` bytes. What is gone goes first: it is little.
pub(super) fn cut(delta: SoftwareDelta, room: usize) -> SoftwareDelta {
    let mut left = room;
    let SoftwareDelta { full, packages, files } = delta;
    let removed = take(packages.removed, &mut left, key_size);
    let gone = take(files.removed, &mut left, |path| path.len() + AROUND_REMOVED);
    let upserted = take(packages.upserted, &mut left, package_size);
    let changed = take(files.upserted, &mut left, file_size);
    SoftwareDelta {
        full,
        packages: TableDelta { upserted, removed },
        files: TableDelta { upserted: changed, removed: gone },
    }
}

/// The rows that fit, in the order of the table: once one does not, none behind it goes.
fn take<T>(mut rows: Vec<T>, left: &mut usize, size: impl Fn(&T) -> usize) -> Vec<T> {
    let does_not_fit = |row: &T| {
        let rest = left.checked_sub(size(row));
        *left = rest.unwrap_or(0);
        rest.is_none()
    };
    let kept = rows.iter().position(does_not_fit).unwrap_or(rows.len());
    rows.truncate(kept);
    rows
}

fn key_size(key: &PackageKey) -> usize {
    key.name.len() + key.architecture.len() + AROUND_REMOVED
}

fn package_size((key, package): &(PackageKey, Package)) -> usize {
    key.name.len() + key.architecture.len() + package.version.len() + AROUND_PACKAGE
}

fn file_size((path, file): &(String, ConfigurationFile)) -> usize {
    let texts = [file.package.as_ref(), file.content.as_ref()];
    let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
    path.len() + texts + AROUND_FILE
}

#[cfg(test)]
mod tests {
    use common::sample::PackageManager;

    use super::*;

    fn with(packages: u32) -> Arc<Software> {
        let packages = (0..packages).map(|n| {
            let key = PackageKey {
                manager: PackageManager::Rpm,
                name: format!("package-{n:06}"),
                architecture: "x86_64".into(),
            };
            (key, Package { version: "1.0-1".into(), ..Package::default() })
        });
        Arc::new(Software { packages: packages.collect(), ..Software::default() })
    }

    #[test]
    fn much_software_goes_in_slices_and_arrives_whole() {
        let known = with(20_000);
        let (mut telling, mut arrived) = (Telling::default(), Software::default());

        let mut slices = Vec::new();
        while let Some(delta) = telling.due(Some(&known), false) {
            let delta = cut(delta, 300_000);
            assert!(size(&delta) <= 300_000);
            delta::amend_software(&mut arrived, &delta);
            telling.tell(&delta, &known);
            slices.push(delta.full);
        }

        assert_eq!(arrived, *known);
        assert!(
            slices.len() > 3 && slices[0] && slices[1..].iter().all(|full| !full),
            "{slices:?}"
        );
    }

    #[test]
    fn what_is_known_already_is_no_news_unless_all_is_asked_for_anew() {
        let known = with(3);
        let mut telling = Telling::default();
        assert!(telling.due(None, true).is_none());
        telling.tell(&telling.due(Some(&known), false).unwrap(), &known);

        assert!(telling.due(Some(&known), false).is_none());
        assert!(telling.due(Some(&known), true).unwrap().full);
        let delta = telling.due(Some(&with(2)), false).unwrap();
        assert_eq!((delta.full, delta.packages.removed.len()), (false, 1));
        telling.forget();
        assert!(telling.due(Some(&known), false).unwrap().full);
    }
}
