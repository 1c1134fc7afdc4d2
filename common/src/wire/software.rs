//! Installed software and its configuration, as changes.

use super::{
    BadMessage,
    field::{Field, conversion, cut, cut_content, cut_path, millis, or_empty, some},
    types::v1,
};
use crate::{
    sample::{
        ConfigurationFile, Package, PackageKey, PackageManager, PackageVersion, SoftwareDelta,
        TableDelta,
    },
    units::Bytes,
};

conversion! {
    v1::SoftwareDelta => SoftwareDelta, software;
    v1::Package => (PackageKey, Package), package;
    v1::ConfigurationFile => (String, ConfigurationFile), file;
}

pub(super) fn software(
    wire: v1::SoftwareDelta,
    field: &Field<'_>,
) -> Result<SoftwareDelta, BadMessage> {
    let (packages, files) = (wire.packages.unwrap_or_default(), wire.files.unwrap_or_default());
    let (package_place, file_place) = (field.of("packages"), field.of("files"));
    Ok(SoftwareDelta {
        full: wire.full,
        packages: TableDelta {
            upserted: package_place.of("upserted").rows(packages.upserted, package)?,
            removed: package_place.of("removed").rows(packages.removed, package_key)?,
        },
        files: TableDelta {
            upserted: file_place.of("upserted").rows(files.upserted, file)?,
            removed: file_place.of("removed").rows(files.removed, path)?,
        },
    })
}

impl From<&SoftwareDelta> for v1::SoftwareDelta {
    fn from(delta: &SoftwareDelta) -> Self {
        let packages = v1::PackageTable {
            upserted: delta.packages.upserted.iter().map(|(key, row)| (key, row).into()).collect(),
            removed: delta.packages.removed.iter().map(Into::into).collect(),
        };
        let files = v1::FileTable {
            upserted: delta.files.upserted.iter().map(|(path, row)| (path, row).into()).collect(),
            removed: delta.files.removed.iter().map(|path| cut_path(path)).collect(),
        };
        Self { full: delta.full, packages: Some(packages), files: Some(files) }
    }
}

fn package_key(wire: v1::PackageKey, field: &Field<'_>) -> Result<PackageKey, BadMessage> {
    let place = field.of("manager");
    let manager = match place.kind(wire.manager)? {
        v1::PackageManager::Dpkg => PackageManager::Dpkg,
        v1::PackageManager::Rpm => PackageManager::Rpm,
        other @ v1::PackageManager::Unspecified => return Err(place.unusable(other.as_str_name())),
    };
    let place = field.of("name");
    if wire.name.is_empty() {
        return Err(place.refuse("", "send the name of a package"));
    }
    Ok(PackageKey {
        manager,
        name: place.text(wire.name)?,
        architecture: field.of("architecture").text(wire.architecture)?,
    })
}

impl From<&PackageKey> for v1::PackageKey {
    fn from(key: &PackageKey) -> Self {
        let manager = match key.manager {
            PackageManager::Dpkg => v1::PackageManager::Dpkg,
            PackageManager::Rpm => v1::PackageManager::Rpm,
        };
        Self { manager: manager.into(), name: cut(&key.name), architecture: cut(&key.architecture) }
    }
}

fn package(wire: v1::Package, field: &Field<'_>) -> Result<(PackageKey, Package), BadMessage> {
    let (place, installed) = (field.of("key"), field.of("installed_at_unix_ms"));
    let row = Package {
        version: field.of("version").text(wire.version)?,
        installed_at: wire.installed_at_unix_ms.map(|ms| installed.time(ms)).transpose()?,
        further: field.of("further").rows(wire.further, package_version)?,
    };
    Ok((package_key(place.required(wire.key)?, &place)?, row))
}

fn package_version(
    wire: v1::PackageVersion,
    field: &Field<'_>,
) -> Result<PackageVersion, BadMessage> {
    let installed = field.of("installed_at_unix_ms");
    Ok(PackageVersion {
        version: field.of("version").text(wire.version)?,
        installed_at: wire.installed_at_unix_ms.map(|ms| installed.time(ms)).transpose()?,
    })
}

impl From<&PackageVersion> for v1::PackageVersion {
    fn from(row: &PackageVersion) -> Self {
        Self { version: cut(&row.version), installed_at_unix_ms: row.installed_at.map(millis) }
    }
}

impl From<(&PackageKey, &Package)> for v1::Package {
    fn from((key, row): (&PackageKey, &Package)) -> Self {
        Self {
            key: Some(key.into()),
            version: cut(&row.version),
            installed_at_unix_ms: row.installed_at.map(millis),
            further: row.further.iter().map(Into::into).collect(),
        }
    }
}

fn path(path: String, field: &Field<'_>) -> Result<String, BadMessage> {
    if path.is_empty() {
        return Err(field.refuse("", "send the path of a file"));
    }
    field.path(path)
}

fn file(
    wire: v1::ConfigurationFile,
    field: &Field<'_>,
) -> Result<(String, ConfigurationFile), BadMessage> {
    let content = field.of("content");
    let row = ConfigurationFile {
        size: Bytes(wire.size_bytes),
        modified: field.of("modified_at_unix_ms").time(wire.modified_at_unix_ms)?,
        hash: hash(&wire.hash, &field.of("hash"))?,
        user: wire.user_id,
        group: wire.group_id,
        mode: wire.mode,
        package: some(field.of("package").text(wire.package)?),
        unchanged: wire.unchanged,
        content: wire.content.map(|text| content.content(text)).transpose()?,
    };
    Ok((path(wire.path, &field.of("path"))?, row))
}

impl From<(&String, &ConfigurationFile)> for v1::ConfigurationFile {
    fn from((path, row): (&String, &ConfigurationFile)) -> Self {
        Self {
            path: cut_path(path),
            size_bytes: row.size.0,
            modified_at_unix_ms: millis(row.modified),
            hash: row.hash.map(Vec::from).unwrap_or_default(),
            user_id: row.user,
            group_id: row.group,
            mode: row.mode,
            package: or_empty(row.package.as_ref()),
            unchanged: row.unchanged,
            content: row.content.as_deref().map(cut_content),
        }
    }
}

fn hash(hash: &[u8], field: &Field<'_>) -> Result<Option<[u8; 32]>, BadMessage> {
    if hash.is_empty() {
        return Ok(None);
    }
    let whole = <[u8; 32]>::try_from(hash);
    whole.map(Some).map_err(|_| {
        field.refuse(format_args!("{} bytes long", hash.len()), "send 32 bytes, or none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{LONGEST_CONTENT, LONGEST_PATH};

    fn wire_file() -> v1::ConfigurationFile {
        v1::ConfigurationFile {
            path: "/etc/web.conf".into(),
            size_bytes: 12,
            modified_at_unix_ms: 1,
            hash: vec![7; 32],
            mode: 0o640,
            unchanged: Some(false),
            content: Some("a = 1\n\tb = 2\r\n".into()),
            ..Default::default()
        }
    }

    fn refused_file(change: impl FnOnce(&mut v1::ConfigurationFile)) -> String {
        let mut wire = wire_file();
        change(&mut wire);
        <(String, ConfigurationFile)>::try_from(wire).unwrap_err().to_string()
    }

    #[test]
    fn a_file_comes_back_with_its_lines_and_obeys_nobody() {
        let (path, row) = <(String, ConfigurationFile)>::try_from(wire_file()).unwrap();
        assert_eq!(v1::ConfigurationFile::from((&path, &row)), wire_file());
        let wire = v1::ConfigurationFile { content: Some("\u{1b}[2J\n".into()), ..wire_file() };
        let (_, row) = <(String, ConfigurationFile)>::try_from(wire).unwrap();
        assert_eq!(row.content.as_deref(), Some("\u{fffd}[2J\n"));
    }

    #[test]
    fn a_bad_file_is_named_with_what_it_has() {
        let told = refused_file(|wire| wire.hash = vec![7; 31]);
        assert_eq!(told, "hash is 31 bytes long; send 32 bytes, or none");
        assert!(refused_file(|wire| wire.path.clear()).starts_with("path is empty;"));
        let told = refused_file(|wire| wire.path = "x".repeat(LONGEST_PATH + 1));
        assert!(told.starts_with("path is 4097 bytes long;"), "{told}");
        let told = refused_file(|wire| wire.content = Some("x".repeat(LONGEST_CONTENT + 1)));
        assert!(told.starts_with("content is 65537 bytes long;"), "{told}");
        assert!(refused_file(|wire| wire.modified_at_unix_ms = -1).starts_with("modified_at"));
    }

    #[test]
    fn a_content_too_long_is_never_sent() {
        let row = ConfigurationFile { content: Some("ä".repeat(40_000)), ..Default::default() };
        let sent = v1::ConfigurationFile::from((&"/a".to_owned(), &row));
        assert!(<(String, ConfigurationFile)>::try_from(sent).is_ok());
    }

    #[test]
    fn a_package_without_manager_or_name_is_refused() {
        let key = v1::PackageKey { manager: 1, name: "bash".into(), architecture: "amd64".into() };
        let told = |key| {
            let wire = v1::Package { key, ..Default::default() };
            <(PackageKey, Package)>::try_from(wire).unwrap_err().field
        };
        assert_eq!(told(Some(v1::PackageKey { manager: 0, ..key.clone() })), "key.manager");
        assert_eq!(told(Some(v1::PackageKey { manager: 9, ..key.clone() })), "key.manager");
        assert_eq!(told(Some(v1::PackageKey { name: String::new(), ..key.clone() })), "key.name");
        assert_eq!(told(None), "key");
        let further =
            vec![v1::PackageVersion { version: "1:5.1-9".into(), installed_at_unix_ms: Some(7) }];
        let wire = v1::Package {
            key: Some(key),
            version: "1:5.2-3".into(),
            further,
            ..Default::default()
        };
        let (key, row) = <(PackageKey, Package)>::try_from(wire.clone()).unwrap();
        assert_eq!(v1::Package::from((&key, &row)), wire);
    }
}
