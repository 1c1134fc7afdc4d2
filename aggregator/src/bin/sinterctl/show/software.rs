//! What is installed in one machine and how it is configured.

use common::wire::{
    admin::v1::GetSoftwareResponse,
    types::v1::{ConfigurationFile, Package, PackageManager},
};

use super::{bytes, guest::word, moment};
use crate::print::{Printer, safe, table};

pub(crate) fn software(printer: &Printer, answer: &GetSoftwareResponse) -> String {
    if answer.received_at_unix_ms == 0 {
        return "its agent has not told".to_owned();
    }
    let at = moment(answer.received_at_unix_ms);
    let mut text = format!("as of {at}");
    text += if answer.complete { "\n" } else { "; not all of it is known yet\n" };
    if !answer.packages.is_empty() {
        text += &format!("\n{}\n{}", printer.heading("packages"), packages(&answer.packages));
    }
    if !answer.files.is_empty() {
        text += &format!("\n{}\n{}", printer.heading("files"), files(&answer.files));
    }
    for file in &answer.files {
        if let Some(content) = &file.content {
            let lines: String = content.lines().map(|line| format!("  {}\n", safe(line))).collect();
            text += &format!("\n{}\n{lines}", printer.heading(&file.path));
        }
    }
    text
}

fn packages(packages: &[Package]) -> String {
    table(
        ["package", "version", "instruction set", "manager", "installed"],
        packages.iter().map(|package| {
            let key = package.key.clone().unwrap_or_default();
            let manager = PackageManager::try_from(key.manager).unwrap_or_default();
            [
                safe(&key.name),
                versions(package),
                safe(&key.architecture),
                word(manager.as_str_name(), "PACKAGE_MANAGER_"),
                moment(package.installed_at_unix_ms.unwrap_or_default()),
            ]
        }),
    )
}

/// The newest first.
fn versions(package: &Package) -> String {
    let further = package.further.iter().map(|further| safe(&further.version));
    [safe(&package.version)].into_iter().chain(further).collect::<Vec<_>>().join(", ")
}

fn files(files: &[ConfigurationFile]) -> String {
    table(
        ["file", "size", "changed", "mode", "as brought", "package", "sha-256"],
        files.iter().map(|file| {
            let unchanged = match file.unchanged {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            };
            let hash: String = file.hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            [
                safe(&file.path),
                bytes(Some(file.size_bytes)),
                moment(file.modified_at_unix_ms),
                format!("{:04o}", file.mode),
                unchanged.to_owned(),
                if file.package.is_empty() { "-".to_owned() } else { safe(&file.package) },
                if hash.is_empty() { "-".to_owned() } else { hash },
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_told_is_said_so() {
        let printer = Printer::plain();
        assert!(software(&printer, &GetSoftwareResponse::default()).contains("not told"));
    }

    #[test]
    fn a_file_shows_whether_it_is_as_its_package_brought_it() {
        let file = ConfigurationFile {
            path: "/etc/web.conf".into(),
            mode: 0o640,
            hash: vec![0xab; 32],
            unchanged: Some(false),
            content: Some("a = 1\n\u{1b}[2J".into()),
            ..ConfigurationFile::default()
        };
        let answer = GetSoftwareResponse {
            received_at_unix_ms: 1,
            files: vec![file],
            ..GetSoftwareResponse::default()
        };
        let text = software(&Printer::plain(), &answer);
        for part in ["not all of it", "0640", "abababababab", "  a = 1\n", "\u{fffd}[2J"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
