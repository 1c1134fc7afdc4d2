//! Databases that rpm and Berkeley DB themselves wrote.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;

const SPEC: &str = "
Name: NAME
Epoch: 2
Version: 1.4
Release: 3
Summary: a package made for a test
License: MIT
BuildArch: noarch
%description
It holds what the test looks for.
%install
mkdir -p %{buildroot}/etc/tiny %{buildroot}/usr/share/tiny
echo a > %{buildroot}/etc/tiny/NAME.conf
for n in $(seq FILES); do echo x > %{buildroot}/usr/share/tiny/NAME-a-rather-long-name-of-a-file-$n; done
%files
%config(noreplace) /etc/tiny/NAME.conf
/usr/share/tiny/*
";

/// SHA-256 of \"a\\n\".
const OF_A: &str = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";

fn run(command: &mut Command) -> Vec<u8> {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[expect(clippy::print_stderr, reason = "a test that was left out says so loudly")]
fn left_out(what: &str) {
    eprintln!("LEFT OUT: {what} is not installed, so a database of it is not read");
    assert!(std::env::var_os("SINTER_REQUIRE_ALL").is_none(), "{what} is not installed");
}

/// A database with so many packages of so many files, made by rpm; `None` if rpm is not here.
fn database(folder: &Path, packages: usize, files: usize) -> Option<PathBuf> {
    if Command::new("rpmbuild").arg("--version").output().is_err() {
        left_out("rpm");
        return None;
    }
    let database = folder.join("db");
    let form = ["--define", "_db_backend sqlite", "--dbpath"];
    for n in 0..packages {
        let spec = folder.join(format!("tiny-{n}.spec"));
        let text = SPEC.replace("NAME", &format!("tiny-{n}")).replace("FILES", &files.to_string());
        std::fs::write(&spec, text).unwrap();
        let top = format!("_topdir {}", folder.join("top").display());
        run(Command::new("rpmbuild").args(["-bb", "--quiet", "--define", &top]).arg(&spec));
        let made = folder.join(format!("top/RPMS/noarch/tiny-{n}-1.4-3.noarch.rpm"));
        let install = ["-i", "--justdb", "--nodeps", "--force-debian"];
        run(Command::new("rpm").args(install).args(form).arg(&database).arg(made));
    }
    Some(database.join("rpmdb.sqlite"))
}

fn packages(path: &Path) -> Vec<Found> {
    let mut rpm = Rpm::open(path).unwrap();
    let rows = std::iter::from_fn(|| rpm.next().unwrap().map(|(row, _)| row));
    rows.map(|row| match row {
        Row::Package(found) => found,
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn an_sqlite_database_that_rpm_wrote_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = database(folder.path(), 2, 300) else { return };

    let found = packages(&path);

    let name = |found: &Found| found.key.name.clone();
    assert_eq!(found.iter().map(name).collect::<Vec<_>>(), ["tiny-0", "tiny-1"]);
    assert_eq!(found[0].key.architecture, "noarch");
    assert_eq!(found[0].package.version, "2:1.4-3");
    assert!(found[0].package.installed_at.is_some());
    let digest = super::super::found::Digest::sha256(OF_A.as_bytes());
    assert_eq!(found[0].files, [("/etc/tiny/tiny-0.conf".to_owned(), digest)]);
}

#[test]
fn what_stands_only_in_the_log_beside_the_database_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = database(folder.path(), 1, 300) else { return };
    // As long as somebody has it open the log is not folded into the file.
    let Ok(mut open) =
        Command::new("sqlite3").arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        return left_out("sqlite3");
    };
    let mut stdin = open.stdin.take().unwrap();
    let script = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;\n\
        INSERT INTO Packages(blob) SELECT blob FROM Packages;\nSELECT 'done';\n";
    stdin.write_all(script.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut output = std::io::BufReader::new(open.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "done" {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut output, &mut line).unwrap(), 0);
    }

    let found = packages(&path);

    drop(stdin);
    open.wait().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_damaged_sqlite_file_is_an_error_or_fewer_packages_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = database(folder.path(), 1, 300) else { return };
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(307) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        let Ok(mut rpm) = Rpm::open(&path) else { continue };
        let mut rows = 0;
        while let Ok(Some(_)) = rpm.next() {
            rows += 1;
            assert!(rows < 100_000);
        }
    }
}

#[test]
fn a_hash_file_that_berkeley_db_wrote_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let Some(sqlite) = database(folder.path(), 2, 300) else { return };
    let mut headers = Sqlite::open(&sqlite).unwrap();
    let mut dump =
        String::from("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n");
    let mut number = 0_u32;
    dump += " 00000000\n 02000000\n";
    while let Some(header) = headers.next().unwrap() {
        number += 1;
        dump +=
            &format!(" {}\n {}\n", hex::encode(number.to_le_bytes()), hex::encode(header.unwrap()));
    }
    dump += "DATA=END\n";
    let path = folder.path().join("Packages");
    let load = Command::new("db5.3_load").arg(&path).stdin(Stdio::piped()).spawn();
    let Ok(mut load) = load else {
        left_out("db5.3-util");
        return;
    };
    load.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success());

    let mut found = packages(&path);

    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, packages(&sqlite));
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(307) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        let Ok(mut rpm) = Rpm::open(&path) else { continue };
        while let Ok(Some(_)) = rpm.next() {}
    }
}

/// Made by rpm 4.18's own lib/backend/ndb/rpmpkg.c, for Debian's rpm is built without it: a package was
/// put in and taken out again before these two.
const NDB: &str = "tests/fixtures/Packages.db";

#[test]
fn an_ndb_file_that_rpm_wrote_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(NDB);

    let found = packages(&path);

    let told = |found: &Found| format!("{} {}", found.key.name, found.package.version);
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        ["sinter-tiny 2:1.4-3", "sinter-small 0.9-3"]
    );
    assert_eq!(found[0].files.len(), 2);
    assert!(
        found[0]
            .files
            .iter()
            .all(|(path, digest)| path.starts_with("/etc/tiny/") && digest.is_some())
    );
}

#[test]
fn damaged_hash_and_ndb_files_are_errors_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(NDB)).unwrap();
    let path = folder.path().join("Packages.db");
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
        let Ok(mut rpm) = Rpm::open(&path) else { continue };
        while let Ok(Some(_)) = rpm.next() {}
    }
    std::fs::write(folder.path().join("Packages"), &whole).unwrap();
    let error = Rpm::open(&folder.path().join("Packages")).unwrap_err();
    assert_eq!(error.to_string(), "it is no Berkeley DB hash file");
}
