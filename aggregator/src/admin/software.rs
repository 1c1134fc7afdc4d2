//! A page of the software of one machine: first its packages, then its files.

use common::{
    sample::{ConfigurationFile, Package, PackageKey},
    wire::admin::v1,
};
use tonic::Status;

use super::{page, show::moment};
use crate::repository::StoredSoftware;

const LIST: &str = "software";
const USUAL_PAGE: usize = 500;
/// A page with contents has fewer rows: each may have 64 KiB, and a message has 4 MiB.
const PAGE_WITH_CONTENT: usize = 50;

enum Row {
    Package(PackageKey, Package),
    File(String, ConfigurationFile),
}

impl Row {
    /// In the order of the tables: packages by manager, name and instruction set, then files.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Package(PackageKey { manager, name, architecture }, _) => {
                format!("p{}\0{name}\0{architecture}", *manager as u8).into_bytes()
            }
            Self::File(path, _) => format!("q{path}").into_bytes(),
        }
    }
}

/// The page that was asked for.
pub(super) fn page(
    known: StoredSoftware,
    request: &v1::GetSoftwareRequest,
) -> Result<v1::GetSoftwareResponse, Status> {
    let from = page::key(LIST, &request.page_token)?;
    let most = if request.with_content { PAGE_WITH_CONTENT } else { usize::MAX };
    let size = page::size(request.page_size, USUAL_PAGE).min(most);
    let packages = known.software.packages.into_iter();
    let files = known.software.files.into_iter();
    let rows = packages
        .map(|(key, package)| Row::Package(key, package))
        .chain(files.map(|(path, file)| Row::File(path, file)));
    let (rows, next_page_token) = page::cut(rows.collect(), (LIST, from), size, Row::key);
    let mut answer = v1::GetSoftwareResponse {
        received_at_unix_ms: moment(known.received_at),
        complete: known.complete,
        next_page_token,
        ..v1::GetSoftwareResponse::default()
    };
    for row in rows {
        match row {
            Row::Package(key, package) => answer.packages.push((&key, &package).into()),
            Row::File(path, mut file) => {
                file.content = file.content.filter(|_| request.with_content);
                answer.files.push((&path, &file).into());
            }
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use common::{clock::Timestamp, sample::PackageManager};

    use super::*;

    fn known() -> StoredSoftware {
        let package = |name: &str| {
            let key = PackageKey {
                manager: PackageManager::Dpkg,
                name: name.into(),
                architecture: "amd64".into(),
            };
            (key, Package { version: "1".into(), ..Package::default() })
        };
        let content = Some("secret = none\n".to_owned());
        let file = ConfigurationFile { content, ..ConfigurationFile::default() };
        let mut known = StoredSoftware {
            received_at: Timestamp::from_millis(7),
            complete: true,
            ..StoredSoftware::default()
        };
        known.software.packages = ["a", "a-b", "b"].map(package).into();
        known.software.files = [("/etc/a".to_owned(), file)].into();
        known
    }

    #[test]
    fn pages_lead_through_packages_and_files_in_order() {
        let mut request = v1::GetSoftwareRequest { page_size: 2, ..Default::default() };
        let first = page(known(), &request).unwrap();
        request.page_token.clone_from(&first.next_page_token);
        let second = page(known(), &request).unwrap();
        let names: Vec<_> = [&first, &second]
            .into_iter()
            .flat_map(|page| &page.packages)
            .map(|package| package.key.as_ref().unwrap().name.as_str())
            .collect();
        assert_eq!(names, ["a", "a-b", "b"]);
        assert_eq!((second.files.len(), second.next_page_token.as_str()), (1, ""));
        assert_eq!((second.received_at_unix_ms, second.complete), (7, true));
    }

    #[test]
    fn contents_are_told_only_if_they_are_asked_for() {
        let plain = page(known(), &v1::GetSoftwareRequest::default()).unwrap();
        assert_eq!(plain.files[0].content, None);
        let request = v1::GetSoftwareRequest { with_content: true, ..Default::default() };
        assert!(page(known(), &request).unwrap().files[0].content.is_some());
    }
}
