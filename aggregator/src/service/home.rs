//! The aggregator's own folder: its store, its authority, its keys, and what operators call it by.
//!
//! ```text
//!  store/                      all that is remembered
//!  authority.pem .key          the authority every certificate comes from
//!  list.key                    signs configuration lists
//!  operators/admin/            certificate, key and context file of the first operator
//! ```
//!
//! Nobody but the aggregator may look into it. Keys are written once, whole or not at all, and
//! never printed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{
    clock::Clock,
    pki::{self, Authority, PkiError},
    signing::{ListKey, SigningError},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::repository::{Repository, StoreError};

const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";
const LIST_KEY: &str = "list.key";

/// Why the folder cannot be worked with.
#[derive(Debug, Error)]
pub enum HomeError {
    /// The system did not do it.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Others may look into it.
    #[error(
        "folder {} may be opened by others; its keys are nobody else's: chmod 0700 it", .0.display()
    )]
    Open(PathBuf),
    /// There is no authority yet.
    #[error(
        "there is no authority in {}; it is made when the aggregator first starts", .0.display()
    )]
    NoAuthority(PathBuf),
    /// The list key cannot be read.
    #[error("{} is no list key; put the former file back", .0.display())]
    BadListKey(PathBuf),
    /// A certificate could not be made or read.
    #[error("authority in {} cannot be worked with", folder.display())]
    Authority {
        /// Where.
        folder: PathBuf,
        /// Why not.
        #[source]
        cause: PkiError,
    },
    /// A key could not be made.
    #[error("could not make the list key")]
    ListKey(#[source] SigningError),
    /// The store cannot be worked with.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The folder, opened: no other aggregator works on it.
#[derive(Debug, Clone)]
pub struct Home {
    /// Where it is.
    pub folder: PathBuf,
    /// All that is remembered.
    pub repository: Repository,
    /// Where every certificate comes from.
    pub authority: Arc<Authority>,
    /// Signs configuration lists.
    pub list_key: Arc<ListKey>,
}

impl Home {
    /// Opens the folder, and makes in it what is not there yet. Blocks while the store is checked.
    ///
    /// # Errors
    ///
    /// See [`HomeError`].
    pub fn open(folder: &Path, clock: &dyn Clock) -> Result<Self, HomeError> {
        make_private(folder)?;
        // Locks it: of two who start at once, one makes the keys.
        let repository = Repository::open(&folder.join("store"))?;
        let authority = match authority_of(folder) {
            Err(HomeError::NoAuthority(_)) => made_authority(folder, clock)?,
            found => found?,
        };
        let list_key = list_key(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            repository,
            authority: Arc::new(authority),
            list_key: Arc::new(list_key),
        })
    }

    /// What the secrets of join tokens are made from.
    #[must_use]
    pub fn token_key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"sinter token key");
        hash.update(self.list_key.to_bytes());
        hash.finalize().into()
    }

    /// What agents are told to trust.
    ///
    /// # Errors
    ///
    /// If the authority's certificate cannot be read.
    pub fn fingerprint(&self) -> Result<String, HomeError> {
        fingerprint(&self.folder, &self.authority)
    }
}

/// What agents are told to trust: SHA-256 of the authority's certificate.
///
/// # Errors
///
/// If it cannot be read.
pub fn fingerprint(folder: &Path, authority: &Authority) -> Result<String, HomeError> {
    pki::fingerprint_of_pem(authority.certificate_pem()).map_err(authority_error(folder))
}

pub(super) fn authority_error(folder: &Path) -> impl Fn(PkiError) -> HomeError {
    move |cause| HomeError::Authority { folder: folder.to_owned(), cause }
}

pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> HomeError {
    move |cause| HomeError::Io { action, path: path.to_owned(), cause }
}

/// The authority of a folder that an aggregator was started in; it may be running.
///
/// # Errors
///
/// See [`HomeError`].
pub fn authority_of(folder: &Path) -> Result<Authority, HomeError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    // The certificate is written last: without it there never was an authority.
    if !certificate.try_exists().map_err(io("look for", &certificate))? {
        return Err(HomeError::NoAuthority(folder.to_owned()));
    }
    let certificate = fs::read_to_string(&certificate).map_err(io("read", &certificate))?;
    let key = fs::read_to_string(&key).map_err(io("read", &key))?;
    Authority::from_pem(&certificate, &key).map_err(authority_error(folder))
}

fn made_authority(folder: &Path, clock: &dyn Clock) -> Result<Authority, HomeError> {
    let authority = Authority::create(clock.now()).map_err(authority_error(folder))?;
    write_whole(&folder.join(KEY), 0o600, authority.key_pem().as_bytes())?;
    write_whole(&folder.join(CERTIFICATE), 0o644, authority.certificate_pem().as_bytes())?;
    tracing::info!(folder = %folder.display(), "authority made");
    Ok(authority)
}

fn list_key(folder: &Path) -> Result<ListKey, HomeError> {
    let path = folder.join(LIST_KEY);
    if !path.try_exists().map_err(io("look for", &path))? {
        let key = ListKey::generate().map_err(HomeError::ListKey)?;
        write_whole(&path, 0o600, hex::encode(key.to_bytes()).as_bytes())?;
        return Ok(key);
    }
    let text = fs::read_to_string(&path).map_err(io("read", &path))?;
    let secret = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    let secret = secret.ok_or(HomeError::BadListKey(path))?;
    Ok(ListKey::from_bytes(&secret))
}

/// Makes a folder that nobody else may look into, or finds one.
pub(super) fn make_private(folder: &Path) -> Result<(), HomeError> {
    if let Err(cause) = DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        return Err(io("make folder", folder)(cause));
    }
    let mode = fs::metadata(folder).map_err(io("look at", folder))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(HomeError::Open(folder.to_owned()));
    }
    Ok(())
}

/// Writes a file beside its place and moves it there, so that it is whole or not there at all.
pub(super) fn write_whole(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), HomeError> {
    let beside = path.with_extension("new");
    let write = || {
        // One that a crash left behind may have other rights.
        match fs::remove_file(&beside) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use common::clock::SystemClock;

    use super::*;

    #[test]
    fn the_second_start_finds_what_the_first_one_made() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sinter");
        let (print, lists, tokens) = {
            let home = Home::open(&folder, &SystemClock).unwrap();
            (home.fingerprint().unwrap(), home.list_key.public().id(), home.token_key())
        };

        let home = Home::open(&folder, &SystemClock).unwrap();

        assert_eq!(home.fingerprint().unwrap(), print);
        assert_eq!((home.list_key.public().id(), home.token_key()), (lists, tokens));
    }

    #[test]
    fn keys_are_nobody_elses() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sinter");
        drop(Home::open(&folder, &SystemClock).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!((mode(&folder.join(KEY)), mode(&folder.join(LIST_KEY))), (0o600, 0o600));
    }

    #[test]
    fn a_folder_that_others_may_open_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Home::open(place.path(), &SystemClock).unwrap_err();
        assert!(refused.to_string().contains("chmod 0700"), "{refused}");
    }

    #[test]
    fn a_second_aggregator_is_told_who_works_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sinter");
        let _first = Home::open(&folder, &SystemClock).unwrap();
        let refused = Home::open(&folder, &SystemClock).unwrap_err();
        assert!(matches!(refused, HomeError::Store(StoreError::Held { .. })), "{refused}");
    }
}
