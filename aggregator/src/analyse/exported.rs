//! Tables as `sinterctl records export` writes them: windows of a fleet of ours, joined.
//!
//! They hold what was seen, not what the hypervisor listed or the operator said. So hosts are taken to
//! be as large as what is given on them, and every application that the catalogue listed to be one
//! that may move; both are told.

use std::path::Path;

use super::{
    Recording,
    read::{AnalyseError, BadLine, Format},
};
use crate::{
    catalogue::{Application, Catalogue, Class},
    hypervisor::Inventory,
    join::Joined,
    past::listed,
    tables::{Limits, Reader, Table},
};

/// Whether the folder holds such tables.
pub(super) fn looks(path: &Path) -> bool {
    let windows = Table::Windows.name();
    ["csv", "parquet"].iter().any(|end| path.join(format!("{windows}.{end}")).is_file())
}

pub(super) fn read(path: &Path, take: &mut dyn FnMut(Joined)) -> Result<Recording, AnalyseError> {
    let mut reader = Reader::open(path, Limits { keep_good: true, ..Limits::default() })?;
    let (mut inventory, mut catalogue) = (Inventory::default(), Catalogue::default());
    while let Some(window) = reader.next_window()? {
        inventory = listed(&window);
        note_applications(&window, &mut catalogue);
        take(window);
    }
    let (_, bad, bad_lines) = reader.close();
    let bad = bad.into_iter().map(|bad| BadLine {
        file: bad.file.display().to_string(),
        line: bad.line,
        why: bad.what,
    });
    Ok(Recording {
        format: Format::Exported,
        inventory,
        catalogue,
        assumed: vec![
            "each host is as large as what its machines are given".to_owned(),
            "each application that the catalogue listed may move, if it keeps no data".to_owned(),
        ],
        bad: bad.collect(),
        bad_lines,
    })
}

fn note_applications(window: &Joined, catalogue: &mut Catalogue) {
    let used = window.machines.values().flat_map(|machine| &machine.applications);
    for (name, used) in used.filter(|(_, used)| used.listed) {
        let known = catalogue.0.entry(name.clone()).or_insert_with(|| Application {
            movable: true,
            class: Class::Batch,
            ..Application::default()
        });
        if !used.listens.is_empty() {
            known.class = Class::Custom;
        }
        // What writes to storage may find its data where it was and nowhere else.
        known.keeps_data |= used.written_per_second.is_some_and(|rate| rate > 0.0);
    }
}
