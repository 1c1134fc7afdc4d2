//! Against the databases of this very machine, and against ones made for the purpose.

use std::{fs, path::Path, process::Command};

use common::sample::{ConfigurationFile, PackageManager};

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// Looks until the pass that begins at `now` is through.
fn pass(reader: &mut SoftwareReader, now: Timestamp) -> Arc<Software> {
    for _ in 0..10_000 {
        let known = reader.look(now);
        if let (Some(known), Stage::Waiting) = (known, &reader.stage) {
            return known;
        }
    }
    panic!("no pass was through");
}

fn reader(root: &Path, scope: Scope) -> SoftwareReader {
    SoftwareReader::new(scope, root.to_owned())
}

fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// MD5 of "a\n" and of nothing that is here.
const OF_A: &str = "60b725f10c9c85c70d97880dfe8191b3";
const OF_OTHER: &str = "0cc175b9c0f1b6a831c399e269772661";

fn status(files: &[(&str, &str)]) -> String {
    let files = files.iter().map(|(path, digest)| format!(" {path} {digest}\n"));
    let files = files.collect::<String>();
    format!(
        "Package: app\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nConffiles:\n{files}"
    )
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that was left out says so loudly")]
fn the_packages_are_those_that_dpkg_query_lists() {
    let format = "${db:Status-Abbrev}\t${Package}\t${Architecture}\t${Version}\n";
    let listed = Command::new("dpkg-query").args(["-W", "-f", format]).output();
    let Ok(listed) = listed else {
        eprintln!("LEFT OUT: dpkg-query is not here to compare with");
        assert!(std::env::var_os("SINTER_REQUIRE_ALL").is_none(), "dpkg-query is not here");
        return;
    };
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut listed: Vec<String> = listed
        .lines()
        .filter(|line| line[1..].starts_with("i "))
        .map(|line| line.split_once('\t').unwrap().1.to_owned())
        .collect();
    listed.sort();

    let known = pass(&mut reader(Path::new("/"), Scope::default()), at(1));

    let packages = known.packages.iter().filter(|(key, _)| key.manager == PackageManager::Dpkg);
    let mut told: Vec<String> = packages
        .map(|(key, package)| format!("{}\t{}\t{}", key.name, key.architecture, package.version))
        .collect();
    told.sort();
    assert!(listed.len() > 50);
    assert_eq!(told, listed);
    assert!(known.packages.values().all(|package| package.installed_at.is_some()));
    let passwd = &known.files["/etc/login.defs"];
    assert_eq!((passwd.user, passwd.mode, passwd.content.as_ref()), (0, 0o644, None));
    assert!(passwd.hash.is_some() && passwd.package.is_some());
}

#[test]
fn nothing_is_known_until_the_first_pass_is_through_and_then_all_of_it() {
    let paragraphs: Vec<String> = (0..9000)
        .map(|n| format!("Package: p{n}\nStatus: install ok installed\nArchitecture: all\nVersion: {n}\nDepends: {}\n", "d".repeat(60)))
        .collect();
    let root = root_with(&[("var/lib/dpkg/status", &paragraphs.join("\n"))]);
    let mut reader = reader(root.path(), Scope::default());

    let mut looks = 1;
    while reader.look(at(1)).is_none() {
        looks += 1;
    }

    assert!(looks > 3, "{looks}");
    assert_eq!(reader.look(at(1)).unwrap().packages.len(), 9000);
    assert!(reader.remarks()["packages_source"].starts_with("dpkg"));
}

#[test]
fn a_configuration_file_is_told_with_its_owner_and_whether_it_was_edited() {
    let root = root_with(&[
        (
            "var/lib/dpkg/status",
            &status(&[("/etc/a", OF_A), ("/etc/b", OF_OTHER), ("/etc/gone", OF_A)]),
        ),
        ("etc/a", "a\n"),
        ("etc/b", "edited\n"),
    ]);
    let mut reader = reader(root.path(), Scope::default());

    let files = pass(&mut reader, at(1)).files.clone();

    let of =
        |file: &ConfigurationFile| (file.package.clone().unwrap(), file.unchanged, file.size.0);
    assert_eq!(of(&files["/etc/a"]), ("app".to_owned(), Some(true), 2));
    assert_eq!(of(&files["/etc/b"]), ("app".to_owned(), Some(false), 7));
    assert_eq!(files.len(), 2);
    assert!(files.values().all(|file| file.content.is_none()));
}

#[test]
fn content_is_told_of_listed_text_only() {
    let root = root_with(&[
        ("etc/app/listed", "key = 1\n"),
        ("etc/app/secret", "password = x\n"),
        ("etc/app/large", &"x".repeat(70_000)),
    ]);
    fs::write(root.path().join("etc/app/binary"), [0xff, 0xfe]).unwrap();
    let paths = ["/etc/app/listed", "/etc/app/large", "/etc/app/binary"];
    let scope = Scope {
        files: [String::from("/etc/app")].into(),
        content: paths.map(str::to_owned).into(),
        ..Scope::default()
    };

    let files = pass(&mut reader(root.path(), scope), at(1)).files.clone();

    let told: Vec<&str> = files
        .iter()
        .filter(|(_, file)| file.content.is_some())
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(told, ["/etc/app/listed"]);
    assert_eq!(files.len(), 4);
    assert!(files.values().all(|file| file.hash.is_some()));
}

#[test]
fn no_list_is_longer_and_no_contents_are_larger_than_the_agent_can_carry() {
    let text = "x".repeat(60_000);
    let contents: Vec<String> = (0..20).map(|n| format!("/etc/big/{n:02}")).collect();
    let root = tempfile::tempdir().unwrap();
    for folder in 0..5 {
        let folder = root.path().join(format!("etc/many-{folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..1000 {
            fs::write(folder.join(file.to_string()), "").unwrap();
        }
    }
    fs::create_dir_all(root.path().join("etc/big")).unwrap();
    for path in &contents {
        fs::write(root.path().join(&path[1..]), &text).unwrap();
    }
    let files = (0..5).map(|folder| format!("/etc/many-{folder}")).collect();
    let scope = Scope { files, content: contents.into_iter().collect(), ..Scope::default() };
    let mut reader = reader(root.path(), scope);

    let files = pass(&mut reader, at(1)).files.clone();

    assert_eq!(files.len(), MOST_FILES);
    assert_eq!(files.values().filter(|file| file.content.is_some()).count(), (1 << 20) / 60_000);
    pass(&mut reader, at(70));
    let remarks = reader.remarks();
    assert!(remarks["configuration_files_left_out"].contains("3 without content"), "{remarks:?}");
    assert_eq!(remarks["configuration_files_beyond_limit"], "924 beyond 4096");
}

#[test]
fn pipes_links_and_too_large_files_cost_themselves_only() {
    let list = [
        ("/etc/pipe", OF_A),
        ("/etc/link", OF_A),
        ("/etc/way/a", OF_A),
        ("/etc/big", OF_A),
        ("/etc/a", OF_A),
    ];
    let root = root_with(&[
        ("var/lib/dpkg/status", &status(&list)),
        ("etc/a", "a\n"),
        ("etc/real/a", "a\n"),
        ("etc/big", &"x".repeat(2000)),
    ]);
    let etc = root.path().join("etc");
    nix::unistd::mkfifo(&etc.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("a", etc.join("link")).unwrap();
    std::os::unix::fs::symlink("real", etc.join("way")).unwrap();
    let mut reader =
        reader(root.path(), Scope { largest: common::units::Bytes(1000), ..Scope::default() });

    let files = pass(&mut reader, at(1)).files.clone();

    assert_eq!(files.keys().collect::<Vec<_>>(), ["/etc/a", "/etc/big"]);
    assert_eq!((files["/etc/big"].hash, files["/etc/big"].unchanged), (None, None));
    let remark = &reader.remarks()["configuration_files_left_out"];
    assert_eq!(remark, "2 at or below a symbolic link, 1 no regular file");
}

#[test]
fn what_did_not_change_is_not_read_again_and_what_did_is() {
    let root =
        root_with(&[("var/lib/dpkg/status", &status(&[("/etc/a", OF_A)])), ("etc/a", "a\n")]);
    let mut reader = reader(root.path(), Scope::default());
    let first = pass(&mut reader, at(1));

    let soon = pass(&mut reader, at(30));
    let same = pass(&mut reader, at(70));
    fs::write(root.path().join("etc/a"), "b\n").unwrap();
    let edited = pass(&mut reader, at(140));

    assert!(Arc::ptr_eq(&first, &soon) && Arc::ptr_eq(&first, &same));
    assert_eq!(edited.files["/etc/a"].unchanged, Some(false));
    assert_ne!(edited.files["/etc/a"].hash, first.files["/etc/a"].hash);
    assert_eq!(edited.packages, first.packages);
}

#[test]
fn a_package_that_goes_takes_its_files_along() {
    let root =
        root_with(&[("var/lib/dpkg/status", &status(&[("/etc/a", OF_A)])), ("etc/a", "a\n")]);
    let mut reader = reader(root.path(), Scope::default());
    pass(&mut reader, at(1));

    fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
    let after = pass(&mut reader, at(70));

    assert_eq!((after.packages.len(), after.files.len()), (0, 0));
}

#[test]
fn a_database_that_is_no_database_is_named_with_the_reason() {
    let root =
        root_with(&[("var/lib/rpm/Packages.db", "RpmP"), ("var/lib/dpkg/status", &status(&[]))]);
    let mut reader = reader(root.path(), Scope::default());

    let known = pass(&mut reader, at(1));

    assert_eq!(known.packages.len(), 1);
    let remark = reader.remarks()["packages_not_read"].clone();
    assert!(remark.contains("Packages.db"), "{remark}");
}

#[test]
fn an_agent_that_may_not_read_software_says_so_and_knows_nothing() {
    let mut reader = reader(Path::new("/"), Scope { packages: false, ..Scope::default() });
    assert!(reader.look(at(1)).is_none());
    assert!(reader.remarks()["packages_source"].contains("packages = false"));
}
