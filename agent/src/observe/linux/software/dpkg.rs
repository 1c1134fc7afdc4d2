//! dpkg's database: one text of paragraphs, read as a stream.
//!
//! The file stays open between two slices: dpkg replaces it as a whole, so what is read stays one state. No
//! line is longer in memory than [`LONGEST_LINE`]; what is beyond that is passed over.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use common::{
    clock::Timestamp,
    sample::{Package, PackageKey, PackageManager},
};

use super::found::{DatabaseError, Digest, Found};

/// The database below the root.
pub(super) const STATUS: &str = "var/lib/dpkg/status";
/// One list of files per package, whose time is that of the installation.
const LISTS: &str = "var/lib/dpkg/info";

/// Longest line taken; those that matter are far shorter.
const LONGEST_LINE: u64 = 4096;

/// Reads one package after another.
#[derive(Debug)]
pub(super) struct Dpkg {
    lists: PathBuf,
    text: BufReader<File>,
    line: Vec<u8>,
}

/// What a paragraph said so far.
#[derive(Debug, Default)]
struct Paragraph {
    name: String,
    version: String,
    architecture: String,
    is_installed: bool,
    is_listing_files: bool,
    files: Vec<(String, Option<Digest>)>,
}

impl Dpkg {
    /// Opens the database below `root`.
    ///
    /// # Errors
    ///
    /// If it may not be read, or is not there.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let text = BufReader::new(File::open(root.join(STATUS))?);
        Ok(Self { lists: root.join(LISTS), text, line: Vec::new() })
    }

    /// The next installed package and how many bytes it took to find it; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(super) fn next(&mut self) -> Result<Option<(Found, usize)>, DatabaseError> {
        let mut taken = 0;
        loop {
            let (paragraph, bytes) = self.paragraph()?;
            taken += bytes;
            if bytes == 0 {
                return Ok(None);
            }
            if let Some(found) = paragraph.found() {
                return Ok(Some((self.with_time(found), taken)));
            }
        }
    }

    fn paragraph(&mut self) -> io::Result<(Paragraph, usize)> {
        let (mut paragraph, mut taken) = (Paragraph::default(), 0);
        loop {
            let bytes = self.next_line()?;
            taken += bytes;
            if bytes == 0 || self.line == b"\n" {
                return Ok((paragraph, taken));
            }
            if let Ok(line) = std::str::from_utf8(&self.line) {
                paragraph.take(line.trim_end());
            }
        }
    }

    /// Reads a line, as far as it is kept; gives all of its length.
    fn next_line(&mut self) -> io::Result<usize> {
        self.line.clear();
        let mut taken = self.text.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.line)?;
        while taken > 0 && self.line.last() != Some(&b'\n') {
            let rest = self.text.fill_buf()?;
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                let length = rest.len();
                if length == 0 {
                    break;
                }
                self.text.consume(length);
                taken += length;
                continue;
            };
            self.text.consume(end + 1);
            taken += end + 1;
            break;
        }
        Ok(taken)
    }

    fn with_time(&self, mut found: Found) -> Found {
        let PackageKey { name, architecture, .. } = &found.key;
        let lists = [format!("{name}.list"), format!("{name}:{architecture}.list")];
        let modified = lists.iter().find_map(|list| fs::metadata(self.lists.join(list)).ok());
        found.package.installed_at = modified.and_then(|list| {
            let since = list.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(Timestamp::from_millis(u64::try_from(since.as_millis()).ok()?))
        });
        found
    }
}

impl Paragraph {
    fn take(&mut self, line: &str) {
        if let Some(file) = line.strip_prefix(' ') {
            if self.is_listing_files {
                self.files.extend(configuration_file(file));
            }
            return;
        }
        let Some((field, value)) = line.split_once(':') else { return };
        let value = value.trim();
        self.is_listing_files = field == "Conffiles";
        match field {
            "Package" => value.clone_into(&mut self.name),
            "Version" => value.clone_into(&mut self.version),
            "Architecture" => value.clone_into(&mut self.architecture),
            "Status" => self.is_installed = value == "install ok installed" || is_held(value),
            _ => {}
        }
    }

    fn found(self) -> Option<Found> {
        // The names go into a path: dpkg allows no such sign in them, and we must not either.
        let is_name = |text: &str| !text.is_empty() && !text.contains('/');
        let is_whole = is_name(&self.name) && is_name(&self.architecture);
        if !self.is_installed || !is_whole || self.version.is_empty() {
            return None;
        }
        let manager = PackageManager::Dpkg;
        let key = PackageKey { manager, name: self.name, architecture: self.architecture };
        let package = Package { version: self.version, ..Package::default() };
        Some(Found { key, package, files: self.files })
    }
}

/// A package that the operator holds at its version is as installed as any other.
fn is_held(status: &str) -> bool {
    status == "hold ok installed"
}

/// A line of the list: path, digest, and perhaps that it is obsolete.
fn configuration_file(line: &str) -> Option<(String, Option<Digest>)> {
    let mut words = line.rsplitn(2, ' ');
    let (mut last, mut path) = (words.next()?, words.next()?);
    while ["obsolete", "remove-on-upgrade"].contains(&last) {
        (path, last) = path.rsplit_once(' ')?;
    }
    Some((path.to_owned(), Digest::md5(last.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(status: &str) -> Vec<Found> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(STATUS);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, status).unwrap();
        let mut dpkg = Dpkg::open(root.path()).unwrap();
        std::iter::from_fn(|| dpkg.next().unwrap().map(|(found, _)| found)).collect()
    }

    fn paragraph(name: &str, status: &str) -> String {
        format!("Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: 1:2.0-1\n")
    }

    #[test]
    fn only_what_is_installed_is_told() {
        let text = [
            paragraph("here", "install ok installed"),
            paragraph("gone", "deinstall ok config-files"),
            paragraph("half", "install ok half-installed"),
            paragraph("held", "hold ok installed"),
        ];
        let found = packages(&text.join("\n"));
        let names: Vec<&str> = found.iter().map(|found| found.key.name.as_str()).collect();
        assert_eq!(names, ["here", "held"]);
        assert_eq!(found[0].package.version, "1:2.0-1");
    }

    #[test]
    fn configuration_files_come_with_their_digest() {
        let digest = "0cc175b9c0f1b6a831c399e269772661";
        let list = format!(
            "Conffiles:\n /etc/a b.conf {digest}\n /etc/old {digest} obsolete\n /etc/new newconffile\n"
        );
        let text =
            paragraph("here", "install ok installed") + &list + "Description: no file\n /not one\n";

        let files = packages(&text).remove(0).files;

        let digest = Digest::md5(digest.as_bytes());
        let wanted = [("/etc/a b.conf", digest), ("/etc/old", digest), ("/etc/new", None)];
        assert_eq!(files, wanted.map(|(path, digest)| (path.to_owned(), digest)));
    }

    #[test]
    fn an_endless_line_is_passed_over_and_the_rest_is_read() {
        let text = paragraph("here", "install ok installed")
            + "Depends: "
            + &"x".repeat(100_000)
            + "\nConffiles:\n /etc/a 0cc175b9c0f1b6a831c399e269772661\n\n"
            + &paragraph("next", "install ok installed");
        let found = packages(&text);
        assert_eq!((found.len(), found[0].files.len()), (2, 1));
    }

    #[test]
    fn a_name_that_is_a_path_is_no_package() {
        assert!(packages(&paragraph("../../etc/x", "install ok installed")).is_empty());
    }
}
