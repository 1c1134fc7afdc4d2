//! The records of a store that no aggregator works on, as typed tables in a folder.

use std::path::Path;

use thiserror::Error;

use crate::{
    repository::{Repository, RepositoryError, StoreError},
    tables::{Counts, Format, TableError, Writer},
};

/// Why records were not exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// An aggregator works on the store.
    #[error(
        "records were not exported; an aggregator that runs gives them itself: sinterctl records export"
    )]
    Running(#[source] StoreError),
    /// There is no store, and none is made for being read.
    #[error("there is no store in {0}; name the folder of the aggregator's configuration")]
    NoStore(String),
    /// The store cannot be worked with.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The tables cannot be written.
    #[error(transparent)]
    Tables(#[from] TableError),
}

impl From<StoreError> for ExportError {
    fn from(cause: StoreError) -> Self {
        match cause {
            StoreError::Held { .. } => Self::Running(cause),
            cause => Self::Repository(cause.into()),
        }
    }
}

/// Writes the windows of an aggregator's folder, all or the newest `last`, oldest first, to tables in
/// `out`. One window is in memory at a time.
///
/// # Errors
///
/// If an aggregator works on the store, it cannot be read, or a table is there already.
pub async fn export(
    folder: &Path,
    out: &Path,
    format: Format,
    last: Option<usize>,
) -> Result<Counts, ExportError> {
    let store = folder.join("store");
    if !store.is_dir() {
        return Err(ExportError::NoStore(folder.display().to_string()));
    }
    let repository = Repository::open(&store)?;
    let windows = repository.windows_after(None).await?;
    let before = last.map_or(0, |last| windows.len().saturating_sub(last));
    let mut writer = Writer::create(out, format)?;
    for id in &windows[before..] {
        // One of a time when windows were not kept as they were joined has no rows to tell.
        if let Some(joined) = repository.joined(id).await? {
            writer.take(&joined)?;
        }
    }
    Ok(writer.close()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        inference::Findings,
        join::{Joined, Record, tests::fleet::demonstration},
        plan::Planned,
        repository::{WindowCommit, WindowRow},
        tables::{Limits, Reader},
    };

    fn commit(joined: &Joined) -> WindowCommit<Record> {
        let records = joined.records.clone();
        let window = WindowRow {
            id: joined.window.clone(),
            opened_at: joined.from,
            closed_at: joined.to,
            samples: 0,
            late: 0,
            missing: None,
            records: records.len() as u64,
            coverage: std::collections::BTreeMap::new(),
        };
        let joined = Some(Arc::new(Joined { records: Vec::new(), ..joined.clone() }));
        let (findings, planned) = (Findings::default(), Planned::default());
        WindowCommit { window, records, joined, findings, planned, checkpoints: Vec::new() }
    }

    fn read(folder: &Path) -> Vec<Joined> {
        let mut reader = Reader::open(folder, Limits::default()).unwrap();
        std::iter::from_fn(|| reader.next_window().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_a_stopped_aggregator_left_is_read_and_a_running_ones_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("sinter");
        let out = |name: &str| place.path().join(name);
        let none = export(&folder, &out("none"), Format::Csv, None).await.unwrap_err();
        assert!(none.to_string().contains("there is no store"), "{none}");

        let windows = demonstration().joined(4);
        let running = Repository::open(&folder.join("store")).unwrap();
        for joined in &windows {
            running.commit_window(&commit(joined)).await.unwrap();
        }
        let held = export(&folder, &out("held"), Format::Csv, None).await.unwrap_err();
        assert!(held.to_string().contains("sinterctl records export"), "{held}");
        drop(running);

        for (name, format) in [("csv", Format::Csv), ("parquet", Format::Parquet)] {
            let counts = export(&folder, &out(name), format, None).await.unwrap();
            assert!(counts.values().sum::<u64>() > 0);
            assert_eq!(read(&out(name)).len(), windows.len(), "{name}");
        }
        export(&folder, &out("last"), Format::Csv, Some(1)).await.unwrap();
        let last = read(&out("last"));
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].window, windows[3].window);
        let again = export(&folder, &out("last"), Format::Csv, None).await;
        assert!(again.is_err(), "nothing is written over");
    }
}
