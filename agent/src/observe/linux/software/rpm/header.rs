//! What Sinter wants of an rpm header: name, version, architecture, time of installation, and the
//! configuration files with their digests.
//!
//! ```text
//!  entries: u32 │ bytes of data: u32 │ entry: tag, type, offset, count, u32 each … │ data …     big endian
//! ```
//!
//! A header comes from outside: every number in it is checked against what is there before it is used, and
//! a header that does not check costs that package.

use common::{
    clock::Timestamp,
    sample::{Package, PackageKey, PackageManager},
};

use super::{
    super::found::{Digest, Found},
    Row,
};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const INSTALL_TIME: u32 = 1008;
const ARCHITECTURE: u32 = 1022;
const FILE_DIGESTS: u32 = 1035;
const FILE_FLAGS: u32 = 1037;
const FOLDER_OF_FILE: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const FOLDERS: u32 = 1118;
const DIGEST_ALGORITHM: u32 = 5011;

/// Types of entries.
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRINGS: u32 = 8;
const TRANSLATED: u32 = 9;

/// `RPMFILE_CONFIG`.
const IS_CONFIGURATION: u32 = 1;
/// `RPMFILE_GHOST`: named by the package and not brought by it.
const IS_GHOST: u32 = 1 << 6;

/// `PGPHASHALGO_MD5` and `PGPHASHALGO_SHA256`. A header that names none has the first.
const MD5: u32 = 1;
const SHA256: u32 = 8;

const ENTRY: usize = 16;

/// A header, as far as its beginning checks.
#[derive(Debug)]
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

/// What a header is. A key that rpm keeps among the packages has no architecture.
pub(super) fn row(blob: &[u8]) -> Row {
    let Some(header) = Header::new(blob) else { return Row::Unreadable };
    if header.entry(ARCHITECTURE).is_none() && header.text(NAME).is_some() {
        return Row::Other;
    }
    package(&header).map_or(Row::Unreadable, Row::Package)
}

fn package(header: &Header<'_>) -> Option<Found> {
    let (name, architecture) = (header.text(NAME)?, header.text(ARCHITECTURE)?);
    let (version, release) = (header.text(VERSION)?, header.text(RELEASE)?);
    let version = match header.number(EPOCH) {
        Some(epoch) => format!("{epoch}:{version}-{release}"),
        None => format!("{version}-{release}"),
    };
    let installed_at = header.number(INSTALL_TIME);
    let key = PackageKey {
        manager: PackageManager::Rpm,
        name: name.to_owned(),
        architecture: architecture.to_owned(),
    };
    let installed_at =
        installed_at.map(|seconds| Timestamp::from_millis(u64::from(seconds).saturating_mul(1000)));
    let files = header.configuration_files().unwrap_or_default();
    Some(Found { key, package: Package { version, installed_at, ..Package::default() }, files })
}

impl<'a> Header<'a> {
    fn new(blob: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(number_at(blob, 0)?).ok()?;
        let size = usize::try_from(number_at(blob, 4)?).ok()?;
        let data_at = count.checked_mul(ENTRY)?.checked_add(8)?;
        let end = data_at.checked_add(size)?;
        Some(Self { entries: blob.get(8..data_at)?, data: blob.get(data_at..end)? })
    }

    /// Type, count, and the data from where it begins.
    fn entry(&self, wanted: u32) -> Option<(u32, usize, &'a [u8])> {
        let entry =
            self.entries.chunks_exact(ENTRY).find(|entry| number_at(entry, 0) == Some(wanted))?;
        let offset = usize::try_from(number_at(entry, 8)?).ok()?;
        let count = usize::try_from(number_at(entry, 12)?).ok()?;
        Some((number_at(entry, 4)?, count, self.data.get(offset..)?))
    }

    fn text(&self, tag: u32) -> Option<&'a str> {
        let (kind, _, data) = self.entry(tag)?;
        let is_text = [STRING, STRINGS, TRANSLATED].contains(&kind);
        std::str::from_utf8(data.split(|byte| *byte == 0).next()?).ok().filter(|_| is_text)
    }

    fn number(&self, tag: u32) -> Option<u32> {
        self.numbers(tag)?.next()
    }

    fn numbers(&self, tag: u32) -> Option<impl Iterator<Item = u32> + 'a> {
        let (kind, count, data) = self.entry(tag)?;
        let data = data.get(..count.checked_mul(4)?).filter(|_| kind == INT32)?;
        Some(data.chunks_exact(4).filter_map(|number| number_at(number, 0)))
    }

    fn texts(&self, tag: u32) -> Option<impl Iterator<Item = &'a [u8]> + 'a> {
        let (kind, count, data) = self.entry(tag)?;
        (kind == STRINGS).then(|| data.split(|byte| *byte == 0).take(count))
    }

    fn configuration_files(&self) -> Option<Vec<(String, Option<Digest>)>> {
        let algorithm = self.number(DIGEST_ALGORITHM).unwrap_or(MD5);
        let folders: Vec<&[u8]> = self.texts(FOLDERS)?.collect();
        let names = self.texts(BASE_NAMES)?.zip(self.numbers(FOLDER_OF_FILE)?);
        let digests = self.texts(FILE_DIGESTS)?.map(Some).chain(std::iter::repeat(None));
        let files = names.zip(self.numbers(FILE_FLAGS)?).zip(digests);
        let wanted =
            files.filter(|((_, flags), _)| flags & IS_CONFIGURATION != 0 && flags & IS_GHOST == 0);
        let files = wanted.filter_map(|(((name, folder), _), digest)| {
            let folder = folders.get(usize::try_from(folder).ok()?)?;
            let path = String::from_utf8([folder, name].concat()).ok()?;
            Some((path, digest.and_then(|digest| digest_of(algorithm, digest))))
        });
        Some(files.collect())
    }
}

fn digest_of(algorithm: u32, text: &[u8]) -> Option<Digest> {
    match algorithm {
        MD5 => Digest::md5(text),
        SHA256 => Digest::sha256(text),
        _ => None,
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tag: u32, value: &str) -> (u32, u32, u32, Vec<u8>) {
        (tag, STRING, 1, [value.as_bytes(), b"\0"].concat())
    }

    fn header(entries: &[(u32, u32, u32, Vec<u8>)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, kind, count, value) in entries {
            let offset = u32::try_from(data.len()).unwrap();
            for number in [*tag, *kind, offset, *count] {
                index.extend(number.to_be_bytes());
            }
            data.extend(value);
        }
        let sizes = [entries.len(), data.len()].map(|size| u32::try_from(size).unwrap());
        [sizes[0].to_be_bytes().to_vec(), sizes[1].to_be_bytes().to_vec(), index, data].concat()
    }

    fn plain() -> Vec<(u32, u32, u32, Vec<u8>)> {
        vec![
            text(NAME, "nginx"),
            text(VERSION, "1.26"),
            text(RELEASE, "2.el9"),
            text(ARCHITECTURE, "x86_64"),
        ]
    }

    #[test]
    fn a_package_without_epoch_and_files_is_a_package() {
        let Row::Package(found) = row(&header(&plain())) else { panic!("no package") };
        assert_eq!(
            (found.key.name.as_str(), found.package.version.as_str()),
            ("nginx", "1.26-2.el9")
        );
        assert_eq!((found.package.installed_at, found.files.len()), (None, 0));
    }

    #[test]
    fn a_key_is_no_package() {
        let key = [text(NAME, "gpg-pubkey"), text(VERSION, "1"), text(RELEASE, "2")];
        assert!(matches!(row(&header(&key)), Row::Other));
    }

    #[test]
    fn a_cut_or_lying_header_is_no_package_and_never_a_panic() {
        let whole = header(&plain());
        for length in 0..whole.len() {
            assert!(matches!(row(&whole[..length]), Row::Unreadable), "{length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0xff;
            drop(row(&flipped));
        }
    }
}
