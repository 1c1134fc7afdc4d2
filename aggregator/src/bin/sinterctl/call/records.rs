//! `records export`: windows as typed tables in a folder.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use aggregator::tables::{self, Format, Limits, Reader, Table, TableError};
use common::wire::admin::v1::{self, finding_service_client::FindingServiceClient};
use tonic::{Streaming, transport::Channel};

use crate::{
    arguments::{ExportRecords, TableFormat},
    failure::Failure,
    print::{Printer, safe},
};

/// Writes the windows asked for into the folder.
pub(super) async fn export(
    channel: Channel,
    printer: &Printer,
    export: &ExportRecords,
) -> Result<(), Failure> {
    let request = v1::ExportWindowsRequest {
        from_unix_ms: export.from.map_or(0, |at| at.as_millisecond()),
        to_unix_ms: export.to.map_or(0, |at| at.as_millisecond()),
        last: export.last.unwrap_or(0),
    };
    let mut client = FindingServiceClient::new(channel);
    let rows = client.export_windows(request).await?.into_inner();
    let folder = export.folder.as_path();
    let make = |path: &Path, cause| Failure::Write { path: path.to_owned(), cause };
    fs::create_dir_all(folder).map_err(|cause| make(folder, cause))?;
    let counts = match export.format {
        TableFormat::Csv => {
            receive(rows, folder).await?;
            counted(folder)?
        }
        TableFormat::Parquet => {
            // Beside what is made of them, so that there is room for both or for neither.
            let lines = tempfile::tempdir_in(folder).map_err(|cause| make(folder, cause))?;
            receive(rows, lines.path()).await?;
            converted(lines.path(), folder)?
        }
    };
    let told = counts.iter().map(|(table, count)| format!("{count} {table}"));
    let told: Vec<String> = told.collect();
    printer.line(&format!("{} written to {}", told.join(", "), safe(&folder.to_string_lossy())))?;
    Ok(())
}

/// Appends what comes to the files of its tables.
async fn receive(
    mut rows: Streaming<v1::ExportWindowsResponse>,
    folder: &Path,
) -> Result<(), Failure> {
    let mut files: BTreeMap<Table, (PathBuf, BufWriter<File>)> = BTreeMap::new();
    for table in Table::ALL {
        let path = folder.join(format!("{table}.csv"));
        let file = File::create_new(&path)
            .map_err(|cause| Failure::Write { path: path.clone(), cause })?;
        files.insert(table, (path, BufWriter::new(file)));
    }
    while let Some(message) = rows.message().await? {
        let file = Table::named(&message.table).and_then(|table| files.get_mut(&table));
        let Some((path, file)) = file else {
            let what = format!(
                "the aggregator sent the table {}, which this version does not know; \
                update sinterctl",
                safe(&message.table)
            );
            return Err(tonic::Status::internal(what).into());
        };
        file.write_all(message.lines.as_bytes())
            .map_err(|cause| Failure::Write { path: path.clone(), cause })?;
    }
    for (path, mut file) in files.into_values() {
        let done: io::Result<()> = file.flush();
        done.map_err(|cause| Failure::Write { path, cause })?;
    }
    Ok(())
}

/// Reads back what was written: it is counted, and known to be readable.
fn counted(folder: &Path) -> Result<tables::Counts, TableError> {
    let mut reader = Reader::open(folder, Limits::default())?;
    while reader.next_window()?.is_some() {}
    Ok(reader.close().0)
}

fn converted(lines: &Path, folder: &Path) -> Result<tables::Counts, TableError> {
    let mut reader = Reader::open(lines, Limits::default())?;
    let mut writer = tables::Writer::create(folder, Format::Parquet)?;
    while let Some(joined) = reader.next_window()? {
        writer.take(&joined)?;
    }
    writer.close()
}
